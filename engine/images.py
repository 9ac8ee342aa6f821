"""Decodes pictures to pixels of the model's size, with Pillow, few formats and tight limits.

The size in the file's header is checked before Pillow sees the file.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from engine.errors import InvalidInput
from engine.types import ByteArray

FORMATS = ("PNG", "JPEG", "WEBP")
MAX_FILE_BYTES = 64 * 2**20
# JPEG markers of frames, which have a size: SOF0 to SOF15 except tables and arithmetic conditioning
FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
MAX_MARKERS = 4096
SMALL_SIDE = 1024  # up to this size any aspect ratio is cheap


@dataclass(frozen=True)
class PictureLimits:
    """The largest side, number of pixels, and ratio of the sides (only for larger pictures)."""

    side: int = 4096
    pixels: int = 8_000_000
    aspect: float = 8.0


CLIENT_LIMITS = PictureLimits()
FILE_LIMITS = PictureLimits(16_384, 64_000_000)  # of files that the user names on the command line


def read_image(path: Path, width: int, height: int) -> ByteArray:
    """`decode_image` of a file. Raises InvalidInput that names the file."""
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise InvalidInput(f"it is larger than {MAX_FILE_BYTES >> 20} MiB")
        return decode_image(path.read_bytes(), width, height, FILE_LIMITS)
    except InvalidInput as error:
        raise InvalidInput(f"--image: {path}: {error.message}", field="image") from None
    except OSError as error:
        raise InvalidInput(f"--image: cannot read {path}: {error.strerror}", field="image") from None


def decode_image(data: bytes, width: int, height: int, limits: PictureLimits = CLIENT_LIMITS) -> ByteArray:
    """The picture as (3, H, W) uint8 RGB: turned upright, on white, cropped at the centre to the aspect
    ratio, scaled.

    Raises InvalidInput. Takes milliseconds to tenths of a second."""
    check_size(data, limits)
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            if image.width * image.height > limits.pixels:  # the size that Pillow reads is decisive
                raise _too_large(image.width, image.height, limits)
            image.draft("RGB", (2 * width, 2 * height))  # JPEG: decode at a reduced size
            picture = _flat(ImageOps.exif_transpose(_shrunk(image, width, height)))
    except UnidentifiedImageError:
        raise _no_picture() from None
    except (
        OSError,
        ValueError,
        SyntaxError,
        EOFError,
        MemoryError,
        Image.DecompressionBombError,
        Warning,
    ) as error:
        raise InvalidInput(f"the picture cannot be read ({type(error).__name__}): is it complete?") from None
    fitted = ImageOps.fit(picture, (width, height), Image.Resampling.LANCZOS)
    return np.ascontiguousarray(np.asarray(fitted, np.uint8).transpose(2, 0, 1))


def check_size(data: bytes, limits: PictureLimits = CLIENT_LIMITS) -> None:
    """Check the size in a file's header; costs microseconds. Raises InvalidInput."""
    size = size_of(data)
    if size is None:
        raise _no_picture()
    width, height = size
    if min(size) < 1:
        raise InvalidInput("the picture has no pixels")
    if max(size) > limits.side or width * height > limits.pixels:
        raise _too_large(width, height, limits)
    if max(size) > max(SMALL_SIDE, limits.aspect * min(size)):
        raise InvalidInput(
            f"the picture is {width}x{height}; one side may be {limits.aspect:g} times the other: crop it"
        )


def size_of(data: bytes) -> tuple[int, int] | None:
    """Width and height from the header of a PNG, JPEG or WebP file; None for anything else."""
    if data[:8] == b"\x89PNG\r\n\x1a\n" and data[12:16] == b"IHDR" and len(data) >= 24:
        return int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP" and len(data) >= 30:
        return _webp_size(data)
    return _jpeg_size(data) if data[:2] == b"\xff\xd8" else None


def encode_png(pixels: ByteArray) -> bytes:
    """(3, H, W) uint8 RGB → the bytes of a PNG file."""
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels.transpose(1, 2, 0))).save(file, "PNG")
    return file.getvalue()


def _webp_size(data: bytes) -> tuple[int, int] | None:
    """https://developers.google.com/speed/webp/docs/riff_container"""
    kind = data[12:16]
    if kind == b"VP8X":
        return 1 + int.from_bytes(data[24:27], "little"), 1 + int.from_bytes(data[27:30], "little")
    if kind == b"VP8L":
        bits = int.from_bytes(data[21:25], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    if kind == b"VP8 ":
        return int.from_bytes(data[26:28], "little") & 0x3FFF, int.from_bytes(data[28:30], "little") & 0x3FFF
    return None


def _jpeg_size(data: bytes) -> tuple[int, int] | None:
    at = 2
    for _ in range(MAX_MARKERS):
        while data[at : at + 1] == b"\xff" and data[at + 1 : at + 2] == b"\xff":
            at += 1  # padding
        if data[at : at + 1] != b"\xff" or len(data) < at + 9:
            return None
        marker = data[at + 1]
        if marker in FRAMES:
            return int.from_bytes(data[at + 7 : at + 9], "big"), int.from_bytes(data[at + 5 : at + 7], "big")
        at += 2 + (
            0 if marker == 1 or 0xD0 <= marker <= 0xD8 else int.from_bytes(data[at + 2 : at + 4], "big")
        )
    return None


def _shrunk(image: Image.Image, width: int, height: int) -> Image.Image:
    """Reduced by an integer factor if it is far larger than needed, since later steps make several copies."""
    factor = min(image.width // (2 * max(width, height)), image.height // (2 * max(width, height)))
    if factor < 2 or image.mode not in ("RGB", "RGBA", "L", "LA", "CMYK"):
        return image
    return image.reduce(factor)  # keeps the EXIF data, which contains the orientation


def _flat(image: Image.Image) -> Image.Image:
    """The picture in RGB, with transparent parts on white."""
    if image.mode.startswith("I"):  # 16 bits, which convert() would clip at 255
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)).convert("RGB")
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    layer = image.convert("RGBA")
    white = Image.new("RGBA", layer.size, "white")
    return Image.alpha_composite(white, layer).convert("RGB")


def _too_large(width: int, height: int, limits: PictureLimits) -> InvalidInput:
    return InvalidInput(
        f"the picture has {width}x{height} pixels, but at most {limits.side} per side and {limits.pixels} in "
        "total are allowed: make it smaller"
    )


def _no_picture() -> InvalidInput:
    return InvalidInput("the data is not a picture: use PNG, JPEG or WebP")
