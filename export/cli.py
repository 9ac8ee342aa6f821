"""`psistream export`: a model → graphs and engines, and what is known of them."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from engine.errors import InvalidInput, PsistreamError


def onnx(args: argparse.Namespace) -> int:
    from engine.model.precision import dtype

    precisions = args.precision.split(",")
    for precision in precisions:
        dtype(precision)
    from export.wander import collect, export_again, export_onnx

    if args.run is not None and args.source is not None:
        raise InvalidInput("--run and --from: give one of them", field="from")
    if args.run is not None:
        spec = export_onnx(
            collect(args.run),
            args.out,
            name=args.name,
            steps=args.steps,
            first_steps=args.first_steps,
            precisions=precisions,
        )
    else:
        spec = export_again(args.source, args.out, precisions)
    size = sum(f.stat().st_size for f in args.out.iterdir()) / 2**20
    print(f"{args.out}: {spec.name}, {size:.1f} MiB; next: psistream export verify {args.out}")
    return 0


def tensorrt(args: argparse.Namespace) -> int:
    from engine.backends.artifact import open_artifact
    from engine.backends.engines import cache_folder
    from engine.model.precision import precision_of
    from engine.model.signature import signature
    from export.tensorrt import Plan, build, parsed

    artifact = open_artifact(args.folder)
    roles = args.roles.split(",") if args.roles else list(signature(artifact.spec))
    cache = args.cache or cache_folder()
    for role in roles:
        precision = precision_of(role, args.precision)
        if args.parse:
            result = parsed(artifact, role, precision, args.backend)
            print(f"{role:16s} {precision}  parsed, {sum((result.layers or {}).values())} layers", flush=True)
            continue
        plan = Plan(
            role=role,
            precision=precision,
            target=args.target,
            batch=(1, args.batch, args.batch),
            variant=args.variant,
            level=args.level,
        )
        engine, there = build(
            artifact, plan, cache=cache, backend=args.backend, progress=show if sys.stderr.isatty() else quiet
        )
        how = "is there already" if there else f"built in {engine.build_s:.0f} s"
        note = ", attention decomposed" if engine.decomposable else ""
        print(
            f"{role:16s} {precision}  {engine.inputs.target}  {engine.bytes / 2**20:6.1f} MiB  {how}{note}",
            flush=True,
        )
    if not args.parse:
        print(f"{cache / artifact.spec.name}")
    return 0


def show(line: str) -> None:
    print(f"\r\x1b[K{line[:100]}\r", end="", file=sys.stderr, flush=True)


def quiet(line: str) -> None:
    pass


def upgrade(args: argparse.Namespace) -> int:
    from export.manifest import upgrade as rewrite

    print(f"{args.folder}: manifest rewritten, {rewrite(args.folder)} graphs")
    return 0


def verify(args: argparse.Namespace) -> int:
    from export.verify import compare

    errors = compare(args.folder, segments=args.segments)
    for name, error in errors.items():
        print(f"{name:16s} {error:.2e}")
    worst = max(errors.values())
    print(f"largest difference of ONNX Runtime and PyTorch: {worst:.2e}, allowed {args.tolerance:g}")
    return 0 if worst <= args.tolerance else 1


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(prog="psistream export", description=(__doc__ or "").split("\n")[0])
    commands = p.add_subparsers(dest="command", required=True)
    make = commands.add_parser("onnx", help="write graphs, weights and manifest")
    make.add_argument("--run", type=Path, help="folder of `psistream train`")
    make.add_argument(
        "--from", type=Path, dest="source", help="an exported folder (default: the built-in model)"
    )
    make.add_argument("--out", type=Path, required=True, help="folder to write")
    make.add_argument(
        "--precision", default="fp32", help="of the arithmetic, such as fp32,bf16 (default: fp32)"
    )
    make.add_argument("--name", default="wander", help="with --run: the model's name")
    make.add_argument("--steps", type=int, default=4, help="with --run: denoise steps of a segment")
    make.add_argument("--first-steps", type=int, default=8, help="with --run: of a scene's first segment")
    make.set_defaults(run_command=onnx)
    trt = commands.add_parser("tensorrt", help="build engines from an exported folder")
    trt.add_argument("folder", type=Path, nargs="?", help="an exported folder (default: the built-in model)")
    trt.add_argument("--roles", help="such as denoise,decode (default: all)")
    trt.add_argument(
        "--precision", default="fp32", help="of denoise, memorize and squeeze; a graph must be there for it"
    )
    trt.add_argument(
        "--target", default="here", help="here (this machine's GPU), or ahead of time: sm89 and so on, any"
    )
    trt.add_argument("--batch", type=int, default=4, help="the largest, and what it is best at (default: 4)")
    trt.add_argument("--variant", default="plain", help="plain, refit or stripped")
    trt.add_argument("--level", type=int, help="the builder's optimisation level")
    trt.add_argument("--backend", help="tensorrt or tensorrt_rtx (default: what is installed)")
    trt.add_argument("--cache", type=Path, help="where engines are kept (default: $PSISTREAM_ENGINES)")
    trt.add_argument("--parse", action="store_true", help="only ask the parser; build nothing")
    trt.set_defaults(run_command=tensorrt)
    old = commands.add_parser("upgrade", help="rewrite the manifest of an older version")
    old.add_argument("folder", type=Path)
    old.set_defaults(run_command=upgrade)
    check = commands.add_parser("verify", help="compare ONNX Runtime with PyTorch over a live session")
    check.add_argument("folder", type=Path)
    check.add_argument("--segments", type=int, default=16)
    check.add_argument("--tolerance", type=float, default=1e-3, help="largest absolute difference")
    check.set_defaults(run_command=verify)
    return p


def main(argv: list[str] | None = None) -> int:
    args = parser().parse_args(argv)
    try:
        result: int = args.run_command(args)
    except ModuleNotFoundError as e:
        print(f"psistream export needs {e.name}: pip install 'psistream[export]'", file=sys.stderr)
        return 1
    except PsistreamError as e:
        print(e.message, file=sys.stderr)
        return 2
    return result
