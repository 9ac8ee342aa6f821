"""A saved session ↔ bytes: a mark with the format's number, the SHA-256 of the rest, a wire message."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from typing import ClassVar

from engine.errors import InvalidInput
from engine.types import Control, OpenSession, SessionInfo
from server.gateway.recovery import RecoveryRecord
from server.worker.base import Numbers, RestoreSession
from server.worker.epochs import CLOSED
from server.worker.messages.commands import SubmitControl
from server.worker.messages.events import WorkerReady
from server.worker.wire.checks import check
from server.worker.wire.codec import decode, encode
from server.worker.wire.event_checks import check_event
from server.worker.wire.values import Malformed

MARK = b"psistream session 1\n"
RATE = 90_000


class Damaged(InvalidInput):
    """These bytes are not a saved session, or not as they were written."""

    code = "damaged"


@dataclass(frozen=True)
class SavedSession:
    """Everything that a gateway needs to go on with a session. `saved_at` is a Unix time; `numbers` are those
    of the session at that time; `record` is as in storage.record."""

    wire_name: ClassVar[str] = "saved"

    owner: str  # the gateway that saved it, and alone may resume it
    model: str
    fingerprint: str  # of the model's weights
    saved_at: float
    lease_epoch: int
    numbers: Numbers
    record: bytes
    info: SessionInfo
    opening: OpenSession  # from its latest snapshot, if there was one
    controls: tuple[Control, ...]  # that the snapshot does not contain

    def fits(self, ready: WorkerReady) -> bool:
        return (self.model, self.fingerprint) == (ready.model, ready.fingerprint)

    def check(self, session: str, ready: WorkerReady) -> None:
        """Raises Damaged for what no gateway would save."""
        then = tuple(SubmitControl(session, control) for control in self.controls)
        try:
            if not (session == self.info.id == self.opening.session) or not 1 <= self.lease_epoch < CLOSED:
                raise Damaged("it is of another session")
            if not 0 <= self.saved_at < 1 << 40:
                raise Damaged("it has no date")
            check(RestoreSession(self.opening, then, numbers=self.numbers), ready)
            check_event(self.info)
        except Damaged:
            raise
        except InvalidInput as error:
            raise Damaged(error.message) from None

    def recovery(self) -> RecoveryRecord:
        found = RecoveryRecord(self.opening)
        for control in self.controls:
            found.submitted(control)
        return found

    def numbers_at(self, wall_s: float, ready: WorkerReady) -> Numbers:
        """The first numbers to continue with at this Unix time. It may have played on for as long as it was
        away, so no number and no media time below that is used again."""
        away_s = max(0.0, wall_s - self.saved_at) + 1.0
        segments = math.ceil(away_s * ready.fps / ready.frames_per_segment)
        was = self.numbers
        return Numbers(
            was.epoch,
            was.segment + segments,
            was.frame + segments * ready.frames_per_segment,
            was.media_90k + math.ceil(away_s * RATE),
        )


def pack(saved: SavedSession, now_s: float) -> bytes:
    """`now_s` is the time on the clock of the controls' moments. Not for the event loop: it hashes it all."""
    body = encode(saved, now_s)
    return MARK + hashlib.sha256(body).digest() + body


def unpack(data: bytes, now_s: float) -> SavedSession:
    """Raises Damaged. Not for the event loop."""
    start = len(MARK) + 32
    if not data.startswith(MARK):
        raise Damaged("it was not written by this version of psistream")
    body = data[start:]
    if hashlib.sha256(body).digest() != data[len(MARK) : start]:
        raise Damaged("it is not as it was written: its SHA-256 differs")
    try:
        found = decode(body, {SavedSession.wire_name: SavedSession}, now_s)
    except Malformed as error:
        raise Damaged(error.message) from None
    if not isinstance(found, SavedSession):
        raise Damaged("it is not a session")
    return found
