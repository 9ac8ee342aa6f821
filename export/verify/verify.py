"""`psistream export verify`: does a backend compute what PyTorch in fp32 computes? Compares them per role on
the inputs of a session, over many segments, and with negative controls that must fail.

Over many segments both play the same sessions, each from its own results. Errors accumulate through history
and ψ, so this recursion is the comparison that matters.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from engine.backends.base import Backend
from engine.backends.pytorch import TorchBackend
from engine.model.precision import precision_of
from engine.model.signature import ModelSpec, signature
from engine.runtime.segment.generator import Generator, Job
from engine.runtime.state.state import SessionState
from export.gates import BASELINE_FACTOR, GATES, Distance, distance
from export.gates import gate as gate_of
from export.verify.parity import InputRecorder, ParityRow, RoleInputs, controls, roles

PROMPTS = (
    "a blue robot walks right through a snowy city at night",
    "a red fox in a meadow at noon",
    "an orange cat runs left along a beach at dusk in the rain",
    "a green frog in a foggy forest",
)
RECORDED_SEGMENTS = 6  # segments played to record the inputs of roles
# the largest distance between the memories of two sessions after a long recursion
RECURSION = {  # about five times the loss of PyTorch with the built-in model in that precision
    "fp32": {"psi": 3e-4, "history": 1e-4, "latents": 1e-4},
    "fp16": {"psi": 3e-3, "history": 1e-2, "latents": 1e-2},
    "bf16": {"psi": 2e-2, "history": 5e-2, "latents": 5e-2},
    "fp8": {"psi": 5e-2, "history": 0.2, "latents": 0.2},  # the denoiser's linear layers; never executed yet
}


@dataclass(frozen=True)
class ParityReport:
    """The results of all comparisons."""

    backend: str
    precision: str
    rows: list[ParityRow]
    recursion: dict[int, dict[str, Distance]]  # batch → name → the worst distance over all segments
    baseline: dict[int, dict[str, Distance]]
    segments: int
    controls: dict[str, tuple[Distance, list[str]]]
    blind: tuple[str, ...]  # controls whose effect is below the gates of this precision

    @property
    def failures(self) -> list[str]:
        messages = [
            f"{r.role} {r.output}, batch {r.batch}: {', '.join(r.problems)}" for r in self.rows if not r.ok
        ]
        for batch, found in self.recursion.items():
            for name, limit in RECURSION[self.precision].items():
                if name not in found:
                    continue  # a model without ψ
                error, own = found[name].rel_l2, self.baseline.get(batch, {}).get(name)
                if not found[name].finite or error > limit:
                    messages.append(f"{name} after {self.segments} segments: {error:.1e}, allowed {limit:g}")
                if own is not None and error > max(BASELINE_FACTOR * own.rel_l2, 1e-6):
                    messages.append(
                        f"{name} after {self.segments} segments: {error:.1e}, PyTorch's {own.rel_l2:.1e}"
                    )
        messages += [
            f"{name}: changed the output by {apart.rel_l2:.1e} and was not noticed"
            for name, (apart, why) in self.controls.items()
            if not why and name not in self.blind
        ]
        return messages

    def lines(self) -> list[str]:
        """The report as text."""
        messages = [
            f"{self.backend} beside PyTorch fp32",
            f"{'role':15s} {'output':12s} batch  error    largest",
        ]
        for r in self.rows:
            own = f"  (PyTorch's own {r.baseline.rel_l2:.1e})" if r.baseline else ""
            messages.append(
                f"{r.role:15s} {r.output:12s} {r.batch:5d}  {r.found.rel_l2:.1e}  {r.found.max_std:.1e}{own}"
            )
        for batch, found in self.recursion.items():
            errors = ", ".join(f"{name} {d.rel_l2:.1e}" for name, d in found.items())
            messages.append(f"after {self.segments} segments, batch {batch}: {errors}")
        for name, (apart, why) in self.controls.items():
            noticed = "noticed" if why else "hardly any effect" if name in self.blind else "MISSED"
            messages.append(f"control, {name}: {apart.rel_l2:.1e}, {noticed}")
        return messages + ([f"FAILED {line}" for line in self.failures] or ["all within the gates"])

    def to_json(self) -> dict[str, Any]:
        """The report as evidence for a manifest."""
        return {
            "level": "parity" if not self.failures else "executed",
            "backend": self.backend,
            "precision": self.precision,
            "gates": GATES[self.precision].to_json(),
            "roles": [
                {"role": r.role, "batch": r.batch, "output": r.output, **r.found.to_json()} for r in self.rows
            ],
            "segments": self.segments,
            "recursion": {
                str(batch): {name: d.rel_l2 for name, d in found.items()}
                for batch, found in self.recursion.items()
            },
            "controls": {name: apart.rel_l2 for name, (apart, _) in self.controls.items()},
            "blind": list(self.blind),
            "failures": self.failures,
        }


def verify(
    candidate: Backend,
    reference: TorchBackend,
    *,
    precision: str = "fp32",
    baseline: Backend | None = None,
    segments: int = 64,
    batches: Sequence[int] = (1, 4),
    precisions: Mapping[str, str] | None = None,
) -> ParityReport:
    """Compare a backend with PyTorch in fp32.

    `baseline` is PyTorch in the candidate's precision; `precisions` maps roles to their precision if it
    differs from the built-in model's. Raises InvalidInput for a precision without a gate."""
    seen = record_inputs(reference)
    kinds = precisions or {role: precision_of(role, precision) for role in signature(reference.spec)}
    gate, allowed = gate_of(precision), {role: gate_of(kind) for role, kind in kinds.items()}
    rows = roles(candidate, reference, seen, allowed, batches=batches, baseline=baseline)
    recursion = {b: recursion_errors(candidate, reference, segments, b) for b in batches}
    own = (
        {b: recursion_errors(baseline, reference, segments, b) for b in batches}
        if baseline is not None
        else {}
    )
    found_controls = controls(candidate, reference, seen, gate)
    itself = controls(reference, reference, seen, gate)
    blind = tuple(name for name, (_, why) in itself.items() if not why)
    name = f"{candidate.name} {precision}"
    return ParityReport(name, precision, rows, recursion, own, segments, found_controls, blind)


def record_inputs(reference: Backend) -> Mapping[str, RoleInputs]:
    """The inputs of each role in two sessions, one of which starts from a picture."""
    recorder = InputRecorder(reference)
    player, spec = Generator(recorder), reference.spec
    states = [SessionState.zeros(spec) for _ in range(2)]
    picture = np.random.default_rng(0).integers(0, 256, (3, spec.height, spec.width), np.uint8)
    for n, state in enumerate(states):
        from_picture = picture if n or spec.needs_image else None
        player.conditioner.start_scene(state, PROMPTS[n], seed=n, scene=0, image=from_picture)
    for n in range(RECORDED_SEGMENTS):
        play(player, states, n)
    return recorder.seen


def play(player: Generator, states: Sequence[SessionState], n: int) -> Any:
    """Play segment `n`; returns its latents and pictures."""
    spec: ModelSpec = player.spec
    jobs = [Job(state, (n + k) % len(spec.actions)) for k, state in enumerate(states)]
    return player.finish(jobs, player.denoise(jobs))


def recursion_errors(
    candidate: Backend, reference: Backend, segments: int, batch: int
) -> dict[str, Distance]:
    """The worst distances over `segments` segments, with a change of prompt in the middle.

    Those of `frames` are relative to 255; rounding may cost one level."""
    players = [Generator(backend) for backend in (candidate, reference)]
    sessions = [[SessionState.zeros(p.spec) for _ in range(batch)] for p in players]
    for player, states in zip(players, sessions, strict=True):
        picture = np.zeros((3, player.spec.height, player.spec.width), np.uint8)
        for n, state in enumerate(states):
            image = picture if player.spec.needs_image else None
            player.conditioner.start_scene(state, PROMPTS[n % len(PROMPTS)], seed=n, scene=0, image=image)
    worst: dict[str, Distance] = {}
    for n in range(segments):
        if n == segments // 2:
            for player, states in zip(players, sessions, strict=True):
                player.conditioner.recondition(states[0], PROMPTS[-1])
        a, b = (play(player, states, n) for player, states in zip(players, sessions, strict=True))
        mine, theirs = sessions
        found = {
            "latents": distance(*(np.stack([s.latents for s in x]) for x in (a, b))),
            "history": distance(*(np.stack([s.history for s in x]) for x in (mine, theirs))),
        }
        if reference.spec.memory:
            found["psi"] = distance(*(np.stack([s.psi for s in x]) for x in (mine, theirs)))
        if all(s.frames is not None for s in (*a, *b)):
            pictures = [np.stack([s.frames for s in x]).astype(float) / 255 for x in (a, b)]
            found["frames"] = distance(*pictures)
        for name, d in found.items():
            if name not in worst or d.rel_l2 > worst[name].rel_l2:
                worst[name] = d
    return worst
