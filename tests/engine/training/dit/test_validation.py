"""Figures and pictures of a run: repeatable, quiet about randomness, and what they say they are."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from engine.training.dit.ceiling import Flops, count, matmul_ceiling
from engine.training.dit.validation import contact_sheet, rollout, sample_errors
from engine.training.pictures import draw_curves, tile, write_png
from tests.rigs.engine import tiny
from tests.rigs.engine.training_rig import some_chains


def test_figures_are_repeatable_and_leave_the_random_state_alone() -> None:
    model, chains = tiny.dit(), some_chains(4, 1)
    torch.manual_seed(3)
    before = torch.random.get_rng_state()
    first = sample_errors(model, chains, (1, 2))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert first == sample_errors(model, chains, (1, 2))
    assert first.keys() == {"copy_error", "error_1_steps", "error_2_steps"}
    assert first["copy_error"] == pytest.approx(2, rel=0.3)  # repeating one normal latent for another


def test_a_rollout_goes_on_from_what_it_made() -> None:
    model, chains = tiny.dit(), some_chains(2, 3)
    whole = rollout(model, chains, 2)
    assert whole.shape == chains.targets.shape
    torch.testing.assert_close(rollout(model, chains, 2, segments=2), whole[:, :2])
    chains.targets.zero_()  # the truth is not looked at
    torch.testing.assert_close(rollout(model, chains, 2), whole)


def test_a_contact_sheet_has_the_truth_above_what_was_generated() -> None:
    chains = some_chains(2, 3)
    sheet = contact_sheet(tiny.dit(), chains, tiny.world_model().autoencoder, 1)
    assert sheet.shape == (3, 4 * 50, 3 * 82)
    assert sheet.dtype == torch.uint8


def test_pictures_are_files_that_others_can_read(tmp_path: Path) -> None:
    rows = torch.randint(0, 256, (2, 3, 3, 8, 10), dtype=torch.uint8)
    picture = tile(rows, gap=2)
    write_png(tmp_path / "sheet.png", picture)
    with Image.open(tmp_path / "sheet.png") as image:
        read = np.asarray(image)
    assert read.shape == (20, 36, 3)
    assert np.array_equal(read, picture.permute(1, 2, 0).numpy())
    assert np.array_equal(read[10:18, 12:22], rows[1, 1].permute(1, 2, 0).numpy())
    assert (read[8:10] == 255).all()


def test_curves_are_drawn_from_the_log(tmp_path: Path) -> None:
    rows = [
        {"step": n, "elapsed_s": n, "phase": "a" if n < 3 else "b", "loss": 1 / n, "error_2_steps": 0.5}
        for n in range(1, 6)
    ]
    (tmp_path / "dit.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert draw_curves(tmp_path / "dit.jsonl", tmp_path / "curves.png")
    with Image.open(tmp_path / "curves.png") as image:
        assert image.size == (990, 405)


def test_operations_are_counted_forward_and_backward() -> None:
    a, b = torch.randn(4, 8, requires_grad=True), torch.randn(8, 16)
    with Flops() as flops:
        (a @ b).sum().backward()
    assert flops.total == 2 * (2 * 4 * 8 * 16)  # the product, and the gradient of a


def test_counting_gives_the_randomness_back() -> None:
    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    assert count(lambda: torch.randn(3, 3) @ torch.randn(3, 3)) == 2 * 27
    assert torch.equal(torch.random.get_rng_state(), before)


def test_the_ceiling_is_a_rate() -> None:
    assert matmul_ceiling(torch.device("cpu"), seconds=0.01) > 1e8
