"""One endless video: its prompt, seed and position, what controls have changed, where its playout stands.

`apply` changes plain fields only; `prepare` turns them into device work once, at the start of the next
segment, so a flood of prompts costs no more than one. It knows neither threads nor other sessions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from engine.config import MAX_PROMPT_BYTES, MAX_SEED, RuntimeConfig
from engine.errors import InvalidInput
from engine.model.signature import ModelSpec
from engine.runtime import pacing
from engine.runtime.generator import Generator, Job
from engine.runtime.inbox import Inbox
from engine.runtime.scheduler import Candidate
from engine.runtime.state import SessionState
from engine.types import (
    Action,
    ByteArray,
    Control,
    Image,
    OpenSession,
    Pause,
    Prompt,
    Receipt,
    Reset,
    Resume,
    SegmentAwaited,
    SessionInfo,
)


@dataclass(frozen=True)
class NewScene:
    """A scene to start before the next segment: from a picture, the anchor there is, or text alone."""

    image: ByteArray | None = None
    keep_anchor: bool = False


class Session:
    def __init__(
        self,
        command: OpenSession,
        spec: ModelSpec,
        config: RuntimeConfig,
        now_s: float,
        usual_s: float = 0.0,
    ) -> None:
        """`usual_s` is what a segment is expected to take; 0: nobody knows. Raises InvalidInput."""
        if not isinstance(command.prompt, str) or command.seed is None:
            raise InvalidInput("prompt and seed are wanted", field="prompt")
        check_prompt(command.prompt, "prompt")
        check_seed(command.seed, "seed")
        check_image(command.image, spec, "image")
        if spec.needs_image and command.image is None:
            raise InvalidInput(
                f"image is missing: {spec.name} goes on from a picture; give one with --image, "
                "or as `image` of a new session",
                field="image",
            )
        self.id = command.session
        self.prompt: str = command.prompt
        self.seed: int = command.seed
        self.state = SessionState.zeros(spec)
        self.inbox = Inbox(self.id, config.inbox, config.remembered_ids)
        self.held: str | None = None
        self.paused = False
        self.epoch = 0
        self.segment = 0  # number of the next segment; never goes back
        self.watched = False
        self.unwatched_since_s = now_s
        self.playout = pacing.Playout(now_s)
        self.took = pacing.Took()
        self._least_rate = min(1.0, config.least_fps / spec.fps)
        self.pace = pacing.guessed(usual_s, spec.segment_s, self._least_rate)
        self._announced: tuple[int, float] | None = None  # the segment that was said to be awaited
        self._active = True
        self._wanted_s = now_s  # as of the latest `candidate`
        self._share = 1.0  # cost of the next segment, in usual ones
        self._scene = 0
        self._new_scene: NewScene | None = NewScene(command.image)
        self._new_text = False
        self._spec = spec
        self._config = config

    # ---- controls ----

    def apply(self, control: Control) -> Receipt:
        """Let it take effect from the next segment on."""
        body = control.body
        try:
            match body:
                case Prompt():
                    self._apply_prompt(body)
                case Action():
                    check_action(body.action, self._spec.actions, "action")
                    self.held = body.action
                case Pause():
                    self.paused = True
                case Resume():
                    self.paused = False
                case Reset():
                    self._apply_reset(body)
                case Image():
                    check_image(body.pixels, self._spec, "pixels")
                    self._cut(NewScene(body.pixels))
                case _:
                    raise InvalidInput(f"control: unknown type {type(body).__name__}", field="type")
        except InvalidInput as error:
            return Receipt(self.id, control.id, "rejected", code=error.code, message=error.message)
        return Receipt(self.id, control.id, "applied", segment=self.segment, frame=self.frame)

    def _apply_prompt(self, prompt: Prompt) -> None:
        check_prompt(prompt.text, "text")
        if prompt.how not in ("recondition", "cut"):
            raise InvalidInput("how must be 'recondition' or 'cut'", field="how")
        if not isinstance(prompt.text, str):
            raise InvalidInput("text must be a string", field="text")
        self.prompt, self._new_text = prompt.text, True
        if prompt.how == "cut":
            self._cut(self._same_start() if self._spec.needs_image else NewScene())

    def _apply_reset(self, reset: Reset) -> None:
        """The same seed gives the same world again, from the same start image if there was one."""
        if reset.seed is not None:
            check_seed(reset.seed, "seed")
            self.seed = reset.seed
        self._cut(self._same_start())
        self._scene = 0

    def _same_start(self) -> NewScene:
        """From the start image again, if there was one."""
        return self._new_scene or NewScene(keep_anchor=bool(self.state.from_image))

    def _cut(self, scene: NewScene) -> None:
        self._new_scene = scene
        self._scene += 1
        self.epoch += 1

    # ---- segments ----

    def prepare(self, generator: Generator) -> None:
        """The device work that the controls since the last segment ask for."""
        scene = self._new_scene
        if scene is not None:
            generator.start_scene(
                self.state,
                self.prompt,
                seed=self.seed,
                scene=self._scene,
                image=scene.image,
                keep_anchor=scene.keep_anchor,
            )
        elif self._new_text:
            generator.recondition(self.state, self.prompt)
        self._new_scene, self._new_text = None, False

    def job(self) -> Job:
        """The next segment, under the held action, else the motion that the prompt asks for."""
        if self.held is not None:
            return Job(self.state, self._spec.actions.index(self.held))
        said = int(np.argmax(self.state.motion))
        idle = self._spec.actions.index("idle") if "idle" in self._spec.actions else 0
        return Job(self.state, said - 1 if said else idle)

    def advance(self, ready_s: float, started_s: float) -> pacing.Shown:
        """Count a finished segment and queue it for playout."""
        waited_from_s = started_s if self.playout.end_s is None else self._wanted_s
        sample_s = (ready_s - waited_from_s) / self._share
        self.took = pacing.learned(self.took, sample_s)
        self.pace = pacing.paced(self.pace, sample_s, self._spec.segment_s, self._least_rate)
        shown = pacing.shown(
            self.playout,
            ready_s,
            self._spec.segment_s,
            self._config.late_margin_s,
            rate=self.pace.rate,
            hold_s=self._hold_s,
        )
        self.playout = shown.playout
        self.segment += 1
        return shown

    # ---- time ----

    def candidate(self, now_s: float) -> Candidate | None:
        """What the scheduler needs to know; None while paused, or unwatched for too long."""
        idle = not self.watched and now_s - self.unwatched_since_s >= self._config.idle_grace_s
        active = not self.paused and not idle
        if active and not self._active:
            self.playout = pacing.resumed(self.playout, now_s)
        self._active = active
        if not active:
            return None
        steps = self._spec.steps
        if self._new_scene is not None or self.state.index == 0:
            steps = self._spec.first_steps
        self._share = steps / self._spec.steps
        lead_s = self._lead_s()
        self._wanted_s = pacing.wanted_s(self.playout, lead_s)
        deadline_s = pacing.deadline_s(self.playout, lead_s)
        if self.pace.rate < 1:
            deadline_s = pacing.turn_s(self.playout, self._spec.segment_s)
        return Candidate(self.id, self._wanted_s, deadline_s, steps)

    def _lead_s(self) -> float:
        c, shown_s = self._config, self._spec.segment_s / self.pace.rate
        if hold_s := self._hold_s:
            return hold_s + 2 * shown_s  # at once, as long as playout's queue does not overflow
        most_s = c.lead_max_s if self.pace.rate == 1 else max(c.lead_max_s, 2 * shown_s)
        return pacing.lead_s(
            self.took, share=self._share, margin=c.lead_margin, least_s=c.lead_min_s, most_s=most_s
        )

    @property
    def _hold_s(self) -> float:
        """For how long the picture stands at least when playout runs dry; 0 at speeds that can be shown."""
        holds = pacing.holds(self.pace, self._spec.segment_s, self._least_rate)
        return self._config.hold_s if holds else 0.0

    def awaited(self, now_s: float) -> SegmentAwaited | None:
        """As of the latest `candidate`: whether the next segment will be late. Said once, and taken back."""
        segment = (self.segment, self.playout.since_s)
        if not self._active:
            taken_back, self._announced = self._announced is not None, None
            return SegmentAwaited(self.id, None, self.speed, self.pace.rate) if taken_back else None
        expected_s = self._wanted_s + self._share * self.pace.usual_s
        end_s = now_s if self.playout.end_s is None else self.playout.end_s
        if segment == self._announced or self._wanted_s > now_s or expected_s <= end_s:
            return None
        self._announced = segment
        due_s = expected_s if self.playout.end_s is None else max(expected_s, end_s + self._hold_s)
        return SegmentAwaited(self.id, due_s, self.speed, self.pace.rate)

    # ---- for onlookers ----

    @property
    def speed(self) -> float:
        return pacing.speed(self.pace, self._spec.segment_s)

    @property
    def frame(self) -> int:
        return self.segment * self._spec.frames_per_segment

    def info(self) -> SessionInfo:
        return SessionInfo(
            id=self.id,
            prompt=self.prompt,
            seed=self.seed,
            paused=self.paused,
            action=self.held,
            epoch=self.epoch,
            segment=self.segment,
            frame=self.frame,
            state_bytes=self.state.nbytes,
        )


def check_prompt(text: object, field: str) -> None:
    if not isinstance(text, str):
        raise InvalidInput(f"{field} must be a string", field=field)
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        raise InvalidInput(f"{field} must be valid Unicode", field=field) from None
    if size > MAX_PROMPT_BYTES:
        raise InvalidInput(
            f"{field} is {size} bytes long, at most {MAX_PROMPT_BYTES} are allowed", field=field
        )


def check_seed(seed: object, field: str) -> None:
    if not isinstance(seed, int) or isinstance(seed, bool) or not 0 <= seed <= MAX_SEED:
        raise InvalidInput(f"{field} must be a whole number from 0 to {MAX_SEED}", field=field)


def check_action(action: object, actions: Sequence[str], field: str) -> None:
    if action is not None and action not in actions:
        raise InvalidInput(f"{field} must be one of {', '.join(actions)} or null", field=field)


def check_image(image: object, spec: ModelSpec, field: str) -> None:
    shape = (3, spec.height, spec.width)
    if image is None and field == "image":
        return
    if not isinstance(image, np.ndarray) or image.shape != shape or image.dtype != np.uint8:
        raise InvalidInput(f"{field} must be uint8 RGB of shape {shape}", field=field)
