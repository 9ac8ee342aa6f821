"""The autoencoder's stage: its figures, its latents' statistics, and what a run leaves behind."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from engine.model.autoencoder import Autoencoder
from engine.training.autoencoder import fit_statistics, load_autoencoder, psnr, reconstruction_loss
from tests import tiny


def clips() -> torch.Tensor:
    g = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (4, 8, 3, 48, 80), generator=g, dtype=torch.uint8)


@torch.no_grad()
def test_statistics_make_latents_normal_whatever_they_were_before() -> None:
    model = tiny.world_model().autoencoder
    fit_statistics(model, clips())
    z = model.encode(clips().float() / 127.5 - 1)
    torch.testing.assert_close(z.mean((0, 1, 3, 4)), torch.zeros(16), atol=1e-4, rtol=0)
    torch.testing.assert_close(z.std((0, 1, 3, 4)), torch.ones(16), atol=1e-3, rtol=0)


def test_the_figure_counts_eight_bit_errors() -> None:
    class Off(Autoencoder):
        """Decodes every clip one step too bright."""

        def encode(self, pixels: torch.Tensor) -> torch.Tensor:
            return pixels

        def decode(self, latents: torch.Tensor, state: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return latents + 2 / 255, state

    dark = clips() // 2
    assert psnr(Off(tiny.CONFIG.autoencoder), dark) == pytest.approx(48.13, abs=0.01)  # 20 log10 255


def test_blur_costs_more_than_the_same_error_spread_evenly() -> None:
    target = torch.zeros(1, 3, 8, 8)
    target[..., 4:] = 1
    blurred = target.clone()
    blurred[..., 3], blurred[..., 4] = 0.5, 0.5
    even = target + (blurred - target).abs().mean()
    assert float(reconstruction_loss(target, target)) == 0
    assert float(reconstruction_loss(blurred, target)) > float(reconstruction_loss(even, target))


def test_a_finished_autoencoder_is_loaded_frozen(tmp_path: Path) -> None:
    model = tiny.world_model().autoencoder
    torch.save({"config": vars(model.config), "state": model.state_dict()}, tmp_path / "autoencoder.final.pt")
    loaded = load_autoencoder(tmp_path)
    assert not loaded.training
    assert not any(p.requires_grad for p in loaded.parameters())
    assert all(torch.equal(a, b) for a, b in zip(loaded.buffers(), model.buffers(), strict=True))
