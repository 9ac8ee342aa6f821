"""Manifests of model folders, as anybody may have written them."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import reduce
from operator import getitem
from pathlib import Path
from typing import Any

import pytest

from engine.backends.artifact import (
    open_artifact,
)
from engine.backends.locations import locations
from engine.errors import ModelFilesError
from engine.model.signature import signature
from tests.engine.backends.model_folder import edit, pointing_at, refused
from tests.rigs.engine import tiny

SPEC = tiny.world_model().spec(name="tiny", fps=16, steps=2, first_steps=3)

DECODE = signature(SPEC)["decode"]


def test_fields_that_are_not_known_here_are_refused() -> None:
    with pytest.raises(ValueError, match="field 99"):
        locations(pointing_at("x") + b"\x9a\x06\x01a")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("files", {"\0": "x"}),
        ("files", {"a" * 5000: "x"}),
        ("files", [1]),
        ("spec", []),
        ("spec", 3),
        ("graphs", 3),
        ("graphs", [3]),
        ("graphs", {"a": 1}),
        ("config", 3),
        ("tools", "x"),
        ("evidence", 1.5),
        ("format", {}),
    ],
)
def test_whatever_a_manifest_says_the_error_is_one_of_model_files(
    folder: Path, key: str, value: object
) -> None:
    edit(folder, lambda data: data.__setitem__(key, value))
    with pytest.raises(ModelFilesError):
        open_artifact(folder)


@pytest.mark.parametrize("value", [10**7, 10**12, 2**63, -1, 1.5, "x", None, [10**9] * 3])
def test_extreme_sizes_of_a_spec_are_refused_before_anything_is_computed(folder: Path, value: object) -> None:
    """Some of them took for ever."""
    for name in SPEC.to_json():
        if isinstance(getattr(SPEC, name), int) and not isinstance(getattr(SPEC, name), bool):
            edit(folder, lambda data, name=name: data["spec"].__setitem__(name, value))  # type: ignore[misc]
            with pytest.raises(ModelFilesError):
                open_artifact(folder)
            edit(folder, lambda data, name=name: data["spec"].__setitem__(name, getattr(SPEC, name)))  # type: ignore[misc]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("name", "../x"),
        ("name", "a\x1b[2J"),
        ("steps", 2**20),
        ("first_steps", 1001),
        ("fps", 241),
        ("sampler", "dice"),
        ("shift_by", "x"),
        ("stage_steps", [1, 1]),
        ("start_noise", [0.5, 0.1]),
        ("history", [0, 0, 0]),
        ("attributes", ["place"]),
        ("attributes", [" "]),
        ("attributes", ["hero fox", "hero cube"]),
        ("actions", ["left", "left"]),
        ("actions", ["left", "\n"]),
        ("landmark_spacing_px", 1),
        ("memory_ring", 2**20),
        ("width", 2**20),
    ],
)
def test_values_that_could_not_play_are_refused_by_name(folder: Path, key: str, value: object) -> None:
    """A million steps never ended, and the name leads to a folder in the cache."""
    edit(folder, lambda data: data["spec"].__setitem__(key, value))
    assert "manifest: spec: " in str(refused(folder, "spec"))


def places(data: Any) -> Iterator[list[Any]]:
    """The way to each value of a manifest."""
    inner = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    for key, value in inner:
        yield [key]
        for rest in places(value):
            yield [key, *rest]


def test_no_mutation_of_any_field_gives_another_error_or_a_long_one(folder: Path) -> None:
    """Once 7 exceptions were of other kinds, and two values took for ever."""
    whole, chance = json.loads((folder / "manifest.json").read_text()), random.Random(16)
    odd: list[Any] = [None, True, 0, -1, 2**20, 10**30, 0.5, float("nan"), "", "\x1b\0\ud800", "a" * 9000]
    odd += [[], {}, [[]], ["a", "a"], [7] * 500, {"": []}]
    for place in places(whole):
        for value in chance.sample(odd, 4 if place[0] == "spec" else 2):
            data = copy.deepcopy(whole)
            *way, last = place
            reduce(getitem, way, data)[last] = value
            (folder / "manifest.json").write_text(json.dumps(data))
            with suppress(ModelFilesError):
                open_artifact(folder)
                continue
            told = str(refused(folder, "."))
            assert len(told) < 1500
            assert told.isprintable()


@pytest.mark.parametrize("name", ["role", "file", "precision", "inputs", "outputs"])
@pytest.mark.parametrize("value", [None, 3, {}, [[]]])
def test_a_graphs_entry_of_another_kind_is_refused(folder: Path, name: str, value: object) -> None:
    edit(folder, lambda data: data["graphs"][0].__setitem__(name, value))
    with pytest.raises(ModelFilesError):
        open_artifact(folder)


@pytest.mark.parametrize("key", ["format", "spec", "files", "graphs", "config", "tools", "evidence"])
def test_a_manifest_that_lacks_a_part_is_no_manifest(folder: Path, key: str) -> None:
    edit(folder, lambda data: data.pop(key))
    assert (
        refused(folder, rf"is not a manifest \(KeyError: '{key}'\); `psistream export onnx").field == "model"
    )


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "3", '"text"', '{"format": 1, "files": 3}', "\udcff", "null"]
)
def test_what_is_no_json_of_ours_is_no_manifest(folder: Path, text: str) -> None:
    (folder / "manifest.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    assert refused(folder, "is not a manifest").field == "model"


@pytest.mark.parametrize(
    "change",
    [
        lambda data: data["spec"].update(height="tall"),
        lambda data: data["spec"].update(actions="idle"),
        lambda data: data["spec"].update(history=[16, 2]),
        lambda data: data["spec"].update(steps=0),
        lambda data: data["spec"].update(fps=None),
    ],
)
def test_a_spec_with_values_of_the_wrong_kind_is_refused(
    folder: Path, change: Callable[[dict[str, Any]], object]
) -> None:
    edit(folder, change)
    assert refused(folder, "spec").field == "spec"
