"""Reads a public checkpoint in diffusers' format: diffusion_pytorch_model*.safetensors, as one file or as
shards with an index. Strict: an unknown tensor is an error and is never dropped. Contains no models.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from engine.errors import ModelFilesError
from export.checkpoint.shards import DTYPES, TensorEntry, headers, read

NAME = "diffusion_pytorch_model"


class Checkpoint:
    """The tensors of a folder. All are checked before any is read, and each is read separately.

    Raises ModelFilesError that names every tensor that is missing, unexpected, or has another shape or
    type."""

    def __init__(self, folder: Path, wanted: Mapping[str, tuple[int, ...]]) -> None:
        self.files = _files(folder)
        self.entries: dict[str, TensorEntry] = {}
        self._where: dict[str, Path] = {}
        wrong = []
        for file, entries in headers(self.files).items():
            for name, entry in entries.items():
                if name in self.entries:
                    wrong.append(f"twice: {name}, in {self._where[name].name} and in {file.name}")
                elif name not in wanted:
                    wrong.append(f"too many: {name} {entry.shape}, in {file.name}")
                elif entry.shape != wanted[name]:
                    wrong.append(f"misshaped: {name} is {entry.shape}, must be {wanted[name]}")
                elif entry.dtype not in DTYPES:
                    wrong.append(f"type: {name} is {entry.dtype}, must be one of {', '.join(DTYPES)}")
                self.entries[name], self._where[name] = entry, file
        wrong += [f"missing: {name} {shape}" for name, shape in wanted.items() if name not in self.entries]
        if wrong:
            raise ModelFilesError(
                f"{folder} is not the checkpoint that its config.json describes; {len(wrong)} of "
                f"{len(wanted)} tensors differ:\n  " + "\n  ".join(wrong),
                field="DIR",
            )

    def tensor(self, name: str) -> Tensor:
        return read(self._where[name], self.entries[name])


def _files(folder: Path) -> list[Path]:
    """The shards that the index names, or the single file."""
    index = folder / f"{NAME}.safetensors.index.json"
    single = folder / f"{NAME}.safetensors"
    if index.is_file():
        try:
            return [
                folder / n
                for n in sorted(set(json.loads(index.read_text(encoding="utf-8-sig"))["weight_map"].values()))
            ]
        except (OSError, ValueError, KeyError, AttributeError, TypeError) as e:
            raise ModelFilesError(
                f"{index} is not a weight index ({e}); fetch it again", field=index.name
            ) from e
    if single.is_file():
        return [single]
    raise ModelFilesError(
        f"{folder} has neither {index.name} nor {single.name}: DIR must be the folder of a public "
        "checkpoint, as downloaded",
        field="DIR",
    )
