"""The bitrate ladder: the rate of each rung, and when a rung is worth an encoder."""

from __future__ import annotations

from itertools import pairwise

import pytest

from server.config import MediaConfig
from server.ladder import Rung, ladder, parts, rendition


def test_the_built_in_world_has_four_rungs_down_to_a_slide_show() -> None:
    rungs = MediaConfig().ladder(160, 96, 16)
    assert rungs == (Rung(900_000), Rung(405_000), Rung(180_000), Rung(72_000, every=4))


def test_a_large_picture_is_halved_if_its_bitrate_is_too_low() -> None:
    assert [rung.divide for rung in MediaConfig().ladder(848, 480, 24)] == [1, 1, 2, 2]


def test_the_chosen_bitrate_is_a_ceiling() -> None:
    assert max(r.bitrate_bps for r in MediaConfig(bitrate_bps=300_000).ladder(160, 96, 16)) == 300_000


@pytest.mark.parametrize("top_bps", [30_000, 60_000, 100_000, 300_000, 4_000_000])
def test_each_rung_is_clearly_below_the_one_above(top_bps: int) -> None:
    rates = [rung.bitrate_bps for rung in ladder(top_bps, 320, 192, 16)]
    assert rates[0] == top_bps
    assert all(b <= 0.75 * a for a, b in pairwise(rates))


@pytest.mark.parametrize(("codec", "rung", "name"), [("vp8", 0, "vp8"), ("h264", 2, "h264/2")])
def test_a_rendition_has_one_name(codec: str, rung: int, name: str) -> None:
    assert rendition(codec, rung) == name
    assert parts(name) == (codec, rung)
