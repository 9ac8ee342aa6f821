"""One connection, such as between a gateway and a worker, the same class at both ends: messages in and out.

It knows frames, lanes and the codec, but not what messages mean. A malformed message is logged in one line
and ignored; a malformed frame ends the connection. A message that cannot be handled costs itself, and not
what else the peer says. Everything but `post` and `post_video` must be called on the event loop.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from collections.abc import Callable, Mapping
from typing import Any

from engine.errors import Unavailable
from server.worker.messages.events import WorkerReady
from server.worker.wire.codec import decode, encode
from server.worker.wire.frames import Joiner, NotFrames
from server.worker.wire.outbox import Overfull, WireOutbox
from server.worker.wire.schema import GREETINGS, Welcome
from server.worker.wire.values import Malformed

log = logging.getLogger(__name__)

GREETING_S = 10.0
MAX_GREETINGS = 8
EXTRA_BYTES = 16 << 20
UNSENT_BYTES = 1 << 17  # in the kernel: video waits behind no more than this
NOTSENT_LOWAT = getattr(socket, "TCP_NOTSENT_LOWAT", 25)  # as on Linux
CLOSED = "the other side closed the connection"


class Connection(asyncio.Protocol):
    """Handshake messages are received by `receive`; after `open` every message is passed to its `on_message`.
    `on_end` is called once when the connection is gone, with the error that ended it (None: the peer ended
    it)."""

    def __init__(
        self, on_end: Callable[[str | None], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._on_end, self._clock = on_end, clock
        self._kinds: Mapping[str, type] = GREETINGS
        self._on_message: Callable[[Any], None] | None = None
        self._when_welcome: tuple[Mapping[str, type], Callable[[Any], None]] | None = None
        self._greetings: asyncio.Queue[Any] = asyncio.Queue(MAX_GREETINGS)
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._raw: asyncio.Transport | None = None  # below TLS
        self._joiner, self.outbox = Joiner(), WireOutbox(clock)
        self._paused = self._woken = self._aborted = self.ended = False
        self._fault: str | None = None
        self.heard_s = clock()  # when anything came last

    # ---- greetings ----

    async def receive(self, within_s: float | None = GREETING_S) -> Any:
        """The next handshake message. Raises Unavailable if none arrives."""
        try:
            async with asyncio.timeout(within_s):
                heard = await self._greetings.get()
        except TimeoutError:
            raise Unavailable(f"the other side did not answer within {within_s:g} s") from None
        if heard is None:
            raise Unavailable(self._fault or CLOSED)
        return heard

    def open(self, kinds: Mapping[str, type], on_message: Callable[[Any], None], bulk_bytes: int) -> None:
        """The peer is trusted: from now on messages of these kinds, of at most `bulk_bytes`, are passed to
        `on_message` on the event loop."""
        self.trust(bulk_bytes)
        self._kinds, self._on_message = kinds, on_message

    def trust(self, bulk_bytes: int) -> None:
        """The peer has the key: its messages may be large from now on, and of at most `bulk_bytes`."""
        self._joiner.trust(bulk_bytes)

    def open_when_welcome(self, kinds: Mapping[str, type], on_message: Callable[[Any], None]) -> None:
        """Like `open`, but as soon as a Welcome arrives, since events may follow it immediately."""
        self._when_welcome = kinds, on_message

    # ---- sending ----

    def send(self, message: object, session: str = "", after: tuple[str, ...] = ()) -> None:
        """Send a message after those of its session and of those in `after`. Call it on the event loop."""
        self._put(encode(message, self._clock()), session, (session, *after))
        self._flush()

    def post(self, data: bytes, session: str = "") -> None:
        """Send an encoded message, from any thread."""
        self._put(data, session, ())
        self._wake()

    def post_video(self, data: bytes, rendition: str, *, keyframe: bool) -> bool:
        """Send an encoded frame: see WireOutbox.put_video."""
        taken = self.outbox.put_video(data, rendition, keyframe=keyframe)
        self._wake()
        return taken

    def close(self) -> None:
        """Close after everything in the transport has been sent. Idempotent."""
        if self._transport is not None:
            self._transport.close()
        else:  # there is nobody yet who could be told anything
            self.abort()

    def abort(self, why: str | None = None) -> None:
        """Close at once. Idempotent."""
        self._fault, self._aborted = self._fault or why, True
        if (transport := self._transport or self._raw) is not None:
            transport.abort()

    def arrives_by(self, transport: asyncio.Transport) -> bool:
        """TLS is about to begin on this. Returns False if the connection is not wanted any more."""
        self._raw = transport
        if self._aborted:
            transport.abort()
        return not self._aborted

    def pause_reading(self) -> None:
        if self._transport is not None and not self.ended:
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        if self._transport is not None and not self.ended:
            self._transport.resume_reading()

    @property
    def peer(self) -> str:
        """The peer's name for the log."""
        transport = self._transport or self._raw
        if transport is None:
            return "a visitor whose TLS failed"
        name = transport.get_extra_info("peername")
        return f"{name[0]}:{name[1]}" if isinstance(name, tuple) else "this machine"

    def _put(self, data: bytes, session: str, after: tuple[str, ...]) -> None:
        try:
            self.outbox.put(data, session, after)
        except Overfull:
            self._loop.call_soon_threadsafe(self.abort, "it does not take what it is sent")

    def _wake(self) -> None:
        if not self._woken and not self.ended:
            self._woken = True
            try:
                self._loop.call_soon_threadsafe(self._flush)
            except RuntimeError:  # the loop is closed
                self.ended = True

    def _flush(self) -> None:
        self._woken = False
        while self._transport is not None and not self._paused and not self.ended:
            if self._transport.is_closing():  # nobody takes it
                return
            if not (chunk := self.outbox.next()):
                return
            self._transport.write(chunk)

    # ---- asyncio.Protocol ----

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        if self._aborted:  # before it was connected
            transport.abort()
            return
        transport.set_write_buffer_limits(high=1)  # with 0, TLS would pause it with nothing to write
        peer = transport.get_extra_info("socket")
        if peer is not None and peer.family != socket.AF_UNIX:
            peer.setsockopt(socket.IPPROTO_TCP, NOTSENT_LOWAT, UNSENT_BYTES)
        self._flush()

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        if not self._woken:  # not now: asyncio loses count of the end of a connection whose write fails here
            self._woken = True
            self._loop.call_soon(self._flush)

    def data_received(self, data: bytes) -> None:
        self.heard_s = self._clock()
        try:
            messages = self._joiner.feed(data)
        except NotFrames:
            self.abort("it sent something else than psistream's frames")
            return
        for message in messages:
            self._received(message)

    def connection_lost(self, error: Exception | None) -> None:
        self.ended = True
        if not self._greetings.full():
            self._greetings.put_nowait(None)
        self._on_end(self._fault)

    def _received(self, data: bytes) -> None:
        if self.ended or self._fault is not None:
            return
        try:
            message = decode(data, self._kinds, self._clock())
        except Malformed as error:
            if self._on_message is None:
                self.abort("it sent something else than psistream's messages")
            else:
                log.warning("%s sent a message that is ignored: %s", self.peer, error.message)
            return
        if message is None:
            return
        if self._on_message is not None:
            self._handle(message, self._on_message)
        elif self._greetings.full():
            self.abort("it sent too many greetings")
        else:
            self._greetings.put_nowait(message)
            if isinstance(message, Welcome) and self._when_welcome is not None:
                self.open(*self._when_welcome, largest(message.ready))

    def _handle(self, message: Any, on_message: Callable[[Any], None]) -> None:
        try:
            on_message(message)
        except Exception:  # outermost loop: asyncio would end the connection, with all sessions on it
            log.exception("a message of %s (%s) could not be handled", self.peer, type(message).__name__)


def largest(ready: WorkerReady) -> int:
    """The maximum size of a message on the bulk lane: a session with its controls or the video that it starts
    from, or its control log."""
    pictures = 65 + ready.start_frames
    return 2 * ready.state_bytes + pictures * 3 * ready.height * ready.width + EXTRA_BYTES
