"""The video codecs that this server sends, by their names in options, addresses and messages.

Names only, so that settings, negotiation, encoders and documents agree. How each is encoded is in
`server.worker`, how it travels in `server.webrtc`.
"""

from __future__ import annotations

from typing import Literal

from engine.errors import InvalidInput

Codec = Literal["vp8", "h264", "vp9", "av1"]
CODECS: tuple[Codec, ...] = ("vp8", "h264", "vp9", "av1")
ALWAYS_FAST: tuple[Codec, ...] = ("vp8", "h264")  # the others are measured before they are used
SHARE_MAX = 0.5  # of one core, that one rung of one session may take
NAMES: dict[Codec, str] = {"vp8": "VP8", "h264": "H264", "vp9": "VP9", "av1": "AV1"}


def parse_codecs(text: str) -> tuple[Codec, ...]:
    """Parse the value of --codecs, such as vp8,h264. Raises InvalidInput."""
    names = [name.strip().lower() for name in text.split(",") if name.strip()]
    for name in names:
        if name not in CODECS:
            raise InvalidInput(f"--codecs has {name!r:.40}; known are {', '.join(CODECS)}", field="codecs")
    return tuple(codec for codec in CODECS if codec in names)
