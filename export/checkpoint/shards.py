"""Reads and writes safetensors files that are too large for memory, tensor by tensor.

The library maps the whole file as private memory, which fails on a small machine for a shard of ten
gigabytes. Here nothing is mapped. A written file appears under its name only once it is complete. Format:
github.com/huggingface/safetensors, section Format of its README.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from engine.errors import ModelFilesError

DTYPES = {"BF16": torch.bfloat16, "F16": torch.float16, "F32": torch.float32}  # names in safetensors files
PARTIAL = ".part"


class TensorEntry(NamedTuple):
    """A tensor, as described in a header."""

    shape: tuple[int, ...]
    dtype: str
    at: int = 0  # offset of its first byte in the file

    @property
    def nbytes(self) -> int:
        return prod(self.shape) * DTYPES[self.dtype].itemsize


def headers(files: Iterable[Path]) -> dict[Path, dict[str, TensorEntry]]:
    """The entries of each file; reads no tensors. Raises ModelFilesError for a missing or corrupt file."""
    out = {}
    for file in files:
        try:
            out[file] = _header(file)
        except FileNotFoundError:
            raise ModelFilesError(f"{file} is missing; fetch the checkpoint again", field=file.name) from None
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as e:
            raise ModelFilesError(
                f"{file} is not a complete safetensors file ({e}); fetch it again", field=file.name
            ) from e
    return out


def _header(file: Path) -> dict[str, TensorEntry]:
    """A file starts with eight bytes of length and that much JSON; the tensors follow without gaps."""
    size = file.stat().st_size
    with file.open("rb") as f:
        length = int.from_bytes(f.read(8), "little")
        if not 2 <= length <= size - 8:
            raise ValueError(f"it has {size} bytes and a header of {length}")
        header: dict[str, dict[str, Any]] = json.loads(f.read(length))
    header.pop("__metadata__", None)
    start, end = 8 + length, 8 + length
    entries = {}
    for name, about in sorted(header.items(), key=lambda item: int(item[1]["data_offsets"][0])):
        entry = TensorEntry(tuple(int(n) for n in about["shape"]), str(about["dtype"]), end)
        first, last = (int(n) for n in about["data_offsets"])
        if first != end - start or (entry.dtype in DTYPES and last - first != entry.nbytes):
            raise ValueError(f"{name} is not at the offset that its size implies")
        end = start + last
        entries[name] = entry
    if end != size:
        raise ValueError(f"it has {size} bytes instead of {end}")
    return entries


def read(file: Path, entry: TensorEntry) -> Tensor:
    """Read one tensor. Raises ModelFilesError if the file is shorter than its header said."""
    tensor = torch.empty(prod(entry.shape), dtype=DTYPES[entry.dtype])
    with file.open("rb") as f:
        f.seek(entry.at)
        if f.readinto(tensor.view(torch.uint8).numpy().data) != entry.nbytes:
            raise ModelFilesError(f"{file} was truncated while it was read", field=file.name)
    return tensor.reshape(entry.shape)


def split(entries: dict[str, TensorEntry], limit: int) -> list[dict[str, TensorEntry]]:
    """Split entries in order into shards of at most `limit` bytes; a larger tensor gets its own shard."""
    shards: list[dict[str, TensorEntry]] = []
    filled = limit
    for name, entry in entries.items():
        if filled + entry.nbytes > limit:
            shards.append({})
            filled = 0
        shards[-1][name] = entry
        filled += entry.nbytes
    return shards


def write(
    path: Path, entries: dict[str, TensorEntry], source: Callable[[str], Tensor], done: Callable[[int], None]
) -> None:
    """Write one file, with one tensor of `source` in memory at a time. `done` is called with each number of
    bytes written. Raises ModelFilesError for a tensor of another shape than its entry."""
    order = sorted(entries.items(), key=lambda item: -DTYPES[item[1].dtype].itemsize)  # keeps tensors aligned
    head: dict[str, object] = {"__metadata__": {"format": "pt"}}
    at = 0
    for name, e in order:
        head[name] = {"dtype": e.dtype, "shape": e.shape, "data_offsets": (at, at + e.nbytes)}
        at += e.nbytes
    text = json.dumps(head).encode()
    text += b" " * (-len(text) % 8)
    partial = path.with_name(path.name + PARTIAL)
    with partial.open("wb") as out:
        out.write(len(text).to_bytes(8, "little") + text)
        for name, e in order:
            tensor = source(name).to(DTYPES[e.dtype])
            if tuple(tensor.shape) != e.shape:
                raise ModelFilesError(f"{name} is {tuple(tensor.shape)} instead of {e.shape}", field=name)
            out.write(tensor.contiguous().flatten().view(torch.uint8).numpy().data)
            done(e.nbytes)
        out.flush()
        os.fsync(out.fileno())
    partial.replace(path)
