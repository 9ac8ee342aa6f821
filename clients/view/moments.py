"""A session's moments over HTTP: save one as a file, go on from one in a session of one's own, fork.

It speaks the wire protocol only; what fails is a ViewError of one line.
"""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

import httpx

from clients.http import ProxyUnusable, http_client
from clients.refusal import refusal
from clients.whep import HTTP_TIMEOUT_S, Target, ViewError

FILE = "application/octet-stream"


def check_file(path: Path) -> Path:
    """Where a moment is to be saved; better told before the video than after it. Raises ViewError."""
    if path.is_dir() or not path.parent.is_dir():
        raise ViewError(f"--save: {path} cannot be written: is there a folder {path.parent}?")
    return path


async def restored(target: Target, path: Path) -> Target:
    """A new session that goes on from this file."""
    try:
        content = await asyncio.to_thread(path.read_bytes)
    except OSError as error:
        raise ViewError(f"--from: {path} cannot be read: {error.strerror}") from None
    return await _opened(target, "v1/sessions", content=content, headers={"Content-Type": FILE})


async def forked(target: Target, rewind_s: float) -> Target:
    """A new session that shares the past of the target's up to `rewind_s` ago."""
    return await _opened(target, f"{target.path}/fork", json={"rewind_s": rewind_s} if rewind_s else {})


async def save(target: Target, path: Path) -> int:
    """What is on the screen now, into this file; its bytes."""
    answer = await _ask(target, "GET", f"{target.path}/snapshot")
    try:
        return await asyncio.to_thread(path.write_bytes, answer.content)
    except OSError as error:
        raise ViewError(f"--save: {path} cannot be written: {error.strerror}") from None


async def close(target: Target) -> None:
    """End a session that was opened here; if it is over, all the better."""
    with contextlib.suppress(ViewError):
        await _ask(target, "DELETE", target.path)


async def _opened(target: Target, path: str, **request: object) -> Target:
    answer = await _ask(target, "POST", path, **request)
    try:
        told = answer.json()
        return Target(target.base, str(told["id"]), told.get("token"))
    except (ValueError, KeyError, AttributeError):
        raise ViewError(f"{target.base} answered, but with no session: is it a psistream server?") from None


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
            f"cannot reach {target.base}: is `psistream serve` running there? ({error})"
        ) from error
    if not answer.is_success:
        raise ViewError(refusal(answer, target.base, target.session))
    return answer
