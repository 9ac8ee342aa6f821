"""The messages that clients send, as pydantic models: a control each, and what opens a session.

A model knows what is valid and which noun of engine.types it stands for; it reads no bytes and words
no errors.
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, model_validator
from pydantic_core import PydanticCustomError

from engine import types as nouns
from engine.errors import InvalidInput
from engine.types import ByteArray, ControlBody
from engine.wire.fields import (
    BACK_RULE,
    ID_RULE,
    MAX_PROMPTS,
    MAX_TEXT_BYTES,
    PROMPTS_RULE,
    SEED_RULE,
    SNAPSHOT_RULE,
    TEXT_RULE,
    ActionName,
    Back,
    FileData,
    How,
    ImageData,
    MessageId,
    Seconds,
    Seed,
    Text,
    Transition,
    Weight,
    When,
)

ImageDecoder = Callable[
    [bytes], ByteArray
]  # PNG/JPEG/WebP → (3, H, W) uint8 at the model's size, or InvalidInput


class _Message(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class _ControlMessage(_Message):
    id: MessageId | None = Field(default=None, description=ID_RULE)


class WeightedText(_Message):
    """One of several prompts that count together."""

    text: Text
    weight: Weight = 1.0


class PromptMessage(_ControlMessage):
    """A new text, or several that count by their weights. `recondition` keeps the scene, `soft` changes it
    bit by bit, `cut` starts a new one."""

    type: Literal["prompt"]
    text: Text | None = Field(default=None, description=TEXT_RULE)
    prompts: list[WeightedText] | None = Field(
        default=None, min_length=1, max_length=MAX_PROMPTS, description=PROMPTS_RULE
    )
    how: How = "recondition"
    when: When = "next"
    transition_segments: Transition = 4

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if self.prompts is None and self.text is None:
            raise _fault("text", f"is missing: it must be {TEXT_RULE}")
        if self.prompts is not None and self.text is not None:
            raise _fault("prompts", "stands instead of text: send one of them")
        size = sum(len(prompt.text.encode()) for prompt in self.prompts or [])
        if size > MAX_TEXT_BYTES:
            raise _fault(
                "prompts", f"has {size} bytes of text, at most {MAX_TEXT_BYTES} are allowed: shorten it"
            )
        return self

    def body(self, decode_image: ImageDecoder | None) -> ControlBody:
        weighted = tuple(nouns.Weighted(prompt.text, prompt.weight) for prompt in self.prompts or [])
        return nouns.Prompt(self.text or weighted, self.how, self.when, self.transition_segments)


class ActionMessage(_ControlMessage):
    """The action held from now on; null lets go."""

    type: Literal["action"]
    action: ActionName | None = Field(description='"left", "right", "jump", "idle" or null')

    def body(self, decode_image: ImageDecoder | None) -> ControlBody:
        return nouns.Action(action=self.action)


class PauseMessage(_ControlMessage):
    """Stop the video where it is."""

    type: Literal["pause"]

    def body(self, decode_image: ImageDecoder | None) -> ControlBody:
        return nouns.Pause()


class ResumeMessage(_ControlMessage):
    """Go on after a pause."""

    type: Literal["resume"]

    def body(self, decode_image: ImageDecoder | None) -> ControlBody:
        return nouns.Resume()


class ResetMessage(_ControlMessage):
    """Start again from the current prompt; another seed gives another world."""

    type: Literal["reset"]
    seed: Seed | None = Field(default=None, description=SEED_RULE)
    when: When = "next"

    def body(self, decode_image: ImageDecoder | None) -> ControlBody:
        return nouns.Reset(seed=self.seed, when=self.when)


class ImageMessage(_ControlMessage):
    """Cut to a scene that starts from this picture. HTTP only."""

    type: Literal["image"]
    data: ImageData
    when: When = "next"

    def body(self, decode_image: ImageDecoder | None) -> ControlBody:
        return nouns.Image(pixels=pixels_of(self.data, decode_image, field="data"), when=self.when)


class RewindMessage(_ControlMessage):
    """Back to what was on the screen so many seconds of video ago, and on from there at once."""

    type: Literal["rewind"]
    seconds: Seconds

    def body(self, decode_image: ImageDecoder | None) -> ControlBody:
        return nouns.Rewind(seconds=self.seconds)


class PingMessage(_ControlMessage):
    """Data channel only: answered by a pong with the same id, to measure the way there and back."""

    type: Literal["ping"]


class NewSession(_Message):
    """Body of POST /v1/sessions; `image` is base64 like `data` of an image control. With a `snapshot` it goes
    on from there, and what is left out stays as it was."""

    prompt: Text | None = Field(default=None, description=TEXT_RULE)
    seed: Seed | None = Field(default=None, description=SEED_RULE)
    image: ImageData | None = Field(default=None, description="a PNG, JPEG or WebP file in base64")
    snapshot: FileData | None = Field(default=None, description=SNAPSHOT_RULE)

    @model_validator(mode="after")
    def _has_a_beginning(self) -> Self:
        if self.prompt is None and self.snapshot is None:
            raise _fault("prompt", f"is missing: it must be {TEXT_RULE}")
        if self.image is not None and self.snapshot is not None:
            raise _fault("image", "begins a scene and snapshot goes on with one: send one of them")
        return self


class Fork(_Message):
    """Body of POST /v1/sessions/{id}/fork: from what was on the screen `rewind_s` ago. What is left out stays
    as it was."""

    rewind_s: Back = Field(default=0.0, description=BACK_RULE)
    prompt: Text | None = Field(default=None, description=TEXT_RULE)
    seed: Seed | None = Field(default=None, description=SEED_RULE)


ControlMessage = (
    PromptMessage | ActionMessage | PauseMessage | ResumeMessage | ResetMessage | RewindMessage | ImageMessage
)
CONTROL_MODELS: dict[str, type[ControlMessage]] = {
    "prompt": PromptMessage,
    "action": ActionMessage,
    "pause": PauseMessage,
    "resume": ResumeMessage,
    "reset": ResetMessage,
    "rewind": RewindMessage,
    "image": ImageMessage,
}
CONTROLS: TypeAdapter[ControlMessage] = TypeAdapter(Annotated[ControlMessage, Field(discriminator="type")])


def pixels_of(data: str, decode_image: ImageDecoder | None, *, field: str) -> ByteArray:
    if decode_image is None:
        raise InvalidInput("image controls go over HTTP only: POST /v1/sessions/{id}/controls", field="type")
    try:
        return decode_image(base64.b64decode(data))
    except InvalidInput as error:
        raise InvalidInput(error.message, field=error.field or field) from None


def _fault(field: str, text: str) -> PydanticCustomError:
    """Of a message as a whole, told as that of one field."""
    return PydanticCustomError("plain", text, {"field": field})
