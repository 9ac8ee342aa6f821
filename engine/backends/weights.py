"""Loads the output of `psistream convert` into a module, tensor by tensor onto the device. Strict."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from engine.errors import ModelFilesError


def load_weights(
    module: nn.Module, folder: Path, device: torch.device, kind: Callable[[str, Tensor], torch.dtype]
) -> None:
    """All parameters of `module`, which may be on the meta device, from `folder`/model*.safetensors, each in
    the type that `kind` gives for its name. No second copy of them exists at any time. Buffers stay as they
    are. Raises ModelFilesError that names a tensor that is missing, too many or of another shape."""
    wanted = dict(module.named_parameters())
    found = set()
    for file in sorted(folder.glob("model*.safetensors")):
        try:
            with safe_open(file, framework="pt", device=str(device)) as shard:
                for key in shard.keys():  # noqa: SIM118, not a dict
                    tensor = shard.get_tensor(key)
                    if key not in wanted or tensor.shape != wanted[key].shape:
                        shape = tuple(wanted[key].shape) if key in wanted else "nothing of that name"
                        raise ModelFilesError(
                            f"{file}: {key} is {tuple(tensor.shape)}, expected {shape}; convert it again",
                            field="weights",
                        )
                    place, _, leaf = key.rpartition(".")
                    parameter = nn.Parameter(tensor.to(kind(key, tensor)), requires_grad=False)
                    setattr(module.get_submodule(place), leaf, parameter)
                    found.add(key)
        except SafetensorError as e:
            raise ModelFilesError(f"{file} is not a safetensors file: {e}", field="weights") from e
    if missing := sorted(set(wanted) - found):
        raise ModelFilesError(
            f"{folder} lacks {len(missing)} tensors, first {missing[0]}; convert it again", field="weights"
        )


def fingerprint(folder: Path) -> str:
    """Identifies configuration and weights, by size, header and first numbers of each shard: reading all 25
    GB would take minutes."""
    found = hashlib.sha256((folder / "config.json").read_bytes())
    for file in sorted(folder.glob("model*.safetensors")):
        with file.open("rb") as shard:
            found.update(f"{file.name} {file.stat().st_size}".encode() + shard.read(2**20))
    return found.hexdigest()[:16]
