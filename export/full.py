"""The full-size model → graphs of its transformer's roles, by name of weight, without reading the weights.

Graphs go beside the shards of `psistream convert`, so that graphs of any size stay small and all read one
copy. `--layers` makes the same network with a few blocks and random weights, to look at and to
measure. What encodes text and pictures and what decodes runs in PyTorch.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import onnx
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from engine.backends.artifact import WEIGHTS, Graph, write_manifest
from engine.errors import InvalidInput
from engine.model.config import ModelConfig
from engine.model.dit import MemoryPackDiT
from engine.model.full import Denoise, InitialMemory, Memorize, Serve, Squeeze
from engine.model.precision import dtype
from engine.model.presets import Preset, preset
from engine.model.signature import ModelSpec, Role, signature
from export.graph import export_role
from export.manifest import describe, tools
from export.weights import Stored, all_stored, places

ROLES = ("initial_memory", "memorize", "squeeze", "denoise")
TEXT_LENGTH = 512  # ids of both tokenizers; of no role that is exported here
SHARD_BYTES = 2**31


def full_preset(name: str) -> Preset:
    """Raises InvalidInput for a model that is not full-size."""
    found = preset(name)
    if found.config.hunyuan is None:
        raise InvalidInput(f"{name} is not full-size: leave out --model", field="model")
    return found


def shrunk(config: ModelConfig, layers: tuple[int, int]) -> ModelConfig:
    """The same network with `layers` double and single blocks."""
    if not (0 <= layers[0] <= config.double_blocks and 0 <= layers[1] <= config.single_blocks):
        raise InvalidInput(
            f"--layers: {layers} must lie between 0,0 and {config.double_blocks},{config.single_blocks}",
            field="layers",
        )
    return replace(config, double_blocks=layers[0], single_blocks=layers[1])


def spec_of(name: str, config: ModelConfig, serve: Serve) -> ModelSpec:
    """As engine.model.full has it, but for sizes that only the companions know; no role here has them."""
    return ModelSpec(
        name=name,
        height=serve.height,
        width=serve.width,
        fps=serve.fps,
        latent_channels=config.channels,
        latent_height=config.latent_height,
        latent_width=config.latent_width,
        frames_per_latent=4,
        segment=config.segment,
        history=config.packing.history,
        text_length=TEXT_LENGTH,
        text_tokens=config.memory.text_tokens,
        image_tokens=config.memory.tokens - config.memory.text_tokens,
        model_dim=config.dim,
        decoder_state=(1,),
        actions=config.actions,
        steps=serve.steps,
        first_steps=serve.steps,
        text_dim=config.text_dim,
        pooled_dim=config.pooled_dim,
        masked=True,
        needs_image=True,
        sampler=serve.sampler,
        shift=serve.shift,
    )


def serve_of(name: str) -> Serve:
    p = full_preset(name)
    height, width = 8 * p.config.latent_height, 8 * p.config.latent_width
    return Serve(height, width, p.fps, p.steps, p.sampler, p.shift)


def roles_of(dit: MemoryPackDiT, roles: dict[str, Role]) -> dict[str, nn.Module]:
    modules: dict[str, nn.Module] = {
        "initial_memory": InitialMemory(dit),
        "memorize": Memorize(dit),
        "squeeze": Squeeze(dit),
        "denoise": Denoise(dit, [t.name for t in roles["denoise"].inputs]),
    }
    return modules


def hollow(config: ModelConfig, kind: torch.dtype) -> MemoryPackDiT:
    """The network with memory that is never touched, so that none is used: its weights stay on disk."""
    with torch.device("meta"):
        dit = MemoryPackDiT(config)
    dit = dit.to(kind).to_empty(device="cpu")
    dit.positions = type(dit.positions)(config)  # constants, not weights
    return dit.eval().requires_grad_(False)


def random_weights(config: ModelConfig, out: Path, seed: int = 0) -> list[Path]:
    """Weights as training would start with them, bf16, in shards below 2 GiB."""
    torch.manual_seed(seed)
    state = MemoryPackDiT(config).to(torch.bfloat16).state_dict()
    shards: list[dict[str, Tensor]] = [{}]
    size = 0
    for name, tensor in state.items():
        if size + tensor.nbytes > SHARD_BYTES and shards[-1]:
            shards.append({})
            size = 0
        shards[-1][name] = tensor.contiguous()
        size += tensor.nbytes
    if len(shards) == 1:
        names = [WEIGHTS]
    else:
        names = [f"model-{n:05d}-of-{len(shards):05d}.safetensors" for n in range(1, len(shards) + 1)]
    for name, shard in zip(names, shards, strict=True):
        save_file(shard, out / name)
        (out / name).chmod(0o644)
    return [out / name for name in names]


def shards(source: Path, out: Path) -> list[Path]:
    """The shards of a converted checkpoint; copied where `out` is another folder. Hard links would save the
    space, but what reads external data refuses them."""
    found = sorted(source.glob("model*.safetensors"))
    if not found:
        raise InvalidInput(f"--weights: {source} holds no model*.safetensors", field="weights")
    if source.resolve() != out.resolve():
        for shard in found:
            shutil.copyfile(shard, out / shard.name)
    return [out / shard.name for shard in found]


def export_full(
    name: str,
    out: Path,
    *,
    weights: Path | None = None,
    layers: tuple[int, int] | None = None,
    precisions: Sequence[str] = ("bf16",),
) -> ModelSpec:
    """Graphs of a converted checkpoint in `weights`, or of `layers` blocks with random weights.

    Raises InvalidInput, ModelFilesError."""
    from engine.backends.full import read_config

    for precision in precisions:
        dtype(precision)
    config, serve = full_preset(name).config, serve_of(name)
    if (weights is None) == (layers is None):
        raise InvalidInput(f"{name}: give either --weights or --layers", field="weights")
    if weights is not None:
        config, serve = read_config(weights, name)
    elif layers is not None:
        config = shrunk(config, layers)
    out.mkdir(parents=True, exist_ok=True)
    files = shards(weights, out) if weights is not None else random_weights(config, out)
    spec = spec_of(name, config, serve)
    stored = all_stored(files)
    graphs = [g for p in dict.fromkeys(precisions) for g in write_graphs(config, spec, stored, out, p)]
    about = {"preset": name, "layers": [config.double_blocks, config.single_blocks], "dit": asdict(config)}
    write_manifest(out, spec, about, graphs, tools())
    return spec


def write_graphs(
    config: ModelConfig, spec: ModelSpec, stored: dict[str, Stored], out: Path, precision: str
) -> list[Graph]:
    roles, dit = signature(spec), hollow(config, dtype(precision))
    graphs = []
    for role, module in roles_of(dit, roles).items():
        began = time.monotonic()
        proto = export_role(module, roles[role], places(module, dit, stored), out)
        file = f"{role}.onnx" if precision == "fp32" else f"{role}.{precision}.onnx"
        onnx.save(proto, out / file)
        graphs.append(describe(role, precision, file, proto))
        size, took_s = (out / file).stat().st_size / 1024, time.monotonic() - began
        print(f"{file}: {len(proto.graph.node)} nodes, {size:.0f} KiB, {took_s:.0f} s", flush=True)
    return graphs


def shapes(name: str, batch: int = 1) -> tuple[int, dict[str, list[tuple[str, tuple[int, ...]]]]]:
    """The whole model run on the meta device: its parameters, and the outputs that came of each role."""
    config, serve = full_preset(name).config, serve_of(name)
    with torch.device("meta"):
        dit = MemoryPackDiT(config).to(torch.bfloat16).eval()
    roles = signature(spec_of(name, config, serve))
    found = {}
    for role, module in roles_of(dit, roles).items():
        given = [torch.empty(batch, *t.shape, device="meta") for t in roles[role].inputs]
        out = module(*given)
        outputs = out if isinstance(out, tuple) else (out,)
        found[role] = [(t.name, tuple(x.shape)) for t, x in zip(roles[role].outputs, outputs, strict=True)]
    return sum(p.numel() for p in dit.parameters()), found
