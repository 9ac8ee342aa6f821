"""The whole path: a fake model, encoder, fan-out, WebRTC and data channel, tested with an aiortc viewer.

Nothing here depends on the machine's speed: tests of pacing with a simulated clock are in the runtime's
tests.
"""

from __future__ import annotations

import asyncio
import random
from itertools import pairwise
from pathlib import Path

import aiomqtt
import numpy as np
import pytest

from server.config import WorkerConfig
from tests.rigs.server.server_rig import config, live, recorded, until, watching
from tests.rigs.waiting import until_found
from tests.server.webrtc.watching import colour, connected, media_time, shows

PROCESS = config(placement="process")


def steady(times: list[int]) -> bool:
    """Never faster than natural speed. On a busy machine a late segment delays playout."""
    return min(b - a for a, b in pairwise(times)) >= 5600


async def test_a_slow_device_plays_evenly_in_slow_motion_and_says_so(tmp_path: Path) -> None:
    """A step takes 0.35 s or more, so a segment takes at least 0.7 s for 0.5 s of video."""
    (tmp_path / "fake.json").write_text('{"delay_s": 0.35}')
    slow = WorkerConfig(backend="fake", model=str(tmp_path))
    async with live(config(worker=slow)) as server:
        await until(lambda: server.services.gateway.info("main").buffering, "word on the first picture")
        answer = (await server.http.get("/v1/sessions/main")).json()
        async with watching(server) as viewer:
            await connected(viewer)
            times = [(await viewer.frame()).pts or 0 for _ in range(24)]
            figures = viewer.heard("segment")
        assert answer["buffering"]["resumes_in_s"] >= 0
        assert 0 < answer["buffering"]["speed"] < 0.75
        assert viewer.heard("session")[-1]["buffering"] is None
        assert (await server.http.get("/v1/sessions/main")).json()["stats"]["rate"] < 1
        assert await server.figure("psistream_playback_rate_ratio_count") >= 2
    assert all(f["rate"] < 0.75 and f["speed"] < 0.75 for f in figures), figures
    fastest = 90_000 / 16 / max(f["rate"] for f in figures)
    assert min(b - a for a, b in pairwise(times)) >= fastest * 0.95, (times, figures)


@pytest.mark.parametrize("settings", [config(), PROCESS], ids=["threads", "process"])
async def test_frames_arrive_and_advance_and_a_prompt_changes_them(settings: object) -> None:
    async with live(settings) as server, watching(server) as viewer:  # type: ignore[arg-type]
        frames = [await viewer.frame() for _ in range(6)]
        assert {(f.width, f.height) for f in frames} == {(320, 192)}
        times = [f.pts or 0 for f in frames]
        assert steady(times), times
        assert colour(frames[-1].to_ndarray(format="rgb24").astype(np.uint8)) == "red"
        await connected(viewer)
        viewer.send({"type": "prompt", "id": "p1", "text": "a green hill", "how": "cut"})
        await until(lambda: viewer.heard("receipt", id="p1", status="received"), "received")
        await until(lambda: viewer.heard("receipt", id="p1", status="applied"), "applied")
        await shows(viewer, "green", 20)
        receipt = viewer.heard("receipt", id="p1", status="applied")[0]
        assert receipt["segment"] * 8 == receipt["frame"]
        assert receipt["pts_90k"] > 0
        clock = viewer.heard("clock")[0]
        assert (clock["clock_rate"], 0 <= clock["rtp_offset"] < 2**32) == (90_000, True)
        assert any(s["segment"] >= receipt["segment"] - 1 for s in viewer.heard("segment"))


async def test_the_applied_time_is_that_of_the_first_frame_that_shows_it() -> None:
    """The page computes the time from prompt to picture from this; one frame is 60 ms."""
    async with live() as server, watching(server) as viewer:
        await viewer.frame()
        await connected(viewer)
        viewer.send({"type": "prompt", "id": "p1", "text": "a green hill", "how": "cut"})
        await until(lambda: viewer.heard("receipt", status="applied"), "applied")
        pts_90k = viewer.heard("receipt", status="applied")[0]["pts_90k"]
        before = 0
        while colour((frame := await viewer.frame()).to_ndarray(format="rgb24").astype(np.uint8)) != "green":
            before = media_time(viewer, frame)
        assert before < pts_90k <= media_time(viewer, frame)


async def test_h264_plays_as_well() -> None:
    async with live() as server, watching(server, codecs=("h264",)) as viewer:
        assert await shows(viewer, "red", 3) == 0
        await connected(viewer)
        viewer.send({"type": "prompt", "text": "a blue lake", "how": "cut"})
        await shows(viewer, "blue", 30)


async def test_viewers_share_one_encode_and_a_late_one_begins_at_a_keyframe() -> None:
    async with live() as server, watching(server) as first:
        for _ in range(4):
            await first.frame()
        async with watching(server) as late:
            assert await shows(late, "red", 3) == 0  # decoded from its first packet on
            for _ in range(8):
                await asyncio.gather(first.frame(), late.frame())
            encoded = await server.figure('psistream_frames_encoded_total{codec="vp8"}')
            sent = await server.figure("psistream_frames_sent_total")
            assert await server.figure('psistream_frames_dropped_total{reason="slow_viewer"}') == 0
            assert sent > encoded + 6
            assert sum(v.connected for v in server.services.viewers) == 2


async def test_a_viewer_that_lost_the_picture_gets_a_keyframe() -> None:
    async with live() as server, watching(server) as viewer:
        await viewer.frame()
        sent = recorded(server.services.gateway.session("main").fanout)
        receiver = viewer.pc.getReceivers()[0]
        ssrc = next(iter(receiver._RTCRtpReceiver__active_ssrc))  # type: ignore[attr-defined]
        for _ in range(3):
            await receiver._send_rtcp_pli(ssrc)
        await until(lambda: any(p.keyframe for p in sent), "keyframe")
        await until_found(lambda: server.figure("psistream_webrtc_pli_total"), lambda n: n >= 3, "three PLIs")
        keys = [p.pts_90k for p in sent if p.keyframe]
        assert all(b - a >= 0.35 * 90_000 for a, b in pairwise(keys)), "they share a keyframe"


async def test_a_slow_viewer_loses_frames_and_delays_nobody() -> None:
    async with live() as server, watching(server) as fast, watching(server) as slow:
        await asyncio.gather(fast.frame(), slow.frame())
        viewers = {v.id: v for v in server.services.viewers}
        full, free = (viewers[v.location.rpartition("/")[2]].media for v in (slow, fast))
        assert full is not None
        assert free is not None
        full.subscription.deliver = lambda frame: False  # like a relay over TCP whose buffer is full
        times = [(await fast.frame()).pts or 0 for _ in range(20)]
        assert steady(times), times
        assert free.subscription.dropped == 0
        assert full.subscription.dropped > 0
        await server.http.delete(slow.location)
        assert await server.figure('psistream_frames_dropped_total{reason="slow_viewer"}') > 0


async def test_sessions_are_isolated_when_one_fails() -> None:
    async with live() as server:
        mine = (await server.http.post("/v1/sessions", json={"prompt": "a blue lake"})).json()
        async with (
            watching(server) as shared,
            watching(server, mine["id"], token=mine["token"]) as own,
        ):
            assert await shows(own, "blue", 3) == 0
            assert await shows(shared, "red", 3) == 0
            await connected(own)
            own.send({"type": "prompt", "id": "x", "text": "boom"})
            await until(lambda: own.heard("closed"), "end of the session that failed")
            assert own.heard("closed")[0]["code"] == "backend"
            await until(lambda: len(server.services.viewers) == 1, "departure of its viewer")
            for _ in range(4):
                assert colour(await shared.picture()) == "red"
            assert not shared.heard("closed")
            assert (await server.http.get("/readyz")).status_code == 200


async def test_a_view_token_cannot_steer_over_the_data_channel() -> None:
    async with live() as server:
        mine = (await server.http.post("/v1/sessions", json={"prompt": "a blue lake"})).json()
        async with watching(server, mine["id"], token=mine["view_token"]) as onlooker:
            await connected(onlooker)
            onlooker.send({"type": "prompt", "id": "x", "text": "a red sea"})
            await until(lambda: onlooker.heard("receipt", id="x"), "answer")
            assert onlooker.heard("receipt", id="x")[0]["code"] == "forbidden"
            onlooker.send({"type": "ping", "id": "1"})
            await until(lambda: onlooker.heard("pong", id="1"), "pong")


@pytest.mark.parametrize(
    ("message", "code"),
    [("{", "invalid"), ("x" * 100_000, "invalid"), ('{"type":"fly"}', "invalid"), (b"\x00\xff", "invalid")],
    ids=["broken", "huge", "unknown", "bytes"],
)
async def test_garbage_on_the_data_channel_is_answered_and_the_video_continues(
    message: str | bytes, code: str
) -> None:
    async with live() as server, watching(server) as viewer:
        await viewer.frame()
        await connected(viewer)
        assert viewer.channel is not None
        viewer.channel.send(message)
        await until(lambda: viewer.heard("error"), "error")
        assert viewer.heard("error")[0]["code"] == code
        await viewer.frame()


async def test_a_paused_session_shows_its_picture_to_late_viewers() -> None:
    async with live() as server, watching(server) as first:
        await first.frame()
        await server.control({"type": "pause"})
        await until(lambda: server.services.gateway.info("main").paused, "pause")
        await asyncio.sleep(0.7)  # what was queued has played
        async with watching(server) as late:
            assert colour(await late.picture()) == "red"


async def test_mqtt_steers_the_same_video() -> None:
    async with live(config(mqtt="embedded:0")) as server, watching(server) as viewer:
        await viewer.frame()
        mqtt = (await server.http.get("/v1/sessions/main")).json()["mqtt"]
        port = int(mqtt["url"].rpartition(":")[2])
        async with aiomqtt.Client("127.0.0.1", port) as client:
            await client.publish(f"{mqtt['topic']}/cmd/prompt", "a green hill", qos=1)
            await shows(viewer, "green", 120)
        assert (await server.http.get("/readyz")).json()["mqtt"]["state"] == "connected"


async def test_a_lossy_link_still_plays() -> None:
    """Lost packets are retransmitted."""
    async with live() as server, watching(server) as viewer:
        await viewer.frame()
        media = next(iter(server.services.viewers)).media
        assert media is not None
        send, dice, lost = media.rtp.transmit, random.Random(1), []

        def lossy(packet: bytes) -> None:
            if dice.random() < 0.1:
                lost.append(packet)
            else:
                send(packet)

        media.rtp.transmit = lossy
        for _ in range(30):
            await viewer.frame(within_s=10.0)
        assert lost
        assert colour(await viewer.picture()) == "red"
