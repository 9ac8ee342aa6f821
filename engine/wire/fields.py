"""Field types of the wire schema: text, ids, seeds and picture data, each with its rule as a sentence.

A field's description completes the sentence "<field> must be …" in error messages and in docs/protocol.md.
Two sources share these types. Text from a client is cleaned. Text from a control log or a snapshot (validated
with the context STORED) must already be clean, since replaying it must give the same video. Nothing here
knows which message a field belongs to.
"""

from __future__ import annotations

import base64
import binascii
import unicodedata
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, ValidationInfo
from pydantic_core import PydanticCustomError

MAX_TEXT_BYTES = 2048
MAX_IMAGE_BYTES = 2 * 1024 * 1024
MAX_VIDEO_BYTES = 8 * 1024 * 1024
MAX_SEED = 2**32 - 1
MAX_PROMPTS = 8
MAX_TRANSITION = 64
MAX_REWIND_S = 3600
STORED = {"stored": True}  # validation context for what this program wrote to a file


def _fault(text: str) -> PydanticCustomError:
    return PydanticCustomError("plain", text)


def _text(text: str, info: ValidationInfo) -> str:
    """From a client: in NFC, on one line, without control characters. From a file: refused unless it is
    so."""
    size = len(text.encode("utf-8", "surrogatepass"))
    if size > MAX_TEXT_BYTES:  # before any Unicode work, whose cost grows faster than the text
        raise _fault(f"is {size} bytes long, at most {MAX_TEXT_BYTES} are allowed: shorten it")
    if (info.context or {}).get("stored"):
        if any(_is_control(c) or unicodedata.category(c) in ("Zl", "Zp") for c in text):
            raise _fault("must be one line of text without control characters")
    else:
        text = " ".join(unicodedata.normalize("NFC", "".join(map(_plain_character, text))).split())
    if not any(character.isprintable() and not character.isspace() for character in text):
        raise _fault("is empty: write what the video is to show")
    if len(text.encode("utf-8")) > MAX_TEXT_BYTES:
        raise _fault(f"is over {MAX_TEXT_BYTES} bytes after normalisation: shorten it")
    return text


def _plain_character(character: str) -> str:
    if character.isspace():
        return " "
    return "" if _is_control(character) else character


def _is_control(character: str) -> bool:
    """A control character, a lone surrogate or an override of the writing direction."""
    override = "\u202a" <= character <= "\u202e" or "\u2066" <= character <= "\u2069"
    return override or unicodedata.category(character) in ("Cc", "Cs")


def _printable_id(value: str) -> str:
    if not value.isprintable():
        raise _fault("must not contain control characters: use letters, digits and dashes")
    return value


def _image_bytes(data: str, info: ValidationInfo) -> str:
    if (info.context or {}).get("stored"):
        return _base64(data)  # a PNG of the model's size, which may be larger than what clients may send
    if len(data) > 4 * ((MAX_IMAGE_BYTES + 2) // 3):
        raise _fault(f"is too large: a picture may have {MAX_IMAGE_BYTES} bytes, make it smaller")
    try:
        size = len(base64.b64decode(data, validate=True))
    except (binascii.Error, ValueError):
        raise PydanticCustomError(
            "plain",
            "is not base64: send the bytes of a PNG, JPEG or WebP file in standard base64, with padding",
        ) from None
    if not 0 < size <= MAX_IMAGE_BYTES:
        raise _fault(f"must hold 1 to {MAX_IMAGE_BYTES} bytes of picture, not {size}")
    return data


def _video_bytes(data: str) -> str:
    if len(data) > 4 * ((MAX_VIDEO_BYTES + 2) // 3):
        raise _fault(f"is too large: a clip may have {MAX_VIDEO_BYTES} bytes, cut out its last seconds")
    return _base64(data)


def _base64(data: str) -> str:
    try:
        base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError):
        raise _fault("is not base64: send the bytes of the file in standard base64, with padding") from None
    return data


VIDEO_RULE = "a string: an MP4, MOV, WebM or Matroska file in base64, of which the last seconds are continued"
VideoData = Annotated[str, AfterValidator(_video_bytes)]
SNAPSHOT_RULE = "a string: a file from GET /v1/sessions/{id}/snapshot, in base64"
FileData = Annotated[str, AfterValidator(_base64)]
ID_RULE = "a string of 1 to 64 characters"
SEED_RULE = f"a whole number from 0 to {MAX_SEED}"
MessageId = Annotated[
    str,
    Field(min_length=1, max_length=64, description=ID_RULE),
    AfterValidator(_printable_id),
]
TEXT_RULE = f"a string of at most {MAX_TEXT_BYTES} bytes in UTF-8"
Text = Annotated[str, Field(description=TEXT_RULE), AfterValidator(_text)]
How = Annotated[
    Literal["recondition", "soft", "cut"],
    Field(description='"recondition" (keep the scene), "soft" (bit by bit) or "cut" (new scene)'),
]
When = Annotated[
    Literal["next", "now"],
    Field(description='"next" (queued frames still play) or "now" (they are dropped)'),
]
TRANSITION_RULE = f"a whole number of segments from 1 to {MAX_TRANSITION}"
Transition = Annotated[int, Field(ge=1, le=MAX_TRANSITION, description=TRANSITION_RULE)]
WEIGHT_RULE = "a number above 0, at most 1000"
Weight = Annotated[float, Field(gt=0, le=1000, allow_inf_nan=False, description=WEIGHT_RULE)]
SECONDS_RULE = f"a number above 0, at most {MAX_REWIND_S}"
Seconds = Annotated[float, Field(gt=0, le=MAX_REWIND_S, allow_inf_nan=False, description=SECONDS_RULE)]
BACK_RULE = f"a number from 0 to {MAX_REWIND_S}"
Back = Annotated[float, Field(ge=0, le=MAX_REWIND_S, allow_inf_nan=False, description=BACK_RULE)]
PROMPTS_RULE = f"a list of 1 to {MAX_PROMPTS} objects with `text` and `weight`, instead of `text`"
ACTION_RULE = "one of the model's actions (the session's `actions`) or null"
ActionName = Annotated[
    str, Field(min_length=1, max_length=64, description=ACTION_RULE), AfterValidator(_printable_id)
]
Seed = Annotated[int, Field(ge=0, le=MAX_SEED, description=SEED_RULE)]
ImageData = Annotated[
    str, Field(description="a string: a PNG, JPEG or WebP file in base64"), AfterValidator(_image_bytes)
]
