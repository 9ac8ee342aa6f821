"""How many of each operator every role of every full-size preset has: what a block has, times the blocks.
One more or less is another network, or an exporter that takes an operator apart.

The width and the picture are small, since the operators do not depend on them; the number of blocks differs
between the presets. The built-in model's shipped graphs are counted in export/test_inspect.py."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from engine.companions.sizes import framepack_spec
from engine.model.config import ModelConfig
from engine.model.graphs import graphs_of
from engine.model.presets import PRESETS
from engine.model.signature import signature
from export.framepack.export import hollow, roles_of, serve_of
from export.graph import census, export_role
from export.weights import Stored, places

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

FULL_SIZE = [name for name, preset in PRESETS.items() if preset.config.hunyuan is not None]
BLOCKS = {"memorypack-1b3": (2, 3), "framepack-f1": (1, 2), "framepack-f0": (2, 1)}  # double, single

# What each part has. MatMul: Linear on tokens, Gemm: on a vector; there is no Softmax unless an exporter
# takes attention apart.
DOUBLE = {
    "Attention": 1,
    "RMSNormalization": 4,  # queries and keys of both streams
    "LayerNormalization": 4,
    "RotaryEmbedding": 2,  # queries and keys of the video
    "MatMul": 12,  # of each stream: queries, keys, values, out, and two of the feed-forward
    "Gelu": 2,
    "Gemm": 2,  # modulation of both streams
}
SINGLE = {
    "Attention": 1,
    "RMSNormalization": 2,
    "LayerNormalization": 1,
    "RotaryEmbedding": 2,
    "MatMul": 5,  # queries, keys, values, in and out
    "Gelu": 1,
    "Gemm": 1,
}
CROSS = {"Attention": 1, "RMSNormalization": 2, "LayerNormalization": 3, "MatMul": 6, "Gelu": 1}
REFINER = {"Attention": 1, "LayerNormalization": 2, "MatMul": 6, "Gemm": 1}
REFINER_ENTRY = {"MatMul": 1, "Gemm": 4}  # the prompt's tokens; time and the prompt's mean
EMBEDDERS = {"MatMul": 5, "Gemm": 10}  # noise, history at three sizes, anchor; five vectors, two layers each
OUTPUT = {"LayerNormalization": 1, "MatMul": 1, "Gemm": 1}
COUNTED = {*DOUBLE, "Softmax"}


def total(*parts: tuple[int, dict[str, int]]) -> dict[str, int]:
    summed: Counter[str] = Counter()
    for count, part in parts:
        summed.update({name: count * each for name, each in part.items()})
    return dict(summed)


def expected(c: ModelConfig) -> dict[str, dict[str, int]]:
    assert c.hunyuan is not None
    refiner = total((c.hunyuan.refiner_layers, REFINER), (1, REFINER_ENTRY))
    blocks = total((c.double_blocks, DOUBLE), (c.single_blocks, SINGLE))
    return {
        "initial_memory": refiner,
        "memorize": total((c.memory.layers + 1, CROSS), (1, {"MatMul": 1})),
        "squeeze": total((1, CROSS), (1, {"LayerNormalization": 1})),
        "denoise": total((1, blocks), (1, refiner), (1, EMBEDDERS), (1, OUTPUT)),
    }


def small(name: str) -> ModelConfig:
    c, (double, single) = PRESETS[name].config, BLOCKS[name]
    assert c.hunyuan is not None
    narrow = replace(c.hunyuan, text_dim=64, pooled_dim=32, image_dim=48)
    return replace(
        c,
        latent_height=10,
        latent_width=26,
        dim=2 * c.head_dim,
        heads=2,
        double_blocks=double,
        single_blocks=single,
        hunyuan=narrow,
    )


def counted(name: str, config: ModelConfig, folder: Path) -> dict[str, dict[str, int]]:
    """Exported from the weights' places alone: the weights themselves do not exist."""
    spec = framepack_spec(name, config, serve_of(name))
    dit, roles, graphs = hollow(config, torch.bfloat16), signature(spec), graphs_of(spec)
    stored = {
        n: Stored("absent.safetensors", 8, p.numel() * 2, "BF16", tuple(p.shape), n)
        for n, p in dit.named_parameters()
    }
    found = {}
    for role, module in roles_of(dit, roles).items():
        operators = census(export_role(module, graphs[role], places(module, dit, stored), folder))
        found[role] = {n: count for n, count in operators.items() if n in COUNTED}
    return found


@pytest.mark.parametrize("name", FULL_SIZE)
def test_every_role_has_the_operators_that_its_blocks_have(name: str, tmp_path: Path) -> None:
    config = small(name)
    assert counted(name, config, tmp_path) == expected(config)
