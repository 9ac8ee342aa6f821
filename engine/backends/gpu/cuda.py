"""PyTorch on a CUDA device: bf16, compiled, one CUDA graph per role and batch size. The alternative to
TensorRT, and its fallback where no engine fits.

`run` takes and returns numpy arrays, like every backend. `run_device` takes and returns tensors on the device
and copies nothing that is already in place. Sessions are unknown here.
"""

from __future__ import annotations

import importlib
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from engine.backends.artifact import TOKENIZER, open_artifact
from engine.backends.base import Arrays, Noise, Sampler, failure
from engine.backends.gpu.driver import cuda_device
from engine.backends.gpu.graphs import Body, RoleGraph, Tensors
from engine.backends.pytorch import Tokenize, integrator, load_model, tensor
from engine.backends.samplers import make_sampler
from engine.backends.tokenizer import PromptTokenizer
from engine.errors import OutOfMemory
from engine.model.graphs import graph_of
from engine.model.helios.serve import NAME as HELIOS
from engine.model.precision import low_roles, lowered
from engine.model.signature import ModelSpec, signature

log = logging.getLogger(__name__)
COMPILED = ("denoise", "memorize", "squeeze", "decode")  # roles that run for every segment


class DeviceBackend:
    """Roles as bodies that read and write fixed buffers."""

    def __init__(
        self,
        name: str,
        spec: ModelSpec,
        bodies: Mapping[str, Body],
        tokenize: Tokenize,
        device: torch.device,
        *,
        record: bool = True,
        fingerprint: str = "",
        elsewhere: Mapping[str, torch.device] | None = None,
    ) -> None:
        """`elsewhere`: the roles whose bodies are on another device."""
        self.elsewhere = dict(elsewhere or {})
        self.name, self.spec, self.device, self.fingerprint = name, spec, device, fingerprint
        self.tokenize = tokenize
        self.record = record
        self._bodies = dict(bodies)
        self._signature = signature(spec)
        self._steps: dict[tuple[str, int], RoleGraph] = {}
        self._pool = torch.cuda.graph_pool_handle() if device.type == "cuda" else None

    def step(self, role: str, batch: int) -> RoleGraph:
        """The role's buffers at this batch size, made on first use."""
        key = (role, batch)
        if key not in self._steps:
            contract, body = self._signature[role], self._bodies[role]
            on = self.elsewhere.get(role, self.device)
            pool = self._pool if on == self.device else None  # a pool belongs to one device
            self._steps[key] = RoleGraph(contract, batch, body, on, self.record, pool)
        return self._steps[key]

    @torch.inference_mode()
    def run_device(self, role: str, inputs: Tensors) -> dict[str, Tensor]:
        """Like `run`, on the device. The outputs are buffers: they stay valid until the role's call after the
        next.

        Raises BackendError."""
        batch = next(iter(inputs.values())).shape[0]
        try:
            return self.step(role, batch)(inputs)
        except RuntimeError as e:
            found = failure(role, e)
            if isinstance(found, OutOfMemory):
                self._steps.pop((role, batch), None)
                if self.device.type == "cuda":
                    torch.cuda.empty_cache()
            raise found from e

    def run(self, role: str, inputs: Arrays) -> dict[str, npt.NDArray[Any]]:
        """Like every backend's. Any number of rows runs as the next power of two: each batch size has its own
        buffers, graph and compiled code, and making a new one would delay all sessions."""
        names = self._signature[role].input_names
        rows = len(inputs[names[0]])
        more = (1 << (rows - 1).bit_length()) - rows
        padded = {
            n: np.concatenate([inputs[n], inputs[n][-1:].repeat(more, 0)]) if more else inputs[n]
            for n in names
        }
        on = self.elsewhere.get(role, self.device)
        given = {n: tensor(padded[n]).to(on, non_blocking=True) for n in names}
        return {n: x[:rows].to("cpu", copy=True).numpy() for n, x in self.run_device(role, given).items()}

    def sampler(self, steps: int, noise: Noise) -> Sampler:
        return make_sampler(self.spec, steps, noise, integrator)

    def close(self) -> None:
        self._steps.clear()
        self._bodies.clear()


def module_body(module: Callable[..., Any], names: tuple[list[str], list[str]]) -> Body:
    """A module whose outputs are copied into their buffers. Inside a recorded graph this costs almost
    nothing."""
    inputs, outputs = names

    def body(given: Tensors, made: Tensors) -> None:
        out = module(*(given[n] for n in inputs))
        for name, x in zip(outputs, out if isinstance(out, tuple) else (out,), strict=True):
            made[name].copy_(x)

    return body


def module_bodies(spec: ModelSpec, modules: Mapping[str, nn.Module], *, compiled: bool) -> dict[str, Body]:
    bodies = {}
    for role, contract in signature(spec).items():
        module: Callable[..., Any] = modules[role]
        if compiled and graph_of(role) in COMPILED:
            module = torch.compile(module, dynamic=False, mode="max-autotune-no-cudagraphs")
        bodies[role] = module_body(module, (contract.input_names, contract.output_names))
    return bodies


def world_modules(path: Path | None, device: torch.device, kind: torch.dtype) -> dict[str, nn.Module]:
    """Modules of a model of the built-in world: `kind` for the expensive ones, fp32 elsewhere."""
    artifact = open_artifact(path)
    model, spec = load_model(artifact), artifact.spec
    modules = dict(model.roles(spec))
    if kind != torch.float32:
        low = lowered(model, kind)
        modules.update(low_roles(low.roles(spec), signature(spec), kind))
    return {role: module.to(device) for role, module in modules.items()}


def load_full(name: str, folder: Path) -> DeviceBackend:
    """A full-size model. Raises like `load`."""
    cuda_device()
    base = family_of(name).load(name, folder)
    bodies = module_bodies(base.spec, base.modules, compiled=True)
    about = {"fingerprint": base.fingerprint, "elsewhere": base.elsewhere}
    return DeviceBackend("cuda", base.spec, bodies, base.tokenize, base.device, **about)


def family_of(name: str) -> Any:
    """The module that loads models of this name in PyTorch."""
    return importlib.import_module(
        "engine.backends.helios" if name == HELIOS else "engine.backends.framepack"
    )


def load(path: Path | None) -> DeviceBackend:
    """Raises Unavailable without a device, ModelFilesError."""
    cuda_device()
    device = torch.device("cuda")
    artifact = open_artifact(path)
    modules = world_modules(path, device, torch.bfloat16)
    tokenize = PromptTokenizer(artifact.file(TOKENIZER), artifact.spec.text_length)
    bodies = module_bodies(artifact.spec, modules, compiled=True)
    return DeviceBackend("cuda", artifact.spec, bodies, tokenize, device, fingerprint=artifact.fingerprint)
