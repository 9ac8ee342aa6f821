"""Clients of a simulated cluster: they open, close, steer and watch, and remember what they were told."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

from engine.errors import PsistreamError
from engine.types import Control, ControlBody, Pause, Prompt, Receipt, Resume, SessionClosed
from server.gateway.session import GatewaySession
from server.webrtc.fanout import Fanout, Subscription
from server.worker.messages.events import Packet
from tests.rigs.simulation.cluster import Node, SimulatedCluster

OPEN, PERHAPS, CLOSED = "open", "perhaps", "closed"


@dataclass
class Seen:
    """What a gateway's viewers of a session were shown."""

    at: Node
    run: int
    session: GatewaySession
    packets: list[tuple[int, int]] = field(default_factory=list)  # pts, frame


@dataclass
class Sent:
    """A control that was received."""

    at: Node
    run: int
    session: str
    control: str


class Clients:
    """`fates`: whether a session must be there: `perhaps` if a client cannot know. `wrong` is what clients
    saw that must not be."""

    def __init__(self, cluster: SimulatedCluster, note: Callable[[str], None]) -> None:
        self._cluster, self.note = cluster, note
        self.fates: dict[str, str] = {}
        self.closers: dict[str, Node] = {}
        self.unopened: set[str] = set()  # gateways with openings that failed, or were not answered yet
        self.forgotten: set[str] = set()  # those that were killed: nobody knows what they left in workers
        self.sent: list[Sent] = []
        self.viewers: list[tuple[Seen, Subscription]] = []
        self.wrong: list[str] = []
        self._seen: dict[int, Seen] = {}
        self._numbers: dict[Node, int] = {}  # of controls

    def at(self, node: Node, work: Coroutine[Any, Any, None]) -> None:
        """Let this gateway do something."""
        assert node.process is not None
        node.process.spawn(work, "client")

    async def open(self, node: Node, how: str = "", **given: Any) -> None:
        """`given` says `how` it begins; otherwise with a prompt."""
        gateway, name = node.gateway, node.name
        assert gateway is not None
        self.unopened.add(name)
        try:
            session = await gateway.open(**given) if given else await gateway.open("a dog", 1)
            self.fates[session.id] = OPEN
            self.note(f"{name}: opened {session.id} in {session.worker}{how}")
        except PsistreamError as error:
            self.note(f"{name}: not opened: {error.message}")

    async def close(self, node: Node, session: str) -> None:
        gateway, before = node.gateway, len(node.heard)
        assert gateway is not None
        self.fates[session] = PERHAPS
        try:
            await gateway.close_session(session)
        except PsistreamError as error:
            self.note(f"{node.name}: {session} not closed: {error.message}")
            return
        ends = [e for e in node.heard[before:] if isinstance(e, SessionClosed) and e.session == session]
        self.fates[session], self.closers[session] = CLOSED, node
        self.note(f"{node.name}: closed {session}: {[end.code for end in ends]}")

    async def steer(self, node: Node, session: str, kind: int) -> None:
        body: ControlBody = Prompt(f"a dog {kind}")
        if kind % 12 < 2:
            body = Resume() if kind % 12 else Pause()
        await self.send(node, session, body)

    async def send(self, node: Node, session: str, body: ControlBody) -> None:
        assert node.gateway is not None
        self._numbers[node] = self._numbers.get(node, 0) + 1
        control = f"{node.name}.{node.runs}.c{self._numbers[node]}"
        try:
            answer = node.gateway.shown.submit(session, Control(control, body))
        except PsistreamError as error:
            self.note(f"{node.name}: {control} to {session}: {error.message}")
            return
        if answer.status == "received":
            self.sent.append(Sent(node, node.runs, session, control))
        self.note(f"{node.name}: {control} ({type(body).__name__}) to {session}: {answer.status}")

    async def watch(self, node: Node, session: str) -> None:
        gateway = node.gateway
        assert gateway is not None
        try:
            found = gateway.sessions.get(session) or await gateway.guests.find(session)
        except PsistreamError:
            found = None
        self.note(f"{node.name}: watch {session}: {'found' if found else 'none'}")
        if found is not None and not found.fanout.closed:
            seen = self._seen.get(id(found.fanout)) or self._spy(node, found)
            subscription = Subscription("vp8", lambda frame: True)
            found.fanout.join(subscription)
            self.viewers.append((seen, subscription))

    async def leave(self, seen: Seen, subscription: Subscription) -> None:
        self.note(f"{seen.at.name}: leave {seen.session.id}")
        seen.session.fanout.leave(subscription)

    def _spy(self, node: Node, session: GatewaySession) -> Seen:
        fanout: Fanout = session.fanout
        seen = self._seen[id(fanout)] = Seen(node, node.runs, session)
        push = fanout.push

        def spy(packet: Packet) -> int:
            last = seen.packets[-1] if seen.packets else (-1, -1)
            if packet.pts_90k <= last[0] or packet.frame <= last[1]:
                self.wrong.append(
                    f"{node.name} showed {session.id} pts {packet.pts_90k}, frame {packet.frame} after {last}"
                )
                self.note(self.wrong[-1])
            seen.packets.append((packet.pts_90k, packet.frame))
            return push(packet)

        fanout.push = spy  # type: ignore[method-assign]
        return seen

    def unanswered_controls(self) -> list[Sent]:
        """Controls without a final receipt, of gateways that live and were not told that the
        session has ended. A paused session applies none, nor does one that was resumed and not watched."""
        found = []
        for sent in self.sent:
            if sent.at.runs != sent.run or sent.at.gateway is None:
                continue
            final = any(
                (isinstance(e, Receipt) and e.id == sent.control and e.status != "received")
                or (isinstance(e, SessionClosed) and e.session == sent.session)
                for e in sent.at.heard
            )
            shown = sent.at.gateway.sessions.get(sent.session) or sent.at.gateway.guests.get(sent.session)
            still = shown is not None and (shown.info.paused or (shown.dormant and not shown.viewers))
            if not final and not still:
                found.append(sent)
        return found
