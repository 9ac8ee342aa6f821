"""A picture that somebody sent → pixels of the model's size. It knows no sessions and no channels."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from engine.errors import InvalidInput
from engine.types import ByteArray

FORMATS = ("PNG", "JPEG", "WEBP")
MAX_PIXELS = 40_000_000  # a bomb is refused by its header, before anything is unpacked


def decode_image(data: bytes, height: int, width: int, field: str = "image") -> ByteArray:
    """(3, height, width) uint8 RGB: turned upright, cropped around the middle to the aspect, scaled.

    Raises InvalidInput."""
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as opened:
            if opened.width * opened.height > MAX_PIXELS:
                raise InvalidInput(
                    f"{field}: {opened.width}x{opened.height} is too large, at most {MAX_PIXELS // 10**6} "
                    "megapixels are allowed: make it smaller",
                    field=field,
                )
            opened.draft("RGB", (2 * width, 2 * height))
            upright = ImageOps.exif_transpose(opened).convert("RGBA")
    except UnidentifiedImageError:
        raise InvalidInput(f"{field}: not a PNG, JPEG or WebP picture", field=field) from None
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise InvalidInput(f"{field}: the picture is damaged or cut short", field=field) from None
    flat = Image.new("RGB", upright.size, "white")
    flat.paste(upright, mask=upright.getchannel("A"))
    fitted = ImageOps.fit(flat, (width, height), Image.Resampling.LANCZOS)
    return np.ascontiguousarray(np.asarray(fitted, np.uint8).transpose(2, 0, 1))
