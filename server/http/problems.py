"""Errors over HTTP: problem JSON (RFC 9457) with a stable `code`, a `message` and the `field`.

This is the only place that maps exceptions to statuses. It reveals no internals.
"""

from __future__ import annotations

import math
from http import HTTPStatus

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from engine.errors import (
    Forbidden,
    Full,
    InvalidInput,
    PsistreamError,
    Unavailable,
    UnknownSession,
)
from server.gateway.budget import OverBudget
from server.gateway.cluster.joined import HostDrained
from server.gateway.fleet.fleet import LastWorker, UnknownWorker
from server.http.auth import Unauthorized
from server.webrtc.shares import OverShare
from server.webrtc.signalling.offer import NotAcceptable

MEDIA_TYPE = "application/problem+json"
RETRY_UNAVAILABLE_S = Unavailable.retry_after_s


class TooLarge(InvalidInput):
    code = "too_large"


def too_large(what: str, limit: int) -> TooLarge:
    return TooLarge(f"the {what} may have at most {limit} bytes", field="body")


class TooSlow(InvalidInput):
    code = "timeout"


class WrongType(InvalidInput):
    code = "unsupported_type"


class WrongVersion(InvalidInput):
    """If-Match does not name the current ICE session."""

    code = "wrong_version"


class RateLimited(InvalidInput):
    """The client sends too much; it may try again in `retry_after_s` seconds."""

    code = "rate_limited"

    def __init__(self, message: str, *, field: str | None = None, retry_after_s: float = 1.0) -> None:
        super().__init__(message, field=field)
        self.retry_after_s = max(1, math.ceil(retry_after_s))


class Busy(RateLimited):
    """A request of this client is already being processed."""

    code = "busy"


STATUS: tuple[tuple[type[PsistreamError], int], ...] = (  # the first match applies
    (TooSlow, 408),
    (TooLarge, 413),
    (WrongType, 415),
    (WrongVersion, 412),
    (RateLimited, 429),
    (NotAcceptable, 406),
    (UnknownWorker, 404),
    (LastWorker, 409),
    (HostDrained, 409),
    (InvalidInput, 400),
    (Unauthorized, 401),
    (Forbidden, 403),
    (UnknownSession, 404),
    (OverBudget, 429),
    (OverShare, 429),
    (Full, 503),
    (Unavailable, 503),
)
HTTP_CODES = {404: "not_found", 405: "method_not_allowed"}


RECEIPT_STATUS = {  # statuses of rejected receipts, whose code comes from the runtime
    "invalid": 400,
    "unknown_session": 404,
    "closed": 404,
    "id_reused": 409,
    "superseded": 409,
    "expired": 409,
    "busy": 429,
    "unavailable": 503,
    "worker_lost": 503,
}


def status_of_code(code: str | None) -> int:
    return RECEIPT_STATUS.get(code or "", 500)


def status_of(error: PsistreamError) -> int:
    return next((status for kind, status in STATUS if isinstance(error, kind)), 500)


def problem(
    status: int, code: str, message: str, field: str | None = None, headers: dict[str, str] | None = None
) -> Response:
    body = {
        "title": HTTPStatus(status).phrase,
        "status": status,
        "code": code,
        "message": message,
        "field": field,
    }
    return JSONResponse(body, status, headers, MEDIA_TYPE)


def of_error(error: PsistreamError) -> Response:
    status = status_of(error)
    headers = {}
    if status in (429, 503) and error.retry_after_s is not None:
        headers["Retry-After"] = str(error.retry_after_s)
    elif status == 401:
        headers["WWW-Authenticate"] = 'Bearer realm="psistream"'
    return problem(status, error.code, error.message, error.field, headers)


async def on_error(request: Request, error: Exception) -> Response:
    if isinstance(error, PsistreamError):
        return of_error(error)
    if isinstance(error, HTTPException):
        code = HTTP_CODES.get(error.status_code, f"http_{error.status_code}")
        message = f"{request.method} {request.url.path[:200]}: {error.detail}"
        return problem(error.status_code, code, message, headers=dict(error.headers or {}))
    raise error


async def on_disconnect(request: Request, error: Exception) -> Response:
    """The client hung up before its request was complete; nobody reads this response."""
    return problem(400, "disconnected", "the request ended before its body was complete")
