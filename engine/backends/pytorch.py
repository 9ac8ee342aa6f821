"""PyTorch, eager: the reference that every other backend is compared with, and the runner of full-size
models.

Slow to import, easy to read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy.typing as npt
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from engine.backends.artifact import EMBEDDINGS, TOKENIZER, WEIGHTS, Artifact, open_artifact
from engine.backends.base import Arrays, Noise, Sampler, failure
from engine.backends.samplers import Euler, Integrator, make_sampler
from engine.backends.tokenizer import PromptTokenizer
from engine.companions.unipc import UniPC
from engine.errors import ModelFilesError
from engine.model.config import BAD_CONFIG
from engine.model.signature import ModelSpec, signature
from engine.model.wander.world_model import WorldModel, WorldModelConfig
from engine.types import FloatArray, IntArray

Tokenize = Callable[[str], tuple[IntArray, FloatArray]]


def load_model(artifact: Artifact) -> WorldModel:
    """The artifact's weights in fp32. Raises ModelFilesError where they don't fit its config."""
    state = _tensors(artifact, WEIGHTS)
    try:
        config = WorldModelConfig.from_json(artifact.config)
        with torch.device("meta"):
            wanted = WorldModel(config).trained()  # before anything takes memory
        if wrong := sorted(wanted.keys() ^ state.keys()) or _differing(wanted, state):
            raise ModelFilesError(
                f"{artifact.file(WEIGHTS)} does not fit the manifest's config: {wrong[0]:.80} and "
                f"{len(wrong) - 1} other tensors differ",
                field=WEIGHTS,
            )
        model = WorldModel(config)
    except BAD_CONFIG as e:
        raise ModelFilesError(
            f"manifest: its config makes no model ({e}); `psistream export onnx` makes it again",
            field="config",
        ) from e
    model.load_trained({k: v.float() for k, v in state.items()})
    model.words.load(_tensors(artifact, EMBEDDINGS))
    return model.eval().requires_grad_(False)


def _differing(wanted: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> list[str]:
    """The names of tensors whose shapes differ."""
    return sorted(k for k in wanted if wanted[k].shape != state[k].shape)


def _tensors(artifact: Artifact, name: str) -> dict[str, Tensor]:
    try:
        return load_file(artifact.file(name))
    except (SafetensorError, OSError) as e:
        raise ModelFilesError(f"{artifact.file(name)} is no safetensors file: {e}", field=name) from e


def tensor(x: npt.NDArray[Any]) -> torch.Tensor:
    """A tensor on the array's own memory if that is writeable, which PyTorch requires even for reading; else
    a copy."""
    return torch.from_numpy(x if x.flags.writeable else x.copy())


def integrator(spec: ModelSpec, steps: int) -> Integrator:
    """The integrator that the spec names. Raises Unavailable for UniPC without diffusers."""
    return UniPC(steps, spec.shift) if spec.sampler == "unipc" else Euler(steps, spec.shift)


class TorchBackend:
    """Modules by role, on one device."""

    def __init__(
        self,
        name: str,
        spec: ModelSpec,
        roles: Mapping[str, nn.Module],
        tokenize: Tokenize,
        device: torch.device,
        fingerprint: str = "",
        *,
        elsewhere: Mapping[str, torch.device] | None = None,
    ) -> None:
        """`elsewhere`: the roles whose modules are on another device."""
        self.elsewhere = dict(elsewhere or {})
        self.name, self.spec, self.device, self.fingerprint = name, spec, device, fingerprint
        self.tokenize = tokenize
        self.modules = dict(roles)
        self._signature = signature(spec)

    @torch.inference_mode()
    def run(self, role: str, inputs: Arrays) -> dict[str, npt.NDArray[Any]]:
        names = self._signature[role]
        try:
            on = self.elsewhere.get(role, self.device)
            given = (tensor(inputs[i.name]).to(on) for i in names.inputs)
            out = self.modules[role](*given)
        except RuntimeError as e:
            raise failure(role, e) from e
        outputs = out if isinstance(out, tuple) else (out,)
        return {o.name: x.cpu().numpy() for o, x in zip(names.outputs, outputs, strict=True)}

    def sampler(self, steps: int, noise: Noise) -> Sampler:
        return make_sampler(self.spec, steps, noise, integrator)

    def close(self) -> None:
        self.modules = {}


class ReferenceBackend(TorchBackend):
    """An artifact on the CPU in fp32."""

    def __init__(self, artifact: Artifact) -> None:
        spec = artifact.spec
        tokenize = PromptTokenizer(artifact.file(TOKENIZER), spec.text_length)
        roles = load_model(artifact).roles(spec)
        super().__init__("reference", spec, roles, tokenize, torch.device("cpu"), artifact.fingerprint)


def load(path: Path | None) -> ReferenceBackend:
    return ReferenceBackend(open_artifact(path))
