"""Exports the full-size model: one graph per role, which refers to weights by name.

Graphs are written beside the shards of `psistream convert`. So graphs stay small whatever the size of the
model, all read the same copy, and exporting never reads the transformer's weights. `--layers` exports the
same network with a few blocks and random weights, for inspection and measurements. The companions
(export.framepack.companions) are exported into the folder that holds their files.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path

import torch
from torch import nn

from engine.backends.artifact import Graph, write_manifest
from engine.backends.framepack import read_config
from engine.companions.sizes import framepack_spec
from engine.errors import InvalidInput, Unavailable
from engine.model.config import ModelConfig
from engine.model.framepack.roles import Companions, Denoise, InitialMemory, Memorize, Serve, Squeeze
from engine.model.framepack.transformer import FramePackDiT
from engine.model.precision import dtype
from engine.model.presets import Preset, preset
from engine.model.signature import ModelSpec, Role, signature
from export.framepack import companions
from export.graph import example
from export.graph_files import shards, write_graph
from export.manifest import tools
from export.weights import Stored, all_stored, write_shards


def full_preset(name: str) -> Preset:
    """The preset of a full-size model. Raises InvalidInput for any other."""
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


def serve_of(name: str) -> Serve:
    """How a full-size model is played unless a conversion says otherwise."""
    p = full_preset(name)
    height, width = 8 * p.config.latent_height, 8 * p.config.latent_width
    return Serve(height, width, p.fps, p.steps, p.sampler, p.shift)


def roles_of(dit: FramePackDiT, roles: dict[str, Role]) -> dict[str, nn.Module]:
    """The roles that the transformer runs alone, as modules."""
    modules: dict[str, nn.Module] = {
        "initial_memory": InitialMemory(dit),
        "memorize": Memorize(dit),
        "squeeze": Squeeze(dit),
        "denoise": Denoise(dit, roles["denoise"].input_names),
    }
    return modules


def hollow(config: ModelConfig, kind: torch.dtype) -> FramePackDiT:
    """The network with uninitialised memory, which costs nothing until it is used: its weights stay on
    disk."""
    with torch.device("meta"):
        dit = FramePackDiT(config)
    dit = dit.to(kind).to_empty(device="cpu")
    dit.positions = type(dit.positions)(config)  # constants, not weights
    return dit.eval().requires_grad_(False)


def random_weights(config: ModelConfig, out: Path, seed: int = 0) -> list[Path]:
    """Write initial weights for training, in bf16."""
    torch.manual_seed(seed)
    return write_shards(FramePackDiT(config).to(torch.bfloat16).state_dict(), out, "model")


def export_full(
    name: str,
    out: Path,
    *,
    weights: Path | None = None,
    layers: tuple[int, int] | None = None,
    precisions: Sequence[str] = ("bf16",),
) -> ModelSpec:
    """Export the graphs of a converted checkpoint in `weights` and of the companions beside it, or of
    `layers` blocks with random weights.

    Raises InvalidInput, ModelFilesError."""
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
    spec = framepack_spec(name, config, serve)
    stored = all_stored(files)
    graphs = [g for p in dict.fromkeys(precisions) for g in write_graphs(config, spec, stored, out, p)]
    if weights is not None and weights.resolve() != out.resolve():
        print(f"the companions' graphs are only exported beside their weights: use --out {weights}")
    elif weights is not None and (lacks := companions.lacking(weights, serve)):
        print(f"no graphs for the companions: {weights} lacks {', '.join(lacks)}")
    elif weights is not None:
        found = companions.load(weights, config, serve)
        stored |= all_stored(companions.write_weights(found, out))
        for kind in dict.fromkeys(companions.precision(p) for p in precisions):
            graphs += write_companions(found, config, serve, spec, stored, out, kind)
    about = {
        "preset": name,
        "layers": [config.double_blocks, config.single_blocks],
        "dit": asdict(config),
        "serve": asdict(serve),
    }
    write_manifest(out, spec, about, graphs, tools())
    return spec


def write_graphs(
    config: ModelConfig, spec: ModelSpec, stored: dict[str, Stored], out: Path, precision: str
) -> list[Graph]:
    """Export the transformer's roles."""
    dit = hollow(config, dtype(precision))
    modules = roles_of(dit, signature(spec))
    return [write_graph(role, m, dit, spec, stored, out, precision) for role, m in modules.items()]


def write_companions(
    found: Companions,
    config: ModelConfig,
    serve: Serve,
    spec: ModelSpec,
    stored: dict[str, Stored],
    out: Path,
    precision: str,
) -> list[Graph]:
    """Export the companions' roles. Converts the weights of `found` to `precision`."""
    dit, parts = hollow(config, dtype(precision)), companions.parts(found)
    for p in parts.parameters():  # not buffers: LLaMA's rotations stay fp32
        p.data = p.data.to(dtype(precision))
    dit.add_module(companions.NAME, parts)  # so that one model has the names of all weights
    modules = companions.roles_of(dit, found, serve)
    return [write_graph(role, m, dit, spec, stored, out, precision) for role, m in modules.items()]


def shapes(name: str, batch: int = 1) -> tuple[int, dict[str, list[tuple[str, tuple[int, ...]]]]]:
    """Run the whole model on the meta device: the transformer's number of parameters, and the outputs of each
    role. Includes the companions if transformers and diffusers are installed."""
    config, serve = full_preset(name).config, serve_of(name)
    with torch.device("meta"):
        dit = FramePackDiT(config).to(torch.bfloat16).eval()
    roles = signature(framepack_spec(name, config, serve))
    modules = roles_of(dit, roles)
    with suppress(Unavailable):
        modules |= companions.roles_of(dit, companions.hollow_companions(config, serve), serve)
    found = {}
    for role, module in modules.items():
        given = [example(t, batch).to("meta") for t in roles[role].inputs]
        with torch.device("meta"):
            out = module.eval()(*given)
        outputs = out if isinstance(out, tuple) else (out,)
        found[role] = [(t.name, tuple(x.shape)) for t, x in zip(roles[role].outputs, outputs, strict=True)]
    return sum(p.numel() for p in dit.parameters()), found
