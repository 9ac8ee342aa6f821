"""Emulates a bad link between two network namespaces: rate, queue, delay, loss, outages.

Each namespace has a TUN device, and a thread carries packets between them. It needs root and Linux, but
neither `tc` nor a kernel module. The namespaces end with the context.
"""

from __future__ import annotations

import contextlib
import fcntl
import heapq
import itertools
import os
import random
import secrets
import select
import struct
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass

from benchmarks.network.namespaces import entered, ip, namespace
from benchmarks.report import BenchError

TUNSETIFF = 0x400454CA
IFF_TUN, IFF_NO_PI = 0x0001, 0x1000
SERVER_ADDRESS, VIEWER_ADDRESS = "10.77.0.1", "10.77.0.2"
MTU = 1500
UDP = 17
QUEUE_BYTES = 48_000  # of packets that wait for a capped link; more are dropped


@dataclass(frozen=True)
class NetworkCondition:
    """Delay and loss apply in both directions, the cap only towards the viewer."""

    cap_bps: float | None = None
    delay_s: float = 0.0
    loss: float = 0.0
    up: bool = True
    mtu: int = MTU  # larger UDP packets vanish, as in a tunnel that reports nothing; TCP adapts by itself


class EmulatedLink:
    """The link. `condition` may be changed at any time."""

    def __init__(self, server: int, viewer: int) -> None:
        self.condition = NetworkCondition()
        self.carried = self.lost = 0  # packets to the viewer
        self.late_s: list[float] = []  # how late each packet left because this machine was busy
        self._ends = (server, viewer)
        self._waiting: list[tuple[float, int, int, bytes]] = []  # when due, order, to which end
        self._order = itertools.count()
        self._free_s = 0.0
        self._dice = random.Random(1)
        self._stop = os.pipe()
        self._thread = threading.Thread(target=self._run, name="link", daemon=True)
        self._thread.start()

    def lateness_ms(self) -> float:
        """The delay that the emulator itself added to at most 99 % of the packets since the last call."""
        late_s, self.late_s = sorted(self.late_s), []
        return round(1000 * late_s[int(0.99 * len(late_s))], 1) if late_s else 0.0

    def close(self) -> None:
        os.write(self._stop[1], b"x")
        self._thread.join(5)
        for end in (*self._ends, *self._stop):
            os.close(end)

    def _run(self) -> None:
        with contextlib.suppress(OSError):  # ahead of other work on a busy machine, of which it is hardly any
            os.sched_setscheduler(threading.get_native_id(), os.SCHED_FIFO, os.sched_param(1))
        while True:
            wait_s = max(0.0, self._waiting[0][0] - time.monotonic()) if self._waiting else None
            ready, _, _ = select.select([*self._ends, self._stop[0]], [], [], wait_s)
            if self._stop[0] in ready:
                return
            for end in ready:
                self._take(self._ends.index(end), os.read(end, 65536))
            now_s = time.monotonic()
            while self._waiting and self._waiting[0][0] <= now_s:
                due_s, _, to, packet = heapq.heappop(self._waiting)
                self.late_s.append(now_s - due_s)
                with contextlib.suppress(OSError):  # the namespace is being removed
                    os.write(self._ends[to], packet)

    def _take(self, side: int, packet: bytes) -> None:
        now_s, link = time.monotonic(), self.condition
        down = side == 0
        too_large = len(packet) > link.mtu and packet[9] == UDP
        if not link.up or too_large or self._dice.random() < link.loss:
            self.lost += down
            return
        due_s = now_s
        if down and link.cap_bps is not None:
            if max(0.0, self._free_s - now_s) * link.cap_bps / 8 > QUEUE_BYTES:
                self.lost += 1
                return
            due_s = self._free_s = max(self._free_s, now_s) + 8 * len(packet) / link.cap_bps
        self.carried += down
        heapq.heappush(self._waiting, (due_s + link.delay_s, next(self._order), 1 - side, packet))


@dataclass(frozen=True)
class Namespaces:
    """Where the server and the viewer run, and the link between them."""

    server: str
    viewer: str
    link: EmulatedLink

    def command(self, side: str, *arguments: str) -> list[str]:
        return ["ip", "netns", "exec", side, *arguments]


@contextlib.contextmanager
def linked() -> Iterator[Namespaces]:
    """Create the namespaces and the link. Raises BenchError if this user or machine cannot."""
    if os.geteuid() != 0 or not os.path.exists("/dev/net/tun"):
        raise BenchError("the link emulator needs root and /dev/net/tun: try sudo, on Linux")
    mark = secrets.token_hex(4)  # others may have links on this machine too
    names = (f"psi-server-{mark}", f"psi-viewer-{mark}")
    with contextlib.ExitStack() as stack:
        ends = []
        for name, address in zip(names, (SERVER_ADDRESS, VIEWER_ADDRESS), strict=True):
            stack.enter_context(namespace(name))
            with entered(name):
                ends.append(_tun("psi"))
                ip("addr", "add", f"{address}/24", "dev", "psi")
                ip("link", "set", "psi", "mtu", str(MTU), "up")
        link = EmulatedLink(*ends)
        stack.callback(link.close)
        yield Namespaces(*names, link)


def _tun(name: str) -> int:
    tun = os.open("/dev/net/tun", os.O_RDWR)
    fcntl.ioctl(tun, TUNSETIFF, struct.pack("16sH22x", name.encode(), IFF_TUN | IFF_NO_PI))
    return tun
