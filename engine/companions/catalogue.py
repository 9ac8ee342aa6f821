"""The files that a model's folder must hold, where each comes from, and under which licence.

Nothing here downloads anything: a missing part is an error with the command that downloads it. Each model's
list is beside its companions. Does not import torch.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from shlex import quote

from engine.errors import InvalidInput, ModelFilesError


@dataclass(frozen=True)
class CompanionPart:
    """`files` are paths below the folder, all of them required. `*` matches anything, `|` separates
    alternatives."""

    what: str
    files: tuple[str, ...]
    source: str  # a repository on Hugging Face, or a URL
    licence: str
    megabytes: int
    include: str = ""  # files of the repository, if they are not in a folder named like the part
    target: str = ""  # suffix of the download's folder, if it is not the folder itself
    then: str = ""  # the command to run after the download


@dataclass(frozen=True)
class Catalogue:
    """All parts that `model` needs, by name. The name is also the part's folder, if it has one."""

    model: str
    parts: Mapping[str, CompanionPart]

    def require(self, folder: Path, *parts: str) -> None:
        """Check that `folder` holds all files of these parts; without `parts`, of all parts.

        Raises ModelFilesError that lists all missing parts at once: what each is, its size, its licence, and
        the command that downloads it. Raises InvalidInput for an unknown part."""
        for part in parts:
            if part not in self.parts:
                raise InvalidInput(f"unknown part {part!r}; known are {list(self.parts)}", field="parts")
        if not folder.is_dir():
            raise ModelFilesError(
                f"there is no folder {folder}; create it and download {self.model}'s parts into it:\n"
                + self._list(folder, parts or self.parts, {}),
                field=str(folder),
            )
        lacking = {part: self.missing(folder, part) for part in parts or self.parts}
        lacking = {part: names for part, names in lacking.items() if names}
        if lacking:
            raise ModelFilesError(
                f"{folder} lacks parts of {self.model}; psistream never downloads them by itself:\n"
                + self._list(folder, lacking, lacking),
                field=next(iter(lacking)),
            )

    def missing(self, folder: Path, part: str) -> list[str]:
        """The files of `part` that `folder` lacks, including each shard that an index of weights names."""
        files = self.parts[part].files
        names = [name for name in files if not any(_found(folder, n) for n in name.split("|"))]
        for name in files:
            stem, sharded, _ = name.partition("*.safetensors")
            if sharded:
                names += _missing_shards(folder, stem + ".safetensors.index.json")
        return names

    def fetch(self, part: str, folder: Path) -> str:
        """The commands that download `part` into `folder`, on one line."""
        p = self.parts[part]
        if p.source.startswith("https://"):
            return f"curl -L --fail -o {quote(str(folder / Path(p.source).name))} {p.source}"
        target = quote(str(folder) + p.target)
        wanted = p.include or ("" if p.target else f"{part}/*")
        include = f" --include {quote(wanted)}" if wanted else ""
        then = f" && {p.then.format(target=target, folder=quote(str(folder)))}" if p.then else ""
        return f"hf download {p.source}{include} --local-dir {target}{then}"

    def _list(self, folder: Path, parts: Iterable[str], lacking: dict[str, list[str]]) -> str:
        lines = []
        for part in parts:
            p = self.parts[part]
            size = f"{p.megabytes / 1000:.1f} GB" if p.megabytes >= 1000 else f"{p.megabytes} MB"
            names = ", ".join(n.replace("|", " or ") for n in lacking.get(part, p.files))
            lines += [
                f"  {part}: {p.what}, {size}, {p.licence}",
                f"    missing: {names}",
                f"    {self.fetch(part, folder)}",
            ]
        return "\n".join(lines)


def _found(folder: Path, name: str) -> bool:
    return any(path.is_file() for path in folder.glob(name))


def _missing_shards(folder: Path, index: str) -> list[str]:
    path = folder / index
    if not path.is_file():
        return []
    try:
        shards = set(json.loads(path.read_text(encoding="utf-8-sig"))["weight_map"].values())
    except (ValueError, KeyError, AttributeError, TypeError) as e:
        raise ModelFilesError(f"{path} is not a weight index ({e}); fetch it again", field=index) from e
    return sorted(str(Path(index).parent / s) for s in shards if not (path.parent / str(s)).is_file())
