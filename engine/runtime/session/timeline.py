"""A session's sequence of prompts, changes and segments: its state, what controls have changed, and its past.

`apply` only changes plain fields. The work on the device is one `due_change` at the start of the next
segment, so a flood of prompts costs no more than one prompt. This module knows no threads, other sessions or
playback speed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from engine.errors import InvalidInput
from engine.model.signature import ModelSpec
from engine.runtime.log.control_log import ControlLog, Line, LogStart
from engine.runtime.segment.conditioner import Conditioner
from engine.runtime.segment.generator import Job
from engine.runtime.state.change import Change, NewScene, as_prompts, total
from engine.runtime.state.opening import Opening, check_image
from engine.runtime.state.past import Moment, Past
from engine.runtime.state.snapshot import Saved
from engine.types import (
    Action,
    Control,
    ControlBody,
    Discarded,
    Image,
    Pause,
    Prompt,
    Receipt,
    Reset,
    Resume,
    Rewind,
)
from engine.wire.controls import check_action


class Timeline:
    """`past` decides where `now` and rewind go. `log` is None if no control log is kept."""

    def __init__(
        self, session: str, opening: Opening, spec: ModelSpec, past: Past, log: ControlLog | None
    ) -> None:
        self.id = session
        self.state = opening.state
        self.prompts = opening.prompts
        self.held = opening.held  # the held action
        self.past = past
        self.log = log
        self.paused = False
        self.epoch = 0
        self.first = self.segment = 0  # numbers of the first and of the next segment; neither goes back
        self.not_before_s = past.moments[-1].end_s  # the next segment must not be shown earlier
        self._pending = opening.change  # to be made before the next segment
        self._discarded: list[Discarded] = []
        self._spec = spec
        self._jump: tuple[int, int] | None = None  # of the latest control: to which segment, from which one

    # ---- controls ----

    def apply(self, control: Control, now_s: float) -> Receipt:
        """Take effect from the next segment on. The receipt says `applied`, or `rejected` and why."""
        if control.expires_s is not None and now_s > control.expires_s:
            late = "it came too late to take effect in time: send it again"
            return Receipt(self.id, control.id, "rejected", code="expired", message=late)
        self._jump = None
        try:
            message = self._steer(control.body, now_s)
        except InvalidInput as error:
            return Receipt(self.id, control.id, "rejected", code=error.code, message=error.message)
        self._write(control)
        return Receipt(
            self.id, control.id, "applied", segment=self.segment, frame=self.frame, message=message
        )

    def take_discarded(self) -> list[Discarded]:
        """What `apply` has invalidated since the last call."""
        discarded, self._discarded = self._discarded, []
        return discarded

    def _steer(self, body: ControlBody, now_s: float) -> str | None:
        """A message where the effect isn't obvious from the control. Raises InvalidInput."""
        match body:
            case Prompt():
                self._prompt(body, now_s)
            case Action(action):
                check_action(action, self._spec.actions)
                self.held = action
            case Pause() | Resume():
                self.paused = isinstance(body, Pause)
            case Reset():
                self._back_to_screen(body.when, now_s, follow=False)
                self._start(self._same_start(self.seed if body.seed is None else body.seed, 0))
            case Image():
                check_image(body.pixels, self._spec, "image")
                self._back_to_screen(body.when, now_s, follow=False)
                self._start(NewScene(self.seed, self._scene + 1, body.pixels))
            case Rewind():
                return self._rewind(body, now_s)
        return None

    def _prompt(self, prompt: Prompt, now_s: float) -> None:
        cut = prompt.how == "cut"
        self._back_to_screen(prompt.when, now_s, follow=not cut)
        self.prompts = as_prompts(prompt.text)
        if cut and self._spec.needs_image:
            self._start(self._same_start(self.seed, self._scene + 1))
        elif cut:
            self._start(NewScene(self.seed, self._scene + 1))
        else:
            over = prompt.transition_segments if prompt.how == "soft" else 1
            self._pending = total([self._pending, Change(self.prompts, over)])

    def _start(self, scene: NewScene) -> None:
        self._pending = Change(self.prompts, scene=scene)

    def _same_start(self, seed: int, number: int) -> NewScene:
        """A scene from the same start picture, if there was one."""
        if self._pending is not None and self._pending.scene is not None:
            return replace(self._pending.scene, seed=seed, number=number)
        return NewScene(seed, number, keep_anchor=bool(self.state.from_image))

    @property
    def seed(self) -> int:
        scene = self._pending and self._pending.scene
        return scene.seed if scene else self.state.seed

    @property
    def _scene(self) -> int:
        scene = self._pending and self._pending.scene
        return scene.number if scene else self.state.scene

    # ---- back in time ----

    def _back_to_screen(self, when: str, now_s: float, *, follow: bool) -> None:
        """For `now`: as if nothing after the segment on the screen had been made. Changes made since then are
        made again. With `follow` the next segment is shown after that one, else as soon as it is ready."""
        if when != "now":
            return
        screen = self.past.on_screen(now_s)
        pending = total([self.past.since(screen), self._pending])
        self._land(screen, pending, shown=screen)
        self.not_before_s = screen.end_s if follow else now_s

    def _rewind(self, rewind: Rewind, now_s: float) -> str:
        screen, there = self.past.on_screen(now_s), self.past.ago(rewind.seconds, now_s)
        back_s = max(0.0, self.past.position_s(now_s) - there.position_s)
        pending = self._due_at(there)
        self._land(there, pending, shown=screen)
        self.prompts = (pending.prompts if pending else None) or there.prompts
        self.not_before_s = now_s
        far = "" if back_s >= rewind.seconds else ", as far as is kept"
        return f"back by {back_s:.1f} s{far}"

    def _land(self, there: Moment, pending: Change | None, *, shown: Moment) -> None:
        self.state = there.state.copy()
        self.past.forget_after(there)
        self._pending = pending
        self.epoch += 1
        self._jump = there.segment, shown.segment
        self._discarded.append(Discarded(self.id, self.epoch, shown.segment))

    def _due_at(self, there: Moment) -> Change | None:
        """The change that was made there; before the first segment, also the one that is still pending."""
        waits = there.segment < self.first and there is self.past.moments[-1]
        return total([there.change, self._pending]) if waits else there.change

    def opening_at(self, rewind_s: float, now_s: float) -> Opening:
        """The opening of a fork: what was on the screen `rewind_s` ago. Copies references only."""
        there = self.past.ago(rewind_s, now_s) if rewind_s else self.past.on_screen(now_s)
        change = self._due_at(there) if rewind_s or there.segment < self.first else None
        prompts = (change.prompts if change else None) or there.prompts
        return Opening(there.state.copy(), prompts, there.held, change)

    def _write(self, control: Control) -> None:
        if self.log is None:
            return
        latest = self.past.moments[-1]
        saved = Saved(latest.state, latest.prompts, self.held)
        here = LogStart(self.segment, saved=saved, change=self._pending)
        line = Line(self.segment, control, *(self._jump or (None, None)))
        self.log = self.log.extended(line, self.past.moments, here)

    # ---- segments ----

    def due_change(self) -> Change | None:
        """To be made before the next segment. Empty: a running soft change takes its next step."""
        return self._pending or (Change() if self.state.fading else None)

    def change_made(self) -> None:
        """The due change has been made."""
        if self._pending is not None:
            self.past.note(self._pending)
            self._pending = None

    def job(self) -> Job:
        """The next segment, under the held action, else under the motion that the prompt asks for."""
        if self.held is not None:
            return Job(self.state, self._spec.actions.index(self.held))
        motion = int(np.argmax(self.state.motion))
        idle = self._spec.actions.index("idle") if "idle" in self._spec.actions else 0
        return Job(self.state, motion - 1 if motion else idle)

    def advance(self, due_s: float, end_s: float) -> None:
        """The next segment is made; it is shown from `due_s` to `end_s`."""
        self.past.add(Moment(self.segment, self.state.copy(), self.prompts, self.held, due_s, end_s))
        self.segment += 1

    @property
    def frame(self) -> int:
        """Number of the next segment's first frame."""
        return self.segment * self._spec.frames_per_segment


def prepare_all(conditioner: Conditioner, timelines: Sequence[Timeline]) -> None:
    """Make the due changes of all timelines, in as few device calls as possible."""
    due = [(timeline, change) for timeline in timelines if (change := timeline.due_change()) is not None]
    conditioner.prepare([(timeline.state, change) for timeline, change in due])
    for timeline, _ in due:
        timeline.change_made()
