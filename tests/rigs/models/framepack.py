"""A FramePack transformer as diffusers builds it, small and random, and our own with the same weights and
inputs. What the public checkpoints are compared through.

Legend: B batch, W latent frames of the segment, C channels, h w latent size, N text tokens, I image tokens.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from engine.companions.libraries import library
from engine.model.conditions import denoise_inputs
from engine.model.config import HunyuanConfig, MemoryConfig, ModelConfig, PackingConfig
from engine.model.dit import EXTRA
from engine.model.framepack.transformer import FramePackDiT
from export.framepack.checkpoint import tensors_of
from export.framepack.graft import COPIES, FramePackGraft

IMAGE = (2, 3)  # SigLIP's grid of patches, rows and columns
CONFIG = ModelConfig(
    latent_height=12,
    latent_width=20,
    segment=3,
    dim=32,
    heads=2,
    double_blocks=2,
    single_blocks=2,
    rope_axes=(4, 6, 6),
    actions=("idle",),
    slots=(),
    prior_variance=0.0,
    packing=PackingConfig(anchor_cap=360, moves="video"),
    memory=MemoryConfig(text_tokens=8, image_tokens=IMAGE, window=(3, 3, 5), key_bias=-7.5),
    hunyuan=HunyuanConfig(text_dim=24, pooled_dim=12, image_dim=20),
)
PADDED = (20, 28)  # a latent size that neither the 2x nor the 4x kernel divides


def at_size(c: ModelConfig, height: int, width: int, **changes: Any) -> ModelConfig:
    """`c` for another latent size; one window covers a whole frame."""
    memory = replace(c.memory, window=(1, height // 2, width // 2))
    return replace(c, latent_height=height, latent_width=width, memory=memory, **changes)


def public_config(c: ModelConfig) -> dict[str, Any]:
    """The arguments of diffusers' class for the backbone of `c`; the sizes of the public one are its
    defaults."""
    assert c.hunyuan is not None
    return {
        "in_channels": c.channels,
        "out_channels": c.channels,
        "num_attention_heads": c.heads,
        "attention_head_dim": c.head_dim,
        "num_layers": c.double_blocks,
        "num_single_layers": c.single_blocks,
        "num_refiner_layers": c.hunyuan.refiner_layers,
        "text_embed_dim": c.hunyuan.text_dim,
        "pooled_projection_dim": c.hunyuan.pooled_dim,
        "image_proj_dim": c.hunyuan.image_dim,
        "rope_axes_dim": c.rope_axes,
        "has_image_proj": True,
        "has_clean_x_embedder": True,
    }


def theirs(c: ModelConfig, *, seed: int = 0) -> Any:
    """diffusers' transformer with random weights: none of its tensors is zero or one, none is small enough to
    hide a mistake behind it."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = library("diffusers").HunyuanVideoFramepackTransformer3DModel(**public_config(c))
        for name, p in model.named_parameters():
            if p.ndim == 1:
                norm = ".norm" in name and name.endswith("weight")
                p.data = 0.2 * torch.randn_like(p) + norm
            else:
                gain = 1.5 if name.startswith("proj_out") else 1.0
                p.data = gain * torch.randn_like(p) / p[0].numel() ** 0.5
    return model.eval().requires_grad_(False)


def write_public(folder: Path, reference: Any) -> Path:
    """As the public files lie: shards with an index, and the class's name that their config.json bears."""
    reference.save_pretrained(folder, max_shard_size="300KB")
    amend(folder, _class_name="HunyuanVideoTransformer3DModelPacked", _name_or_path="somebody/HunyuanVideo")
    return folder


def amend(folder: Path, **changes: Any) -> None:
    """Change config.json; None takes a key away."""
    file = folder / "config.json"
    data = {**json.loads(file.read_text()), **changes}
    file.write_text(json.dumps({k: v for k, v in data.items() if v is not None}))


def is_backbone(name: str) -> bool:
    return name.split(".")[0] not in EXTRA


def ours(c: ModelConfig, reference: Any, *, seed: int = 1) -> FramePackDiT:
    """Our transformer with the reference's weights, and what we add to it grafted on as `convert` does."""
    _, added = tensors_of(c)
    weights: dict[str, Tensor] = reference.state_dict()
    graft = FramePackGraft(c, seed)
    weights |= {n: weights[COPIES[n]] if n in COPIES else graft.tensor(n, s) for n, s in added.items()}
    with torch.random.fork_rng():
        model = FramePackDiT(c)
    model.load_state_dict(weights, strict=True)
    return model.eval().requires_grad_(False)


def inputs(c: ModelConfig, texts: list[int], *, psi: bool = False) -> dict[str, Tensor]:
    """Random inputs of our `denoise`, one session per length in `texts`, each at its own t. `image` is what
    SigLIP gives, still to be projected; `psi`: whether ψ counts."""
    assert c.hunyuan is not None
    g = torch.Generator().manual_seed(7)
    b, frame = len(texts), (c.channels, c.latent_height, c.latent_width)

    def normal(*shape: int) -> Tensor:
        return torch.randn(b, *shape, generator=g)

    mask = (torch.arange(c.memory.text_tokens) < torch.tensor(texts)[:, None]).float()
    return {
        "x": normal(c.segment, *frame),
        "t": torch.linspace(0.1, 0.8, b),
        "d": torch.full((b,), 0.04),
        "psi": normal(c.memory.tokens, c.dim),
        "psi_mask": torch.full((b, c.memory.tokens), float(psi)),
        "text": normal(c.memory.text_tokens, c.hunyuan.text_dim),
        "text_mask": mask,
        "pooled": normal(c.hunyuan.pooled_dim),
        "image": normal(c.memory.tokens - c.memory.text_tokens, c.hunyuan.image_dim),
        "history": normal(sum(c.packing.history), *frame),
        "anchor": normal(1, *frame),
        "context": torch.ones(b),
        "sigma": torch.zeros(b),
        "index": torch.zeros(b),
    }


def our_velocity(model: FramePackDiT, given: dict[str, Tensor]) -> Tensor:
    """(B, W, C, h, w)."""
    call = denoise_inputs({**given, "image": model.image_projection(given["image"])})
    velocity: Tensor = model(*call)
    return velocity


def f1_indices(c: ModelConfig) -> dict[str, list[int]]:
    """As FramePack-F1 counts: start, 4x, 2x, 1x, noisy."""
    return {
        "indices_latents_history_4x": [*range(1, 17)],
        "indices_latents_history_2x": [17, 18],
        "indices_latents_clean": [0, 19],
        "indices_latents": [*range(20, 20 + c.segment)],
    }


def f0_indices(c: ModelConfig, before: int) -> dict[str, list[int]]:
    """As FramePack counts that goes back in time: start, `before` blank segments, noisy, 1x, 2x, 4x."""
    noisy = 1 + before * c.segment
    after = noisy + c.segment
    return {
        "indices_latents": [*range(noisy, after)],
        "indices_latents_clean": [0, after],
        "indices_latents_history_2x": [after + 1, after + 2],
        "indices_latents_history_4x": [*range(after + 3, after + 19)],
    }


def pieces(c: ModelConfig, history: Tensor) -> dict[str, Tensor]:
    """The 19 latents in order of time → what diffusers calls them."""
    if c.packing.order == "f1":
        far, middle, near = history.split([16, 2, 1], 1)
    else:
        near, middle, far = history.split([1, 2, 16], 1)
    return {"near": near, "latents_history_2x": middle, "latents_history_4x": far}


def their_velocity(
    model: Any, c: ModelConfig, given: dict[str, Tensor], indices: dict[str, list[int]], guidance: float = 10
) -> Tensor:
    """diffusers' answer, brought into our convention: (B, W, C, h, w)."""
    parts = pieces(c, given["history"])
    clean = torch.cat([given["anchor"], parts.pop("near")], 1)
    answer: Tensor = model(
        hidden_states=given["x"].transpose(1, 2),
        timestep=1000 * (1 - given["t"]),
        encoder_hidden_states=given["text"],
        encoder_attention_mask=given["text_mask"],
        pooled_projections=given["pooled"],
        image_embeds=given["image"],
        guidance=torch.full_like(given["t"], 1000 * guidance),
        latents_clean=clean.transpose(1, 2),
        **{name: x.transpose(1, 2) for name, x in parts.items()},
        **{name: torch.tensor(values) for name, values in indices.items()},
        return_dict=False,
    )[0]
    return -answer.transpose(1, 2)
