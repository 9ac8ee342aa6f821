"""`psistream workers`: list the workers of a running server, drain one of them, or take it back.

A drained worker's sessions move to others while people watch. It waits until they have moved.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import httpx
from rich.table import Table
from rich.text import Text

from clients.errors import OperateError
from clients.http import ProxyUnusable, cause, http_client
from clients.refusal import judged, refusal
from clients.target import Target
from clients.text import printable
from engine.commandline.console import OutputConsole
from engine.commandline.parser import Parser, check_belongs
from engine.commandline.runner import OK, run
from engine.errors import InvalidInput

SERVER = "http://localhost:8080"
KEY_VARIABLE = "PSISTREAM_API_KEY"
TIMEOUT_S, ASK_EVERY_S = 10.0, 0.5
DOES = ("list", "drain", "take-back")


@dataclass(frozen=True)
class _Worker:
    id: str
    state: str
    sessions: int
    places: int
    real_time: str
    load: str
    fault: str

    @classmethod
    def parse(cls, told: object, base: str) -> _Worker:
        """Raises OperateError for what no psistream server answers."""
        try:
            known: dict[str, Any] = dict(told)  # type: ignore[call-overload]
            capacity = known["capacity"] or {}
            load = f"{capacity['load']:.0%}" if capacity else ""
            counts = int(known["sessions"]), int(known["places"])
            real_time, fault = str(capacity.get("sessions", "")), str(known["fault"] or "")
            return cls(str(known["id"]), str(known["state"]), *counts, real_time, load, fault)
        except (ValueError, TypeError, KeyError, AttributeError):
            raise _no_server(base) from None


def parser() -> argparse.ArgumentParser:
    made = Parser(
        prog="psistream workers",
        description="List a server's workers. `drain ID` moves a worker's sessions to other workers while "
        "people watch, and `take-back ID` ends the drain.",
    )
    made.add_argument("what", nargs="?", choices=DOES, default="list", metavar="|".join(DOES))
    made.add_argument("id", nargs="?", metavar="ID", help="the worker, such as w1")
    made.add_argument("--url", default=SERVER, help="the server (default: %(default)s)")
    made.add_argument("--api-key", default=os.environ.get(KEY_VARIABLE), help=f"API key (${KEY_VARIABLE})")
    made.add_argument(
        "--timeout",
        type=float,
        default=60.0,
        metavar="S",
        help="how long to wait until all sessions have moved (default: %(default)g)",
    )
    return made


def main(argv: Sequence[str] | None = None) -> int:
    return run("psistream workers", lambda: _main(parser().parse_args(argv)))


def _main(args: argparse.Namespace) -> int:
    if (args.what == "list") == bool(args.id):
        raise InvalidInput(f"{args.what} takes {'no ID' if args.id else 'the ID of a worker, such as w1'}")
    if args.what != "drain":
        check_belongs(args, "drain", "timeout")
    if not 0 <= args.timeout < float("inf"):
        raise InvalidInput("--timeout must be 0 or a positive number of seconds")
    try:
        return asyncio.run(_ask(args, Target.parse(args.url, token=args.api_key)))
    except (httpx.HTTPError, httpx.InvalidURL, ProxyUnusable) as error:
        raise OperateError(
            f"cannot reach {args.url}: is `psistream serve` running there? ({cause(args.url, error)})"
        ) from None


async def _ask(args: argparse.Namespace, server: Target) -> int:
    async with http_client(server.base, TIMEOUT_S) as client:
        client.headers.update(server.headers)
        if args.what == "list":
            OutputConsole().print(_table(await _listed(client, server)))
            return OK
        path, drains = f"/{quote(args.id, safe='')}/drain", args.what == "drain"
        told = await _told(client, server, "POST" if drains else "DELETE", path)
        worker: _Worker | None = _Worker.parse(told, server.base)
        loop = asyncio.get_running_loop()
        until_s = loop.time() + args.timeout
        while drains and worker and worker.sessions and loop.time() < until_s:
            await asyncio.sleep(ASK_EVERY_S)
            listed = await _listed(client, server)
            worker = next((each for each in listed if each.id == args.id), None)  # None: it has left
        if drains and worker and worker.sessions:
            raise OperateError(
                f"{args.id} still has {worker.sessions} sessions: no other worker has capacity. They "
                f"move as soon as one has; `psistream workers take-back {args.id}` ends the drain"
            )
    sys.stdout.write(f"{args.id} {'is drained' if drains else 'accepts sessions again'}\n")
    return OK


async def _listed(client: httpx.AsyncClient, server: Target) -> list[_Worker]:
    """Raises OperateError, httpx.HTTPError."""
    told = await _told(client, server, "GET", "")
    listed = told.get("workers") if isinstance(told, dict) else None
    if not isinstance(listed, list):
        raise _no_server(server.base)
    return [_Worker.parse(each, server.base) for each in listed]


async def _told(client: httpx.AsyncClient, server: Target, method: str, path: str) -> object:
    """What the server answers as JSON. Raises OperateError, httpx.HTTPError."""
    answer = await client.request(method, f"v1/workers{path}")
    if not answer.is_success:
        raise judged(OperateError(refusal(answer, server.base, "")), answer)
    try:
        return answer.json()
    except ValueError:
        raise _no_server(server.base) from None


def _no_server(base: str) -> OperateError:
    return OperateError(f"{base} answered without workers: is it a psistream server?")


def _table(workers: list[_Worker]) -> Table:
    table = Table("worker", "state", "sessions", "places", "in real time", "load", "fault", box=None)
    for each in workers:
        cells = each.id, each.state, each.sessions, each.places, each.real_time, each.load, each.fault
        table.add_row(*(Text(printable(cell)) for cell in cells))  # untrusted: no markup
    return table
