"""Clients that go back, fork sessions, and save them and open them again, perhaps at another gateway."""

from __future__ import annotations

from engine.errors import PsistreamError
from engine.types import Rewind
from tests.rigs.simulation.clients import Clients
from tests.rigs.simulation.cluster import Node

SECONDS = (0.0, 0.5, 3.0, 30.0)


class Branches:
    """`saved` are the snapshots that clients have."""

    def __init__(self, clients: Clients) -> None:
        self._clients = clients
        self.saved: list[bytes] = []

    def ask(self, what: str, node: Node, own: list[str], chosen: int, how: int) -> None:
        """A client of this gateway, which has these sessions, wants this."""
        clients, seconds = self._clients, SECONDS[how % len(SECONDS)]
        source = own[chosen % len(own)] if own else None
        if what == "reopen" and self.saved:
            number = chosen % len(self.saved)
            again = clients.open(node, f" from snapshot {number}", snapshot=self.saved[number])
            clients.at(node, again)
        elif what == "fork" and source is not None:
            forked = clients.open(node, f" as {source} {seconds} s ago", fork_of=source, rewind_s=seconds)
            clients.at(node, forked)
        elif what == "save" and source is not None:
            clients.at(node, self._save(node, source))
        elif what == "rewind" and source is not None:
            clients.at(node, clients.send(node, source, Rewind(seconds)))  # workers refuse 0

    async def _save(self, node: Node, session: str) -> None:
        assert node.gateway is not None
        try:
            self.saved.append(await node.gateway.export(session, "snapshot"))
        except PsistreamError as error:
            self._clients.note(f"{node.name}: {session} not saved: {error.message}")
        else:
            self._clients.note(f"{node.name}: {session} is snapshot {len(self.saved) - 1}")
