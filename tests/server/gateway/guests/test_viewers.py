"""Real viewers of one session at two gateways: HTTP, WebRTC, a worker over sockets."""

from __future__ import annotations

import pytest

from tests.rigs.server.cluster_rig import Member, opened, two
from tests.rigs.server.server_rig import Watcher, until, watching
from tests.server.webrtc.watching import media_time

Pictures = dict[int, bytes]


@pytest.fixture(autouse=True)
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("server.gateway.upkeep.EVERY_S", 0.05)


def token_of(headers: dict[str, str]) -> str:
    return headers["Authorization"].partition(" ")[2]


async def session_of(member: Member) -> tuple[str, str]:
    """A new session of this gateway, and its token."""
    session, headers = await opened(member)
    return session, token_of(headers)


async def seen(viewer: Watcher, number: int) -> Pictures:
    """The next pictures, by their media times."""
    await until(lambda: viewer.heard("clock"), "clock")
    pictures = {}
    for _ in range(number):
        frame = await viewer.frame()
        pictures[media_time(viewer, frame)] = frame.to_ndarray(format="rgb24").tobytes()
    return pictures


async def test_viewers_of_two_gateways_see_the_same_pixels_and_steer() -> None:
    async with two() as (g1, g2):
        session, token = await session_of(g1)
        async with watching(g1, session, token=token) as here, watching(g2, session, token=token) as there:
            assert f"/v1/sessions/{session}/whep/g2-" in there.location
            await there.frame()
            await until(lambda: there.heard("session"), "hello")
            theirs, ours = await seen(there, 24), await seen(here, 1)
            while max(ours) < max(theirs):
                ours |= await seen(here, 1)
            both = ours.keys() & theirs.keys()
            assert len(both) > 8
            assert {at for at in both if ours[at] != theirs[at]} == set()
            there.send({"id": "t1", "type": "prompt", "text": "a blue dog", "when": "now"})
            here.send({"id": "h1", "type": "pause"})
            for viewer in (here, there):
                for control in ("t1", "h1"):
                    await until(
                        lambda v=viewer, c=control: v.heard("receipt", id=c, status="applied"),  # type: ignore[misc]
                        f"receipt of {control}",
                    )
                await until(lambda v=viewer: v.heard("session", paused=True, viewers=2), "state")  # type: ignore[misc]
            assert len(there.heard("receipt", id="t1", status="applied")) == 1
            there.send({"type": "prompt", "text": "", "id": "t2"})
            await until(lambda: there.heard("receipt", id="t2", status="rejected"), "refusal")
            assert len(g2.services.viewers) == len(g1.services.viewers) == 1
            assert g2.gateway.session_ids() == []
            left = await g1.http.delete(there.location)  # passed on to the gateway that has the viewer
            assert left.status_code == 200
            await until(lambda: not len(g2.services.viewers), "leave")


async def test_tokens_count_at_every_gateway() -> None:
    async with two() as (g1, g2):
        session, token = await session_of(g1)
        with pytest.raises(AssertionError, match="unauthorized"):
            async with watching(g2, session, token="nonsense"):
                pass
        made = await g1.http.post(
            f"/v1/sessions/{session}/links",
            json={"role": "viewer", "expires_in_s": 600},
            headers={"Authorization": f"Bearer {token}"},
        )
        assert made.status_code == 201, made.text
        assert made.json()["id"].encode() in g1.gateway.parts.records._kept[session][1]
        async with watching(g2, session, token=made.json()["token"]) as there:
            await there.frame()
            there.send({"id": "t1", "type": "pause"})
            await until(lambda: there.heard("receipt", id="t1", code="forbidden"), "refusal")


async def test_when_the_owner_is_killed_viewers_of_the_guest_stay() -> None:
    async with two() as (g1, g2):
        session, token = await session_of(g1)
        async with watching(g2, session, token=token) as there:
            await there.frame()
            await until(lambda: there.heard("session"), "hello")
            await g1.vanish()
            there.send({"id": "t1", "type": "prompt", "text": "a blue dog"})
            await until(lambda: session in g2.gateway.session_ids(), "claim")
            await until(lambda: there.heard("receipt", id="t1", status="applied"), "receipt")
            pictures = await seen(there, 20)
            assert sorted(pictures) == list(pictures)
            assert not there.heard("closed")
            there.send({"id": "t2", "type": "pause"})
            await until(lambda: there.heard("session", paused=True), "pause")


async def test_when_the_owner_ends_it_viewers_of_the_guest_are_told() -> None:
    async with two() as (g1, g2):
        session, token = await session_of(g1)
        async with watching(g2, session, token=token) as there:
            await there.frame()
            await until(lambda: there.heard("session"), "hello")
            gone = await g1.http.delete(
                f"/v1/sessions/{session}", headers={"Authorization": f"Bearer {token}"}
            )
            assert gone.status_code == 204
            await until(lambda: there.heard("closed", code="closed"), "word of it")
            await until(lambda: not len(g2.services.viewers), "end of the viewer")


async def test_without_a_way_to_its_worker_a_viewer_is_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    async with two() as (g1, g2):
        session, token = await session_of(g1)
        monkeypatch.setattr(g2.gateway.guests, "find", _nothing)
        async with watching(g2, session, token=token) as there:
            assert f"/v1/sessions/{session}/whep/g1-" in there.location
            await there.frame()
            assert len(g1.services.viewers) == 1


async def _nothing(session_id: str) -> None:
    return None
