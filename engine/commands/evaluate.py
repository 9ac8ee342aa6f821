"""`psistream evaluate`: what a model does, measured on a world whose truth is known.

Arguments → models, instruments, figures, a report. Every figure is a list of small jobs; what is done is put
aside in --out and not done again, so an evaluation can be stopped at any time and goes on where it was.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib
import sys
from collections.abc import Generator, Sequence
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import torch
from rich.console import Console
from safetensors.torch import load_file

from engine.backends.artifact import WEIGHTS, Artifact, open_artifact
from engine.backends.base import Arrays, Backend, Noise, Sampler
from engine.backends.registry import BUILT_IN, load_backend
from engine.command import OK, run
from engine.commands import evaluate_arguments as arguments
from engine.commands.evaluate_arguments import FIGURES, VBENCH, parser
from engine.commands.generate import segments
from engine.errors import InvalidInput, ModelFilesError
from engine.evaluation.bench import Model, Studio, check_world
from engine.evaluation.figure import Figure
from engine.evaluation.figures import vbench
from engine.evaluation.instruments import landmark_reader as reader
from engine.evaluation.instruments import probe
from engine.evaluation.report import Report, head, markdown, warnings
from engine.evaluation.runner import Evaluation, Said, measure
from engine.model.wander.autoencoder import Autoencoder, AutoencoderConfig
from engine.script import Entry
from engine.types import ByteArray


def main(argv: Sequence[str] | None = None) -> int:
    console = Console(stderr=True)

    def evaluate() -> int:
        try:
            return _evaluate(parser().parse_args(argv), console)
        except FileNotFoundError as error:
            raise InvalidInput(f"{error.filename} not found") from None

    return run("psistream evaluate", evaluate)


def _evaluate(args: argparse.Namespace, console: Console) -> int:
    names, how_much = arguments.figures(args), arguments.scale(args)
    args.out = args.out or args.run / "evaluation"
    if args.threads:
        torch.set_num_threads(args.threads)
    if not names and args.videos is not None:
        return _vbench(args, None, console)
    if VBENCH in args.figures:
        vbench.find(args.vbench)  # rather now than after hours
    figures, said, status = [_load(name) for name in names], Said(), OK
    if figures:
        instruments = _instruments(args.run, need_reader=any(f.needs_reader for f in figures))
    with ExitStack() as devices:
        models = []
        for path in (args.model, *args.against):
            backend = devices.enter_context(closing(load_backend(args.backend, path)))
            models.append(_model(path, backend, said))
        if len({m.name for m in models}) < len(models):
            same = ", ".join(m.name for m in models)
            raise InvalidInput(f"--against: folders need different names, not {same}", field="against")
        if figures:
            studio = Studio(models[0], *instruments, tuple(models[1:]))
            made_with = _made_with(args)
            report = Report(head(studio, made_with), warnings(studio))
            all_of_them = [_load(name) for name in FIGURES]
            todo = Evaluation(studio, all_of_them, names, how_much, args.out, made_with)
            status = measure(todo, report, console, said, again=args.again)
        if status == OK and VBENCH in args.figures:
            status = _vbench(args, models[0] if args.videos is None else None, console)
    return status


class _WithSteps:
    """A backend whose model takes another number of denoising steps. It does not own the device."""

    def __init__(self, backend: Backend, steps: int) -> None:
        self._backend, self.name, self.fingerprint = backend, backend.name, backend.fingerprint
        self.spec = replace(backend.spec, steps=steps, first_steps=steps)

    def run(self, role: str, inputs: Arrays) -> dict[str, Any]:
        return self._backend.run(role, inputs)

    def tokenize(self, text: str) -> tuple[Any, Any]:
        return self._backend.tokenize(text)

    def sampler(self, steps: int, noise: Noise) -> Sampler:
        return self._backend.sampler(steps, noise)

    def close(self) -> None:
        pass


def _model(path: Path | None, backend: Backend, said: Said) -> Model:
    """A model that plays as it is served. Raises ModelFilesError for one of another world."""
    name = BUILT_IN if path is None or str(path) == BUILT_IN else path.resolve().name
    check_world(name, backend.spec)
    folder = None if name == BUILT_IN and (path is None or not path.is_dir()) else path

    def play(
        prompt: str, *, seed: int, script: Sequence[Entry], steps: int | None
    ) -> Generator[ByteArray, None, None]:
        used = backend if steps is None else _WithSteps(backend, steps)
        with closing(segments(used, prompt=prompt, seed=seed, script=script)) as made:
            for segment in made:
                said.more(backend.spec.segment_s)
                yield segment.frames

    return Model(name, backend.spec, play, _autoencoder(open_artifact(folder)))


def _autoencoder(artifact: Artifact) -> Autoencoder:
    """The model's own, without the rest of it. Raises ModelFilesError."""
    file, prefix = artifact.file(WEIGHTS), "autoencoder."
    state = {k.removeprefix(prefix): v.float() for k, v in load_file(file).items() if k.startswith(prefix)}
    try:
        autoencoder = Autoencoder(AutoencoderConfig(**artifact.config["autoencoder"]))
        autoencoder.load_state_dict(state)
    except (KeyError, TypeError, RuntimeError) as error:
        raise ModelFilesError(f"{file} holds no autoencoder of the manifest's config: {error}") from error
    return autoencoder.eval().requires_grad_(False)


Accuracy = dict[str, float]


def _instruments(
    run: Path, *, need_reader: bool
) -> tuple[probe.Probe, Accuracy, reader.LandmarkReader | None, Accuracy | None]:
    """Raises ModelFilesError that says how to make them."""
    try:
        seer, accuracy = probe.load_probe(run)
        there = need_reader or (run / reader.FILE).is_file()
        landmarks, reading = reader.load_reader(run) if there else (None, None)
    except FileNotFoundError as error:
        raise ModelFilesError(
            f"{error.filename} not found: the instruments are made by `psistream train probe --run {run}`, "
            "which takes some minutes and needs the autoencoder's training run in that folder",
            field="run",
        ) from None
    return seer, accuracy, landmarks, reading


def _load(name: str) -> Figure:
    module, _, attribute = FIGURES[name].partition(":")
    return cast(Figure, getattr(importlib.import_module(module), attribute)())


def _made_with(args: argparse.Namespace) -> dict[str, str]:
    """What decides over the rows: whatever differs here begins a figure anew."""

    def manifest(path: Path | None) -> str:
        artifact = open_artifact(path if path is not None and path.is_dir() else None)
        return _digest(artifact.file("manifest.json"))

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
    """VBench's own networks on `--videos`, or on videos that the model makes now."""
    executable, folder = vbench.find(args.vbench), args.out / VBENCH
    if model is None:
        videos = sorted(args.videos.glob("*.mp4"))
        if not videos:
            raise InvalidInput(f"--videos: there is no .mp4 in {args.videos}", field="videos")
    else:
        videos = vbench.make(
            model, folder / "whole", arguments.scale(args).n, console.print, again=args.again
        )
    for video in videos:
        vbench.cut(video, folder)
    summary = vbench.summarise(vbench.measure(executable, folder, again=args.again))
    lines = [line for t in summary.tables for line in markdown(t)]
    (folder / "vbench.md").write_text("\n".join([*lines, "", *summary.notes]) + "\n")
    print("\n".join(lines))
    return OK


if __name__ == "__main__":
    sys.exit(main())
