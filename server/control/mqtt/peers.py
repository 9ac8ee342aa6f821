"""The servers on one broker and prefix, known from their status messages, and the session that a topic means.

Every server has a session `main`. Its name in topics is main.NODE; plain `main` works too while there is only
one server. Pure: no sockets, no clock.
"""

from __future__ import annotations

from server.control.mqtt.topics import MAIN, main_of


class Peers:
    """`node` is this server's name; `instance` changes with every start."""

    def __init__(self, node: str, instance: str) -> None:
        self.node, self.instance = node, instance
        self._online: set[str] = set()  # other nodes

    @property
    def alone(self) -> bool:
        return not self._online

    @property
    def nodes(self) -> list[str]:
        """All servers that are online, this one included."""
        return sorted({self.node, *self._online})

    @property
    def speaks_for_all(self) -> bool:
        """Whether this server answers messages that concern all servers; exactly one does."""
        return self.node == self.nodes[0]

    def forget(self) -> None:
        self._online.clear()

    def hear(self, node: str, status: str) -> bool:
        """Process the status of another server. Returns whether `alone` has changed."""
        was_alone = self.alone
        if status == "online":
            self._online.add(node)
        else:
            self._online.discard(node)
        return self.alone != was_alone

    def session_of(self, name: str) -> str:
        """The id of the session that a topic name refers to, if it is one of this server's."""
        return MAIN if name == main_of(self.node) else name

    def is_ambiguous(self, name: str) -> bool:
        """Whether the name could refer to several servers."""
        return name == MAIN and not self.alone

    def names_of(self, session: str) -> list[str]:
        """The current topic names of a session; the first one never changes."""
        if session != MAIN:
            return [session]
        return [main_of(self.node), MAIN] if self.alone else [main_of(self.node)]
