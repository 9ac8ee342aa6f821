"""What clients are told when a session cannot go on, and what the log says."""

from __future__ import annotations

import logging
from typing import NamedTuple

from engine.errors import PsistreamError

log = logging.getLogger(__name__)
INTERNAL = "internal error, see the server's log"


class Fault(NamedTuple):
    code: str
    message: str


def fault_of(session: str, error: Exception) -> Fault:
    """Logs an error of the backend, and tells no more of it than clients may know."""
    if isinstance(error, PsistreamError):
        log.warning("session %s: the backend failed: %s", session, error)
        return Fault(error.code, error.message)
    log.error("session %s: the backend failed: %s", session, error, exc_info=error)
    return Fault("internal", INTERNAL)
