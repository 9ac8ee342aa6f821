"""The full-size model in PyTorch: a converted checkpoint and its companions, on a GPU if there is one.

`folder` is the output of `psistream convert`, with the companions' folders beside it (docs/full-size.md).
bf16 on a GPU, fp32 on a CPU. Sessions are unknown here.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from engine.backends.pytorch import TorchBackend
from engine.backends.weights import fingerprint, load_weights
from engine.errors import InvalidInput, ModelFilesError
from engine.model.config import ModelConfig, build
from engine.model.converted import CONFIG, read_converted
from engine.model.framepack.roles import Companions, Serve, roles_of, spec_of
from engine.model.framepack.transformer import FramePackDiT
from engine.model.presets import PRESETS


def load(name: str, folder: Path) -> TorchBackend:
    """Raises InvalidInput for another model's name, ModelFilesError for missing or unfitting files."""
    known = [n for n, p in PRESETS.items() if p.config.hunyuan and p.config.packing.order == "f1"]
    if name not in known:
        why = "; F0 makes a video's end first, so it has no live one" if name.endswith("-f0") else ""
        raise InvalidInput(
            f"--weights goes with --model {', '.join(known)} or helios, not {name!r}{why}", field="model"
        )
    from engine.companions.files import PARTS, require
    from engine.companions.load import load_companions

    if not (folder / CONFIG).is_file():
        require(folder)  # nothing is there yet: list everything that is needed
    config, serve = read_config(folder, name)
    require(folder, *(part for part in PARTS if part != "taehv" or serve.decoder == "taehv"))
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    # fp16 as in FramePack, since bf16 pictures show bands
    half = torch.float16 if device.type == "cuda" else dtype
    companions: Companions = load_companions(
        folder, decoder=serve.decoder, segment=config.segment, device=device, dtype=half
    )
    fits(config, companions)
    dit = load_dit(folder, config, device, dtype)
    spec = spec_of(
        name,
        config,
        serve,
        text_length=companions.text.length,
        decoder_state=companions.decoder.state_size(config.latent_height, config.latent_width),
    )
    text: Any = companions.text
    roles = roles_of(spec, dit, companions)
    return TorchBackend("pytorch", spec, roles, text.tokenize, device, fingerprint(folder))


def read_config(folder: Path, name: str) -> tuple[ModelConfig, Serve]:
    """Raises ModelFilesError."""
    return read_converted(folder, name, _configs)


def _configs(data: Any) -> tuple[ModelConfig, Serve]:
    config = build(ModelConfig, data["config"])
    if config.hunyuan is None:
        raise InvalidInput("config: hunyuan is missing")
    return config, build(Serve, data["serve"], "serve")


def fits(config: ModelConfig, companions: Companions) -> None:
    """Raises ModelFilesError if a companion's sizes are not those that the transformer needs."""
    m, h, text, image = config.memory, config.hunyuan, companions.text, companions.image
    assert h is not None  # read_config
    for part, what, has, needs in (
        ("text_encoder", "tokens", text.tokens, m.text_tokens),
        ("text_encoder", "numbers per token", text.width, h.text_dim),
        ("text_encoder_2", "numbers", text.pooled_width, h.pooled_dim),
        ("image_encoder", "tokens", image.tokens, m.tokens - m.text_tokens),
        ("image_encoder", "numbers per token", image.width, h.image_dim),
    ):
        if has != needs:
            raise ModelFilesError(f"{part} gives {has} {what}, the transformer needs {needs}", field=part)


def load_dit(folder: Path, config: ModelConfig, device: torch.device, dtype: torch.dtype) -> FramePackDiT:
    """Loads tensor by tensor straight onto the device, so that no second copy exists. Strict."""
    with torch.device("meta"):
        dit = FramePackDiT(config)
    load_weights(dit, folder, device, lambda name, tensor: dtype)
    with torch.device(device):
        dit.positions = type(dit.positions)(config)  # constants, not weights
    return dit.eval()
