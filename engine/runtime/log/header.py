"""The first line of a control log: which model made the video, how many segments, and how it started."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any, NamedTuple, NoReturn

from engine.errors import InvalidInput
from engine.images import decode_image
from engine.model.signature import ModelSpec
from engine.runtime.log.control_log import FORMAT, LogStart
from engine.runtime.state import snapshot
from engine.runtime.state.change import Change, NewScene
from engine.types import ByteArray, Prompts
from engine.wire.controls import pixels_of, weighted
from engine.wire.fields import MAX_TRANSITION
from engine.wire.parse import stored_opening
from engine.wire.requests import StoredOpening
from engine.wire.strict_json import printable

HEADER = (
    ("format", "model", "weights", "backend", "context_noise", "segments", "before", "lost"),
    ("prompts", "seed", "image"),
    ("segment", "snapshot", "change"),
)
MOST_SEGMENTS = 10_000_000  # weeks of video; more is a typing error
MOST = 2**40
CHANGE, SCENE = ("prompts", "over", "scene"), ("seed", "number", "image", "keep_anchor")


class Header(NamedTuple):
    start: LogStart
    segments: int
    backend: str
    context_noise: float | None
    before: int
    lost: int


def refuse(field: str, reason: str) -> NoReturn:
    raise InvalidInput(reason, field=field)


def whole(row: Mapping[str, Any], name: str, least: int, most: int = MOST, within: str = "") -> int:
    """A whole number of `row`. Raises InvalidInput."""
    value = row.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        up_to = "up" if most == MOST else f"to {most}"
        given = f", not {value!r:.30}" if name in row else ": now it is missing"
        refuse(within + name, f"it must be a whole number from {least} {up_to}{given}")
    return value


def read_header(row: dict[str, Any], spec: ModelSpec, fingerprint: str) -> Header:
    """Raises InvalidInput with the field at fault."""
    if row.get("format") != FORMAT:
        refuse("format", f"it must be {FORMAT!r} in the first line, which says how the video started")
    _same_model(row, spec, fingerprint)
    known = HEADER[2] if "snapshot" in row else HEADER[1]
    for name in row:
        if name in HEADER[1] and name not in known:
            refuse(name, "a video starts with it or with a snapshot, not with both: remove one of them")
        if name in HEADER[2] and name not in known:
            refuse(name, "it belongs to a snapshot, and there is none: remove it")
    for name in row:
        if name not in (*HEADER[0], *known):
            names = ", ".join((*HEADER[0], *known))
            refuse(printable(name), f"it is not a known field: remove it (known: {names})")
    noise, backend = row.get("context_noise"), row.get("backend", "")
    if noise is not None and not (_number(noise) and 0 <= noise <= 1):
        refuse("context_noise", f"it must be null or a number from 0 to 1, not {noise!r:.30}")
    if not isinstance(backend, str):
        refuse("backend", "it must be a string: the backend that made the video")
    lost = whole(row, "lost", 0) if "lost" in row else 0
    before = whole(row, "before", 0) if "before" in row else 0
    if "snapshot" in row:
        start = _from_snapshot(row, spec, fingerprint, before)
    else:
        start = _from_prompt(row, spec, before)
    segments = whole(row, "segments", start.segment, start.segment + MOST_SEGMENTS)
    return Header(start, segments, backend, noise, before, lost)


def _number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _same_model(row: dict[str, Any], spec: ModelSpec, fingerprint: str) -> None:
    of = row.get("model"), row.get("weights")
    if of[0] != spec.name:
        refuse("model", f"the log is of {of[0]!r:.60}, here runs {spec.name!r}: give its own with --model")
    if of[1] != fingerprint:
        refuse("weights", f"the log is of the weights {of[1]!r:.40}, {spec.name} has {fingerprint!r} here")


def _from_prompt(row: dict[str, Any], spec: ModelSpec, before: int) -> LogStart:
    if "prompts" not in row:
        refuse("prompts", "it is missing: a video starts with prompts and a seed, or with a snapshot")
    image = row.get("image")
    if image is None and spec.needs_image:
        refuse("image", f"it is missing: {spec.name} continues a picture, in base64")
    return LogStart(before, _prompts(row["prompts"]), _seed(row.get("seed")), _image(image, spec))


def _from_snapshot(row: dict[str, Any], spec: ModelSpec, fingerprint: str, before: int) -> LogStart:
    first = whole(row, "segment", before)
    data, change = stored_opening({"snapshot": row["snapshot"]}).snapshot or "", row.get("change")
    saved = snapshot.load(spec, fingerprint, base64.b64decode(data))
    return LogStart(first, saved=saved, change=None if change is None else _change(change, spec))


def _change(value: object, spec: ModelSpec) -> Change:
    if not isinstance(value, dict) or set(value) != set(CHANGE):
        refuse("change", f"it must be null or an object with {', '.join(CHANGE)}, as it was written")
    prompts, scene = value["prompts"], value["scene"]
    over = whole(value, "over", 1, MAX_TRANSITION, "change.")
    found = None if prompts is None else _prompts(prompts, "change.")
    return Change(found, over, None if scene is None else _scene(scene, spec))


def _scene(value: object, spec: ModelSpec) -> NewScene:
    if not isinstance(value, dict) or set(value) != set(SCENE):
        refuse("change.scene", f"it must be null or an object with {', '.join(SCENE)}, as it was written")
    seed = _seed(value["seed"], "change.scene.")
    number = whole(value, "number", 0, MOST, "change.scene.")
    if not isinstance(value["keep_anchor"], bool):
        refuse("change.scene.keep_anchor", "it must be true or false")
    return NewScene(seed, number, _image(value["image"], spec, "change.scene."), value["keep_anchor"])


def _prompts(value: object, within: str = "") -> Prompts:
    return weighted(_field("prompts", value, within))


def _seed(value: object, within: str = "") -> int:
    seed: int = _field("seed", value, within)
    return seed


def _image(value: object, spec: ModelSpec, within: str = "") -> ByteArray | None:
    if value is None:
        return None

    def decode(data: bytes) -> ByteArray:
        return decode_image(data, spec.width, spec.height)

    return pixels_of(_field("image", value, within), decode, field=f"{within}image")


def _field(name: str, value: object, within: str) -> Any:
    """The validated field `name` of an opening; null is refused."""
    if value is None:
        refuse(f"{within}{name}", f"it must be {StoredOpening.model_fields[name].description}")
    try:
        return getattr(stored_opening({name: value}), name)
    except InvalidInput as error:
        raise InvalidInput(f"{within}{error.message}", field=f"{within}{error.field}") from None
