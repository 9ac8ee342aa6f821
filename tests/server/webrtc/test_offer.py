"""Offers: errors have clear messages, and extra features of players' offers are accepted."""

from __future__ import annotations

import pytest

from engine.errors import InvalidInput
from server.webrtc.signalling.answer import inner_offer
from server.webrtc.signalling.codecs import Sendable
from server.webrtc.signalling.offer import MAX_SDP_BYTES, NotAcceptable, Offer, read_candidates, read_offer
from tests.rigs.server.server_rig import watcher

HEAD = ["v=0", "o=- 1 1 IN IP4 0.0.0.0", "s=-", "t=0 0", "a=group:BUNDLE 0 1"]
ALONE = [*HEAD[:-1], "a=group:BUNDLE 0"]
TRANSPORT = [
    "a=ice-ufrag:abcd",
    "a=ice-pwd:abcdefghijklmnopqrstuvwx",
    "a=fingerprint:sha-256 " + ":".join(["AB"] * 32),
    "a=setup:actpass",
]
MEDIA = ["c=IN IP4 0.0.0.0", "a=mid:0", "a=recvonly", "a=rtcp-mux", *TRANSPORT]
VIDEO = [
    "m=video 9 UDP/TLS/RTP/SAVPF 96 97",
    *MEDIA,
    "a=rtpmap:96 VP8/90000",
    "a=rtpmap:97 H264/90000",
    "a=fmtp:97 packetization-mode=1;profile-level-id=42e01f",
]
DATA = ["m=application 9 UDP/DTLS/SCTP webrtc-datachannel", "a=mid:1", "a=sctp-port:5000", *TRANSPORT]


def read(*lines: str) -> Offer:
    return read_offer("\r\n".join(lines).encode())


def h264(*fmtps: str, vp8: bool = False) -> Offer:
    """An offer with these H.264 payload types, followed by VP8."""
    formats = [str(100 + i) for i in range(len(fmtps))] + (["96"] if vp8 else [])
    lines = [f"m=video 9 UDP/TLS/RTP/SAVPF {' '.join(formats)}", *MEDIA]
    for number, fmtp in zip(formats, fmtps, strict=False):
        lines += [f"a=rtpmap:{number} H264/90000", *([f"a=fmtp:{number} {fmtp}"] if fmtp else [])]
    return read(*ALONE, *lines, *(["a=rtpmap:96 VP8/90000"] if vp8 else []))


def first(offer: Offer, wanted: str | None = None, level: int = 0) -> Sendable:
    return offer.fitting(wanted, {"h264": level})[0]


def other(name: str, fmtp: str = "") -> Offer:
    """An offer with this codec, followed by VP8."""
    lines = ["m=video 9 UDP/TLS/RTP/SAVPF 98 96", *MEDIA, f"a=rtpmap:98 {name}", "a=rtpmap:96 VP8/90000"]
    return read(*ALONE, *lines, *([f"a=fmtp:98 {fmtp}"] if fmtp else []))


def without(lines: list[str], start: str) -> list[str]:
    left = [line for line in lines if not line.startswith(start)]
    assert len(left) < len(lines)
    return left


async def test_what_aiortc_offers_is_read() -> None:
    async with watcher() as viewer:
        offer = read_offer((await viewer.offer()).encode())
    assert [c.codec for c in offer.codecs] == ["vp8", "h264", "h264"]
    assert offer.codecs[0].rtx is not None
    assert offer.candidates
    assert "a=candidate" not in inner_offer(offer)


# ---- codecs ----


def test_the_codec_is_the_first_of_ours_on_the_m_line() -> None:
    """The order of the rtpmap lines does not matter."""
    assert first(read(*HEAD, *VIDEO, *DATA)).codec == "vp8"
    safari = [line.replace("SAVPF 96 97", "SAVPF 97 96") for line in VIDEO]
    assert first(read(*HEAD, *safari, *DATA)).codec == "h264"


def test_a_codec_can_be_requested() -> None:
    offer = read(*ALONE, *VIDEO)
    assert first(offer, "h264").format == "97"
    with pytest.raises(InvalidInput, match="one of vp8, h264, vp9, av1"):
        first(offer, "theora")
    without_h264 = [line for line in VIDEO if ":97 " not in line]
    with pytest.raises(NotAcceptable, match="H264"):
        first(read(*ALONE, *without_h264), "h264")


def test_an_offer_with_no_codec_of_ours_is_not_acceptable() -> None:
    foreign = [line.replace("VP8/", "H265/").replace("H264/", "H263-1998/") for line in VIDEO]
    with pytest.raises(NotAcceptable, match="VP8, H264"):
        first(read(*ALONE, *foreign))


@pytest.mark.parametrize("profile", ["42001f", "42e01f", "4d001f", "4d401f", "58a01f", "64001f", "640c1f"])
def test_decoders_of_any_common_h264_profile_are_accepted(profile: str) -> None:
    """The encoder produces Constrained Baseline, which Main and High decoders must support."""
    chosen = first(h264(f"packetization-mode=1;profile-level-id={profile}"), level=30)
    assert (chosen.codec, chosen.format) == ("h264", "100")


@pytest.mark.parametrize(
    "fmtp",
    [
        "packetization-mode=0;profile-level-id=42e01f",
        "profile-level-id=42e01f",
        "packetization-mode=1;profile-level-id=42e00a",
        "packetization-mode=1;profile-level-id=fe001f",
        "packetization-mode=1;profile-level-id=nonsense",
        "packetization-mode=1",
        "",
    ],
    ids=["mode 0", "no mode", "level 1", "unknown profile", "no hex", "no profile", "nothing"],
)
def test_h264_that_the_viewer_could_not_play_is_skipped(fmtp: str) -> None:
    """For example, a High decoder of too low a level gets the VP8 that it offers next, or else a 406."""
    assert first(h264(fmtp, vp8=True), level=30).codec == "vp8"
    with pytest.raises(NotAcceptable, match="packetization-mode=1 and at least level 3"):
        first(h264(fmtp), level=30)


def test_the_first_h264_that_can_be_played_is_taken() -> None:
    offer = h264(
        "packetization-mode=0;profile-level-id=42e01f", "packetization-mode=1;profile-level-id=42e01f"
    )
    assert first(offer, level=31).format == "101"
    with pytest.raises(NotAcceptable):
        first(offer, level=32)


@pytest.mark.parametrize(
    ("name", "fmtp", "codec"),
    [
        ("VP9/90000", "", "vp9"),
        ("VP9/90000", "profile-id=0", "vp9"),
        ("VP9/90000", "profile-id=2", "vp8"),
        ("AV1/90000", "", "av1"),
        ("av1/90000", "level-idx=4;profile=0;tier=0", "av1"),
        ("AV1/90000", "level-idx=3;profile=0", "vp8"),
        ("AV1/90000", "profile=1", "vp8"),
        ("AV1/90000", "level-idx=much", "vp8"),
    ],
)
def test_vp9_and_av1_are_taken_in_the_profile_and_level_that_is_sent(
    name: str, fmtp: str, codec: str
) -> None:
    assert other(name, fmtp).fitting(None, {"av1": 4})[0].codec == codec


# ---- parts ----


def test_an_offer_that_only_multiplexes_rtcp_is_answered_like_any_other() -> None:
    """RFC 8858: rtcp-mux-only, with or without rtcp-mux."""
    only = [line.replace("a=rtcp-mux", "a=rtcp-mux-only") for line in VIDEO]
    assert read(*ALONE, *only).mid == "0"
    with pytest.raises(InvalidInput, match="rtcp-mux"):
        read(*ALONE, *without(VIDEO, "a=rtcp-mux"))


def test_of_a_reordered_bundle_the_first_names_the_transport() -> None:
    other = [line.replace("abcd", "wxyz") for line in DATA]
    offer = read(*HEAD[:-1], "a=group:BUNDLE 1 0", *VIDEO, *other)
    assert offer.shared == ("1", "0")
    assert offer.ufrag == "wxyz"
    assert offer.data is not None


def test_a_channel_outside_the_bundle_is_left_out_and_the_video_is_taken() -> None:
    for head in (HEAD[:-1], ALONE, [*HEAD[:-1], "a=group:BUNDLE 7 0"]):
        offer = read(*head, *VIDEO, *DATA)
        assert (offer.mid, offer.data, offer.shared) == ("0", None, ("0",))


def test_unknown_and_disabled_media_sections_are_accepted() -> None:
    offer = read(*ALONE, "m=text 9 RTP/AVP 98", "a=mid:2", "m=audio 0 UDP/TLS/RTP/SAVPF 0", "a=mid:3", *VIDEO)
    assert offer.shared == ("0",)


def test_a_part_at_port_0_is_off_unless_it_is_there_for_the_bundle_only() -> None:
    off = [line.replace("m=video 9", "m=video 0") for line in VIDEO]
    with pytest.raises(InvalidInput, match="no video part that receives"):
        read(*ALONE, *off)
    first = ["m=audio 9 UDP/TLS/RTP/SAVPF 0", "a=mid:1", "a=rtcp-mux", *TRANSPORT]
    offer = read(*HEAD[:-1], "a=group:BUNDLE 1 0", *first, *off, "a=bundle-only")
    assert offer.shared == ("1", "0")


def test_without_a_direction_a_part_receives() -> None:
    assert read(*ALONE, *without(VIDEO, "a=recvonly")).mid == "0"


def test_transport_lines_may_stand_above_all_parts() -> None:
    bare = [line for line in VIDEO if line not in TRANSPORT]
    assert read(*ALONE, *TRANSPORT, *bare).ufrag == "abcd"


# ---- faults ----


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["hello"], "must begin with v=0"),
        ([""], "must begin with v=0"),
        (HEAD, "no m= part"),
        ([*HEAD, "m=video nine UDP"], "cannot be parsed"),
        ([*HEAD, "m=video 9 X"], "cannot be parsed"),
        ([*HEAD, *DATA], "no video part that receives"),
        ([*HEAD, *without(VIDEO, "a=ice-ufrag")], "ice-ufrag"),
        ([*HEAD, *without(VIDEO, "a=ice-pwd")], "ice-pwd"),
        ([*HEAD, *without(VIDEO, "a=fingerprint")], "fingerprint"),
        ([*HEAD, *without(VIDEO, "a=setup")], "setup"),
        ([*HEAD, *without(VIDEO, "a=mid")], "a=mid"),
        ([*HEAD, *VIDEO, *VIDEO], "a=mid of its own"),
        ([*HEAD, *without(VIDEO, "a=rtcp-mux")], "rtcp-mux"),
        ([*HEAD, *[line.replace("recvonly", "sendonly") for line in VIDEO]], "no video part that receives"),
        ([*HEAD, *VIDEO * 17], "more than 16"),
    ],
)
def test_errors_are_named(lines: list[str], message: str) -> None:
    with pytest.raises(InvalidInput, match=message) as refused:
        read(*lines)
    assert refused.value.field == "sdp"


@pytest.mark.parametrize("line", ["a=setup:sideways", "a=fingerprint:sha-256"])
def test_offers_that_aiortc_cannot_parse_are_refused_before_it_sees_them(line: str) -> None:
    name = line.partition(":")[0]
    with pytest.raises(InvalidInput, match="parsed"):
        inner_offer(read(*ALONE, *[line if each.startswith(name) else each for each in VIDEO]))


def test_a_huge_offer_and_one_that_is_not_text_are_refused() -> None:
    with pytest.raises(InvalidInput, match="at most 65536"):
        read_offer(b"v=0" + b"\n" * MAX_SDP_BYTES)
    with pytest.raises(InvalidInput, match="UTF-8"):
        read_offer(b"v=0\n\xff\xfe")


# ---- candidates ----


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


def test_candidates_of_other_parts_are_left_out() -> None:
    lines = [
        "a=mid:0",
        "a=candidate:1 1 udp 2130706431 192.0.2.7 5000 typ host",
        "a=mid:9",
        "a=candidate:1 1 udp 2130706431 192.0.2.7 5009 typ host",
    ]
    assert [c.port for c in read_candidates(lines, ("0", "1"))] == [5000]


def test_endless_candidates_do_not_accumulate() -> None:
    flood = [f"a=candidate:{i} 1 udp 1 192.0.2.7 {i + 1} typ host" for i in range(400)]
    assert len(read(*ALONE, *VIDEO, *flood).candidates) == 32
