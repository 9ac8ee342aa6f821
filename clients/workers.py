"""`psistream workers`: list the workers of a running server, drain one of them, or take it back.

A drained worker's sessions move to others while people watch. It waits until they have moved.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

import httpx
from rich.table import Table

from clients.errors import OperateError
from clients.http import ProxyUnusable, cause, http_client
from clients.refusal import judged, refusal
from clients.target import Target
from engine.commandline.console import OutputConsole
from engine.commandline.parser import Parser, check_belongs
from engine.commandline.runner import OK, run
from engine.errors import InvalidInput

SERVER = "http://localhost:8080"
KEY_VARIABLE = "PSISTREAM_API_KEY"
TIMEOUT_S, ASK_EVERY_S = 10.0, 0.5
DOES = ("list", "drain", "take-back")


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
    if (args.what == "list") == (args.id is not None):
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
            OutputConsole().print(_table(await _told(client, server, "GET", "")))
            return OK
        path, drains = f"/{quote(args.id, safe='')}/drain", args.what == "drain"
        worker = await _told(client, server, "POST" if drains else "DELETE", path)
        loop = asyncio.get_running_loop()
        until_s = loop.time() + args.timeout
        while drains and worker["sessions"] and loop.time() < until_s:
            await asyncio.sleep(ASK_EVERY_S)
            listed = await _told(client, server, "GET", "")
            worker = next(each for each in listed["workers"] if each["id"] == args.id)
        if drains and worker["sessions"]:
            raise OperateError(
                f"{args.id} still has {worker['sessions']} sessions: no other worker has capacity. They "
                f"move as soon as one has; `psistream workers take-back {args.id}` ends the drain"
            )
    sys.stdout.write(f"{args.id} {'is drained' if drains else 'accepts sessions again'}\n")
    return OK


async def _told(client: httpx.AsyncClient, server: Target, method: str, path: str) -> dict[str, Any]:
    """Raises OperateError, httpx.HTTPError."""
    answer = await client.request(method, f"v1/workers{path}")
    if not answer.is_success:
        raise judged(OperateError(refusal(answer, server.base, "main")), answer)
    told: dict[str, Any] = answer.json()
    return told


def _table(told: dict[str, Any]) -> Table:
    table = Table("worker", "state", "sessions", "places", "in real time", "load", "fault", box=None)
    for worker in told["workers"]:
        capacity = worker["capacity"] or {}
        load = f"{capacity['load']:.0%}" if capacity else ""
        cells = [worker["id"], worker["state"], worker["sessions"], worker["places"]]
        table.add_row(*map(str, [*cells, capacity.get("sessions", ""), load, worker["fault"] or ""]))
    return table
