"""Pictures of a run: contact sheets and curves. Sheets need only torch and the standard library. Curves need
matplotlib and are left out without it.

Legend: R rows, N pictures of a row, H W pixels.
"""

from __future__ import annotations

import json
import os
import struct
import zlib
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor

NOT_DRAWN = ("step", "elapsed_s", "phase", "samples_per_s", "matmul_share")


def tile(rows: Tensor, gap: int = 2) -> Tensor:
    """(R, N, 3, H, W) uint8 → one picture (3, R (H + gap), N (W + gap)) with white gaps."""
    r, n, _, h, w = rows.shape
    sheet = torch.full((3, r, h + gap, n, w + gap), 255, dtype=torch.uint8)
    sheet[:, :, :h, :, :w] = rows.permute(2, 0, 3, 1, 4)
    return sheet.reshape(3, r * (h + gap), n * (w + gap))


def write_png(path: Path, picture: Tensor) -> None:
    """Write (3, H, W) uint8 to a file, atomically."""
    _, h, w = picture.shape
    lines = torch.cat([torch.zeros(h, 1, dtype=torch.uint8), picture.permute(1, 2, 0).reshape(h, 3 * w)], 1)

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", w, h, 8, 2, 0, 0, 0)
    body = zlib.compress(lines.contiguous().numpy().tobytes(), 6)
    data = chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")
    path.with_suffix(".tmp").write_bytes(b"\x89PNG\r\n\x1a\n" + data)
    os.replace(path.with_suffix(".tmp"), path)


def draw_curves(curve: Path, picture: Path) -> bool:
    """Draw the loss and all other figures from a run's JSON lines. False without matplotlib."""
    if find_spec("matplotlib") is None:
        return False
    from matplotlib.figure import Figure

    rows = [json.loads(line) for line in curve.read_text(encoding="utf-8").splitlines()]
    figure = Figure(figsize=(11, 4.5), layout="constrained")
    left, right = figure.subplots(1, 2)
    others = sorted({k for r in rows for k in r} - {*NOT_DRAWN, "loss"})
    for axes, names in ((left, ["loss"]), (right, others)):
        for name in names:
            seen = [(r["step"], r[name]) for r in rows if name in r]
            steps, values = zip(*seen, strict=True) if seen else ((), ())
            axes.plot(steps, values, label=name, marker="." if len(seen) < 40 else "")
        axes.set_xlabel("step")
        axes.grid(alpha=0.3)
        if names:
            axes.legend(fontsize="small")
    begun: dict[str, int] = {}
    for r in rows:
        begun.setdefault(r.get("phase", ""), r["step"])
    for name, step in begun.items():
        left.axvline(step, color="grey", linewidth=0.8)
        left.text(
            step, 1, name, transform=left.get_xaxis_transform(), rotation=90, va="top", fontsize="small"
        )
    figure.savefig(picture, dpi=90)
    return True
