"""Safetensors files too large for memory: read by their headers, written tensor by tensor.

A file appears under its name when it is complete, not before. It knows no models.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable
from math import prod
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from engine.errors import ModelFilesError

DTYPES = {"BF16": torch.bfloat16, "F16": torch.float16, "F32": torch.float32}  # as safetensors name them
PARTIAL = ".part"


class Entry(NamedTuple):
    """A tensor, as a header tells it."""

    shape: tuple[int, ...]
    dtype: str

    @property
    def nbytes(self) -> int:
        return prod(self.shape) * DTYPES[self.dtype].itemsize


def headers(files: Iterable[Path]) -> dict[Path, dict[str, Entry]]:
    """What each file holds. Reads no tensor. Raises ModelFilesError for a file that is missing or corrupt."""
    out: dict[Path, dict[str, Entry]] = {}
    for file in files:
        try:
            with safe_open(file, framework="pt") as shard:
                views = {name: shard.get_slice(name) for name in shard.keys()}  # noqa: SIM118
                out[file] = {n: Entry(tuple(v.get_shape()), str(v.get_dtype())) for n, v in views.items()}
        except FileNotFoundError:
            raise ModelFilesError(f"{file} is missing; fetch the checkpoint again", field=file.name) from None
        except (SafetensorError, OSError) as e:
            raise ModelFilesError(
                f"{file} is not a whole safetensors file ({e}); fetch it again", field=file.name
            ) from e
    return out


def split(entries: dict[str, Entry], limit: int) -> list[dict[str, Entry]]:
    """In order, into as few shards as hold at most `limit` bytes each, or a single larger tensor."""
    shards: list[dict[str, Entry]] = []
    filled = limit
    for name, entry in entries.items():
        if filled + entry.nbytes > limit:
            shards.append({})
            filled = 0
        shards[-1][name] = entry
        filled += entry.nbytes
    return shards


def write(
    path: Path, entries: dict[str, Entry], source: Callable[[str], Tensor], done: Callable[[int], None]
) -> None:
    """One file, in the order of `entries`; at any time one tensor of `source` is held. `done` hears of bytes
    that are written."""
    head: dict[str, object] = {"__metadata__": {"format": "pt"}}
    at = 0
    for name, e in entries.items():
        head[name] = {"dtype": e.dtype, "shape": e.shape, "data_offsets": (at, at + e.nbytes)}
        at += e.nbytes
    text = json.dumps(head).encode()
    text += b" " * (-len(text) % 8)  # data starts at a multiple of 8
    partial = path.with_name(path.name + PARTIAL)
    with partial.open("wb") as out:
        out.write(len(text).to_bytes(8, "little") + text)
        for name, e in entries.items():
            _append(out.fileno(), source(name), e)
            done(e.nbytes)
        out.flush()
        os.fsync(out.fileno())
    partial.replace(path)
