"""Helios' public checkpoint: its config.json → our configuration.

Strict: an unknown key is an error and is never dropped. The distilled model was trained for one schedule, so
the scheduler's settings, if their file exists, must match ours.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from engine.companions.helios.files import CHECKPOINT
from engine.errors import InvalidInput, ModelFilesError
from engine.model.helios.config import FREQUENCIES, STAGES, HeliosConfig
from engine.model.helios.schedule import GAMMA, TRAINED
from engine.model.helios.transformer import EXTRA, HeliosTransformer

BOOKKEEPING = ("_class_name", "_diffusers_version", "_name_or_path")
CLASS = "HeliosTransformer3DModel"
SIZES: dict[str, Any] = {  # the class's defaults, which are the checkpoint's values
    "in_channels": 16,
    "num_attention_heads": 40,
    "attention_head_dim": 128,
    "num_layers": 40,
    "ffn_dim": 13824,
    "text_dim": 4096,
    "rope_dim": [44, 42, 42],
    "rope_theta": 10000.0,
}
FIXED: dict[str, Any] = {  # the only values that our modules support
    "patch_size": [1, 2, 2],
    "freq_dim": FREQUENCIES,
    "cross_attn_norm": True,
    "qk_norm": "rms_norm_across_heads",
    "eps": 1e-6,
    "added_kv_proj_dim": None,
    "guidance_cross_attn": True,
    "zero_history_timestep": True,
    "has_multi_term_memory_patch": True,
    "is_amplify_history": False,
    "history_scale_mode": "per_head",
}
SCHEDULER: dict[str, Any] = {
    "num_train_timesteps": TRAINED,
    "shift": 1.0,
    "stages": STAGES,
    "stage_range": [k / STAGES for k in range(STAGES + 1)],
    "gamma": GAMMA,
    "prediction_type": "flow_prediction",
    "use_flow_sigmas": True,
    "use_dynamic_shifting": True,
    "time_shift_type": "linear",
}


def transformer_folder(folder: Path) -> Path:
    """The folder with the transformer: `folder` itself, or its transformer/. Raises ModelFilesError that says
    what to download."""
    if (folder / "config.json").is_file() and not (folder / "transformer").is_dir():
        return folder
    CHECKPOINT.require(folder)
    return folder / "transformer"


def read_config(folder: Path, base: HeliosConfig) -> HeliosConfig:
    """`base` with the sizes in the transformer's config.json.

    Raises ModelFilesError for values that describe a network that we cannot build."""
    file = folder / "config.json"
    data = _object(file)
    sizes = {key: data.get(key, value) for key, value in SIZES.items()}
    wrong = _unknown(data, (*BOOKKEEPING, "out_channels", *SIZES, *FIXED))
    if data.get("_class_name", CLASS) != CLASS:
        wrong.append(f"_class_name is {data['_class_name']!r}, but must be {CLASS}")
    wrong += _different(data, FIXED | {"out_channels": sizes["in_channels"]})
    if wrong:
        raise _refused(file, wrong)
    try:
        return replace(
            base,
            channels=sizes["in_channels"],
            heads=sizes["num_attention_heads"],
            head_dim=sizes["attention_head_dim"],
            layers=sizes["num_layers"],
            feed_forward=sizes["ffn_dim"],
            text_dim=sizes["text_dim"],
            rope_axes=tuple(sizes["rope_dim"]),
            rope_theta=float(sizes["rope_theta"]),
        )
    except (InvalidInput, TypeError, ValueError) as e:
        raise ModelFilesError(f"{file}: {e}", field="config.json") from e


def check_scheduler(folder: Path) -> None:
    """Check DIR/scheduler/scheduler_config.json if it exists. Raises ModelFilesError if it describes another
    schedule, as those of Helios-Base and Helios-Mid do."""
    file = folder / "scheduler" / "scheduler_config.json"
    if not file.is_file():
        return
    data = _object(file)
    wrong = _unknown(data, (*BOOKKEEPING, *SCHEDULER)) + _different(data, SCHEDULER)
    if data.get("_class_name", "HeliosDMDScheduler") != "HeliosDMDScheduler":
        wrong.append(f"_class_name is {data['_class_name']!r}, but must be 'HeliosDMDScheduler'")
    if wrong:
        raise _refused(file, wrong)


def tensors_of(c: HeliosConfig) -> tuple[dict[str, tuple[int, ...]], dict[str, tuple[int, ...]]]:
    """Names and shapes of our transformer's tensors: the checkpoint's, and the added ones."""
    with torch.device("meta"):
        shapes = {n: tuple(p.shape) for n, p in HeliosTransformer(c).named_parameters()}
    added = {n: s for n, s in shapes.items() if n.split(".")[0] in EXTRA}
    return {n: s for n, s in shapes.items() if n not in added}, added


def _object(file: Path) -> Mapping[str, Any]:
    try:
        data = json.loads(file.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as e:
        raise ModelFilesError(f"{file} cannot be read: {e}", field=file.name) from e
    if not isinstance(data, Mapping):
        raise ModelFilesError(f"{file} is not a JSON object; fetch it again", field=file.name)
    return data


def _unknown(data: Mapping[str, Any], known: tuple[str, ...]) -> list[str]:
    return [f"{key} is unknown and may change the network" for key in data if key not in known]


def _different(data: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[str]:
    """The keys with other values. Missing keys have the class's defaults, which equal ours except for
    `use_dynamic_shifting`."""
    out = []
    for key, value in wanted.items():
        found = data.get(key, False if key == "use_dynamic_shifting" else value)
        if not _same(found, value):
            out.append(f"{key} is {found!r}, but must be {value!r}")
    return out


def _same(found: Any, value: Any) -> bool:
    """Equality that allows for fractions with fewer digits."""
    if isinstance(value, list):
        return isinstance(found, list) and len(found) == len(value) and all(map(_same, found, value))
    if isinstance(value, float):
        return isinstance(found, int | float) and abs(found - value) <= 1e-6 * max(1e-6, abs(value))
    return type(found) is type(value) and bool(found == value)


def _refused(file: Path, wrong: list[str]) -> ModelFilesError:
    return ModelFilesError(
        f"{file} does not describe Helios-Distilled, the only Helios that psistream builds:\n  "
        + "\n  ".join(wrong),
        field=file.name,
    )
