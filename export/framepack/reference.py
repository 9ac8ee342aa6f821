"""A FramePack folder's model in PyTorch, which its graphs and engines are compared with
(export.graph_backend).

Companions without files (export.framepack.standins) are the same in all backends. A folder of `--layers` that
holds nothing but a transformer can therefore be verified too.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from engine.backends.artifact import Artifact
from engine.backends.framepack import fits, load_dit
from engine.backends.pytorch import Tokenize, TorchBackend
from engine.errors import ModelFilesError
from engine.model.config import BAD_CONFIG, ModelConfig, build
from engine.model.framepack.roles import Companions, Serve, roles_of
from engine.model.precision import dtype
from engine.model.signature import signature
from export.framepack.companions import lacking, parts
from export.framepack.companions import precision as companion_precision
from export.framepack.standins import stand_ins
from export.gates import ROUNDED
from export.graph_backend import device_here


def pytorch(artifact: Artifact, precision: str) -> TorchBackend:
    """PyTorch with the transformer in `precision`, and the companions in fp16 unless that is fp32. Raises
    ModelFilesError."""
    device = device_here()
    try:
        config = build(ModelConfig, artifact.config["dit"])
        serve = build(Serve, artifact.config["serve"], "serve")
    except BAD_CONFIG as e:
        raise ModelFilesError(
            f"{artifact.path}: its manifest does not describe a full-size model ({e}); export it again",
            field="config",
        ) from e
    companions = companions_of(artifact, config, serve, device, dtype(companion_precision(precision)))
    dit = load_dit(artifact.path, config, device, dtype(precision)).requires_grad_(False)
    modules = roles_of(artifact.spec, dit, companions)
    text: Any = companions.text
    tokenize: Tokenize = text.tokenize
    return TorchBackend(
        f"pytorch {precision}", artifact.spec, modules, tokenize, device, artifact.fingerprint
    )


def companions_of(
    artifact: Artifact, config: ModelConfig, serve: Serve, device: torch.device, kind: torch.dtype
) -> Companions:
    if lacking(artifact.path, serve):
        made = stand_ins(artifact.spec, config)
        for part in (made.text, made.image):
            assert isinstance(part, nn.Module)
            part.to(device)
        return made
    from engine.companions.load import load_companions

    found: Companions = load_companions(
        artifact.path, decoder=serve.decoder, segment=config.segment, device=device, dtype=torch.float16
    )
    fits(config, found)
    for p in parts(found).parameters():  # like the graphs' weights, which are rounded to fp16
        p.data = p.data.to(kind)
    return found


def precisions(artifact: Artifact, precision: str) -> dict[str, str]:
    """Role → the precision that it computes in when `precision` is compared."""
    # These graphs contain no part of the transformer.
    own = dict.fromkeys(("encode_text", "decode"), companion_precision(precision))
    if precision == "fp32":
        own["encode_image"] = ROUNDED
    return {role: own.get(role, precision) for role in signature(artifact.spec)}
