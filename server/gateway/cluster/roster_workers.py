"""The workers of a gateway that has joined a directory: those of the roster.

A roster adds workers and drains them, but never takes away one that is connected: the connection is what
counts, so a fault of the directory ends no session.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial

from engine.errors import InvalidInput
from server.cluster.messages import Roster, WorkerEntry
from server.config import ServerConfig
from server.gateway.fleet.fleet import Fleet, LastWorker
from server.gateway.fleet.supervisor import Supervisor
from server.gateway.migration import Migration
from server.logs import about
from server.worker.base import MakeWorker, OnEvent
from server.worker.remote import RemoteWorker, WorkerAddress

log = logging.getLogger(__name__)


class RosterWorkers:
    """`supervise` makes a worker's supervisor."""

    def __init__(
        self,
        config: ServerConfig,
        fleet: Fleet,
        migration: Migration,
        supervise: Callable[[str, MakeWorker], Supervisor],
        now_s: Callable[[], float],
    ) -> None:
        self._config, self._fleet, self._migration = config, fleet, migration
        self._supervise, self._now_s = supervise, now_s
        self._urls: dict[str, WorkerAddress] = {}
        self._drained: set[str] = set()  # of which the roster said so

    def follow(self, roster: Roster) -> None:
        """Do what the roster says of workers."""
        for entry in roster.workers:
            try:
                self._hear_of(entry)
            except InvalidInput as error:
                log.error("worker %s is ignored: %s", entry.name[:80], error.message)
        if roster.settled:
            there = {entry.name for entry in roster.workers}
            for worker in self._fleet:
                if worker.name not in there and worker.ready is None and not worker.left:
                    log.warning("%s has left the cluster", worker.name, extra=about(worker.name))
                    self._fleet.leave(worker)
        self._fleet.forget_left()

    def _hear_of(self, entry: WorkerEntry) -> None:
        """Raises InvalidInput."""
        self._urls[entry.name] = WorkerAddress.parse(entry.url, "url")
        worker = self._fleet.get(entry.name)
        if worker is None or worker.left:
            worker = self._supervise(entry.name, partial(self._make, entry.name))
            self._fleet.add(worker)
            worker.begin()
            self._drained.discard(entry.name)
        if not entry.draining:
            if entry.name in self._drained:
                self._drained.remove(entry.name)
                self._migration.resume(worker)
        elif entry.name not in self._drained:
            try:
                self._migration.drain(worker)
                self._drained.add(entry.name)
            except LastWorker:  # with the next roster another one may accept its sessions
                log.info("%s is not drained yet: no other worker accepts sessions", entry.name)

    def _make(self, name: str, on_event: OnEvent) -> RemoteWorker:
        """A connection to where the worker is now."""
        config = self._config
        return RemoteWorker(self._urls[name], config.worker_key, config.worker_ca, on_event, self._now_s)
