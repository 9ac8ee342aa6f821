"""Routes for operators: list the workers and drain one of them."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, Response

from engine.wire.strict_json import finite
from server.gateway.fleet.fleet import WorkerStatus
from server.http.services import Services


def worker_routes(services: Services) -> APIRouter:
    router = APIRouter(prefix="/v1/workers")

    @router.get("")
    async def list_workers(request: Request) -> Response:
        services.access.admit(request.headers.get("authorization"))
        fleet = services.gateway.fleet
        return JSONResponse({"workers": [worker_json(fleet.status(worker)) for worker in fleet]})

    @router.post("/{worker_id}/drain")
    async def drain(request: Request, worker_id: str) -> Response:
        """Move this worker's sessions to other workers while people watch, and open no new ones on it."""
        services.access.admit(request.headers.get("authorization"))
        return JSONResponse(worker_json(services.gateway.drain(worker_id)), 202)

    @router.delete("/{worker_id}/drain")
    async def take_back(request: Request, worker_id: str) -> Response:
        """End the drain: the worker accepts sessions again."""
        services.access.admit(request.headers.get("authorization"))
        return JSONResponse(worker_json(services.gateway.take_back(worker_id)))

    return router


def worker_json(status: WorkerStatus) -> dict[str, Any]:
    answer: dict[str, Any] = finite(asdict(status))
    return answer
