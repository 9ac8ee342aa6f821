"""From what readers saw to rows of a table. Pure: no clocks, no connections."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from benchmarks.chaos.prompter import SentPrompt
from benchmarks.report import percentile
from benchmarks.server.reader import Seen

MOVED_S = 1.0  # a session that showed nothing for so long was concerned, even if it stayed where it was


@dataclass
class FaultRecord:
    """One fault. Times from time.perf_counter(); `over_s` is when all sessions showed a picture again, or the
    patience ended."""

    kind: str
    victim: str
    struck_s: float
    over_s: float
    noticed_s: float | None
    gaps_s: list[float] = field(default_factory=list)  # of the sessions that it concerned
    missed: int = 0  # frames that were due in those gaps
    repeated: int = 0
    backwards: int = 0
    without: int = 0  # sessions that showed no picture again


def concerned(seen: Seen, record: FaultRecord, *, everybody: bool) -> float | None:
    """The longest time without a frame, in seconds. None if the fault did not concern this session."""
    gap_s = seen.longest_gap_s(record.struck_s, record.over_s)
    before = max((m["epoch"] for at, m in seen.segments if at < record.struck_s), default=0)
    after = max(seen.epochs(record.struck_s, record.over_s), default=before)
    return gap_s if everybody or after > before or gap_s > MOVED_S else None


def add(record: FaultRecord, seen: Seen, fps: int, *, everybody: bool) -> None:
    """Add what one reader saw. A move without a gap counts too: that is what a drain is about."""
    gap_s = concerned(seen, record, everybody=everybody)
    if gap_s is not None:
        record.gaps_s.append(gap_s)
        record.missed += max(0, round(gap_s * fps) - 1)
    if record.noticed_s is None:
        record.noticed_s = min(
            (at for at in seen.lost_s if record.struck_s < at < record.over_s), default=None
        )
    record.repeated += seen.repeated(record.struck_s, record.over_s)
    record.backwards += seen.backwards(record.struck_s, record.over_s)


def rows(records: Sequence[FaultRecord]) -> list[dict[str, Any]]:
    """One row for each kind of fault, in the order of their first."""
    table = []
    for kind in dict.fromkeys(record.kind for record in records):
        some = [record for record in records if record.kind == kind]
        gaps = [gap for record in some for gap in record.gaps_s]
        noticed = [r.noticed_s - r.struck_s for r in some if r.noticed_s is not None]
        table.append(
            {
                "fault": kind,
                "n": len(some),
                "noticed s": _two(noticed, 0.5),
                "sessions": len(gaps),
                "gap p50 s": _two(gaps, 0.5),
                "p95": _two(gaps, 0.95),
                "worst": _two(gaps, 1.0),
                "not back": sum(r.without for r in some),
                "missed frames": sum(r.missed for r in some),
                "shown twice": sum(r.repeated for r in some),
                "times back": sum(r.backwards for r in some),
            }
        )
    return table


def prompt_figures(prompts: Sequence[SentPrompt], answers: Sequence[Seen]) -> dict[str, tuple[float, str]]:
    """Of the prompts of all sessions."""
    final = [p for p in prompts if p.settled_s is not None]
    applied = [p for p in final if p.status == "applied"]
    waits = [1000 * ((p.settled_s or 0.0) - p.sent_s) for p in applied]
    twice = sum(len(messages) > 1 for seen in answers for messages in seen.answers.values())
    of = f"of {len(prompts)}"
    figures: dict[str, tuple[float, str]] = {
        "prompts without a final receipt": (len(prompts) - len(final), of),
        "prompts rejected": (len(final) - len(applied), of),
        "prompts applied, but not in effect": (sum(not p.in_effect for p in applied), of),
        "final receipts that came twice": (twice, of),
    }
    if waits:
        figures["sent to applied, p50"] = (round(percentile(waits, 0.5), 1), "ms")
        figures["sent to applied, worst"] = (round(max(waits), 1), "ms")
    return figures


def _two(values: Sequence[float], share: float) -> float | None:
    return round(percentile(values, share), 2) if values else None
