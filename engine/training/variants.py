"""The paper's variants under one budget: `psistream train variants`.

A plan is a TOML file (`recipes/plans/variants.toml`): what all share, and a list of variants that differ in a
few settings of the model or of the objective. Each goes on from the weights of another, for its number of
steps, on the same data with the same seed; then engine.evaluation.comparing measures it and writes the table.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import torch

from engine.errors import InvalidInput
from engine.model.config import build
from engine.training.recipe import PACKAGED, Recipe, merged, parse

if TYPE_CHECKING:
    from engine.model.autoencoder import Autoencoder
    from engine.training.latents import Pool

DONE: Final = "dit.final.pt"
HELD_OUT: Final = 3  # parts of the journeys


@dataclass(frozen=True)
class Variant:
    name: str = ""  # and its folder in the run
    title: str = ""  # in the table
    after: str = ""  # the variant whose weights it starts from; none: from nothing
    steps: int = 0
    weights: str = ""  # or a file {"config", "state"} that is taken as it is
    control: str = ""  # the variant it is compared with, over the same seeds
    paper: tuple[str, ...] = ()  # its rows in the paper's tables
    backwards: bool = False  # FramePack-F0: on turned time (engine.training.backwards)
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
    path = path if path.suffix == ".toml" else PACKAGED / "plans" / f"{file}.toml"
    try:
        data = tomllib.loads(path.read_text())
    except FileNotFoundError:
        raise InvalidInput(f"{path} not found: --plan names a .toml file", field="plan") from None
    except tomllib.TOMLDecodeError as e:
        raise InvalidInput(f"{path}: {e}", field="plan") from None
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


def train_variants(args: argparse.Namespace) -> None:
    """Those of --only, or all: train each, measure it, write the table anew.

    Raises InvalidInput, ModelFilesError, NotFinite, KeyboardInterrupt, and FileNotFoundError for a run
    without an autoencoder or without instruments."""
    from engine.training.autoencoder import load_autoencoder

    plan = read_plan(args.plan)
    todo = plan.needed([n for n in args.only.split(",") if n])
    recipes = {v.name: plan.recipe(v.name, args.run, scale=args.scale, seed=args.seed) for v in plan.variants}
    autoencoder = load_autoencoder(args.run)
    args.latents = args.latents or args.run / "latents"
    measured = None
    if args.seeds:
        measured = _bench(args, autoencoder, recipes[todo[0].name], plan)
    for number, v in enumerate(todo, 1):
        print(f"{v.name} ({number} of {len(todo)}): {v.title}", flush=True)
        _train(v, recipes[v.name], autoencoder, args)
        if measured is not None:
            measured(v)


def _train(v: Variant, recipe: Recipe, autoencoder: Autoencoder, args: argparse.Namespace) -> None:
    from engine.training.backwards import BackwardsMaterial
    from engine.training.dit import train_dit

    folder = args.run / v.name
    folder.mkdir(parents=True, exist_ok=True)
    if v.weights:
        shutil.copyfile(v.weights, folder / DONE)
        return
    same_as_before(folder, recipe)
    if finished(folder, recipe.dit.phases[0].steps):
        return
    file = folder / "autoencoder.final.pt"
    if not file.exists():
        os.symlink(os.path.relpath(args.run / file.name, folder), file)
    material = None
    if v.backwards:
        seen = autoencoder.to(args.device)
        material = BackwardsMaterial(
            seen, recipe.config(), recipe.data, seed=recipe.seed, cache=args.latents, forget=False
        )
    train_dit(folder, recipe, device=args.device, latents=args.latents, material=material)


def same_as_before(folder: Path, recipe: Recipe) -> None:
    """What is in the folder was trained as the recipe says, from the weights that are there now; or nothing
    is. Raises InvalidInput: half a table under one budget and half under another would be none."""
    said = asdict(recipe)
    if recipe.dit.init:
        said["starts from"] = hashlib.sha256(Path(recipe.dit.init).read_bytes()).hexdigest()[:16]
    said = json.loads(json.dumps(said))
    file = folder / "recipe.json"
    if not file.exists():
        file.write_text(json.dumps(said, indent=1) + "\n")
        return
    before = json.loads(file.read_text())
    if differs := sorted(k for k in said.keys() | before.keys() if said.get(k) != before.get(k)):
        raise InvalidInput(
            f"{folder} was trained with another {', '.join(differs)}: take another --run, or delete the "
            "folder and those that start from it",
            field="run",
        )


def finished(folder: Path, steps: int) -> bool:
    """Whether the weights are there, and the curve goes as far."""
    try:
        last = (folder / "dit.jsonl").read_text().splitlines()[-1]
    except (FileNotFoundError, IndexError):
        return False
    return (folder / DONE).is_file() and json.loads(last)["step"] >= steps


def _bench(
    args: argparse.Namespace, autoencoder: Autoencoder, recipe: Recipe, plan: Plan
) -> Callable[[Variant], None]:
    """What measures a variant and writes the table. Raises FileNotFoundError without instruments."""
    from engine.evaluation.comparing import Bench, measure_truth, measure_variant, write_table
    from engine.evaluation.probe import load_probe
    from engine.evaluation.reader import load_reader
    from engine.training.latents import PART, Pool
    from engine.training.material import WanderMaterial

    probes = args.probe or args.run
    load_probe(probes), load_reader(probes)  # rather now than after hours

    def held_out() -> Pool:
        """Journeys after the last that the pool of any variant reaches."""
        longest = max(round(args.scale * v.steps) for v in plan.variants)
        data = recipe.data
        first = data.journey_start // PART + longest // data.renew_every + 1
        material = WanderMaterial(
            autoencoder, recipe.config(), data, seed=recipe.seed, cache=args.latents, forget=False
        )
        parts = [vars(material.journeys.source.make(k)) for k in range(first, first + HELD_OUT)]
        return Pool(**{name: torch.cat([p[name] for p in parts]) for name in parts[0]})

    bench = Bench(args.run, probes, autoencoder, held_out, args.seeds, args.seconds, args.journey)

    def one(v: Variant) -> None:
        measure_variant(bench, v)
        print(f"{write_table(bench, plan.variants, shown(plan))}: {v.name} is in it", flush=True)

    measure_truth(bench)
    return one


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(
        prog="psistream train variants",
        description="Train the paper's variants under one budget, measure each, and write the table "
        "(table.md, table.json) beside the paper's. Run it again to go on.",
    )
    p.add_argument("--run", type=Path, required=True, help="a folder with autoencoder.final.pt")
    p.add_argument("--plan", default="variants", help="a .toml file (default: %(default)s)")
    p.add_argument("--only", default="", metavar="NAME,NAME", help="some of them, and what they start from")
    p.add_argument("--scale", type=float, default=1.0, help="everybody's steps times this")
    p.add_argument("--probe", type=Path, help="where `train probe` left the instruments (default: --run)")
    p.add_argument("--seeds", type=int, default=8, help="measured per variant; 0: train only (%(default)s)")
    p.add_argument("--seconds", type=float, default=20.0, help="of each seed's walk (%(default)s)")
    p.add_argument(
        "--journey", type=float, default=8.0, help="seconds out, and back; 0: no recall (%(default)s)"
    )
    p.add_argument("--latents", type=Path, help="cached latents that runs share (default: RUN/latents)")
    p.add_argument("--seed", type=int, help="another chance for all of them")
    p.add_argument("--device", default="", help="cpu or cuda (default: cuda where there is one)")
    p.add_argument("--threads", type=int, default=0, help="CPU threads (default: all)")
    return p


def shown(plan: Plan) -> dict[str, Any]:
    """The plan as plain data, for a report."""
    return {**plan.shared, "phase": dict(plan.phase), "variants": [asdict(v) for v in plan.variants]}
