"""Answers: every part of the offer is answered, and nothing else."""

from __future__ import annotations

import pytest

from server.webrtc.signalling import sdp
from server.webrtc.signalling.answer import MediaSource, extensions, outer_answer
from server.webrtc.signalling.offer import Offer
from server.webrtc.signalling.sdp import MediaSection
from tests.server.webrtc.test_offer import ALONE, DATA, HEAD, MEDIA, TRANSPORT, VIDEO, read

OURS = "a=ice-ufrag:ours"
INNER = [
    *HEAD,
    "m=video 4000 UDP/TLS/RTP/SAVPF 96 97",
    "c=IN IP4 192.0.2.1",
    "a=mid:0",
    "a=candidate:1 1 udp 1 192.0.2.1 4000 typ host",
    "a=end-of-candidates",
    OURS,
    "a=setup:active",
    "m=application 4000 UDP/DTLS/SCTP webrtc-datachannel",
    "a=mid:1",
    "a=sctp-port:5000",
    OURS,
]
AUDIO = [
    "m=audio 9 UDP/TLS/RTP/SAVPF 111 0",
    "a=mid:a",
    "a=rtcp-mux",
    "a=rtpmap:111 opus/48000/2",
    *TRANSPORT,
]


def answer(offer: Offer) -> tuple[list[str], list[MediaSection]]:
    """The session-level lines, and the media sections."""
    text = outer_answer(
        offer, offer.fitting(None, {})[0], sdp.text(INNER), MediaSource(1, 2, "stream video", "name")
    )
    described = sdp.parse(text)
    return list(described.session), list(described.parts)


def test_video_and_channel_are_answered_with_our_transport() -> None:
    session, (video, data) = answer(read(*HEAD, *VIDEO, *DATA))
    assert "a=group:BUNDLE 0 1" in session
    assert (video.port, video.formats, video.direction) == (4000, ("96",), "sendonly")
    assert (video.value("ice-ufrag"), data.value("ice-ufrag")) == ("ours", "ours")
    assert video.value("candidate")
    assert data.value("sctp-port") == "5000"


def test_only_feedback_and_extensions_that_were_offered_are_answered() -> None:
    more = [
        "a=rtcp-fb:96 nack pli",
        "a=rtcp-fb:* transport-cc",
        "a=rtcp-fb:97 nack",
        "a=extmap:9/recvonly urn:ietf:params:rtp-hdrext:sdes:mid",
        "a=extmap:3 urn:something:else",
    ]
    offer = read(*ALONE, *VIDEO, *more)
    _, (video,) = answer(offer)
    assert list(video.of_format("rtcp-fb", "96")) == ["nack pli", "transport-cc"]
    assert list(video.values("extmap")) == ["9 urn:ietf:params:rtp-hdrext:sdes:mid"]
    assert extensions(offer).numbers == {"mid": 9}


def test_a_retransmission_is_answered_with_its_own_source() -> None:
    lines = [line.replace("SAVPF 96 97", "SAVPF 96 98") for line in VIDEO]
    _, (video,) = answer(read(*ALONE, *lines, "a=rtpmap:98 rtx/90000", "a=fmtp:98 apt=96"))
    assert video.formats == ("96", "98")
    assert list(video.of_format("fmtp", "98")) == ["apt=96"]
    assert video.value("ssrc-group") == "FID 1 2"


@pytest.mark.parametrize("first", [True, False])
def test_bundled_audio_is_answered_as_inactive(first: bool) -> None:
    """The shared transport may be named after this section, so rejecting it would end the video too."""
    group = "a=group:BUNDLE " + ("a 0" if first else "0 a")
    parts = [*AUDIO, *VIDEO] if first else [*VIDEO, *AUDIO]
    session, answered = answer(read(*HEAD[:-1], group, *parts))
    audio = next(part for part in answered if part.kind == "audio")
    assert group in session
    assert (audio.port, audio.direction, audio.formats) == (9, "inactive", ("111",))
    assert audio.value("ice-ufrag") == "ours"


def test_audio_outside_the_bundle_is_rejected() -> None:
    """GStreamer does not bundle by default, and many players always offer audio."""
    session, (audio, video) = answer(read(*HEAD[:-1], *AUDIO, *VIDEO))
    assert not any(line.startswith("a=group") for line in session)
    assert (audio.port, audio.formats, audio.mid) == (0, ("111", "0"), "a")
    assert (video.port, video.direction) == (4000, "sendonly")


def test_a_second_video_and_a_second_channel_get_nothing() -> None:
    more = [line.replace("a=mid:0", "a=mid:2") for line in VIDEO]
    channel = [line.replace("a=mid:1", "a=mid:3") for line in DATA]
    group = "a=group:BUNDLE 0 1 2 3"
    session, parts = answer(read(*HEAD[:-1], group, *VIDEO, *DATA, *more, *channel))
    assert [part.direction for part in parts if part.kind == "video"] == ["sendonly", "inactive"]
    assert [part.port for part in parts if part.kind == "application"] == [4000, 0]
    assert "a=group:BUNDLE 0 1 2" in session


def test_the_offered_protocol_is_repeated() -> None:
    lines = [line.replace("UDP/TLS/RTP/SAVPF", "RTP/SAVPF") for line in VIDEO]
    _, (video,) = answer(read(*ALONE, *lines))
    assert video.protocol == "RTP/SAVPF"
    assert MEDIA[0] not in video.lines
