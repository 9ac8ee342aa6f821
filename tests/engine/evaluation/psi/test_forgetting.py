"""The remaining difference between two pasts, and None for a model that ignores ψ."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from engine.evaluation.psi.forgetting import SAME, remaining
from engine.training.data.latents import Pool
from tests.rigs.engine import tiny

C = tiny.DIT


def a_pool(count: int = 5) -> Pool:
    g = torch.Generator().manual_seed(0)
    latents = torch.randn(count, 60, C.channels, C.latent_height, C.latent_width, generator=g)
    none = torch.zeros(count, 60, dtype=torch.int64)
    return Pool(latents.half(), none[..., None].expand(-1, -1, 5), none)


class Halving(nn.Module):
    """A recurrence whose memory is known: ψ ← ψ / 2 + m."""

    def forward(self, psi: Tensor, memory: Tensor) -> Tensor:
        return psi / 2 + memory


def test_the_difference_of_a_halving_memory_halves() -> None:
    model = tiny.dit()
    model.squeeze = Halving()  # type: ignore[assignment]
    found = remaining(model, a_pool())
    assert found is not None
    for updates in SAME:
        assert found[updates] == pytest.approx([0.5**updates] * 2, rel=1e-2)


def test_structures_differ_in_how_fast_they_forget() -> None:
    """Untrained, structure A queries ψ with the new memory and keeps the memory; B and C keep ψ and add to
    it."""
    kept = {}
    for structure in ("A", "B", "C"):
        memory = replace(C.memory, structure=structure)
        found = remaining(tiny.dit(replace(C, memory=memory)), a_pool())
        assert found is not None
        kept[structure] = sum(found[4]) / len(found[4])
    assert kept["A"] < kept["B"]
    assert kept["A"] < kept["C"]


def test_a_model_that_ignores_psi_has_no_figure() -> None:
    assert remaining(tiny.dit(replace(C, memory=replace(C.memory, key_bias=-10000.0))), a_pool()) is None
