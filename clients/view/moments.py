"""Saved moments of a session over HTTP: save one as a file, continue from one in a private session, fork.

Speaks only the wire protocol. Failures are a ViewError.
"""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

import httpx

from clients.command import check_output
from clients.errors import BadInput, ViewError
from clients.http import ProxyUnusable, cause, http_client
from clients.refusal import refusal
from clients.target import Target
from clients.whep import HTTP_TIMEOUT_S

FILE = "application/octet-stream"


def check_file(path: Path) -> Path:
    """Check, before the video starts, that a moment can be saved here. Raises BadInput."""
    return check_output(path, "--save")


async def restored(target: Target, path: Path) -> Target:
    """Open a session that continues from this file. Raises BadInput, ViewError."""
    try:
        content = await asyncio.to_thread(path.read_bytes)
    except OSError as error:
        raise BadInput(f"--from: cannot read {path}: {error.strerror}") from None
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
    except (ValueError, KeyError, AttributeError):
        raise ViewError(f"{target.base} answered without a session: is it a psistream server?") from None


async def _ask(target: Target, method: str, path: str, **request: object) -> httpx.Response:
    headers = {**target.headers, **(request.pop("headers", None) or {})}  # type: ignore[dict-item]
    try:
        async with http_client(target.base, HTTP_TIMEOUT_S) as http:
            answer = await http.request(method, path, headers=headers, **request)  # type: ignore[arg-type]
    except ProxyUnusable as error:
        raise ViewError(str(error)) from None
    except httpx.TimeoutException as error:
        raise ViewError(f"{target.base} did not answer in {HTTP_TIMEOUT_S:g} s") from error
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise ViewError(
            f"cannot reach {target.base}: is `psistream serve` running there? ({cause(target.base, error)})"
        ) from error
    if not answer.is_success:
        raise ViewError(refusal(answer, target.base, target.session))
    return answer
