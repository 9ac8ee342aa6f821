"""Which roles share a graph. The stages of a pyramid are one network at several sizes: they share one graph
and one engine, so that there is one copy of the weights.

No torch here. Plain data, derived from the step contract.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from engine.model.signature import ModelSpec, Role, Tensor, signature

SHARED = "denoise"  # the graph of denoise_0, denoise_1 and so on
STAGE = "stage"  # stands for the length of an axis that differs from role to role


@dataclass(frozen=True)
class GraphContract:
    """A graph: the roles that it serves, and the contract of each, smallest picture first."""

    roles: tuple[str, ...]
    contracts: tuple[Role, ...]

    @property
    def largest(self) -> Role:
        return self.contracts[-1]

    @property
    def shared(self) -> bool:
        return len(self.contracts) > 1

    @property
    def sizes(self) -> tuple[dict[str, tuple[int, ...]], ...]:
        """For each role the shapes of the inputs that differ between roles; empty for a graph of one role."""
        if not self.shared:
            return ()
        free = {t.name for t in self.largest.inputs if any(self.free(t, "inputs"))}
        return tuple({t.name: t.shape for t in c.inputs if t.name in free} for c in self.contracts)

    def free(self, tensor: Tensor, kind: Literal["inputs", "outputs"]) -> tuple[bool, ...]:
        """Of each axis, whether its length differs between the roles."""
        same = [next(t for t in getattr(c, kind) if t.name == tensor.name).shape for c in self.contracts]
        return tuple(len(set(lengths)) > 1 for lengths in zip(*same, strict=True))

    def shape(self, tensor: Tensor, kind: Literal["inputs", "outputs"]) -> list[int | str]:
        """The shape without batch, with STAGE for the axes that differ."""
        lengths = zip(tensor.shape, self.free(tensor, kind), strict=True)
        return [STAGE if free else length for length, free in lengths]


def graph_of(role: str) -> str:
    """The name of the graph that serves a role."""
    return SHARED if role.startswith(f"{SHARED}_") else role


def graphs_of(spec: ModelSpec) -> dict[str, GraphContract]:
    """All graphs of this model, by name."""
    found: dict[str, dict[str, Role]] = {}
    for role, contract in signature(spec).items():
        found.setdefault(graph_of(role), {})[role] = contract
    return {name: GraphContract(tuple(roles), tuple(roles.values())) for name, roles in found.items()}
