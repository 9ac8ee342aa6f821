"""The ASGI application: routes, guard, error responses and the page, around the services of one server.

Importing it has no effect, and nothing starts before the lifespan.
"""

from __future__ import annotations

import importlib.resources
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from fastapi import APIRouter, FastAPI
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.staticfiles import StaticFiles

from engine.errors import PsistreamError
from server.config import ServerConfig
from server.http.auth import Access
from server.http.edge.methods import Methods
from server.http.edge.prefix import Prefix
from server.http.fairness import Fairness
from server.http.guard import Guard
from server.http.problems import on_disconnect, on_error
from server.http.routes.contracts import contract_routes
from server.http.routes.health import health_routes
from server.http.routes.links import link_routes
from server.http.routes.push import push_routes
from server.http.routes.recording import recording_routes
from server.http.routes.sessions import session_routes
from server.http.routes.snapshots import snapshot_routes
from server.http.routes.whep import whep_routes
from server.http.routes.workers import worker_routes
from server.http.services import Services, running, worker_makers
from server.version import VERSION
from server.worker.base import MakeWorker


def create_app(config: ServerConfig, make_worker: MakeWorker | None = None) -> FastAPI:
    """Its lifespan loads the model, opens the session `main` and sets `app.state.services`."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with running(config, access, make_worker or worker_makers(config)) as services:
            app.state.services = services
            add_routes(app, services)
            yield

    access = Access(config)
    app = FastAPI(title="psistream", version=VERSION, lifespan=lifespan, openapi_url=None)
    app.state.access = access

    def known(token: str) -> str | None:
        """The owner of a token."""
        if (name := access.key_name(token)) is not None:
            return f"key {name}"
        services: Services | None = getattr(app.state, "services", None)
        session = services.gateway.sessions.by_token(token) if services else None
        if session is None:
            return None
        if token not in session.tokens:
            return f"{session.id} {token}"  # a link
        return f"{session.id} {token == session.token}"

    app.add_middleware(Methods)  # the innermost
    app.add_middleware(Fairness, known=known)
    app.add_middleware(Guard, access=access)
    app.add_middleware(Prefix, root=config.root_path)  # the outermost
    app.add_exception_handler(PsistreamError, on_error)
    app.add_exception_handler(HTTPException, on_error)
    app.add_exception_handler(ClientDisconnect, on_disconnect)
    return app


def create_ops_app(services: Services) -> FastAPI:
    """Health and metrics only, for a separate listener (`--ops-port`)."""
    app = FastAPI(title="psistream ops", version=VERSION, openapi_url=None)
    app.include_router(health_routes(services))
    app.add_middleware(Methods)
    app.add_exception_handler(HTTPException, on_error)
    return app


def add_routes(app: FastAPI, services: Services) -> None:
    routers = routers_of(services)
    for router in routers:
        app.include_router(router)
    app.include_router(contract_routes(routers))
    page = web_folder()
    if page.is_dir():
        app.mount("/", StaticFiles(directory=page, html=True), name="page")


def routers_of(services: Services) -> list[APIRouter]:
    """Everything that docs/openapi.json tells of."""
    kinds = (
        session_routes,
        link_routes,
        snapshot_routes,
        whep_routes,
        push_routes,
        recording_routes,
        worker_routes,
    )
    health = health_routes(services, metrics=services.config.ops_port is None)
    return [*(routes(services) for routes in kinds), health]


def web_folder() -> Path:
    """The page of the clients package. The server treats it as data, not code."""
    return Path(str(importlib.resources.files("clients"))) / "web"
