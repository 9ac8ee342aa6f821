"""The ASGI application: routes, guard, error responses and the page, around the services of one server.

Importing it has no effect, and nothing starts before the lifespan.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from fastapi import APIRouter, FastAPI
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from engine.errors import PsistreamError
from server.access.tokens import hash_of
from server.config import ServerConfig
from server.gateway.fleet.makers import worker_makers
from server.gateway.gateway import Gateway
from server.http.auth import Access
from server.http.edge.forwarding import Forwarding
from server.http.edge.methods import Methods
from server.http.edge.passing import PassOn
from server.http.edge.prefix import Prefix
from server.http.edge.reach import Identity
from server.http.fairness import Fairness
from server.http.guard import Guard
from server.http.page import Page, web_folder
from server.http.problems import on_disconnect, on_error
from server.http.routes.contracts import contract_routes
from server.http.routes.health import health_routes
from server.http.routes.links import link_routes
from server.http.routes.listing import listing_routes
from server.http.routes.push import push_routes
from server.http.routes.recording import recording_routes
from server.http.routes.sessions import session_routes
from server.http.routes.snapshots import snapshot_routes
from server.http.routes.whep import whep_routes
from server.http.routes.workers import worker_routes
from server.http.services import Services, running
from server.version import VERSION
from server.worker.base import MakeWorker


def create_app(config: ServerConfig, make_worker: MakeWorker | Sequence[MakeWorker] | None = None) -> FastAPI:
    """Its lifespan loads the model, opens the session `main` and sets `app.state.services`."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with (
            contextlib.aclosing(forwarding),
            running(config, access, make_worker or worker_makers(config), forwarding, identity) as services,
        ):
            app.state.services = services
            add_routes(app, services)
            yield

    access, forwarding, identity = Access(config), Forwarding(), Identity(config.name, config.worker_key)
    app = FastAPI(title="psistream", version=VERSION, lifespan=lifespan, openapi_url=None)
    app.state.access, app.state.identity = access, identity

    def known(token: str) -> str | None:
        """The owner of a token."""
        if (name := access.key_name(token)) is not None:
            return f"key {name}"
        services: Services | None = getattr(app.state, "services", None)
        session = services.gateway.sessions.by_token(token) if services else None
        return f"{session.id} {hash_of(token)}" if session is not None else None

    def gateway() -> Gateway | None:
        services: Services | None = getattr(app.state, "services", None)
        return services.gateway if services else None

    app.add_middleware(Methods)  # the innermost
    app.add_middleware(Fairness, known=known)
    app.add_middleware(PassOn, gateway=gateway, forwarding=forwarding, identity=identity)
    app.add_middleware(Guard, access=access)
    app.add_middleware(Prefix, root=config.root_path)  # the outermost
    app.add_exception_handler(PsistreamError, on_error)
    app.add_exception_handler(HTTPException, on_error)
    app.add_exception_handler(ClientDisconnect, on_disconnect)
    return app


def create_ops_app(services: Services) -> FastAPI:
    """Health and metrics only, for a separate listener (`--ops-port`)."""
    app = FastAPI(title="psistream ops", version=VERSION, openapi_url=None)
    app.router.routes.extend(health_routes(services).routes)
    app.add_middleware(Methods)
    app.add_exception_handler(HTTPException, on_error)
    return app


def add_routes(app: FastAPI, services: Services) -> None:
    """The routes themselves: `include_router` would analyse each function again, at its first request, and
    match each path twice, to add prefixes and dependencies that there are not."""
    routers = routers_of(services)
    for router in (*routers, contract_routes(routers)):
        app.router.routes.extend(router.routes)
    page = web_folder()
    if page.is_dir():
        app.mount("/", Page(page), name="page")


def routers_of(services: Services) -> list[APIRouter]:
    """Everything that docs/openapi.json tells of."""
    kinds = (
        session_routes,
        listing_routes,
        link_routes,
        snapshot_routes,
        whep_routes,
        push_routes,
        recording_routes,
        worker_routes,
    )
    health = health_routes(services, metrics=services.config.ops_port is None)
    return [*(routes(services) for routes in kinds), health]
