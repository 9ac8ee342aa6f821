"""Limits how much clients can make the server log: repeated entries are counted, not written."""

from __future__ import annotations

import logging
import time
from collections import OrderedDict
from collections.abc import Callable

PERIOD_S = 60.0
FULL = 5  # entries of one kind written per period
MAX_KINDS = 4096
MEMBER = "member"


def about(member: str) -> dict[str, object]:
    """For `extra` of an entry about this worker, gateway or host: others' entries don't suppress it."""
    return {MEMBER: member}


class FloodFilter(logging.Filter):
    """Writes the first FULL entries of each kind per period and suppresses the rest; the first entry of the
    next period says how many. A kind is one logging call, the type of its exception, and the member of the
    cluster that it is about (`extra=about(name)`), since there are only so many of them. A traceback is
    written only once per period."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._seen: OrderedDict[tuple[object, ...], tuple[float, int]] = OrderedDict()

    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[0] if record.exc_info else None
        kind = (record.name, record.pathname, record.lineno, error, getattr(record, MEMBER, None))
        now_s = self._clock()
        since_s, count = self._seen.pop(kind, (now_s, 0))
        left_out = 0
        if now_s - since_s >= PERIOD_S:
            since_s, count, left_out = now_s, 0, max(0, count - FULL)
        self._seen[kind] = since_s, count + 1
        if len(self._seen) > MAX_KINDS:
            self._seen.popitem(last=False)
        if count >= FULL:
            return False
        if count and record.exc_info:
            record.exc_info = record.exc_text = None
            record.msg = f"{record.msg} ({error.__name__ if error else 'error'} again)"
        if left_out:
            record.msg = f"{record.msg} ({left_out} similar entries were suppressed)"
        return True
