"""A plan of variants: what all share, and what each changes about the model or the objective.

It is read from a TOML file (`plans/variants.toml` is the packaged one) and knows no network.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from engine.errors import InvalidInput
from engine.model.config import build
from engine.training.recipe import Recipe, merged, parse

PACKAGED: Final = Path(__file__).parent / "plans"
DONE: Final = "dit.final.pt"


@dataclass(frozen=True)
class Variant:
    name: str = ""  # and its folder in the run
    title: str = ""  # in the table
    after: str = ""  # the variant whose weights it starts from; none: from nothing
    steps: int = 0
    weights: str = ""  # or a file {"config", "state"} that is taken as it is
    control: str = ""  # the variant it is compared with, over the same seeds
    paper: tuple[str, ...] = ()  # its rows in the paper's tables
    backwards: bool = False  # FramePack-F0: on turned time (engine.training.data.backwards)
    model: Mapping[str, Any] = field(default_factory=dict)  # what it changes about the model
    phase: Mapping[str, Any] = field(default_factory=dict)  # and about the phase


@dataclass(frozen=True)
class Plan:
    """`shared` is the recipe without phases, `phase` what all phases say."""

    shared: Mapping[str, Any]
    phase: Mapping[str, Any]
    variants: tuple[Variant, ...]

    def recipe(self, name: str, run: Path, *, scale: float = 1.0, seed: int | None = None) -> Recipe:
        """What `psistream train` would be given to train one variant in its folder of the run."""
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
        """Those named, or all of them, with what they start from, in an order in which they can be trained.
        Raises InvalidInput."""
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
    """A packaged plan by name, or a file. Raises InvalidInput for whatever cannot be meant."""
    path = Path(file)
    path = path if path.suffix == ".toml" else PACKAGED / f"{file}.toml"
    try:
        data = tomllib.loads(path.read_text())
    except FileNotFoundError:
        raise InvalidInput(f"{path} not found: --plan names a .toml file", field="plan") from None
    except OSError as e:
        raise InvalidInput(f"cannot read {path}: {e.strerror}", field="plan") from None
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as e:
        raise InvalidInput(f"{path} is not TOML: {e}", field="plan") from None
    return plan_of(data)


def plan_of(data: Mapping[str, Any]) -> Plan:
    """Raises InvalidInput; every variant's recipe is built once, so that nothing fails after hours."""
    shared = dict(data)
    phase = shared.pop("phase", {})
    listed = [build(Variant, v, f"variants[{i}]") for i, v in enumerate(shared.pop("variants", ()))]
    plan = Plan(shared, phase, tuple(listed))
    earlier: list[str] = []
    for v in plan.variants:
        where = f"variant {v.name!r}"
        if not v.name.replace("-", "").replace("_", "").isalnum() or v.name in earlier:
            raise InvalidInput(f"{where}: wants a name of its own, fit for a folder", field="name")
        if v.after and v.after not in earlier:
            raise InvalidInput(f"{where}: after = {v.after!r} is no variant above it", field="after")
        if (v.steps < 1) == (not v.weights):
            raise InvalidInput(f"{where}: wants steps, or weights that are there", field="steps")
        plan.recipe(v.name, Path())
        earlier.append(v.name)
    if not earlier:
        raise InvalidInput("a plan lists [[variants]]", field="variants")
    return plan


def shown(plan: Plan) -> dict[str, Any]:
    """The plan as plain data, for a report."""
    return {**plan.shared, "phase": dict(plan.phase), "variants": [asdict(v) for v in plan.variants]}
