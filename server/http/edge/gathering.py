"""Asks other gateways of the cluster the same question at once, for answers about the whole cluster.

It takes as long as the time limit at most, and whoever has not answered by then is named. A gateway that is
asked answers for itself only. It uses the way on which requests are passed on, and knows no routes.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterable
from typing import Any, NamedTuple

from starlette.requests import Request

from server.cluster.peers import Peers
from server.http.edge.forwarding import Forwarding, Unanswered
from server.http.edge.vouching import HEADER, Passed, vouch

WITHIN_S = 2.0
AT_ONCE = 16
MOST_BYTES = 4 << 20  # of one answer
SMALL_BYTES = 1 << 16  # more is parsed in a thread


class Gathered(NamedTuple):
    """The answers, JSON objects, by the names of the gateways, and why others have not answered."""

    answers: dict[str, dict[str, Any]]
    unanswered: dict[str, str]


async def gather(
    peers: Peers, forwarding: Forwarding, request: Request, query: str, names: Iterable[str]
) -> Gathered:
    """Ask these gateways what this client has asked, a GET, with another query."""
    path = request.scope["path"]
    target = f"{path}?{query}".encode() if query else path.encode()
    client = request.client.host if request.client else "unknown"
    passed = Passed(client, request.scope["scheme"])
    headers = {HEADER: vouch(peers.key, passed, "GET", target, time.time())}
    if authorization := request.headers.get("authorization"):
        headers["authorization"] = authorization
    turns, due_s = asyncio.Semaphore(AT_ONCE), time.monotonic() + WITHIN_S
    gathered = Gathered({}, {})

    async def ask(name: str) -> None:
        async with turns:
            try:
                left_s = max(0.0, due_s - time.monotonic())
                url = peers.others[name]
                answered = await forwarding.ask(url, target, headers, MOST_BYTES, left_s)
                gathered.answers[name] = await _read(name, *answered)
            except TimeoutError:
                gathered.unanswered[name] = f"it did not answer within {WITHIN_S:g} s"
            except Unanswered as error:
                gathered.unanswered[name] = str(error)

    await forwarding.aclose(but=peers.urls)
    await asyncio.gather(*map(ask, names))
    return gathered


async def _read(name: str, status: int, body: bytes) -> dict[str, Any]:
    """Raises Unanswered."""
    if status == 401:
        raise Unanswered("it does not know this key: give all gateways the same --api-key or --api-keys")
    try:
        told = json.loads(body) if len(body) <= SMALL_BYTES else await asyncio.to_thread(json.loads, body)
    except (ValueError, RecursionError):
        told = None
    if status != 200:
        why = told.get("message") if status == 503 and isinstance(told, dict) else None
        raise Unanswered(why if isinstance(why, str) else f"it answers with status {status}")
    if not isinstance(told, dict):
        raise Unanswered("it answers with something else")
    if told.get("gateway", name) != name:
        raise Unanswered("another gateway answers in its place")
    return told
