"""Routes for operators: liveness, readiness and metrics."""

from __future__ import annotations

from dataclasses import asdict

from fastapi import APIRouter
from starlette.responses import JSONResponse, Response

from engine.wire.strict_json import finite
from server.http.services import Services
from server.metrics import CONTENT_TYPE


def health_routes(services: Services, *, metrics: bool = True) -> APIRouter:
    """`metrics`: serve /metrics as well."""
    router = APIRouter()

    @router.get("/livez")
    async def alive() -> Response:
        """The event loop answers, and a worker runs or may still be started. Otherwise only a restart
        helps."""
        if services.gateway.given_up:
            return JSONResponse({"alive": False, "reasons": [services.gateway.fault]}, 503)
        return JSONResponse({"alive": True})

    @router.get("/readyz")
    @router.get("/healthz")
    async def ready() -> Response:
        """Whether a viewer that joins now gets a picture. A lost MQTT broker does not make it unready."""
        gateway, mqtt, capacity = services.gateway, services.mqtt, services.gateway.capacity
        reasons = [gateway.fault] if gateway.fault else []
        reasons += [f"session {name}: no segment for a while" for name in gateway.overdue()]
        reach = services.reach
        if reach is not None and reach.unready is not None:
            reasons.append(f"other gateways do not reach this one: {reach.unready}")
        status = mqtt.status if mqtt else None
        answer = {
            "ready": not reasons,
            "reasons": reasons,
            "warnings": [reach.fault] if reach is not None and reach.fault is not None else [],
            "model": gateway.ready.model if gateway.ready else None,
            "backend": gateway.ready.backend if gateway.ready else None,
            "sessions": len(gateway.session_ids()),
            "workers": {status.id: status.state for status in map(gateway.fleet.status, gateway.fleet)},
            "capacity": None if capacity is None else finite(asdict(capacity)),
            "viewers": len(services.viewers),
            "mqtt": {"state": status.state, "detail": status.detail} if status else None,
        }
        return JSONResponse(answer, 503 if reasons else 200)

    if metrics:

        @router.get("/metrics")
        async def figures() -> Response:
            """Figures for Prometheus."""
            return Response(services.metrics.render(), media_type=CONTENT_TYPE)

    return router
