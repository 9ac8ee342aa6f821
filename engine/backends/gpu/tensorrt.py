"""TensorRT and TensorRT-RTX: engines that `psistream export tensorrt` built, on the device's own buffers.

Every engine is checked against its record, the model and the device before it is deserialised. No Runtime is
created before a separate process has asked the driver. All contexts share one arena for activations, since
they run one after another on one stream. Sessions are unknown here.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from engine.backends.artifact import TOKENIZER, Artifact, open_artifact
from engine.backends.gpu import engine_files as engines
from engine.backends.gpu.cuda import DeviceBackend, family_of, module_bodies
from engine.backends.gpu.driver import cuda_device
from engine.backends.gpu.engine_files import EngineRecord
from engine.backends.gpu.graphs import Body, Tensors
from engine.backends.gpu.tensorrt_api import Api, installed
from engine.backends.pytorch import Tokenize
from engine.backends.tokenizer import PromptTokenizer
from engine.backends.weights import fingerprint
from engine.errors import BackendError, ModelFilesError
from engine.model.graphs import graph_of, graphs_of
from engine.model.helios.serve import NAME as HELIOS
from engine.model.signature import signature

PRECISIONS = ("fp8", "bf16", "fp16", "fp32")  # order of preference if several engines fit
VARIANTS = ("plain", "refit", "stripped")
CLIP_LENGTH = 77  # ids of its tokenizer

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
    """An engine as a body, with one context per set of buffers, since a recorded graph keeps addresses. Roles
    that share an engine have a profile each."""

    role: str
    api: Api
    engine: Any  # ICudaEngine
    arena: Arena
    profile: int = 0
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
        if self.profile and not self._choose_profile(context):
            raise BackendError(
                f"{self.role}: {self.api.name} has no profile {self.profile} in its engine", field=self.role
            )
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

    def _choose_profile(self, context: Any) -> bool:
        """A context starts with profile 0. The switch is done before anything else runs in the context."""
        stream = torch.cuda.current_stream(self.arena.device)
        chosen: bool = context.set_optimization_profile_async(self.profile, stream.cuda_stream)
        stream.synchronize()
        return chosen


def choose(artifact: Artifact, cache: Path, api: Api, target: str) -> dict[str, tuple[EngineRecord, Path]]:
    """Graph → the engine to run and its plan, for the graphs that there are.

    Raises ModelFilesError, which says for a role without a fitting engine why each existing one does not
    fit."""
    roles = dict.fromkeys(g.role for g in artifact.graphs)
    return {role: choose_role(artifact, cache, api, target, role) for role in roles}


def fitting(artifact: Artifact, target: str) -> tuple[Api, dict[str, tuple[EngineRecord, Path]]]:
    """The first installed library that has engines for all graphs, and these engines.

    Raises Unavailable without a library, and `choose`'s ModelFilesError for the first one."""
    refusals = []
    for api in installed():
        try:
            return api, choose(artifact, engines.cache_folder(), api, target)
        except ModelFilesError as e:
            refusals.append(e)
    raise refusals[0]


def choose_role(
    artifact: Artifact, cache: Path, api: Api, target: str, role: str
) -> tuple[EngineRecord, Path]:
    for folder in (cache, cache / artifact.spec.name):
        if folder.exists():
            engines.private(folder)
    reasons: list[str] = []
    found: list[tuple[EngineRecord, Path]] = []
    for record in sorted((cache / artifact.spec.name / role).glob("*.json")):
        try:
            engine = engines.read(record)
            plan = engines.check(
                record, engine, artifact, backend=api.name, version=api.version, target=target
            )
        except ModelFilesError as e:
            reasons.append(e.message)
            continue
        found.append((engine, plan))
    if not found:
        why = "; ".join(reasons) or (
            f"none was built for {target} by {api.name} {api.version}; "
            f"`psistream export tensorrt {artifact.path}` builds them"
        )
        raise ModelFilesError(f"{role}: no engine that fits: {why}", field=role)
    return min(found, key=lambda f: _rank(f[0].inputs))


def _rank(inputs: engines.Inputs) -> tuple[int, int, int]:
    """Order of preference: low precision, then engines that need no refit, then large batches."""
    return PRECISIONS.index(inputs.precision), VARIANTS.index(inputs.variant), -inputs.batch[2]


def deserialized(
    api: Api, artifact: Artifact, chosen: Mapping[str, tuple[EngineRecord, Path]], device: torch.device
) -> dict[str, EngineBody]:
    """Role → its engine. The caller has checked for a device. Raises BackendError with TensorRT's message,
    ModelFilesError."""
    said: list[str] = []
    words = logger(api, said)
    runtime = api.trt.Runtime(words)
    arena, bodies, graphs = Arena(device), dict[str, EngineBody](), graphs_of(artifact.spec)
    for role, (record, plan) in chosen.items():
        engine = runtime.deserialize_cuda_engine(engines.contents(plan, record))
        if engine is None:
            raise BackendError(
                f"{role}: {api.name} {api.version} refused {plan.name}: {' '.join(said[-3:])}", field=role
            )
        if record.inputs.variant != "plain":
            refit(api, engine, record, artifact, words, said)
        for profile, served in enumerate(graphs[role].roles):
            bodies[served] = EngineBody(served, api, engine, arena, profile)
    arena.reserve(max(body.engine.device_memory_size_v2 for body in bodies.values()))
    return bodies


def refit(
    api: Api, engine: Any, record: EngineRecord, artifact: Artifact, words: Any, said: list[str]
) -> None:
    """Insert the model's weights into an engine without weights, or with those of another training run. Both
    name them like their parameters, and the graph says where each is stored.

    Raises BackendError if the engine has no place for a weight: the builder has merged it into something
    else, so replacing it would silently change nothing."""
    i = record.inputs

    def refuse(why: str) -> BackendError:
        return BackendError(
            f"{i.role}: {api.name} {api.version} did not take the model's weights ({why}); "
            f"`{engines.command(artifact, replace(i, variant='plain'))}` builds an engine with them inside",
            field=i.role,
        )

    refitter = api.trt.Refitter(engine, words)
    folded = sorted(set(record.weights) - set(refitter.get_all_weights()))
    if folded and i.variant == "refit":  # the weights of a stripped engine are those that it was built with
        raise refuse(f"{len(folded)} can't be replaced, first {folded[0]}")
    reader = api.trt.OnnxParserRefitter(refitter, words)
    graph = artifact.file(artifact.graph(i.role, i.precision).file).resolve()
    if not reader.refit_from_file(str(graph)):
        errors = [reader.get_error(n).desc() for n in range(reader.num_errors)]
        raise refuse("; ".join(errors) or " ".join(said[-3:]) or "no reason given")
    if missing := refitter.get_missing_weights():
        raise refuse(f"{len(missing)} were not given, first {sorted(missing)[0]}")
    if not refitter.refit_cuda_engine():
        raise refuse(" ".join(said[-3:]) or "no reason given")


def logger(api: Api, said: list[str]) -> Any:
    class Logger(api.trt.ILogger):  # type: ignore[misc,name-defined]
        def log(self, severity: Any, text: str) -> None:
            if severity <= api.trt.ILogger.Severity.ERROR:
                said.append(text)
                log.error("%s: %s", api.name, text)

    return Logger()


def load(path: Path | None) -> DeviceBackend:
    """Raises Unavailable without device or library, ModelFilesError if a role has no fitting engine."""
    here = cuda_device()
    artifact = open_artifact(path)
    api, chosen = fitting(artifact, here.target)
    bodies = deserialized(api, artifact, chosen, torch.device("cuda"))
    missing = set(signature(artifact.spec)) - set(bodies)
    if missing:
        raise ModelFilesError(f"{artifact.path}: no graphs of {', '.join(sorted(missing))}", field="graphs")
    tokenize = PromptTokenizer(artifact.file(TOKENIZER), artifact.spec.text_length)
    mark = artifact.fingerprint
    return DeviceBackend(api.name, artifact.spec, bodies, tokenize, torch.device("cuda"), fingerprint=mark)


def load_full(name: str, folder: Path) -> DeviceBackend:
    """A full-size model: engines for roles with graphs, PyTorch for the rest. Raises like `load`."""
    here = cuda_device()
    artifact = open_artifact(folder, needs=())
    if artifact.spec.name != name:
        raise ModelFilesError(f"{folder} holds graphs of {artifact.spec.name!r}, not {name!r}", field="model")
    api, chosen = fitting(artifact, here.target)
    device, bodies = torch.device("cuda"), dict[str, Body]()
    tokenize: Tokenize
    elsewhere: dict[str, torch.device] = {}
    if set(chosen) == set(graphs_of(artifact.spec)):
        tokenize = _tokenizer(name, folder)
    else:
        base = family_of(name).load(name, folder)
        bodies, tokenize = module_bodies(base.spec, base.modules, compiled=False), base.tokenize
        elsewhere = {r: d for r, d in base.elsewhere.items() if graph_of(r) not in chosen}
        del base  # engines take the place of its modules
    bodies.update(deserialized(api, artifact, chosen, device))
    mark = fingerprint(folder)  # as in PyTorch
    return DeviceBackend(
        api.name, artifact.spec, bodies, tokenize, device, fingerprint=mark, elsewhere=elsewhere
    )


def _tokenizer(name: str, folder: Path) -> Tokenize:
    """Raises ModelFilesError, Unavailable without the family's libraries."""
    if name == HELIOS:
        from engine.companions.helios.text import Umt5Ids

        return Umt5Ids(folder)
    from engine.companions.prompt import PromptIds

    return PromptIds(folder, CLIP_LENGTH)
