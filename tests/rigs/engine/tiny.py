"""A world model so small that a test can build, run and export it; random weights.

Latents of 6 x 10 fit none of the larger kernels, so every padding is exercised.
"""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
from torch import Tensor

from engine.backends.artifact import EMBEDDINGS, TOKENIZER
from engine.model.conditions import denoise_inputs
from engine.model.config import CameraConfig, MemoryConfig, ModelConfig, PackingConfig
from engine.model.text.encoder import TextConfig, TextEncoder
from engine.model.text.minilm import MiniLMConfig
from engine.model.text.word_table import Words
from engine.model.wander.autoencoder import AutoencoderConfig
from engine.model.wander.places import Places
from engine.model.wander.transformer import WanderDiT
from engine.model.wander.world_model import WorldModel, WorldModelConfig
from export.text.minilm import small

WORDS = ["[UNK]", "a", "red", "blue", "fox", "robot", "walks", "left", "right", "snow", "night"]

DIT = ModelConfig(
    latent_height=6,
    latent_width=10,
    dim=32,
    heads=2,
    double_blocks=1,
    single_blocks=1,
    mlp_ratio=2,
    rope_axes=(4, 6, 6),
    slots=(3, 3, 3, 3, 3, 5),
    camera=CameraConfig(columns=24, still=10, hero=(4, 6), hero_px=40, landmarks=3),
    carry=True,
    packing=PackingConfig(anchor_kernel="2x", anchor_cap=12),
    memory=MemoryConfig(image_tokens=(2, 2), window=(2, 3, 5)),
)
CONFIG = WorldModelConfig(
    DIT,
    AutoencoderConfig(fine=8, coarse=12, decoder_fine=8, decoder_coarse=12, decoder_blocks=1),
    TextConfig(
        vocabulary=16,
        embedding=8,
        groups=4,
        length=6,
        slots=DIT.slots,
        attributes=("place here there", "hero cat dog"),
        minilm=MiniLMConfig(length=8, dim=8, heads=2, layers=2, hidden=16, cls=14, sep=15),
    ),
)


def frozen(module: torch.nn.Module) -> None:
    """For inference, with weights that fp16 holds exactly; what starts at zero says something."""
    module.eval().requires_grad_(False)
    for name, p in module.named_parameters():
        if "carry" in name:
            p.normal_(std=0.004)  # there are many candidates: more, and latents run away
    for p in module.parameters():
        p.copy_(p.half().float())


def dit(config: ModelConfig = DIT, *, seed: int = 0) -> WanderDiT:
    torch.manual_seed(seed)
    model = WanderDiT(config)
    frozen(model)
    return model


def world_model(*, seed: int = 0) -> WorldModel:
    torch.manual_seed(seed)
    model = WorldModel(CONFIG)
    assert isinstance(model.text, TextEncoder)
    torch.nn.init.normal_(model.text.vote.weight)  # a new encoder says nothing
    model.words.load(words())
    frozen(model)
    model.autoencoder.mean.copy_(torch.linspace(-0.5, 0.5, CONFIG.dit.channels).half())
    model.autoencoder.std.fill_(1.5)
    return model


def inputs(c: ModelConfig = DIT, *, batch: int = 2, seed: int = 1) -> dict[str, Tensor]:
    """Random inputs of `denoise`, all sessions in mid-scene at their own t."""
    g = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(batch, *shape, generator=g)

    frame = (c.channels, c.latent_height, c.latent_width)
    pictures = c.memory.tokens - c.memory.text_tokens
    return {
        "x": normal(c.segment, *frame),
        "t": torch.linspace(0.2, 0.7, batch),
        "d": torch.full((batch,), 0.25),
        "psi": normal(c.memory.tokens, c.dim),
        "text": normal(c.memory.text_tokens, c.dim),
        "pooled": normal(c.pooled_dim),
        "image": normal(pictures, c.dim),
        "history": normal(sum(c.packing.history), *frame),
        "anchor": normal(1, *frame),
        "context": torch.ones(batch),
        "sigma": torch.zeros(batch),
        "actions": torch.ones(batch, c.segment, dtype=torch.int64),
        "index": torch.arange(1.0, 1.0 + batch),
        **({"hints": normal(c.segment, c.hint_channels, *frame[1:])} if c.camera else {}),
    }


def role_inputs(c: ModelConfig = DIT, *, batch: int = 2, seed: int = 1) -> dict[str, Tensor]:
    """Inputs of the role `denoise`: instead of hints what they are made from, in mid-walk."""
    given = inputs(c, batch=batch, seed=seed)
    if c.camera is None:
        return given
    del given["hints"]
    g = torch.Generator().manual_seed(seed + 1)
    columns = sum(c.camera.rings)
    places = Places(
        torch.randn(batch, columns, c.channels, c.latent_height, generator=g),
        torch.zeros(batch, columns, 4),
    )
    places.marks[..., 0] = 1
    places.marks[..., 1] = torch.arange(columns)  # the places that the near ring begins with are known
    landmarks = torch.tensor([[40.0, 2, 2, 1.0], [300.0, 1, 0, 1.0], [0.0, 0, 0, 0.0]])
    return {
        **given,
        "odometer": torch.arange(2, 2 + batch),
        "acted": torch.full((batch, c.segment), 2),
        "views": places.views,
        "marks": places.marks,
        "look": torch.zeros(batch),
        "landmarks": landmarks.expand(batch, -1, -1).clone(),
    }


def denoise(model: WanderDiT, inputs: dict[str, Tensor], *, plain: bool = False) -> Tensor:
    """The velocity, or what the network answers before preconditioning."""
    call = denoise_inputs(inputs)
    out: Tensor = model.network(*call) if plain else model(*call)
    return out


def words(config: TextConfig = CONFIG.text, *, seed: int = 3) -> dict[str, Tensor]:
    """What a file of words holds: a random table of words and a random MiniLM, as they are stored."""
    torch.manual_seed(seed)
    module = Words(config)
    codes = torch.randint(-128, 128, module.codes.shape).to(torch.int8)
    width = config.embedding
    table = {
        "codes": codes,
        "pieces": torch.randn(module.pieces.shape).half(),
        "group": (torch.arange(width) * config.groups // width).to(torch.int8),
        "turn": torch.eye(width).half(),
        "centre": torch.zeros(width).half(),
    }
    return {**table, **small(module.minilm.state_dict())}


def write_text_files(folder: Path) -> None:
    """A file of words and a tokenizer of a dozen of them, as an export takes them."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file(words(), folder / EMBEDDINGS)
    vocabulary = {word: i for i, word in enumerate(WORDS)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(folder / TOKENIZER))
