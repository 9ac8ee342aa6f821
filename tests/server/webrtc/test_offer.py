"""Offers: what is wrong with one is said in plain words, before anything is opened for it."""

from __future__ import annotations

import pytest

from engine.errors import InvalidInput
from server.webrtc.offer import MAX_SDP_BYTES, NotAcceptable, Offer, read_offer
from tests.rigs.server_rig import watcher

HEAD = ["v=0", "o=- 1 1 IN IP4 0.0.0.0", "s=-", "t=0 0", "a=group:BUNDLE 0 1"]
ALONE = [*HEAD[:-1], "a=group:BUNDLE 0"]
TRANSPORT = [
    "a=ice-ufrag:abcd",
    "a=ice-pwd:abcdefghijklmnopqrstuvwx",
    "a=fingerprint:sha-256 " + ":".join(["AB"] * 32),
    "a=setup:actpass",
]
VIDEO = [
    "m=video 9 UDP/TLS/RTP/SAVPF 96 97",
    "c=IN IP4 0.0.0.0",
    "a=mid:0",
    "a=recvonly",
    "a=rtcp-mux",
    *TRANSPORT,
    "a=rtpmap:96 VP8/90000",
    "a=rtpmap:97 H264/90000",
    "a=fmtp:97 packetization-mode=1;profile-level-id=42e01f",
]
DATA = ["m=application 9 UDP/DTLS/SCTP webrtc-datachannel", "a=mid:1", "a=sctp-port:5000", *TRANSPORT]


def read(*lines: str) -> Offer:
    return read_offer("\r\n".join(lines).encode())


def without(lines: list[str], start: str) -> list[str]:
    left = [line for line in lines if not line.startswith(start)]
    assert len(left) < len(lines)
    return left


async def test_what_aiortc_offers_is_read() -> None:
    async with watcher() as viewer:
        offer = read_offer((await viewer.offer()).encode())
    assert offer.codecs == ("vp8", "h264")
    assert offer.candidates
    assert "a=candidate" not in offer.sdp
    assert "a=end-of-candidates" not in offer.sdp


def test_the_codec_is_the_first_of_ours_on_the_m_line() -> None:
    """Whatever order the rtpmap lines have."""
    assert read(*HEAD, *VIDEO, *DATA).pick(None) == "vp8"
    safari = [line.replace("SAVPF 96 97", "SAVPF 97 96") for line in VIDEO]
    assert read(*HEAD, *safari, *DATA).pick(None) == "h264"


def test_a_codec_can_be_asked_for() -> None:
    offer = read(*ALONE, *VIDEO)
    assert offer.pick("h264") == "h264"
    with pytest.raises(InvalidInput, match="one of vp8, h264"):
        offer.pick("av1")
    without_h264 = [line for line in VIDEO if ":97 " not in line]
    with pytest.raises(NotAcceptable, match="H264"):
        read(*ALONE, *without_h264).pick("h264")


def test_an_offer_with_no_codec_of_ours_is_not_acceptable() -> None:
    other = [line.replace("VP8/", "VP9/").replace("H264/", "AV1/") for line in VIDEO]
    with pytest.raises(NotAcceptable, match="VP8, H264"):
        read(*ALONE, *other).pick(None)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["hello"], "must begin with v=0"),
        ([""], "must begin with v=0"),
        (HEAD, "no m= part"),
        (["v=0", "c=IN IP9 x"], "cannot be parsed"),
        ([*HEAD, "m=video nine UDP"], "cannot be parsed"),
        ([*HEAD, *VIDEO, "a=fmtp:55 x=1"], "cannot be parsed"),
        ([*HEAD, *VIDEO, "a=setup:sideways"], "cannot be parsed"),
        ([*HEAD, *VIDEO, "a=rtpmap:1"], "cannot be parsed"),
        ([*HEAD, *DATA], "no video part that receives"),
        ([*HEAD, *without(VIDEO, "a=ice-ufrag")], "ice-ufrag"),
        ([*HEAD, *without(VIDEO, "a=ice-pwd")], "ice-pwd"),
        ([*HEAD, *without(VIDEO, "a=fingerprint")], "fingerprint"),
        ([*HEAD, *without(VIDEO, "a=setup")], "setup"),
        ([*HEAD, *without(VIDEO, "a=mid")], "a=mid"),
        ([*HEAD, *VIDEO, *VIDEO], "a=mid of its own"),
        ([*HEAD, *without(VIDEO, "a=rtcp-mux")], "rtcp-mux"),
        ([*HEAD, *VIDEO, *without(DATA, "a=sctp-port")], "sctp-port"),
        ([*HEAD, *[line.replace("recvonly", "sendonly") for line in VIDEO]], "no video part that receives"),
        ([*HEAD, *VIDEO, "m=text 9 RTP/AVP 98", "a=mid:2", *TRANSPORT], "text part"),
        ([*HEAD, *VIDEO * 9], "more than 8"),
        ([*HEAD[:-1], *VIDEO, *DATA], "BUNDLE"),
        ([*HEAD[:-1], "a=group:BUNDLE 1 0", *VIDEO, *DATA], "BUNDLE"),
        ([*ALONE, *VIDEO, *DATA], "BUNDLE"),
    ],
)
def test_faults_are_named(lines: list[str], message: str) -> None:
    with pytest.raises(InvalidInput, match=message) as refused:
        read(*lines)
    assert refused.value.field == "sdp"


def test_a_huge_offer_and_one_that_is_not_text_are_refused() -> None:
    with pytest.raises(InvalidInput, match="at most 65536"):
        read_offer(b"v=0" + b"\n" * MAX_SDP_BYTES)
    with pytest.raises(InvalidInput, match="UTF-8"):
        read_offer(b"v=0\n\xff\xfe")


def test_candidates_of_use_are_kept() -> None:
    candidates = [
        "a=candidate:1 1 udp 2130706431 192.0.2.7 5000 typ host",
        "a=candidate:2 1 udp 2130706431 3a0c7f1e-1d7b-4c6e-9c39-6a3d3f8f3a11.local 5001 typ host",
        "a=candidate:3 1 tcp 1518280447 192.0.2.7 9 typ host tcptype active",
        "a=candidate:4 2 udp 2130706430 192.0.2.7 5002 typ host",
        "a=candidate:5 1 udp",
        "a=candidate:6 1 UDP 1677729535 198.51.100.4 6000 typ srflx raddr 0.0.0.0 rport 0",
    ]
    offer = read(*HEAD, *VIDEO, *candidates, "a=end-of-candidates", *DATA)
    assert [c.port for c in offer.candidates] == [5000, 6000]
    assert {c.sdpMid for c in offer.candidates} == {"0"}


def test_candidates_without_end_do_not_pile_up() -> None:
    flood = [f"a=candidate:{i} 1 udp 1 192.0.2.7 {i + 1} typ host" for i in range(400)]
    assert len(read(*ALONE, *VIDEO, *flood).candidates) == 32
