"""Options of the video that `serve` and `doctor` take."""

from __future__ import annotations

import pytest

from engine.errors import InvalidInput
from server import arguments
from server.codecs import CODECS
from server.config import ServerConfig


def test_codecs_are_named_in_any_order_and_unknown_ones_are_refused() -> None:
    def parsed(*options: str) -> ServerConfig:
        return arguments.settings(arguments.parser().parse_args(list(options)))

    assert parsed().worker.media.codecs == CODECS
    media = parsed("--codecs", "AV1, vp8", "--h264", "software").worker.media
    assert (media.codecs, media.hardware) == (("vp8", "av1"), False)
    for wrong in ("theora", "vp8,,h265", ","):
        with pytest.raises(InvalidInput, match="--codecs"):
            parsed("--codecs", wrong)
