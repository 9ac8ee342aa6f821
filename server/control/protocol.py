"""Converts receipts, errors and events to the JSON of all channels. engine.wire parses what clients send.

docs/protocol.md documents it, and a test compares the two.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from engine.types import Receipt, SessionClosed, SessionInfo
from engine.wire.strict_json import finite
from server.control.base import SessionEvent
from server.worker.messages.events import SegmentStats


def receipt_json(
    receipt: Receipt,
    *,
    field: str | None = None,
    pts_90k: int | None = None,
    retry_after_s: int | None = None,
) -> dict[str, Any]:
    """`field` is the invalid field of a rejected control, `pts_90k` the time of the first frame that shows
    the control's effect. With `retry_after_s` a rejected control may be sent again, with the same id."""
    message: dict[str, Any] = {"type": "receipt", **asdict(receipt)}
    if field is not None:
        message["field"] = field
    if pts_90k is not None:
        message["pts_90k"] = pts_90k
    if retry_after_s is not None:
        message["retry_after_s"] = retry_after_s
    return message


def error_json(
    code: str, text: str, *, field: str | None = None, retry_after_s: int | None = None
) -> dict[str, Any]:
    message: dict[str, Any] = {"type": "error", "code": code, "message": text, "field": field}
    return message if retry_after_s is None else {**message, "retry_after_s": retry_after_s}


def event_json(event: SessionEvent, *, pts_90k: int | None = None) -> dict[str, Any]:
    """Any event that a Steering listener receives."""
    match event:
        case Receipt():
            return receipt_json(event, pts_90k=pts_90k)
        case SegmentStats():
            return {"type": "segment", **finite(asdict(event))}
        case SessionInfo():
            return {"type": "session", **finite(asdict(event))}
        case SessionClosed(session, code, message):
            lost = {"lost_frames": event.lost_frames} if event.lost_frames else {}
            return {"type": "closed", "session": session, "code": code, "message": message, **lost}
