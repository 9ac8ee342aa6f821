"""Stage one: train the video autoencoder on rendered clips, then store the mean and deviation of its
latents."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from engine.model.config import build
from engine.model.pixels import to_bytes, to_unit
from engine.model.wander.autoencoder import FRAMES, Autoencoder, AutoencoderConfig
from engine.training.data.ring import Ring, part_generator
from engine.training.learner import Learner, fit, mixed_precision, save_weights
from engine.training.pictures import draw_curves, tile, write_png
from engine.training.recipe import Stage
from engine.training.run import Run
from engine.world.drawing.render import render
from engine.world.episodes import sample_episodes

CLIP = 3  # latent frames of a training clip
PART = 4  # clips made at a time
Z_NOISE = 0.1  # the decoder must tolerate small errors of the DiT


def render_clips(count: int, generator: torch.Generator) -> Tensor:
    """(count, 12, 3, H, W) uint8: clips from episodes with motion and changes."""
    episodes = sample_episodes(count, CLIP + 5, generator, changes=4.0)
    return render(episodes, start=5 * 4, stop=(CLIP + 5) * 4)


class Clips:
    """A bounded pool of clips that is renewed during training. They are rendered, unless `make` is given."""

    def __init__(
        self,
        seed: int,
        make: Callable[[int, torch.Generator], Tensor] = render_clips,
        *,
        limit: int = 640,
        held_out: int = 32,
        statistics: int = 256,
    ) -> None:
        """`make`: number of clips and generator → (count, 12, 3, H, W) uint8. So many are held out to judge
        the model, and taken for the latents' mean and deviation."""
        self.seed, self.make, self.limit = seed, make, limit
        self._held_out, self._statistics = held_out, statistics
        self.room: Tensor | None = None
        parts = limit // PART
        self.ring = Ring(
            lambda k: make(PART, part_generator(seed, "clips", k)),
            self._put,
            start=parts,
            limit=parts,
            every=40,
        )

    def held_out(self) -> Tensor:
        """Clips that are not trained on, always the same."""
        return self.make(self._held_out, part_generator(self.seed, "held-out clips", 0))

    def statistics(self) -> Tensor:
        """The clips whose latents' mean and deviation are stored, always the same."""
        return self.make(self._statistics, part_generator(self.seed, "statistics", 0))

    def draw(self, step: int, batch: int, device: torch.device | str) -> Tensor:
        """(batch, 12, 3, 48, 80) in [-1, 1]: random crops."""
        self.ring.advance(step)
        assert self.room is not None
        pick = torch.randint(0, len(self.ring) * PART, (batch,))
        height, width = self.room.shape[-2:]
        y, x = (8 * int(torch.randint(0, n, ())) for n in ((height - 48) // 8 + 1, (width - 80) // 8 + 1))
        return to_unit(self.room[pick][..., y : y + 48, x : x + 80].to(device))

    def _put(self, place: int, part: Tensor) -> None:
        if self.room is None:
            self.room = torch.empty(self.limit, *part.shape[1:], dtype=torch.uint8)
        self.room[place * PART : (place + 1) * PART] = part


def psnr(model: Autoencoder, clips: Tensor) -> float:
    """Mean peak signal-to-noise ratio over whole clips, dB, on 8-bit pictures."""
    with torch.no_grad():
        z = model.encode(to_unit(clips))
        frames, _ = model.decode(z, torch.zeros_like(z[:, 0]))
        error = (to_bytes(frames).float() - clips.float()).pow(2).mean((1, 2, 3, 4)) / 255**2
    return float((-10 * error.clamp(min=1e-10).log10()).mean())


@torch.no_grad()
def sheet(model: Autoencoder, clips: Tensor) -> Tensor:
    """(3, H, W) uint8: every fourth frame, two rows per clip with the clip above its reconstruction."""
    z = model.encode(to_unit(clips))
    frames, _ = model.decode(z, torch.zeros_like(z[:, 0]))
    return tile(torch.stack([clips, to_bytes(frames)], 1).flatten(0, 1)[:, FRAMES - 1 :: FRAMES].cpu())


def reconstruction_loss(out: Tensor, target: Tensor) -> Tensor:
    """L1 + 2 L2, and L1 on differences along x and y, since edges matter most in flat-shaded pictures."""
    d = out - target
    edges = (d[..., 1:] - d[..., :-1]).abs().mean() + (d[..., 1:, :] - d[..., :-1, :]).abs().mean()
    return d.abs().mean() + 2 * d.pow(2).mean() + 0.5 * edges


@torch.no_grad()
def fit_statistics(model: Autoencoder, clips: Tensor) -> None:
    """Set mean and std per latent channel from clips."""
    model.mean.zero_()
    model.std.fill_(1)
    z = torch.cat([model.encode(to_unit(part)) for part in clips.split(16)])
    model.mean.copy_(z.mean((0, 1, 3, 4)))
    model.std.copy_(z.std((0, 1, 3, 4)))


def train_autoencoder(
    folder: Path, stage: Stage, *, seed: int = 0, device: str = "cpu", clips: Clips | None = None
) -> Autoencoder:
    """Train up to the stage's budget, resuming if there is a checkpoint. Returns the averaged model, which is
    also saved as `autoencoder.final.pt`."""
    torch.manual_seed(seed)
    model = Autoencoder(build(AutoencoderConfig, stage.config))
    model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]

    def encode(pixels: Tensor, step: int) -> tuple[Tensor, Tensor]:
        z = model.encode(pixels)
        noise = Z_NOISE * min(1.0, step / 500)  # ramped up: at first latents are no larger than it
        return z + noise * torch.randn_like(z), 1e-3 * z.pow(2).mean()

    clips = clips or Clips(seed)
    mean = _train(folder, "autoencoder", model, model, stage, encode, clips)
    fit_statistics(mean, clips.statistics().to(device))
    save_weights(folder / "autoencoder.final.pt", mean, mean.config)
    return mean


def train_decoder(
    folder: Path, stage: Stage, *, seed: int = 0, device: str = "cpu", clips: Clips | None = None
) -> Autoencoder:
    """Train a better decoder for unchanged latents, so that the DiT and its cached latents remain valid.

    The stage's config gives the decoder's sizes; the encoder is that of the trained autoencoder. Overwrites
    `autoencoder.final.pt` when done."""
    torch.manual_seed(seed)
    old = load_autoencoder(folder).to(device)
    decoder = {k: v for k, v in stage.config.items() if k.startswith("decoder_")}
    model = Autoencoder(replace(old.config, **decoder))
    model.encoder.load_state_dict(old.encoder.state_dict())
    model.mean.copy_(old.mean)
    model.std.copy_(old.std)
    model.to(device).encoder.requires_grad_(False)

    def encode(pixels: Tensor, step: int) -> tuple[Tensor, Tensor]:
        with torch.no_grad():
            z = model.encode(pixels)
        return z + Z_NOISE * torch.randn_like(z), torch.zeros((), device=device)

    mean = _train(folder, "decoder", model, old, stage, encode, clips or Clips(seed))
    save_weights(folder / "autoencoder.final.pt", mean, mean.config)
    return mean


def _train(
    folder: Path,
    name: str,
    model: Autoencoder,
    before: Autoencoder,
    stage: Stage,
    encode: Callable[[Tensor, int], tuple[Tensor, Tensor]],
    clips: Clips,
) -> Autoencoder:
    """The loop of both stages. `encode` gives the decoder's input and a loss on it."""
    device = next(model.parameters()).device
    learner = Learner(model, ema=stage.ema, betas=(0.9, 0.99), weight_decay=1e-3)
    run = Run(folder, name, 60 * stage.minutes, steps=stage.steps, lr=stage.lr, warmup=50, hold=0.4)
    held_out = clips.held_out().to(device)
    state = run.resume()
    clips.ring.advance(run.step)
    if state is not None:
        learner.load(state)

    def update() -> dict[str, float]:
        pixels = clips.draw(run.step, stage.batch, device)
        with mixed_precision(device):
            z, cost = encode(pixels, run.step)
            out, _ = model.decode(z, torch.zeros_like(z[:, 0]))
        loss = reconstruction_loss(out.float(), pixels) + cost
        loss.backward()
        return {"loss": float(loss.detach())}

    def validate() -> None:
        figures = {} if before is model else {"before_db": psnr(before, held_out)}
        run.log(psnr_db=psnr(learner.mean, held_out), **figures)
        write_png(folder / f"{name}.samples.png", sheet(learner.mean, held_out[:6]))
        draw_curves(folder / f"{name}.jsonl", folder / f"{name}.curves.png")

    run.begin()
    fit(run, learner, update, validate=validate)
    validate()
    return learner.mean


def load_autoencoder(folder: Path) -> Autoencoder:
    """The finished autoencoder of a run, frozen."""
    data = torch.load(folder / "autoencoder.final.pt", weights_only=True, map_location="cpu")
    model = Autoencoder(build(AutoencoderConfig, data["config"], "autoencoder"))
    model.load_state_dict(data["state"])
    model.eval().requires_grad_(False)
    return model
