"""The servers on one broker and prefix, known from their status messages, and the session that a topic means.

Every server has a session `main`. Its name in topics is main.NODE; plain `main` works too while there is only
one server. The gateways of a cluster are one server in this, since they have one `main`. Pure: no sockets, no
clock.
"""

from __future__ import annotations

from collections.abc import Iterable

from server.control.mqtt.topics import MAIN, main_of


class Servers:
    """`node` is this server's name; `instance` changes with every start; `member` says that it is a gateway
    of a cluster. Clusters that share a broker need different prefixes."""

    def __init__(self, node: str, instance: str, *, member: bool = False) -> None:
        self.node, self.instance, self.member = node, instance, member
        self._online: set[str] = set()  # other nodes, but fellow gateways
        self.members: set[str] = set()  # fellow gateways that are online; this one too if it is a gateway
        self._names: dict[str, frozenset[str]] = {}  # topic names of their sessions
        self.forget()

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

    @property
    def answers_strays(self) -> bool:
        """Whether this server answers commands for sessions that nobody has: exactly one of all does, fellow
        gateways included."""
        return self.node == min(self.node, *self._online, *self.members)

    def forget(self) -> None:
        self._online.clear()
        self._names.clear()
        self.members = {self.node} if self.member else set()

    def hear(self, node: str, status: str, *, member: bool = False) -> bool:
        """Process the status of another server. Returns whether `alone` has changed."""
        was_alone, online, fellow = self.alone, status == "online", member and self.member
        for nodes, belongs in ((self._online, online and not fellow), (self.members, online and fellow)):
            (nodes.add if belongs else nodes.discard)(node)
        return self.alone != was_alone

    def hear_names(self, node: str, names: Iterable[str]) -> None:
        """The topic names of another server's sessions."""
        self._names[node] = frozenset(names)

    def has(self, name: str) -> bool:
        """Whether another server that is online has the session of this topic name."""
        return any(name in self._names.get(node, ()) for node in (*self._online, *self.members))

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
