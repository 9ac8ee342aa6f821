"""The JSON protocol of one viewer over one WebRTC data channel: controls in; receipts and events out.

It uses only the members of aiortc's RTCDataChannel in `Channel`, and the gateway only as Steering. No message
from a client makes a callback in this module raise.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Protocol

from engine.errors import InvalidInput, PsistreamError, UnknownSession
from engine.types import Action, Control, Receipt, SessionClosed
from engine.wire.parse import MAX_MESSAGE_BYTES, make_id, parse_control, parse_ping, salvage_id
from engine.wire.strict_json import dump, load_object
from server.control.base import SessionEvent, Steering
from server.control.protocol import error_json, event_json, receipt_json
from server.ratelimit import TokenBucket
from server.worker.messages.events import SegmentStats

log = logging.getLogger(__name__)

RATE_HZ, BURST = 60.0, 120
RETRY_S = 1  # after a refusal for being too fast
REFUSALS_HZ, REFUSALS_BURST = 5.0, 10  # a client that sends too fast doesn't get an answer to every message
FIGURES_BUFFER_BYTES = 64 * 1024  # above this, segment figures are dropped
BUFFER_BYTES = 1024 * 1024  # above this, nothing is sent: the viewer doesn't read

PtsOf = Callable[[int], int | None]  # frame number → pts_90k, if already known


class Channel(Protocol):
    """The members of aiortc.RTCDataChannel that are used."""

    @property
    def readyState(self) -> str: ...

    @property
    def bufferedAmount(self) -> int: ...

    def send(self, data: str) -> None: ...

    def on(self, event: str, f: Callable[..., Any]) -> Any: ...


class DataChannelControl:
    """Create it when the channel is open, and call `close()` when the viewer leaves (the end of the channel
    does so too).

    Overflow: segment figures are dropped first, then everything; `dropped_total` counts both."""

    def __init__(
        self,
        channel: Channel,
        steering: Steering,
        session: str,
        *,
        may_steer: bool,
        pts_of: PtsOf | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.dropped_total = 0
        self._channel = channel
        self._steering = steering
        self._session = session
        self._may_steer = may_steer
        self._pts_of = pts_of
        self._clock = clock
        self._bucket = TokenBucket(RATE_HZ, BURST, clock())
        self._refusals = TokenBucket(REFUSALS_HZ, REFUSALS_BURST, clock())
        self._holds_action = False  # this viewer's last action is still held
        self._stop_listening: Callable[[], None] | None = steering.listen(self._on_event, session)
        channel.on("message", self._on_message)
        channel.on("close", self.close)
        try:
            self._send(event_json(steering.info(session)))
        except UnknownSession as error:
            self._send({"type": "closed", "session": session, "code": error.code, "message": error.message})
            self.close()
        except PsistreamError as error:  # it waits for a place, and tells its state once it has one
            self._send(error_json(error.code, error.message, retry_after_s=error.retry_after_s))

    def send_clock(self, rtp_offset: int, clock_rate: int = 90_000) -> None:
        """Send how this viewer's RTP timestamps relate to pts_90k."""
        self._send({"type": "clock", "rtp_offset": rtp_offset, "clock_rate": clock_rate})

    def warn(self, code: str, text: str) -> None:
        """Send this viewer a warning that does not answer a message."""
        self._send(error_json(code, text))

    def send_on(self, code: str, text: str) -> None:
        """Tell this viewer to join again elsewhere. Until it leaves, everything goes on."""
        self._send({"type": "closed", "session": self._session, "code": code, "message": text})

    def send_link(self, link: dict[str, Any]) -> None:
        """Tell this viewer how it is served: its rung, and the state of its link."""
        self._send({"type": "link", **link}, room=FIGURES_BUFFER_BYTES)

    def close(self) -> None:
        """Stop listening, and release the action that this viewer held, or the hero would keep walking.
        Idempotent. The channel itself belongs to its peer connection."""
        if self._stop_listening is None:
            return
        self._stop_listening()
        self._stop_listening = None
        if self._holds_action:
            with suppress(PsistreamError):  # perhaps because the session ended
                self._steering.submit(self._session, Control(make_id(), Action(None)))

    # ---- in ----

    def _on_message(self, raw: Any) -> None:
        try:
            self._answer(raw)
        except Exception:  # outermost: an internal error must not end the viewer's connection
            log.exception("session %s: a data channel message could not be handled", self._session)
            self._send(error_json("internal", "the server failed to handle this message; it goes on"))

    def _answer(self, raw: Any) -> None:
        now_s = self._clock()
        if not self._bucket.allow(now_s):
            if self._refusals.allow(now_s):
                text = f"too many messages: send at most {RATE_HZ:.0f} per second"
                self._refuse(raw, "rate_limited", text, retry_after_s=RETRY_S)
            return
        if not isinstance(raw, str):
            self._refuse(None, "invalid", "send JSON as a text message, not as bytes", field="message")
            return
        try:
            message = load_object(raw, MAX_MESSAGE_BYTES)
            if message.get("type") == "ping":
                self._send(parse_ping(message))
            elif not self._may_steer:
                self._refuse(
                    raw, "forbidden", "this token may only watch: steer with the session's own token"
                )
            else:
                control = parse_control(message)
                receipt = self._steering.submit(self._session, control)
                if isinstance(control.body, Action) and receipt.status != "rejected":
                    self._holds_action = control.body.action is not None
                self._send(self._with_pts(receipt))
        except InvalidInput as error:
            self._refuse(raw, error.code, error.message, field=error.field)
        except PsistreamError as error:
            self._refuse(raw, error.code, error.message, retry_after_s=error.retry_after_s)

    def _refuse(
        self, raw: Any, code: str, text: str, *, field: str | None = None, retry_after_s: int | None = None
    ) -> None:
        """Send a rejected receipt if the message has an id, otherwise an error."""
        id_ = salvage_id(raw) if isinstance(raw, str) else None
        if id_ is None:
            self._send(error_json(code, text, field=field, retry_after_s=retry_after_s))
        else:
            receipt = Receipt(session=self._session, id=id_, status="rejected", code=code, message=text)
            self._send(receipt_json(receipt, field=field, retry_after_s=retry_after_s))

    # ---- out ----

    def _on_event(self, event: SessionEvent) -> None:
        try:
            self._forward(event)
        except Exception:  # outermost, as above
            log.exception("session %s: an event could not be sent", self._session)

    def _forward(self, event: SessionEvent) -> None:
        if isinstance(event, Receipt):
            if event.status != "received":  # those go only to their sender
                self._send(self._with_pts(event))
        elif isinstance(event, SegmentStats):
            self._send(event_json(event), room=FIGURES_BUFFER_BYTES)
        else:
            self._send(event_json(event))
        if isinstance(event, SessionClosed):
            self.close()

    def _with_pts(self, receipt: Receipt) -> dict[str, Any]:
        pts_90k = None
        if self._pts_of is not None and receipt.status == "applied" and receipt.frame is not None:
            pts_90k = self._pts_of(receipt.frame)
        return receipt_json(receipt, pts_90k=pts_90k)

    def _send(self, message: dict[str, Any], *, room: int = BUFFER_BYTES) -> None:
        if self._channel.readyState != "open" or self._channel.bufferedAmount > room:
            self.dropped_total += 1
            return
        try:
            self._channel.send(dump(message))
        except Exception as error:  # the transport may close between the check and the call
            self.dropped_total += 1
            log.debug("session %s: data channel: %s", self._session, error)
