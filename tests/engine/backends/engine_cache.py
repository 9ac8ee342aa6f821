"""A cache of TensorRT engines."""

from __future__ import annotations

from pathlib import Path

from engine.backends.artifact import Artifact


def cache_of(record: Path, artifact: Artifact) -> Path:
    """Where the record would lie."""
    cache = record.parent.parent / "cache"
    place = cache / artifact.spec.name / "decode"
    place.mkdir(parents=True, mode=0o700)
    for file in (record, record.with_suffix(".plan")):
        file.rename(place / file.name)
    return cache
