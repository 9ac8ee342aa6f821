"""The schema of controls, used by every channel and by logs, and its conversion to engine.types.

Each pydantic model validates one control and converts it to a body of engine.types. engine.wire.parse reads
the bytes, and engine.wire.faults words the errors. The session checks whether the model supports a control;
`check_action` can also be called by anyone who knows the model's actions.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter, model_validator
from pydantic_core import PydanticCustomError

from engine import types
from engine.errors import InvalidInput
from engine.images import encode_png
from engine.types import ByteArray, ControlBody, Prompts
from engine.wire import fields
from engine.wire.fields import (
    MAX_PROMPTS,
    MAX_TEXT_BYTES,
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

# PNG, JPEG or WebP → (3, H, W) uint8 at the model's size. Raises InvalidInput.
ImageDecoder = Callable[[bytes], ByteArray]


def fault(field: str, text: str) -> PydanticCustomError:
    """An error of a whole message, reported for one field."""
    return PydanticCustomError("plain", text, {"field": field})


class Message(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class ControlFields(Message):
    id: MessageId | None = Field(default=None, description=fields.ID_RULE)


class WeightedText(Message):
    """One of several prompts that are mixed."""

    text: Text
    weight: Weight = 1.0


def _check_sizes(prompts: list[WeightedText]) -> list[WeightedText]:
    size = sum(len(prompt.text.encode()) for prompt in prompts)
    if size > MAX_TEXT_BYTES:
        raise fault("prompts", f"has {size} bytes of text, at most {MAX_TEXT_BYTES} are allowed: shorten it")
    return prompts


WeightedTexts = Annotated[
    list[WeightedText],
    Field(min_length=1, max_length=MAX_PROMPTS, description=fields.PROMPTS_RULE),
    AfterValidator(_check_sizes),
]


def weighted(texts: Sequence[WeightedText]) -> Prompts:
    return tuple(types.Weighted(part.text, part.weight) for part in texts)


class PromptMessage(ControlFields):
    """A new text, or several with weights. `recondition` keeps the scene, `soft` changes it gradually, `cut`
    starts a new one."""

    type: Literal["prompt"]
    text: Text | None = Field(default=None, description=fields.TEXT_RULE)
    prompts: WeightedTexts | None = Field(default=None, description=fields.PROMPTS_RULE)
    how: How = "recondition"
    when: When = "next"
    transition_segments: Transition = 4

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if self.prompts is None and self.text is None:
            raise fault("text", f"is missing: it must be {fields.TEXT_RULE}")
        if self.prompts is not None and self.text is not None:
            raise fault("prompts", "cannot be combined with text: send one of them")
        return self

    def body(self, decode_image: ImageDecoder | None) -> ControlBody:
        text = self.text or weighted(self.prompts or [])
        return types.Prompt(text, self.how, self.when, self.transition_segments)


class ActionMessage(ControlFields):
    """The action held from now on; null releases it."""

    type: Literal["action"]
    action: fields.ActionName | None = Field(description=fields.ACTION_RULE)

    def body(self, decode_image: ImageDecoder | None) -> ControlBody:
        return types.Action(action=self.action)


class PauseMessage(ControlFields):
    """Stop the video where it is."""

    type: Literal["pause"]

    def body(self, decode_image: ImageDecoder | None) -> ControlBody:
        return types.Pause()


class ResumeMessage(ControlFields):
    """Continue after a pause."""

    type: Literal["resume"]

    def body(self, decode_image: ImageDecoder | None) -> ControlBody:
        return types.Resume()


class ResetMessage(ControlFields):
    """Start again from the current prompt. Another seed gives another world."""

    type: Literal["reset"]
    seed: Seed | None = Field(default=None, description=fields.SEED_RULE)
    when: When = "next"

    def body(self, decode_image: ImageDecoder | None) -> ControlBody:
        return types.Reset(seed=self.seed, when=self.when)


class ImageMessage(ControlFields):
    """Cut to a scene that starts from this picture. HTTP only."""

    type: Literal["image"]
    data: ImageData
    when: When = "next"

    def body(self, decode_image: ImageDecoder | None) -> ControlBody:
        return types.Image(pixels=pixels_of(self.data, decode_image, field="data"), when=self.when)


class RewindMessage(ControlFields):
    """Go back to what was on the screen `seconds` of video ago, and continue from there at once."""

    type: Literal["rewind"]
    seconds: Seconds

    def body(self, decode_image: ImageDecoder | None) -> ControlBody:
        return types.Rewind(seconds=self.seconds)


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


def at_once(body: ControlBody) -> bool:
    """Whether the control invalidates frames that are queued or in progress."""
    return isinstance(body, types.Rewind) or getattr(body, "when", "next") == "now"


def check_action(action: str | None, actions: Sequence[str], field: str = "action") -> None:
    """Raises InvalidInput unless `action` is None or one of the model's."""
    if action is not None and action not in actions:
        raise InvalidInput(f"{field} must be one of {', '.join(actions)} or null", field=field)


def control_json(body: ControlBody) -> dict[str, Any]:
    """The message for `body`, with every field of its type."""
    match body:
        case types.Prompt(text=text):
            texts = {"text": text} if isinstance(text, str) else {"prompts": prompts_json(text)}
            over = body.transition_segments
            return {
                "type": "prompt",
                **texts,
                "how": body.how,
                "when": body.when,
                "transition_segments": over,
            }
        case types.Image(pixels=pixels):
            return {"type": "image", "data": image_json(pixels), "when": body.when}
        case _:
            return {"type": type(body).__name__.lower(), **asdict(body)}


def prompts_json(prompts: Prompts) -> list[dict[str, Any]]:
    return [asdict(prompt) for prompt in prompts]


def image_json(pixels: ByteArray) -> str:
    """(3, H, W) → a PNG in base64."""
    return base64.b64encode(encode_png(pixels)).decode()


def pixels_of(data: str, decode_image: ImageDecoder | None, *, field: str) -> ByteArray:
    """The picture in base64 data, (3, H, W) uint8. Raises InvalidInput for anything else, and for a channel
    that cannot carry pictures."""
    if decode_image is None:
        raise InvalidInput("image controls go over HTTP only: POST /v1/sessions/{id}/controls", field="type")
    try:
        return decode_image(base64.b64decode(data))
    except InvalidInput as error:
        error.field = error.field or field
        raise
