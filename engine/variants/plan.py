"""A plan of variants: their common settings, and what each changes in the model or the objective.

Plans are TOML files; `plans/variants.toml` is the packaged one.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from engine.errors import InvalidInput
from engine.model.config import build
from engine.text_files import read_text
from engine.training.recipe import Recipe, merged, parse

PACKAGED: Final = Path(__file__).parent / "plans"
DONE: Final = "dit.final.pt"


@dataclass(frozen=True)
class Variant:
    name: str = ""  # also its folder in the run
    title: str = ""  # in the table
    after: str = ""  # the variant whose weights it starts from; empty: from scratch
    steps: int = 0
    weights: str = ""  # or a file {"config", "state"} to use as it is
    control: str = ""  # the variant to compare it with, over the same seeds
    paper: tuple[str, ...] = ()  # its rows in the paper's tables
    backwards: bool = False  # FramePack-F0: trained on reversed time (engine.training.data.backwards)
    model: Mapping[str, Any] = field(default_factory=dict)  # changes to the model
    phase: Mapping[str, Any] = field(default_factory=dict)  # changes to the phase


@dataclass(frozen=True)
class Plan:
    """`shared` is the recipe without its phases, `phase` the settings of all phases."""

    shared: Mapping[str, Any]
    phase: Mapping[str, Any]
    variants: tuple[Variant, ...]

    def recipe(self, name: str, run: Path, *, scale: float = 1.0, seed: int | None = None) -> Recipe:
        """The recipe that trains one variant in its folder of the run."""
        v = self.variant(name)
        phase = {**self.phase, **v.phase, "name": v.name, "steps": max(1, round(scale * v.steps))}
        data = dict(self.shared)
        data["model"] = merged(data.get("model", {}), v.model)
        init = str(run / v.after / DONE) if v.after else ""
        data["dit"] = {**data.get("dit", {}), "phases": [phase], "init": init}
        recipe = parse(data)
        return recipe if seed is None else replace(recipe, seed=seed)

    def variant(self, name: str) -> Variant:
        return next(v for v in self.variants if v.name == name)

    def needed(self, wanted: list[str]) -> list[Variant]:
        """The variants in `wanted`, or all, together with those they start from, in training order. Raises
        InvalidInput."""
        known = [v.name for v in self.variants]
        for name in wanted:
            if name not in known:
                raise InvalidInput(f"--only: no variant {name!r}; known are {', '.join(known)}", field="only")
        out: list[Variant] = []

        def add(name: str) -> None:
            v = self.variant(name)
            if v not in out:
                if v.after:
                    add(v.after)
                out.append(v)

        for name in wanted or known:
            add(name)
        return out


def read_plan(file: str | Path) -> Plan:
    """A packaged plan by name, or a file. Raises InvalidInput for a missing or invalid plan."""
    path = Path(file)
    path = path if path.suffix == ".toml" else PACKAGED / f"{file}.toml"
    if not path.is_file():
        raise InvalidInput(f"{path} not found: --plan names a .toml file", field="plan")
    try:
        data = tomllib.loads(read_text(path, "--plan"))
    except OSError as e:
        raise InvalidInput(f"cannot read {path}: {e.strerror}", field="plan") from None
    except tomllib.TOMLDecodeError as e:
        raise InvalidInput(f"{path} is not TOML: {e}", field="plan") from None
    return plan_of(data)


def plan_of(data: Mapping[str, Any]) -> Plan:
    """The plan in `data`. Builds every variant's recipe, so that mistakes show immediately. Raises
    InvalidInput."""
    shared = dict(data)
    phase = shared.pop("phase", {})
    listed = [build(Variant, v, f"variants[{i}]") for i, v in enumerate(shared.pop("variants", ()))]
    plan = Plan(shared, phase, tuple(listed))
    earlier: list[str] = []
    for v in plan.variants:
        where = f"variant {v.name!r}"
        if not v.name.replace("-", "").replace("_", "").isalnum() or v.name in earlier:
            raise InvalidInput(f"{where}: needs a unique name that can be a folder", field="name")
        if v.after and v.after not in earlier:
            raise InvalidInput(f"{where}: after = {v.after!r} is not a variant above it", field="after")
        if (v.steps < 1) == (not v.weights):
            raise InvalidInput(f"{where}: needs either steps or weights", field="steps")
        plan.recipe(v.name, Path())
        earlier.append(v.name)
    if not earlier:
        raise InvalidInput("a plan lists [[variants]]", field="variants")
    return plan


def shown(plan: Plan) -> dict[str, Any]:
    """The plan as plain data, for a report."""
    return {**plan.shared, "phase": dict(plan.phase), "variants": [asdict(v) for v in plan.variants]}
