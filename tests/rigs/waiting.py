"""Waiting for a condition: as long as a slow machine needs, and no longer."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

Found = TypeVar("Found")

LONG_S = 90.0  # only a failure takes so long


async def until(true: Callable[[], Any], what: str, within_s: float = LONG_S) -> None:
    """Wait for a condition on the event loop; `what` names it in the failure message."""

    async def found() -> Any:
        return true()

    await until_found(found, bool, what, within_s, every_s=0.005)


async def until_found(
    find: Callable[[], Awaitable[Found]],
    good: Callable[[Found], Any],
    what: str,
    within_s: float = LONG_S,
    every_s: float = 0.1,
) -> None:
    """Wait until what is found is good. The failure message says what was found last."""
    found: Found | None = None
    try:
        async with asyncio.timeout(within_s):
            while not good(found := await find()):  # noqa: ASYNC110
                await asyncio.sleep(every_s)
    except TimeoutError:
        raise AssertionError(f"in {within_s} s there was no {what}: at last {found!r}") from None
