"""Waiting for a condition: as long as a slow machine needs, and no longer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

LONG_S = 90.0  # only a failure takes so long


async def until(true: Callable[[], Any], what: str, within_s: float = LONG_S) -> None:
    """Wait for a condition on the event loop; `what` names it in the failure message."""
    try:
        async with asyncio.timeout(within_s):
            while not true():  # noqa: ASYNC110
                await asyncio.sleep(0.005)
    except TimeoutError:
        raise AssertionError(f"in {within_s} s there was no {what}") from None
