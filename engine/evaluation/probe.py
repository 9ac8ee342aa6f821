"""The instrument of every adherence figure: a small network that reads the world's attributes back from
pixels.

Trained on rendered frames, half of them sent through the autoencoder, so that its softness is not mistaken
for a wrong attribute. Its own error on held-out renders is printed beside every figure made with it.

Legend: N frames, H W pixels.
"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engine.model.autoencoder import Autoencoder, to_bytes, to_unit
from engine.training.run import Run, clip_and_step
from engine.world.attributes import FIELDS, FRAMES_PER_LATENT, VALUES
from engine.world.episodes import sample_episodes
from engine.world.render import render

SIZES = [len(VALUES[f]) for f in FIELDS]


class Probe(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        widths = (12, 48, 96, 128)
        layers: list[nn.Module] = [nn.PixelUnshuffle(2)]
        for a, b in pairwise(widths):
            layers += [
                nn.Conv2d(a, b, 3, 2, 1),
                nn.GroupNorm(8, b),
                nn.SiLU(),
                nn.Conv2d(b, b, 3, padding=1),
                nn.SiLU(),
            ]
        self.body = nn.Sequential(*layers)  # (N, 128, 6, 10)
        self.head = nn.Linear(128 * 6 * 10, sum(SIZES))

    def forward(self, frames: Tensor) -> list[Tensor]:
        """(N, 3, H, W) uint8 → logits per field, (N, values)."""
        out: Tensor = self.head(self.body(to_unit(frames)).flatten(1))
        return list(out.split(SIZES, -1))

    def read(self, frames: Tensor) -> Tensor:
        """(N, 3, H, W) uint8 → (N, 5) values."""
        return torch.stack([p.argmax(-1) for p in self(frames)], -1)


@torch.no_grad()
def examples(autoencoder: Autoencoder, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Frames (N, 3, H, W) uint8 of moments where nothing changes, and their attributes (N, 5)."""
    length = 2
    episodes = sample_episodes(count, length, generator, changes=0.0)
    clips = render(episodes)
    z = autoencoder.encode(to_unit(clips))
    soft, _ = autoencoder.decode(z, torch.zeros_like(z[:, 0]))
    pick = torch.randint(FRAMES_PER_LATENT, length * FRAMES_PER_LATENT, (count,), generator=generator)
    rows = torch.arange(count)
    frames = torch.cat([clips[rows, pick], to_bytes(soft)[rows, pick]])
    return frames, episodes.attributes[:, -1].repeat(2, 1)


def train_probe(folder: Path, autoencoder: Autoencoder, *, minutes: float, seed: int = 0) -> Probe:
    """Train for `minutes`, save `probe.final.pt` with its accuracy on held-out frames."""
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed + 5)
    model = Probe()
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.02)
    run = Run(folder, "probe", minutes * 60, lr=2e-3, warmup=30, hold=0.2)
    frames, said = examples(autoencoder, 256, generator)
    held_out = examples(autoencoder, 192, torch.Generator().manual_seed(99))
    run.begin()
    while run.progress < 1:
        if run.step % 6 == 0:
            new = examples(autoencoder, 24, generator)
            frames, said = torch.cat([new[0], frames])[:6000], torch.cat([new[1], said])[:6000]
        pick = torch.randint(0, len(frames), (64,))
        run.schedule(optimizer)
        loss = torch.stack(
            [F.cross_entropy(p, said[pick, i]) for i, p in enumerate(model(frames[pick]))]
        ).sum()
        loss.backward()
        clip_and_step(optimizer, model.parameters())
        run.note(loss)
    with torch.no_grad():
        right = (model.read(held_out[0]) == held_out[1]).float().mean(0)
    accuracy = {f: float(a) for f, a in zip(FIELDS, right, strict=True)}
    run.log(**accuracy)
    torch.save({"state": model.state_dict(), "accuracy": accuracy}, folder / "probe.final.pt")
    return model


def load_probe(folder: Path) -> tuple[Probe, dict[str, float]]:
    data = torch.load(folder / "probe.final.pt", weights_only=True)
    model = Probe()
    model.load_state_dict(data["state"])
    return model.eval().requires_grad_(False), data["accuracy"]
