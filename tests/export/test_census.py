"""Golden counts: how many of each telling operator every role of every preset has, with a few blocks on a
small picture. One more or less is another network, or an exporter that sees it otherwise.

The built-in model's shipped graphs are counted in export/test_inspect.py."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from engine.companions.sizes import framepack_spec
from engine.model.graphs import graphs_of
from engine.model.presets import PRESETS
from engine.model.signature import signature
from export.framepack.export import hollow, roles_of, serve_of, shrunk
from export.graph import export_role
from export.inspect import SHOWN_OPERATORS
from export.manifest import describe
from export.weights import Stored, places

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]

FULL_SIZE = [name for name, preset in PRESETS.items() if preset.config.hunyuan is not None]
GOLDEN = {  # two double and three single blocks; the refiner's two and the memory's come on top
    "initial_memory": {"Attention": 2, "LayerNormalization": 4, "MatMul": 13, "Gemm": 6, "nodes": 125},
    "memorize": {
        "Attention": 2,
        "RMSNormalization": 4,
        "LayerNormalization": 6,
        "MatMul": 13,
        "nodes": 88,
    },
    "squeeze": {"Attention": 1, "RMSNormalization": 2, "LayerNormalization": 4, "MatMul": 6, "nodes": 43},
    "denoise": {
        "Attention": 7,
        "RMSNormalization": 14,
        "LayerNormalization": 16,
        "RotaryEmbedding": 10,
        "MatMul": 58,
        "Gemm": 24,
        "nodes": 809,
    },
}


def counted(name: str, folder: Path) -> dict[str, dict[str, int]]:
    """Exported from the weights' places alone: the weights themselves do not exist."""
    small = replace(PRESETS[name].config, latent_height=10, latent_width=26)
    config, kind = shrunk(small, (2, 3)), torch.bfloat16
    spec = framepack_spec(name, config, serve_of(name))
    dit, roles, graphs = hollow(config, kind), signature(spec), graphs_of(spec)
    stored = {
        n: Stored("absent.safetensors", 8, p.numel() * 2, "BF16", tuple(p.shape), n)
        for n, p in dit.named_parameters()
    }
    found = {}
    for role, module in roles_of(dit, roles).items():
        proto = export_role(module, graphs[role], places(module, dit, stored), folder)
        graph = describe(role, "bf16", f"{role}.onnx", proto)
        found[role] = {n: graph.operators[n] for n in SHOWN_OPERATORS if n in graph.operators}
        found[role]["nodes"] = graph.nodes
    return found


def test_every_full_size_preset_has_these() -> None:
    assert FULL_SIZE == ["memorypack-1b3", "framepack-f1", "framepack-f0"]


@pytest.mark.parametrize("name", FULL_SIZE)
def test_every_role_has_the_operators_that_its_blocks_have(name: str, tmp_path: Path) -> None:
    assert counted(name, tmp_path) == GOLDEN
