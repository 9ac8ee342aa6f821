"""Sessions as objects in a bucket of S3, or of what speaks its protocol.

The account and its region come from the usual variables: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION
and AWS_ENDPOINT_URL.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Awaitable
from datetime import timedelta
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import urlsplit

from engine.errors import Unavailable
from server.gateway.storage.stores.base import MAX_BYTES, NAME, TIMEOUT_S, StoreFailed, patience_s
from server.gateway.storage.stores.s3_faults import fault_of, is_missing
from server.storage import StorageConfig

if TYPE_CHECKING:
    from obstore.store import ObjectStore

T = TypeVar("T")
ENDPOINTS = "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"  # the client's order


def s3_store(config: StorageConfig) -> ObjectsStore:
    """Raises Unavailable if the client is not installed, or a variable of the account has no right form."""
    try:
        from obstore.exceptions import BaseError
        from obstore.store import S3Store
    except ImportError:
        raise Unavailable("--snapshots s3:// needs a client: pip install 'psistream[snapshots]'") from None
    parts = urlsplit(config.url)
    endpoint = next((url for name in ENDPOINTS if (url := os.environ.get(name))), "")
    if endpoint and not endpoint.startswith(("http://", "https://")):
        raise Unavailable(f"--snapshots {config.shown}: AWS_ENDPOINT_URL must start with http:// or https://")
    try:
        store = S3Store(
            parts.netloc,
            prefix=parts.path.strip("/") or None,
            client_options={"timeout": timedelta(seconds=patience_s(MAX_BYTES)), "allow_http": True},
            retry_config={"max_retries": 2, "retry_timeout": timedelta(seconds=TIMEOUT_S)},
        )
    except (BaseError, ValueError) as error:
        raise Unavailable(f"--snapshots {config.shown}: {str(error)[:200]}") from None
    return ObjectsStore(store, config.shown, endpoint)


class ObjectsStore:
    """`shown` is its name in messages, and `endpoint` where its server is; empty: Amazon's."""

    def __init__(self, store: ObjectStore, shown: str, endpoint: str = "") -> None:
        import obstore

        self._store, self._shown, self._endpoint, self._obs = store, shown, endpoint, obstore

    async def get(self, name: str) -> bytes | None:
        found = await self._found(name)
        return found[0] if found is not None else None

    async def put(self, name: str, data: bytes) -> None:
        put = self._obs.put_async(self._store, _path(name), data, use_multipart=False)
        await self._run(put, len(data))

    async def delete(self, name: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            await self._run(self._obs.delete_async(self._store, _path(name)))

    async def names(self, folder: str) -> list[str]:
        return sorted(name.partition("/")[2] for name, _ in await self._listed(folder))

    async def swap(self, name: str, old: bytes | None, new: bytes) -> bool:
        from obstore.exceptions import AlreadyExistsError, PreconditionError

        found = await self._found(name)
        if (found[0] if found else None) != old:
            return False
        version = {"e_tag": found[1], "version": found[2]} if found else {}
        mode = {name: text for name, text in version.items() if text is not None} or "create"
        try:
            await self._run(
                self._obs.put_async(self._store, _path(name), new, mode=mode, use_multipart=False)  # type: ignore[arg-type]
            )
        except (AlreadyExistsError, PreconditionError, FileNotFoundError):  # the last: deleted meanwhile
            return False
        return True

    async def expire(self, keep_s: float) -> None:
        oldest = time.time() - keep_s
        for name, at in await self._listed("sessions"):
            if at < oldest:
                await self.delete(name)

    async def close(self) -> None:
        pass

    async def _found(self, name: str) -> tuple[bytes, str | None, str | None] | None:
        try:
            result = await self._run(self._obs.get_async(self._store, _path(name)))
            if result.meta["size"] > MAX_BYTES:
                return None
            data = bytes(await self._run(result.bytes_async(), result.meta["size"]))
        except FileNotFoundError:
            return None
        return data, result.meta["e_tag"], result.meta["version"]

    async def _listed(self, folder: str) -> list[tuple[str, float]]:
        found: list[tuple[str, float]] = []
        pages = self._obs.list(self._store, folder).__aiter__()
        while (page := await self._run(anext(pages, None))) is not None:
            found += [(meta["path"], meta["last_modified"].timestamp()) for meta in page]
        return [(name, at) for name, at in found if NAME.fullmatch(name)]

    async def _run(self, work: Awaitable[T], size: int = 0) -> T:
        """`size` is the number of bytes that it moves. Raises StoreFailed, FileNotFoundError,
        AlreadyExistsError, PreconditionError."""
        from obstore.exceptions import AlreadyExistsError, BaseError, PreconditionError

        within_s = patience_s(size)
        try:
            async with asyncio.timeout(within_s):
                return await work
        except TimeoutError:
            text = f"no answer within {within_s:.0f} s"
        except (AlreadyExistsError, PreconditionError):
            raise
        except (BaseError, OSError) as error:
            if isinstance(error, FileNotFoundError) and is_missing(str(error)):
                raise
            text = fault_of(str(error) or type(error).__name__, self._endpoint)
        raise StoreFailed(f"{self._shown}: {text}")


def _path(name: str) -> str:
    assert NAME.fullmatch(name), name
    return name
