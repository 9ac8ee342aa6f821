"""Describes a graph, an exported folder, an engine's record or a named model in a table. Computes only
shapes."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import onnx

from engine.backends.artifact import MANIFEST, Graph, open_artifact
from engine.backends.gpu.engine_files import read
from engine.backends.locations import locations
from engine.errors import InvalidInput, ModelFilesError
from engine.model.helios.serve import NAME as HELIOS
from engine.model.presets import PRESETS
from export.manifest import describe

SHOWN_OPERATORS = (
    "Attention",
    "RMSNormalization",
    "LayerNormalization",
    "RotaryEmbedding",
    "MatMul",
    "Gemm",
    "Conv",
)


def inspect(what: str) -> list[str]:
    """A description, line by line. Raises InvalidInput, ModelFilesError."""
    path = Path(what)
    if path.is_dir():
        return folder(path)
    if path.suffix == ".json" and path.is_file():
        return engine(path)
    if path.is_file():
        return graph(path)
    if what in PRESETS:
        return preset_shapes(what)
    if what == HELIOS:
        return helios_shapes()
    raise InvalidInput(
        f"{what} is neither a folder, a graph, an engine's record nor one of {', '.join((*PRESETS, HELIOS))}",
        field="what",
    )


def folder(path: Path) -> list[str]:
    artifact = open_artifact(path, needs=())
    lines = [f"{artifact.spec.name}: {len(artifact.graphs)} graphs, {size(path.iterdir())}"]
    lines += [f"  {name} {version}" for name, version in artifact.tools.items()]
    lines += [f"{'role':15s} {'type':5s} {'nodes':>5s} {'KiB':>6s}  operators"]
    for g in artifact.graphs:
        kib = artifact.file(g.file).stat().st_size / 1024
        lines.append(f"{g.role:15s} {g.precision:5s} {g.nodes:5d} {kib:6.0f}  {operators(g.operators)}")
    lines += [evidence(e) for e in artifact.evidence] or [
        "evidence: none; `psistream export verify --record`"
    ]
    return lines


def graph(path: Path) -> list[str]:
    try:
        found = locations(path.read_bytes())
        model = onnx.load(path, load_external_data=False)
        g: Graph = describe(path.stem, "", path.name, model)
    except Exception as e:  # protobuf raises its own exceptions
        raise ModelFilesError(f"{path} is not an ONNX file: {e}", field=path.name) from e
    weights = [t for t in model.graph.initializer if t.external_data]
    lines = [f"{path.name}: opset {g.opset}, {g.nodes} nodes, {path.stat().st_size / 1024:.0f} KiB"]
    lines.append(f"{len(weights)} weights in {', '.join(sorted(found)) or 'the graph itself'}")
    lines += [f"{p.key}: {p.value}" for p in model.metadata_props]
    lines += [f"  in   {tensor(t)}" for t in g.inputs] + [f"  out  {tensor(t)}" for t in g.outputs]
    lines += [f"  {count:5d} {name}" for name, count in sorted(g.operators.items(), key=lambda o: -o[1])]
    return lines


def engine(path: Path) -> list[str]:
    if path.name == MANIFEST:
        return folder(path.parent)
    e = read(path)
    i = e.inputs
    later = {"plain": "", "refit": ", replaced when it is loaded"}.get(i.variant, ", added when it is loaded")
    return [
        f"{e.model} {i.role}: {i.backend} {i.version}, {i.target}, {i.precision}, {e.bytes / 2**20:.1f} MiB",
        f"  batch {i.batch[0]} to {i.batch[2]}, best at {i.batch[1]}",
        f"  variant {i.variant}: weights of {', '.join(i.weights)}{later}",
        f"  built in {e.build_s:.0f} s with at most {e.build_peak_bytes / 2**20:.0f} MiB on {e.built_on}",
        f"  attention {'decomposed' if e.decomposable else 'in its own kernels, or none'}",
        f"  layers {operators(e.layers, every=True)}",
        f"  level of evidence: {e.level}" + ("" if e.level in ("executed", "parity") else ", not executed"),
        *(evidence(found) for found in e.evidence),
    ]


def preset_shapes(name: str) -> list[str]:
    """The shapes of a named model, computed without weights."""
    if PRESETS[name].config.hunyuan is None:
        return folder_of_built_in()
    import torch

    from export.framepack.export import shapes

    with torch.inference_mode():
        parameters, found = shapes(name)
    lines = [f"{name}: {parameters / 1e9:.2f} billion parameters, {2 * parameters / 2**30:.1f} GiB in bf16"]
    for role, outputs in found.items():
        lines += [f"  {role:15s} → {output} {list(shape)}" for output, shape in outputs]
    return lines


def helios_shapes() -> list[str]:
    """Helios' transformer at full size, run without weights."""
    import torch

    from export.helios.export import shapes

    with torch.inference_mode():
        parameters, found = shapes()
    said = [f"{HELIOS}: {parameters / 1e9:.2f} billion parameters, {2 * parameters / 2**30:.1f} GiB in bf16"]
    for role, outputs in found.items():
        said += [f"  {role:15s} → {output} {list(shape)}" for output, shape in outputs]
    return said


def folder_of_built_in() -> list[str]:
    from engine.backends.artifact import BUILT_IN

    return folder(BUILT_IN)


def operators(counts: Mapping[str, int], *, every: bool = False) -> str:
    names = sorted(counts) if every else [n for n in SHOWN_OPERATORS if n in counts]
    return ", ".join(f"{counts[n]} {n}" for n in names)


def tensor(t: Mapping[str, Any]) -> str:
    return f"{t['name']:12s} {t['dtype']:8s} {t['shape']}"


def evidence(e: Mapping[str, Any]) -> str:
    shown = {k: v for k, v in e.items() if k in ("backend", "version", "precision", "device", "segments")}
    failed = e.get("failures") or []
    return f"evidence: {e.get('level')} {json.dumps(shown)}" + (f", {len(failed)} failures" if failed else "")


def size(files: Iterable[Path]) -> str:
    return f"{sum(f.stat().st_size for f in files if f.is_file()) / 2**20:.1f} MiB"
