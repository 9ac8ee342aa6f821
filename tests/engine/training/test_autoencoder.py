"""The autoencoder's stage: its figures, its latents' statistics, and what a run leaves behind."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from engine.model.wander.autoencoder import Autoencoder
from engine.training import autoencoder
from engine.training.autoencoder import (
    Clips,
    fit_statistics,
    load_autoencoder,
    psnr,
    reconstruction_loss,
    sheet,
    train_autoencoder,
    train_decoder,
)
from engine.training.data.latents import cache_folder
from engine.training.recipe import Stage
from engine.training.run import Run
from tests.rigs.engine import tiny


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


@torch.no_grad()
def test_a_contact_sheet_has_the_clip_above_what_comes_back() -> None:
    picture = sheet(tiny.world_model().autoencoder, clips()[:2])
    assert picture.shape == (3, 4 * 50, 2 * 82)
    assert torch.equal(picture[:, :48, :80], clips()[0, 3])


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


def noise(count: int, generator: torch.Generator) -> torch.Tensor:
    return torch.randint(0, 256, (count, 12, 3, 96, 160), generator=generator, dtype=torch.uint8)


STAGE = Stage(
    steps=6, lr=1e-3, batch=2, config={"fine": 8, "coarse": 8, "decoder_fine": 8, "decoder_coarse": 8}
)


def few_clips() -> Clips:
    return Clips(0, noise, limit=8, held_out=2, statistics=2)


@pytest.fixture
def no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing has tests of its own."""
    monkeypatch.setattr(autoencoder, "draw_curves", lambda *_: False)


@pytest.mark.usefixtures("no_pictures")
def test_a_resumed_autoencoder_is_the_same_bit_for_bit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    straight = train_autoencoder(tmp_path / "a", STAGE, clips=few_clips())
    note = Run.note

    def interrupted(self: Run, *given: float, **figures: float) -> None:
        note(self, *given, **figures)
        self.stopped = self.step == 3

    with monkeypatch.context() as m:
        m.setattr(Run, "note", interrupted)
        with pytest.raises(KeyboardInterrupt):
            train_autoencoder(tmp_path / "b", STAGE, clips=few_clips())
    torch.manual_seed(99)
    resumed = train_autoencoder(tmp_path / "b", STAGE, clips=few_clips())
    pairs = zip(straight.state_dict().values(), resumed.state_dict().values(), strict=True)
    assert all(torch.equal(x, y) for x, y in pairs)
    assert (tmp_path / "b" / "autoencoder.samples.png").exists()
    loaded = load_autoencoder(tmp_path / "b")
    assert all(torch.equal(x, y) for x, y in zip(loaded.parameters(), resumed.parameters(), strict=True))


@pytest.mark.usefixtures("no_pictures")
def test_a_larger_decoder_leaves_the_latents_as_they_are(tmp_path: Path) -> None:
    old = train_autoencoder(tmp_path, STAGE, clips=few_clips())
    larger = Stage(steps=2, batch=2, config={"decoder_fine": 16, "decoder_coarse": 12, "decoder_blocks": 1})
    new = train_decoder(tmp_path, larger, clips=few_clips())
    before, after = old.state_dict(), new.state_dict()
    kept = [k for k in before if not k.startswith("decoder")]
    assert all(torch.equal(before[k], after[k]) for k in kept)
    assert cache_folder(tmp_path, new) == cache_folder(tmp_path, old)  # what is cached remains valid
    assert (new.config.fine, new.config.decoder_fine) == (8, 16)
    assert load_autoencoder(tmp_path).config == new.config
