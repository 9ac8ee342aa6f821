"""The instrument behind the recall figures: reads the landmarks of a single frame.

A small convolutional network over columns of 8 pixels predicts whether the middle of a landmark is in the
column, its offset from the column's middle, its kind and its colour. It is trained together with the probe
(`engine.evaluation.instruments.probe`).

Legend: N frames, CELLS = 20 columns.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engine.errors import ModelFilesError
from engine.evaluation.instruments.examples import CELL_PX, CELLS, Examples
from engine.model.pixels import to_unit
from engine.world.attributes import COLOURS, LANDMARKS

FILE = "landmarks.final.pt"
TOP = 16  # no landmark reaches above this row
SPLIT = [1, 1, len(LANDMARKS), len(COLOURS)]


class ColumnReading(NamedTuple):
    """The reader's output per column: presence (N, CELLS) in [0, 1], position (N, CELLS) in px on the screen,
    log-probabilities of kind (N, CELLS, 8) and colour (N, CELLS, 8)."""

    present: Tensor
    x: Tensor
    kind: Tensor
    colour: Tensor


class LandmarkReader(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.columns = nn.Sequential(
            nn.PixelUnshuffle(2),
            nn.Conv2d(12, 32, 3, 2, 1),
            nn.GroupNorm(8, 32),
            nn.SiLU(),
            nn.Conv2d(32, 32, 3, padding=1),
            nn.SiLU(),
            nn.Conv2d(32, 64, 3, 2, 1),
            nn.GroupNorm(8, 64),
            nn.SiLU(),
            nn.Conv2d(64, 64, 3, padding=1),
            nn.SiLU(),
            nn.Conv2d(64, 192, ((96 - TOP) // 8, 1)),
        )  # (N, 192, 1, CELLS)
        self.along = nn.Sequential(
            nn.SiLU(),
            nn.Conv1d(192, 192, 5, padding=2),
            nn.GroupNorm(8, 192),
            nn.SiLU(),
            nn.Conv1d(192, 192, 3, padding=1),
            nn.SiLU(),
            nn.Conv1d(192, sum(SPLIT), 1),
        )

    def forward(self, frames: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """(N, 3, 96, 160) uint8 → logits of presence (N, CELLS), offset in px (N, CELLS), logits of kind
        and colour (N, CELLS, 8)."""
        out = self.along(self.columns(to_unit(frames[:, :, TOP:]))[:, :, 0]).transpose(1, 2)
        present, offset, kind, colour = out.split(SPLIT, -1)
        return present[..., 0], offset[..., 0] * CELL_PX, kind, colour

    def look(self, frames: Tensor) -> ColumnReading:
        """The reading of frames (N, 3, 96, 160) uint8."""
        present, offset, kind, colour = self(frames)
        middle = (torch.arange(CELLS, device=frames.device) + 0.5) * CELL_PX
        return ColumnReading(present.sigmoid(), middle + offset, kind.log_softmax(-1), colour.log_softmax(-1))


def reader_loss(reader: LandmarkReader, examples: Examples) -> Tensor:
    present, offset, kind, colour = reader(examples.frames)
    there = examples.present
    loss: Tensor = (
        F.binary_cross_entropy_with_logits(present, there.float()) * CELLS / 2
        + F.cross_entropy(kind[there], examples.kind[there])
        + F.cross_entropy(colour[there], examples.colour[there])
        + 0.1 * (offset[there] - examples.offset[there]).abs().mean()
    )
    return loss


@torch.no_grad()
def reader_accuracy(reader: LandmarkReader, examples: Examples) -> dict[str, float]:
    """Shares of true landmarks: found to within a column, kind right, colour right, both; and false alarms
    per frame. Kind and colour are read at the landmark's true column."""
    present, _, kind, colour = reader(examples.frames)
    there, says = examples.present, present > 0
    near = F.max_pool1d(says.float()[:, None], 3, 1, 1)[:, 0] > 0
    close = F.max_pool1d(there.float()[:, None], 3, 1, 1)[:, 0] > 0
    kind_right = (kind.argmax(-1) == examples.kind)[there]
    colour_right = (colour.argmax(-1) == examples.colour)[there]
    return {
        "found": float(near[there].float().mean()),
        "kind": float(kind_right.float().mean()),
        "colour": float(colour_right.float().mean()),
        "kind and colour": float((kind_right & colour_right).float().mean()),
        "false alarms per frame": float((says & ~close).float().sum(1).mean()),
    }


def load_reader(folder: Path) -> tuple[LandmarkReader, dict[str, float]]:
    """The reader of a run, frozen, and its accuracy on held-out renders: after the autoencoder, and before it
    under names that end in "clean". Raises FileNotFoundError, ModelFilesError."""
    data = torch.load(folder / FILE, weights_only=True)
    reader = LandmarkReader()
    with check_version(folder / FILE):
        reader.load_state_dict(data["state"])
        return reader.eval().requires_grad_(False), data["accuracy"]


@contextmanager
def check_version(path: Path) -> Iterator[None]:
    """Raises ModelFilesError if the file's content does not fit."""
    try:
        yield
    except (KeyError, RuntimeError, ValueError) as error:
        raise ModelFilesError(
            f"{path} is from another version: delete it and run `psistream train probe --run {path.parent}`",
            field=path.name,
        ) from error
