"""A model on disk: a folder with `manifest.json`, graphs and weights, checked byte for byte before anything
is loaded.

manifest.json: {"format": 1, "spec": ModelSpec, "config": {...}, "files": {name: sha256}, "roles": {role:
graph file}}. Files are plain names inside the folder; nothing outside it is ever opened. No torch here.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.errors import ModelFilesError
from engine.model.signature import ModelSpec

FORMAT = 1
WEIGHTS = "model.safetensors"
EMBEDDINGS = "embeddings.safetensors"
TOKENIZER = "tokenizer.json"
BUILT_IN = Path(__file__).parent.parent / "weights" / "wander"


@dataclass(frozen=True)
class Artifact:
    path: Path
    spec: ModelSpec
    config: dict[str, Any]
    files: dict[str, str]
    roles: dict[str, str]

    def file(self, name: str) -> Path:
        return self.path / name


def sha256(path: Path) -> str:
    with path.open("rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


def open_artifact(path: Path | None) -> Artifact:
    """Read the manifest and verify every file's hash; None means the model that comes with psistream.

    Raises ModelFilesError naming the file and what mends it."""
    folder = path or BUILT_IN
    manifest = folder / "manifest.json"
    if not manifest.is_file():
        raise ModelFilesError(
            f"{manifest} not found: --model must name a folder made by `psistream export`"
            + ("" if path else "; the built-in weights are missing, clone the repository again"),
            field="model",
        )
    try:
        data = json.loads(manifest.read_text())
        version, files, roles = data["format"], dict(data["files"]), dict(data["roles"])
        spec, config = ModelSpec.from_json(data["spec"]), dict(data["config"])
    except (ValueError, KeyError, TypeError) as e:
        raise ModelFilesError(
            f"{manifest} is not a manifest ({type(e).__name__}: {e}); export the model again", field="model"
        ) from e
    if version != FORMAT:
        raise ModelFilesError(
            f"{manifest} has format {version}, this version reads {FORMAT}; export the model again",
            field="format",
        )
    for name in (WEIGHTS, EMBEDDINGS, TOKENIZER):
        if name not in files:
            raise ModelFilesError(f"{manifest} does not list {name}; export the model again", field="files")
    for name, expected in files.items():
        file = folder / name
        if Path(name).name != name or name == ".." or file.is_symlink():
            raise ModelFilesError(
                f"{manifest}: file {name!r} must be a plain name in the folder", field="files"
            )
        if not file.is_file():
            raise ModelFilesError(f"{file} is missing; restore it (git checkout) or export again", field=name)
        if sha256(file) != expected:
            raise ModelFilesError(
                f"{file} is corrupt or was changed: its SHA-256 differs from the manifest's; "
                "restore it (git checkout) or export again",
                field=name,
            )
    for role, name in roles.items():
        if name not in files:
            raise ModelFilesError(
                f"{manifest}: role {role!r} names {name!r}, which is not among its files", field="roles"
            )
    return Artifact(folder, spec, config, files, roles)


def write_manifest(folder: Path, spec: ModelSpec, config: dict[str, Any], roles: dict[str, str]) -> None:
    """Hash every other file of the folder and write the manifest last."""
    files = {f.name: sha256(f) for f in sorted(folder.iterdir()) if f.is_file() and f.name != "manifest.json"}
    data = {"format": FORMAT, "spec": spec.to_json(), "config": config, "files": files, "roles": roles}
    (folder / "manifest.json").write_text(json.dumps(data, indent=1) + "\n")
