"""Hostile clients, each with one kind of load on a server. Only for `psistream bench hostile`.

They run in a separate process, so that they affect the victim's measurement only through the server. On the
internet they would have their own machines; here they share the server's cores. So the kernel gives them only
idle time (SCHED_IDLE), or they are confined to named cores.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import io
import json
import logging
import os
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import urlsplit

import aiomqtt
import httpx
from aiortc import RTCConfiguration, RTCPeerConnection
from aiortc.rtcsctptransport import DataChunk
from PIL import Image

from clients.target import Target
from clients.whep import WhepViewer

BOMB = "UklGRh4AAABXRUJQVlA4TBEAAAAvP9/nAwfQsSY0of+BiOh/AAA="  # 8000x4000 pixels in 38 bytes
SDP = {"Content-Type": "application/sdp"}
SILENT = 400
GAPS_PER_S = 370
CONNECTIONS = 8

Attack = Callable[[str, dict[str, Any]], Awaitable[None]]


async def silent(base: str, session: dict[str, Any]) -> None:
    """Hold more connections than the server has, and send nothing."""
    await asyncio.gather(*(_hold(base, b"") for _ in range(SILENT)))


async def slow_bodies(base: str, session: dict[str, Any]) -> None:
    """Start request bodies and never finish them."""
    head = (
        f"POST {session['controls']} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {session['token']}"
        "\r\nContent-Type: application/json\r\nContent-Length: 9999\r\n\r\n{"
    )
    await asyncio.gather(*(_hold(base, head.encode()) for _ in range(SILENT)))


async def hang_ups(base: str, session: dict[str, Any]) -> None:
    """Start a request body and disconnect, over and over."""
    head = (
        f"POST {session['controls']} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {session['token']}"
        "\r\nContent-Type: application/json\r\nContent-Length: 99\r\n\r\n{"
    )

    async def one() -> None:
        while True:
            with contextlib.suppress(OSError):
                _, writer = await asyncio.open_connection("127.0.0.1", urlsplit(base).port)
                writer.write(head.encode())
                await writer.drain()
                writer.close()

    await asyncio.gather(*(one() for _ in range(CONNECTIONS)))


async def pictures(base: str, session: dict[str, Any]) -> None:
    """Pictures that cost far more than their size suggests: a bomb, and the largest that is allowed."""
    file = io.BytesIO()
    Image.new("1", (2820, 2820)).save(file, "PNG")
    bodies = [
        json.dumps({"type": "image", "data": data})
        for data in (BOMB, base64.b64encode(file.getvalue()).decode())
    ]
    await _flood(base, session, [("POST", session["controls"], body) for body in bodies])


async def controls(base: str, session: dict[str, Any]) -> None:
    """As many controls to the attacker's own session as HTTP allows."""
    await _flood(base, session, [("POST", session["controls"], '{"type": "resume"}')])


async def requests(base: str, session: dict[str, Any]) -> None:
    """As many expensive requests as HTTP allows."""
    path = f"/v1/sessions/{session['id']}"
    await _flood(base, session, [("GET", path, ""), ("GET", path + "/snapshot", ""), ("GET", "/", "")])


async def foreign_images(base: str, session: dict[str, Any]) -> None:
    """What browsers send for an `<img>` of the shared session's picture on pages of other sites."""
    headers = {"Sec-Fetch-Site": "cross-site", "Origin": "https://elsewhere.example"}
    await _flood(base, session, [("GET", "/v1/sessions/main/snapshot", "")], headers)


async def broker(base: str, session: dict[str, Any]) -> None:
    """Fill the broker with large retained messages and with sessions of clients that left, and send commands
    for every session as fast as it takes them."""
    async with httpx.AsyncClient(base_url=base) as http:
        headers = {"Authorization": f"Bearer {session['token']}"}
        told = (await http.get(f"/v1/sessions/{session['id']}", headers=headers)).json()
    url = urlsplit(told["mqtt"]["url"])
    command = f"{told['mqtt']['topic']}/cmd/prompt"
    logging.getLogger("mqtt").setLevel(logging.CRITICAL)  # aiomqtt tells of every call that waits

    async def one(number: int) -> None:
        count = 0
        while True:
            name = f"flood-{number}-{count % 1000}"
            with contextlib.suppress(aiomqtt.MqttError):
                async with aiomqtt.Client(
                    url.hostname or "", url.port or 1883, identifier=name, clean_session=False, timeout=10
                ) as client:
                    await client.subscribe("#", qos=1)
                    for _ in range(100):
                        count += 1
                        await client.publish(f"flood/{number}/{count}", bytes(60_000), qos=1, retain=True)
                        prompt = {"text": "a flood", "id": f"{number}-{count}"}
                        await client.publish(command, json.dumps(prompt), qos=1)
            await asyncio.sleep(0.05)

    await asyncio.gather(*(one(number) for number in range(CONNECTIONS)))


async def guesses(base: str, session: dict[str, Any]) -> None:
    """Guess other clients' tokens."""
    await _flood(base, {**session, "token": "wrong"}, [("GET", session["controls"][:-9], "")])


async def offers(base: str, session: dict[str, Any]) -> None:
    """Offers that are never completed, with a viewer's token."""
    pc = RTCPeerConnection(RTCConfiguration(iceServers=[]))
    pc.addTransceiver("video", direction="recvonly")
    await pc.setLocalDescription(await pc.createOffer())
    watch = {**session, "token": session["view_token"]}
    await _flood(base, watch, [("POST", session["whep"], pc.localDescription.sdp)], SDP)


async def candidates(base: str, session: dict[str, Any]) -> None:
    """Endless ICE candidates, each of which becomes a target."""
    async with WhepViewer(_target(base, session)) as viewer, httpx.AsyncClient(base_url=base) as http:
        await viewer.ready(30.0)
        headers = {"Content-Type": "application/trickle-ice-sdpfrag"}
        number = 0
        while True:
            lines = [
                f"a=candidate:{i} 1 udp 1 127.0.0.1 {1024 + (number + i) % 60000} typ host" for i in range(32)
            ]
            number += 32
            with contextlib.suppress(httpx.HTTPError):
                await http.patch(str(viewer._resource), content="\r\n".join(lines), headers=headers)


async def gaps(base: str, session: dict[str, Any]) -> None:
    """A viewer that skips every second SCTP sequence number."""
    while True:
        with contextlib.suppress(ConnectionError, Exception):
            async with WhepViewer(_target(base, session)) as viewer:
                await viewer.ready(30.0)
                sctp = viewer._now.pc.sctp if viewer._now else None
                assert sctp is not None
                tsn = sctp._local_tsn
                while True:
                    tsn = (tsn + 2) % (1 << 32)
                    chunk = DataChunk(flags=3)
                    chunk.tsn, chunk.stream_id, chunk.stream_seq, chunk.protocol = tsn, 1, 0, 51
                    chunk.user_data = b"x"
                    await sctp._send_chunk(chunk)
                    await asyncio.sleep(1 / GAPS_PER_S)


ATTACKS: dict[str, Attack] = {
    "silent connections": silent,
    "bodies that never end": slow_bodies,
    "clients that hang up": hang_ups,
    "picture bombs": pictures,
    "a flood of controls": controls,
    "a flood of requests": requests,
    "images on other sites": foreign_images,
    "a flood of the broker": broker,
    "guessed tokens": guesses,
    "offers never completed": offers,
    "a flood of candidates": candidates,
    "gaps in SCTP": gaps,
}


def _target(base: str, session: dict[str, Any]) -> Target:
    return Target(base.rstrip("/") + "/", session["id"], session["token"])


async def _hold(base: str, data: bytes) -> None:
    """Hold one connection, and reopen it whenever it is closed."""
    while True:
        with contextlib.suppress(OSError):
            reader, writer = await asyncio.open_connection("127.0.0.1", urlsplit(base).port)
            writer.write(data)
            await reader.read()
            writer.close()
        await asyncio.sleep(0.2)


async def _flood(
    base: str,
    session: dict[str, Any],
    kinds: list[tuple[str, str, str]],
    more: dict[str, str] | None = None,
) -> None:
    headers = {
        "Authorization": f"Bearer {session['token']}",
        "Content-Type": "application/json",
        **(more or {}),
    }

    async def one(http: httpx.AsyncClient) -> None:
        while True:
            for method, path, body in kinds:
                with contextlib.suppress(httpx.HTTPError):
                    await http.request(method, path, content=body, headers=headers)

    async with httpx.AsyncClient(base_url=base, timeout=30.0) as http:
        await asyncio.gather(*(one(http) for _ in range(CONNECTIONS)))


def main(name: str, base: str, session: str, seconds: str, cores: str = "") -> None:
    async def run() -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(float(seconds)):
                await ATTACKS[name](base, json.loads(session))

    if cores:
        os.sched_setaffinity(0, {int(core) for core in cores.split(",")})
    else:
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    print("begins", flush=True)
    began_s = time.monotonic()
    asyncio.run(run())
    if time.monotonic() - began_s < float(seconds) / 2:
        sys.exit(f"the attack {name!r} ended early")


if __name__ == "__main__":
    main(*sys.argv[1:6])
