"""Connections between pretended processes, with delays from the seed. They can be cut: so that both ends see
it, or silently, in both directions or in one, until they are healed.

As with TCP, what is on its way is delivered later, in order, or the connection ends.
"""

from __future__ import annotations

import asyncio
import random
import zlib
from collections import deque
from collections.abc import Callable
from typing import Any

from tests.rigs.simulation.loop import PROCESS, Process, VirtualLoop

USUAL_S, SELDOM_S, SELDOM = 0.004, 0.3, 0.02  # delays
KERNEL_BYTES = 1 << 17  # beyond, the writer is told to pause
RETRY_S = 1.0  # of a connection that is not answered


class End(asyncio.Transport):
    """One end of a connection, as a process has it."""

    def __init__(self, network: Network, process: Process, chance: random.Random) -> None:
        super().__init__()
        self._network, self._loop, self.process, self._chance = network, network.loop, process, chance
        self.protocol: asyncio.Protocol | None = None
        self.peer: End
        self._coming: deque[tuple[float, bytes | None]] = deque()  # to this end; None: the other has ended it
        self._coming_bytes, self._last_s = 0, 0.0
        self._expected = self._reading_paused = self._writing_paused = self._closing = self._gone = False

    # ---- asyncio.Transport ----

    def write(self, data: Any) -> None:
        if not self._closing:
            self.peer.send(bytes(data))
            if self.peer._coming_bytes > KERNEL_BYTES and not self._writing_paused:
                self._writing_paused = True
                assert self.protocol is not None
                self.protocol.pause_writing()

    def close(self) -> None:
        if not self._closing:
            self._closing = True
            self.peer.send(None)
            self._loop.call_soon(self.lose, context=self.process.context)

    def abort(self) -> None:
        if not self._closing:
            self.peer.truncate()
        self.close()

    def is_closing(self) -> bool:
        return self._closing

    def pause_reading(self) -> None:
        self._reading_paused = True

    def resume_reading(self) -> None:
        self._reading_paused = False
        self.expect()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    # ---- what comes ----

    def send(self, item: bytes | None) -> None:
        """The other end sends this."""
        if self._gone or self._network.closed:
            return
        self._network.sent(self.peer.process.name, self.process.name, item)
        seldom = self._chance.random() < SELDOM
        delay_s = self._chance.random() * (SELDOM_S if seldom else USUAL_S)
        self._last_s = max(self._last_s, self._loop.time() + delay_s)
        self._coming.append((self._last_s, item))
        self._coming_bytes += len(item or b"")
        self.expect()

    def truncate(self) -> None:
        """The other end is gone at once: some of what it sent last does not arrive."""
        for _ in range(self._chance.randrange(len(self._coming) + 1) if self._coming else 0):
            self._coming.pop()

    def expect(self) -> None:
        """Deliver what comes next when it is due."""
        held = self._network.holds(self.peer.process.name, self.process.name)
        if self._coming and not (self._expected or held or self._reading_paused or self._gone):
            self._expected = True
            due_s = max(self._coming[0][0], self._loop.time())
            self._loop.call_at(due_s, self._deliver, context=self.process.context)

    def _deliver(self) -> None:
        self._expected = False
        if self._network.holds(self.peer.process.name, self.process.name) or self._reading_paused:
            return
        while self._coming and self._coming[0][0] <= self._loop.time() and not self._gone:
            _, item = self._coming.popleft()
            if item is None:
                self.lose()
                return
            self._coming_bytes -= len(item)
            if self.protocol is not None and not self._closing:
                self.protocol.data_received(item)
            if self._reading_paused:
                break
        if self.peer._writing_paused and self._coming_bytes < KERNEL_BYTES // 2:
            self._loop.call_soon(self.peer.resume_writing, context=self.peer.process.context)
        self.expect()

    def resume_writing(self) -> None:
        if self._writing_paused and not self._gone and self.protocol is not None:
            self._writing_paused = False
            self.protocol.resume_writing()

    def lose(self) -> None:
        """This end learns that the connection has ended."""
        if not self._gone:
            self._gone = self._closing = True
            self._coming.clear()
            self._network.ends.pop(self, None)
            if not self.peer._closing:
                self.peer.send(None)
            if self.protocol is not None:
                self.protocol.connection_lost(None)


class Network:
    """Processes are reached by name. After `close` nothing is carried any more."""

    def __init__(self, loop: VirtualLoop, seed: int) -> None:
        self.loop, self._seed = loop, seed
        self.closed = False
        self.digest = 0  # of what was sent, and when
        self.ends: dict[End, None] = {}  # as they were made
        self._made = 0
        self._listening: dict[str, tuple[Process, Callable[[], asyncio.Protocol]]] = {}
        self._held: set[tuple[str, str]] = set()  # from, to
        self._refused: set[frozenset[str]] = set()
        loop.connect = self.connect

    def listen(self, process: Process, make: Callable[[], asyncio.Protocol]) -> None:
        self._listening[process.name] = process, make

    def sent(self, source: str, target: str, item: bytes | None) -> None:
        said = f"{self.loop.time()} {source} {target}".encode()
        self.digest = zlib.crc32(item or b"", zlib.crc32(said, self.digest))

    def holds(self, source: str, target: str) -> bool:
        return (source, target) in self._held

    async def connect(self, make: Callable[[], asyncio.Protocol], host: str, port: int) -> None:
        caller = PROCESS.get()
        assert caller is not None
        await asyncio.sleep(0.001)
        while self.holds(caller.name, host) or self.holds(host, caller.name):  # noqa: ASYNC110
            await asyncio.sleep(RETRY_S)
        listening = self._listening.get(host)
        if self.closed or frozenset((caller.name, host)) in self._refused or listening is None:
            raise ConnectionRefusedError(111, "refused")
        process, accept = listening
        self._made += 1
        names = f"{self._seed} {caller.name} {host} {self._made}"
        ours = End(self, caller, random.Random(names + " there"))
        theirs = End(self, process, random.Random(names + " here"))
        ours.peer, theirs.peer = theirs, ours
        self.ends |= {ours: None, theirs: None}
        self.loop.call_soon(self._accept, theirs, accept, context=process.context)
        ours.protocol = make()
        ours.protocol.connection_made(ours)

    def _accept(self, end: End, accept: Callable[[], asyncio.Protocol]) -> None:
        if not end._gone:
            end.protocol = accept()
            end.protocol.connection_made(end)
            end.expect()

    # ---- faults ----

    def killed(self, process: Process) -> None:
        """The kernel ends its connections."""
        if self._listening.get(process.name, (None,))[0] is process:
            del self._listening[process.name]
        for end in list(self.ends):
            if end.process is process and not end._closing:
                end._closing = end._gone = True
                self.ends.pop(end, None)
                end.peer.truncate()
                end.peer.send(None)

    def cut(self, one: str, other: str, *, seen: bool, one_way: bool) -> None:
        pair = frozenset((one, other))
        if seen:
            self._refused.add(pair)
            for end in list(self.ends):
                if {end.process.name, end.peer.process.name} == pair:
                    end._coming.clear()
                    self.loop.call_soon(end.lose, context=end.process.context)
        else:
            self._held.add((one, other))
            if not one_way:
                self._held.add((other, one))

    def heal(self, one: str, other: str) -> None:
        self._refused.discard(frozenset((one, other)))
        self._held -= {(one, other), (other, one)}
        for end in list(self.ends):
            if {end.process.name, end.peer.process.name} == {one, other}:
                end.expect()

    def heal_all(self) -> None:
        for one, other in sorted({*self._held, *((min(pair), max(pair)) for pair in self._refused)}):
            self.heal(one, other)
