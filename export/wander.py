"""Exports a model of the built-in world into a folder: weights in fp16, graphs, and the manifest last."""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import onnx
import torch
from safetensors.torch import load_file, save_file

from engine.backends.artifact import (
    BUILT_IN,
    EMBEDDINGS,
    NEEDED,
    TOKENIZER,
    WEIGHTS,
    Graph,
    open_artifact,
    write_manifest,
)
from engine.backends.pytorch import load_model
from engine.errors import ModelFilesError
from engine.model.config import ModelConfig, build
from engine.model.graphs import graphs_of
from engine.model.precision import dtype, low_roles, lowered
from engine.model.signature import ModelSpec, signature
from engine.model.text.encoder import TextConfig
from engine.model.text.minilm import SCALE
from engine.model.wander.autoencoder import AutoencoderConfig
from engine.model.wander.world_model import WorldModel, WorldModelConfig
from export.graph import export_role
from export.manifest import describe, tools
from export.weights import places, stored_tensors


def collect(run: Path) -> WorldModel:
    """Load the finished parts in a run folder of `psistream train` as one model, in fp32 rounded to fp16.
    Raises ModelFilesError."""
    parts = {}
    for name in ("dit", "autoencoder", "text"):
        file = run / f"{name}.final.pt"
        if not file.is_file():
            raise ModelFilesError(f"{file} not found: finish `psistream train {name}` first", field=name)
        parts[name] = torch.load(file, weights_only=True)
    config = WorldModelConfig(
        build(ModelConfig, parts["dit"]["config"]),
        build(AutoencoderConfig, parts["autoencoder"]["config"]),
        build(TextConfig, parts["text"]["config"]),
    )
    model = WorldModel(config)
    for name, data in parts.items():
        model.get_submodule(name).load_state_dict({k: v.half().float() for k, v in data["state"].items()})
    return model.eval().requires_grad_(False)


def export_onnx(
    model: WorldModel,
    out: Path,
    *,
    name: str,
    fps: int = 16,
    steps: int = 4,
    first_steps: int = 8,
    context_noise: float = 0.15,
    change_noise: float = 0.4,
    text: Path = BUILT_IN,
    precisions: Sequence[str] = ("fp32",),
) -> ModelSpec:
    """Write a complete artifact to `out`; embeddings and tokenizer come from `text`."""
    out.mkdir(parents=True, exist_ok=True)
    for file in (EMBEDDINGS, TOKENIZER):
        if (text / file).resolve() != (out / file).resolve():
            shutil.copyfile(text / file, out / file)
    save_file({k: v.half().contiguous() for k, v in model.trained().items()}, out / WEIGHTS)
    (out / WEIGHTS).chmod(0o644)  # the library writes with mode 0600
    model.words.load(load_file(out / EMBEDDINGS))
    spec = model.spec(
        name=name,
        fps=fps,
        steps=steps,
        first_steps=first_steps,
        context_noise=context_noise,
        change_noise=change_noise,
    )
    graphs = [g for p in dict.fromkeys(("fp32", *precisions)) for g in write_graphs(model, spec, out, p)]
    write_manifest(out, spec, model.config.to_json(), graphs, tools())
    return spec


def export_again(source: Path | None, out: Path, precisions: Sequence[str]) -> ModelSpec:
    """Export an exported folder's graphs again from its weights, into the same or another folder. Raises
    ModelFilesError."""
    artifact = open_artifact(source)
    model, spec = load_model(artifact), artifact.spec
    out.mkdir(parents=True, exist_ok=True)
    for file in NEEDED:
        if (out / file).resolve() != artifact.file(file).resolve():
            shutil.copyfile(artifact.file(file), out / file)
    graphs = [g for p in precisions for g in write_graphs(model, spec, out, p)]
    if out.resolve() == artifact.path.resolve():
        graphs += [g for g in artifact.graphs if g.precision not in precisions]
    write_manifest(out, spec, artifact.config, graphs, {**artifact.tools, **tools()})
    return spec


def replace_words(source: Path | None, out: Path, text: Path) -> ModelSpec:
    """Export a folder with another word table: only the text encoder's graph is made again, in fp32. `text`
    is a folder of `python -m export.text.minilm` with the same vocabulary."""
    artifact = open_artifact(source)
    model = WorldModel(WorldModelConfig.from_json(artifact.config)).eval().requires_grad_(False)
    model.load_trained({k: v.float() for k, v in load_file(artifact.file(WEIGHTS)).items()})
    spec = replace(artifact.spec, attributes=model.config.text.attributes)
    out.mkdir(parents=True, exist_ok=True)
    for file in artifact.files:
        if (out / file).resolve() != artifact.file(file).resolve():
            shutil.copyfile(artifact.file(file), out / file)
    for file in (EMBEDDINGS, TOKENIZER):
        shutil.copyfile(text / file, out / file)
    model.words.load(load_file(out / EMBEDDINGS))
    others = [g for g in artifact.graphs if g.role != "encode_text"]
    graphs = [*write_graphs(model, spec, out, "fp32", ("encode_text",)), *others]
    write_manifest(out, spec, model.config.to_json(), graphs, {**artifact.tools, **tools()})
    return spec


def write_graphs(
    model: WorldModel, spec: ModelSpec, out: Path, precision: str, only: Sequence[str] = ()
) -> list[Graph]:
    """Write the graphs, all or of some roles; `out` already holds the weights."""
    kind, roles, contracts = dtype(precision), signature(spec), graphs_of(spec)
    if precision == "fp32":
        source, modules = model, model.roles(spec)
    else:
        low = lowered(model, kind)
        source, modules = low, low_roles(low.roles(spec), roles, kind)
    words = stored_tensors(out / EMBEDDINGS)
    scaled = {n: replace(place, scale=words.get(f"{n}{SCALE}")) for n, place in words.items()}
    stored = {**stored_tensors(out / WEIGHTS), **{f"words.{name}": place for name, place in scaled.items()}}
    graphs = []
    for role, module in modules.items():
        if only and role not in only:
            continue
        began = time.monotonic()
        proto = export_role(module, contracts[role], places(module, source, stored), out)
        file = f"{role}.onnx" if precision == "fp32" else f"{role}.{precision}.onnx"
        onnx.save(proto, out / file)
        graphs.append(describe(role, precision, file, proto))
        size, took_s = (out / file).stat().st_size / 1024, time.monotonic() - began
        print(f"{file}: {len(proto.graph.node)} nodes, {size:.0f} KiB, {took_s:.0f} s", flush=True)
    return graphs
