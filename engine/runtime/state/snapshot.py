"""A session as a file: safetensors, of constant size for a model whatever the session has been through.

A file may come from a stranger. Its size, shapes, types and ranges are checked, and that it belongs to this
model and these weights, since the numbers of another model mean nothing here. Engine, time and clients are
unknown.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, NamedTuple

import numpy as np
import safetensors.numpy
from safetensors import SafetensorError

from engine.errors import InvalidInput
from engine.landmarks.plan import MET, NAMED
from engine.model.signature import ModelSpec
from engine.runtime.state.state import NUMBERS, SessionState, shapes
from engine.types import Prompts
from engine.wire.controls import check_action, weighted
from engine.wire.fields import MAX_PROMPTS, MAX_SEED, MAX_TEXT_BYTES, MAX_TRANSITION
from engine.wire.parse import stored_opening

FORMAT = "psistream-session-4"
OLDER = ("psistream-session-3", "psistream-session-2")  # without what came later: names, places
ABOUT_BYTES = 6 * MAX_TEXT_BYTES + 64 * MAX_PROMPTS + 256  # JSON may write a character as \u0001
HEADER_BYTES = 2**14
# Limits far beyond what any model makes; sums of squares stay finite. Activations of large models reach
# thousands, latents are scaled to about 1.
MOST, MOST_OF_A_LATENT = 1e6, 1000.0
# Counts that travel as float32 must be exact in it.
MAX_STEPS = MAX_LOOK = 2**23
MOST_OF = {"marks": 2.0 * MAX_STEPS, "landmarks": 16.0 * MAX_STEPS}
LEAST = {"odometer": -MAX_STEPS}


OLD_NUMBERS = 8  # of a state before there were places
LATER = ("views", "marks", "landmarks", "named", "attributes")


class Saved(NamedTuple):
    """What a snapshot holds. Arrays of a state are never written to, so keeping one costs references only."""

    state: SessionState
    prompts: Prompts
    held: str | None  # the held action


def save(spec: ModelSpec, fingerprint: str, saved: Saved) -> bytes:
    """Safetensors with the state's arrays, its numbers, and `about`, JSON padded with spaces. Copies
    everything: never call it with a lock held."""
    about = {"prompts": [asdict(prompt) for prompt in saved.prompts], "held": saved.held}
    text = json.dumps(about, ensure_ascii=False).encode().ljust(ABOUT_BYTES)
    arrays: dict[str, Any] = {
        **saved.state.arrays(),
        "numbers": np.array([getattr(saved.state, name) for name in NUMBERS], np.int64),
        "about": np.frombuffer(text, np.uint8),
    }
    return safetensors.numpy.save(arrays, {"format": FORMAT, "model": spec.name, "weights": fingerprint})


def load(spec: ModelSpec, fingerprint: str, data: bytes) -> Saved:
    """Raises InvalidInput with the field `snapshot` unless `data` is a snapshot of this model."""
    arrays, metadata = _parsed(spec, data)
    if metadata.get("format") in OLDER:
        arrays = _with_nothing_kept(spec, arrays)
    elif metadata.get("format") != FORMAT:
        raise _fault(f"its format is {metadata.get('format')!s:.40}, this version reads {FORMAT}")
    theirs = f"{metadata.get('model')!s:.60} (weights {metadata.get('weights')!s:.20})"
    if (metadata.get("model"), metadata.get("weights")) != (spec.name, fingerprint):
        raise _fault(f"it is of the model {theirs}, here runs {spec.name} (weights {fingerprint})")
    wanted = {**shapes(spec), "numbers": (len(NUMBERS),), "about": (ABOUT_BYTES,)}
    for name, shape in wanted.items():
        dtype = {"numbers": np.int64, "about": np.uint8}.get(name, np.float32)
        array = arrays.get(name)
        if array is None or array.shape != shape or array.dtype != dtype:
            raise _fault(f"{name!r} must be {np.dtype(dtype)}{shape}")
        if dtype is np.float32 and not np.isfinite(array).all():
            raise _fault(f"{name!r} has numbers that are not finite")
        most = MOST_OF_A_LATENT if name in ("history", "anchor", "views") else MOST_OF.get(name, MOST)
        if dtype is np.float32 and array.size and np.abs(array).max() > most:
            raise _fault(f"{name!r} has numbers beyond {most:g}, which no model makes")
    _check_landmarks(spec, arrays["landmarks"])
    _check_names(spec, arrays["named"], arrays["attributes"])
    state = SessionState.of({n: arrays[n] for n in shapes(spec)}, _numbers(spec, arrays["numbers"]))
    return Saved(state, *_about(spec, arrays["about"]))


def _with_nothing_kept(spec: ModelSpec, arrays: dict[str, Any]) -> dict[str, Any]:
    """An older snapshot as one whose session knows no places, no plan and no names yet."""
    new = {n: np.zeros(shapes(spec)[n], np.float32) for n in LATER}
    numbers = arrays.get("numbers", np.zeros(0, np.int64))
    if numbers.shape == (OLD_NUMBERS,):
        arrays = {**arrays, "numbers": np.concatenate([numbers, np.zeros_like(numbers)])[: len(NUMBERS)]}
    return {**new, **arrays}


def _check_landmarks(spec: ModelSpec, plan: Any) -> None:
    """Kinds and colours are looked up by number."""
    for column, most in ((1, len(spec.landmark_kinds)), (2, len(spec.landmark_colours) - 1)):
        numbers = plan[:, column]
        if ((numbers != numbers.round()) | (numbers < 0) | (numbers > most)).any():
            raise _fault("'landmarks' has kinds or colours that there are not")


def _check_names(spec: ModelSpec, named: Any, attributes: Any) -> None:
    if not np.isin(named, (0, NAMED, MET)).all():
        raise _fault("'named' must be 0, 1 or 2")
    most = [len(values) for values in spec.choices.values()]
    values, chosen = attributes[:, 0], attributes[:, 1]
    if ((values != values.round()) | (values < 0) | (values > most)).any() or not np.isin(
        chosen, (0, 1)
    ).all():
        raise _fault("'attributes' has values that there are not")


def _parsed(spec: ModelSpec, data: bytes) -> tuple[dict[str, Any], dict[str, Any]]:
    most = sum(4 * int(np.prod(shape)) for shape in shapes(spec).values()) + ABOUT_BYTES + HEADER_BYTES
    if len(data) > most:
        raise _fault(f"{len(data)} bytes are too many for {spec.name}: at most {most}")
    try:
        arrays = safetensors.numpy.load(data)
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise _fault(f"it is not a safetensors file: {error!s:.100}") from None
    return arrays, dict(header.get("__metadata__") or {})


def _numbers(spec: ModelSpec, numbers: Sequence[int]) -> dict[str, int]:
    most = {
        "seed": MAX_SEED,
        "remembered": spec.memory_ring,
        "context": 1,
        "from_image": 1,
        "fade_step": MAX_TRANSITION,
        "fade_steps": MAX_TRANSITION,
        "odometer": MAX_STEPS,
        "acted": len(spec.actions) - 1,
        "look": MAX_LOOK,
    }
    named = dict(zip(NUMBERS, (int(n) for n in numbers), strict=True))
    for name, number in named.items():
        if not LEAST.get(name, 0) <= number <= most.get(name, 2**40 - 1):
            raise _fault(f"{name!r} is out of range: {number}")
    if named["fade_step"] > named["fade_steps"]:
        raise _fault("'fade_step' must not be beyond 'fade_steps'")
    return named


def _about(spec: ModelSpec, text: Any) -> tuple[Prompts, str | None]:
    try:
        about = json.loads(text.tobytes())
        prompts = stored_opening({"prompts": about["prompts"]}).prompts
        check_action(about["held"], spec.actions, "held")
        return weighted(prompts or ()), about["held"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise _fault(f"'about' does not say prompts and action: {error!s:.100}") from None
    except InvalidInput as error:
        raise _fault(error.message) from None


def _fault(reason: str) -> InvalidInput:
    return InvalidInput(f"snapshot: {reason}", field="snapshot")
