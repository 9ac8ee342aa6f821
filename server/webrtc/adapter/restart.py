"""ICE restart on an open connection, which aiortc 1.16 lacks. Hooks into aioice 0.13, with one test each.

The offerer controls ICE, so it checks and nominates; this side answers, and checks the candidates that it is
given. Packets use the old pair until a new one is nominated, and DTLS is not affected.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol, cast

from aioice import Candidate, ice
from aioice.utils import random_string
from aiortc import RTCIceCandidate, RTCRtpTransceiver
from aiortc.rtcicetransport import candidate_to_aioice
from aiortc.sdp import candidate_to_sdp

from server.tasks import log_failure

CHECK_EVERY_S = 0.02  # Ta of RFC 8445


class Credentials(NamedTuple):
    ufrag: str
    pwd: str


class _Connection(Protocol):
    """The parts of aioice.Connection that are used here."""

    remote_username: str | None
    remote_password: str | None
    _local_username: str
    _local_password: str
    _check_list: list[ice.CandidatePair]
    _remote_candidates: list[Candidate]
    _remote_candidates_end: bool
    _query_consent_task: asyncio.Task[None] | None
    _closing: bool
    add_remote_candidate: Any
    check_start_task: Any
    query_consent: Any


class IceRestart:
    """The restarts of one connection, each with new credentials. `close` ends its checks."""

    def __init__(self, transceiver: RTCRtpTransceiver) -> None:
        transport = transceiver.receiver.transport.transport
        self._gatherer = transport.iceGatherer
        self._connection = cast(_Connection, transport._connection)
        self._checks: asyncio.Task[None] | None = None

    @property
    def local(self) -> Credentials:
        return Credentials(self._connection._local_username, self._connection._local_password)

    @property
    def candidates(self) -> list[str]:
        """Values of the `a=candidate:` lines: the sockets stay, so they are those of the answer."""
        return [candidate_to_sdp(candidate) for candidate in self._gatherer.getLocalCandidates()]

    def begin(self, remote: Credentials) -> None:
        """Set new credentials for both sides and discard the old check list.

        Sets `Connection._local_username`, `_local_password`, `_check_list`, `_remote_candidates` and
        `_remote_candidates_end`. `_nominated` stays, so that the old pair is used meanwhile. Consent (RFC
        7675) is requested with the new credentials and counted from zero: `_query_consent_task`."""
        connection = self._connection
        self.close()
        for pair in connection._check_list:
            if pair.task is not None:
                pair.task.cancel()
        connection._check_list = []
        connection._remote_candidates, connection._remote_candidates_end = [], False
        connection._local_username, connection._local_password = random_string(4), random_string(22)
        connection.remote_username, connection.remote_password = remote
        if connection._query_consent_task is not None:
            connection._query_consent_task.cancel()
            connection._query_consent_task = asyncio.get_running_loop().create_task(
                connection.query_consent(), name="ice-consent"
            )

    async def add(self, candidates: Sequence[RTCIceCandidate]) -> None:
        """After `begin`: the peer's new candidates. This side checks them too, since a TURN server only lets
        through peers that this side has sent to."""
        for candidate in candidates:
            await self._connection.add_remote_candidate(candidate_to_aioice(candidate))
        if self._checks is None or self._checks.done():
            self._checks = asyncio.get_running_loop().create_task(self._check(), name="ice-checks")
            self._checks.add_done_callback(log_failure)

    def close(self) -> None:
        if self._checks is not None:
            self._checks.cancel()

    async def _check(self) -> None:
        for pair in list(self._connection._check_list):
            if self._connection._closing:
                return
            if pair.state in (ice.CandidatePair.State.WAITING, ice.CandidatePair.State.FROZEN):
                self._connection.check_start_task(pair)
                await asyncio.sleep(CHECK_EVERY_S)
