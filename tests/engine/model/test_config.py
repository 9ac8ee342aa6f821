"""Configurations from plain data: unknown keys are refused by name, what was written is read again."""

from __future__ import annotations

import json

import pytest

from engine.errors import InvalidInput, ModelFilesError
from engine.model.config import MemoryConfig, ModelConfig, PackingConfig, build
from engine.model.signature import ModelSpec, signature
from engine.model.wander.world_model import WorldModelConfig
from tests.rigs.engine import tiny

SPEC = tiny.world_model().spec(name="tiny", fps=16, steps=2, first_steps=3)


def test_an_unknown_key_is_refused_with_its_name_and_the_known_ones() -> None:
    with pytest.raises(
        InvalidInput, match=r"config: unknown key 'depth'; known are actions, .*, slots$"
    ) as e:
        build(ModelConfig, {"depth": 3})
    assert e.value.field == "depth"


def test_an_unknown_key_deep_inside_is_named_with_its_place() -> None:
    with pytest.raises(InvalidInput, match=r"config\.dit\.packing: unknown key 'anchor'"):
        WorldModelConfig.from_json({"dit": {"packing": {"anchor": "2x"}}, "autoencoder": {}, "text": {}})


def test_a_config_survives_json() -> None:
    data = json.loads(json.dumps(tiny.CONFIG.to_json()))
    assert WorldModelConfig.from_json(data) == tiny.CONFIG


def test_what_is_left_out_has_its_default() -> None:
    assert build(ModelConfig, {}) == ModelConfig()
    assert build(ModelConfig, {"packing": {"anchor_kernel": "2x"}}).packing == PackingConfig(
        anchor_kernel="2x"
    )


def test_the_memory_has_as_many_tokens_as_text_and_image_together() -> None:
    assert MemoryConfig(text_tokens=6, image_tokens=(2, 5)).tokens == 16


def test_a_spec_survives_json() -> None:
    assert ModelSpec.from_json(json.loads(json.dumps(SPEC.to_json()))) == SPEC


def test_a_spec_with_other_keys_is_refused_and_both_kinds_are_named() -> None:
    data = {**SPEC.to_json(), "widht": 160}
    del data["width"]
    with pytest.raises(
        ModelFilesError, match=r"unknown keys \['widht'\] and lacks \['width'\]; export .* again"
    ):
        ModelSpec.from_json(data)


def test_the_signature_names_the_step_contracts_functions() -> None:
    roles = signature(SPEC)
    assert list(roles) == [
        "encode_text",
        "encode_image",
        "embed_image",
        "initial_memory",
        "memorize",
        "squeeze",
        "denoise",
        "decode",
        "keep",
    ]
    assert set(roles) == set(tiny.world_model().roles(SPEC))
    shapes = {t.name: t.shape for t in roles["denoise"].inputs}
    assert shapes["history"] == (19, 16, 6, 10)
    assert shapes["psi"] == (tiny.DIT.memory.tokens, tiny.DIT.dim)
    assert [t.name for t in roles["denoise"].inputs] == [n for n in tiny.role_inputs() if n != "hints"]
