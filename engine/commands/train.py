"""`psistream train RECIPE | STAGE`: the built-in model, from nothing but this repository.

A recipe (its name, or a TOML file) trains all of its stages, one after the other. A stage trains itself
alone: autoencoder, decoder, text, dit, probe, or a phase of the DiT, with those before it. Every stage
resumes where its run folder left off; a budget is that of the stage, earlier sittings included. `variants`
trains and measures the paper's variants instead (engine.variants.train).
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.errors import InvalidInput, PsistreamError

if TYPE_CHECKING:
    from engine.training.data.footage import Footage
    from engine.training.data.material import Material
    from engine.training.recipe import Recipe, Stage

STAGES = ("autoencoder", "decoder", "text", "dit", "probe")


def train(recipe: Recipe, what: str, args: argparse.Namespace) -> None:
    """One stage, or a phase of the DiT with those before it."""
    from engine.model.wander.autoencoder import FRAMES
    from engine.training.autoencoder import CLIP, Clips, load_autoencoder, train_autoencoder, train_decoder
    from engine.training.dit.stage import train_dit

    folder, seed, device = args.run, recipe.seed, args.device
    footage = find_footage(recipe, args) if what not in ("text", "probe") else None

    def stage(name: str) -> Stage:
        found: Stage | None = getattr(recipe, name)
        if found is None:
            raise InvalidInput(f"the recipe has no [{name}]: name another with --recipe", field="recipe")
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
            raise InvalidInput("recipe.probe: its budget is minutes, not steps", field="steps")
        train_probe(folder, load_autoencoder(folder), minutes=stage(what).minutes, seed=seed)
    else:
        until = "" if what == "dit" else what
        material = None if footage is None else footage_material(footage, recipe, args)
        train_dit(folder, recipe, until=until, device=device, latents=args.latents, material=material)


def find_footage(recipe: Recipe, args: argparse.Namespace) -> Footage | None:
    """The shots of the user's own videos, where the recipe names some."""
    if not recipe.data.videos:
        return None
    from engine.model.wander.autoencoder import FRAMES
    from engine.training.data.footage import Footage
    from engine.training.data.videos import Screen

    c, data = recipe.config(), recipe.data
    screen = Screen(8 * c.latent_width, 8 * c.latent_height, data.fps)
    cache = args.latents or args.run / "latents"
    return Footage(Path(data.videos), screen, least=FRAMES * data.length, cache=cache)


def footage_material(footage: Footage, recipe: Recipe, args: argparse.Namespace) -> Material:
    """Chains from those shots; captions are read by the run's text encoder, else by the built-in model's."""
    from engine.evaluation.text_accuracy import of_model, of_run
    from engine.training.autoencoder import load_autoencoder
    from engine.training.data.footage import FootageMaterial

    read = of_run(args.run) if (args.run / "text.final.pt").exists() else of_model(None)
    return FootageMaterial(
        footage,
        load_autoencoder(args.run).to(args.device),
        lambda captions: read(captions).clone(),  # made in inference mode, used where gradients run
        recipe.config(),
        recipe.data,
        seed=recipe.seed,
        cache=args.latents or args.run / "latents",
    )


def adapt(recipe: Recipe, what: str, args: argparse.Namespace) -> Recipe:
    """The recipe with what the command line says instead. Raises InvalidInput."""
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
    p = argparse.ArgumentParser(prog="psistream train", description=__doc__.split("\n")[0])
    p.add_argument(
        "what", metavar="RECIPE|STAGE", help=f"a recipe, a .toml file, {', '.join(STAGES)}, or a phase"
    )
    p.add_argument(
        "--recipe", default="wander", help="where a stage finds its settings (default: %(default)s)"
    )
    p.add_argument("--run", type=Path, default=Path("runs/wander"), help="folder of checkpoints and curves")
    p.add_argument(
        "--minutes", type=float, help="budget of the stage, all sittings together; phases share it"
    )
    p.add_argument("--steps", type=int, help="the same, in steps")
    p.add_argument("--lr", type=float, help="peak learning rate")
    p.add_argument("--init", type=Path, help="weights for the DiT to start from, {'config', 'state'}")
    p.add_argument(
        "--videos", help="a folder of your own videos with captions, instead of the built-in world"
    )
    p.add_argument("--latents", type=Path, help="cached latents that runs share (default: RUN/latents)")
    p.add_argument("--seed", type=int)
    p.add_argument("--device", default="", help="cpu or cuda (default: cuda where there is one)")
    p.add_argument("--threads", type=int, default=0, help="CPU threads (default: all)")
    return p


def main(argv: list[str] | None = None) -> int:
    argv = sys.argv[1:] if argv is None else argv
    try:
        import torch

        from engine.training.recipe import load
        from engine.variants import train as variants

        several = argv[:1] == ["variants"]
        args = variants.parser().parse_args(argv[1:]) if several else parser().parse_args(argv)
        if args.threads:
            torch.set_num_threads(args.threads)
        args.device = args.device or ("cuda" if torch.cuda.is_available() else "cpu")
        if several:
            variants.train_variants(args)
            return 0
        for name in ("minutes", "steps"):
            value = getattr(args, name)
            if value is not None and value <= 0:
                raise InvalidInput(f"--{name} must be above 0", field=name)
        if args.minutes and args.steps:
            raise InvalidInput("give --minutes or --steps, not both", field="minutes")
        recipe = load(args.recipe)
        phases = [p.name for p in recipe.dit.phases]
        if args.what in (*STAGES, *phases):
            train(adapt(recipe, args.what, args), args.what, args)
            return 0
        try:
            recipe = load(args.what)
        except InvalidInput as e:
            stages = ", ".join((*STAGES, *phases))
            raise InvalidInput(f"{e.message}; stages are {stages}", field="what") from None
        if args.minutes or args.steps or args.lr:
            raise InvalidInput(
                "--minutes, --steps and --lr are for one stage, not for a whole recipe", field="what"
            )
        for name in recipe.stages():
            train(adapt(recipe, name, args), name, args)
    except ModuleNotFoundError as e:
        print(f"psistream train needs {e.name}: pip install 'psistream[train]'", file=sys.stderr)
        return 1
    except FileNotFoundError as e:
        print(f"{e.filename} not found: train the earlier stage first", file=sys.stderr)
        return 1
    except PsistreamError as e:
        print(e.message, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped; run the same command to go on", file=sys.stderr)
        return 130
    return 0
