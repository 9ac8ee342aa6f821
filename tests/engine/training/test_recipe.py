"""Recipes: what is written is what is meant, and what cannot be meant is refused by name."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest

from engine.errors import InvalidInput
from engine.model.config import ModelConfig
from engine.model.presets import preset
from engine.training.recipe import PACKAGED, load, parse, scaled


def phase(**keys: Any) -> dict[str, Any]:
    return {"name": "one", "steps": 10} | keys


@pytest.mark.parametrize("path", sorted(PACKAGED.glob("*.toml")), ids=lambda p: p.stem)
def test_packaged_recipes_are_sound(path: Path) -> None:
    recipe = load(path.stem)
    assert recipe.dit.phases
    assert "dit" in recipe.stages()
    assert recipe == load(path)


def test_the_built_in_model_is_the_presets_own() -> None:
    assert load("wander").config() == preset("wander").config


def test_a_recipe_changes_fields_of_a_preset_and_leaves_the_rest() -> None:
    model = {"preset": "wander", "dim": 96, "heads": 3, "memory": {"structure": "B"}}
    config = parse({"model": model}).config()
    assert isinstance(config, ModelConfig)
    assert (config.dim, config.memory.structure) == (96, "B")
    assert config.memory.window == preset("wander").config.memory.window
    assert config.packing == preset("wander").config.packing


@pytest.mark.parametrize(
    ("data", "field", "said"),
    [
        ({"sead": 1}, "sead", "recipe: unknown key 'sead'"),
        ({"data": {"lenght": 3}}, "lenght", "recipe.data: unknown key"),
        ({"model": {"preset": "wonder"}}, "model", "no model 'wonder'"),
        ({"model": {"depth": 3}}, "depth", "unknown key 'depth'"),
        ({"autoencoder": {"steps": 1, "config": {"deep": 1}}}, "deep", "unknown key 'deep'"),
        ({"autoencoder": {"lr": 1.0}}, "minutes", "either minutes or steps"),
        ({"dit": {"phases": [phase(objective="reward")]}}, "objective", "must be one of 'teacher', 'direct'"),
        ({"dit": {"phases": [phase(minutes=1)]}}, "minutes", "either minutes or steps"),
        ({"dit": {"phases": [phase(split=1.5)]}}, "split", "phase one: split must lie between 0 and 1"),
        ({"dit": {"phases": [phase(chain=[])]}}, "chain", "numbers of clips from 1 on"),
        (
            {"dit": {"phases": [phase(chain=[1, 15])]}},
            "length",
            "length must be at least 30, for the chains of",
        ),
        ({"dit": {"phases": [phase(), phase()]}}, "phases", "names of their own"),
        ({"dit": {"phases": [phase(name="text")]}}, "phases", "names of their own"),
        (
            {"dit": {"phases": [phase(), {"name": "b", "minutes": 1}]}},
            "phases",
            "minutes, or all of them steps",
        ),
    ],
)
def test_what_cannot_be_meant_is_refused_by_name(data: dict[str, Any], field: str, said: str) -> None:
    with pytest.raises(InvalidInput, match=said) as e:
        parse(data)
    assert e.value.field == field


def test_toml_faults_name_the_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text("seed = ")
    with pytest.raises(InvalidInput, match=r"mine.toml is not TOML: "):
        load(path)
    with pytest.raises(tomllib.TOMLDecodeError):
        tomllib.loads(path.read_text())


def test_longer_chains_come_later() -> None:
    (p,) = parse({"dit": {"phases": [phase(chain=[1, 2, 6])]}}).dit.phases
    assert [p.clips(x) for x in (0.0, 0.33, 0.34, 0.66, 0.67, 1.0)] == [1, 1, 2, 2, 6, 6]


def test_a_new_budget_keeps_the_phases_shares() -> None:
    phases = parse({"dit": {"phases": [phase(), phase(name="two", steps=30)]}}).dit.phases
    assert [p.steps for p in scaled(phases, steps=100)] == [25, 75]
    assert [p.minutes for p in scaled(phases, minutes=8)] == [2, 6]
    assert {p.steps for p in scaled(phases, minutes=8)} == {0}
