"""Generates video as arrays, for notebooks and scripts: `psistream generate` without a file.

    from engine.generate import generate

    for frame in generate("a red fox in the snow", seconds=4, script="2s:right"):
        ...  # (H, W, 3) uint8, RGB

docs/python.md has more. It needs no server, and with the built-in model no torch.
"""

from __future__ import annotations

import io
import secrets
from collections.abc import Iterator
from contextlib import closing
from numbers import Integral, Real
from pathlib import Path

import numpy as np
from PIL import Image

from engine.backends.registry import DEFAULT_BACKEND, load_backend
from engine.errors import InvalidInput
from engine.images import decode_image, read_image
from engine.runtime.offline import segments
from engine.runtime.segment.continuing import read_video
from engine.script import parse_script
from engine.types import ByteArray
from engine.wire.fields import MAX_SEED

Picture = Path | str | bytes | ByteArray


def generate(
    prompt: str,
    *,
    seconds: float | None = None,
    seed: int | None = None,
    image: Picture | None = None,
    video: Path | str | None = None,
    script: str = "",
    model: Path | str | None = None,
    backend: str = DEFAULT_BACKEND,
    weights: Path | str | None = None,
) -> Iterator[ByteArray]:
    """Yield frames (H, W, 3) uint8 RGB for `seconds` of video, or endlessly.

    `image` is a picture to start from: a file, its bytes, or an array (H, W, 3) uint8. `video` is a file
    whose last seconds are continued, instead of `image`. `script` is steering, such as
    "2s:right,4s:prompt=night". The same `seed` gives the same frames; by default it is random. `model`,
    `backend` and `weights` are those of `psistream generate`. The model is loaded before the first frame and
    freed when the iterator ends or is closed. Raises InvalidInput that names the argument, BackendError."""
    if seconds is not None and not (_is(seconds, Real) and 0 < seconds < float("inf")):
        raise InvalidInput(f"seconds must be a number above 0, not {seconds!r:.40}", field="seconds")
    if seed is not None and not (_is(seed, Integral) and 0 <= seed <= MAX_SEED):
        raise InvalidInput(
            f"seed must be a whole number from 0 to {MAX_SEED}, not {seed!r:.40}", field="seed"
        )
    for name, value in (("script", script), ("backend", backend), ("model", model)):
        if not isinstance(value, str) and not (name == "model" and isinstance(value, Path | None)):
            raise InvalidInput(f"{name} must be a string, not {type(value).__name__}", field=name)
    if image is not None and video is not None:
        raise InvalidInput("give image or video, not both", field="video")
    for name, path in (("image", _bytes_of(image)), ("video", video), ("weights", weights)):
        if not isinstance(path, Path | str | bytes | None):
            raise InvalidInput(f"{name} must be the path of a file, not {type(path).__name__}", field=name)
    where = None if weights is None else Path(weights)
    which = backend, None if model is None else str(model), where
    start = _bytes_of(image), None if video is None else Path(video)
    return _frames(prompt, seconds, None if seed is None else int(seed), start, script, which)


def _is(value: object, kind: type) -> bool:
    """isinstance that accepts numpy's numbers, but not True and False."""
    return isinstance(value, kind) and not isinstance(value, bool)


def _bytes_of(image: Picture | None) -> Path | str | bytes | None:
    """A file or bytes stay as they are; an array becomes a PNG. Raises InvalidInput."""
    if not isinstance(image, np.ndarray):
        return image
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
        raise InvalidInput(
            f"image must be an array (H, W, 3) of uint8, not {image.shape} of {image.dtype}", field="image"
        )
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    return file.getvalue()


def _frames(
    prompt: str,
    seconds: float | None,
    seed: int | None,
    start: tuple[Path | str | bytes | None, Path | None],
    script: str,
    which: tuple[str, str | None, Path | None],
) -> Iterator[ByteArray]:
    with closing(load_backend(*which)) as backend:
        spec = backend.spec
        image, video = start
        clip = None if video is None else read_video(video, spec)
        picture = None
        if isinstance(image, bytes):
            picture = decode_image(image, spec.width, spec.height)
        elif image is not None:
            picture = read_image(Path(image), spec.width, spec.height)
        chosen = secrets.randbelow(MAX_SEED + 1) if seed is None else seed
        entries = parse_script(script, spec.actions)
        left = None if seconds is None else max(1, round(seconds * spec.fps))
        begun = segments(backend, prompt=prompt, seed=chosen, image=picture, video=clip, script=entries)
        with closing(begun) as made:
            for segment in made:
                for frame in segment.frames:
                    yield frame
                    left = None if left is None else left - 1
                    if left == 0:
                        return
