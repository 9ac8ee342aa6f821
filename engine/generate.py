"""Video as arrays, for notebooks and scripts: `psistream generate` without a file.

    from engine.generate import generate

    for frame in generate("a red fox in the snow", seconds=4, script="2s:right"):
        ...  # (H, W, 3) uint8, RGB

docs/python.md has more. It needs no server, and with the built-in model no torch.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from engine.backends.registry import DEFAULT_BACKEND, load_backend
from engine.errors import InvalidInput
from engine.images import decode_image, read_image
from engine.runtime.offline import segments
from engine.script import parse_script
from engine.types import ByteArray
from engine.wire.fields import MAX_SEED


def generate(
    prompt: str,
    *,
    seconds: float | None = None,
    seed: int | None = None,
    image: Path | str | bytes | None = None,
    script: str = "",
    model: str | None = None,
    backend: str = DEFAULT_BACKEND,
    weights: Path | str | None = None,
) -> Iterator[ByteArray]:
    """Frames (H, W, 3) uint8 RGB, one after the other, `seconds` of them or for ever.

    `image`: a picture's file or its bytes to start from. `script`: steering, as "2s:right,4s:prompt=night".
    The same `seed` gives the same frames; by default it is random. `model`, `backend` and `weights` are those
    of `psistream generate`. The model is loaded at the first frame and freed when the iterator ends or is
    closed. Raises InvalidInput that names the argument, BackendError."""
    if seconds is not None and not 0 < seconds < float("inf"):
        raise InvalidInput(f"seconds must be more than 0, not {seconds}", field="seconds")
    if seed is not None and not 0 <= seed <= MAX_SEED:
        raise InvalidInput(f"seed must be a whole number from 0 to {MAX_SEED}, not {seed}", field="seed")
    return _frames(
        prompt, seconds, seed, image, script, (backend, model, None if weights is None else Path(weights))
    )


def _frames(
    prompt: str,
    seconds: float | None,
    seed: int | None,
    image: Path | str | bytes | None,
    script: str,
    which: tuple[str, str | None, Path | None],
) -> Iterator[ByteArray]:
    with closing(load_backend(*which)) as backend:
        spec = backend.spec
        picture = None
        if isinstance(image, bytes):
            picture = decode_image(image, spec.width, spec.height)
        elif image is not None:
            picture = read_image(Path(image), spec.width, spec.height)
        chosen = secrets.randbelow(MAX_SEED + 1) if seed is None else seed
        entries = parse_script(script, spec.actions)
        left = None if seconds is None else max(1, round(seconds * spec.fps))
        with closing(segments(backend, prompt=prompt, seed=chosen, image=picture, script=entries)) as made:
            for segment in made:
                for frame in segment.frames:
                    yield frame
                    left = None if left is None else left - 1
                    if left == 0:
                        return
