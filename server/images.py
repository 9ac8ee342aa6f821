"""Pictures from strangers → pixels at the model's size. Pillow with a tight list of formats and limits.

It doesn't know what a picture is for.
"""

from __future__ import annotations

import io

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from engine.errors import InvalidInput
from engine.types import ByteArray

FORMATS = ("PNG", "JPEG", "WEBP")
MAX_PIXELS = 32_000_000
BACKDROP = (255, 255, 255)  # behind transparent pictures


def decode_image(data: bytes, width: int, height: int) -> ByteArray:
    """(3, H, W) uint8: as large as covers the frame, cut at its middle. Raises InvalidInput.

    Costs milliseconds to tenths of a second: call it in a thread."""
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                raise InvalidInput(
                    f"the picture has {image.width}x{image.height} pixels, at most {MAX_PIXELS} are allowed: "
                    "make it smaller"
                )
            image.draft("RGB", (2 * width, 2 * height))  # JPEG: decode it small at once
            picture = _flat(ImageOps.exif_transpose(image))
    except InvalidInput:
        raise
    except UnidentifiedImageError:
        raise InvalidInput("the data is not a picture: send PNG, JPEG or WebP") from None
    except (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError, Warning) as error:
        raise InvalidInput(f"the picture cannot be read ({type(error).__name__}): is it complete?") from None
    fitted = ImageOps.fit(picture, (width, height), Image.Resampling.LANCZOS)
    return np.ascontiguousarray(np.asarray(fitted, np.uint8).transpose(2, 0, 1))


def _flat(image: Image.Image) -> Image.Image:
    """RGB without transparency."""
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        layer = image.convert("RGBA")
        backdrop = Image.new("RGBA", layer.size, BACKDROP)
        return Image.alpha_composite(backdrop, layer).convert("RGB")
    if image.mode.startswith("I;16"):  # convert() would clip 16 bits at 255
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)).convert("RGB")
    return image.convert("RGB")
