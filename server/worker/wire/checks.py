"""Whether an order is one that a gateway may send: what the types leave open.

A gateway has validated what its clients sent, but a worker's port is a door too: nothing that comes through
it may end a thread, fill memory or stall the device. Pictures and snapshots are checked where they are used.
"""

from __future__ import annotations

import re

from engine.types import Action, Control, Image, OpenSession, Weighted
from engine.wire.controls import check_action, control_json
from engine.wire.fields import MAX_PROMPTS, MAX_REWIND_S, MAX_SEED, MAX_TEXT_BYTES
from engine.wire.parse import stored_control
from server.codecs import CODECS
from server.worker.base import SESSION_ID, Order, RestoreSession
from server.worker.epochs import CLOSED
from server.worker.messages.commands import ExportSession, SetViewers, SubmitControl
from server.worker.messages.events import WorkerReady
from server.worker.messages.holding import Answered, ClaimSession, EndCopy, WatchSession
from server.worker.wire.expected import Expected

NAME_CHARS = 64
RENDITION = re.compile(f"({'|'.join(CODECS)})(/[0-9])?")
MAX_VIEWERS = 1_000_000
MAX_RENDITIONS = 16
MAX_ORDERS = 256
MAX_START_S = 3600.0
MAX_NUMBER = 2**53

_EXPECTED = Expected("gateway sends")
_require = _EXPECTED.require


def check(order: Order, ready: WorkerReady) -> None:
    """Raises InvalidInput."""
    session = getattr(order, "session", None)
    if session is not None:
        _require(SESSION_ID.fullmatch(session) is not None, "session")
    match order:
        case OpenSession():
            _opening(order)
        case RestoreSession(opening, then, starts_in_s, epoch, numbers):
            check(opening, ready)
            _require(0 <= epoch < CLOSED, "epoch")
            _require(0 <= starts_in_s <= MAX_START_S, "starts_in_s")
            _require(len(then) <= MAX_ORDERS, "then")
            _require(all(0 <= number < MAX_NUMBER for number in vars(numbers).values()), "numbers")
            for each in then:
                _require(getattr(each, "session", None) == opening.session, "then")
                check(each, ready)
        case ClaimSession(epoch=epoch):
            _require(0 <= epoch < CLOSED, "epoch")
        case EndCopy(epoch=epoch):
            _require(0 <= epoch <= CLOSED, "epoch")
        case SubmitControl(control=control, epoch=epoch):
            _require(0 <= epoch < CLOSED, "epoch")
            _control(control, ready)
        case ExportSession():
            _name(order.request, "request")
            _require(0 <= order.rewind_s <= MAX_REWIND_S, "rewind_s")
        case SetViewers(viewers=viewers, count=count) | WatchSession(viewers=viewers, count=count):
            known = len(viewers) <= MAX_RENDITIONS and all(map(RENDITION.fullmatch, viewers))
            _require(known and all(0 <= n <= MAX_VIEWERS for n in viewers.values()), "viewers")
            _require(0 <= count <= MAX_VIEWERS, "count")
        case Answered(receipt=receipt):
            _require(receipt.session == session, "receipt")


def _opening(command: OpenSession) -> None:
    prompt = command.prompt
    goes_on = command.snapshot is not None or command.fork_of is not None
    _require(goes_on or (prompt is not None and command.seed is not None), "prompt")
    if prompt is not None:
        texts = (Weighted(prompt),) if isinstance(prompt, str) else prompt
        _require(1 <= len(texts) <= MAX_PROMPTS and all(0 < w.weight <= 1000 for w in texts), "prompt")
        _require(0 < sum(len(w.text.encode()) for w in texts) <= 2 * MAX_TEXT_BYTES, "prompt")
    _require(command.seed is None or 0 <= command.seed <= MAX_SEED, "seed")
    _require(0 <= command.rewind_s <= MAX_REWIND_S, "rewind_s")
    _require(command.image is None or command.image.ndim == 3, "image")
    _require(command.video is None or command.video.ndim == 4, "video")


def _control(control: Control, ready: WorkerReady) -> None:
    _name(control.id, "id")
    if isinstance(control.body, Image):
        _require(control.body.pixels.shape == (3, ready.height, ready.width), "pixels")
        return
    stored_control(control_json(control.body), lambda data: _require(False, "pixels"))  # type: ignore[arg-type, return-value]
    if isinstance(control.body, Action) and ready.actions:
        check_action(control.body.action, ready.actions)


def _name(text: str, field: str) -> None:
    _EXPECTED.text(text, NAME_CHARS, field)
