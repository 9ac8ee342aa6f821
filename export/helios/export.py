"""Exports Helios: one denoiser graph for all three stages, the roles around it, and its companions.

As for FramePack, graphs refer to weights by name in the shards of `psistream convert`, whose bytes are never
read. `--layers N` exports the same network with N blocks and random weights, to inspect and to measure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from engine.backends.artifact import Graph, write_manifest
from engine.errors import InvalidInput
from engine.model.graphs import SHARED, graph_of, graphs_of
from engine.model.helios import roles as modules
from engine.model.helios.config import HeliosConfig
from engine.model.helios.embed import Positions
from engine.model.helios.roles import spec_of
from engine.model.helios.serve import NAME, Conversion, read_conversion
from engine.model.helios.transformer import HeliosTransformer, is_exact
from engine.model.precision import dtype
from engine.model.signature import ModelSpec, signature
from export.graph import example
from export.graph_files import shards, write_graph
from export.helios import companions
from export.manifest import tools
from export.weights import Stored, all_stored, write_shards


def roles_of(model: HeliosTransformer, spec: ModelSpec) -> dict[str, nn.Module]:
    """Graph → module, for the transformer's own."""
    names = graphs_of(spec)[SHARED].largest.input_names
    found: dict[str, nn.Module] = {
        "project_text": modules.ProjectText(model),
        SHARED: modules.Denoise(model, names),
    }
    if spec.memory:
        found |= {
            "embed_image": modules.EmbedImage(model),
            "initial_memory": modules.InitialMemory(model),
            "memorize": modules.Memorize(model),
            "squeeze": modules.Squeeze(model),
        }
    return found


def hollow(config: HeliosConfig, kind: torch.dtype) -> HeliosTransformer:
    """The network with allocated but untouched memory, which costs nothing: its weights stay on disk."""
    with torch.device("meta"):
        model = HeliosTransformer(config)
    for name, p in model.named_parameters():
        p.data = p.data.to(torch.float32 if is_exact(name) else kind)
    model = model.to_empty(device="cpu")
    model.positions = Positions(config)  # constants, not weights
    return model.eval().requires_grad_(False)


def shrunk(layers: int) -> HeliosConfig:
    """The public network with fewer blocks. Raises InvalidInput."""
    if not 1 <= layers <= HeliosConfig().layers:
        raise InvalidInput(
            f"--layers: {layers} must lie between 1 and {HeliosConfig().layers}", field="layers"
        )
    return replace(HeliosConfig(), layers=layers)


def random_weights(config: HeliosConfig, out: Path, seed: int = 0) -> list[Path]:
    """Write random weights in the types that `convert` writes."""
    torch.manual_seed(seed)
    state = HeliosTransformer(config).state_dict()
    kinds = {n: torch.float32 if is_exact(n) else torch.bfloat16 for n in state}
    return write_shards({n: t.to(kinds[n]) for n, t in state.items()}, out, "model")


def shapes(batch: int = 1) -> tuple[int, dict[str, list[tuple[str, tuple[int, ...]]]]]:
    """Run the public transformer on the meta device, with ψ: its number of parameters, and the outputs of
    each of its roles."""
    from export.helios.convert import HeliosOptions, at_size

    config = at_size(HeliosOptions(memory=True))
    with torch.device("meta"):
        model = HeliosTransformer(config).eval()
    spec = spec_of(config, Conversion().serve)
    mine = roles_of(model, spec)
    found = {}
    for role, contract in signature(spec).items():
        if graph_of(role) in mine:
            with torch.device("meta"):
                out = mine[graph_of(role)](*(example(t, batch).to("meta") for t in contract.inputs))
            found[role] = [(contract.outputs[0].name, tuple(out.shape))]
    return sum(p.numel() for p in model.parameters()), found


def export_helios(
    out: Path,
    *,
    weights: Path | None = None,
    layers: int | None = None,
    precisions: Sequence[str] = ("bf16",),
) -> ModelSpec:
    """Export the graphs of a converted checkpoint in `weights` and of the companions beside it, or of
    `layers` blocks with random weights.

    Raises InvalidInput, ModelFilesError, Unavailable without transformers and diffusers."""
    for precision in precisions:
        dtype(precision)
    if (weights is None) == (layers is None):
        raise InvalidInput(f"{NAME}: give either --weights or --layers", field="weights")
    found = read_conversion(weights) if weights is not None else Conversion(shrunk(layers or 0))
    config, serve = found.config, found.serve
    out.mkdir(parents=True, exist_ok=True)
    stored = all_stored(shards(weights, out) if weights is not None else random_weights(config, out))
    spec = spec_of(config, serve)
    kinds = list(dict.fromkeys(precisions))
    graphs = [g for kind in kinds for g in transformer_graphs(config, spec, stored, out, kind)]
    if weights is not None and weights.resolve() != out.resolve():
        print(f"graphs of text, pictures and frames are exported beside their files: use --out {weights}")
    elif weights is not None and (lacks := companions.lacking(weights, serve)):
        print(f"no graphs of text, pictures and frames: {weights} lacks {', '.join(lacks)}")
    elif weights is not None:
        graphs += companion_graphs(found, spec, stored, out, kinds)
    write_manifest(out, spec, found.to_json(), graphs, tools())
    return spec


def transformer_graphs(
    config: HeliosConfig, spec: ModelSpec, stored: dict[str, Stored], out: Path, precision: str
) -> list[Graph]:
    model = hollow(config, dtype(precision))
    return [
        write_graph(name, module, model, spec, stored, out, precision)
        for name, module in roles_of(model, spec).items()
    ]


def companion_graphs(
    conversion: Conversion, spec: ModelSpec, stored: dict[str, Stored], out: Path, precisions: Sequence[str]
) -> list[Graph]:
    """A role whose precision is the same in two exports is exported once."""
    config, serve = conversion.config, conversion.serve
    loaded = companions.load(out, config, serve)
    stored = stored | all_stored(companions.write_weights(loaded, out))
    graphs: dict[tuple[str, str], Graph] = {}
    for wanted in precisions:
        model = hollow(config, dtype(wanted))
        model.add_module(companions.NAME, companions.parts(companions.computing_in(loaded, wanted, serve)))
        for role, module in companions.roles_of(model, loaded, spec, serve).items():
            kind = companions.precision(role, wanted, serve)
            if (role, kind) not in graphs:
                graphs[role, kind] = write_graph(role, module, model, spec, stored, out, kind)
    return list(graphs.values())
