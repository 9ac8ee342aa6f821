"""A Helios folder's model in PyTorch, which its graphs and engines are compared with.

Companions without files (export.helios.standins) are the same in all backends.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from engine.backends.artifact import Artifact
from engine.backends.helios import load_transformer
from engine.backends.pytorch import Tokenize, TorchBackend
from engine.model.helios.config import HeliosConfig
from engine.model.helios.roles import Companions, roles_of
from engine.model.helios.serve import NAME, Serve, read_about
from engine.model.precision import dtype
from engine.model.signature import signature
from export.graph_backend import device_here
from export.helios import companions
from export.helios.standins import stand_ins


def is_helios(artifact: Artifact) -> bool:
    return artifact.config.get("preset") == NAME


def pytorch(artifact: Artifact, precision: str) -> TorchBackend:
    """The transformer in `precision`, its companions as their graphs compute. Raises ModelFilesError."""
    device = device_here()
    found = read_about(artifact.config, str(artifact.path))
    used = companions_of(artifact, found.config, found.serve, device, precision)
    model = load_transformer(artifact.path, found.config, device, dtype(precision)).requires_grad_(False)
    text: Any = used.text
    tokenize: Tokenize = text.tokenize
    roles = roles_of(artifact.spec, model, used, found.serve.border_frames)
    return TorchBackend(f"pytorch {precision}", artifact.spec, roles, tokenize, device, artifact.fingerprint)


def companions_of(
    artifact: Artifact, config: HeliosConfig, serve: Serve, device: torch.device, precision: str
) -> Companions:
    if companions.lacking(artifact.path, serve):
        made = stand_ins(config)
        assert isinstance(made.text, nn.Module)
        made.text.to(device)
        return made
    loaded = companions.load(artifact.path, config, serve, device)
    return companions.computing_in(loaded, precision, serve)


def precisions(artifact: Artifact, precision: str) -> dict[str, str]:
    """Role → the precision that it computes in when `precision` is compared."""
    serve = read_about(artifact.config, str(artifact.path)).serve
    own = {role: companions.precision(role, precision, serve) for role in companions.ROLES}
    return {role: own.get(role, precision) for role in signature(artifact.spec)}
