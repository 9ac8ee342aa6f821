"""What the workers of a gateway can encode. A session may continue in any of them, so its viewers are sent
only what all of them encode in real time.

Each worker measures on its own machine, when a viewer first wants a codec that not every machine encodes in
real time, and once for each process.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

from engine.errors import InvalidInput, Unavailable
from server.codecs import ALWAYS_FAST, CODECS, NAMES, SHARE_MAX, Codec
from server.gateway.fleet.fleet import Fleet
from server.gateway.fleet.supervisor import Supervisor
from server.worker.messages.commands import MeasureCodec
from server.worker.messages.events import CodecMeasured, WorkerReady

log = logging.getLogger(__name__)

MEASURE_S = 10.0  # how long a viewer's offer waits for a worker's answer


class Encoders:
    """`allowed` are the codecs that viewers of this gateway may be sent."""

    def __init__(self, fleet: Fleet, allowed: Sequence[Codec] = CODECS) -> None:
        self._fleet, self._allowed = fleet, tuple(allowed)
        self._fast: dict[tuple[str, Codec], tuple[WorkerReady, bool]] = {}  # of the worker with this message
        self._asked: dict[tuple[str, Codec], asyncio.Event] = {}

    def common(self) -> tuple[Codec, ...]:
        """The codecs that all running workers may send, whether they are fast or not."""
        known = [worker.ready for worker in self._fleet if worker.ready is not None]
        return tuple(codec for codec in self._allowed if all(codec in _codecs(ready) for ready in known))

    def check(self, worker: Supervisor) -> None:
        """Raises InvalidInput if it has no codec in common with the others."""
        if worker.ready is not None and not self.common():
            own = ", ".join(_codecs(worker.ready))
            raise InvalidInput(
                f"{worker.name} encodes {own}, and has none of it in common with the other workers and this "
                "server's --codecs: give all of them the same --codecs",
                field="codecs",
            )

    async def encode(self, codec: Codec) -> bool:
        """Whether all workers encode it in real time. If some have not measured it yet, they do now."""
        running = [worker for worker in self._fleet if worker.ready is not None]
        if codec not in self.common() or codec in ALWAYS_FAST:
            return codec in self.common()
        return bool(running) and all(await asyncio.gather(*(self._is_fast(w, codec) for w in running)))

    def measured(self, worker: Supervisor, event: CodecMeasured) -> None:
        """A worker has answered."""
        if worker.ready is None or event.codec not in CODECS:
            return
        codec: Codec = event.codec
        fast = event.share is not None and event.share <= SHARE_MAX
        if event.share is None:
            log.warning("%s is not sent: %s cannot encode it: %s", NAMES[codec], worker.name, event.message)
        elif not fast:
            log.warning(
                "%s is not sent: it takes %.0f %% of a core on %s",
                NAMES[codec],
                100 * event.share,
                worker.name,
            )
        self._fast[worker.name, codec] = worker.ready, fast
        if (asked := self._asked.pop((worker.name, codec), None)) is not None:
            asked.set()

    async def _is_fast(self, worker: Supervisor, codec: Codec) -> bool:
        key, ready = (worker.name, codec), worker.ready
        if ready is None or not ready.codecs:  # an older worker cannot measure
            return False
        if self._fast.get(key, (None, False))[0] is not ready:
            answered = self._asked.setdefault(key, asyncio.Event())
            try:
                worker.send(MeasureCodec(codec))  # it answers once, however often it is asked
                async with asyncio.timeout(MEASURE_S):
                    await answered.wait()
            except (TimeoutError, Unavailable):
                return False
        return self._fast.get(key, (None, False)) == (ready, True)


def _codecs(ready: WorkerReady) -> tuple[str, ...]:
    return ready.codecs or CODECS
