"""One endless video in time: its story, the controls that wait, when the next segment is made and shown.

It knows neither threads nor other sessions.
"""

from __future__ import annotations

from dataclasses import replace

from engine.config import RuntimeConfig
from engine.model.signature import ModelSpec
from engine.runtime.device.scheduler import Candidate
from engine.runtime.segment.generator import Generator
from engine.runtime.session import pacing
from engine.runtime.session.inbox import Inbox
from engine.runtime.session.timeline import Story, prepare_all
from engine.runtime.state.change import spoken
from engine.types import Control, OpenSession, Receipt, SegmentAwaited, SessionInfo


class Session(Story):
    def __init__(
        self,
        command: OpenSession,
        spec: ModelSpec,
        config: RuntimeConfig,
        now_s: float,
        usual_s: float = 0.0,
        *,
        source: Session | None = None,
        fingerprint: str = "",
        backend: str = "",
    ) -> None:
        """`usual_s` is what a segment is expected to take; 0: nobody knows. `source` is the session that this
        is a fork of, `fingerprint` that of the model's weights, `backend` the name of what runs it. Raises
        InvalidInput."""
        origin = None if source is None else source.origin(command.rewind_s, now_s)
        super().__init__(command, spec, now_s, origin, fingerprint)
        self.about |= {"backend": backend, "context_noise": config.context_noise}
        self.inbox = Inbox(self.id, config.inbox, config.remembered_ids)
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
        self._config = config

    def apply(self, control: Control, now_s: float) -> Receipt:
        epoch, receipt = self.epoch, super().apply(control, now_s)
        if self.epoch != epoch:  # what is queued is dropped: the next segment is wanted at once
            self.playout = replace(self.playout, since_s=now_s, end_s=None)
        return receipt

    def prepare(self, generator: Generator) -> None:
        prepare_all(generator, [self])

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
        if (wait_s := self.not_before_s - shown.due_s) > 0:
            end_s = (shown.playout.end_s or shown.due_s) + wait_s
            playout = replace(shown.playout, end_s=end_s)
            shown = pacing.Shown(shown.due_s + wait_s, shown.ahead_s + wait_s, playout)
        self.playout = shown.playout
        end_s = shown.playout.end_s or shown.due_s
        self.advanced(shown.due_s, end_s)
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
        if self.state.index == 0 or (self._pending is not None and self._pending.scene is not None):
            steps = self._spec.first_steps
        self._share = steps / self._spec.steps
        lead_s = self._lead_s()
        self._wanted_s = pacing.wanted_s(self.playout, lead_s)
        deadline_s = pacing.deadline_s(self.playout, lead_s)
        if self.pace.rate < 1:
            deadline_s = pacing.turn_s(self.playout, self._spec.segment_s)
        return Candidate(self.id, self._wanted_s, deadline_s)

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

    def info(self) -> SessionInfo:
        return SessionInfo(
            id=self.id,
            prompt=spoken(self.prompts),
            seed=self.seed,
            paused=self.paused,
            action=self.held,
            epoch=self.epoch,
            segment=self.segment,
            frame=self.frame,
            state_bytes=self.state.nbytes,
            past_bytes=self.room.nbytes,
        )
