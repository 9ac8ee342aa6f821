"""Compares each role of a backend with PyTorch in fp32 on the inputs of a session, and runs negative
controls.

A gate that never fails proves nothing. So the same comparison is made with ψ of another session, shifted
positions, no history, and one weight's rows permuted; the gates must catch each of them. Legend: B batch.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import nn

from engine.backends.base import Arrays, Backend, Noise, Sampler
from engine.backends.pytorch import TorchBackend
from export.gates import Distance, distance, failures

RoleInputs = dict[str, npt.NDArray[Any]]
TIMES = (0.02, 0.5, 0.96)  # high, middle, low noise
PERMUTED = ("dit.proj_out.weight", "model.proj_out.weight")  # the last layer
ROTATIONS = ("positions.after", "positions.noisy")


@dataclass(frozen=True)
class ParityRow:
    """The comparison of one output. `baseline` is the error of PyTorch in the same precision."""

    role: str
    batch: int
    output: str
    found: Distance
    baseline: Distance | None
    problems: tuple[str, ...]

    @property
    def ok(self) -> bool:
        return not self.problems


class InputRecorder:
    """A backend that keeps the last inputs of each role."""

    def __init__(self, inner: Backend) -> None:
        self.inner, self.name, self.spec, self.fingerprint = inner, inner.name, inner.spec, inner.fingerprint
        self.seen: dict[str, RoleInputs] = {}

    def run(self, role: str, inputs: Arrays) -> dict[str, npt.NDArray[Any]]:
        self.seen[role] = {name: np.array(x) for name, x in inputs.items()}
        return self.inner.run(role, inputs)

    def tokenize(self, text: str) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
        return self.inner.tokenize(text)

    def sampler(self, steps: int, noise: Noise) -> Sampler:
        return self.inner.sampler(steps, noise)

    def close(self) -> None:
        self.inner.close()


def resized(given: RoleInputs, batch: int) -> RoleInputs:
    """The inputs with `batch` rows, repeated as needed."""
    return {name: np.resize(x, (batch, *x.shape[1:])) for name, x in given.items()}


def cases(seen: Mapping[str, RoleInputs], batch: int) -> Iterator[tuple[str, RoleInputs]]:
    """The inputs of every role, with those of the denoiser at several noise levels."""
    for role, given in seen.items():
        rows = resized(given, batch)
        if role != "denoise":
            yield role, rows
            continue
        for t in TIMES:
            yield role, {**rows, "t": np.full(batch, t, np.float32)}


def roles(
    candidate: Backend,
    reference: Backend,
    seen: Mapping[str, RoleInputs],
    allowed: Mapping[str, Distance],
    *,
    batches: Sequence[int],
    baseline: Backend | None = None,
) -> list[ParityRow]:
    """One row per role, batch size and output; for the denoiser, that of the worst noise level.

    `allowed` maps roles to gates. `baseline` is PyTorch in the candidate's precision."""
    rows: dict[tuple[str, int, str], ParityRow] = {}
    for batch in batches:
        for role, given in cases(seen, batch):
            a, b = candidate.run(role, given), reference.run(role, given)
            c = baseline.run(role, given) if baseline is not None else {}
            for name, expected in b.items():
                found = distance(a[name], expected)
                if expected.dtype == np.uint8:
                    row = ParityRow(
                        role, batch, name, found, None, tuple(levels(a[name], expected, allowed[role]))
                    )
                else:
                    own = distance(c[name], expected) if name in c else None
                    row = ParityRow(role, batch, name, found, own, tuple(failures(found, allowed[role], own)))
                key = (role, batch, name)
                if key not in rows or row.found.rel_l2 > rows[key].found.rel_l2:
                    rows[key] = row  # the worst noise level
    return list(rows.values())


def levels(a: npt.NDArray[Any], b: npt.NDArray[Any], allowed: Distance) -> list[str]:
    """The problem with a picture, if any. Pictures may differ by one level of 255 because of rounding, and by
    more if the gate is wider."""
    apart = int(np.abs(a.astype(np.int64) - b.astype(np.int64)).max())
    most = 1 + round(255 * allowed.max_std)
    return [f"{apart} levels of 255, allowed {most}"] if apart > most else []


def controls(
    candidate: Backend, reference: TorchBackend, seen: Mapping[str, RoleInputs], allowed: Distance
) -> dict[str, tuple[Distance, list[str]]]:
    """Negative control → the distance that it causes, and the gates that caught it. An empty list means that
    the gates missed it."""
    role = reference.spec.denoise_roles[-1]  # of a pyramid, the stage with the whole picture
    given = resized(seen[role], 2)
    expected = reference.run(role, given)["velocity"]
    changes: dict[str, tuple[str, Callable[[npt.NDArray[Any]], npt.NDArray[Any]]]] = {
        "psi of another session, in denoise": ("psi", lambda x: x[::-1].copy()),
        "history dropped": ("history", np.zeros_like),
        "no context": ("context", np.zeros_like),
    }
    found = {}
    for name, (part, change) in changes.items():
        if part in given:
            apart = distance(candidate.run(role, {**given, part: change(given[part])})["velocity"], expected)
            found[name] = (apart, failures(apart, allowed))
    if reference.spec.memory:
        found["psi of another session, in squeeze"] = _squeezed(candidate, reference, seen, allowed)
    own = candidate.run(role, given)["velocity"]
    for name, spoil in (("positions shifted by one", shift), ("one tensor's rows permuted", permute)):
        apart = distance(own, broken(reference, role, spoil).run(role, given)["velocity"])
        found[name] = (apart, failures(apart, allowed))
    return found


def _squeezed(
    candidate: Backend, reference: TorchBackend, seen: Mapping[str, RoleInputs], allowed: Distance
) -> tuple[Distance, list[str]]:
    given_memory = resized(seen["squeeze"], 2)
    other = {**given_memory, "psi": given_memory["psi"][::-1].copy()}
    apart = distance(
        candidate.run("squeeze", other)["psi_next"], reference.run("squeeze", given_memory)["psi_next"]
    )
    return apart, failures(apart, allowed)


def broken(reference: TorchBackend, role: str, spoil: Callable[[nn.Module], None]) -> TorchBackend:
    """The reference with a deliberately broken denoiser; it shares everything else."""
    modules = dict(reference.modules)
    whole = modules[role]
    shared = {id(t): t for t in (*whole.parameters(), *whole.buffers())}
    modules[role] = copy.deepcopy(whole, shared)
    spoil(modules[role])
    return TorchBackend("spoilt", reference.spec, modules, reference.tokenize, reference.device)


def permute(denoiser: nn.Module) -> None:
    """Shift the rows of one weight by one."""
    name = next(n for n, _ in denoiser.named_parameters() if n.endswith(PERMUTED))
    place, _, leaf = name.rpartition(".")
    weight = denoiser.get_parameter(name)
    setattr(denoiser.get_submodule(place), leaf, nn.Parameter(weight.roll(1, 0), requires_grad=False))


def shift(denoiser: nn.Module) -> None:
    """Give every later token the rotation of its neighbour."""
    name = next(n for n, _ in denoiser.named_buffers() if n.endswith(ROTATIONS))
    place, _, leaf = name.rpartition(".")
    setattr(denoiser.get_submodule(place), leaf, denoiser.get_buffer(name).roll(1, 1))
