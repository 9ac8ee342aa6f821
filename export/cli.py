"""`psistream export`: a model → graphs and engines, and what is known of them."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from engine.errors import InvalidInput, PsistreamError


def onnx(args: argparse.Namespace) -> int:
    from export.precision import dtype

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
