"""What a denoiser is given: the names of the step contract, taken apart in one place."""

from __future__ import annotations

from dataclasses import fields

import pytest
import torch

from engine.companions.sizes import framepack_spec
from engine.model.conditions import Conditions, denoise_inputs
from engine.model.framepack.roles import Serve
from engine.model.presets import PRESETS
from engine.model.signature import ModelSpec, signature
from tests.rigs.engine import tiny

CAMERA = {"odometer", "acted", "views", "marks", "look", "landmarks"}  # what hints are made of


def wander() -> ModelSpec:
    return tiny.world_model().spec(name="tiny", fps=16, steps=2, first_steps=2)


def framepack() -> ModelSpec:
    c = PRESETS["framepack-f1"].config
    return framepack_spec("framepack-f1", c, Serve(8 * c.latent_height, 8 * c.latent_width, fps=30, steps=25))


@pytest.mark.parametrize("spec", [wander(), framepack()], ids=lambda s: s.name)
def test_every_input_of_the_contract_has_its_place(spec: ModelSpec) -> None:
    inputs = {t.name for t in signature(spec)["denoise"].inputs}
    known = {f.name for f in fields(Conditions)}
    assert inputs - known - {"x", "t", "d"} == (CAMERA if spec.place_columns else set())
    assert known - inputs <= {"actions", "psi_mask", "text_mask", "hints", "scenery", "bare"}


def test_inputs_are_taken_apart_by_name() -> None:
    named = tiny.role_inputs()
    x, t, d, given = denoise_inputs(named)
    assert (x is named["x"], t is named["t"], d is named["d"]) == (True, True, True)
    assert given.psi is named["psi"]
    assert given.text_mask is None
    assert not given.bare


def test_all_tensors_are_changed_and_nothing_else() -> None:
    given = denoise_inputs(tiny.inputs(batch=3)).given
    row = given.map(lambda x: x[:1])
    for f in fields(Conditions):
        before, after = getattr(given, f.name), getattr(row, f.name)
        assert torch.equal(after, before[:1]) if isinstance(before, torch.Tensor) else after == before
