"""Receipts and states as received. Malformed fields of a message count as absent."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast

Status = Literal["received", "applied", "rejected"]
How = Literal["recondition", "soft", "cut"]
When = Literal["next", "now"]


@dataclass(frozen=True)
class ControlReceipt:
    """An answer to one control. `segment` and `frame` are the first that show it, once it is applied. With
    `retry_after_s` it was refused for now, and the same control may be sent again after this time."""

    id: str
    status: Status
    segment: int | None = None
    frame: int | None = None
    code: str | None = None
    message: str | None = None
    field: str | None = None
    pts_90k: int | None = None  # data channel: media time of that frame in 1/90000 s
    retry_after_s: int | None = None

    @classmethod
    def read(cls, message: Mapping[str, Any]) -> ControlReceipt | None:
        """None if the message is not a receipt."""
        status = message.get("status")
        if status not in ("received", "applied", "rejected") or not isinstance(message.get("id"), str):
            return None
        return cls(
            id=message["id"],
            status=cast(Status, status),
            segment=_whole(message.get("segment")),
            frame=_whole(message.get("frame")),
            code=_text(message.get("code")),
            message=_text(message.get("message")),
            field=_text(message.get("field")),
            pts_90k=_whole(message.get("pts_90k")),
            retry_after_s=_whole(message.get("retry_after_s")),
        )


@dataclass(frozen=True)
class State:
    """The session's state as of the latest message."""

    prompt: str = ""
    seed: int | None = None
    paused: bool = False
    action: str | None = None
    epoch: int | None = None
    segment: int | None = None
    frame: int | None = None
    viewers: int | None = None
    stalled: bool = False  # the picture stalls until more video has been generated

    @classmethod
    def read(cls, message: Mapping[str, Any]) -> State:
        whole = {name: _whole(message.get(name)) for name in ("seed", "epoch", "segment", "frame", "viewers")}
        return cls(
            prompt=_text(message.get("prompt")) or "",
            paused=message.get("paused") is True,
            action=_text(message.get("action")),
            stalled=isinstance(message.get("buffering"), dict),
            **whole,
        )


def _whole(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None
