"""Sessions in a folder, which may be on a network. Only its owner may read it: modes 0700 and 0600."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from server.gateway.storage.stores.base import MAX_BYTES, NAME, TIMEOUT_S, StoreFailed, patience_s

log = logging.getLogger(__name__)
T = TypeVar("T")
TEMPORARY = ".new"


class FileStore:
    """`folder` is made if there is none."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def get(self, name: str) -> bytes | None:
        return await self._run(lambda: self._read(name), patience_s(MAX_BYTES))

    async def put(self, name: str, data: bytes) -> None:
        await self._run(lambda: self._write(name, data), patience_s(len(data)))

    async def delete(self, name: str) -> None:
        await self._run(lambda: self._path(name).unlink(missing_ok=True))

    async def names(self, folder: str) -> list[str]:
        def look() -> list[str]:  # who only looks makes no folders
            with contextlib.suppress(FileNotFoundError):
                return sorted(path.name for path in self._files(folder) if not path.name.endswith(TEMPORARY))
            return []

        return await self._run(look)

    async def swap(self, name: str, old: bytes | None, new: bytes) -> bool:
        def change() -> bool:
            with self._alone():
                if self._read(name) != old:
                    return False
                self._write(name, new)
                return True

        return await self._run(change)

    async def expire(self, keep_s: float) -> None:
        def sweep() -> None:
            self._make()
            oldest = time.time() - keep_s
            for path in self._files("sessions"):
                with contextlib.suppress(FileNotFoundError):
                    if path.stat().st_mtime < oldest:
                        path.unlink()

        await self._run(sweep)

    async def close(self) -> None:
        pass

    async def _run(self, work: Callable[[], T], within_s: float = TIMEOUT_S) -> T:
        try:
            async with asyncio.timeout(within_s):
                return await asyncio.to_thread(work)
        except TimeoutError:
            raise StoreFailed(f"{self._folder} did not answer within {within_s:.0f} s") from None
        except OSError as error:
            raise StoreFailed(f"{self._folder}: {error.strerror or error}") from None

    def _path(self, name: str) -> Path:
        assert NAME.fullmatch(name), name
        return self._folder / name

    def _files(self, folder: str) -> Iterator[Path]:
        """What psistream wrote here, complete or not. What else there is in the folder is left alone."""
        for path in (self._folder / folder).iterdir():
            if NAME.fullmatch(f"{folder}/{path.name.removesuffix(TEMPORARY)}") and path.is_file():
                yield path

    def _make(self) -> None:
        for folder in (self._folder, self._folder / "sessions", self._folder / "gateways"):
            if not folder.is_dir():
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def _read(self, name: str) -> bytes | None:
        try:
            with self._path(name).open("rb") as file:
                return file.read(MAX_BYTES)
        except FileNotFoundError:
            return None

    def _write(self, name: str, data: bytes) -> None:
        self._make()
        path = self._path(name)
        new = path.with_name(path.name + TEMPORARY)
        new.unlink(missing_ok=True)  # of a gateway that was killed
        try:
            with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            new.replace(path)
        except BaseException:  # on a full disk it would take what is left
            new.unlink(missing_ok=True)
            raise

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """No other gateway changes anything meanwhile."""
        self._make()
        with os.fdopen(os.open(self._folder / "lock", os.O_WRONLY | os.O_CREAT, 0o600), "wb") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield
