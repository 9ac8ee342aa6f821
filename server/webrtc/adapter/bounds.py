"""Limits what one peer connection may cost the event loop: work, memory, addresses. Pinned to aiortc 1.16.

aiortc limits none of this: gaps in SCTP's sequence numbers are sorted again for each packet, a message that
never ends is kept and searched, and each candidate becomes a target of checks. Like the rest of `adapter`,
this module uses private members of aiortc, each for a stated reason, and only those of one connection.
"""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Awaitable, Callable
from typing import Any, Protocol, cast

from aiortc import RTCPeerConnection, RTCRtpTransceiver, RTCSctpTransport

MAX_GAPS = 128  # numbers received out of order
MAX_FRAGMENTS = 64  # per stream; the longest allowed message has 16 KiB
MAX_STREAMS = 16
MAX_CHANNELS = 8
LOOP_SHARE, LOOP_BURST_S = 0.06, 1.0  # seconds of the event loop per second, and the burst
MAX_CANDIDATES = 16  # per viewer, including those of its offer


class LoopBudget:
    """The budget of one connection. `on_empty` is called once, with the reason."""

    def __init__(self, on_empty: Callable[[str], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._on_empty, self._clock = on_empty, clock
        self._left_s, self._at_s, self._empty = LOOP_BURST_S, clock(), False

    def charge(self, seconds: float) -> None:
        now_s = self._clock()
        self._left_s = min(LOOP_BURST_S, self._left_s + (now_s - self._at_s) * LOOP_SHARE) - seconds
        self._at_s = now_s
        if self._left_s < 0:
            self.exhaust("this connection keeps the server busier than a viewer may")

    def exhaust(self, why: str) -> None:
        if not self._empty:
            self._empty = True
            self._on_empty(why)


def charge_received(transceiver: RTCRtpTransceiver, budget: LoopBudget) -> None:
    """Charge the CPU time of this thread for handling each datagram of this connection.

    Wraps `RTCIceTransport._recv`: all that happens between its return and its next call is that work."""
    transport: Any = transceiver.receiver.transport.transport
    receive: Callable[[], Awaitable[bytes]] = transport._recv
    since_s: float | None = None

    async def charged() -> bytes:
        nonlocal since_s
        if since_s is not None:
            budget.charge(time.thread_time() - since_s)
            since_s = None
        data = await receive()
        since_s = time.thread_time()
        return data

    transport._recv = charged


class _Sctp(Protocol):
    """The parts of RTCSctpTransport that are used here."""

    _sack_misordered: set[int]
    _last_received_tsn: int | None
    _inbound_streams: dict[int, Any]
    _data_channels: dict[int, Any]
    _mark_received: Callable[[int], bool]
    _receive_data_chunk: Callable[[Any], Awaitable[None]]


def bound_sctp(pc: RTCPeerConnection, budget: LoopBudget) -> None:
    """Limit what a peer can make SCTP store. Call it after the offer was set.

    Wraps `RTCSctpTransport._mark_received`: numbers beyond the limit of gaps are not acknowledged, so an
    honest peer resends them. Wraps `_receive_data_chunk` to count streams, fragments and channels."""
    transport: RTCSctpTransport | None = pc.sctp
    if transport is None:
        return
    sctp = cast(_Sctp, transport)
    mark, receive = sctp._mark_received, sctp._receive_data_chunk

    def mark_few(tsn: int) -> bool:
        last = sctp._last_received_tsn
        follows = last is not None and tsn == (last + 1) % (1 << 32)
        if not follows and len(sctp._sack_misordered) >= MAX_GAPS and tsn not in sctp._sack_misordered:
            return True  # as if it were a duplicate
        return mark(tsn)

    async def receive_few(chunk: Any) -> None:
        streams = sctp._inbound_streams
        stream = streams.get(chunk.stream_id)
        if stream is None and len(streams) >= MAX_STREAMS:
            budget.exhaust(f"this connection uses more than {MAX_STREAMS} streams")
        elif stream is not None and len(stream.reassembly) >= max(MAX_FRAGMENTS, MAX_GAPS + 1):
            budget.exhaust("this connection sends a message that does not end")
        elif len(sctp._data_channels) > MAX_CHANNELS:
            budget.exhaust(f"this connection opens more than {MAX_CHANNELS} data channels")
        else:
            await receive(chunk)

    sctp._mark_received = mark_few
    sctp._receive_data_chunk = receive_few


def reachable(candidate: str, client: str) -> bool:
    """Whether a client at this address may offer this candidate. Checks are sent to the candidate, so it must
    be in the same kind of network as the client: an outside client must not direct them at inside
    machines."""
    try:
        address = ipaddress.ip_address(candidate)
    except ValueError:
        return False
    if address.is_multicast or address.is_unspecified or address.is_reserved or str(address) == BROADCAST:
        return False
    try:
        whose = ipaddress.ip_address(client.partition("/")[0])
    except ValueError:
        return True  # a name given by a test or a proxy; nothing is known about it
    if address.is_loopback:
        return whose.is_loopback
    return address.is_global or not whose.is_global


BROADCAST = "255.255.255.255"
