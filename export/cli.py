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
        if precision == "fp8":
            raise InvalidInput(
                "--precision: fp8 is made from a folder's bf16 graph: `psistream export fp8 DIR`",
                field="precision",
            )
        dtype(precision)
    from export.wander import collect, export_again, export_onnx

    if args.model is not None:
        return full(args, precisions)
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


def full(args: argparse.Namespace, precisions: list[str]) -> int:
    from export.framepack.export import export_full

    layers = None
    if args.layers is not None:
        try:
            double, single = map(int, args.layers.split(","))
        except ValueError:
            raise InvalidInput(
                f"--layers: {args.layers!r} must be two numbers, such as 2,2", field="layers"
            ) from None
        layers = (double, single)
    export_full(args.model, args.out, weights=args.weights, layers=layers, precisions=precisions)
    print(f"{args.out}: {args.model}; next: psistream export tensorrt {args.out}")
    return 0


def tensorrt(args: argparse.Namespace) -> int:
    from engine.backends.artifact import open_artifact
    from engine.backends.gpu.engine_files import cache_folder
    from export.tensorrt.build import Plan, build, parsed, precision_for

    artifact = open_artifact(args.folder, needs=())
    roles = args.roles.split(",") if args.roles else list(dict.fromkeys(g.role for g in artifact.graphs))
    cache = args.cache or cache_folder()
    for role in roles:
        precision = precision_for(artifact, role, args.precision)
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
        engine, cached = build(
            artifact, plan, cache=cache, backend=args.backend, progress=show if sys.stderr.isatty() else quiet
        )
        how = "is there already" if cached else f"built in {engine.build_s:.0f} s"
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


def fp8(args: argparse.Namespace) -> int:
    from export.fp8 import add
    from export.verify.candidates import opened

    graph = add(opened(args.folder))
    size = (args.folder / graph.file).stat().st_size / 1024
    linears = graph.operators["QuantizeLinear"]
    print(
        f"{graph.file}: {graph.nodes} nodes, {size:.0f} KiB, {linears} tensors in fp8; next: "
        f"psistream export tensorrt {args.folder} --roles denoise --precision fp8"
    )
    return 0


def upgrade(args: argparse.Namespace) -> int:
    from export.manifest import upgrade as rewrite

    print(f"{args.folder}: manifest rewritten, {rewrite(args.folder)} graphs")
    return 0


def verify(args: argparse.Namespace) -> int:
    from export.verify.candidates import PRECISION, candidate, edges, opened, precisions, pytorch
    from export.verify.record import note
    from export.verify.verify import verify as compare

    artifact = opened(args.folder)
    backend = candidate(args.backend, artifact)
    precision = args.precision or PRECISION[args.backend]
    rival = pytorch(artifact, precision) if precision in ("bf16", "fp16") else None
    report = compare(
        backend,
        pytorch(artifact, "fp32"),
        precision=precision,
        rival=rival,
        segments=args.segments,
        batches=edges(args.backend, artifact, args.batch),
        precisions=precisions(artifact, precision),
    )
    print("\n".join(report.lines()))
    if args.record:
        note(artifact, report)
    return 1 if report.failures else 0


def inspect(args: argparse.Namespace) -> int:
    from export.inspect import inspect as look

    print("\n".join(look(args.what)))
    return 0


def selftest(args: argparse.Namespace) -> int:
    from export.verify.selftest import run

    return run(args.folder, segments=args.segments, batch=args.batch, out=args.json)


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(prog="psistream export", description=(__doc__ or "").split("\n")[0])
    commands = p.add_subparsers(dest="command", required=True)
    make = commands.add_parser("onnx", help="write graphs, weights and manifest")
    make.add_argument("--run", type=Path, help="folder of `psistream train`")
    make.add_argument(
        "--from", type=Path, dest="source", help="an exported folder (default: the built-in model)"
    )
    make.add_argument("--model", help="a full-size model instead: memorypack-1b3 or framepack-f1")
    make.add_argument("--weights", type=Path, help="with --model: folder of `psistream convert`")
    make.add_argument("--layers", help="with --model: so many blocks with random weights, such as 2,2")
    make.add_argument("--out", type=Path, required=True, help="folder to write")
    make.add_argument(
        "--precision", default="fp32", help="of the arithmetic, such as fp32,bf16 (default: fp32)"
    )
    make.add_argument("--name", default="wander", help="with --run: the model's name")
    make.add_argument("--steps", type=int, default=2, help="with --run: denoise steps of a segment")
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
    low = commands.add_parser("fp8", help="the denoiser's linears in fp8, beside its bf16 graph")
    low.add_argument("folder", type=Path)
    low.set_defaults(run_command=fp8)
    old = commands.add_parser("upgrade", help="rewrite the manifest of an older version")
    old.add_argument("folder", type=Path)
    old.set_defaults(run_command=upgrade)
    check = commands.add_parser("verify", help="compare a backend with PyTorch, role by role and over time")
    check.add_argument(
        "folder", type=Path, nargs="?", help="an exported folder (default: the built-in model)"
    )
    check.add_argument("--backend", default="onnxruntime", help="onnxruntime, cuda or tensorrt")
    check.add_argument("--precision", help="whose gates to use (default: what the backend computes in)")
    check.add_argument("--segments", type=int, default=64, help="of recursion (default: 64)")
    check.add_argument("--batch", type=int, default=4, help="beside batch 1 (default: 4); engines: theirs")
    check.add_argument("--record", action="store_true", help="write the outcome into the manifest")
    check.set_defaults(run_command=verify)
    look = commands.add_parser("inspect", help="what a folder, graph, engine or model is")
    look.add_argument("what", help="a folder, a graph, an engine's record, or a model's name")
    look.set_defaults(run_command=inspect)
    test = commands.add_parser("selftest", help="build, run, compare and measure on this machine")
    test.add_argument("folder", type=Path, nargs="?", help="an exported folder (default: the built-in model)")
    test.add_argument("--segments", type=int, default=64, help="of recursion (default: 64)")
    test.add_argument("--batch", type=int, default=4, help="the largest batch (default: 4)")
    test.add_argument("--json", type=Path, help="write the figures here as well")
    test.set_defaults(run_command=selftest)
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
