"""How long to wait for a broker."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Patience:
    """How long a broker may take to accept a connection, and to answer anything later."""

    connect_s: float = 3.0
    answer_s: float = 5.0


PATIENCE = Patience()
