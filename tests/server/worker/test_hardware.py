"""Hardware encoders: a probe detects one that misbehaves, and x264 replaces it."""

from __future__ import annotations

import logging

import pytest

from server.worker import hardware
from server.worker.contexts import PictureFormat
from server.worker.encoder import ToYuv, VideoEncoder
from server.worker.hardware import Choice, HardwareEncoder, Unusable, choose, open_h264, probe
from tests.server.worker.test_encoder import drawing

PICTURE = PictureFormat(320, 192, 16, 500_000)


def encoder(name: str, **options: str) -> HardwareEncoder:
    return HardwareEncoder(name, None, lambda picture: options)


BEHAVES = encoder("libx264", tune="zerolatency", **{"forced-idr": "1", "x264-params": "scenecut=0"})


def test_a_well_behaved_encoder_passes() -> None:
    """x264 stands in for hardware that this machine lacks."""
    probe(BEHAVES)
    assert choose((BEHAVES,)).name == "libx264"


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        (encoder("h264_of_nobody"), "not in this PyAV"),
        (HardwareEncoder("libx264", "vaapi", lambda picture: {}), "vaapi|support|device"),
        (encoder("libx264", **{"x264-params": "rc-lookahead=10"}), "delays frames"),
        (
            encoder("libx264", tune="zerolatency", **{"x264-params": "keyint=1"}),
            "keyframes that were not requested",
        ),
        (encoder("libvpx", deadline="realtime", **{"lag-in-frames": "0"}), "Baseline"),
    ],
    ids=["unknown", "no device", "delay", "keyframes", "no H.264"],
)
def test_a_misbehaving_encoder_is_skipped_and_the_reason_is_kept(bad: HardwareEncoder, why: str) -> None:
    with pytest.raises(Unusable, match=why):
        probe(bad)
    choice = choose((bad, BEHAVES))
    assert choice.encoder is BEHAVES
    assert choose((bad,)).name == "libx264"
    assert choose((bad,)).why.startswith(f"{bad.name}: ")


def test_the_choice_is_logged_in_one_line(caplog: pytest.LogCaptureFixture) -> None:
    hardware.chosen.cache_clear()
    with caplog.at_level(logging.INFO, logger="server.worker.hardware"):
        for _ in range(3):
            VideoEncoder("h264", *PICTURE)
    assert len(caplog.records) == 1
    assert "H.264 is encoded by" in caplog.text


def test_a_busy_encoder_is_replaced_temporarily(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A GeForce opens a few encoders and refuses the next one."""
    full = encoder("libx264", **{"x264-params": "no such parameter=1:"})
    monkeypatch.setattr(hardware, "chosen", lambda: Choice(full, "probed"))
    monkeypatch.setattr(hardware, "opened", _refuse)
    context = open_h264(PICTURE)
    assert context.name == "libx264"
    assert len(caplog.records) == 1
    encoded = VideoEncoder("h264", *PICTURE).encode(ToYuv(2)(drawing()), 0, keyframe=True)
    assert encoded is not None


def _refuse(encoder: HardwareEncoder, picture: PictureFormat) -> None:
    raise Unusable("no more sessions")
