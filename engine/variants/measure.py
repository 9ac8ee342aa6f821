"""Measures trained variants one by one and keeps their table up to date.

Every variant has its own evaluation in its folder: rows, report and contact sheets, made by the same figures
as any model's. The table shows whatever has been measured. Finished work is not repeated.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import torch
from rich.console import Console

from engine.backends.artifact import open_artifact
from engine.errors import ModelFilesError
from engine.evaluation import report as reports
from engine.evaluation.bench import RECONSTRUCTED, REFERENCE_FRAMES, Bench, Model
from engine.evaluation.figure import Figure, Row, Scale
from engine.evaluation.figures.recall import Recall
from engine.evaluation.figures.walk import Walk
from engine.evaluation.instruments import landmark_reader as reader
from engine.evaluation.instruments import probe
from engine.evaluation.psi.forgetting import remaining
from engine.evaluation.psi.returns import errors, returns
from engine.evaluation.report import Report, warnings
from engine.evaluation.results import rows_of
from engine.evaluation.runner import Evaluation, VideoCounter, measure
from engine.model.config import BAD_CONFIG, ModelConfig, build
from engine.model.signature import ModelSpec
from engine.model.wander.autoencoder import Autoencoder
from engine.model.wander.transformer import WanderDiT
from engine.training.data.latents import Pool
from engine.variants.markdown import text
from engine.variants.plan import DONE, Variant
from engine.variants.player import Settings, model_of
from engine.variants.table import MeasuredVariant, to_json

RETURNS: Final = 24  # segments at which ψ is measured


@dataclass(frozen=True)
class Comparison:
    """A comparison of variants: the instruments and settings that they share."""

    run: Path
    instruments: Path  # a folder with the probe and the landmark reader
    autoencoder: Autoencoder
    held_out: Callable[[], Pool]  # journeys that no variant is trained on
    seeds: int
    seconds: float  # of a walk
    journey_s: float  # seconds out, and the same back; 0: no recall
    returns: int = RETURNS
    reference_frames: int = REFERENCE_FRAMES

    @property
    def scale(self) -> Scale:
        return Scale(n=self.seeds, truths=0, journeys_s=(self.journey_s,), durations_s=(self.seconds,))

    @cached_property
    def spec(self) -> ModelSpec:
        return open_artifact(None).spec

    @cached_property
    def _instruments(self) -> tuple[Any, Any, Any, Any]:
        return (*probe.load_probe(self.instruments), *reader.load_reader(self.instruments))

    def bench(self, model: Model) -> Bench:
        """A bench for one variant; all share the instruments. Raises FileNotFoundError, ModelFilesError."""
        return Bench(model, *self._instruments, (), self.reference_frames)

    def world(self) -> Model:
        """The world itself in place of a model. It is rendered, never played."""

        def never(prompt: str, **asked: Any) -> Any:
            raise AssertionError("the world does not play")

        return Model(RECONSTRUCTED, replace(self.spec, name=RECONSTRUCTED), never, self.autoencoder)

    def made_with(self, model: str) -> dict[str, str]:
        """What the rows of a model depend on: its digest and those of the instruments."""
        files = {"probe": probe.FILE, "landmark reader": reader.FILE}
        return {"model": model} | {n: digest(self.instruments / f) for n, f in files.items()}


def digest(path: Path) -> str:
    """The first 16 hexadecimal digits of the file's SHA-256."""
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def load_dit(file: Path) -> WanderDiT:
    """A trained DiT, frozen. Raises ModelFilesError."""
    data = torch.load(file, weights_only=True, map_location="cpu")
    try:
        model = WanderDiT(build(ModelConfig, data["config"]))
        model.load_state_dict(data["state"])
    except BAD_CONFIG as e:
        raise ModelFilesError(f"{file} has no weights of this version: {e}", field=file.name) from e
    return model.eval().requires_grad_(False)


def measure_variant(comparison: Comparison, v: Variant) -> None:
    """Measure the unfinished figures of one variant."""
    folder = comparison.run / v.name
    dit = load_dit(folder / DONE)
    model = model_of(v.name, dit, comparison.autoencoder, backwards=v.backwards)
    wanted: list[Figure] = [Walk(), *([Recall()] if comparison.journey_s else [])]
    _measure(comparison, model, wanted, folder / "evaluation", digest(folder / DONE))
    if not v.backwards:
        _memory(comparison, dit, folder)


def measure_truth(comparison: Comparison) -> None:
    """Measure the world itself in place of a variant: the upper limit for any model with this autoencoder."""
    own = digest(comparison.run / "autoencoder.final.pt")
    _measure(comparison, comparison.world(), [Walk(rendered=True)], comparison.run / "rendered", own)


def _measure(comparison: Comparison, model: Model, figures: Sequence[Figure], out: Path, own: str) -> None:
    bench, made_with = comparison.bench(model), comparison.made_with(own)
    report, console = Report(reports.head(bench, made_with), warnings(bench)), Console(stderr=True)
    todo = Evaluation(bench, figures, [f.name for f in figures], comparison.scale, out, made_with)
    if not measure(todo, report, console, VideoCounter()):
        raise KeyboardInterrupt


def _memory(comparison: Comparison, dit: WanderDiT, folder: Path) -> None:
    """Measure what ψ contributes, and how long it lasts."""
    own = {"model": digest(folder / DONE)}
    found = _read(folder / "memory.json")
    if found.get("made_with") == own:
        return
    pool = comparison.held_out()
    worth = errors(dit, pool, returns(pool, dit.config.segment, comparison.returns))
    found = {"made_with": own, "errors": worth, "left": remaining(dit, pool)}
    (folder / "memory.json").write_text(json.dumps(found) + "\n")


def write_table(comparison: Comparison, variants: Sequence[Variant], settings: Mapping[str, Any]) -> Path:
    """Write `table.md` and `table.json` of all finished variants; returns the path of `table.md`."""
    found = [f for v in variants if (f := _found(comparison, v)) is not None]
    own = comparison.made_with(digest(comparison.run / "autoencoder.final.pt"))
    world = _rows(comparison.run / "rendered", own, Walk())
    if world:
        found.append(MeasuredVariant("rendered", RECONSTRUCTED, world, plays=False))
    steps = Settings()
    head = {
        "trained": "on the same episodes with the same seed; the last table has steps and minutes",
        "measured": f"{comparison.seeds} seeds, walks of {comparison.seconds:g} s, "
        f"{comparison.journey_s:g} s out and back",
        "sampling": f"{steps.steps} steps, {steps.first_steps} for a first segment, context noise "
        f"{steps.context_noise:g}",
        "intervals": "95 %, over seeds; one training run each, so they leave out the variation between "
        "training seeds",
    }
    (comparison.run / "table.md").write_text(text(found, head))
    full = to_json(found, {**head, "plan": dict(settings)})
    (comparison.run / "table.json").write_text(json.dumps(full, indent=1, allow_nan=False) + "\n")
    return comparison.run / "table.md"


def _found(comparison: Comparison, v: Variant) -> MeasuredVariant | None:
    folder = comparison.run / v.name
    if not (folder / DONE).is_file():
        return None
    own = comparison.made_with(digest(folder / DONE))
    walks = _rows(folder / "evaluation", own, Walk())
    if not walks:
        return None
    journeys = _rows(folder / "evaluation", own, Recall())
    memory = _read(folder / "memory.json")
    return MeasuredVariant(
        v.name,
        v.title,
        walks,
        journeys,
        memory.get("errors", {}),
        {int(k): x for k, x in (memory.get("left") or {}).items()},
        v.control,
        v.paper,
        _trained(folder),
    )


def _rows(folder: Path, made_with: Mapping[str, str], figure: Figure) -> list[Row]:
    rows = rows_of(folder / figure.name, {**made_with, "figure": f"{figure.name} {figure.version}"})
    return sorted(rows.values(), key=lambda r: int(r["seed"]))


def _trained(folder: Path) -> dict[str, float]:
    """The end of the training curve: steps, minutes, and the error of a four-step sample."""
    out: dict[str, float] = {}
    try:
        lines = (folder / "dit.jsonl").read_text().splitlines()
    except FileNotFoundError:
        return out
    for row in map(json.loads, lines):
        out |= {"steps": row["step"], "minutes": row["elapsed_s"] / 60}
        out |= {k: row[k] for k in ("error_4_steps",) if k in row}
    return out


def _read(file: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
    return found
