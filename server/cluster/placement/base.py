"""What decides where workers run knows of the outside: four verbs, and what they show.

A placer starts processes and ends them. It knows no sessions, and packets never pass it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from engine.errors import Unavailable


class PlacementFailed(Unavailable):
    """The placer could not do what it was asked; it may be asked again."""

    code = "placement_failed"


class PlacedStage(StrEnum):
    PENDING = "pending"  # no host has what it needs, or none was asked yet
    RUNNING = "running"  # its process is there; it may still load its model
    ENDED = "ended"


@dataclass(frozen=True)
class PlacedWorker:
    """A worker as its placer sees it. `host` is "" until there is one."""

    name: str
    stage: PlacedStage
    host: str = ""
    why: str = ""  # what has ended it, or keeps it from starting

    def __post_init__(self) -> None:
        object.__setattr__(self, "why", " ".join(self.why.split())[:300])


@dataclass(frozen=True)
class PlacementHost:
    """A host that may run workers. `free` is how many more fit."""

    name: str
    alive: bool = True
    draining: bool = False
    free: int = 0


@dataclass(frozen=True)
class Survey:
    """What a placer sees at an instant."""

    workers: Mapping[str, PlacedWorker] = field(default_factory=dict)
    hosts: Mapping[str, PlacementHost] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()  # what an operator should change in how the placer was set up


class Placer(Protocol):
    """Each call has a time limit and raises PlacementFailed. Workers outlive it if it says so."""

    async def survey(self) -> Survey:
        """All workers that it placed and still knows, earlier ones of the same cluster included."""

    async def place(self, name: str, avoid: frozenset[str]) -> None:
        """Ask for a worker on a host that is not in `avoid`. Returns before it runs."""

    async def kill(self, name: str) -> None:
        """End a worker, whatever it does. One that is not there is no error."""

    async def leave(self, host: str) -> None:
        """Tell whoever owns the hosts that this one is to be taken away. It cannot be undone."""

    async def close(self) -> None:
        """Idempotent. Ends no worker unless workers end with their placer."""
