"""The list of sessions: in a cluster that of all gateways, whichever is asked."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, NamedTuple
from urllib.parse import urlencode

from fastapi import APIRouter, Request
from starlette.datastructures import QueryParams
from starlette.responses import JSONResponse, Response

from engine.errors import InvalidInput
from engine.wire.strict_json import finite
from server.http.edge.gathering import Gathered, gather
from server.http.edge.vouching import PASSED
from server.http.services import Services

MOST = 1000  # sessions in an answer


class Wanted(NamedTuple):
    """At most `limit` sessions, of this gateway only; None: of all."""

    gateway: str | None = None
    limit: int = MOST


def listing_routes(services: Services) -> APIRouter:
    router = APIRouter(prefix="/v1/sessions")

    @router.get("")
    async def list_sessions(request: Request) -> Response:
        """All sessions of this server: in a cluster those of all its gateways, its own first."""
        services.access.admit(request.headers.get("authorization"))
        wanted = wanted_of(request.query_params)
        own = services.gateway.peers.name
        if request.scope.get(PASSED):  # by a gateway that asks each of them
            wanted = wanted._replace(gateway=own)
        others = names_to_ask(services, wanted)
        gathered = Gathered({}, {})
        if others:
            services.enter(services.listings, request)
            query = urlencode({"limit": wanted.limit})
            gathered = await gather(services.gateway.peers, services.forwarding, request, query, others)
        found = own_sessions(services) if wanted.gateway in (None, own) else []
        return JSONResponse(listed(own, found, gathered, wanted.limit))

    return router


def wanted_of(query: QueryParams) -> Wanted:
    """Raises InvalidInput."""
    for name in query:
        if name not in Wanted._fields:
            raise InvalidInput(f"the list takes {' and '.join(Wanted._fields)}", field=name[:40])
    limit = query.get("limit", str(MOST))
    if not (limit.isascii() and limit.isdigit() and len(limit) <= 6 and 0 < int(limit) <= MOST):
        raise InvalidInput(f"limit must be a whole number from 1 to {MOST}", field="limit")
    return Wanted(query.get("gateway"), int(limit))


def names_to_ask(services: Services, wanted: Wanted) -> list[str]:
    """The other gateways. Raises InvalidInput for one that is not in the cluster."""
    peers = services.gateway.peers
    if wanted.gateway is None:
        return list(peers.others)
    if wanted.gateway == peers.name:
        return []
    if wanted.gateway not in peers.others:
        known = ", ".join(sorted([peers.name, *peers.others])) if peers else "none, since it is no cluster"
        raise InvalidInput(
            f"no gateway is called {wanted.gateway[:40]!r}; the gateways: {known}", field="gateway"
        )
    return [wanted.gateway]


def own_sessions(services: Services) -> list[dict[str, Any]]:
    return [finite(asdict(services.gateway.info(name))) for name in services.gateway.session_ids()]


def listed(own: str, found: list[dict[str, Any]], gathered: Gathered, limit: int) -> dict[str, Any]:
    """The answer. A session that two gateways have, for a moment while it goes from one to the other, is told
    once."""
    sessions = {each["id"]: {**each, "gateway": own or None} for each in found}
    unanswered, omitted = dict(gathered.unanswered), 0
    for name, answer in sorted(gathered.answers.items()):
        told, left_out = answer.get("sessions"), answer.get("omitted", 0)
        if not (isinstance(told, list) and all(map(_is_session, told)) and isinstance(left_out, int)):
            unanswered[name] = "it answers with something else"
            continue
        omitted += left_out
        for each in told:
            sessions.setdefault(each["id"], {**each, "gateway": name})
    kept = list(sessions.values())[:limit]
    return {
        "sessions": kept,
        "gateway": own or None,
        "unanswered": unanswered,
        "omitted": omitted + len(sessions) - len(kept),
    }


def _is_session(told: object) -> bool:
    return isinstance(told, dict) and isinstance(told.get("id"), str)
