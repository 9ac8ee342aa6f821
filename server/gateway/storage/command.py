"""`psistream saved`: list what is kept in --snapshots, or remove sessions from there.

It asks the store and no server, so it also works when nothing runs.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from rich.table import Table

from engine.commandline.console import OutputConsole
from engine.commandline.parser import Parser
from engine.commandline.runner import OK, run
from engine.errors import InvalidInput, Unavailable
from server.gateway.storage.saved import Damaged, unpack
from server.gateway.storage.stores.base import NAME, SessionStore, StoreFailed
from server.gateway.storage.stores.open import open_store
from server.storage import EXAMPLES, VARIABLE, StorageConfig

AT_ONCE = 4  # sessions that are read


@dataclass(frozen=True)
class _Row:
    session: str
    gateway: str
    age_s: float
    size: int
    model: str


def parser() -> argparse.ArgumentParser:
    made = Parser(
        prog="psistream saved",
        description="List the sessions in --snapshots. `remove ID …` removes some of them. A server saves "
        "those that it runs again.",
    )
    made.add_argument("what", nargs="?", choices=("list", "remove"), default="list", metavar="list|remove")
    made.add_argument("ids", nargs="*", metavar="ID", help="a session")
    made.add_argument(
        "--snapshots",
        metavar="URL",
        default=os.environ.get(VARIABLE),
        help=f"as of `psistream serve`: {EXAMPLES} (${VARIABLE})",
    )
    return made


def main(argv: Sequence[str] | None = None) -> int:
    return run("psistream saved", lambda: _main(parser().parse_args(argv)))


def _main(args: argparse.Namespace) -> int:
    if (args.what == "list") == bool(args.ids):
        raise InvalidInput(f"{args.what} takes {'no ID' if args.ids else 'the IDs of sessions'}", field="ids")
    if not args.snapshots:
        raise InvalidInput(f"--snapshots says where to look: {EXAMPLES}", field="snapshots")
    config = StorageConfig(args.snapshots)
    if (folder := config.folder) is not None and not folder.is_dir():
        raise InvalidInput(f"--snapshots: there is no folder {folder}", field="snapshots")
    return asyncio.run(_ask(args, config))


async def _ask(args: argparse.Namespace, config: StorageConfig) -> int:
    store = open_store(config)
    try:
        if args.what == "list":
            OutputConsole().print(_table(await _rows(store)))
        else:
            await _remove(store, args.ids)
    except StoreFailed as error:
        raise Unavailable(f"--snapshots cannot be used: {error.message}") from None
    finally:
        await store.close()
    return OK


async def _rows(store: SessionStore) -> list[_Row]:
    """Raises StoreFailed."""
    places = asyncio.Semaphore(AT_ONCE)

    async def read(name: str) -> _Row | None:
        async with places:
            if (data := await store.get(f"sessions/{name}")) is None:  # it has just ended
                return None
            try:
                saved = await asyncio.to_thread(partial(unpack, data, 0.0))
            except Damaged as error:
                return _Row(name, "", float("inf"), len(data), error.message)
        model = f"{saved.model} {saved.fingerprint[:8]}"
        return _Row(name, saved.owner, max(0.0, time.time() - saved.saved_at), len(data), model)

    found = await asyncio.gather(*map(read, await store.names("sessions")))
    return sorted((row for row in found if row), key=lambda row: row.age_s)


async def _remove(store: SessionStore, ids: list[str]) -> None:
    """All of them, or none. Raises InvalidInput, StoreFailed."""
    there = set(await store.names("sessions"))
    for name in ids:
        if name not in there or not NAME.fullmatch(f"sessions/{name}"):
            raise InvalidInput(f"no session {name[:64]!r} is saved there", field="ids")
    for name in dict.fromkeys(ids):
        await store.delete(f"sessions/{name}")
        sys.stdout.write(f"{name} is removed\n")


def _table(rows: list[_Row]) -> Table:
    table = Table("session", "gateway", "saved", "size", "model", box=None)
    for row in rows:
        table.add_row(row.session, row.gateway, _ago(row.age_s), f"{row.size / 1e3:.0f} kB", row.model)
    return table


def _ago(age_s: float) -> str:
    for unit_s, unit in ((3600.0, "h"), (60.0, "min"), (1.0, "s")):
        if unit_s <= age_s < float("inf"):
            return f"{age_s / unit_s:.0f} {unit} ago"
    return "" if age_s == float("inf") else "now"
