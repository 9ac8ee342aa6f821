"""Merges LoRA files into weights: W + strength · (alpha / rank) · B A, tensor by tensor during conversion.

diffusers reads the public formats (its own, Wan's `diffusion_model.…`, musubi's `lora_unet_…`) and translates
their names. Strict: a tensor that fits no weight is an error.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from engine.companions.libraries import SHOWN, first_line, library
from engine.errors import InvalidInput, ModelFilesError

PREFIX = "transformer."
DOWN, UP, BIAS = ".lora_A.weight", ".lora_B.weight", ".lora_B.bias"
UNSUPPORTED = ("use_dora", "use_rslora", "alpha_pattern", "rank_pattern")  # peft settings: other formulas


class LoraFile(NamedTuple):
    """A LoRA file and the strength to merge it with."""

    file: Path
    strength: float


def parse(text: str) -> LoraFile:
    """FILE or FILE@STRENGTH. Raises InvalidInput."""
    name, at, strength = text.rpartition("@")
    if not at:
        return LoraFile(Path(text), 1.0)
    try:
        return LoraFile(Path(name), float(strength))
    except ValueError:
        raise InvalidInput(f"--lora: {strength!r} in {text!r} is not a number", field="lora") from None


class Lora:
    """One LoRA, held in memory unmerged, since low ranks are small."""

    def __init__(self, wanted: LoraFile, shapes: Mapping[str, tuple[int, ...]]) -> None:
        """`shapes` of the model's tensors. Raises ModelFilesError for a LoRA that does not fit them."""
        self.strength, file = wanted.strength, wanted.file
        state, settings = _read(file)
        self.scale = _scale(file, settings)
        self.parts = {name.removeprefix(PREFIX): tensor for name, tensor in state.items()}
        wrong = []
        for name, tensor in self.parts.items():
            wrong += _misfit(name, tensor, self.parts, shapes)
        if wrong or not self.parts:
            more = f" and {len(wrong) - SHOWN} more" if len(wrong) > SHOWN else ""
            why = ("; ".join(wrong[:SHOWN]) or "it is empty") + more
            raise ModelFilesError(f"{file} is not a LoRA of this transformer: {why}", field="lora")

    @property
    def targets(self) -> set[str]:
        """The tensors that it changes."""
        ends = {DOWN: ".weight", BIAS: ".bias"}
        return {n.removesuffix(e) + leaf for n in self.parts for e, leaf in ends.items() if n.endswith(e)}

    def merged(self, name: str, weight: Tensor) -> Tensor:
        """`weight` with this LoRA merged; the same object if the LoRA does not change it."""
        stem, _, leaf = name.rpartition(".")
        if leaf == "bias" and (bias := self.parts.get(stem + BIAS)) is not None:
            return weight.float() + self.strength * bias.float()
        down = self.parts.get(stem + DOWN) if leaf == "weight" else None
        if down is None:
            return weight
        change = self.parts[stem + UP].float() @ down.float()
        return weight.float() + self.strength * self.scale * change


def _read(file: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    if not file.is_file():
        raise ModelFilesError(f"--lora: there is no file {file}", field="lora")
    try:
        with safe_open(file, framework="pt") as held:
            dora = sorted(name for name in held.keys() if "dora_scale" in name)  # noqa: SIM118, not a dict
    except SafetensorError as e:
        raise ModelFilesError(f"{file} is not a safetensors file: {first_line(e)}", field="lora") from e
    if dora:  # diffusers would drop them silently
        raise ModelFilesError(f"{file} is a DoRA ({dora[0]}), which cannot be merged", field="lora")
    loader = library("diffusers.loaders.lora_pipeline").HeliosLoraLoaderMixin
    try:
        state, settings = loader.lora_state_dict(
            str(file.parent),
            weight_name=file.name,
            use_safetensors=True,
            local_files_only=True,
            return_lora_metadata=True,
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError, SafetensorError) as e:
        raise ModelFilesError(f"{file} cannot be read as a LoRA: {first_line(e)}", field="lora") from e
    return dict(state), dict(settings or {})


def _scale(file: Path, settings: Mapping[str, Any]) -> float:
    """alpha / rank from peft's settings in the file; 1 if they have none, as in diffusers."""
    named = {key.removeprefix(PREFIX): value for key, value in settings.items()}
    if unsupported := [key for key in UNSUPPORTED if named.get(key)]:
        raise ModelFilesError(f"{file} uses {', '.join(unsupported)}, which cannot be merged", field="lora")
    if named.get("r") and named.get("lora_alpha"):
        return float(named["lora_alpha"]) / float(named["r"])
    return 1.0


def _misfit(
    name: str, tensor: Tensor, parts: Mapping[str, Tensor], shapes: Mapping[str, tuple[int, ...]]
) -> list[str]:
    """The problem with one of its tensors, if any."""
    for end, other in ((DOWN, UP), (UP, DOWN)):
        if name.endswith(end):
            stem = name.removesuffix(end)
            if stem + other not in parts:
                return [f"{name} has no {other[1:]}"]
            wanted = shapes.get(stem + ".weight")
            made = torch.Size((parts[stem + UP].shape[0], parts[stem + DOWN].shape[-1]))
            if wanted is None or len(wanted) != 2 or tuple(made) != wanted:
                return [f"{stem} is {tuple(made)}, but the transformer has {wanted or 'no such tensor'}"]
            return []
    if name.endswith(BIAS) and shapes.get(name.removesuffix(BIAS) + ".bias") == tuple(tensor.shape):
        return []
    return [f"{name} is unknown"]
