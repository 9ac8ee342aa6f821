"""One endless video in time: its timeline, waiting controls, and when the next segment is made and shown.

This module knows no threads and no other sessions.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import NamedTuple

from engine.config import RuntimeConfig
from engine.errors import Unavailable
from engine.model.signature import ModelSpec
from engine.runtime.log.control_log import ControlLog, LogStart, started_at
from engine.runtime.session import pacing
from engine.runtime.session.inbox import Inbox
from engine.runtime.session.pacing import Candidate
from engine.runtime.session.timeline import Timeline
from engine.runtime.session.told import told
from engine.runtime.state import snapshot
from engine.runtime.state.change import described
from engine.runtime.state.opening import Opening
from engine.runtime.state.past import LivePast, Moment, first_moment, limits
from engine.types import Control, OpenSession, Receipt, SegmentAwaited, SessionInfo


class Export(NamedTuple):
    data: bytes
    segment: int  # the last one that it shows; -1: none
    end_s: float  # when that one has been shown


class Session:
    def __init__(
        self,
        command: OpenSession,
        opening: Opening,
        spec: ModelSpec,
        config: RuntimeConfig,
        now_s: float,
        usual_s: float = 0.0,
        fingerprint: str = "",
        backend: str = "",
    ) -> None:
        """`opening` is the command's. `usual_s` is the expected time of a segment; 0: unknown. `fingerprint`
        identifies the model's weights, `backend` names what runs it. Copies references only."""
        first = first_moment(opening, now_s)
        self.past_limits = limits(opening.state, spec)
        past = LivePast(first, self.past_limits.moments)
        log = ControlLog(_log_start(command, opening, first))
        self.id = command.session
        self.timeline = Timeline(self.id, opening, spec, past, log)
        self.inbox = Inbox(self.id, config.inbox, config.remembered_ids)
        self.watched = False
        self.unwatched_since_s = now_s
        self.playout = pacing.PlayoutClock(now_s)
        self.took = pacing.Took()
        self._least_rate = min(1.0, config.least_fps / spec.fps)
        self.pace = pacing.guessed(usual_s, spec.segment_s, self._least_rate)
        self._announced: tuple[int, float] | None = None  # the segment last announced as late
        self._active = True
        self._wanted_s = now_s  # as of the latest `candidate`
        self._told = told(opening.state, spec)
        self._share = 1.0  # cost of the next segment, in usual ones
        self._spec, self._config, self._fingerprint = spec, config, fingerprint
        self._about = {
            "model": spec.name,
            "weights": fingerprint,
            "backend": backend,
            "context_noise": config.context_noise,
        }

    def apply(self, control: Control, now_s: float) -> Receipt:
        """See Timeline.apply."""
        epoch, receipt = self.timeline.epoch, self.timeline.apply(control, now_s)
        if self.timeline.epoch != epoch:  # queued frames are dropped: the next segment is wanted at once
            self.playout = replace(self.playout, since_s=now_s, end_s=None)
        return receipt

    def export(self, what: str, now_s: float, rewind_s: float = 0.0) -> Export:
        """A "snapshot" of what is on the screen, or was `rewind_s` ago, or the control "log". Callable from
        any thread without a lock: what it reads is never changed in place. Raises Unavailable."""
        timeline = self.timeline
        save = partial(snapshot.save, self._spec, self._fingerprint)
        if what == "log" and timeline.log is not None:
            data = timeline.log.written({**self._about, "segments": timeline.segment}, save)
            return Export(data, timeline.segment - 1, now_s)
        if rewind_s and timeline.opening_at(rewind_s, now_s).change is not None:
            raise Unavailable("the prompt changed just there: go back a little more or less", field="seconds")
        screen = timeline.past.ago(rewind_s, now_s) if rewind_s else timeline.past.on_screen(now_s)
        if screen.segment < timeline.first and not screen.state.psi.any():
            raise Unavailable("nothing has been shown yet: it is made once somebody watches", field="session")
        saved = snapshot.Saved(screen.state, screen.prompts, screen.held)
        return Export(save(saved), screen.segment, screen.end_s)

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
            stall_s=self._stall_s,
        )
        if (wait_s := self.timeline.not_before_s - shown.due_s) > 0:
            end_s = (shown.playout.end_s or shown.due_s) + wait_s
            playout = replace(shown.playout, end_s=end_s)
            shown = pacing.Shown(shown.due_s + wait_s, shown.ahead_s + wait_s, playout)
        self.playout = shown.playout
        end_s = shown.playout.end_s or shown.due_s
        self.timeline.advance(shown.due_s, end_s)
        return shown

    # ---- time ----

    def candidate(self, now_s: float) -> Candidate | None:
        """What the scheduler needs to know; None while paused, or unwatched for too long."""
        idle = not self.watched and now_s - self.unwatched_since_s >= self._config.idle_grace_s
        active = not self.timeline.paused and not idle
        if active and not self._active:
            self.playout = pacing.resumed(self.playout, now_s)
        self._active = active
        if not active:
            return None
        steps = self._spec.steps
        change = self.timeline.due_change()
        if self.timeline.state.index == 0 or (change is not None and change.scene is not None):
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
        if stall_s := self._stall_s:
            return stall_s + 2 * shown_s  # at once, as long as playout's queue does not overflow
        most_s = c.lead_max_s if self.pace.rate == 1 else max(c.lead_max_s, 2 * shown_s)
        return pacing.lead_s(
            self.took, share=self._share, margin=c.lead_margin, least_s=c.lead_min_s, most_s=most_s
        )

    @property
    def _stall_s(self) -> float:
        """The minimum length of a stall when playout runs dry; 0 at speeds that can be shown without
        stalls."""
        stalls = pacing.stalls(self.pace, self._spec.segment_s, self._least_rate)
        return self._config.stall_s if stalls else 0.0

    def awaited(self, now_s: float) -> SegmentAwaited | None:
        """A late next segment, as of the latest `candidate`; announced once, and withdrawn when the session
        idles."""
        segment = (self.timeline.segment, self.playout.since_s)
        if not self._active:
            withdrawn, self._announced = self._announced is not None, None
            return SegmentAwaited(self.id, None, self.speed, self.pace.rate) if withdrawn else None
        expected_s = self._wanted_s + self._share * self.pace.usual_s
        end_s = now_s if self.playout.end_s is None else self.playout.end_s
        if segment == self._announced or self._wanted_s > now_s or expected_s <= end_s:
            return None
        self._announced = segment
        due_s = expected_s if self.playout.end_s is None else max(expected_s, end_s + self._stall_s)
        return SegmentAwaited(self.id, due_s, self.speed, self.pace.rate)

    @property
    def speed(self) -> float:
        return pacing.speed(self.pace, self._spec.segment_s)

    def info(self) -> SessionInfo:
        t = self.timeline
        return SessionInfo(
            id=self.id,
            prompt=described(t.prompts),
            seed=t.seed,
            paused=t.paused,
            action=t.held,
            epoch=t.epoch,
            segment=t.segment,
            frame=t.frame,
            state_bytes=t.state.nbytes,
            past_bytes=self.past_limits.nbytes,
            actions=self._spec.actions,
            **told(t.state, self._spec)._asdict(),
        )

    def news(self) -> list[SessionInfo]:
        """What to tell if the scene's values or named landmarks are others than when this was asked last."""
        now = told(self.timeline.state, self._spec)
        seen = now._replace(landmarks=tuple(replace(one, px=0) for one in now.landmarks))
        before, self._told = self._told, seen
        return [self.info()] if before != seen else []


def _log_start(command: OpenSession, opening: Opening, first: Moment) -> LogStart:
    """A log of a new video names prompts and seed; one of a fork or a snapshot starts from its state."""
    if command.snapshot is None and command.fork_of is None and command.seed is not None:
        return LogStart(0, opening.prompts, command.seed, command.image)
    return replace(started_at(first), change=opening.change)
