"""Decodes clients' pictures in a separate process, with limits on memory and time.

A decoder holds the GIL for up to seconds, and a small file can be made very expensive to decode. The process
starts with the first picture and is replaced when a picture kills it or takes too long.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import multiprocessing
import threading
from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
from pebble import ProcessExpired, ProcessPool

from engine.clips import check_clip
from engine.errors import InvalidInput, Unavailable
from engine.images import check_size, decode_image
from engine.types import ByteArray
from server.http.pictures.child import decode_clip, limit
from server.http.problems import Busy

DECODE_S = 3.0  # one picture; the largest that is allowed takes a few tenths of a second
WAIT_S = 60.0  # for the process to start, which takes long on a busy machine, and the pictures before it
MOST_WAITING = 8  # pictures of all sessions, including the one being decoded
MEMORY_BYTES = 512 * 2**20  # in addition to what the process has at its start


class Pictures:
    """Thread-safe. `close` is idempotent. `decode` takes (data, width, height, and what else its caller
    gives), and runs in the process; `check` looks at the data before."""

    def __init__(
        self,
        decode: Callable[..., ByteArray] = decode_image,
        *,
        check: Callable[[bytes], None] = check_size,
        decode_s: float = DECODE_S,
        wait_s: float = WAIT_S,
        memory_bytes: int = MEMORY_BYTES,
    ) -> None:
        self.decode_s, self._wait_s = decode_s, wait_s
        self._decode, self._check = decode, check
        self._memory_bytes = memory_bytes
        self._pool: ProcessPool | None = None
        self._sessions: set[str] = set()
        self._one = threading.Lock()  # looks at these two and changes them
        self._closed = False

    def decode(self, session: str, width: int, height: int, data: bytes, *more: int) -> ByteArray:
        """(3, height, width) uint8, of a picture. It blocks, so do not call it on the event loop. Each
        `session` may have one picture being decoded. Raises InvalidInput, Busy, Unavailable."""
        self._check(data)
        with self._place(session):
            future = self._running().schedule(
                self._decode, args=(data, width, height, *more), timeout=self.decode_s
            )
            try:
                pixels = future.result(timeout=self._wait_s)
            except InvalidInput:
                raise
            except (concurrent.futures.TimeoutError, ProcessExpired, MemoryError):
                if not future.done():
                    future.cancel()  # type: ignore[no-untyped-call]
                    raise Busy("no picture can be decoded now: try again in a moment") from None
                raise InvalidInput("the picture takes too long to decode: send a smaller one") from None
            except (concurrent.futures.CancelledError, RuntimeError):  # the pool itself was shut down
                if self._closed:
                    raise Unavailable("the server is stopping") from None
                raise InvalidInput("the picture could not be decoded: send a smaller one") from None
            return np.asarray(pixels, np.uint8)

    def close(self) -> None:
        self._closed = True
        pool, self._pool = self._pool, None
        if pool is not None:
            pool.stop()  # type: ignore[no-untyped-call]
            pool.join()

    @contextlib.contextmanager
    def _place(self, session: str) -> Iterator[None]:
        with self._one:
            if session in self._sessions:
                raise Busy("another picture of this session is being decoded: send the next one after that")
            if len(self._sessions) >= MOST_WAITING:
                raise Busy("many pictures are being decoded: try again in a moment")
            self._sessions.add(session)
        try:
            yield
        finally:
            self._sessions.discard(session)

    def _running(self) -> ProcessPool:
        with self._one:
            # the pool is broken if its process cannot even start
            if self._pool is None or not self._pool.active:
                self._pool = ProcessPool(
                    max_workers=1,
                    max_tasks=100,
                    initializer=partial(limit, self._memory_bytes),
                    context=multiprocessing.get_context("spawn"),
                )
            return self._pool


CLIP_S = 10.0  # to decode a clip


def clips_of_strangers() -> Pictures:
    """The same for short clips, of which the frames that a video can start from are taken."""
    return Pictures(decode_clip, check=check_clip, decode_s=CLIP_S, memory_bytes=2 * MEMORY_BYTES)
