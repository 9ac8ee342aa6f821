"""Starts a scene from a video: its last frames become the history, as if the model had made them.

The video is taken in pieces of one segment. Each is encoded and then goes through the functions that follow
every segment: decoder state, memory and ψ are what they would be had it been generated. The first frame of
the clip becomes the anchor. A model that encodes frames together (`encode_video`) gets whole segments; others
get a picture per latent, so the movement within a latent is lost. Clients, files and time are unknown here.

Legend: T frames of the video, F frames of a segment, W its latents, H W pixels.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from engine.clips import FrameFormat, read_clip
from engine.errors import InvalidInput
from engine.model.signature import ModelSpec, signature
from engine.runtime.segment.conditioner import noisy
from engine.runtime.segment.generator import Generator, Job
from engine.runtime.segment.noise import START
from engine.runtime.state import snapshot
from engine.runtime.state.change import Change, NewScene, as_prompts
from engine.runtime.state.snapshot import Saved
from engine.runtime.state.state import SessionState, fixed
from engine.types import ByteArray, FloatArray, Prompts


def most_frames(spec: ModelSpec) -> int:
    """The frames that a start can use: enough segments to fill the history."""
    return spec.frames_per_segment * math.ceil(spec.history_frames / spec.segment)


def read_video(path: Path, spec: ModelSpec) -> ByteArray:
    """A clip of the user's as `after_video` takes it. Raises InvalidInput."""
    screen = FrameFormat(spec.width, spec.height, spec.fps)
    return read_clip(path, screen, least=spec.frames_per_segment, most=most_frames(spec))


def check_video(video: ByteArray, spec: ModelSpec) -> None:
    """Raises InvalidInput unless `video` is (1 + T, 3, H, W) uint8 of the model's size, T at least F."""
    shape = (3, spec.height, spec.width)
    if video.dtype != np.uint8 or video.shape[1:] != shape or len(video) <= spec.frames_per_segment:
        raise InvalidInput(
            f"video must be a first frame and at least {spec.frames_per_segment} more, each uint8 RGB of "
            f"shape {shape}",
            field="video",
        )


def after_video(
    generator: Generator, video: ByteArray, prompts: str | Prompts, seed: int
) -> Iterator[SessionState]:
    """The state after the video, as the last of the states yielded: one after each segment of work, so that
    a device can do other things in between.

    `video` (1 + T, 3, H, W) uint8 is the clip's first frame and its last ones. Raises InvalidInput,
    BackendError."""
    spec = generator.spec
    check_video(video, spec)
    state = SessionState.zeros(spec)
    scene = NewScene(seed, 0, video[0])
    generator.conditioner.prepare([(state, Change(as_prompts(prompts), scene=scene))])
    empty = fixed(np.zeros_like(state.latents[0]))
    state.latents = (empty,) * len(state.latents)  # the picture is the anchor alone, the video follows
    yield state
    frames = video[1:][-most_frames(spec) :]
    pieces = len(frames) // spec.frames_per_segment
    frames = frames[-pieces * spec.frames_per_segment :]
    for piece in np.split(frames, pieces):
        latents = _noisy(encoded(generator, piece), state, spec)
        generator.finish([Job(state, 0)], latents[None])
        yield state
    if not any(t.name == "index" for t in signature(spec)[spec.denoise_roles[0]].inputs):
        state.index = 0  # the first segment is a scene's first, which takes more calls; the model is not told
    yield state


def encoded(generator: Generator, frames: ByteArray) -> FloatArray:
    """A segment's frames (F, 3, H, W) → its latents (W, C, h, w)."""
    spec, run = generator.spec, generator.backend.run
    if spec.encodes_video:
        return np.asarray(run("encode_video", {"video": frames[None]})["segment"][0], np.float32)
    shown = frames[spec.frames_per_latent - 1 :: spec.frames_per_latent]
    return np.concatenate([run("encode_image", {"pixels": f[None]})["anchor"][0] for f in shown])


def snapshot_of(
    generator: Generator, video: ByteArray, prompts: str | Prompts, seed: int, fingerprint: str
) -> bytes:
    """A snapshot of a session that has just shown the video. Raises InvalidInput, BackendError."""
    *_, state = after_video(generator, video, prompts, seed)
    return snapshot.save(generator.spec, fingerprint, Saved(state, as_prompts(prompts), None))


def _noisy(latents: FloatArray, state: SessionState, spec: ModelSpec) -> FloatArray:
    """With as much noise as on a start picture, drawn for each latent, as the public pipelines do."""
    first = START + 2 + state.index * spec.segment
    rows = [noisy(spec.start_noise, state, latent, first + n) for n, latent in enumerate(latents)]
    return np.stack(rows)
