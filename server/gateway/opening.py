"""Opens sessions: checks whether the client may, chooses a worker and asks it.

The cheap reasons to refuse come first: no worker, no free place, no share left. Whether the device has
capacity is for the worker to decide. It knows no HTTP.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import replace

from engine.errors import Full, PsistreamError, Unavailable
from engine.types import ByteArray, OpenSession, SessionInfo, Weighted
from server.cluster.peers import Peers
from server.config import ServerConfig
from server.gateway.exporting.exports import Exports
from server.gateway.fleet.fleet import Fleet
from server.gateway.fleet.supervisor import Supervisor
from server.gateway.recovery import RecoveryRecord
from server.gateway.registry import Sessions
from server.gateway.session import MAIN, GatewaySession, new_session
from server.metrics import Metrics
from server.worker.base import NOT_RUNNING
from server.worker.messages.commands import CloseSession, RequestKeyframe

OPEN_TIMEOUT_S = 10.0

FENCED = "another gateway runs this session now"
PromptText = str | tuple[Weighted, ...]


class HeldElsewhere(Unavailable):
    """A worker runs the session for another gateway."""

    def __init__(self) -> None:
        super().__init__(FENCED)


async def _nowhere() -> bool:
    return False


class Opener:
    """`main_elsewhere` says whether another gateway has session `main`."""

    def __init__(
        self,
        config: ServerConfig,
        sessions: Sessions,
        fleet: Fleet,
        exports: Exports,
        metrics: Metrics,
        peers: Peers,
    ) -> None:
        self._config, self._sessions, self._fleet, self._exports = config, sessions, fleet, exports
        self._metrics, self._peers = metrics, peers
        self.main_elsewhere: Callable[[], Awaitable[bool]] = _nowhere

    async def open(self, command: OpenSession, client: str | None) -> GatewaySession:
        """Return the session once it is open. It is charged to `client`. Raises Full, OverBudget,
        InvalidInput, Unavailable."""
        workers = self._admit(command, client)
        session = self.enter(command, client)
        try:
            for worker in workers:
                try:
                    await self._ask(worker, session, command)
                    break
                except Full:
                    if worker is workers[-1]:
                        raise
        except TimeoutError:
            self.drop(session, "unavailable", "the worker did not answer")
            raise Unavailable("the worker did not answer; try again in a moment") from None
        except PsistreamError as error:
            if isinstance(error, Full):
                self._metrics.refused.labels("capacity").inc()
            self._sessions.end(session, error.code, error.message)
            raise
        except asyncio.CancelledError:
            self.drop(session, "closed", "the client that opened it has gone")
            raise
        return session

    @property
    def opens_main(self) -> bool:
        """In a cluster one gateway has it."""
        return self._peers.opens_main

    @property
    def _lacks_main(self) -> bool:
        """Whether this gateway is to open it, as far as is known here."""
        waits = MAIN in self._sessions.waiting or self._sessions.main_saved
        return self.opens_main and MAIN not in self._sessions and not waits

    async def open_main(self) -> None:
        """Open the shared session unless it is open, so that one visitor who breaks it does not end it for
        everybody. Raises PsistreamError."""
        if not self._lacks_main or await self.main_elsewhere() or not self._lacks_main:
            return
        with contextlib.suppress(HeldElsewhere):  # another gateway has opened it at the same time
            await self.open(opening(self._config.prompt, self._config.seed, name=MAIN), None)

    def drop(self, session: GatewaySession, code: str, message: str) -> None:
        """End the session in the gateway and in its worker."""
        self._fleet.try_send(session, CloseSession(session.id))
        self._fleet.ending.not_needed(session)  # it may have been opened without saying so yet
        self._sessions.end(session, code, message)

    async def _ask(self, worker: Supervisor, session: GatewaySession, command: OpenSession) -> None:
        """Open the session on this worker. Raises Full, InvalidInput, Unavailable, TimeoutError."""
        source = self._sessions.get(command.fork_of or "")
        if source is not None and source.worker != worker.name:
            snapshot = await self._exports.ask(source.id, "snapshot", command.rewind_s)
            command = replace(command, snapshot=snapshot, fork_of=None, rewind_s=0.0)
            session.recovery = RecoveryRecord(command)
        ready = worker.ready
        if ready is None or session.closed.is_set():
            raise Unavailable(worker.fault or NOT_RUNNING)
        self._sessions.assign(session, worker.name)
        worker.send(command)
        async with asyncio.timeout(OPEN_TIMEOUT_S + ready.segment_ms / 1000):
            await session.verdict

    def _admit(self, command: OpenSession, client: str | None) -> list[Supervisor]:
        """The workers to ask, in this order: for the shared session the first worker, for a fork the worker
        of its source, and then those with capacity left. Raises Unavailable, Full, OverBudget."""
        if not any(worker.accepts for worker in self._fleet):
            raise Unavailable(self._fleet.fault or NOT_RUNNING)
        source = self._sessions.get(command.fork_of or "")
        near = source.worker if source else self._fleet.first.name if command.session == MAIN else None
        workers = self._fleet.to_ask(near)
        if not workers:
            self._metrics.refused.labels("sessions").inc()
            raise Full(f"all {self._fleet.places} sessions are taken: try again later, or close one")
        try:
            self._sessions.budgets.enter(client)
        except Full:
            self._metrics.refused.labels("client").inc()
            raise
        return workers

    def enter(
        self,
        command: OpenSession,
        client: str | None,
        hashes: tuple[str, str] | None = None,
        known: GatewaySession | None = None,
    ) -> GatewaySession:
        """Register a session that a worker is asked to open, or has open, with the tokens of these hashes or
        with new ones. One that is `known` from showing it as a guest goes on with its viewers."""
        if known is not None:
            known.client, known.recovery = client, RecoveryRecord(command)
            known.learn(hashes)
            self._sessions.add(known)
            return known
        name, ready = command.session, self._fleet.ready
        prompt = command.prompt if isinstance(command.prompt, str) else ""
        session = new_session(
            SessionInfo(
                name,
                prompt,
                command.seed or 0,
                False,
                None,
                0,
                0,
                0,
                ready.state_bytes if ready else 0,
                actions=ready.actions if ready else (),
            ),
            command,
            shared=name == MAIN and self._config.trusts_machine,
            client=client,
            now_s=self._sessions.now_s(),
            on_viewers=lambda viewers: self.viewers_changed(name),
            on_keyframe=lambda rendition: self.keyframe(name, rendition),
            hashes=hashes,
        )
        self._sessions.add(session)
        return session

    def viewers_changed(self, session_id: str) -> None:
        if session := self._sessions.get(session_id):
            if not session.orphaned:
                self._fleet.try_send(session, session.audience())
            session.watched(self._sessions.now_s())
            self._sessions.announce(session)

    def keyframe(self, session_id: str, rendition: str) -> None:
        if session := self._sessions.get(session_id):
            self._fleet.try_send(session, RequestKeyframe(session_id, rendition))


def opening(
    prompt: PromptText | None = None,
    seed: int | None = None,
    image: ByteArray | None = None,
    *,
    video: ByteArray | None = None,
    snapshot: bytes | None = None,
    fork_of: str | None = None,
    rewind_s: float = 0.0,
    name: str,
) -> OpenSession:
    """The command that opens a session with the id `name`. Its seed is random unless one is given or comes
    with the snapshot or the fork."""
    if seed is None and snapshot is None and fork_of is None:
        seed = secrets.randbits(32)
    return OpenSession(name, prompt, seed, image, video, snapshot, fork_of, rewind_s)
