"""`engine.generate`: video as arrays."""

from __future__ import annotations

import io
import re
from contextlib import redirect_stdout
from itertools import islice

import numpy as np
import pytest
from PIL import Image

from engine.errors import InvalidInput
from engine.generate import generate
from tests.rigs.paths import ROOT


def test_it_yields_as_many_frames_as_requested_and_the_same_for_a_seed() -> None:
    first = list(generate("a red ball", seconds=0.75, seed=7, backend="fake"))
    again = list(generate("a red ball", seconds=0.75, seed=7, backend="fake"))
    other = list(generate("a red ball", seconds=0.75, seed=8, backend="fake"))
    assert len(first) == 12
    assert (first[0].shape, str(first[0].dtype)) == ((96, 160, 3), "uint8")
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not all(np.array_equal(a, b) for a, b in zip(first, other, strict=True))


def test_an_endless_video_can_be_closed() -> None:
    frames = generate("a red ball", backend="fake", seed=1)
    assert len(list(islice(frames, 30))) == 30
    frames.close()  # type: ignore[attr-defined]
    assert list(frames) == []


def test_a_picture_may_be_bytes_and_a_script_steers() -> None:
    file = io.BytesIO()
    Image.new("RGB", (32, 32), (200, 30, 30)).save(file, "PNG")
    plain = list(generate("a ball", seconds=2, seed=7, backend="fake", image=file.getvalue()))
    steered = list(
        generate("a ball", seconds=2, seed=7, backend="fake", image=file.getvalue(), script="1s:prompt=night")
    )
    assert np.array_equal(plain[0], steered[0])
    assert not np.array_equal(plain[-1], steered[-1])


def test_numbers_and_pictures_may_come_from_numpy() -> None:
    picture = np.full((32, 32, 3), (200, 30, 30), np.uint8)
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "PNG")
    arguments = {"seconds": np.float32(0.5), "seed": np.int64(7), "backend": "fake"}
    frames = [
        list(generate("a ball", image=image, **arguments))  # type: ignore[arg-type]
        for image in (picture, file.getvalue())
    ]
    assert len(frames[0]) == 8
    assert all(np.array_equal(a, b) for a, b in zip(*frames, strict=True))


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ({"seconds": 0}, "seconds"),
        ({"seed": -1}, "seed"),
        ({"script": "fly"}, "script"),
        ({"image": b"x"}, None),
        ({"image": np.zeros((4, 4), np.uint8)}, "image"),
        ({"image": np.zeros((4, 4, 3), np.float32)}, "image"),
        ({"image": 5}, "image"),
        ({"seconds": "2"}, "seconds"),
        ({"seconds": float("nan")}, "seconds"),
        ({"seconds": True}, "seconds"),
        ({"seed": "7"}, "seed"),
        ({"seed": 1.5}, "seed"),
        ({"script": None}, "script"),
        ({"model": 3}, "model"),
        ({"weights": 3}, "weights"),
    ],
)
def test_a_wrong_argument_is_named(arguments: dict[str, object], field: str | None) -> None:
    with pytest.raises(InvalidInput) as caught:
        next(generate("a ball", backend="fake", **arguments))  # type: ignore[arg-type]
    assert caught.value.field == field


def test_the_example_of_the_docs_runs() -> None:
    text = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"^```python generate\n(.*?)\n```$", text, re.M | re.S)
    told = io.StringIO()
    with redirect_stdout(told):
        exec(example, {})
    assert told.getvalue() == "16 (96, 160, 3) uint8\n"
