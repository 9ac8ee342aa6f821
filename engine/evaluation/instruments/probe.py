"""The instrument behind the adherence figures: a small network that reads the world's attributes from pixels.

It is trained on rendered frames, half of them sent through the autoencoder. Reports print its error on
held-out renders beside the figures. The landmark reader (`engine.evaluation.instruments.landmark_reader`) is
trained on the same frames.

Legend: N frames, H W pixels.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engine.evaluation.instruments import landmark_reader as landmarks
from engine.evaluation.instruments.examples import PER_CLIP, Examples, sharp, soft
from engine.evaluation.instruments.landmark_reader import (
    LandmarkReader,
    check_version,
    reader_accuracy,
    reader_loss,
)
from engine.model.pixels import to_unit
from engine.model.wander.autoencoder import Autoencoder
from engine.training.run import Run
from engine.world.attributes import FIELDS, HERO_X, VALUES

FILE = "probe.final.pt"
SCENE, HERO = FIELDS[:3], FIELDS[3:]
HERO_ROWS, HERO_COLUMNS = slice(28, 88), slice(HERO_X - 20, HERO_X + 20)
GRID = (6, 10)
FEATURES = 128
STAGES = (slice(0, 6), slice(6, 11), slice(11, 16))  # of the body
POOLED = 32 + 64 + FEATURES
BATCH = 32
POOL = 4000  # frames of each sort
RENEW_EVERY = 6  # steps
LR = 2e-3
SAVE_EVERY_S = 30.0
HELD_OUT_SEED = 99


def _stack(widths: tuple[int, ...], first_stride: int) -> nn.Sequential:
    layers: list[nn.Module] = [nn.PixelUnshuffle(2)]
    for i, (a, b) in enumerate(pairwise(widths)):
        layers += [nn.Conv2d(a, b, 3, 2 if i else first_stride, 1), nn.GroupNorm(8, b), nn.SiLU()]
        layers += [nn.Conv2d(b, b, 3, padding=1), nn.SiLU()]
    return nn.Sequential(*layers)


class Probe(nn.Module):
    """Reads place, time and weather from the whole picture, and hero and colour from a finer view of the
    hero's columns."""

    def __init__(self) -> None:
        super().__init__()
        self.body = _stack((12, 32, 64, FEATURES), 2)  # (N, 128, 6, 10)
        self.head = nn.Linear(FEATURES * GRID[0] * GRID[1], sum(len(VALUES[f]) for f in SCENE))
        self.hero = _stack((12, 32, 64), 1)  # (N, 64, 15, 10)
        self.hero_head = nn.Linear(64 * 15 * 10, sum(len(VALUES[f]) for f in HERO))

    def look(self, frames: Tensor) -> tuple[list[Tensor], Tensor, Tensor]:
        """(N, 3, H, W) uint8 → logits per field (N, values); all stages' features averaged over the picture
        (N, 224), fine texture first; and the last stage's feature map (N, 128, 6, 10)."""
        x = to_unit(frames)
        grid, pooled = x, []
        for stage in STAGES:
            grid = self.body[stage](grid)
            pooled.append(grid.mean((2, 3)))
        scene = self.head(grid.flatten(1))
        hero = self.hero_head(self.hero(x[:, :, HERO_ROWS, HERO_COLUMNS]).flatten(1))
        fields = [
            *scene.split([len(VALUES[f]) for f in SCENE], -1),
            *hero.split([len(VALUES[f]) for f in HERO], -1),
        ]
        return fields, torch.cat(pooled, 1), grid

    def forward(self, frames: Tensor) -> list[Tensor]:
        """(N, 3, H, W) uint8 → logits per field, (N, values)."""
        return self.look(frames)[0]

    def read(self, frames: Tensor) -> Tensor:
        """(N, 3, H, W) uint8 → (N, 5) values."""
        return torch.stack([p.argmax(-1) for p in self(frames)], -1)


def probe_loss(probe: Probe, examples: Examples) -> Tensor:
    return torch.stack(
        [F.cross_entropy(p, examples.attributes[:, i]) for i, p in enumerate(probe(examples.frames))]
    ).sum()


@torch.no_grad()
def probe_accuracy(probe: Probe, examples: Examples) -> dict[str, float]:
    right = (probe.read(examples.frames) == examples.attributes).float().mean(0)
    return {f: float(a) for f, a in zip(FIELDS, right, strict=True)}


def train_probe(
    folder: Path, autoencoder: Autoencoder, *, minutes: float, seed: int = 0, held_out_frames: int = 320
) -> Probe:
    """Train probe and landmark reader for `minutes` on the autoencoder's device. Save `probe.final.pt` and
    `landmarks.final.pt` with their accuracy on `held_out_frames` clean frames and as many after the
    autoencoder. Raises ModelFilesError for a checkpoint of another version."""
    torch.manual_seed(seed)
    device = autoencoder.mean.device
    probe, reader = Probe().to(device), LandmarkReader().to(device)
    run = Run(folder, "probe", minutes * 60, lr=LR, warmup=30, hold=0.2)
    _learn(run, probe, reader, autoencoder, seed)
    generator = torch.Generator().manual_seed(HELD_OUT_SEED)
    held_out = {
        "clean": sharp(held_out_frames, generator, device),
        "autoencoder": soft(-(-held_out_frames // PER_CLIP), autoencoder, generator),
    }
    seen_right = by_source(lambda e: probe_accuracy(probe, e), held_out)
    found = by_source(lambda e: reader_accuracy(reader, e), held_out)
    run.log(**seen_right, **{f"landmark {k}": v for k, v in found.items()})
    torch.save({"state": _on_cpu(probe), "accuracy": seen_right}, folder / FILE)
    torch.save({"state": _on_cpu(reader), "accuracy": found}, folder / landmarks.FILE)
    return probe


def _learn(run: Run, probe: Probe, reader: LandmarkReader, autoencoder: Autoencoder, seed: int) -> None:
    """Train both on the same frames: half of every batch is clean, half has been through the autoencoder."""
    both = nn.ModuleList([probe, reader])
    optimizer = torch.optim.AdamW(both.parameters(), lr=LR, weight_decay=0.02)
    if state := run.resume():
        with check_version(run.folder / "probe.pt"):
            both.load_state_dict(state["live"])
            optimizer.load_state_dict(state["optimizer"])
    run.begin()  # making an optimizer can take seconds
    if run.progress >= 1:
        return
    generator = torch.Generator().manual_seed(seed + 5 + run.step)
    device = autoencoder.mean.device
    pools = sharp(64, generator, device), soft(16, autoencoder, generator)
    run.begin()
    saved_s = run.elapsed_s
    while run.progress < 1:
        if run.step % RENEW_EVERY == 0:
            new = sharp(32, generator, device), soft(10, autoencoder, generator)
            pools = pools[0].newest(POOL, new[0]), pools[1].newest(POOL, new[1])
        halves = [p[torch.randint(0, len(p), (BATCH // 2,), device=device)] for p in pools]
        batch = halves[0].newest(BATCH, halves[1])
        run.schedule(optimizer)
        seen, stands = probe_loss(probe, batch), reader_loss(reader, batch)
        (seen + stands).backward()
        for part in (probe, reader):
            nn.utils.clip_grad_norm_(part.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        run.note(seen + stands.detach(), landmarks=float(stands.detach()))
        if run.elapsed_s - saved_s > SAVE_EVERY_S or run.progress >= 1:
            saved_s = run.elapsed_s
            run.save({"live": both.state_dict(), "optimizer": optimizer.state_dict()})


def by_source(
    measure: Callable[[Examples], dict[str, float]], held_out: dict[str, Examples]
) -> dict[str, float]:
    """Figures on frames after the autoencoder under their own names, and those on clean frames under names
    that end in "clean"."""
    clean = {f"{name} clean": share for name, share in measure(held_out["clean"]).items()}
    return measure(held_out["autoencoder"]) | clean


def _on_cpu(module: nn.Module) -> dict[str, Tensor]:
    return {name: value.cpu() for name, value in module.state_dict().items()}


def load_probe(folder: Path) -> tuple[Probe, dict[str, float]]:
    """The probe of a run, frozen, and its accuracy on held-out renders: per field after the autoencoder, and
    "FIELD clean" before it. Raises FileNotFoundError, ModelFilesError."""
    data = torch.load(folder / FILE, weights_only=True)
    probe = Probe()
    with check_version(folder / FILE):
        probe.load_state_dict(data["state"])
        return probe.eval().requires_grad_(False), data["accuracy"]
