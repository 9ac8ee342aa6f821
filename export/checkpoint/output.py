"""Writes a converted model's folder: config.json and sharded safetensors, tensor by tensor.

An interrupted conversion keeps its finished shards; config.json is written last. Contains no models.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn, TransferSpeedColumn
from torch import Tensor

from engine.errors import ModelFilesError
from engine.model.converted import CONFIG
from export.checkpoint.shards import PARTIAL, TensorEntry, headers, split, write

TYPES = {"bf16": "BF16", "fp16": "F16", "fp32": "F32"}
PLAN = ".convert.json"  # describes the conversion while it is running
INDEX = "model.safetensors.index.json"


def write_model(
    out: Path,
    about: Mapping[str, Any],
    entries: dict[str, TensorEntry],
    tensor: Callable[[str], Tensor],
    *,
    settings: Mapping[str, Any],
    sources: Sequence[Path],
) -> None:
    """Write `about` as config.json and the tensors of `entries`, which `tensor` returns one at a time.
    `settings` (including `shard_bytes`) and `sources` identify the conversion. Raises ModelFilesError."""
    shards = split(entries, settings["shard_bytes"])
    names = [f"model-{k:05d}-of-{len(shards):05d}.safetensors" for k in range(1, len(shards) + 1)]
    dates = {f.name: [f.stat().st_size, f.stat().st_mtime_ns] for f in sources}
    plan = json.loads(json.dumps({"about": about, "options": settings, "sources": dates}))
    begin(out, plan)
    missing = [n for n in names if not (out / n).is_file()]
    needed = sum(
        sum(e.nbytes for e in s.values()) for n, s in zip(names, shards, strict=True) if n in missing
    )
    free = shutil.disk_usage(out).free
    if needed > free:
        raise ModelFilesError(
            f"{out}: {needed / 1e9:.1f} GB are needed, but only {free / 1e9:.1f} are free", field="OUT"
        )
    total = sum(e.nbytes for e in entries.values())
    where = {key: name for name, shard in zip(names, shards, strict=True) for key in shard}
    columns = (BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    try:
        with Progress(*columns, console=Console(stderr=True)) as progress:
            bar = progress.add_task("converting", total=needed)
            for name, shard in zip(names, shards, strict=True):
                if name in missing:
                    write(out / name, shard, tensor, lambda done: progress.advance(bar, done))
                elif {n: e._replace(at=0) for n, e in headers([out / name])[out / name].items()} != shard:
                    raise ModelFilesError(f"{out / name} is not the expected shard; delete it", field="OUT")
        write_json(out / INDEX, {"metadata": {"total_size": total}, "weight_map": where})
        write_json(out / CONFIG, about)
        (out / PLAN).unlink()
    except OSError as e:
        raise ModelFilesError(
            f"{e}; finished shards are kept: run the same command to continue", field="OUT"
        ) from e


def begin(out: Path, plan: Mapping[str, Any]) -> None:
    """Record what is being converted, or check that an interrupted conversion was the same one. Raises
    ModelFilesError."""
    out.mkdir(parents=True, exist_ok=True)
    file = out / PLAN
    if file.is_file():
        try:
            same = json.loads(file.read_text()) == plan
        except ValueError:
            same = False
        if not same:
            raise ModelFilesError(
                f"{out} holds another, unfinished conversion; delete {file} and {out}/model-*",
                field="OUT",
            )
        return
    found = sorted(p.name for p in out.glob("model*.safetensors"))
    if found:
        raise ModelFilesError(f"{out} already holds {found[0]}, which would be overwritten", field="OUT")
    write_json(file, plan)


def write_json(file: Path, data: Mapping[str, Any]) -> None:
    partial = file.with_name(file.name + PARTIAL)
    partial.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
    partial.replace(file)
