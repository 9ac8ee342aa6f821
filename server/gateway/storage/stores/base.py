"""What a store of sessions does, wherever it is: it keeps bytes under names, for a while."""

from __future__ import annotations

import re
from typing import Protocol

from engine.errors import Unavailable
from server.worker.base import SESSION_ID

NAME = re.compile(f"(sessions|gateways)/{SESSION_ID.pattern}")
TIMEOUT_S = 10.0  # of one operation, and more for large ones: see patience_s
SLOW_BYTES_PER_S = 5e6
MAX_BYTES = 512 << 20  # larger ones are not read


def patience_s(size: int) -> float:
    """How long to wait for an operation that moves this many bytes."""
    return TIMEOUT_S + size / SLOW_BYTES_PER_S


class StoreFailed(Unavailable):
    """The store is away, or refused what it was asked for. Its message has no password."""


class SessionStore(Protocol):
    """Names match NAME. Every method but `close` raises StoreFailed; nothing blocks the event loop."""

    async def get(self, name: str) -> bytes | None: ...

    async def put(self, name: str, data: bytes) -> None:
        """Readers see the old bytes or the new ones, never a part."""
        ...

    async def delete(self, name: str) -> None:
        """Idempotent."""
        ...

    async def names(self, folder: str) -> list[str]:
        """All names in `sessions` or `gateways`, without it."""
        ...

    async def swap(self, name: str, old: bytes | None, new: bytes) -> bool:
        """Replace the bytes if they are `old` (None: there are none), atomically among all gateways. Returns
        whether they were. For short ones."""
        ...

    async def expire(self, keep_s: float) -> None:
        """Delete sessions that were put longer ago than this."""
        ...

    async def close(self) -> None: ...
