"""A token bucket: how many messages a sender may send. Pure: the caller brings the time."""

from __future__ import annotations


class TokenBucket:
    """`burst` messages at once, then `rate_hz` per second."""

    def __init__(self, rate_hz: float, burst: int, now_s: float) -> None:
        self._rate_hz = rate_hz
        self._burst = burst
        self._tokens = float(burst)
        self._then_s = now_s

    def allow(self, now_s: float) -> bool:
        self._tokens = min(self._burst, self._tokens + max(0.0, now_s - self._then_s) * self._rate_hz)
        self._then_s = now_s
        if self._tokens < 1.0:
            return False
        self._tokens -= 1.0
        return True
