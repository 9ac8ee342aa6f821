"""The world's pictures on a device."""

from __future__ import annotations

import pytest
import torch

from engine.world.drawing.render import render
from engine.world.episodes import sample_episodes

pytestmark = pytest.mark.gpu


def test_pictures_are_the_same_on_the_gpu() -> None:
    episodes = sample_episodes(2, 8, torch.Generator().manual_seed(1), changes=8)
    here, there = render(episodes), render(episodes.to("cuda"), chunk=256).cpu()
    assert ((here.int() - there.int()).abs() <= 2).float().mean() > 0.999
