"""`psistream export`: turns a model into ONNX graphs and TensorRT engines, and verifies and describes
them."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from engine.commandline.outputs import check_folder, check_output, naming
from engine.commandline.parser import Parser, check_belongs, check_unused
from engine.commandline.runner import FAILED, OK, run
from engine.errors import InvalidInput


def onnx(args: argparse.Namespace) -> int:
    from engine.model.precision import dtype

    of_run = ("name", "steps", "first_steps")
    if args.model is not None:
        check_unused(args, "--model", "run", "source", "text", *of_run)
    else:
        check_belongs(args, "--model", "weights", "layers")
        if args.run is None:
            check_belongs(args, "--run", *of_run)
    precisions = args.precision.split(",")
    for precision in precisions:
        if precision == "fp8":
            raise InvalidInput(
                "--precision: make an fp8 graph from a folder's bf16 graph with `psistream export fp8 DIR`",
                field="precision",
            )
        dtype(precision)
    check_folder(args.out, "--out")
    from export.wander import collect, export_again, export_onnx, replace_words

    if args.model is not None:
        return full(args, precisions)
    if args.text is not None and (args.run is not None or precisions != ["fp32"]):
        raise InvalidInput("--text: can only be used with --from and --precision fp32", field="text")
    if args.run is not None and args.source is not None:
        raise InvalidInput("give --run or --from, not both", field="from")
    if args.run is not None:
        spec = export_onnx(
            collect(args.run),
            args.out,
            name=args.name,
            steps=args.steps,
            first_steps=args.first_steps,
            precisions=precisions,
        )
    elif args.text is not None:
        spec = replace_words(args.source, args.out, args.text)
    else:
        spec = export_again(args.source, args.out, precisions)
    size = sum(f.stat().st_size for f in args.out.iterdir()) / 2**20
    print(f"{args.out}: {spec.name}, {size:.1f} MiB; next: psistream export verify {args.out}")
    return OK


def full(args: argparse.Namespace, precisions: list[str]) -> int:
    if args.model == "helios":
        return helios(args, precisions)
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
    return OK


def helios(args: argparse.Namespace, precisions: list[str]) -> int:
    from export.helios.export import export_helios

    if args.layers is not None and not args.layers.isdigit():
        raise InvalidInput(f"--layers: {args.layers!r} must be a number of blocks, such as 2", field="layers")
    layers = None if args.layers is None else int(args.layers)
    export_helios(args.out, weights=args.weights, layers=layers, precisions=precisions)
    print(f"{args.out}: helios; next: psistream export tensorrt {args.out}")
    return OK


def tensorrt(args: argparse.Namespace) -> int:
    from engine.backends.artifact import open_artifact
    from engine.backends.gpu.engine_files import cache_folder
    from export.tensorrt.build import EnginePlan, build, parsed, precision_for

    if args.parse:
        check_unused(args, "--parse", "target", "batch", "variant", "level", "cache")
    artifact = open_artifact(args.folder, needs=())
    roles = args.roles.split(",") if args.roles else list(dict.fromkeys(g.role for g in artifact.graphs))
    cache = args.cache or cache_folder()
    for role in roles:
        precision = precision_for(artifact, role, args.precision)
        if args.parse:
            result = parsed(artifact, role, precision, args.backend)
            print(f"{role:16s} {precision}  parsed, {sum((result.layers or {}).values())} layers", flush=True)
            continue
        plan = EnginePlan(
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
        how = "in the cache" if cached else f"built in {engine.build_s:.0f} s"
        note = ", attention decomposed" if engine.decomposable else ""
        print(
            f"{role:16s} {precision}  {engine.inputs.target}  {engine.bytes / 2**20:6.1f} MiB  {how}{note}",
            flush=True,
        )
    if not args.parse:
        print(f"{cache / artifact.spec.name}")
    return OK


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
    return OK


def upgrade(args: argparse.Namespace) -> int:
    from export.manifest import upgrade as rewrite

    print(f"{args.folder}: manifest rewritten for {rewrite(args.folder)} graphs")
    return OK


def verify(args: argparse.Namespace) -> int:
    from export.verify.candidates import PRECISION, candidate, compared, opened
    from export.verify.record import record

    artifact = opened(args.folder)
    backend = candidate(args.backend, artifact)
    precision = args.precision or PRECISION[args.backend]
    report = compared(backend, args.backend, artifact, precision, segments=args.segments, batch=args.batch)
    print("\n".join(report.lines()))
    if args.record:
        record(artifact, report)
    return FAILED if report.failures else OK


def inspect(args: argparse.Namespace) -> int:
    from export.inspect import inspect as look

    print("\n".join(look(args.what)))
    return OK


def selftest(args: argparse.Namespace) -> int:
    from export.verify.selftest import run as test

    check_output(args.json, "--json")
    return test(args.folder, segments=args.segments, batch=args.batch, out=args.json)


def parser() -> argparse.ArgumentParser:
    p = Parser(
        prog="psistream export",
        description="Turn a model into ONNX graphs and TensorRT engines, and verify them.",
    )
    commands = p.add_subparsers(dest="command", required=True)
    make = commands.add_parser("onnx", help="write graphs, weights and manifest")
    make.add_argument("--run", type=Path, help="folder of `psistream train`")
    make.add_argument(
        "--from", type=Path, dest="source", help="an exported folder (default: the built-in model)"
    )
    make.add_argument(
        "--text",
        type=Path,
        help="with --from: take the word table from this folder and export only the text encoder again",
    )
    make.add_argument(
        "--model", help="export a full-size model instead: memorypack-1b3, framepack-f1 or helios"
    )
    make.add_argument("--weights", type=Path, help="with --model: folder of `psistream convert`")
    make.add_argument(
        "--layers", help="with --model: a few blocks with random weights, such as 2,2 (helios: 2)"
    )
    make.add_argument("--out", type=Path, required=True, help="folder to write")
    make.add_argument(
        "--precision", default="fp32", help="precision of the arithmetic, such as fp32,bf16 (default: fp32)"
    )
    make.add_argument("--name", default="wander", help="with --run: the model's name")
    make.add_argument("--steps", type=int, default=2, help="with --run: denoising steps of a segment")
    make.add_argument(
        "--first-steps", type=int, default=8, help="with --run: denoising steps of a scene's first segment"
    )
    make.set_defaults(run_command=onnx)
    trt = commands.add_parser("tensorrt", help="build engines from an exported folder")
    trt.add_argument("folder", type=Path, nargs="?", help="an exported folder (default: the built-in model)")
    trt.add_argument("--roles", help="such as denoise,decode (default: all)")
    trt.add_argument(
        "--precision",
        default="fp32",
        help="precision of denoise, memorize and squeeze; the folder needs such graphs",
    )
    trt.add_argument(
        "--target",
        default="here",
        help="here (this machine's GPU), or a name such as sm89, or any, to build ahead of time",
    )
    trt.add_argument(
        "--batch", type=int, default=4, help="largest batch, for which the engine is tuned (default: 4)"
    )
    trt.add_argument("--variant", default="plain", help="plain, refit or stripped")
    trt.add_argument("--level", type=int, help="the builder's optimisation level")
    trt.add_argument("--backend", help="tensorrt or tensorrt_rtx (default: the one installed)")
    trt.add_argument("--cache", type=Path, help="folder of engines (default: $PSISTREAM_ENGINES)")
    trt.add_argument("--parse", action="store_true", help="only run the parser; build nothing")
    trt.set_defaults(run_command=tensorrt)
    low = commands.add_parser("fp8", help="make an fp8 graph of the denoiser beside its bf16 graph")
    low.add_argument("folder", type=Path)
    low.set_defaults(run_command=fp8)
    old = commands.add_parser("upgrade", help="rewrite a manifest of an older version")
    old.add_argument("folder", type=Path)
    old.set_defaults(run_command=upgrade)
    check = commands.add_parser("verify", help="compare a backend with PyTorch, per role and over time")
    check.add_argument(
        "folder", type=Path, nargs="?", help="an exported folder (default: the built-in model)"
    )
    check.add_argument("--backend", default="onnxruntime", help="onnxruntime, cuda or tensorrt")
    check.add_argument("--precision", help="gates to apply (default: the backend's own precision)")
    check.add_argument("--segments", type=int, default=64, help="segments to play (default: 64)")
    check.add_argument(
        "--batch", type=int, default=4, help="batch to compare besides 1 (default: 4); engines use theirs"
    )
    check.add_argument("--record", action="store_true", help="write the result into the manifest")
    check.set_defaults(run_command=verify)
    look = commands.add_parser("inspect", help="describe a folder, graph, engine or model")
    look.add_argument("what", help="a folder, a graph, an engine's record, or a model's name")
    look.set_defaults(run_command=inspect)
    test = commands.add_parser("selftest", help="build, run, compare and measure on this machine")
    test.add_argument("folder", type=Path, nargs="?", help="an exported folder (default: the built-in model)")
    test.add_argument("--segments", type=int, default=64, help="segments to play (default: 64)")
    test.add_argument("--batch", type=int, default=4, help="the largest batch (default: 4)")
    test.add_argument("--json", type=Path, help="also write the figures into this file")
    test.set_defaults(run_command=selftest)
    return p


def main(argv: Sequence[str] | None = None) -> int:
    return run("psistream export", lambda: _main(parser().parse_args(argv)))


def _main(args: argparse.Namespace) -> int:
    with naming(getattr(args, "out", None) or getattr(args, "folder", None)):
        status: int = args.run_command(args)
    return status
