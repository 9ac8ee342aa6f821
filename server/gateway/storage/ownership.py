"""One gateway at a time has a name in a store, since it resumes the sessions saved under that name.

The gateway writes its mark there, and again every few seconds. Another one may take the name if the process
of the mark has ended, which only this machine can know, or if the mark has not changed for a while. A gateway
that takes over what another one has left has that one's name for as long as this takes.
"""

from __future__ import annotations

import asyncio
import json
import os
import secrets
from pathlib import Path

from engine.errors import Unavailable
from server.gateway.storage.stores.base import SessionStore

BEAT_S, STALE_S, LOOK_S = 5.0, 16.0, 1.0
NOBODY = b"{}"


class Ownership:
    """`by` is another gateway, which takes over what `gateway` has left."""

    def __init__(self, store: SessionStore, gateway: str, by: str = "") -> None:
        self._store, self._gateway, self._key = store, gateway, f"gateways/{gateway}"
        self._mine = b""
        self._beats = 0
        self.store_lost_it = False  # found by the latest beat: the store has lost what was put there
        self._about = {**this_process(), "id": secrets.token_hex(8), **({"by": by} if by else {})}

    async def take(self) -> None:
        """A gateway that takes over what this one has left is waited for. Raises Unavailable if another
        gateway has the name, and StoreFailed."""
        seen, waited_s = None, 0.0
        while True:
            found = await self._store.get(self._key)
            if found is None or has_ended(found) or (found == seen and waited_s >= STALE_S):
                if await self._swap(found):
                    return
            elif seen in (None, found) or _is_takeover(found):
                waited_s = waited_s + LOOK_S if seen in (None, found) else 0.0
                seen = found
                await asyncio.sleep(LOOK_S)
            else:
                raise Unavailable(
                    f"another gateway called {self._gateway!r} uses these --snapshots: give each gateway a "
                    "place of its own, or let them --join a directory under different names"
                )

    async def take_from(self, mark: bytes) -> bool:
        """Take the name if its mark is still this one. Returns whether it was. Raises StoreFailed."""
        return await self._swap(mark)

    async def beat(self) -> bool:
        """Whether the name is this gateway's. Call it every BEAT_S. Raises StoreFailed."""
        self.store_lost_it = False
        if await self._swap(self._mine):
            return True
        found = await self._store.get(self._key)
        self.store_lost_it = found is None
        if found is None or has_ended(found):  # the store has lost it, or who had taken it has released it
            return await self._swap(found)
        return False

    async def release(self) -> None:
        """Raises StoreFailed."""
        await self._store.swap(self._key, self._mine, NOBODY)

    async def _swap(self, old: bytes | None) -> bool:
        self._beats += 1
        new = json.dumps({**self._about, "beats": self._beats}).encode()
        if await self._store.swap(self._key, old, new):
            self._mine = new
            return True
        return False


def this_process() -> dict[str, object]:
    """What tells other processes of this machine whether this one still runs."""
    pid = os.getpid()
    return {"machine": _machine(), "pid": pid, "started": _started(pid)}


def has_ended(mark: bytes) -> bool:
    """Whether the process that wrote the mark is known to have ended."""
    try:
        found = json.loads(mark)
        machine, pid, started = found.get("machine"), found.get("pid"), found.get("started")
    except (ValueError, AttributeError, RecursionError):
        return True  # no gateway wrote that
    if found == {}:
        return True
    here = bool(machine) and machine == _machine() and isinstance(pid, int)
    return here and _started(pid) != started


def _is_takeover(mark: bytes) -> bool:
    return isinstance(by := json.loads(mark).get("by"), str) and bool(by)


def _machine() -> str:
    """Of this boot and this container's processes; empty where that cannot be told."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""


def _started(pid: int) -> str:
    """When the process started; empty if there is none."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    after_name = state.rpartition(")")[2].split()
    return after_name[19] if len(after_name) > 19 and after_name[0] != "Z" else ""
