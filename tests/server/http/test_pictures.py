"""Pictures from clients: checked by their header, decoded in a limited process, one per session."""

from __future__ import annotations

import asyncio
import base64
import io
import threading
from collections.abc import Iterator

import pytest
from PIL import Image

from engine.errors import InvalidInput
from engine.images import check_size, size_of
from server.http.pictures.pool import DECODE_S, Pictures
from server.http.problems import Busy
from tests.rigs.server.hanging_decoder import HANGS, decode_or_hang
from tests.rigs.server.server_rig import live

BOMB = base64.b64decode("UklGRh4AAABXRUJQVlA4TBEAAAAvP9/nAwfQsSY0of+BiOh/AAA=")  # 8000x4000 in 38 bytes


def encoded(width: int, height: int, kind: str = "PNG", **options: object) -> bytes:
    data = io.BytesIO()
    Image.new("RGB", (width, height), "red").save(data, kind, **options)
    return data.getvalue()


def claims(width: int, height: int) -> bytes:
    """A PNG with this size in its header."""
    honest = encoded(1, 1)
    return honest[:16] + width.to_bytes(4, "big") + height.to_bytes(4, "big") + honest[24:]


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
@pytest.mark.parametrize("size", [(1, 1), (300, 200), (37, 1000)])
def test_the_header_tells_the_size_that_pillow_sees(kind: str, size: tuple[int, int]) -> None:
    assert size_of(encoded(*size, kind)) == size
    if kind == "WEBP":
        assert size_of(encoded(*size, kind, lossless=True)) == size
        assert size_of(encoded(*size, kind, exif=b"Exif\0\0MM\0*\0\0\0\x08\0\0\0\0\0\0")) == size
    if kind == "JPEG":
        assert size_of(encoded(*size, kind, progressive=True, comment=b"\xff\xc0" * 900)) == size


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (BOMB, "8000x4000"),
        (claims(1, 32_000_000), "1x32000000"),
        (claims(4097, 100), "4096 per side"),
        (claims(2900, 2900), "8000000 in total"),
        (claims(4000, 400), "8 times"),
        (claims(0, 5), "no pixels"),
        (b"", "not a picture"),
        (b"\xff\xd8" + b"\xff" * 200_000, "not a picture"),
        (b"\xff\xd8" + b"\xff\xe0\0\2" * 100_000, "not a picture"),
        (b"RIFF\0\0\0\0WEBPVP8X", "not a picture"),
    ],
)
def test_large_pictures_are_refused_by_their_header(data: bytes, says: str) -> None:
    with pytest.raises(InvalidInput, match=says):
        check_size(data)


@pytest.fixture
def pictures() -> Iterator[Pictures]:
    made = Pictures()
    yield made
    made.close()


def test_each_session_has_one_picture_in_the_making(pictures: Pictures) -> None:
    results: list[object] = []

    def decode(session: str) -> None:
        try:
            results.append(pictures.decode(session, 160, 96, encoded(2800, 2800)).shape)
        except Busy as error:
            results.append(error.code)

    threads = [threading.Thread(target=decode, args=(name,)) for name in ("a", "a", "a", "b")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(map(str, results)) == ["(3, 96, 160)", "(3, 96, 160)", "busy", "busy"]


def test_a_decoder_that_takes_too_long_is_replaced() -> None:
    pictures = Pictures(decode_or_hang)
    assert pictures.decode("a", 8, 8, encoded(9, 9)).shape == (3, 8, 8)
    pictures.decode_s = 0.05  # only an endless decode reaches this
    with pytest.raises(InvalidInput, match="too long"):
        pictures.decode("a", HANGS, HANGS, encoded(9, 9))
    pictures.decode_s = DECODE_S
    assert pictures.decode("a", 8, 8, encoded(9, 9)).shape == (3, 8, 8)
    pictures.close()


def test_a_picture_that_has_to_wait_too_long_is_not_called_too_large() -> None:
    """The process takes seconds to start while others need the processor."""
    pictures = Pictures(wait_s=0.0)
    with pytest.raises(Busy, match="try again"):
        pictures.decode("a", 8, 8, encoded(9, 9))
    pictures.close()


def test_a_decoder_that_takes_too_much_is_refused() -> None:
    pictures = Pictures(memory_bytes=1)
    with pytest.raises(InvalidInput):
        pictures.decode("a", 8, 8, encoded(2800, 2800))  # 24 MB at once; a JPEG is decoded smaller
    pictures.close()


async def test_the_server_responds_while_pictures_are_decoded() -> None:
    """Eight PNGs of 4 kB used to stop the event loop for 25 s."""
    async with live() as server:
        message = {"type": "image", "data": base64.b64encode(encoded(2800, 2800)).decode()}
        answers = [asyncio.create_task(server.control(message)) for _ in range(3)]
        while not all(task.done() for task in answers):
            assert (await server.http.get("/livez")).status_code == 200
            await asyncio.sleep(0.01)
        told = [(task.result().status_code, task.result().json().get("code")) for task in answers]
        assert sorted(told, key=str) == [(202, None), (429, "busy"), (429, "busy")]
        bomb = await server.control({"type": "image", "data": base64.b64encode(BOMB).decode()})
        assert (bomb.status_code, bomb.json()["field"]) == (400, "data")
