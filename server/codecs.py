"""The video codecs that this server sends, by their names in options, addresses and messages.

Names only, so that settings, negotiation, encoders and documents agree. How each is encoded is in
`server.worker`, how it travels in `server.webrtc`.
"""

from __future__ import annotations

from typing import Literal

Codec = Literal["vp8", "h264", "vp9", "av1"]
CODECS: tuple[Codec, ...] = ("vp8", "h264", "vp9", "av1")
ALWAYS_FAST: tuple[Codec, ...] = ("vp8", "h264")  # the others are measured before they are used
NAMES: dict[Codec, str] = {"vp8": "VP8", "h264": "H264", "vp9": "VP9", "av1": "AV1"}
