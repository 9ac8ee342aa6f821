"""Whether what clients ask of a session can be done: or InvalidInput with the field and the fix."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Sequence

import numpy as np

from engine.config import MAX_PROMPT_BYTES, MAX_SEED
from engine.errors import InvalidInput
from engine.model.signature import ModelSpec
from engine.runtime.state.change import Prompts, as_prompts
from engine.types import Action, Image, Pause, Prompt, Reset, Resume, Rewind, Weighted

MAX_PROMPTS = 8
MAX_TRANSITION = 64
MAX_WEIGHT = 1000
NO_LINE = {"Cc", "Cs", "Zl", "Zp"}  # Unicode's categories of controls, surrogates, ends of lines
OVERRIDES = frozenset(map(chr, (*range(0x202A, 0x202F), *range(0x2066, 0x206A))))  # of writing direction


def checked_prompts(text: object, field: str) -> Prompts:
    """A text or several weighted ones, in the one form that the runtime uses."""
    if isinstance(text, str):
        _check_size(text, field)
        return as_prompts(text)
    if not isinstance(text, tuple) or not 0 < len(text) <= MAX_PROMPTS:
        raise InvalidInput(f"{field} must be a string or 1 to {MAX_PROMPTS} weighted ones", field=field)
    for part in text:
        if not isinstance(part, Weighted) or not isinstance(part.text, str):
            raise InvalidInput(f"{field} must be a string or consist of weighted strings", field=field)
        if not _number(part.weight) or not 0 < part.weight <= MAX_WEIGHT:
            raise InvalidInput(
                f"weight must be a number above 0, at most {MAX_WEIGHT}, not {part.weight!r:.20}",
                field="weight",
            )
    _check_size("".join(part.text for part in text), field)
    return text


def check_line(prompts: Prompts, field: str) -> None:
    """Each text is one line with something to read in it, as the server lets them in."""
    for part in prompts:
        if not any(c.isprintable() and not c.isspace() for c in part.text):
            raise InvalidInput(f"{field} is empty: write what the video is to show", field=field)
        if any(unicodedata.category(c) in NO_LINE or c in OVERRIDES for c in part.text):
            raise InvalidInput(f"{field} must be one line of text without control characters", field=field)


def check_body(body: object, spec: ModelSpec) -> None:
    """What a control asks for."""
    match body:
        case Prompt():
            check_when(body.when)
            check_prompt(body)
        case Action():
            check_action(body.action, spec.actions, "action")
        case Reset():
            check_when(body.when)
            if body.seed is not None:
                check_seed(body.seed, "seed")
        case Image():
            check_when(body.when)
            check_image(body.pixels, spec, "pixels")
        case Rewind():
            check_seconds(body.seconds, "seconds")
        case Pause() | Resume():
            pass
        case _:
            raise InvalidInput(f"control: unknown type {type(body).__name__}", field="type")


def check_prompt(prompt: Prompt) -> None:
    checked_prompts(prompt.text, "text")
    if prompt.how not in ("recondition", "soft", "cut"):
        raise InvalidInput("how must be 'recondition', 'soft' or 'cut'", field="how")
    over = prompt.transition_segments
    if not isinstance(over, int) or isinstance(over, bool) or not 1 <= over <= MAX_TRANSITION:
        raise InvalidInput(
            f"transition_segments must be a whole number from 1 to {MAX_TRANSITION}",
            field="transition_segments",
        )


def check_when(when: object) -> None:
    if when not in ("next", "now"):
        raise InvalidInput("when must be 'next' or 'now'", field="when")


def check_seed(seed: object, field: str) -> None:
    if not isinstance(seed, int) or isinstance(seed, bool) or not 0 <= seed <= MAX_SEED:
        raise InvalidInput(f"{field} must be a whole number from 0 to {MAX_SEED}", field=field)


def check_action(action: object, actions: Sequence[str], field: str) -> None:
    if action is not None and action not in actions:
        raise InvalidInput(f"{field} must be one of {', '.join(actions)} or null", field=field)


def check_image(image: object, spec: ModelSpec, field: str) -> None:
    shape = (3, spec.height, spec.width)
    if not isinstance(image, np.ndarray) or image.shape != shape or image.dtype != np.uint8:
        raise InvalidInput(f"{field} must be uint8 RGB of shape {shape}", field=field)


def check_seconds(seconds: object, field: str, least: float = 0.0) -> None:
    if not _number(seconds) or not least <= float(seconds) < math.inf:  # type: ignore[arg-type]
        raise InvalidInput(f"{field} must be a number from {least:g} up", field=field)


def _number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _check_size(text: str, field: str) -> None:
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        raise InvalidInput(f"{field} must be valid Unicode", field=field) from None
    if size > MAX_PROMPT_BYTES:
        raise InvalidInput(
            f"{field} is {size} bytes long, at most {MAX_PROMPT_BYTES} are allowed", field=field
        )
