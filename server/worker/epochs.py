"""Lease epochs: of two copies of a session the one with the higher epoch is right.

Each claim raises the epoch by one. A copy that is made in another worker begins above all claims of the copy
that it continues: so they never meet, even if a gateway claims the older one afterwards, not knowing better.
Only where a network was divided may two workers have copies with the same epoch; then the worker with the
greater `instance` has the right one, which everybody sees alike. A session that has been closed for good has
the highest epoch of all, so every copy of it is older.
"""

from __future__ import annotations

CLAIMS = 1 << 16  # of one copy
CLOSED = 1 << 52  # the session has been closed for good


def rank(epoch: int, instance: str) -> tuple[int, str]:
    """Of two copies of a session the one with the higher rank is right."""
    return epoch, instance


def claimed(epoch: int) -> int:
    """The epoch of a copy that is claimed."""
    return epoch + 1


def same_copy(one: int, other: int) -> bool:
    """Whether these are epochs of one copy, which was claimed between them, if one worker has both."""
    return one // CLAIMS == other // CLAIMS


def copied(epoch: int) -> int:
    """The epoch of a session's next copy, in whichever worker."""
    return (epoch // CLAIMS + 1) * CLAIMS
