"""What `psistream evaluate` is asked for: figures, how much of them, with what. Raises InvalidInput, nothing
else happens here."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from engine.backends.registry import DEFAULT_BACKEND, MODULES
from engine.command import Parser
from engine.errors import InvalidInput
from engine.evaluation.figure import Scale

FIGURES = {
    "adherence": "engine.evaluation.figures.adherence:Adherence",
    "obedience": "engine.evaluation.figures.obedience:Obedience",
    "recall": "engine.evaluation.figures.recall:Recall",
    "quality": "engine.evaluation.figures.quality:Quality",
    "drift": "engine.evaluation.figures.drift:Drift",
    "fidelity": "engine.evaluation.figures.fidelity:Fidelity",
    "steps": "engine.evaluation.figures.steps:Steps",
    "elo": "engine.evaluation.figures.elo:Elo",
}
VBENCH = "vbench"
QUICK = Scale(4, 2, (2.0, 5.0, 10.0), (10.0, 30.0), 1, (1, 4, 16))
LONG_S = 60.0


def parser() -> argparse.ArgumentParser:
    p = Parser(
        prog="psistream evaluate",
        description="Measure a model of the built-in world. Stop at any time: what is done is kept.",
    )
    p.add_argument(
        "--figures", default="all", help=f"some of {', '.join(FIGURES)}; all (default); or {VBENCH}"
    )
    p.add_argument("--model", type=Path, metavar="DIR", help="exported model (default: the built-in one)")
    p.add_argument("--against", type=Path, nargs="+", default=[], metavar="DIR", help="other models, for elo")
    p.add_argument("--backend", choices=[m for m in MODULES if m != "fake"], default=DEFAULT_BACKEND)
    p.add_argument("--run", type=Path, default=Path("runs/wander"), metavar="DIR", help="where the probe is")
    p.add_argument("--out", type=Path, metavar="DIR", help="report and sheets (default: RUN/evaluation)")
    p.add_argument("--n", type=int, metavar="SEEDS", help="independent seeds (default 20, --quick 4)")
    p.add_argument("--quick", action="store_true", help="a few minutes, wide intervals")
    p.add_argument("--again", action="store_true", help="measure again what has been measured")
    p.add_argument("--journeys", metavar="S,S", help="recall: seconds out and back (2,5,10,20,40)")
    p.add_argument("--durations", metavar="S,S", help="drift: lengths (10,30,60); an hour is 3600")
    p.add_argument("--long-n", type=int, metavar="SEEDS", help=f"drift: seeds played beyond {LONG_S:g} s (3)")
    p.add_argument("--steps", metavar="K,K", help="steps: numbers of denoising steps (1,2,4,8,16)")
    p.add_argument("--threads", type=int, default=0, help="CPU threads of the instruments (default: all)")
    p.add_argument(
        "--vbench", default="vbench", metavar="COMMAND", help="vbench: the command of VBench's own"
    )
    p.add_argument("--videos", type=Path, metavar="DIR", help="vbench: your MP4 files instead of new ones")
    return p


def figures(args: argparse.Namespace) -> list[str]:
    """Raises InvalidInput. vbench is not among them: it goes its own way."""
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
    """Raises InvalidInput."""
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
