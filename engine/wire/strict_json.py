"""Parses untrusted JSON: checks size, depth, duplicate keys, encoding and numbers before anything else.

Every error is an InvalidInput in plain words.
"""

from __future__ import annotations

import json
import math
from typing import Any, NoReturn

from engine.errors import InvalidInput

MAX_DEPTH = 8


def load_object(raw: bytes | str | dict[str, Any], max_bytes: int) -> dict[str, Any]:
    """The JSON object in `raw`. A dict, parsed elsewhere, is checked as far as possible. Raises
    InvalidInput."""
    if isinstance(raw, dict):
        _check_depth(raw)
        if not all(isinstance(key, str) for key in raw):
            raise InvalidInput("the names of all fields must be strings", field="message")
        return raw
    text = _decode(raw, max_bytes)
    try:
        value = json.loads(
            text, object_pairs_hook=_unique, parse_constant=_refuse_constant, parse_float=_finite_float
        )
    except json.JSONDecodeError as error:
        raise InvalidInput(
            f"this is not JSON: {error.msg} at character {error.pos}; send one JSON object", field="message"
        ) from None
    except RecursionError:
        raise _too_deep() from None
    except ValueError:  # an integer of thousands of digits
        raise InvalidInput("a number is too long: use at most 4294967295", field="message") from None
    if not isinstance(value, dict):
        raise InvalidInput('the message must be a JSON object like {"type": "pause"}', field="message")
    _check_depth(value)
    return value


def dump(message: dict[str, Any]) -> str:
    """Compact JSON text. Raises ValueError on a non-finite number: call `finite` first where one may be."""
    return json.dumps(message, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def finite(value: Any) -> Any:
    """The same value with three decimals. Non-finite numbers, which JSON lacks, become null."""
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, float):
        return round(value, 3) if math.isfinite(value) else None
    return value


def printable(name: str, limit: int = 40) -> str:
    """An untrusted name, shortened and without control characters."""
    shown = "".join(character if character.isprintable() else "?" for character in name[:limit])
    return shown + "…" if len(name) > limit else shown or '""'


def _decode(raw: bytes | str, max_bytes: int) -> str:
    try:
        size = len(raw) if isinstance(raw, bytes) else len(raw.encode("utf-8"))
        if size > max_bytes:
            raise InvalidInput(
                f"the message is {size} bytes, at most {max_bytes} are allowed: shorten it", field="message"
            )
        return raw.decode("utf-8") if isinstance(raw, bytes) else raw
    except UnicodeError:
        raise InvalidInput(
            "the message is not valid UTF-8: encode the JSON as UTF-8", field="message"
        ) from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for name, value in pairs:
        if name in result:
            raise InvalidInput(
                f"{printable(name)} is in the message twice: send it once", field=printable(name)
            )
        result[name] = value
    return result


def _refuse_constant(name: str) -> NoReturn:
    raise InvalidInput(f"{name} is not a JSON number: send a finite one", field="message")


def _finite_float(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise InvalidInput("a number is too large: send a finite one", field="message")
    return value


def _check_depth(value: Any, depth: int = 0) -> None:
    if depth > MAX_DEPTH:
        raise _too_deep()
    if isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            _check_depth(item, depth + 1)


def _too_deep() -> InvalidInput:
    return InvalidInput(
        f"the message is nested more than {MAX_DEPTH} deep: controls are flat objects", field="message"
    )
