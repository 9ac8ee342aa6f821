"""What a video is about: its prompts, its state, what controls have changed, and its past. It has no clock.

`apply` changes plain fields only; what it takes of the device is one `wish` at the start of the next segment,
so a flood of prompts costs no more than one. It knows neither threads nor other sessions, nor how fast the
video is made.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from engine.errors import InvalidInput, Unavailable
from engine.model.signature import ModelSpec
from engine.runtime.log.control_log import MOST_LINES, Begin, ControlLog, Line
from engine.runtime.segment.conditioner import Conditioner
from engine.runtime.segment.generator import Job
from engine.runtime.state import snapshot
from engine.runtime.state.change import Change, NewScene, total
from engine.runtime.state.checks import check_body, check_seconds, checked_prompts
from engine.runtime.state.opening import Origin, begin
from engine.runtime.state.past import Moment, Past, room
from engine.types import (
    Action,
    Control,
    Discarded,
    Image,
    OpenSession,
    Pause,
    Prompt,
    Receipt,
    Reset,
    Resume,
    Rewind,
)


class Story:
    def __init__(
        self, command: OpenSession, spec: ModelSpec, now_s: float, source: Origin | None, fingerprint: str
    ) -> None:
        """Raises InvalidInput."""
        start = begin(command, spec, fingerprint, source)
        self.id = command.session
        self.state = start.state
        self.prompts = start.prompts
        self.held = start.held
        self.paused = False
        self.epoch = 0
        self.first = self.segment = 0  # numbers of the first segment and of the next; neither goes back
        first = Moment(-1, self.state.copy(), self.prompts, self.held, now_s, now_s)
        self.room = room(self.state, spec)
        self.past = Past(first, self.room.moments)
        self.not_before_s = now_s  # when the next segment may be shown: what is on the screen ends first
        self._pending = start.change  # for the next segment
        self._news: list[Discarded] = []
        self._spec = spec
        self._fingerprint = fingerprint
        self.about: dict[str, Any] = {"model": spec.name, "weights": fingerprint}  # for the log's header
        self._went: tuple[int, int] | None = None  # where the latest control went back to, and from where
        self.log = ControlLog(self._began(command, start))

    # ---- controls ----

    def apply(self, control: Control, now_s: float) -> Receipt:
        """Let it take effect from the next segment on."""
        if control.expires_s is not None and now_s > control.expires_s:
            late = "it came too late to take effect in time: send it again"
            return Receipt(self.id, control.id, "rejected", code="expired", message=late)
        self._went = None
        try:
            message = self._steer(control.body, now_s)
        except InvalidInput as error:
            return Receipt(self.id, control.id, "rejected", code=error.code, message=error.message)
        self._write(control)
        return Receipt(
            self.id, control.id, "applied", segment=self.segment, frame=self.frame, message=message
        )

    def take_news(self) -> list[Discarded]:
        """What `apply` made invalid, once."""
        news, self._news = self._news, []
        return news

    def _steer(self, body: object, now_s: float) -> str | None:
        """Says something where the effect isn't plain from the control."""
        check_body(body, self._spec)
        match body:
            case Prompt():
                self._steer_prompt(body, now_s)
            case Action():
                self.held = body.action
            case Pause():
                self.paused = True
            case Resume():
                self.paused = False
            case Reset():
                self._back_to_screen(body.when, now_s, follow=False)
                self._start(self._same_start(self.seed if body.seed is None else body.seed, 0))
            case Image():
                self._back_to_screen(body.when, now_s, follow=False)
                self._start(NewScene(self.seed, self._scene + 1, body.pixels))
            case Rewind():
                return self._rewind(body, now_s)
        return None

    def _steer_prompt(self, prompt: Prompt, now_s: float) -> None:
        cut = prompt.how == "cut"
        self._back_to_screen(prompt.when, now_s, follow=not cut)
        self.prompts = checked_prompts(prompt.text, "text")
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
        """From the start image again, if there was one."""
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
        """For `now`: as if nothing after the segment on the screen had been made. What controls have changed
        since is changed again. The next segment follows that one, or is shown as soon as it is there."""
        if when != "now":
            return
        screen = self.past.on_screen(now_s)
        pending = total([self.past.since(screen), self._pending])
        self._land(screen, pending, now_s, shown=screen)
        self.not_before_s = screen.end_s if follow else now_s

    def _rewind(self, rewind: Rewind, now_s: float) -> str:
        screen, there = self.past.on_screen(now_s), self.past.ago(rewind.seconds, now_s)
        back_s = max(0.0, self.past.position_s(now_s) - there.position_s)
        pending = self._due_at(there)
        self._land(there, pending, now_s, shown=screen)
        self.prompts = (pending.prompts if pending else None) or there.prompts
        self.not_before_s = now_s
        far = "" if back_s >= rewind.seconds else ", as far as is kept"
        return f"back by {back_s:.1f} s{far}"

    def _land(self, there: Moment, pending: Change | None, now_s: float, *, shown: Moment) -> None:
        self.state = there.state.copy()
        self.past.forget_after(there)
        self._pending = pending
        self.epoch += 1
        self._went = there.segment, shown.segment
        self._news.append(Discarded(self.id, self.epoch, shown.segment))

    def _due_at(self, there: Moment) -> Change | None:
        """What was changed there, before the next segment; of a video that hasn't begun, what is to be."""
        waits = there.segment < self.first and there is self.past.moments[-1]
        return total([there.change, self._pending]) if waits else there.change

    def origin(self, rewind_s: float, now_s: float) -> Origin:
        """What a fork begins with: what was on the screen so long ago. Callable from any thread."""
        check_seconds(rewind_s, "rewind_s")
        there = self.past.ago(rewind_s, now_s) if rewind_s else self.past.on_screen(now_s)
        change = self._due_at(there) if rewind_s or there.segment < self.first else None
        prompts = (change.prompts if change else None) or there.prompts
        return Origin(there.state.copy(), prompts, there.held, change)

    def export(self, what: str, now_s: float) -> bytes:
        """A "snapshot" of what is on the screen, or the control "log". Raises Unavailable."""
        if what == "log":
            return self.log.written({**self.about, "segments": self.segment})
        screen = self.past.on_screen(now_s)
        if screen.segment < self.first and not screen.state.psi.any():
            raise Unavailable("nothing has been shown yet: it is made once somebody watches", field="session")
        return self._saved(screen)

    # ---- the control log ----

    def _began(self, command: OpenSession, start: Origin) -> Begin:
        if command.snapshot is None and command.fork_of is None and command.seed is not None:
            return Begin(0, start.prompts, command.seed, command.image)
        return Begin(0, snapshot=self._saved(self.past.moments[0]), change=start.change)

    def _write(self, control: Control) -> None:
        """It begins anew at a kept moment where it has become too long, or is gone back to before its
        beginning."""
        there, screen = self._went or (None, None)
        self.log = self.log.add(Line(self.segment, control, there, screen))
        if self.log.too_long:
            room = MOST_LINES // 2
            later = [m for m in self.past.moments if m.segment >= self.log.begin.segment]
            few = (m for m in later if sum(li.segment > m.segment for li in self.log.lines) <= room)
            moment = next(few, later[-1] if later else None)
            begin = moment and Begin(moment.segment + 1, snapshot=self._saved(moment))
            self.log = self.log.since(begin or self.log.begin)
        elif there is not None and there < self.log.begin.segment - 1:
            here = replace(self.past.moments[-1], held=self.held)
            self.log = ControlLog(Begin(self.segment, snapshot=self._saved(here), change=self._pending))

    def _saved(self, moment: Moment) -> bytes:
        saved = snapshot.Saved(moment.state, moment.prompts, moment.held)
        return snapshot.save(self._spec, self._fingerprint, saved)

    # ---- segments ----

    def wish(self) -> Change | None:
        """What has to be prepared before the next segment; empty: a soft change goes on."""
        return self._pending or (Change() if self.state.fading else None)

    def prepared(self) -> None:
        """The wish is fulfilled."""
        if self._pending is not None:
            self.past.note(self._pending)
            self._pending = None

    def job(self) -> Job:
        """The next segment, under the held action, else the motion that the prompt asks for."""
        if self.held is not None:
            return Job(self.state, self._spec.actions.index(self.held))
        said = int(np.argmax(self.state.motion))
        idle = self._spec.actions.index("idle") if "idle" in self._spec.actions else 0
        return Job(self.state, said - 1 if said else idle)

    def advanced(self, due_s: float, end_s: float) -> None:
        """The next segment is made, and when it is shown."""
        self.past.add(Moment(self.segment, self.state.copy(), self.prompts, self.held, due_s, end_s))
        self.segment += 1

    @property
    def frame(self) -> int:
        return self.segment * self._spec.frames_per_segment


def prepare_all(conditioner: Conditioner, stories: Sequence[Story]) -> None:
    """The device work that controls since the last segment ask for, all stories' together."""
    wishes = [(story, wish) for story in stories if (wish := story.wish()) is not None]
    conditioner.prepare([(story.state, wish) for story, wish in wishes])
    for story, _ in wishes:
        story.prepared()
