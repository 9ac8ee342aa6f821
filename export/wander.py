"""Put a trained run together: weights in fp16, one graph per role, manifest last. `psistream export onnx`."""

from __future__ import annotations

import shutil
from pathlib import Path

import onnx
import torch
from safetensors.torch import load_file, save_file

from engine.backends.artifact import BUILT_IN, EMBEDDINGS, TOKENIZER, WEIGHTS, write_manifest
from engine.errors import ModelFilesError
from engine.model.autoencoder import AutoencoderConfig
from engine.model.config import ModelConfig, build
from engine.model.roles import WorldModel, WorldModelConfig
from engine.model.signature import ModelSpec, signature
from engine.model.text import TextConfig
from export.onnx import Stored, content, export_role, share_weights, stored_tensors


def collect(run: Path) -> WorldModel:
    """The parts that `psistream train` left in a run folder, as one model in fp16-rounded fp32."""
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
    context_noise: float = 0.1,
    text: Path = BUILT_IN,
) -> ModelSpec:
    """Write a complete artifact to `out`; `text` is where embeddings and tokenizer come from."""
    out.mkdir(parents=True, exist_ok=True)
    for file in (EMBEDDINGS, TOKENIZER):
        if (text / file).resolve() != (out / file).resolve():
            shutil.copyfile(text / file, out / file)
    state = model.state_dict()
    save_file({k: v.half().contiguous() for k, v in state.items()}, out / WEIGHTS)
    (out / WEIGHTS).chmod(0o644)  # the library writes 0600
    stored = stored_tensors(out / WEIGHTS)
    places: dict[bytes, Stored] = {content(v.numpy()): stored[k] for k, v in state.items()}
    embeddings = stored_tensors(out / EMBEDDINGS)["embeddings"]
    model.embeddings.copy_(load_file(out / EMBEDDINGS)["embeddings"])
    places[content(model.embeddings.numpy())] = embeddings
    spec = model.spec(name=name, fps=fps, steps=steps, first_steps=first_steps, context_noise=context_noise)
    graphs = {}
    for role, module in model.roles(spec).items():
        graph = export_role(module, signature(spec)[role])
        share_weights(graph, places)
        onnx.save(graph, out / f"{role}.onnx")
        graphs[role] = f"{role}.onnx"
        print(
            f"{role}: {len(graph.graph.node)} nodes, {(out / graphs[role]).stat().st_size / 1024:.0f} KiB",
            flush=True,
        )
    write_manifest(out, spec, model.config.to_json(), graphs)
    return spec
