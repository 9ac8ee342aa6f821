"""Sessions in Redis, or in what speaks its protocol. Redis itself forgets them when their time is over."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable
from typing import Any, TypeVar, cast

from engine.errors import InvalidInput, Unavailable
from server.gateway.storage.stores.base import NAME, TIMEOUT_S, StoreFailed
from server.storage import StorageConfig

T = TypeVar("T")
PREFIX = "psistream:"
SWAP = """
local found = redis.call('GET', KEYS[1])
if found == false then found = '' end
if found ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2])
return 1
"""


class RedisStore:
    """Raises Unavailable if the client is not installed, InvalidInput for options that it doesn't have."""

    def __init__(self, config: StorageConfig) -> None:
        try:
            from redis import asyncio as redis
            from redis.exceptions import RedisError
        except ImportError:
            raise Unavailable(
                "--snapshots redis:// needs the Redis client: pip install 'psistream[snapshots]'"
            ) from None
        self._shown, self._keep_s, self._errors = config.shown, round(config.keep_s), RedisError
        limits = {"socket_timeout": TIMEOUT_S, "socket_connect_timeout": TIMEOUT_S, "max_connections": 16}
        try:
            client: Any = redis.from_url(config.url, **limits)
            client.connection_pool.make_connection()
        except (ValueError, TypeError):  # it would be found with the first request, as a bug
            raise InvalidInput(
                f"--snapshots {config.shown}: what follows the ? is no option of the Redis client",
                field="snapshots",
            ) from None
        self._redis = client

    async def get(self, name: str) -> bytes | None:
        found = await self._run(self._redis.get(_key(name)))
        return cast(bytes, found) if found else None

    async def put(self, name: str, data: bytes) -> None:
        await self._run(self._redis.set(_key(name), data, ex=self._keep_s))

    async def delete(self, name: str) -> None:
        await self._run(self._redis.delete(_key(name)))

    async def names(self, folder: str) -> list[str]:
        async def look() -> list[str]:
            keys = self._redis.scan_iter(_key(folder) + "/*", count=1000)
            names = {key.decode(errors="replace").removeprefix(PREFIX) async for key in keys}
            return sorted(name.partition("/")[2] for name in names if NAME.fullmatch(name))

        return await self._run(look())

    async def swap(self, name: str, old: bytes | None, new: bytes) -> bool:
        return bool(await self._run(self._redis.eval(SWAP, 1, _key(name), old or b"", new)))

    async def expire(self, keep_s: float) -> None:
        pass  # Redis does

    async def close(self) -> None:
        with contextlib.suppress(self._errors, OSError):
            await self._redis.aclose()

    async def _run(self, work: Awaitable[T]) -> T:
        try:
            return await work
        except (self._errors, OSError, UnicodeError) as error:
            text = str(error)[:200] or type(error).__name__
            if "NOAUTH" in text or "already authenticated" in text:  # it says that of its HELLO
                text = "it asks for a password: write redis://:password@host:6379/0"
            raise StoreFailed(f"{self._shown}: {text}") from None


def _key(name: str) -> str:
    return PREFIX + name
