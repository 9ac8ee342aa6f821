"""What is left of a difference between two pasts: shares, and nothing for a model that does not hear ψ."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from engine.evaluation.psi.forgetting import SAME, left
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


def test_a_memory_that_halves_has_halved() -> None:
    model = tiny.dit()
    model.squeeze = Halving()  # type: ignore[assignment]
    found = left(model, a_pool())
    assert found is not None
    for updates in SAME:
        assert found[updates] == pytest.approx([0.5**updates] * 2, rel=1e-2)


def test_structures_differ_in_how_fast_they_forget() -> None:
    """As they begin: A asks ψ with what it sees and keeps what it sees; B and C keep ψ and add to it."""
    kept = {}
    for structure in ("A", "B", "C"):
        memory = replace(C.memory, structure=structure)
        found = left(tiny.dit(replace(C, memory=memory)), a_pool())
        assert found is not None
        kept[structure] = sum(found[4]) / len(found[4])
    assert kept["A"] < kept["B"]
    assert kept["A"] < kept["C"]


def test_where_nobody_hears_psi_there_is_nothing_to_tell() -> None:
    assert left(tiny.dit(replace(C, memory=replace(C.memory, key_bias=-10000.0))), a_pool()) is None
