"""What the values of a model's spec may be. A spec comes from a file that anybody may have written.

Kinds and limits of single values first, then what several of them must agree on. Counts are limited because
work and memory follow from them: a spec with a million steps would never finish its first segment.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin

MOST = 2**20  # limit of any count or size that has none below
MOST_OF = {
    "fps": 240,
    "steps": 1000,
    "first_steps": 1000,
    "memory_ring": 256,
    "shift": 100,
    "landmarks": 4096,
}
MOST_ENTRIES, MOST_LETTERS = 256, 4096  # of a list, of a text
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,63}")  # also of a folder in the cache
BEYOND = 2.0**63  # no number of a configuration
LARGEST = 2**28  # numbers in one tensor of a session
MAY_BE_ZERO = {
    "history",
    "text_dim",
    "pooled_dim",
    "image_tokens",
    "decoder_state",
    "segment_frames",
    "stage_steps",
    "start_noise",
    "place_columns",
    "attributes",
    "landmarks",
    "landmark_kinds",
    "landmark_colours",
    "landmark_spacing_px",
    "landmark_jitter_px",
}


def fits(key: str, kind: Any, value: Any) -> bool:
    """Whether a value is of the kind that the type hint names, and within its limits. Numbers are at least 1,
    or 0 where it means none; floats lie between 0 and 1."""
    least, most = 0 if key in MAY_BE_ZERO else 1, MOST_OF.get(key, MOST)
    if not is_kind(kind, value) or (isinstance(value, list | tuple) and not value and least):
        return False
    return all(
        _is_text(v) if isinstance(v, str) else 0 <= v <= 1 if isinstance(v, float) else least <= v <= most
        for v in (value if isinstance(value, list | tuple) else [value])
        if not isinstance(v, bool)
    )


def _is_text(value: str) -> bool:
    return 0 < len(value) <= MOST_LETTERS and value.isprintable()


def is_kind(kind: Any, value: Any) -> bool:
    """Whether a value from JSON or TOML is what a type hint allows: numbers, texts, choices, tuples of them.
    Numbers are finite, lists have MOST_ENTRIES at most. Other hints allow everything."""
    options = get_args(kind)
    if get_origin(kind) is Literal:
        return value in options
    if get_origin(kind) in (Union, UnionType):
        return any(is_kind(option, value) for option in options)
    if get_origin(kind) is tuple:
        if not isinstance(value, list | tuple) or len(value) > MOST_ENTRIES:
            return False
        kinds = options[:1] * len(value) if options[-1] is Ellipsis else options
        return len(kinds) == len(value) and all(map(is_kind, kinds, value))
    if kind in (int, float):
        number = isinstance(value, int | kind) and not isinstance(value, bool)
        return number and -BEYOND < value < BEYOND
    return isinstance(value, kind) if kind in (str, bool, type(None)) else True


def faults(s: Mapping[str, Any]) -> Iterator[str]:
    """What a spec's values, each of which fits, do not agree on; "fps must be …", the key first."""
    if not NAME.fullmatch(s["name"]):
        yield "name must have 1 to 64 letters, digits, dots, dashes and underscores, and no dot first"
    for key in ("actions", "landmark_kinds", "landmark_colours"):
        if len(set(s[key])) != len(s[key]):
            yield f"{key} must not repeat a name"
    if not _are_attributes(s["attributes"]):
        yield "attributes must each be a name and its values, none of them twice"
    if not sum(s["history"]):
        yield "history must have a frame at least"
    if s["width"] < s["latent_width"] or s["height"] < s["latent_height"]:
        yield "width and height must not be below those of the latents"
    latent = s["latent_channels"] * s["latent_height"] * s["latent_width"]
    frames = s["segment_frames"] or s["segment"] * s["frames_per_latent"]
    picture, most_latents = 3 * s["width"] * s["height"], max(sum(s["history"]), s["segment"])
    if max(frames * picture, most_latents * latent, s["place_columns"] * latent) > LARGEST:
        yield f"segment, history, width and height must not need more than {LARGEST} numbers"
    yield from _sampling_faults(s)
    yield from _landmark_faults(s)


def _are_attributes(attributes: Sequence[str]) -> bool:
    words = [each.split() for each in attributes]
    names = [each[0] for each in words if each]
    return len(set(names)) == len(words) and all(len(set(w)) == len(w) > 1 for w in words)


def _sampling_faults(s: Mapping[str, Any]) -> Iterator[str]:
    stages, pyramid = s["stage_steps"], s["sampler"] == "pyramid"
    if s["sampler"] not in ("euler", "unipc", "pyramid"):
        yield "sampler must be euler, unipc or pyramid"
    if s["shift_by"] not in ("own", "previous"):
        yield "shift_by must be own or previous"
    if pyramid != bool(stages):
        yield "stage_steps must be given with the sampler pyramid, and with no other"
    if stages and (len(stages) != 3 or sum(stages) != s["steps"] or 0 in stages):
        yield "stage_steps must be three numbers from 1 up, with the sum `steps`"
    if stages and (s["latent_height"] % 4 or s["latent_width"] % 4):
        yield "latent_height and latent_width must be multiples of 4 for the sampler pyramid"
    if s["start_noise"] and (len(s["start_noise"]) != 2 or s["start_noise"][0] > s["start_noise"][1]):
        yield "start_noise must be the least and the most"


def _landmark_faults(s: Mapping[str, Any]) -> Iterator[str]:
    if not s["landmarks"]:
        return
    spacing, jitter = s["landmark_spacing_px"], s["landmark_jitter_px"]
    if not (s["landmark_kinds"] and s["landmark_colours"]):
        yield "landmark_kinds and landmark_colours must name what landmarks there are"
    if not 2 * jitter < spacing:
        yield "landmark_spacing_px must be more than twice landmark_jitter_px"
    elif s["width"] // spacing > s["landmarks"]:
        yield "landmarks must be as many as fit into the picture"
