"""Whether an event is one that a worker may report: what the types leave open.

A worker with a fault must cost nothing but what it says: these values divide, name metrics, topics and files,
and travel on to viewers, the directory and other gateways. `checks` is the same for orders.
"""

from __future__ import annotations

from engine.types import Capacity, Receipt, SessionClosed, SessionInfo, Stall
from server.codecs import CODECS
from server.worker.base import SESSION_ID, Applied, Event, WorkerLost, session_of
from server.worker.epochs import CLOSED
from server.worker.messages.events import (
    CodecMeasured,
    Exported,
    Hung,
    Packet,
    SegmentStats,
    Stalled,
    WorkerReady,
)
from server.worker.messages.holding import (
    Answered,
    Claimed,
    Fenced,
    Moved,
    Orphaned,
    OtherViewers,
    Submitted,
    Watched,
)
from server.worker.wire.checks import MAX_NUMBER, MAX_VIEWERS, NAME_CHARS
from server.worker.wire.expected import Expected

TEXT_CHARS = 1 << 16
MAX_SIDE, MAX_FPS, MAX_FRAMES, MAX_STATE_BYTES = 1 << 14, 1000, 1 << 16, 1 << 34
MAX_TIMINGS = 64
MAX_RUNG = 9
MAX_S = 1e9

_EXPECTED = Expected("worker reports")
_require = _EXPECTED.require


def check_ready(ready: WorkerReady) -> None:
    """Raises InvalidInput."""
    for name in ("model", "backend", "fingerprint", "instance"):
        text = getattr(ready, name)
        _require(len(text) <= 256 and text.isprintable(), name)
    _require(1 <= ready.height <= MAX_SIDE, "height")
    _require(1 <= ready.width <= MAX_SIDE, "width")
    _require(1 <= ready.fps <= MAX_FPS, "fps")
    _require(1 <= ready.frames_per_segment <= MAX_FRAMES, "frames_per_segment")
    _require(0 <= ready.start_frames <= MAX_FRAMES, "start_frames")
    _require(0 <= ready.state_bytes <= MAX_STATE_BYTES, "state_bytes")
    _require(0 <= ready.max_sessions <= MAX_VIEWERS, "max_sessions")
    _require(0 <= ready.segment_ms <= 1000 * MAX_S, "segment_ms")
    _require(0 <= ready.idle_share <= 1, "idle_share")
    _require(ready.bitrate_bps is None or ready.bitrate_bps > 0, "bitrate_bps")
    for action in ready.actions:
        _short(action, "actions")


def check_event(event: Event) -> None:
    """Raises InvalidInput."""
    session = session_of(event)
    if session is not None:
        _require(SESSION_ID.fullmatch(session) is not None, "session")
    match event:
        case Packet():
            _require(event.codec in CODECS, "codec")
            _require(0 <= event.rung <= MAX_RUNG, "rung")
            _numbers(event, "epoch", "segment", "frame", "pts_90k")
        case SegmentStats():
            _stats(event)
        case Stalled(stall=stall):
            _stall(stall)
        case Receipt():
            _receipt(event)
        case Applied(receipt):
            _receipt(receipt)
            _numbers(event, "pts_90k")
        case Answered(receipt=receipt):
            _receipt(receipt)
            _require(receipt.session == session, "receipt")
        case SessionInfo():
            _info(event)
        case SessionClosed():
            _reason(event.code, event.message)
            _require(event.retry_after_s is None or 0 <= event.retry_after_s <= 86_400, "retry_after_s")
            _require(event.field is None or event.field.isprintable(), "field")
            _require(0 <= event.epoch <= CLOSED, "epoch")
        case Exported():
            _short(event.request, "request")
            _reason(event.code, event.message)
            _require(-1 <= event.segment < MAX_NUMBER, "segment")
            _require(0 <= event.remaining_s <= MAX_S, "remaining_s")
            _numbers(event, "end_90k")
        case Capacity():
            _numbers(event, "sessions", "open", "taken")
            _require(event.load >= 0, "load")
        case CodecMeasured():
            _require(event.share is None or event.share >= 0, "share")
            _text(event.message, "message")
        case Hung():
            _require(event.for_s is None or 0 <= event.for_s <= MAX_S, "for_s")
        case Claimed():
            _require(0 <= event.epoch <= CLOSED, "epoch")
            _require(-1 <= event.segment < MAX_NUMBER, "segment")
            _numbers(event, "frame", "media_90k")
            if event.info is not None:
                _info(event.info)
                _require(event.info.id == session, "info")
        case Watched():
            _require(0 <= event.epoch <= CLOSED, "epoch")
            _info(event.info)
            _require(event.info.id == session, "info")
        case Orphaned() | Fenced():
            _require(0 <= event.epoch <= CLOSED, "epoch")
        case Moved():
            _require(0 <= event.epoch <= CLOSED, "epoch")
            _require(-1 <= event.segment < MAX_NUMBER, "segment")
        case Submitted(control=control):
            _short(control.id, "control")
        case OtherViewers():
            _require(0 <= event.count <= MAX_VIEWERS, "count")
        case WorkerLost():
            _text(event.message, "message")


def _stats(stats: SegmentStats) -> None:
    _numbers(stats, "epoch", "segment", "frame", "late_total", "dropped_frames_total", "state_bytes")
    _numbers(stats, "pts_90k")
    _require(stats.encode_ms >= 0, "encode_ms")
    _require(0 < stats.rate <= MAX_FPS, "rate")
    _require(stats.speed >= 0, "speed")
    _require(len(stats.timings_ms) <= MAX_TIMINGS, "timings_ms")
    _require(all(0 <= ms <= 1000 * MAX_S for ms in stats.timings_ms.values()), "timings_ms")


def _stall(stall: Stall | None) -> None:
    if stall is not None:
        _require(stall.speed >= 0 and stall.rate >= 0 and stall.resumes_in_s >= 0, "stall")


def _receipt(receipt: Receipt) -> None:
    _short(receipt.id, "id")
    _reason(receipt.code, receipt.message)
    for name in ("segment", "frame"):
        number = getattr(receipt, name)
        _require(number is None or 0 <= number < MAX_NUMBER, name)


def _info(info: SessionInfo) -> None:
    _numbers(info, "seed", "epoch", "segment", "frame", "state_bytes", "viewers", "past_bytes")
    _text(info.prompt, "prompt")
    _stall(info.buffering)
    for action in (*info.actions, *([] if info.action is None else [info.action])):
        _short(action, "action")
    _require(all(0 <= frame < MAX_NUMBER for frame in info.lost_frames), "lost_frames")


def _reason(code: str | None, message: str | None) -> None:
    if code is not None:
        _short(code, "code")
    _text(message or "", "message")


def _numbers(event: object, *names: str) -> None:
    for name in names:
        _require(0 <= getattr(event, name) < MAX_NUMBER, name)


def _short(text: str, field: str) -> None:
    _EXPECTED.text(text, NAME_CHARS, field)


def _text(text: str, field: str) -> None:
    _require(len(text) <= TEXT_CHARS, field)
