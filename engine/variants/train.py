"""`psistream train variants`: the paper's variants under one budget.

Each variant of the plan (engine.variants.plan) starts from the weights of another and trains for its number
of steps, on the same data with the same seed. engine.variants.measure then measures it and writes the table.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Final

import torch

from engine.errors import InvalidInput
from engine.training.recipe import Recipe
from engine.variants.plan import DONE, Plan, Variant, read_plan, shown

if TYPE_CHECKING:
    from engine.model.wander.autoencoder import Autoencoder
    from engine.training.data.latents import Pool

HELD_OUT: Final = 3  # number of parts of journeys


def train_variants(args: argparse.Namespace) -> None:
    """Train the variants of --only, or all; measure each and rewrite the table.

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
        measured = _comparison(args, autoencoder, recipes[todo[0].name], plan)
    for number, v in enumerate(todo, 1):
        print(f"{v.name} ({number} of {len(todo)}): {v.title}", flush=True)
        _train(v, recipes[v.name], autoencoder, args)
        if measured is not None:
            measured(v)


def _train(v: Variant, recipe: Recipe, autoencoder: Autoencoder, args: argparse.Namespace) -> None:
    from engine.training.data.backwards import BackwardsMaterial
    from engine.training.dit.stage import train_dit

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
    """Check that the folder has no weights, or weights trained with this recipe from the current initial
    weights. Raises InvalidInput otherwise: variants with different budgets cannot be compared."""
    now = asdict(recipe)
    if recipe.dit.init:
        now["starts from"] = hashlib.sha256(Path(recipe.dit.init).read_bytes()).hexdigest()[:16]
    now = json.loads(json.dumps(now))
    file = folder / "recipe.json"
    if not file.exists():
        file.write_text(json.dumps(now, indent=1) + "\n")
        return
    before = json.loads(file.read_text())
    if differs := sorted(k for k in now.keys() | before.keys() if now.get(k) != before.get(k)):
        raise InvalidInput(
            f"{folder} was trained with another {', '.join(differs)}: use another --run, or delete the "
            "folder and those that start from it",
            field="run",
        )


def finished(folder: Path, steps: int) -> bool:
    """Whether the weights exist and the curve reaches `steps`."""
    try:
        last = (folder / "dit.jsonl").read_text().splitlines()[-1]
    except (FileNotFoundError, IndexError):
        return False
    return (folder / DONE).is_file() and json.loads(last)["step"] >= steps


def _comparison(
    args: argparse.Namespace, autoencoder: Autoencoder, recipe: Recipe, plan: Plan
) -> Callable[[Variant], None]:
    """A function that measures a variant and writes the table. Raises FileNotFoundError without
    instruments."""
    from engine.evaluation.instruments.landmark_reader import load_reader
    from engine.evaluation.instruments.probe import load_probe
    from engine.training.data.latents import PART, Pool
    from engine.training.data.material import WanderMaterial
    from engine.variants.measure import Comparison, measure_truth, measure_variant, write_table

    probes = args.probe or args.run
    load_probe(probes), load_reader(probes)  # fail now rather than after hours

    def held_out() -> Pool:
        """Journeys that no variant is trained on: those after the last training journey."""
        longest = max(round(args.scale * v.steps) for v in plan.variants)
        data = recipe.data
        first = data.journey_start // PART + longest // data.renew_every + 1
        material = WanderMaterial(
            autoencoder, recipe.config(), data, seed=recipe.seed, cache=args.latents, forget=False
        )
        parts = [vars(material.journeys.source.make(k)) for k in range(first, first + HELD_OUT)]
        return Pool(**{name: torch.cat([p[name] for p in parts]) for name in parts[0]})

    comparison = Comparison(args.run, probes, autoencoder, held_out, args.seeds, args.seconds, args.journey)

    def one(v: Variant) -> None:
        measure_variant(comparison, v)
        print(f"{write_table(comparison, plan.variants, shown(plan))}: with {v.name}", flush=True)

    measure_truth(comparison)
    return one
