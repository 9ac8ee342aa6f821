"""Pushing by WHIP to an aiortc receiver over real HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiortc import MediaStreamTrack, RTCConfiguration, RTCPeerConnection, RTCSessionDescription
from av import VideoFrame

from server.webrtc.adapter.addresses import Gatherer, ice_connection
from tests.rigs.server.rights_rig import KEY
from tests.rigs.server.server_rig import Live, config, live, until
from tests.rigs.waiting import until_found

PUSH = "/v1/sessions/main/push"


class Receiver:
    """A minimal SFU with WHIP: it accepts an offer and receives the video. `token` is the token that it
    requires."""

    def __init__(self, token: str = "secret") -> None:
        self.token = token
        self.url = ""
        self.requests: list[str] = []
        self.tracks: list[MediaStreamTrack] = []
        self.pcs: list[RTCPeerConnection] = []

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        method, _, _ = head.partition(" ")
        lower = head.lower()
        length = int(lower.partition("content-length:")[2].partition("\r\n")[0] or 0)
        body = (await reader.readexactly(length)).decode()
        self.requests.append(method)
        status, extra, text = "200 OK", "", ""
        if f"authorization: bearer {self.token}" not in lower:
            status = "401 Unauthorized"
        elif method == "POST":
            status, extra = "201 Created", "Location: /whip/one\r\nContent-Type: application/sdp\r\n"
            text = await self._accept(body)
        extra += f"Content-Length: {len(text)}\r\nConnection: close\r\n"
        writer.write(f"HTTP/1.1 {status}\r\n{extra}\r\n{text}".encode())
        await writer.drain()
        writer.close()

    async def _accept(self, offer: str) -> str:
        pc = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        pc.on("track", self.tracks.append)
        self.pcs.append(pc)
        await pc.setRemoteDescription(RTCSessionDescription(offer, "offer"))
        Gatherer().install(ice_connection(pc.getTransceivers()[0]))
        await pc.setLocalDescription(await pc.createAnswer())
        return str(pc.localDescription.sdp)

    async def frame(self) -> VideoFrame:
        await until(lambda: self.tracks, "track")
        frame = await asyncio.wait_for(self.tracks[-1].recv(), 20)
        assert isinstance(frame, VideoFrame)
        return frame


@asynccontextmanager
async def receiving() -> AsyncIterator[Receiver]:
    receiver = Receiver()
    server = await asyncio.start_server(receiver.answer, "127.0.0.1", 0)
    receiver.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/whip"
    try:
        yield receiver
    finally:
        server.close()
        await server.wait_closed()
        for pc in receiver.pcs:
            await pc.close()


async def states(server: Live) -> list[str]:
    return [push["state"] for push in (await server.http.get(PUSH)).json()["pushes"]]


async def wait_for(server: Live, wanted: list[str]) -> None:
    await until_found(lambda: states(server), wanted.__eq__, f"pushes in the states {wanted}")


async def test_a_session_is_pushed_listed_and_ended() -> None:
    async with live() as server, receiving() as receiver:
        answer = await server.http.post(PUSH, json={"whip": receiver.url, "token": "secret"})
        assert answer.status_code == 201
        assert (await receiver.frame()).width == 320
        await wait_for(server, ["live"])
        listed = (await server.http.get(PUSH)).json()["pushes"][0]
        assert (listed["whip"], listed["kbps"], listed["error"]) == (receiver.url, 900, None)
        assert "secret" not in str(listed)
        assert server.services.gateway.info("main").viewers == 1
        assert (await server.http.delete(answer.headers["location"])).status_code == 204
        await wait_for(server, [])
        assert receiver.requests == ["POST", "DELETE"]
        assert server.services.gateway.info("main").viewers == 0


async def test_a_push_that_breaks_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("server.webrtc.pushes.PAUSE_S", 0.05)
    async with live() as server, receiving() as receiver:
        await server.http.post(PUSH, json={"whip": receiver.url, "token": "secret"})
        await receiver.frame()
        await receiver.pcs[0].close()
        await until(lambda: len(receiver.pcs) == 2, "second attempt")
        await until(lambda: len(receiver.tracks) == 2, "second track")
        await receiver.frame()


async def test_a_refusal_is_shown_in_the_list(monkeypatch: pytest.MonkeyPatch) -> None:
    async with live() as server, receiving() as receiver:
        await server.http.post(PUSH, json={"whip": receiver.url, "token": "wrong"})
        await wait_for(server, ["retrying"])
        assert "401" in (await server.http.get(PUSH)).json()["pushes"][0]["error"]


async def test_main_is_pushed_from_the_start_if_configured() -> None:
    async with receiving() as receiver:
        settings = config(whip=receiver.url, whip_token="secret")
        async with live(settings) as server:
            await receiver.frame()
            await wait_for(server, ["live"])
        assert receiver.requests[-1] == "DELETE"


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "whip"),
        ({"whip": "ftp://x"}, "whip"),
        ({"whip": "http://user:pass@host/whip"}, "whip"),
        ({"whip": 5}, "whip"),
        ({"whip": "http://host", "key": "x"}, "key"),
        ({"whip": "http://host", "token": 5}, "token"),
    ],
)
async def test_invalid_push_addresses_are_refused(body: dict[str, object], field: str) -> None:
    async with live() as server:
        answer = await server.http.post(PUSH, json=body)
        assert (answer.status_code, answer.json()["field"]) == (400, field)
        assert await states(server) == []


async def test_to_push_needs_the_servers_key() -> None:
    """With a session's token anybody could make this machine send requests."""
    async with live(config(host="0.0.0.0", api_key=KEY)) as server:
        key = {"Authorization": f"Bearer {KEY}"}
        mine = (await server.http.post("/v1/sessions", json={"prompt": "a dog"}, headers=key)).json()
        own = {"Authorization": f"Bearer {mine['token']}"}
        url = f"/v1/sessions/{mine['id']}/push"
        assert (
            await server.http.post(url, json={"whip": "http://127.0.0.1:9"}, headers=own)
        ).status_code == 401
        assert (await server.http.get(url, headers=key)).json() == {"pushes": []}
        assert (await server.http.delete(f"{url}/none", headers=key)).status_code == 404
