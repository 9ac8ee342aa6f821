"""The numbers under which clients know a session's epochs, segments and frames.

An engine counts from zero, wherever a session comes from. A worker that continues one adds the numbers that
it was told with RestoreSession, so everything that it says has clients' numbers, to whichever gateway it
says it. Pure: it has no clock and knows no sessions.
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from engine.types import Discarded, Receipt, RuntimeEvent, SegmentReady, SessionInfo
from server.worker.base import Numbers

SEGMENT_FIELDS = ("segments", "segment", "from", "screen")  # fields of a control log that count segments
NO_NUMBERS = Numbers()


def numbered(event: RuntimeEvent, first: Numbers) -> RuntimeEvent:
    """An event of the engine, as clients count. `first` are the first numbers of the session here."""
    if first is NO_NUMBERS:
        return event
    match event:
        case SegmentReady(epoch=epoch, segment=segment, first_frame=frame):
            return replace(
                event,
                epoch=epoch + first.epoch,
                segment=segment + first.segment,
                first_frame=frame + first.frame,
            )
        case Discarded(epoch=epoch, segment=segment):
            return replace(event, epoch=epoch + first.epoch, segment=segment + first.segment)
        case SessionInfo(epoch=epoch, segment=segment, frame=frame):
            return replace(
                event, epoch=epoch + first.epoch, segment=segment + first.segment, frame=frame + first.frame
            )
        case Receipt(segment=int(segment), frame=int(frame)):
            return replace(event, segment=segment + first.segment, frame=frame + first.frame)
        case _:
            return event


def numbered_log(data: bytes, first: Numbers) -> bytes:
    """A control log (docs/protocol.md has the format), as clients count. The field `before` says how many
    segments other workers generated."""
    if not first.segment:
        return data

    def shifted(row: dict[str, Any]) -> dict[str, Any]:
        return {
            name: value + first.segment if name in SEGMENT_FIELDS else value for name, value in row.items()
        }

    header, *lines = (json.loads(row) for row in data.splitlines())
    rows = [{**shifted(header), "before": first.segment}, *map(shifted, lines)]
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()
