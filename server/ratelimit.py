"""Token buckets that limit how often a sender may do something. They have no clock: callers pass the time."""

from __future__ import annotations

from collections import OrderedDict

MAX_NAMES = 4096


class TokenBucket:
    """`burst` messages at once, then `rate_hz` per second."""

    def __init__(self, rate_hz: float, burst: int, now_s: float) -> None:
        self._rate_hz = rate_hz
        self._burst = burst
        self._tokens = float(burst)
        self._then_s = now_s

    def allow(self, now_s: float) -> bool:
        """Take a token. Returns False if there is none."""
        if self.wait_s(now_s) > 0:
            return False
        self._tokens -= 1.0
        return True

    def wait_s(self, now_s: float) -> float:
        """Seconds until a token is available. Takes none."""
        self._tokens = min(self._burst, self._tokens + max(0.0, now_s - self._then_s) * self._rate_hz)
        self._then_s = now_s
        return 0.0 if self._tokens >= 1.0 else (1.0 - self._tokens) / self._rate_hz


class TokenBuckets:
    """One token bucket per name. Beyond MAX_NAMES the least recently used name is forgotten."""

    def __init__(self, rate_hz: float, burst: int) -> None:
        self._rate_hz, self._burst = rate_hz, burst
        self._buckets: OrderedDict[str, TokenBucket] = OrderedDict()

    def __len__(self) -> int:
        return len(self._buckets)

    def bucket(self, name: str, now_s: float) -> TokenBucket:
        bucket = self._buckets.get(name)
        if bucket is None:
            bucket = self._buckets[name] = TokenBucket(self._rate_hz, self._burst, now_s)
            if len(self._buckets) > MAX_NAMES:
                self._buckets.popitem(last=False)
        self._buckets.move_to_end(name)
        return bucket


class LayeredLimit:
    """Rate limits of an expensive operation: per token, per session, per address and in total.

    A request takes from all four or from none, so a client that exceeds its own limit takes nothing from
    others. Each limit must be larger than the one before, so that one token cannot use up the limit of its
    address."""

    def __init__(
        self,
        token: tuple[float, int],
        session: tuple[float, int],
        address: tuple[float, int],
        total: tuple[float, int],
    ) -> None:
        self._limits = tuple(
            TokenBuckets(rate_hz, burst) for rate_hz, burst in (token, session, address, total)
        )

    def wait_s(self, token: str, session: str, address: str, now_s: float) -> float:
        """0 if the request is allowed, which is then counted; otherwise the seconds until it will be. An
        empty name has no limit."""
        names = (token, session, address, "all")
        buckets = [s.bucket(n, now_s) for s, n in zip(self._limits, names, strict=True) if n]
        wait_s = max(bucket.wait_s(now_s) for bucket in buckets)
        if wait_s == 0:
            for bucket in buckets:
                bucket.allow(now_s)
        return wait_s
