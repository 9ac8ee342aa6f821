"""Engines on disk: what each was made from, and the checks before one is loaded.

An engine is executable code for one GPU architecture and one version of one library. A record (JSON) beside
every plan states its SHA-256, the graph and weights it was built from, the library's version, the
architecture and the step contract. An engine that differs in any of these is not loaded. Records are kept in
a private folder; engines are never downloaded. Keys are made from an engine's inputs, since two builds of the
same inputs differ.

No TensorRT here, and no torch.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from engine.backends import artifact as artifacts
from engine.backends.artifact import Artifact, Graph, contract_tensors, sha256
from engine.backends.locations import locations
from engine.errors import ModelFilesError
from engine.model.graphs import GraphContract, graphs_of

FORMAT = 2
LEVELS = ("parsed", "built", "executed", "parity")  # levels of evidence about an engine, in ascending order
STATE = {"psi": "psi_next", "state": "state_next"}  # outputs that become the next call's inputs
ANY = "any"  # a target: code that every supported architecture finishes compiling itself
REPLACEABLE = "replaceable"  # instead of a hash: weights that are inserted when the engine is loaded


@dataclass(frozen=True)
class Inputs:
    """Everything that an engine depends on. Its key is made of this."""

    role: str
    precision: str
    backend: str  # tensorrt or tensorrt_rtx
    version: str  # of the library, in full
    target: str  # sm89, or any
    graph: str  # SHA-256
    weights: dict[str, str]  # file → SHA-256, or REPLACEABLE
    batch: tuple[int, int, int]  # least, best, most
    variant: str = "plain"  # plain, refit, stripped
    level: int | None = None  # builder optimisation level, None is the library's
    workspace_bytes: int | None = None
    sizes: tuple[dict[str, list[int]], ...] = ()  # shapes for each role that shares it: a profile each

    @property
    def key(self) -> str:
        given = {name: value for name, value in asdict(self).items() if value or name != "sizes"}
        data = json.dumps({"format": FORMAT, **given}, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(data.encode()).hexdigest()

    @property
    def stem(self) -> str:
        variant = "" if self.variant == "plain" else f"-{self.variant}"
        return f"{self.backend}-{self.version}-{self.target}-{self.precision}{variant}-{self.key[:12]}"


@dataclass(frozen=True)
class EngineRecord:
    """A record; `file` is beside it."""

    model: str
    key: str
    inputs: Inputs
    file: str
    bytes: int
    sha256: str
    source: dict[str, Any]  # the graph: file, opset, ir_version, nodes
    tensors: dict[str, list[dict[str, Any]]]  # the contract's inputs and outputs
    state: dict[str, str]  # output → the input that it becomes
    layers: dict[str, int]  # of the parsed network, by type
    decomposable: bool  # attention without a kernel of its own
    build_s: float
    build_peak_bytes: int
    built_on: str
    tools: dict[str, str]
    weights: tuple[str, ...] = ()  # all weights of the graph, by name, if they are inserted at load time
    evidence: tuple[dict[str, Any], ...] = ()
    format: int = FORMAT

    @property
    def level(self) -> str:
        reached = [LEVELS.index(str(e["level"])) for e in self.evidence if e.get("level") in LEVELS]
        return LEVELS[max(reached, default=0)]


def cache_folder() -> Path:
    """The folder of engines: $PSISTREAM_ENGINES, else the user's cache."""
    named = os.environ.get("PSISTREAM_ENGINES")
    if named:
        return Path(named)
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "psistream" / "engines"


def private(folder: Path) -> None:
    """Raises ModelFilesError if other users could put an engine there."""
    try:
        about = folder.stat()
    except OSError as e:
        raise ModelFilesError(f"{folder}: {e.strerror}", field="engines") from e
    if not stat.S_ISDIR(about.st_mode) or folder.is_symlink():
        raise ModelFilesError(f"{folder} is not a folder of its own; remove it", field="engines")
    if hasattr(os, "getuid") and (about.st_uid != os.getuid() or about.st_mode & 0o022):
        raise ModelFilesError(
            f"{folder}: others may write there, and engines are executable code; "
            f"`chmod 700 {folder}` if it is yours",
            field="engines",
        )


def weights_of(artifact: Artifact, graph: Graph, variant: str = "plain") -> dict[str, str]:
    """File → SHA-256 of the weights that a graph points into. An engine with replaceable weights is the same
    for all of them, so a fine-tuned model needs no new build."""
    pointed = sorted(locations(artifact.file(graph.file).read_bytes()))
    return {name: REPLACEABLE if variant == "refit" else artifact.files[name] for name in pointed}


def command(artifact: Artifact, inputs: Inputs) -> str:
    """The command that builds this engine again."""
    return (
        f"psistream export tensorrt {artifact.path} --roles {inputs.role} --precision {inputs.precision} "
        f"--backend {inputs.backend} --batch {inputs.batch[2]}"
        + ("" if inputs.variant == "plain" else f" --variant {inputs.variant}")
    )


def write(record: Path, engine: EngineRecord) -> None:
    artifacts.replace(record, json.dumps(asdict(engine), indent=1) + "\n")


def read(record: Path) -> EngineRecord:
    """Raises ModelFilesError unless the file is a record of this version."""
    try:
        data = json.loads(record.read_text(encoding="utf-8"))
        if data["format"] != FORMAT:
            raise ModelFilesError(
                f"{record} has format {data['format']}, this version reads {FORMAT}; "
                "remove it and build the engine again with `psistream export tensorrt`",
                field="format",
            )
        names = {f.name for f in fields(EngineRecord)}
        if set(data) != names:
            raise ValueError(f"it has {sorted(data)}, should have {sorted(names)}")
        found = EngineRecord(**{**data, "inputs": _inputs(data["inputs"])})
    except (OSError, ValueError, KeyError, TypeError) as e:
        raise ModelFilesError(
            f"{record} is not the record of an engine ({e}); remove it and build the engine again",
            field="engines",
        ) from e
    return replace(found, evidence=tuple(found.evidence), weights=tuple(found.weights))


def _inputs(data: Mapping[str, Any]) -> Inputs:
    return Inputs(**{**data, "batch": tuple(data["batch"]), "sizes": tuple(data.get("sizes", ()))})


def sizes_of(contract: GraphContract) -> tuple[dict[str, list[int]], ...]:
    return tuple({name: list(shape) for name, shape in sizes.items()} for sizes in contract.sizes)


def check(
    record: Path, engine: EngineRecord, artifact: Artifact, *, backend: str, version: str, target: str
) -> Path:
    """The plan of a record, if it fits this model, this library and this device. Raises ModelFilesError,
    which names the difference and the command that fixes it."""
    private(record.parent)
    i = engine.inputs
    again = f"; `{command(artifact, i)}` builds it again"

    def refuse(what: str, name: str) -> ModelFilesError:
        return ModelFilesError(f"{record}: {what}{again}", field=name)

    if engine.model != artifact.spec.name:
        raise refuse(f"built for model {engine.model!r}, this is {artifact.spec.name!r}", "model")
    if (i.backend, i.version) != (backend, version):
        raise refuse(f"built by {i.backend} {i.version}, installed is {backend} {version}", "version")
    if i.target not in (target, ANY):
        raise refuse(f"built for {i.target}, this device is {target}", "target")
    graph = artifact.graph(i.role, i.precision)
    if artifact.files[graph.file] != i.graph:
        raise refuse(f"{graph.file} is another graph than the one it was built from", "graph")
    now = weights_of(artifact, graph, i.variant)
    for name in sorted(now.keys() | i.weights.keys()):
        if now.get(name) != i.weights.get(name):
            raise refuse(f"the weights in {name} are others than it was built with", "weights")
    contract = graphs_of(artifact.spec)[i.role]
    if i.sizes != sizes_of(contract):
        raise refuse(f"built for {list(i.sizes)}, the model has {list(sizes_of(contract))}", "sizes")
    for kind, tensors in contract_tensors(contract).items():
        for has, needs in artifacts.zip_all(engine.tensors.get(kind, []), tensors):
            if has != needs:
                raise refuse(f"{i.role}: of its {kind}, {has} should be {needs}", kind)
    if engine.key != i.key or record.stem != i.stem:
        raise refuse("its key is not that of its inputs", "key")
    plan = record.parent / engine.file
    if Path(engine.file).name != engine.file or plan.is_symlink() or not plan.is_file():
        raise refuse(f"its plan {engine.file!r} is missing or lies elsewhere", "file")
    if sha256(plan) != engine.sha256:
        raise refuse(f"{engine.file} is corrupt or was changed: its SHA-256 differs", "sha256")
    return plan


def contents(plan: Path, engine: EngineRecord) -> bytes:
    """A plan's bytes, hashed once more after reading, since files may change between a check and a read.

    Raises ModelFilesError."""
    data = plan.read_bytes()
    if hashlib.sha256(data).hexdigest() != engine.sha256:
        raise ModelFilesError(f"{plan} was changed while it was loaded; try again", field="sha256")
    return data
