"""TensorRT and TensorRT-RTX: engines that `psistream export tensorrt` built, on the device's own buffers.

Every engine is checked against its record, the model and the device before it is deserialised, and no
Runtime is made before the driver was asked in a process of its own. All contexts share one arena for
activations: they run one after another on one stream. It knows no sessions.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from engine.backends import engines
from engine.backends.artifact import TOKENIZER, Artifact, open_artifact
from engine.backends.cuda import DeviceBackend, module_bodies
from engine.backends.device import cuda_device
from engine.backends.engines import Engine
from engine.backends.graphs import Body, Tensors
from engine.backends.tensorrt_api import Api, load_api
from engine.backends.tokens import PromptTokenizer
from engine.errors import BackendError, ModelFilesError
from engine.model.signature import signature

PRECISIONS = ("bf16", "fp16", "fp32")  # which engine is taken where several fit

log = logging.getLogger(__name__)


@dataclass
class Arena:
    """Memory for activations, as large as the largest engine needs."""

    device: torch.device
    memory: torch.Tensor | None = None

    def reserve(self, size: int) -> None:
        if self.memory is not None:
            raise RuntimeError("contexts hold the arena's address already")
        self.memory = torch.empty(max(size, 1), dtype=torch.uint8, device=self.device)


@dataclass
class EngineBody:
    """An engine as a body: one context per set of buffers, since a recorded graph keeps addresses."""

    role: str
    api: Api
    engine: Any  # ICudaEngine
    arena: Arena
    contexts: dict[tuple[int, ...], Any] = field(default_factory=dict)

    def __call__(self, given: Tensors, made: Tensors) -> None:
        buffers = {**given, **made}
        key = tuple(x.data_ptr() for x in buffers.values())
        if key not in self.contexts:
            self.contexts[key] = self._context(given, buffers)
        stream = torch.cuda.current_stream(self.arena.device).cuda_stream
        if not self.contexts[key].execute_async_v3(stream):
            raise BackendError(f"{self.role}: {self.api.name} could not run its engine", field=self.role)

    def _context(self, given: Tensors, buffers: Tensors) -> Any:
        trt = self.api.trt
        context = self.engine.create_execution_context(trt.ExecutionContextAllocationStrategy.USER_MANAGED)
        if context is None:
            raise BackendError(f"{self.role}: {self.api.name} made no context", field=self.role)
        for name, x in given.items():
            if not context.set_input_shape(name, tuple(x.shape)):
                raise BackendError(
                    f"{self.role}: {name} {tuple(x.shape)} is outside what the engine was built for; "
                    "build it with a larger --batch",
                    field=self.role,
                )
        missing = context.infer_shapes()
        if missing:
            raise BackendError(f"{self.role}: shapes of {missing} are not known", field=self.role)
        memory = self.arena.memory
        assert memory is not None
        needed = context.update_device_memory_size_for_shapes()
        if needed > memory.nbytes:
            raise BackendError(f"{self.role}: needs {needed} bytes, the arena has {memory.nbytes}")
        context.set_device_memory(memory.data_ptr(), memory.nbytes)
        for name, x in buffers.items():
            if not context.set_tensor_address(name, x.data_ptr()):
                raise BackendError(f"{self.role}: the engine knows no {name}", field=self.role)
        return context


def choose(artifact: Artifact, cache: Path, api: Api, target: str) -> dict[str, tuple[Engine, Path]]:
    """Role → the engine to run and its plan, for the roles that have graphs.

    Raises ModelFilesError which says for a role without one why each that is there does not fit."""
    roles = dict.fromkeys(g.role for g in artifact.graphs)
    return {role: choose_role(artifact, cache, api, target, role) for role in roles}


def choose_role(artifact: Artifact, cache: Path, api: Api, target: str, role: str) -> tuple[Engine, Path]:
    reasons: list[str] = []
    fitting: list[tuple[Engine, Path]] = []
    for record in sorted((cache / artifact.spec.name / role).glob("*.json")):
        try:
            engine = engines.read(record)
            plan = engines.check(
                record, engine, artifact, backend=api.name, version=api.version, target=target
            )
        except ModelFilesError as e:
            reasons.append(e.message)
            continue
        if engine.inputs.variant != "stripped":  # that one has no weights to run with
            fitting.append((engine, plan))
    if not fitting:
        why = "; ".join(reasons) or (
            f"none was built for {target} by {api.name} {api.version}; "
            f"`psistream export tensorrt {artifact.path}` builds them"
        )
        raise ModelFilesError(f"{role}: no engine that fits: {why}", field=role)
    return min(fitting, key=lambda f: (PRECISIONS.index(f[0].inputs.precision), -f[0].inputs.batch[2]))


def deserialized(api: Api, plans: Mapping[str, Path], device: torch.device) -> dict[str, EngineBody]:
    """Raises BackendError with TensorRT's words. The caller has asked for a device before."""
    said: list[str] = []
    runtime = api.trt.Runtime(logger(api, said))
    arena, bodies = Arena(device), {}
    for role, plan in plans.items():
        engine = runtime.deserialize_cuda_engine(plan.read_bytes())
        if engine is None:
            raise BackendError(
                f"{role}: {api.name} {api.version} refused {plan.name}: {' '.join(said[-3:])}", field=role
            )
        bodies[role] = EngineBody(role, api, engine, arena)
    arena.reserve(max(body.engine.device_memory_size_v2 for body in bodies.values()))
    return bodies


def logger(api: Api, said: list[str]) -> Any:
    class Logger(api.trt.ILogger):  # type: ignore[misc,name-defined]
        def log(self, severity: Any, text: str) -> None:
            if severity <= api.trt.ILogger.Severity.ERROR:
                said.append(text)
                log.error("%s: %s", api.name, text)

    return Logger()


def load(path: Path | None) -> DeviceBackend:
    """Raises Unavailable without device or library, ModelFilesError where a role has no engine that fits."""
    here = cuda_device()
    api = load_api()
    artifact = open_artifact(path)
    chosen = choose(artifact, engines.cache_folder(), api, here.target)
    device = torch.device("cuda")
    bodies = deserialized(api, {role: plan for role, (_, plan) in chosen.items()}, device)
    missing = set(signature(artifact.spec)) - set(bodies)
    if missing:
        raise ModelFilesError(f"{artifact.path}: no graphs of {', '.join(sorted(missing))}", field="graphs")
    tokenize = PromptTokenizer(artifact.file(TOKENIZER), artifact.spec.text_length)
    return DeviceBackend(api.name, artifact.spec, bodies, tokenize, device)


def load_full(name: str, folder: Path) -> DeviceBackend:
    """A full-size model: its transformer in engines, its companions in PyTorch. Raises as `load`."""
    from engine.backends import full

    here = cuda_device()
    api = load_api()
    artifact = open_artifact(folder, needs=())
    chosen = choose(artifact, engines.cache_folder(), api, here.target)
    base = full.load(name, folder)
    bodies: dict[str, Body] = dict(module_bodies(base.spec, base.modules, compiled=False))
    bodies.update(deserialized(api, {role: plan for role, (_, plan) in chosen.items()}, base.device))
    return DeviceBackend(api.name, base.spec, bodies, base.tokenize, base.device)
