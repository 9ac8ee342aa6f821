"""Saved moments of a session over HTTP: save one as a file, continue from one in a private session, fork.

Speaks only the wire protocol. Failures are a ViewError.
"""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

import httpx

from clients.errors import ViewError
from clients.http import as_view_errors, http_client
from clients.refusal import judged, refusal
from clients.target import Target
from clients.whep import HTTP_TIMEOUT_S
from engine.errors import InvalidInput

FILE = "application/octet-stream"


async def restored(target: Target, path: Path) -> Target:
    """Open a session that continues from this file. Raises InvalidInput, ViewError."""
    try:
        content = await asyncio.to_thread(path.read_bytes)
    except OSError as error:
        raise InvalidInput(f"--from: cannot read {path}: {error.strerror}") from None
    return await _opened(target, "v1/sessions", content=content, headers={"Content-Type": FILE})


async def forked(target: Target, rewind_s: float) -> Target:
    """Open a session with the target's past up to `rewind_s` seconds ago. Raises ViewError."""
    return await _opened(target, f"{target.path}/fork", json={"rewind_s": rewind_s} if rewind_s else {})


async def save(target: Target, path: Path) -> int:
    """Save the moment that is on the screen now. Returns the number of bytes. Raises ViewError."""
    answer = await _ask(target, "GET", f"{target.path}/snapshot")
    try:
        return await asyncio.to_thread(path.write_bytes, answer.content)
    except OSError as error:
        raise ViewError(f"--save: cannot write {path}: {error.strerror}") from None


async def close(target: Target) -> None:
    """End a session that was opened here. It may have ended already."""
    with contextlib.suppress(ViewError):
        await _ask(target, "DELETE", target.path)


async def _opened(target: Target, path: str, **request: object) -> Target:
    answer = await _ask(target, "POST", path, **request)
    try:
        told = answer.json()
        return Target(target.base, str(told["id"]), told.get("token"))
    except (ValueError, KeyError, TypeError, AttributeError):
        raise ViewError(f"{target.base} answered without a session: is it a psistream server?") from None


async def _ask(target: Target, method: str, path: str, **request: object) -> httpx.Response:
    headers = {**target.headers, **(request.pop("headers", None) or {})}  # type: ignore[dict-item]
    with as_view_errors(target.base, HTTP_TIMEOUT_S):
        async with http_client(target.base, HTTP_TIMEOUT_S) as http:
            answer = await http.request(method, path, headers=headers, **request)  # type: ignore[arg-type]
    if not answer.is_success:
        refused = ViewError(refusal(answer, target.base, target.session))
        raise judged(refused, answer) if method == "POST" else refused  # the others come at the end
    return answer
