"""Routes for who runs the server: is it alive, is it ready, how is it doing."""

from __future__ import annotations

from dataclasses import asdict

from fastapi import APIRouter
from starlette.responses import JSONResponse, Response

from engine.wire.strict_json import finite
from server.http.services import Services
from server.metrics import CONTENT_TYPE


def system_routes(services: Services) -> APIRouter:
    router = APIRouter()

    @router.get("/livez")
    async def alive() -> Response:
        """The event loop answers, and there is a worker or one may still come: else only a restart helps."""
        if services.gateway.given_up:
            return JSONResponse({"alive": False, "reasons": [services.gateway.fault]}, 503)
        return JSONResponse({"alive": True})

    @router.get("/readyz")
    @router.get("/healthz")
    async def ready() -> Response:
        """Whether a viewer who comes now gets a picture. A broker that is away is no reason to say no."""
        gateway, mqtt, capacity = services.gateway, services.mqtt, services.gateway.capacity
        reasons = [gateway.fault] if gateway.fault else []
        reasons += [f"session {name}: no segment for a while" for name in gateway.stalled()]
        status = mqtt.status if mqtt else None
        answer = {
            "ready": not reasons,
            "reasons": reasons,
            "model": gateway.ready.model if gateway.ready else None,
            "backend": gateway.ready.backend if gateway.ready else None,
            "sessions": len(gateway.session_ids()),
            "capacity": None if capacity is None else finite(asdict(capacity)),
            "viewers": len(services.viewers),
            "mqtt": {"state": status.state, "detail": status.detail} if status else None,
        }
        return JSONResponse(answer, 503 if reasons else 200)

    @router.get("/metrics")
    async def metrics() -> Response:
        return Response(services.metrics.render(), media_type=CONTENT_TYPE)

    return router
