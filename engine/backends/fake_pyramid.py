"""The fake with Helios' shape: three stages, 33 frames from nine latents, no ψ, no actions, no decoder state.

It shows what the fake shows (engine.backends.fake), as far as Helios has it: the prompt's colours over the
anchor's, the noise of the ground, what the history holds. It takes Helios' times where fake.json gives them.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from engine.backends.fake import FAKE_SPEC, FakeBackend, Row
from engine.backends.fake_pictures import draw
from engine.model.helios.schedule import STAGE
from engine.types import ByteArray

PYRAMID_SPEC = replace(
    FAKE_SPEC,
    name="fake-helios",
    fps=24,
    segment=9,
    image_tokens=0,
    decoder_state=(0,),
    actions=("idle",),
    steps=6,
    first_steps=12,
    sampler="pyramid",
    segment_frames=33,
    stage_steps=(2, 2, 2),
    memory=False,
    pooled=False,
    start_noise=(0.111, 0.135),
    encodes_video=True,
    place_columns=0,  # its camera's position is unknown
    landmarks=0,
    landmark_kinds=(),
    landmark_colours=(),
    landmark_spacing_px=0,
    landmark_jitter_px=0,
)


class FakePyramid(FakeBackend):
    """`told` sets the device's costs and failures: see FakeDevice."""

    def __init__(self, **told: Any) -> None:
        super().__init__(PYRAMID_SPEC, **told)
        self._rows["project_text"] = self._project_text
        self._rows["encode_video"] = self._encode_video
        for stage, role in enumerate(self.spec.denoise_roles):
            self._rows[role] = partial(self._denoise_stage, stage)

    def _encode_text(self, row: Row) -> Row:
        encoded = super()._encode_text(row)
        return {name: encoded[name] for name in ("text", "motion")}

    def _project_text(self, row: Row) -> Row:
        """Its text is as wide as its tokens already."""
        return {"projected": row["text"]}

    def _encode_image(self, row: Row) -> Row:
        anchor = super()._encode_image(row)["anchor"]
        return {"anchor": anchor, "nearest": anchor}

    def _encode_video(self, row: Row) -> Row:
        """The first frame of each latent, as a picture."""
        frames = row["video"][:: self.spec.frames_per_latent]
        latents = [super(FakePyramid, self)._encode_image({"pixels": f})["anchor"] for f in frames]
        return {"segment": np.concatenate(latents)}

    def _denoise_stage(self, stage: int, row: Row) -> Row:
        """v = start − end: the network's answer, were the end of every stage the clean picture."""
        x, by = row["x"], 2 ** (len(STAGE) - 1 - stage)
        history, anchor = (row[name][..., ::by, ::by] for name in ("history", "anchor"))
        zero, one = np.zeros((), np.float32), np.ones((), np.float32)
        velocity = super()._denoise(
            {
                "x": x,
                "t": zero,
                "d": one,
                "pooled": row["projected"].sum(0),
                "text": row["projected"],
                "psi": np.zeros((1, 6), np.float32),
                "image": zero,
                "history": history,
                "anchor": anchor,
                "context": one if anchor.any() else zero,
                "actions": np.zeros(self.spec.segment, np.int64),
                "sigma": zero,
                "index": zero,
            }
        )["velocity"]  # from x at t = 0 to the clean picture
        s = STAGE[stage]
        sigma = max((float(row["timestep"]) - s.shortest) / (s.longest - s.shortest), 1e-3)
        return {"velocity": (-velocity / np.float32(sigma)).astype(np.float32)}

    def _decode(self, row: Row) -> Row:
        """The first latent is a single frame."""
        frames: list[ByteArray] = []
        last = row["latents"][0]
        for latent in row["latents"]:
            frames.append(draw(self.spec, last, latent, self.busy))
            last = latent
        return {"frames": np.concatenate(frames)[self.spec.frames_per_latent - 1 :]}
