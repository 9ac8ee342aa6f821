"""PyTorch, eager: the reference that every other backend is compared with, and the runner of full-size
models.

Slow to import, easy to read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy.typing as npt
import torch
from safetensors.torch import load_file
from torch import nn

from engine.backends.artifact import EMBEDDINGS, TOKENIZER, WEIGHTS, Artifact, open_artifact
from engine.backends.base import Arrays, Noise, Sampler, failure
from engine.backends.samplers import Euler, Integrator, make_sampler
from engine.backends.tokenizer import PromptTokenizer
from engine.companions.unipc import UniPC
from engine.errors import InvalidInput, ModelFilesError
from engine.model.signature import ModelSpec, signature
from engine.model.wander.world_model import WorldModel, WorldModelConfig
from engine.types import FloatArray, IntArray

Tokenize = Callable[[str], tuple[IntArray, FloatArray]]


def load_model(artifact: Artifact) -> WorldModel:
    """The artifact's weights in fp32. Raises ModelFilesError where they don't fit its config."""
    try:
        model = WorldModel(WorldModelConfig.from_json(artifact.config))
    except (InvalidInput, AttributeError, TypeError, ValueError) as e:
        raise ModelFilesError(
            f"manifest: its config makes no model ({e}); `psistream export onnx` makes it again",
            field="config",
        ) from e
    state = {k: v.float() for k, v in load_file(artifact.file(WEIGHTS)).items()}
    try:
        model.load_trained(state)
    except RuntimeError as e:
        raise ModelFilesError(
            f"{artifact.file(WEIGHTS)} does not fit the manifest's config: {e}", field=WEIGHTS
        ) from e
    model.words.load(load_file(artifact.file(EMBEDDINGS)))
    return model.eval().requires_grad_(False)


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
