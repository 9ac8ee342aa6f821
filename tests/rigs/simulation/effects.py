"""What controls do: each takes effect once, in the order in which its session's owner took them, and receipts
say what happened.

A copy of a session knows its effects and its `line`: the copies whose snapshots it comes from, and itself.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from unittest.mock import patch

from engine.types import Control, Receipt
from server.gateway.recovery import LATEST_COUNTS, MAX_CONTROLS, RecoveryRecord
from server.gateway.session import INTERNAL, GatewaySession
from server.worker.base import RestoreSession
from server.worker.messages.commands import SubmitControl


@dataclass
class Taken:
    """A control that the owner of a session took; `owner` is the record of its time as the owner."""

    owner: RecoveryRecord
    control: Control


class Effects:
    """`wrong` is what must not be."""

    def __init__(self, note: Callable[[str], None]) -> None:
        self._note = note
        self._copies = count(1)
        self._taken: list[Taken] = []
        self._applied: dict[tuple[str, str], set[int]] = {}  # session and control → copies that applied it
        self._born: dict[str, list[str]] = {}  # what forks and saved sessions began with
        self._undone: set[tuple[str, str]] = set()  # by rewinds
        self._lost: set[tuple[str, str]] = set()  # with a gateway and a worker that failed at once
        self._left: dict[int, list[RecoveryRecord]] = {}  # copies from which owners went on elsewhere
        self.forks: set[str] = set()  # sessions that their gateways could not restore at first
        self.wrong: list[str] = []

    @contextmanager
    def watched(self) -> Iterator[None]:
        """See what owners take. A guest has a record too, which is given up when it becomes the owner."""
        submitted = RecoveryRecord.submitted

        def take(record: RecoveryRecord, control: Control) -> None:
            self._taken.append(Taken(record, control))
            submitted(record, control)

        with patch.object(RecoveryRecord, "submitted", take):
            yield

    def new_copy(self) -> int:
        return next(self._copies)

    def born(self, session: str, effects: list[str], *, fork: bool) -> None:
        """It is opened, perhaps from another one or a snapshot."""
        self._born[session] = list(effects)
        if fork:
            self.forks.add(session)

    def undone(self, session: str, effects: list[str], there: list[str]) -> None:
        """It goes back to where it had but these effects."""
        self._undone |= {(session, name) for name in effects if name not in there}

    def apply(self, session: str, copy: int, effects: list[str], control: str) -> None:
        """A copy with these effects applies one more."""
        if control.startswith(INTERNAL):
            return
        self._applied.setdefault((session, control), set()).add(copy)
        owners = [taken.owner for taken in self._taken if taken.control.id == control]
        if copy in self._left and not any(owner is one for owner in owners for one in self._left[copy]):
            self._lost.add((session, control))  # another gateway has held it since: a divided network
        if control in effects:
            self._fault(f"{control} is applied to {session} twice")
        sender, number = sender_of(control)
        before = [sender_of(each) for each in effects if not each.startswith(INTERNAL)]
        if late := [n for other, n in before if other == sender and n > number]:
            self._fault(f"{control} is applied to {session} after {sender}.{late[0]}")

    def restored(self, session: GatewaySession, order: RestoreSession) -> None:
        """The owner of a session lets a worker go on with it."""
        snapshot = json.loads(order.opening.snapshot) if order.opening.snapshot else {}
        effects: list[str] = snapshot.get("effects", [])
        line = set(snapshot.get("line", ()))
        for copy in line:
            self._left.setdefault(copy, []).append(session.recovery)
        then = [each.control.id for each in order.then if isinstance(each, SubmitControl)]
        then = [name for name in then if not name.startswith(INTERNAL)]
        name = session.id
        for again in [each for each in then if each in effects]:
            self._fault(f"{again} would be applied to {name} twice")
        taken = [each.control for each in self._taken if each.owner is session.recovery]
        kept = [*effects, *then]
        for at, control in enumerate(taken):
            answer = session.answers.get(control.id)
            newer = any(_replaces(other, control) for other in taken[at + 1 :])
            if answer is not None and answer.status == "rejected":
                if control.id in kept:
                    self._fault(f"{control.id} to {name} was rejected ({answer.code}), but is kept")
            elif not (
                control.id in kept
                or newer
                or (name, control.id) in self._undone | self._lost
                or (line and self._elsewhere(name, control.id, line))
                or len(taken) - at > MAX_CONTROLS
            ):
                self._fault(f"{control.id} to {name} is lost")
        for missing in self._missing(session, order, kept):
            self._fault(f"{missing} is lost, with which {name} began")
        own = [control.id for control in taken]
        order_kept = [each for each in kept if each in own]
        if order_kept != sorted(order_kept, key=own.index):
            self._fault(f"{name}: {order_kept} would be applied, in another order than {own}")
        for about, control_id in self._applied:
            if about == name and control_id not in kept and control_id not in own:
                self._lost.add((about, control_id))

    def faults(
        self, session: str, line: list[int], effects: list[str], heard: list[list[Receipt]]
    ) -> list[str]:
        """What is wrong with a session in the end. `heard`: the final receipts at each gateway that shows
        it."""
        found: list[str] = []
        said: dict[str, Receipt] = {}
        for receipts in heard:
            for receipt in receipts:
                before = said.setdefault(receipt.id, receipt)
                if before.status != receipt.status:
                    found.append(f"{receipt.id} to {session} was {before.status}, and {receipt.status}")
            names = [receipt.id for receipt in receipts]
            for name in dict.fromkeys(each for each in names if names.count(each) > 1):
                found.append(f"{name} to {session} was answered more than once")
        for name, receipt in said.items():
            if receipt.status == "rejected" and name in effects:
                found.append(f"{name} to {session} was rejected ({receipt.code}), but took effect")
            excused = (session, name) in self._lost or self._superseded(session, name)
            ran = self._applied.get((session, name), set()) & set(line)  # else in a copy that was given up
            excused = excused or (session, name) in self._undone
            if receipt.status == "applied" and ran and name not in effects and not excused:
                found.append(f"{name} to {session} was applied, but its effect is lost")
        return found

    def _missing(self, session: GatewaySession, order: RestoreSession, kept: list[str]) -> list[str]:
        """Of what a session began with; a gateway that has claimed it may have no snapshot yet."""
        name, began = session.id, self._born.get(session.id, [])
        missing = [each for each in began if each not in kept and (name, each) not in self._undone]
        if order.opening.snapshot is not None:
            return missing
        self._undone |= {(name, each) for each in missing}
        return []

    def _superseded(self, session: str, name: str) -> bool:
        known = [each.control for each in self._taken if (session, each.control.id) in self._applied]
        this = [control for control in known if control.id == name]
        return bool(this) and any(_replaces(other, this[0]) for other in known[known.index(this[0]) + 1 :])

    def _elsewhere(self, session: str, control: str, line: set[int]) -> bool:
        """Whether it took effect in another copy alone, which was given up for a newer one."""
        ran = self._applied.get((session, control), set())
        return bool(ran) and not ran & line

    def _fault(self, text: str) -> None:
        self._note(text)
        self.wrong.append(text)


def sender_of(control: str) -> tuple[str, int]:
    """`g1.2.c7` is the seventh control, of the second process of g1."""
    sender, _, number = control.rpartition(".c")
    return sender, int(number)


def _replaces(newer: Control, older: Control) -> bool:
    """Whether only the newer one matters."""
    return any(isinstance(newer.body, group) and isinstance(older.body, group) for group in LATEST_COUNTS)
