"""Helios in PyTorch: a converted checkpoint and its companions, on a GPU if there is one.

`folder` is the output of `psistream convert helios`, with the companions beside it (docs/full-size.md). bf16
on a GPU, fp32 on a CPU. Sessions are unknown here.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from engine.backends.pytorch import TorchBackend
from engine.backends.weights import fingerprint, load_weights
from engine.errors import InvalidInput, ModelFilesError, Unavailable
from engine.model.converted import CONFIG
from engine.model.helios.config import HeliosConfig
from engine.model.helios.embed import Positions
from engine.model.helios.kernels import attention_kernel, use_attention
from engine.model.helios.quantisation import quantise
from engine.model.helios.roles import OF_COMPANIONS, roles_of, spec_of
from engine.model.helios.serve import NAME, read_conversion
from engine.model.helios.transformer import HeliosTransformer, is_exact


def load(name: str, folder: Path) -> TorchBackend:
    """Raises InvalidInput for another model's name, ModelFilesError for missing or unfitting files,
    Unavailable without transformers and diffusers."""
    if name != NAME:
        raise InvalidInput(f"these weights go with --model {NAME}, not {name!r}", field="model")
    from engine.companions.helios.files import CATALOGUE, TAEW
    from engine.companions.helios.load import load_companions

    if not (folder / CONFIG).is_file():
        CATALOGUE.require(folder)  # nothing is there yet: list everything that is needed
    found = read_conversion(folder)
    c, serve = found.config, found.serve
    CATALOGUE.require(folder, *(p for p in CATALOGUE.parts if p != TAEW or serve.decoder == "taew"))
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    second = second_device(serve.companions_on, device)
    kernel = attention_kernel(serve.attention, device)
    model = load_transformer(folder, c, device, dtype)  # first: fp8 frees room for the others
    use_attention(model, kernel)
    if serve.linears == "fp8":
        quantise(model, c.layers)
    companions = load_companions(folder, decoder=serve.decoder, device=second, dtype=dtype)
    text: Any = companions.text
    fits(c, text)
    spec = spec_of(c, serve)
    roles = roles_of(spec, model, companions, serve.border_frames)
    elsewhere = {} if second == device else dict.fromkeys(OF_COMPANIONS, second)
    mark = fingerprint(folder)
    return TorchBackend("pytorch", spec, roles, text.tokenize, device, mark, elsewhere=elsewhere)


def second_device(wanted: str, first: torch.device) -> torch.device:
    """The device of the companions. Raises InvalidInput for a name that is none, Unavailable for a device
    that is not there."""
    if not wanted:
        return first
    try:
        device = torch.device(wanted)
    except RuntimeError:
        raise InvalidInput(
            f"serve: companions_on is {wanted!r}, must be a device such as cuda:1 or cpu",
            field="companions_on",
        ) from None
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise Unavailable(
            f"serve: companions_on is {wanted}, this machine has {torch.cuda.device_count()} CUDA devices",
            field="companions_on",
        )
    return device


def fits(c: HeliosConfig, text: Any) -> None:
    """Raises ModelFilesError for a text encoder of another size than the transformer needs."""
    for what, has, needs in (
        ("tokens", text.tokens, c.text_tokens),
        ("numbers per token", text.width, c.text_dim),
    ):
        if has != needs:
            raise ModelFilesError(
                f"text_encoder gives {has} {what}, the transformer needs {needs}", field="text_encoder"
            )


def load_transformer(
    folder: Path, config: HeliosConfig, device: torch.device, dtype: torch.dtype
) -> HeliosTransformer:
    """In `dtype`, except for parameters that must be exact. Raises ModelFilesError for tensors that don't
    fit."""
    with torch.device("meta"):
        model = HeliosTransformer(config)

    def kind(name: str, tensor: Tensor) -> torch.dtype:
        return torch.float32 if is_exact(name) else dtype

    load_weights(model, folder, device, kind)
    with torch.device(device):
        model.positions = Positions(config)  # constants, not weights
    return model.eval()
