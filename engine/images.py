"""A picture that somebody sent → pixels of the model's size. Pillow, with a short list of formats and tight
limits.

It doesn't know what the picture is for or where it came from.
"""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from engine.errors import InvalidInput
from engine.types import ByteArray

FORMATS = ("PNG", "JPEG", "WEBP")
MAX_FILE_BYTES = 64 * 2**20
MAX_PIXELS = 32_000_000  # a bomb is refused by its header, before anything is unpacked


def read_image(path: Path, width: int, height: int) -> ByteArray:
    """`decode_image` of a file. Raises InvalidInput."""
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise InvalidInput(f"it is larger than {MAX_FILE_BYTES >> 20} MiB")
        return decode_image(path.read_bytes(), width, height)
    except InvalidInput as error:
        raise InvalidInput(f"image: {path}: {error.message}", field="image") from None
    except OSError as error:
        raise InvalidInput(f"image: cannot read {path}: {error.strerror}", field="image") from None


def decode_image(data: bytes, width: int, height: int) -> ByteArray:
    """(3, H, W) uint8 RGB: turned upright, on white, cut at its middle to the aspect, scaled.

    Raises InvalidInput. Costs milliseconds to tenths of a second."""
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                raise InvalidInput(
                    f"the picture has {image.width}x{image.height} pixels, at most {MAX_PIXELS} are allowed: "
                    "make it smaller"
                )
            image.draft("RGB", (2 * width, 2 * height))  # JPEG: decode it small at once
            picture = _flat(ImageOps.exif_transpose(image))
    except UnidentifiedImageError:
        raise InvalidInput("the data is not a picture: use PNG, JPEG or WebP") from None
    except (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError, Warning) as error:
        raise InvalidInput(f"the picture cannot be read ({type(error).__name__}): is it complete?") from None
    fitted = ImageOps.fit(picture, (width, height), Image.Resampling.LANCZOS)
    return np.ascontiguousarray(np.asarray(fitted, np.uint8).transpose(2, 0, 1))


def encode_png(pixels: ByteArray) -> bytes:
    """(3, H, W) uint8 RGB → the bytes of a PNG file."""
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels.transpose(1, 2, 0))).save(file, "PNG")
    return file.getvalue()


def _flat(image: Image.Image) -> Image.Image:
    """RGB, transparent parts on white."""
    if image.mode.startswith("I"):  # 16 bits, which convert() would clip at 255
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)).convert("RGB")
    layer = image.convert("RGBA")
    white = Image.new("RGBA", layer.size, "white")
    return Image.alpha_composite(white, layer).convert("RGB")
