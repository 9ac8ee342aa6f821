"""The tiny world model, exported. That takes half a minute, so it is kept for later runs, until the sources
of engine, export or the tiny model change, or the libraries that export it."""

from __future__ import annotations

import hashlib
import platform
import shutil
from importlib.metadata import version
from pathlib import Path

from filelock import FileLock

from export.wander import export_onnx
from tests.rigs.engine import tiny
from tests.rigs.paths import ROOT

LIBRARIES = ("torch", "onnx", "onnx-ir", "onnxscript", "numpy", "safetensors", "tokenizers")


def cached_export(folder: Path, cache: Path | None) -> None:
    """Fill `folder` with `model`, the artifact, and `text`, which it was made from; copied from `cache` where
    it has them. Only the newest is kept there."""
    if cache is None:
        export(folder)
        return
    kept = cache / key()
    with FileLock(cache / "lock"):
        if not kept.exists():
            for old in cache.glob("*/"):
                shutil.rmtree(old)
            export(cache / "making")
            (cache / "making").rename(kept)
        shutil.copytree(kept, folder)


def export(folder: Path) -> None:
    tiny.write_text_files(folder / "text")
    export_onnx(
        tiny.world_model(), folder / "model", name="tiny", steps=2, first_steps=3, text=folder / "text"
    )


def key() -> str:
    """A hash of everything that the artifact depends on."""
    digest = hashlib.sha256(platform.python_version().encode())
    for library in LIBRARIES:
        digest.update(f"{library} {version(library)}\n".encode())
    sources = [file for room in ("engine", "export") for file in (ROOT / room).rglob("*.py")]
    for file in sorted([*sources, Path(tiny.__file__), Path(__file__)]):
        digest.update(str(file.relative_to(ROOT)).encode() + b"\n" + file.read_bytes())
    return digest.hexdigest()[:32]
