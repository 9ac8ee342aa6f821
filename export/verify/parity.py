"""Compares each role of a backend with PyTorch in fp32, on inputs from a real session, with controls that
must fail.

A gate that never fails proves nothing. The same comparison is therefore made with ψ of another session,
shifted positions, no history, and one weight's rows permuted. The gates must catch each of them. Legend: B
batch.
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

Given = dict[str, npt.NDArray[Any]]
TIMES = (0.02, 0.5, 0.96)  # high, middle, low noise
PERMUTED = ("dit.proj_out.weight", "model.proj_out.weight")  # the last layer
ROTATIONS = ("positions.after", "positions.noisy")


@dataclass(frozen=True)
class ParityRow:
    role: str
    batch: int
    output: str
    found: Distance
    rival: Distance | None
    said: tuple[str, ...]

    @property
    def ok(self) -> bool:
        return not self.said


class InputRecorder:
    """A backend that keeps the last inputs of each role."""

    def __init__(self, inner: Backend) -> None:
        self.inner, self.name, self.spec, self.fingerprint = inner, inner.name, inner.spec, inner.fingerprint
        self.seen: dict[str, Given] = {}

    def run(self, role: str, inputs: Arrays) -> dict[str, npt.NDArray[Any]]:
        self.seen[role] = {name: np.array(x) for name, x in inputs.items()}
        return self.inner.run(role, inputs)

    def tokenize(self, text: str) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
        return self.inner.tokenize(text)

    def sampler(self, steps: int, noise: Noise) -> Sampler:
        return self.inner.sampler(steps, noise)

    def close(self) -> None:
        self.inner.close()


def sized(given: Given, batch: int) -> Given:
    """Repeat the rows until there are `batch` of them."""
    return {name: np.resize(x, (batch, *x.shape[1:])) for name, x in given.items()}


def cases(seen: Mapping[str, Given], batch: int) -> Iterator[tuple[str, Given]]:
    """The inputs of every role; those of the denoiser at several noise levels."""
    for role, given in seen.items():
        rows = sized(given, batch)
        if role != "denoise":
            yield role, rows
            continue
        for t in TIMES:
            yield role, {**rows, "t": np.full(batch, t, np.float32)}


def roles(
    candidate: Backend,
    reference: Backend,
    seen: Mapping[str, Given],
    allowed: Mapping[str, Distance],
    *,
    batches: Sequence[int],
    rival: Backend | None = None,
) -> list[ParityRow]:
    """One row per role, batch and output.

    `allowed` maps roles to gates. `rival` is PyTorch in the candidate's precision."""
    rows: dict[tuple[str, int, str], ParityRow] = {}
    for batch in batches:
        for role, given in cases(seen, batch):
            a, b = candidate.run(role, given), reference.run(role, given)
            c = rival.run(role, given) if rival is not None else {}
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
    """Pictures may differ by one level of 255, since fp32 may round the other way; by more if the gate is
    wider."""
    apart = int(np.abs(a.astype(np.int64) - b.astype(np.int64)).max())
    most = 1 + round(255 * allowed.max_std)
    return [f"{apart} levels of 255, allowed {most}"] if apart > most else []


def controls(
    candidate: Backend, reference: TorchBackend, seen: Mapping[str, Given], allowed: Distance
) -> dict[str, tuple[Distance, list[str]]]:
    """What was broken → how far it moved the velocity, and the gates that caught it. An empty list means that
    the gates do not work."""
    role = reference.spec.denoise_roles[-1]  # of a pyramid, the stage with the whole picture
    given = sized(seen[role], 2)
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
        apart = distance(own, spoilt(reference, role, spoil).run(role, given)["velocity"])
        found[name] = (apart, failures(apart, allowed))
    return found


def _squeezed(
    candidate: Backend, reference: TorchBackend, seen: Mapping[str, Given], allowed: Distance
) -> tuple[Distance, list[str]]:
    given_memory = sized(seen["squeeze"], 2)
    other = {**given_memory, "psi": given_memory["psi"][::-1].copy()}
    apart = distance(
        candidate.run("squeeze", other)["psi_next"], reference.run("squeeze", given_memory)["psi_next"]
    )
    return apart, failures(apart, allowed)


def spoilt(reference: TorchBackend, role: str, spoil: Callable[[nn.Module], None]) -> TorchBackend:
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
    """Give every late token the rotation of its neighbour."""
    name = next(n for n, _ in denoiser.named_buffers() if n.endswith(ROTATIONS))
    place, _, leaf = name.rpartition(".")
    setattr(denoiser.get_submodule(place), leaf, denoiser.get_buffer(name).roll(1, 1))
