"""Whether two words differ by a single typo."""

from __future__ import annotations


def one_slip(a: str, b: str) -> bool:
    """Whether b is a with one letter missing, added or replaced, or with two neighbours swapped."""
    if abs(len(a) - len(b)) > 1 or a == b:
        return False
    start = next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
    rest, other = a[start:], b[start:]
    swapped = rest[1::-1] + rest[2:] == other and len(rest) > 1
    return rest[1:] == other or rest == other[1:] or rest[1:] == other[1:] or swapped


def swapped(a: str, b: str) -> bool:
    """Whether b is a with two neighbours swapped."""
    return len(a) == len(b) and sorted(a) == sorted(b) and one_slip(a, b)
