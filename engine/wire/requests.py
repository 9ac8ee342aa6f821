"""Messages that are not controls: opening, forking and sharing a session, and ping."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from engine.wire.controls import ControlFields, Message, WeightedTexts, fault
from engine.wire.fields import (
    BACK_RULE,
    MAX_PROMPTS,
    SEED_RULE,
    SNAPSHOT_RULE,
    TEXT_RULE,
    VIDEO_RULE,
    Back,
    FileData,
    ImageData,
    Seed,
    Text,
    VideoData,
)


class PingMessage(ControlFields):
    """Data channel only. The pong has the same id; together they measure the round trip."""

    type: Literal["ping"]


class NewSession(Message):
    """Body of POST /v1/sessions. `image` is base64, like `data` of an image control. With a `snapshot` the
    session continues from it, and omitted fields stay as they were."""

    prompt: Text | None = Field(default=None, description=TEXT_RULE)
    seed: Seed | None = Field(default=None, description=SEED_RULE)
    image: ImageData | None = Field(default=None, description="a PNG, JPEG or WebP file in base64")
    video: VideoData | None = Field(default=None, description=VIDEO_RULE)
    snapshot: FileData | None = Field(default=None, description=SNAPSHOT_RULE)

    @model_validator(mode="after")
    def _has_an_opening(self) -> Self:
        if self.prompt is None and self.snapshot is None:
            raise fault("prompt", f"is missing: it must be {TEXT_RULE}")
        if self.image is not None and self.snapshot is not None:
            raise fault("image", "starts a scene and snapshot continues one: send one of them")
        if self.video is not None and (self.image is not None or self.snapshot is not None):
            raise fault("video", "is continued by itself: send it without image and snapshot")
        return self


class Fork(Message):
    """Body of POST /v1/sessions/{id}/fork: continue from what was on the screen `rewind_s` ago. Omitted
    fields stay as they were."""

    rewind_s: Back = Field(default=0.0, description=BACK_RULE)
    prompt: Text | None = Field(default=None, description=TEXT_RULE)
    seed: Seed | None = Field(default=None, description=SEED_RULE)


MAX_LINK_S = 30 * 24 * 3600
ROLE_RULE = '"viewer" (may watch) or "driver" (may steer as well)'
EXPIRY_RULE = f"a whole number of seconds from 1 to {MAX_LINK_S}"


class NewLink(Message):
    """Body of POST /v1/sessions/{id}/links: the role that the link grants, and for how long."""

    role: Literal["viewer", "driver"] = Field(default="viewer", description=ROLE_RULE)
    expires_in_s: int = Field(default=3600, ge=1, le=MAX_LINK_S, description=EXPIRY_RULE)


LIST_RULE = f"a list of 1 to {MAX_PROMPTS} objects with `text` and `weight`"


class StoredOpening(Message):
    """Fields of a control log's first line, and the prompts of a snapshot. Only existing fields are
    checked."""

    prompts: WeightedTexts | None = Field(default=None, description=LIST_RULE)
    seed: Seed | None = Field(default=None, description=SEED_RULE)
    image: ImageData | None = Field(default=None, description="a PNG, JPEG or WebP file in base64")
    snapshot: FileData | None = Field(default=None, description="the file of a snapshot in base64")
