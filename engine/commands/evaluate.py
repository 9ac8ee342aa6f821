"""`psistream evaluate`: measures a model of the built-in world, whose truth is known.

Every figure is a list of small jobs, and finished jobs are kept in --out. So an evaluation can be interrupted
at any time, and the same command continues it.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib
from collections.abc import Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import cast

import torch
from rich.console import Console
from safetensors.torch import load_file

from engine.backends.artifact import WEIGHTS, Artifact, open_artifact
from engine.backends.base import Backend
from engine.backends.registry import BUILT_IN, load_backend
from engine.commandline.outputs import check_folder, naming
from engine.commandline.parser import Parser, check_belongs, check_unused, threads
from engine.commandline.runner import INTERRUPTED, OK, run
from engine.commands.model_options import add_model
from engine.errors import InvalidInput, ModelFilesError
from engine.evaluation.bench import Bench, Model, check_world
from engine.evaluation.figure import Figure, Scale
from engine.evaluation.figures import vbench
from engine.evaluation.instruments import landmark_reader as reader
from engine.evaluation.instruments import probe
from engine.evaluation.report import Report, head, markdown, warnings
from engine.evaluation.runner import Evaluation, VideoCounter, measure
from engine.model.wander.autoencoder import Autoencoder, AutoencoderConfig
from engine.variants.played import played

FIGURES = {
    "adherence": "engine.evaluation.figures.adherence:Adherence",
    "obedience": "engine.evaluation.figures.obedience:Obedience",
    "recall": "engine.evaluation.figures.recall:Recall",
    "named": "engine.evaluation.figures.named:Named",
    "regions": "engine.evaluation.figures.regions:Regions",
    "quality": "engine.evaluation.figures.quality:Quality",
    "drift": "engine.evaluation.figures.drift:Drift",
    "fidelity": "engine.evaluation.figures.fidelity:Fidelity",
    "steps": "engine.evaluation.figures.steps:Steps",
    "elo": "engine.evaluation.figures.elo:Elo",
}
VBENCH = "vbench"
OF_FIGURE = {  # options of a single figure
    "against": "elo",
    "journeys": "recall",
    "durations": "drift",
    "long_n": "drift",
    "steps": "steps",
    "vbench": VBENCH,
    "videos": VBENCH,
}
QUICK = Scale(4, 2, (2.0, 5.0, 10.0), (10.0, 30.0), 1, (1, 4, 16))
LONG_S = 60.0


Accuracy = dict[str, float]


def main(argv: Sequence[str] | None = None) -> int:
    console = Console(stderr=True)
    return run("psistream evaluate", lambda: _evaluate(parser().parse_args(argv), console))


def _evaluate(args: argparse.Namespace, console: Console) -> int:
    names, how_much = figures(args), scale(args)
    _check_combination(args, names)
    args.out = args.out or args.run / "evaluation"
    if args.threads:
        torch.set_num_threads(args.threads)
    if not names and args.videos is not None:
        return _vbench(args, None, console)
    if VBENCH in args.figures:
        vbench.find(args.vbench)  # fail now rather than after hours
    wanted, counter, finished = [_load(name) for name in names], VideoCounter(), True
    if wanted:
        instruments = _instruments(args.run, need_reader=any(f.needs_reader for f in wanted))
    with ExitStack() as devices:
        models = []
        for model, weights in ((args.model, args.weights), *((other, None) for other in args.against)):
            backend = devices.enter_context(closing(load_backend(args.backend, model, weights)))
            models.append(_model(model, backend, counter))
        if len({m.name for m in models}) < len(models):
            same = ", ".join(m.name for m in models)
            raise InvalidInput(f"--against: folders need different names, not {same}", field="against")
        check_folder(args.out, "--out")
        if wanted:
            bench = Bench(models[0], *instruments, tuple(models[1:]))
            made_with = _made_with(args)
            report = Report(head(bench, made_with), warnings(bench))
            every = [_load(name) for name in FIGURES]
            todo = Evaluation(bench, every, names, how_much, args.out, made_with)
            with naming(args.out):
                finished = measure(todo, report, console, counter, again=args.again)
        if finished and VBENCH in args.figures:
            return _vbench(args, models[0] if args.videos is None else None, console)
    return OK if finished else INTERRUPTED


def _check_combination(args: argparse.Namespace, names: Sequence[str]) -> None:
    """Raises InvalidInput for options that have no effect on the figures that are measured."""
    for option, figure in OF_FIGURE.items():
        if figure not in (*names, *args.figures):
            check_belongs(args, f"--figures {figure}", option)
    if not names and args.videos is not None:
        check_unused(args, "--videos alone", "backend", "model", "weights", "n", "quick")


def _model(model: str | None, backend: Backend, counter: VideoCounter) -> Model:
    """The model, played as it is served. Raises ModelFilesError for a model of another world."""
    name = BUILT_IN if model is None else Path(model).resolve().name
    check_world(name, backend.spec)
    return played(name, backend, _autoencoder(_artifact(model)), counter.add)


def _artifact(model: str | None) -> Artifact:
    return open_artifact(None if model in (None, BUILT_IN) else Path(str(model)))


def _autoencoder(artifact: Artifact) -> Autoencoder:
    """The model's autoencoder alone. Raises ModelFilesError."""
    file, prefix = artifact.file(WEIGHTS), "autoencoder."
    state = {k.removeprefix(prefix): v.float() for k, v in load_file(file).items() if k.startswith(prefix)}
    try:
        autoencoder = Autoencoder(AutoencoderConfig(**artifact.config["autoencoder"]))
        autoencoder.load_state_dict(state)
    except (KeyError, TypeError, RuntimeError) as error:
        raise ModelFilesError(
            f"{file} does not contain the autoencoder that its manifest describes: {error}"
        ) from error
    return autoencoder.eval().requires_grad_(False)


def _instruments(
    run: Path, *, need_reader: bool
) -> tuple[probe.Probe, Accuracy, reader.LandmarkReader | None, Accuracy | None]:
    """The probe and the landmark reader of a run, each with its accuracy. The reader is None if it is missing
    and not needed. Raises ModelFilesError with the command that makes them."""
    try:
        network, accuracy = probe.load_probe(run)
        load_reader = need_reader or (run / reader.FILE).is_file()
        landmarks, reader_accuracy = reader.load_reader(run) if load_reader else (None, None)
    except FileNotFoundError as error:
        raise ModelFilesError(
            f"{error.filename} not found: train the instruments with `psistream train probe --run {run}`, "
            "which takes some minutes and needs the autoencoder's training run in that folder",
            field="run",
        ) from None
    return network, accuracy, landmarks, reader_accuracy


def _load(name: str) -> Figure:
    module, _, attribute = FIGURES[name].partition(":")
    return cast(Figure, getattr(importlib.import_module(module), attribute)())


def _made_with(args: argparse.Namespace) -> dict[str, str]:
    """What the rows depend on. A figure starts over if anything here differs."""

    def manifest(model: str | None) -> str:
        return _digest(_artifact(model).file("manifest.json"))

    made_with = {
        "model": manifest(args.model),
        "backend": args.backend,
        "probe": _digest(args.run / probe.FILE),
    }
    if (args.run / reader.FILE).is_file():
        made_with["landmark reader"] = _digest(args.run / reader.FILE)
    if args.against:
        made_with["against"] = " ".join(manifest(p) for p in args.against)
    return made_with


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def _vbench(args: argparse.Namespace, model: Model | None, console: Console) -> int:
    """Run VBench on `--videos`, or on new videos of the model."""
    executable, folder = vbench.find(args.vbench), args.out / VBENCH
    if model is None:
        videos = sorted(args.videos.glob("*.mp4"))
        if not videos:
            raise InvalidInput(f"--videos: no .mp4 file in {args.videos}", field="videos")
    else:
        videos = vbench.make(model, folder / "whole", scale(args).n, console.print, again=args.again)
    for video in videos:
        vbench.cut(video, folder)
    summary = vbench.summarise(vbench.measure(executable, folder, again=args.again))
    lines = [line for t in summary.tables for line in markdown(t)]
    (folder / "vbench.md").write_text("\n".join([*lines, "", *summary.notes]) + "\n")
    print("\n".join(lines))
    return OK


def parser() -> argparse.ArgumentParser:
    p = Parser(
        prog="psistream evaluate",
        description="Measure a model of the built-in world. It can be stopped at any time; finished jobs are "
        "kept.",
    )
    p.add_argument("--figures", default="all", help=f"{', '.join(FIGURES)}, {VBENCH}, or all (default)")
    add_model(p, leave_out=("fake",))
    p.add_argument("--against", nargs="+", default=[], metavar="DIR", help="other models, for elo")
    p.add_argument("--run", type=Path, default=Path("runs/wander"), metavar="DIR", help="folder of the probe")
    p.add_argument("--out", type=Path, metavar="DIR", help="folder of the report (default: RUN/evaluation)")
    p.add_argument("--n", type=int, metavar="SEEDS", help="independent seeds (default 20, --quick 4)")
    p.add_argument("--quick", action="store_true", help="takes a few minutes and gives wide intervals")
    p.add_argument("--again", action="store_true", help="measure finished jobs again")
    p.add_argument("--journeys", metavar="S,S", help="recall: seconds out and back (2,5,10,20,40)")
    p.add_argument("--durations", metavar="S,S", help="drift: lengths (10,30,60); an hour is 3600")
    p.add_argument("--long-n", type=int, metavar="SEEDS", help=f"drift: seeds for more than {LONG_S:g} s (3)")
    p.add_argument("--steps", metavar="K,K", help="steps: numbers of denoising steps (1,2,4,8,16)")
    p.add_argument("--threads", type=threads, default=0, help="CPU threads of the instruments (default: all)")
    p.add_argument("--vbench", default="vbench", metavar="COMMAND", help="vbench: VBench's own command")
    p.add_argument("--videos", type=Path, metavar="DIR", help="vbench: folder of your own MP4 files")
    return p


def figures(args: argparse.Namespace) -> list[str]:
    """Names of the figures to measure, without vbench. Raises InvalidInput."""
    asked = [name.strip() for name in args.figures.split(",") if name.strip()]
    for name in asked:
        if name not in (*FIGURES, VBENCH, "all"):
            known = ", ".join((*FIGURES, VBENCH))
            raise InvalidInput(
                f"--figures: {name!r} is unknown; choose from {known}, or all", field="figures"
            )
    args.figures = asked
    if "elo" in asked and not args.against:
        raise InvalidInput(
            "--figures elo compares models: name the others with --against DIR", field="against"
        )
    if "all" in asked:
        return [n for n in FIGURES if n != "elo" or args.against]
    return [n for n in FIGURES if n in asked]


def scale(args: argparse.Namespace) -> Scale:
    """The sample sizes and lengths that the arguments ask for. Raises InvalidInput."""
    usual = QUICK if args.quick else Scale()
    n = usual.n if args.n is None else args.n
    if n < 1:
        raise InvalidInput("--n must be at least 1", field="n")
    return Scale(
        n=n,
        truths=min(n, usual.truths),
        journeys_s=_numbers(args.journeys, "journeys", usual.journeys_s, 1, 600),
        durations_s=_numbers(args.durations, "durations", usual.durations_s, 5, 24 * 3600),
        long_n=min(n, usual.long_n if args.long_n is None else args.long_n),
        steps=tuple(int(k) for k in _numbers(args.steps, "steps", usual.steps, 1, 1000)),
    )


def _numbers(
    text: str | None, name: str, otherwise: Sequence[float], low: float, high: float
) -> tuple[float, ...]:
    if text is None:
        return tuple(otherwise)
    try:
        found = tuple(sorted({float(part) for part in text.split(",")}))
    except ValueError:
        found = ()
    if not found or not all(low <= x <= high for x in found):
        raise InvalidInput(
            f"--{name}: {text!r} is not a list of numbers from {low:g} to {high:g}, such as 2,10", field=name
        )
    return found
