"""Stage one: train the video autoencoder on rendered clips, then store its latents' mean and deviation with
it."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from engine.model.autoencoder import Autoencoder, AutoencoderConfig, to_bytes, to_unit
from engine.training.run import Ema, Run, clip_and_step
from engine.world.episodes import sample_episodes
from engine.world.render import render

CLIP = 3  # latent frames of a training clip
Z_NOISE = 0.1  # the decoder must bear small errors of the DiT


def render_clips(count: int, generator: torch.Generator) -> Tensor:
    """(count, 12, 3, H, W) uint8: moments from moving, changing episodes."""
    episodes = sample_episodes(count, CLIP + 5, generator, changes=4.0)
    return render(episodes, start=5 * 4, stop=(CLIP + 5) * 4)


def psnr(model: Autoencoder, clips: Tensor) -> float:
    """Mean peak signal-to-noise ratio over whole clips, dB, on 8-bit pictures."""
    with torch.no_grad():
        z = model.encode(to_unit(clips))
        frames, _ = model.decode(z, torch.zeros_like(z[:, 0]))
        error = (to_bytes(frames).float() - clips.float()).pow(2).mean((1, 2, 3, 4)) / 255**2
    return float((-10 * error.clamp(min=1e-10).log10()).mean())


def reconstruction_loss(out: Tensor, target: Tensor) -> Tensor:
    """L1 + 2 L2, and L1 on differences along x and y: edges carry flat-shaded pictures."""
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
    folder: Path, *, minutes: float, lr: float = 2e-3, batch: int = 4, seed: int = 0
) -> Autoencoder:
    """Train for `minutes` in all (resuming), return the averaged model, also saved as `autoencoder.pt`."""
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed + 1)
    model: Autoencoder = Autoencoder(AutoencoderConfig()).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, betas=(0.9, 0.99), weight_decay=1e-3)
    ema = Ema(model, 0.999)
    run = Run(folder, "autoencoder", minutes * 60, lr=lr, warmup=50, hold=0.4)
    held_out = render_clips(32, torch.Generator().manual_seed(987))
    if state := run.resume():
        model.load_state_dict(state["live"])
        optimizer.load_state_dict(state["optimizer"])
        ema.shadow, ema.steps = state["ema"], run.step
        generator.manual_seed(seed + 1 + run.step)
        model.mean.zero_()  # a finished run has fitted them; training is on raw latents
        model.std.fill_(1)
    clips = render_clips(640, generator)

    def checkpoint(**rules: float) -> None:
        run.save(
            {
                "live": model.state_dict(),
                "optimizer": optimizer.state_dict(),
                "ema": ema.shadow,
                "config": vars(model.config),
            },
            **rules,
        )

    while run.progress < 1:
        if run.step % 40 == 0:
            keep = torch.randint(0, len(clips) - 4, ())
            clips[keep : keep + 4] = render_clips(4, generator)
        pick = torch.randint(0, len(clips), (batch,), generator=generator)
        y, x = (8 * int(torch.randint(0, n, (), generator=generator)) for n in (7, 11))
        target = to_unit(clips[pick][..., y : y + 48, x : x + 80])
        run.schedule(optimizer)
        z = model.encode(target)
        ramp = Z_NOISE * min(1.0, run.step / 500)
        out, _ = model.decode(z + ramp * torch.randn_like(z), torch.zeros_like(z[:, 0]))
        loss = reconstruction_loss(out, target) + 1e-3 * z.pow(2).mean()
        loss.backward()
        clip_and_step(optimizer, model.parameters())
        ema.update()
        run.note(loss)
        if run.step % 500 == 0:
            ema.swap()
            run.log(psnr_db=psnr(model, held_out), z_std=float(model.encode(to_unit(held_out)).std()))
            ema.swap()
        checkpoint(every_s=120)
    ema.swap()
    fit_statistics(model, render_clips(256, generator))
    run.log(psnr_db=psnr(model, held_out))
    ema.swap()
    checkpoint()
    ema.swap()
    torch.save({"config": vars(model.config), "state": model.state_dict()}, folder / "autoencoder.final.pt")
    return model


def train_decoder(
    folder: Path,
    config: AutoencoderConfig,
    *,
    minutes: float,
    lr: float = 1.5e-3,
    batch: int = 4,
    seed: int = 0,
) -> Autoencoder:
    """A better decoder for latents that stay as they are: the DiT and its cached latents remain valid.

    `config` differs from the trained autoencoder's only in its decoder. Overwrites `autoencoder.final.pt`
    when done; raises RuntimeError where the encoder doesn't fit."""
    torch.manual_seed(seed)
    old = load_autoencoder(folder)
    model = Autoencoder(config)
    model.encoder.load_state_dict(old.encoder.state_dict())
    model.encoder.requires_grad_(False)
    model.mean.copy_(old.mean)
    model.std.copy_(old.std)
    optimizer = torch.optim.AdamW(model.decoder.parameters(), lr=lr, betas=(0.9, 0.99), weight_decay=1e-3)
    ema = Ema(model.decoder, 0.999)
    run = Run(folder, "decoder", minutes * 60, lr=lr, warmup=50, hold=0.3)
    if state := run.resume():
        model.load_state_dict(state["live"])
        optimizer.load_state_dict(state["optimizer"])
        ema.shadow, ema.steps = state["ema"], run.step
    generator = torch.Generator().manual_seed(seed + 11 + run.step)
    held_out = render_clips(32, torch.Generator().manual_seed(987))
    clips = render_clips(512, generator)
    run.begin()
    while run.progress < 1:
        if run.step % 40 == 39:
            keep = int(torch.randint(0, len(clips) - 4, ()))
            clips[keep : keep + 4] = render_clips(4, generator)
        pick = torch.randint(0, len(clips), (batch,), generator=generator)
        y, x = (8 * int(torch.randint(0, n, (), generator=generator)) for n in (7, 11))
        target = to_unit(clips[pick][..., y : y + 48, x : x + 80])
        run.schedule(optimizer)
        with torch.no_grad():
            z = model.encode(target)
        out, _ = model.decode(z + Z_NOISE * torch.randn_like(z), torch.zeros_like(z[:, 0]))
        loss = reconstruction_loss(out, target)
        loss.backward()
        clip_and_step(optimizer, model.decoder.parameters())
        ema.update()
        run.note(loss)
        if run.step % 500 == 0:
            ema.swap()
            run.log(psnr_db=psnr(model, held_out), before_db=psnr(old, held_out))
            ema.swap()
        run.save(
            {"live": model.state_dict(), "optimizer": optimizer.state_dict(), "ema": ema.shadow}, every_s=120
        )
    run.save({"live": model.state_dict(), "optimizer": optimizer.state_dict(), "ema": ema.shadow})
    ema.swap()
    run.log(psnr_db=psnr(model, held_out), before_db=psnr(old, held_out))
    torch.save({"config": vars(config), "state": model.state_dict()}, folder / "autoencoder.final.pt")
    return model


def load_autoencoder(folder: Path) -> Autoencoder:
    """The finished autoencoder of a run, frozen."""
    data = torch.load(folder / "autoencoder.final.pt", weights_only=True)
    model = Autoencoder(AutoencoderConfig(**data["config"]))
    model.load_state_dict(data["state"])
    model.eval().requires_grad_(False)
    return model
