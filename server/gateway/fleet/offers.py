"""Sessions that nobody holds, as workers say, and that this gateway may not claim: their owner lives, and may
only have lost that worker. Once it goes on with them elsewhere, the worker is told to drop its copies, since
they are out of the owner's reach."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

from server.gateway.fleet.supervisor import Supervisor
from server.worker.epochs import CLOSED
from server.worker.messages.holding import EndCopy, Fenced, Orphaned

MOST = 4096  # sessions; beyond, the oldest are forgotten

Offer = tuple[Supervisor, Orphaned]


class Offers:
    """Of the sessions of other gateways."""

    def __init__(self) -> None:
        self._waiting: OrderedDict[str, dict[str, Offer]] = OrderedDict()  # session → worker → its offer
        self._held: OrderedDict[str, tuple[int, Supervisor]] = OrderedDict()  # epoch and worker, as told last

    def __contains__(self, session: str) -> bool:
        return session in self._waiting

    def defer(self, worker: Supervisor, event: Orphaned) -> None:
        """It is not claimed now."""
        self._waiting.setdefault(event.session, {})[worker.name] = worker, event
        _forget_oldest(self._waiting)
        if (held := self._held.get(event.session)) is not None:
            self._drop_older(event.session, *held)

    def take(self) -> list[Offer]:
        """All of them, to be looked at again."""
        waiting, self._waiting = self._waiting, OrderedDict()
        return [offer for offers in waiting.values() for offer in offers.values()]

    def held(self, worker: Supervisor, event: Fenced) -> None:
        """Another gateway holds it in this worker."""
        self._waiting.get(event.session, {}).pop(worker.name, None)  # it is back
        if self._held.get(event.session, (0, worker))[0] <= event.epoch < CLOSED:
            self._held[event.session] = event.epoch, worker
            self._held.move_to_end(event.session)
            _forget_oldest(self._held)
        self._drop_older(event.session, event.epoch, worker)

    def worker_lost(self, worker: Supervisor) -> None:
        """What it runs may be lost, too, so older copies may be needed."""
        for session in [name for name, (_, holder) in self._held.items() if holder is worker]:
            del self._held[session]

    def _drop_older(self, session: str, epoch: int, holder: Supervisor) -> None:
        offers = self._waiting.get(session, {})
        for worker, offer in list(offers.values()):
            if worker is not holder and offer.epoch < epoch:
                del offers[worker.name]
                worker.try_send(EndCopy(session, epoch))
        if not offers:
            self._waiting.pop(session, None)


def _forget_oldest(known: OrderedDict[str, Any]) -> None:
    if len(known) > MOST:
        known.popitem(last=False)
