"""Arguments of `psistream bench` that need more than a type."""

from __future__ import annotations

import argparse

from engine.commandline.parser import check_belongs, check_unused

OF_A_MODEL = ("backend", "model", "weights")
HOW = ("eager", "compiled", "graphs")


def add_speed(step: argparse.ArgumentParser) -> None:
    """What `--random` may try: see benchmarks.model.helios.Speed."""
    told = "with --random: %s (default: %%(default)s)"
    step.add_argument("--attention", default="sdpa", help=told % "sdpa, flash3 or sage")
    step.add_argument("--linears", default="bf16", choices=("bf16", "fp8"), help=told % "of the blocks")
    step.add_argument(
        "--how", default="eager", choices=HOW, help=told % "compiled, or graphs: compiled and recorded"
    )


def counts(text: str) -> tuple[int, ...]:
    try:
        found = tuple(int(part) for part in text.split(","))
    except ValueError:
        found = ()
    if not found or list(found) != sorted(set(found)) or found[0] < 1:
        raise argparse.ArgumentTypeError(f"{text!r} must be growing whole numbers, such as 1,2,4")
    return found


def seconds_of_a_segment(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0.01 <= seconds <= 60:
        raise argparse.ArgumentTypeError(f"{text!r} must be seconds per segment, 0.01 to 60")
    return seconds


def milliseconds(text: str) -> tuple[float, float]:
    try:
        call_ms, row_ms = (float(part) for part in text.split(","))
    except ValueError:
        call_ms = row_ms = -1.0
    if not (0 <= call_ms <= 1e5 and 0 <= row_ms <= 1e5):
        raise argparse.ArgumentTypeError(f"{text!r} must be two numbers of milliseconds, such as 10,1")
    return call_ms, row_ms


def check_combination(args: argparse.Namespace) -> None:
    """Raises InvalidInput for options that have no effect together with others."""
    match args.what:
        case "latency" | "soak":
            if args.url is None:
                check_belongs(args, "--url", "session", "token")
            else:
                check_unused(args, "--url", *OF_A_MODEL, "segments", "pretend")
            if args.what == "latency" and args.pretend is not None:
                check_unused(args, "--pretend", *OF_A_MODEL)
            if args.what == "soak" and args.segments is None:
                check_belongs(args, "--segments", "sessions")
            elif args.what == "soak":
                check_unused(args, "--segments", "minutes", "warm_up")
        case "failover" if args.workers > 1:
            check_unused(args, "--workers above 1", "spare")
        case "step" if args.random is None:
            check_belongs(args, "--random", "height", "width", "attention", "linears", "how")
        case "step":
            check_unused(args, "--random", "backend", "weights")
        case "load" if args.workers is not None:
            check_unused(args, "--workers", *OF_A_MODEL, "sessions", "max_batch")
