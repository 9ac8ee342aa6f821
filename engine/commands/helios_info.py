"""`psistream model info` for helios or a converted folder: the size and cost of Helios, without its
weights."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from engine.model.helios import serve
from engine.model.helios.config import CELL, STAGES
from engine.model.helios.cost import call_flop, segment_flop, tokens_of
from engine.model.helios.serve import NAME, Conversion, read_conversion
from engine.model.helios.transformer import EXTRA, HeliosTransformer

ABOUT = "Helios-Distilled, the public checkpoint on Wan 2.1-14B; 33 frames per segment, no KV cache"


@dataclass(frozen=True)
class HeliosInfo:
    """The size and cost of a Helios model."""

    name: str
    about: str
    parameters: int  # of the transformer, and of SemanticPack if it is grafted on
    tensors: int
    backbone_parameters: int  # those of the checkpoint
    backbone_tensors: int
    parts: dict[str, int]  # parameters by the first word of their names
    bytes_16_bit: int
    picture: tuple[int, int]  # width, height
    segment_frames: int
    tokens: list[dict[str, int]]  # of a call, stage by stage
    steps: tuple[int, int, int]  # calls per stage
    call_tflop: list[float]  # one call for one session, stage by stage; a multiply-add is two
    segment_tflop: float
    first_segment_tflop: float

    def lines(self) -> list[str]:
        """A table for the terminal."""
        added = self.parameters - self.backbone_parameters
        rows = [
            ("parameters", f"{self.parameters:,} in {self.tensors} tensors"),
            ("  backbone", f"{self.backbone_parameters:,} in {self.backbone_tensors}"),
            ("  added", f"{added:,} in {self.tensors - self.backbone_tensors}"),
            *((f"  {name}", f"{count:,}") for name, count in self.parts.items()),
            ("weights in bf16 or fp16", f"{self.bytes_16_bit:,} bytes"),
            ("picture", f"{self.picture[0]} x {self.picture[1]}"),
            ("segment", f"{self.segment_frames} frames"),
        ]
        for stage, (tokens, tflop) in enumerate(zip(self.tokens, self.call_tflop, strict=True)):
            total = f"{sum(tokens.values()):,} tokens: " + ", ".join(f"{n} {c:,}" for n, c in tokens.items())
            rows.append((f"stage {stage}", f"{self.steps[stage]} calls of {tflop:,.1f} TFLOP, {total}"))
        rows.append(("a segment", f"{self.segment_tflop:,.0f} TFLOP"))
        rows.append(("  a scene's first", f"{self.first_segment_tflop:,.0f} TFLOP"))
        width = max(len(name) for name, _ in rows)
        return [f"{self.name}: {self.about}", *(f"{name:<{width}}  {text}" for name, text in rows)]


def is_helios(model: str) -> bool:
    """Whether `model` is the name of Helios or the folder of a converted one."""
    return model == NAME or serve.is_helios(Path(model))


def helios_info(model: str) -> HeliosInfo:
    """Describe `model`, a name or a folder. Raises ModelFilesError for a folder with an invalid config."""
    if model == NAME:
        found, about = Conversion(), ABOUT
    else:
        found, about = read_conversion(Path(model)), model
    c, p = found.config, found.serve.pyramid
    with torch.device("meta"):
        parameters = dict(HeliosTransformer(c).named_parameters())
    counts = {n: tensor.numel() for n, tensor in parameters.items()}
    backbone = [count for n, count in counts.items() if n.split(".")[0] not in EXTRA]
    parts: dict[str, int] = {}
    for n, count in counts.items():
        part = n.split(".")[0]
        parts[part] = parts.get(part, 0) + count
    tokens = [tokens_of(c, stage) for stage in range(STAGES)]
    return HeliosInfo(
        name=NAME,
        about=about,
        parameters=sum(counts.values()),
        tensors=len(counts),
        backbone_parameters=sum(backbone),
        backbone_tensors=len(backbone),
        parts=parts,
        bytes_16_bit=2 * sum(counts.values()),
        picture=(CELL * c.latent_width, CELL * c.latent_height),
        segment_frames=c.frames,
        tokens=[
            {"noisy": t.noisy, "1x": t.near, "2x": t.middle, "4x": t.far, "anchor": t.anchor} for t in tokens
        ],
        steps=p.steps,
        call_tflop=[round(call_flop(c, stage) / 1e12, 3) for stage in range(STAGES)],
        segment_tflop=round(segment_flop(c, p) / 1e12, 3),
        first_segment_tflop=round(segment_flop(c, p, first=True) / 1e12, 3),
    )
