"""The way into the server: who may open a session, and how one is opened from whatever it starts with.

Refusals come before anything costly: no worker, no place, no share left. What the device can bear is for the
worker to decide. It knows no HTTP.
"""

from __future__ import annotations

import asyncio
import secrets

from engine.errors import Full, PsistreamError, Unavailable
from engine.types import ByteArray, OpenSession, SessionInfo, Weighted
from server.config import ServerConfig
from server.gateway.budget import Budgets
from server.gateway.registry import Sessions
from server.gateway.session import MAIN, GatewaySession, new_session, unguessable
from server.gateway.supervisor import Supervisor
from server.metrics import Metrics
from server.worker.base import NOT_RUNNING
from server.worker.messages import CloseSession, RequestKeyframe, WorkerReady

OPEN_TIMEOUT_S = 10.0

PromptText = str | tuple[Weighted, ...]


class Opener:
    def __init__(
        self,
        config: ServerConfig,
        sessions: Sessions,
        supervisor: Supervisor,
        budgets: Budgets,
        metrics: Metrics,
    ) -> None:
        self._config, self._sessions, self._supervisor = config, sessions, supervisor
        self._budgets, self._metrics = budgets, metrics

    async def open(self, command: OpenSession, client: str | None) -> GatewaySession:
        """The session, once it is open; it is charged to `client`. Raises Full, OverBudget, InvalidInput,
        Unavailable."""
        ready = self._admit(client)
        session = self._enter(command, ready, client)
        try:
            self._supervisor.send(command)
            async with asyncio.timeout(OPEN_TIMEOUT_S + ready.segment_ms / 1000):
                await session.opened
        except TimeoutError:
            self.drop(session, "unavailable", "the worker did not answer")
            raise Unavailable("the worker did not answer; try again in a moment") from None
        except PsistreamError as error:
            if isinstance(error, Full):
                self._metrics.refused.labels("capacity").inc()
            self._sessions.end(session, error.code, error.message)
            raise
        except asyncio.CancelledError:
            self.drop(session, "closed", "nobody waits for it any more")
            raise
        return session

    async def open_main(self) -> None:
        """Open the shared session, unless it is open: what one visitor broke must not be lost to all. Raises
        PsistreamError."""
        if MAIN not in self._sessions:
            await self.open(opening(self._config.prompt, self._config.seed, name=MAIN), None)

    def drop(self, session: GatewaySession, code: str, message: str) -> None:
        """End the session here and in the worker."""
        self._supervisor.try_send(CloseSession(session.id))
        self._sessions.end(session, code, message)

    def _admit(self, client: str | None) -> WorkerReady:
        ready, fault = self._supervisor.ready, self._supervisor.fault
        if ready is None or fault is not None:
            raise Unavailable(fault or NOT_RUNNING)
        if len(self._sessions) >= ready.max_sessions:
            self._metrics.refused.labels("sessions").inc()
            raise Full(f"all {ready.max_sessions} sessions are taken: try again later, or close one")
        try:
            self._budgets.enter(client)
        except Full:
            self._metrics.refused.labels("client").inc()
            raise
        return ready

    def _enter(self, command: OpenSession, ready: WorkerReady, client: str | None) -> GatewaySession:
        name = command.session
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
                ready.state_bytes,
                actions=ready.actions,
            ),
            command,
            shared=name == MAIN and self._config.trusts_machine,
            client=client,
            now_s=self._sessions.now_s(),
            on_viewers=lambda viewers: self._viewers_changed(name),
            on_keyframe=lambda rendition: self._supervisor.try_send(RequestKeyframe(name, rendition)),
        )
        self._sessions.add(session)
        return session

    def _viewers_changed(self, session_id: str) -> None:
        if session := self._sessions.get(session_id):
            if not session.away:
                self._supervisor.try_send(session.audience())
            session.watched(self._sessions.now_s())
            self._sessions.tell(session)


def opening(
    prompt: PromptText | None = None,
    seed: int | None = None,
    image: ByteArray | None = None,
    *,
    snapshot: bytes | None = None,
    fork_of: str | None = None,
    rewind_s: float = 0.0,
    name: str | None = None,
) -> OpenSession:
    """The order that opens a session. Its id is unguessable unless it has a `name`; its seed is random unless
    one is given or a past brings one."""
    if seed is None and snapshot is None and fork_of is None:
        seed = secrets.randbits(32)
    return OpenSession(name or unguessable(9), prompt, seed, image, snapshot, fork_of, rewind_s)
