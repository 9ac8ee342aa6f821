"""Builds TensorRT engines from an exported folder into a private cache. Each key is built by one process at a
time, which writes a log beside the plan.

A cached engine that fits is reused. A plan appears under its name only when it is complete, and its record
after it. engine.backends.gpu.engine_files defines the record and when an engine may be loaded.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

import onnx

from engine.backends.artifact import Artifact, contract_tensors, sha256
from engine.backends.gpu import engine_files as engines
from engine.backends.gpu.driver import cuda_device
from engine.backends.gpu.engine_files import ANY, EngineRecord, Inputs
from engine.backends.gpu.tensorrt_api import Api, load_api
from engine.errors import BackendError, InvalidInput, ModelFilesError
from engine.model.graphs import graph_of, graphs_of
from engine.model.precision import LOW, precision_of
from export.manifest import tools
from export.tensorrt.process import Progress, lock, worker
from export.tensorrt.worker import VARIANTS, BuildResult, Request

BUILD_TIMEOUT_S = 3600.0


@dataclass(frozen=True)
class EnginePlan:
    """What to build. `target` is a name such as sm89, `any`, or `here` for this machine's device; `batch` the
    least, best and most rows. Raises InvalidInput."""

    role: str
    precision: str = "fp32"
    target: str = "here"
    batch: tuple[int, int, int] = (1, 4, 4)
    variant: str = "plain"
    level: int | None = None
    workspace_bytes: int | None = None

    def __post_init__(self) -> None:
        least, best, most = self.batch
        if not 1 <= least <= best <= most:
            raise InvalidInput(f"--batch: {self.batch} must be at least 1 and increasing", field="batch")
        if most & (most - 1):
            raise InvalidInput(
                f"--batch must be a power of two, since batches of sessions are, not {most}", field="batch"
            )
        if self.variant not in VARIANTS:
            raise InvalidInput(
                f"unknown variant {self.variant!r}; choose one of {', '.join(VARIANTS)}", field="variant"
            )


def inputs_of(artifact: Artifact, plan: EnginePlan, api: Api) -> Inputs:
    """The inputs of an engine's key. Raises InvalidInput, ModelFilesError, Unavailable."""
    graph = artifact.graph(plan.role, plan.precision)
    return Inputs(
        role=plan.role,
        precision=plan.precision,
        backend=api.name,
        version=api.version,
        target=resolve(plan.target, api),
        graph=artifact.files[graph.file],
        weights=engines.weights_of(artifact, graph, plan.variant),
        batch=plan.batch,
        variant=plan.variant,
        level=plan.level,
        workspace_bytes=plan.workspace_bytes,
        sizes=engines.sizes_of(graphs_of(artifact.spec)[graph.role]),
    )


def precision_for(artifact: Artifact, role: str, wanted: str) -> str:
    """The precision of a role's engine when `wanted` is requested. Expensive roles need a graph in that
    precision; the others use the graph that exists."""
    if wanted == "fp8" and role != "denoise":
        wanted = "bf16"  # errors of the memory path would accumulate
    there = {g.precision for g in artifact.graphs if g.role == role}
    usual = precision_of(role, wanted)
    found = [p for p in (wanted, usual, *(("fp16",) if role not in LOW else ())) if p in there]
    return found[0] if found else usual


def resolve(target: str, api: Api) -> str:
    """`here` → this device's target. Raises InvalidInput for a target that the library cannot build for ahead
    of time."""
    if target == "here":
        return cuda_device().target
    if not api.rtx:
        raise InvalidInput(
            f"--target {target}: {api.name} builds only for this machine's GPU; "
            "tensorrt_rtx can build ahead of time",
            field="target",
        )
    if target != ANY and api.capability(target) is None:
        known = ", ".join(n.lower() for n in api.trt.ComputeCapability.__members__ if n.startswith("SM"))
        raise InvalidInput(
            f"--target: {target!r} is unknown to {api.name} {api.version}; choose {ANY} or one of {known}",
            field="target",
        )
    return target


def record_path(cache: Path, artifact: Artifact, inputs: Inputs) -> Path:
    return cache / artifact.spec.name / inputs.role / f"{inputs.stem}.json"


def build(
    artifact: Artifact,
    plan: EnginePlan,
    *,
    cache: Path,
    backend: str | None = None,
    progress: Progress = lambda line: None,
    timeout_s: float = BUILD_TIMEOUT_S,
) -> tuple[EngineRecord, bool]:
    """The engine's record, and whether it came from the cache. Raises BackendError that names the log."""
    api = load_api(backend)
    inputs = inputs_of(artifact, plan, api)
    record = record_path(cache, artifact, inputs)
    make_folders(cache, record.parent)
    with lock(record.with_suffix(".lock"), progress):
        found = existing(record, artifact, inputs)
        if found is not None:
            return found, True
        graph = artifact.graph(plan.role, plan.precision)
        request = Request(
            backend=api.name,
            graph=str(artifact.file(graph.file).resolve()),
            plan=str(record.with_suffix(".plan.new")),
            result=str(record.with_suffix(".result")),
            batch=plan.batch,
            target="current" if plan.target in ("here", ANY) else inputs.target,
            variant=plan.variant,
            level=plan.level,
            workspace_bytes=plan.workspace_bytes,
            sizes=inputs.sizes,
            timing_cache=str(cache / f"{api.name}-{api.version}-{inputs.target}.timing"),
        )
        log = record.with_suffix(".log")
        made = Path(str(request.plan))
        made.unlink(missing_ok=True)  # left over from a build that was killed
        result = worker(request, log, progress, timeout_s)
        if not result.ok:
            made.unlink(missing_ok=True)
            raise BackendError(
                f"{plan.role} ({plan.precision}, {inputs.target}): {api.name} {api.version} built no engine: "
                f"{'; '.join(result.errors) or 'no reason given'}; see the log {log}",
                field=plan.role,
            )
        check_tensors(artifact, plan.role, result)
        engine = recorded(artifact, plan, api, inputs, result, record, made)
    return engine, False


def recorded(
    artifact: Artifact,
    plan: EnginePlan,
    api: Api,
    inputs: Inputs,
    result: BuildResult,
    record: Path,
    made: Path,
) -> EngineRecord:
    """Move the plan into place, then write its record."""
    graph = artifact.graph(plan.role, plan.precision)
    contract = graphs_of(artifact.spec)[graph.role]
    digest, size = sha256(made), made.stat().st_size
    final = record.with_suffix(".plan")
    made.replace(final)
    final.chmod(0o600)
    role = contract.largest
    outputs, given = {t.name for t in role.outputs}, {t.name for t in role.inputs}
    where = built_on(plan.target)
    engine = EngineRecord(
        model=artifact.spec.name,
        key=inputs.key,
        inputs=inputs,
        file=final.name,
        bytes=size,
        sha256=digest,
        source={
            "file": graph.file,
            "opset": graph.opset,
            "ir_version": graph.ir_version,
            "nodes": graph.nodes,
        },
        tensors=contract_tensors(contract),
        state={o: i for i, o in engines.STATE.items() if i in given and o in outputs},
        layers=result.layers or {},
        decomposable=result.decomposable,
        build_s=round(result.build_s, 1),
        build_peak_bytes=result.peak_bytes,
        built_on=where,
        tools={**artifact.tools, **tools()},
        weights=() if plan.variant == "plain" else stored_names(artifact.file(graph.file)),
        evidence=({"level": "built", "backend": api.name, "version": api.version, "device": where},),
    )
    engines.write(record, engine)
    return engine


def stored_names(graph: Path) -> tuple[str, ...]:
    """The names of the stored weights that a graph refers to."""
    model = onnx.load(graph, load_external_data=False)
    return tuple(sorted(t.name for t in model.graph.initializer if t.external_data))


def built_on(target: str) -> str:
    if target == "here":
        device = cuda_device()
        return f"{device.name} ({device.target}), driver {device.driver}"
    return "a CPU, ahead of time"


def existing(record: Path, artifact: Artifact, inputs: Inputs) -> EngineRecord | None:
    """A complete engine that fits, or None if it must be built."""
    if not record.is_file():
        return None
    try:
        engine = engines.read(record)
        target = inputs.target
        engines.check(record, engine, artifact, backend=inputs.backend, version=inputs.version, target=target)
    except ModelFilesError:
        return None
    return engine


def check_tensors(artifact: Artifact, role: str, result: BuildResult) -> None:
    """Raises ModelFilesError if the parsed network's inputs and outputs differ from the contract's."""
    types = {"float32": "FLOAT", "int64": "INT64", "uint8": "UINT8"}
    expected = contract_tensors(graphs_of(artifact.spec)[graph_of(role)])
    for kind, found in (("inputs", result.inputs or {}), ("outputs", result.outputs or {})):
        wanted = {
            t["name"]: (types[t["dtype"]], [n if isinstance(n, int) else -1 for n in t["shape"]])
            for t in expected[kind]
        }
        has = {name: (dtype, list(shape)) for name, (dtype, shape) in found.items()}
        for name in sorted(wanted.keys() | has.keys()):
            if wanted.get(name) != has.get(name):
                raise ModelFilesError(
                    f"{role}: of the engine's {kind}, {name} is {has.get(name)} but should be "
                    f"{wanted.get(name)}; export the graph again with `psistream export onnx`",
                    field=role,
                )


def parsed(artifact: Artifact, role: str, precision: str, backend: str | None = None) -> BuildResult:
    """Parse a graph without building it. Raises BackendError if the parser refuses it."""
    api = load_api(backend)
    graph = artifact.graph(role, precision)
    with tempfile.TemporaryDirectory() as made:
        request = Request(
            backend=api.name,
            graph=str(artifact.file(graph.file).resolve()),
            plan=None,
            result=str(Path(made) / "result"),
            batch=(1, 1, 1),
            target="current",
        )
        result = worker(request, Path(made) / "log", lambda line: None, 300.0)
    if not result.ok:
        raise BackendError(f"{role} ({precision}): {api.name}: {'; '.join(result.errors)}", field=role)
    check_tensors(artifact, role, result)
    return result


def make_folders(cache: Path, inner: Path) -> None:
    """Create the cache's folders as private ones. Raises ModelFilesError if other users may write to them."""
    cache.mkdir(parents=True, exist_ok=True, mode=0o700)
    for each in (cache, inner.parent, inner):
        each.mkdir(exist_ok=True, mode=0o700)
        engines.private(each)
