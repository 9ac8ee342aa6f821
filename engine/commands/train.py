"""`psistream train RECIPE | STAGE`: trains the built-in model. This repository is all it needs.

A recipe (a name or a TOML file) trains all of its stages in order. A stage trains alone: autoencoder,
decoder, text, dit, probe, or a phase of the DiT together with the phases before it. Every stage continues
from its checkpoint in the run folder, and its budget includes earlier runs. `variants` trains and measures
the paper's variants instead (engine.variants.train).
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.commandline.outputs import check_folder, naming
from engine.commandline.parser import Parser, check_belongs, check_unused, threads
from engine.commandline.runner import INTERRUPTED, OK, run
from engine.errors import InvalidInput, ModelFilesError

if TYPE_CHECKING:
    from engine.training.data.footage import Footage
    from engine.training.data.material import Material
    from engine.training.recipe import Recipe, Stage

STAGES = ("autoencoder", "decoder", "text", "dit", "probe")


def train(recipe: Recipe, what: str, args: argparse.Namespace) -> None:
    """Train one stage, or a phase of the DiT with the phases before it."""
    from engine.model.wander.autoencoder import FRAMES
    from engine.training.autoencoder import CLIP, Clips, load_autoencoder, train_autoencoder, train_decoder
    from engine.training.dit.stage import train_dit

    folder, seed, device = args.run, recipe.seed, args.device
    footage = find_footage(recipe, args) if what not in ("text", "probe") else None

    def stage(name: str) -> Stage:
        found: Stage | None = getattr(recipe, name)
        if found is None:
            raise InvalidInput(
                f"the recipe has no [{name}]; choose another one with --recipe", field="recipe"
            )
        return found

    if what in ("autoencoder", "decoder"):
        clips = None if footage is None else Clips(seed, partial(footage.clips, frames=CLIP * FRAMES))
        work = train_autoencoder if what == "autoencoder" else train_decoder
        work(folder, stage(what), seed=seed, device=device, clips=clips)
    elif what == "text":
        from engine.training.text.stage import train_text  # needs the tokenizer

        train_text(folder, stage(what), seed=seed)
    elif what == "probe":
        from engine.evaluation.instruments.probe import train_probe

        if not stage(what).minutes:
            raise InvalidInput("recipe.probe: the budget must be in minutes, not in steps", field="steps")
        train_probe(folder, load_autoencoder(folder), minutes=stage(what).minutes, seed=seed)
    else:
        until = "" if what == "dit" else what
        material = None if footage is None else footage_material(footage, recipe, args)
        train_dit(folder, recipe, until=until, device=device, latents=args.latents, material=material)


def _check_stage(args: argparse.Namespace, recipe: Recipe) -> None:
    """Raises InvalidInput for options that have no effect on the stage `args.what`."""
    stage = f"the stage {args.what}"
    if args.what in ("text", "probe"):
        check_unused(args, stage, "videos", "latents", "device")
    if args.what in STAGES and args.what != "dit":
        check_unused(args, stage, "init")
    if args.what in ("autoencoder", "decoder") and not recipe.data.videos:
        check_belongs(args, "--videos", "latents")  # the built-in world is drawn anew in every step


def find_footage(recipe: Recipe, args: argparse.Namespace) -> Footage | None:
    """The shots of the user's own videos, if the recipe names a folder of videos."""
    if not recipe.data.videos:
        return None
    from engine.clips import FrameFormat
    from engine.model.wander.autoencoder import FRAMES
    from engine.training.data.footage import Footage

    c, data = recipe.config(), recipe.data
    screen = FrameFormat(8 * c.latent_width, 8 * c.latent_height, data.fps)
    cache = args.latents or args.run / "latents"
    return Footage(Path(data.videos), screen, least=FRAMES * data.length, cache=cache)


def footage_material(footage: Footage, recipe: Recipe, args: argparse.Namespace) -> Material:
    """Chains from those shots. The run's text encoder reads the captions, or the built-in model's if the run
    has none."""
    from engine.evaluation.text_accuracy import of_model, of_run
    from engine.training.autoencoder import load_autoencoder
    from engine.training.data.footage import FootageMaterial

    read = of_run(args.run) if (args.run / "text.final.pt").exists() else of_model(None)
    return FootageMaterial(
        footage,
        load_autoencoder(args.run).to(args.device),
        lambda captions: read(captions).clone(),  # made in inference mode, but used with gradients
        recipe.config(),
        recipe.data,
        seed=recipe.seed,
        cache=args.latents or args.run / "latents",
    )


def adapt(recipe: Recipe, what: str, args: argparse.Namespace) -> Recipe:
    """The recipe with the command line's overrides. Raises InvalidInput."""
    from engine.training.recipe import scaled

    minutes, steps = args.minutes or 0.0, args.steps or 0
    if args.seed is not None:
        recipe = replace(recipe, seed=args.seed)
    if args.videos:
        recipe = replace(recipe, data=replace(recipe.data, videos=args.videos))
    if what in STAGES and what != "dit":
        stage: Stage | None = getattr(recipe, what)
        if stage is None:
            return recipe
        if minutes or steps:
            stage = replace(stage, minutes=minutes, steps=steps)
        changes: dict[str, Any] = {what: replace(stage, lr=args.lr or stage.lr)}
        return replace(recipe, **changes)
    dit = recipe.dit
    if minutes or steps:
        dit = replace(dit, phases=scaled(dit.phases, minutes=minutes, steps=steps))
    return replace(recipe, dit=replace(dit, lr=args.lr or dit.lr, init=str(args.init or dit.init)))


def parser() -> argparse.ArgumentParser:
    p = Parser(
        prog="psistream train",
        description="Train the built-in model. Every stage continues from its checkpoint in the run folder.",
        epilog="`psistream train variants --help`: train and measure the paper's variants instead.",
    )
    p.add_argument(
        "what", metavar="RECIPE|STAGE", help=f"a recipe, a .toml file, {', '.join(STAGES)}, or a phase"
    )
    p.add_argument(
        "--recipe", default="wander", help="the recipe with the stage's settings (default: %(default)s)"
    )
    p.add_argument("--run", type=Path, default=Path("runs/wander"), help="folder of checkpoints and curves")
    p.add_argument("--minutes", type=float, help="the stage's budget over all runs; its phases share it")
    p.add_argument("--steps", type=int, help="the same budget in steps")
    p.add_argument("--lr", type=float, help="peak learning rate")
    p.add_argument("--init", type=Path, help="checkpoint with the initial weights of the DiT")
    p.add_argument("--videos", help="folder of your own videos and captions, instead of the built-in world")
    add_common(p)
    return p


def variants_parser() -> argparse.ArgumentParser:
    p = Parser(
        prog="psistream train variants",
        description="Train the paper's variants under one budget, measure each, and write a table of them "
        "(table.md, table.json) beside the paper's. Run it again to continue.",
    )
    p.add_argument("--run", type=Path, required=True, help="a folder with autoencoder.final.pt")
    p.add_argument("--plan", default="variants", help="a .toml file (default: %(default)s)")
    p.add_argument(
        "--only", default="", metavar="NAME,NAME", help="train these variants and those they start from"
    )
    p.add_argument("--scale", type=float, default=1.0, help="factor on every variant's number of steps")
    p.add_argument("--probe", type=Path, help="where `train probe` left the instruments (default: --run)")
    p.add_argument("--seeds", type=int, default=8, help="seeds per variant; 0: only train (%(default)s)")
    p.add_argument("--seconds", type=float, default=20.0, help="length of each seed's walk (%(default)s)")
    p.add_argument(
        "--journey", type=float, default=8.0, help="seconds out and back; 0: no recall (%(default)s)"
    )
    add_common(p)
    return p


def add_common(p: argparse.ArgumentParser) -> None:
    p.add_argument(
        "--latents", type=Path, help="folder of cached latents that runs share (default: RUN/latents)"
    )
    p.add_argument("--seed", type=int, help="another random seed")
    p.add_argument("--device", default="", help="cpu or cuda (default: cuda if there is a GPU)")
    p.add_argument("--threads", type=threads, default=0, help="CPU threads (default: all)")


def main(argv: Sequence[str] | None = None) -> int:
    return run("psistream train", lambda: _main(list(sys.argv[1:] if argv is None else argv)))


def _main(argv: list[str]) -> int:
    several = argv[:1] == ["variants"]
    args = variants_parser().parse_args(argv[1:]) if several else parser().parse_args(argv)
    check_numbers(args)
    if several and args.seeds == 0:
        check_unused(args, "--seeds 0", "probe", "seconds", "journey")
    import torch

    if args.threads:
        torch.set_num_threads(args.threads)
    check_device(args.device)
    args.device = args.device or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        with naming(args.run):
            if several:
                from engine.variants.train import train_variants

                train_variants(args)
            else:
                train_all(args)
    except FileNotFoundError as error:
        raise ModelFilesError(f"{error.filename} not found: train the earlier stage first") from None
    except KeyboardInterrupt:
        print("interrupted; run the same command to continue", file=sys.stderr)
        return INTERRUPTED
    return OK


def check_numbers(args: argparse.Namespace) -> None:
    """Raises InvalidInput, also for `nan`, of which no comparison is true."""
    for name in ("minutes", "steps", "lr", "scale", "seconds"):
        value = getattr(args, name, None)
        if value is not None and not 0 < value < math.inf:
            raise InvalidInput(f"--{name} must be above 0", field=name)
    for name, most in (("seeds", 10_000), ("journey", 3600), ("seed", 2**32 - 1)):
        value = getattr(args, name, None)
        if value is not None and not 0 <= value <= most:
            raise InvalidInput(f"--{name} must be 0 to {most}", field=name)


def check_device(name: str) -> None:
    """Raises InvalidInput for a device that PyTorch does not know or this machine lacks."""
    import torch

    try:
        torch.zeros(1, device=name or "cpu")
    except (RuntimeError, AssertionError):
        raise InvalidInput(
            f"--device: {name!r:.40} is no device of this machine; leave it out", field="device"
        ) from None


def train_all(args: argparse.Namespace) -> None:
    """The stage or phase `args.what`, or all stages of that recipe. Raises InvalidInput."""
    from engine.training.recipe import load

    if args.minutes and args.steps:
        raise InvalidInput("give --minutes or --steps, not both", field="minutes")
    recipe = load(args.recipe)
    phases = [p.name for p in recipe.dit.phases]
    if args.what in (*STAGES, *phases):
        adapted = adapt(recipe, args.what, args)
        _check_stage(args, adapted)
        check_folder(args.run, "--run")
        train(adapted, args.what, args)
        return
    try:
        recipe = load(args.what)
    except InvalidInput as error:
        if not error.message.startswith("no recipe"):
            raise
        stages = ", ".join((*STAGES, *phases))
        raise InvalidInput(f"{error.message}; stages are {stages}", field="what") from None
    check_unused(args, "a whole recipe", "recipe")
    if args.minutes or args.steps or args.lr:
        raise InvalidInput(
            "--minutes, --steps and --lr are for a single stage, not for a whole recipe", field="what"
        )
    check_folder(args.run, "--run")
    for name in recipe.stages():
        train(adapt(recipe, name, args), name, args)
