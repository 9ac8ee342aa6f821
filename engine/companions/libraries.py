"""Imports transformers and diffusers only when a full-size companion is loaded, and loads strictly.

A checkpoint that does not fit its config is an error that names the tensors.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from engine.companions.catalogue import Catalogue
from engine.companions.files import CATALOGUE
from engine.errors import ModelFilesError, Unavailable

EXTRA = "full"
SHOWN = 6  # names of tensors in an error message


def library(name: str) -> Any:
    """The module `name`. Raises Unavailable if it is not installed.

    Untyped on purpose: checking against transformers' own annotations takes minutes."""
    try:
        return importlib.import_module(name)
    except ImportError as e:
        raise Unavailable(
            f"the full-size model needs {name}, which is not installed ({e}): "
            f"pip install 'psistream[{EXTRA}]'"
        ) from e


def load_pretrained(
    cls: Any,
    folder: Path,
    part: str,
    *,
    dtype: torch.dtype,
    device: torch.device | str,
    catalogue: Catalogue = CATALOGUE,
) -> Any:
    """A frozen model of `cls` from the safetensors files in `folder`/`part`.

    Raises ModelFilesError for corrupt files and for missing or misshapen tensors."""
    path = folder / part
    try:
        model, info = cls.from_pretrained(
            str(path),
            local_files_only=True,
            use_safetensors=True,
            dtype=dtype,
            low_cpu_mem_usage=False,
            output_loading_info=True,
        )
    except (OSError, ValueError, RuntimeError, KeyError, TypeError, SafetensorError) as e:
        raise ModelFilesError(
            f"{path} cannot be read as {catalogue.parts[part].what} ({first_line(e)}); "
            f"fetch it again: {catalogue.fetch(part, folder)}",
            field=part,
        ) from e
    lacks = sorted(str(key) for key in info["missing_keys"])
    if lacks:
        names = ", ".join(lacks[:SHOWN]) + (f" and {len(lacks) - SHOWN} more" if len(lacks) > SHOWN else "")
        raise ModelFilesError(
            f"{path} lacks {names}: not {catalogue.parts[part].what}; "
            f"fetch it again: {catalogue.fetch(part, folder)}",
            field=part,
        )
    return model.to(device).eval().requires_grad_(False)


def first_line(error: BaseException) -> str:
    """The first line of its message, or its type if it has none."""
    text = str(error).strip().splitlines()
    return text[0].strip() if text else type(error).__name__
