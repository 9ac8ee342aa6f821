"""A model on disk: a folder with `manifest.json`, graphs and weights. Every byte is checked before anything
is loaded.

manifest.json: {"format": 2, "spec": ModelSpec, "config": {...}, "files": {name: sha256}, "graphs": [Graph],
"tools": {name: version}, "evidence": [...]}. Files are plain names inside the folder; nothing outside it is
ever opened, not even by a graph. No torch here.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from engine.backends.locations import locations
from engine.errors import ModelFilesError
from engine.model.graphs import GraphContract, graph_of, graphs_of
from engine.model.signature import ModelSpec, Tensor

FORMAT = 2
MANIFEST = "manifest.json"
WEIGHTS = "model.safetensors"
EMBEDDINGS = "embeddings.safetensors"
TOKENIZER = "tokenizer.json"
BUILT_IN = Path(__file__).parent.parent / "weights" / "wander"
NEEDED = (WEIGHTS, EMBEDDINGS, TOKENIZER)  # by models of the built-in world
MOST_BYTES = 4 * 2**20  # of a manifest
MOST_OF_ERROR = 300  # letters of what a manifest says that an error repeats
BATCH = "batch"  # the axis that every tensor has first


@dataclass(frozen=True)
class Graph:
    """One role as ONNX, or several that share a graph (engine.model.graphs). Inputs and outputs: {"name",
    "dtype", "shape": ["batch", …]}."""

    role: str
    file: str
    precision: str  # of its arithmetic: fp32, bf16 or fp16
    opset: int
    ir_version: int
    nodes: int
    operators: dict[str, int]
    inputs: list[dict[str, Any]]
    outputs: list[dict[str, Any]]


@dataclass(frozen=True)
class Artifact:
    path: Path
    spec: ModelSpec
    config: dict[str, Any]
    files: dict[str, str]
    graphs: tuple[Graph, ...]
    tools: dict[str, str] = field(default_factory=dict)
    evidence: tuple[dict[str, Any], ...] = ()

    def file(self, name: str) -> Path:
        return self.path / name

    @property
    def fingerprint(self) -> str:
        """Identifies weights, embeddings and tokenizer; the same for all graphs of a model."""
        hashes = [self.files.get(name, "") for name in NEEDED]
        return hashlib.sha256("".join(hashes).encode()).hexdigest()[:16]

    def graph(self, role: str, precision: str = "fp32") -> Graph:
        """The graph that serves a role. Raises ModelFilesError if there is none."""
        for graph in self.graphs:
            if (graph.role, graph.precision) == (graph_of(role), precision):
                return graph
        raise ModelFilesError(
            f"{self.path / MANIFEST}: no {precision} graph for role {role!r}; "
            f"`psistream export onnx --precision {precision}` makes one",
            field="graphs",
        )


def sha256(path: Path) -> str:
    with path.open("rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


def again(folder: Path) -> str:
    """The command that regenerates a folder's files, for the end of an error message."""
    if folder == BUILT_IN:
        return f"`git checkout -- {folder}` restores it"
    return f"`psistream export onnx --run RUN --out {folder}` makes it again (full-size: --model, --weights)"


def _brief(error: Exception) -> str:
    return f"{type(error).__name__}: {error!s:.{MOST_OF_ERROR}}"


def described(tensors: Iterable[Tensor]) -> list[dict[str, Any]]:
    """Inputs or outputs of the step contract, as a manifest lists them."""
    return [{"name": t.name, "dtype": t.dtype, "shape": [BATCH, *t.shape]} for t in tensors]


def contract_tensors(contract: GraphContract) -> dict[str, list[dict[str, Any]]]:
    """Inputs and outputs of a graph, as a manifest lists them; "stage" is a length that differs by role."""
    told: dict[str, list[dict[str, Any]]] = {}
    kinds: tuple[Literal["inputs", "outputs"], ...] = ("inputs", "outputs")
    for kind in kinds:
        tensors: tuple[Tensor, ...] = getattr(contract.largest, kind)
        told[kind] = described(tensors)
        for tensor, entry in zip(tensors, told[kind], strict=True):
            entry["shape"] = [BATCH, *contract.shape(tensor, kind)]
    return told


def read_manifest(path: Path | None) -> tuple[Path, dict[str, Any]]:
    """The manifest of a folder, in any format version. Raises ModelFilesError."""
    folder = path or BUILT_IN
    manifest = folder / MANIFEST
    if not manifest.is_file():
        raise ModelFilesError(
            f"{manifest} not found: --model must name a folder made by `psistream export`"
            + ("" if path else "; the built-in weights are missing, clone the repository again"),
            field="model",
        )
    try:
        if manifest.stat().st_size > MOST_BYTES:
            raise ValueError(f"it has more than {MOST_BYTES} bytes")
        data = json.loads(manifest.read_text(encoding="utf-8-sig"))
        data["format"], dict(data["files"])
    except (ValueError, KeyError, TypeError, OSError, RecursionError) as e:
        raise ModelFilesError(
            f"{manifest} is not a manifest ({_brief(e)}); {again(folder)}", field="model"
        ) from e
    assert isinstance(data, dict)  # a list or a text has no such keys
    return folder, data


def open_artifact(path: Path | None, needs: Sequence[str] = NEEDED) -> Artifact:
    """Read the manifest and verify every file's hash; None means the model that comes with psistream.

    Raises ModelFilesError, which names the file and the fix."""
    folder, data = read_manifest(path)
    try:
        return _opened(folder, data, needs)
    except (AttributeError, TypeError, ValueError, LookupError, OSError, OverflowError, RecursionError) as e:
        raise ModelFilesError(
            f"{folder / MANIFEST} is not a manifest ({_brief(e)}); {again(folder)}", field="model"
        ) from e


def _opened(folder: Path, data: dict[str, Any], needs: Sequence[str]) -> Artifact:
    manifest = folder / MANIFEST
    version = data["format"]
    if version != FORMAT:
        mend = f"`psistream export upgrade {folder}` rewrites it" if version == 1 else again(folder)
        raise ModelFilesError(
            f"{manifest} has format {version!r:.40}, this version reads {FORMAT}; {mend}", field="format"
        )
    spec, config = ModelSpec.from_json(data["spec"]), dict(data["config"])
    files = dict(data["files"])
    graphs = tuple(_graph(g) for g in data["graphs"])
    tools, evidence = dict(data["tools"]), tuple(dict(e) for e in data["evidence"])
    for name in needs:
        if name not in files:
            raise ModelFilesError(f"{manifest} does not list {name}; {again(folder)}", field="files")
    check_files(folder, files)
    for graph in graphs:
        check_graph(folder, spec, files, graph)
    return Artifact(folder, spec, config, files, graphs, tools, evidence)


def check_files(folder: Path, files: Mapping[str, str]) -> None:
    """Raises ModelFilesError if a listed file is missing, is elsewhere, or has other bytes."""
    manifest = folder / MANIFEST
    for name, expected in files.items():
        file = folder / name
        if Path(name).name != name or name == ".." or file.is_symlink():
            raise ModelFilesError(
                f"{manifest}: file {name!r:.80} must be a plain name in the folder", field="files"
            )
        if not file.is_file():
            raise ModelFilesError(f"{file} is missing; {again(folder)}", field=name)
        if sha256(file) != expected:
            raise ModelFilesError(
                f"{file} is corrupt or was changed: its SHA-256 differs from the manifest's; {again(folder)}",
                field=name,
            )


def check_graph(folder: Path, spec: ModelSpec, files: Mapping[str, str], graph: Graph) -> None:
    """Raises ModelFilesError if a graph differs from the contract, or points at a file without a hash."""
    manifest = folder / MANIFEST
    if graph.file not in files:
        raise ModelFilesError(
            f"{manifest}: role {graph.role!r:.80} names {graph.file!r:.80}, which is not among its files",
            field="graphs",
        )
    roles = graphs_of(spec)
    if graph.role not in roles:
        raise ModelFilesError(
            f"{manifest}: {graph.role!r:.80} is no role of {spec.name}; known are {', '.join(roles)}",
            field="graphs",
        )
    wanted = contract_tensors(roles[graph.role])
    for kind, stated in (("input", graph.inputs), ("output", graph.outputs)):
        for has, needs in zip_all(stated, wanted[f"{kind}s"]):
            if has != needs:
                raise ModelFilesError(
                    f"{manifest}: {graph.role}: {kind} {has!r:.{MOST_OF_ERROR}} should be {needs}; "
                    f"{again(folder)}",
                    field=graph.role,
                )
    try:
        pointed = locations((folder / graph.file).read_bytes(), functions=False)
    except ValueError as e:
        raise ModelFilesError(
            f"{folder / graph.file} is not an ONNX file: {e}; {again(folder)}", field=graph.file
        ) from e
    for name in sorted(pointed):
        if name not in files:
            raise ModelFilesError(
                f"{folder / graph.file} points at {name!r:.80}, which is not among the manifest's files; "
                f"{again(folder)}",
                field=graph.file,
            )


def zip_all(a: Sequence[Any], b: Sequence[Any]) -> Iterable[tuple[Any, Any]]:
    """Like zip, with None where one sequence is shorter."""
    for n in range(max(len(a), len(b))):
        yield (a[n] if n < len(a) else None), (b[n] if n < len(b) else None)


def _graph(data: Mapping[str, Any]) -> Graph:
    names = {f.name for f in fields(Graph)}
    if set(data) != names:
        raise ValueError(f"a graph has {sorted(data)!s:.80}, should have {sorted(names)}")
    for kind, of_kind in (
        (str, ("role", "file", "precision")),
        (int, ("opset", "ir_version", "nodes")),
        (dict, ("operators",)),
        (list, ("inputs", "outputs")),
    ):
        for name in of_kind:
            if not isinstance(data[name], kind):
                raise ValueError(f"{name} of a graph should be {kind.__name__}, not {data[name]!r:.80}")
    if not all(isinstance(n, int) for n in data["operators"].values()):
        raise ValueError("operators of a graph should be counts")
    return Graph(**data)


def write_manifest(
    folder: Path,
    spec: ModelSpec,
    config: Mapping[str, Any],
    graphs: Iterable[Graph],
    tools: Mapping[str, str] | None = None,
    evidence: Iterable[Mapping[str, Any]] = (),
) -> None:
    """Hash every other file of the folder, then write the manifest atomically."""
    found = sorted(f for f in folder.iterdir() if f.is_file() and f.name != MANIFEST)
    data = {
        "format": FORMAT,
        "spec": spec.to_json(),
        "config": dict(config),
        "files": {f.name: sha256(f) for f in found},
        "graphs": [asdict(g) for g in graphs],
        "tools": dict(tools or {}),
        "evidence": [dict(e) for e in evidence],
    }
    replace(folder / MANIFEST, json.dumps(data, indent=1) + "\n")


def replace(file: Path, text: str) -> None:
    """Write a file atomically: readers see all of the old text or all of the new."""
    new = file.with_name(f".{file.name}.new")
    new.write_text(text)
    new.replace(file)
