"""One WHIP connection (RFC 9725): sends a session's encoded stream to a server that distributes it.

It is one attempt: it connects, sends until it breaks, and reports why. Other modules decide about retries.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Sequence
from urllib.parse import urljoin

import httpx
from aiortc import RTCBundlePolicy, RTCConfiguration, RTCIceServer, RTCPeerConnection, RTCSessionDescription
from aiortc.exceptions import InvalidStateError, OperationError

from engine.errors import PsistreamError
from server.config import IceServer
from server.webrtc.adapter.addresses import Gatherer, ice_connection
from server.webrtc.adapter.negotiation import accept_rsa, one_fingerprint
from server.webrtc.adapter.transport import MediaTransport
from server.webrtc.fanout import Fanout
from server.webrtc.media import Condition, MediaStream
from server.webrtc.rtp.stream import EXTENSIONS, Extensions
from server.webrtc.signalling import sdp
from server.webrtc.signalling.codecs import sendable

HTTP_TIMEOUT_S = 10.0
CONNECT_TIMEOUT_S = 15.0
MORE_FEEDBACK = ("transport-cc", "ccm fir")
MORE_EXTENSIONS = {"transport": 5, "playout_delay": 6}  # aiortc's own take 1 to 3


class PushFailed(PsistreamError):
    """Why the stream does not arrive, in one line for people."""

    code = "push_failed"


class WhipConnection:
    """Call `run`, which ends when the connection breaks; then `close`, which is idempotent."""

    def __init__(
        self,
        fanout: Fanout,
        rates: Sequence[int],
        ice_servers: Sequence[IceServer],
        gatherer: Gatherer,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._fanout, self._rates, self._gatherer, self._clock = fanout, rates, gatherer, clock
        servers = [RTCIceServer(s.url, s.username, s.credential) for s in ice_servers]
        self._pc = RTCPeerConnection(RTCConfiguration(servers, bundlePolicy=RTCBundlePolicy.MAX_BUNDLE))
        accept_rsa(self._pc)
        one_fingerprint(self._pc)
        self._media: MediaStream | None = None
        self._resource: str | None = None
        self._changed = asyncio.Event()
        self._pc.on("connectionstatechange", self._changed.set)

    @property
    def condition(self) -> Condition | None:
        return self._media.condition if self._media is not None else None

    async def run(self, url: str, token: str | None, on_live: Callable[[], None]) -> None:
        """Always ends by raising PushFailed. `on_live` is called once it is connected."""
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        transceiver = self._pc.addTransceiver("video", direction="sendonly")
        self._gatherer.install(ice_connection(transceiver))
        transport = MediaTransport(transceiver)
        transport.install(self._open, self._close, self._heard)
        await self._pc.setLocalDescription(await self._pc.createOffer())
        answer = await self._post(url, headers, offer_of(self._pc.localDescription.sdp))
        part = next((p for p in sdp.parse(answer).parts if p.kind == "video" and p.port), None)
        chosen = sendable(part) if part is not None else []
        if part is None or not chosen:
            raise PushFailed(f"{url} takes neither VP8 nor H264 video", field="whip")
        numbers = {name: number for name, number in _extensions(part).items() if name in EXTENSIONS}
        self._media = MediaStream(
            self._fanout,
            chosen[0],
            transport.source,
            Extensions(numbers, part.mid),
            "psistream",
            self._rates,
            transport,
            self._clock,
        )
        try:
            await self._pc.setRemoteDescription(RTCSessionDescription(answer, "answer"))
        except (ValueError, OperationError, InvalidStateError) as error:
            raise PushFailed(f"the answer of {url} can't be used: {error}", field="whip") from None
        await self._state("connected", CONNECT_TIMEOUT_S)
        on_live()
        await self._state("failed", None)
        raise PushFailed(f"the connection to {url} was lost", field="whip")

    async def close(self, token: str | None) -> None:
        self._close()
        if self._resource is not None:
            resource, self._resource = self._resource, None
            headers = {"Authorization": f"Bearer {token}"} if token else {}
            with contextlib.suppress(httpx.HTTPError):
                async with httpx.AsyncClient(timeout=2.0) as http:
                    await http.delete(resource, headers=headers)
        await self._pc.close()

    async def _post(self, url: str, headers: dict[str, str], offer: str) -> str:
        try:
            async with httpx.AsyncClient(timeout=HTTP_TIMEOUT_S, follow_redirects=True) as http:
                sent = {"Content-Type": "application/sdp", **headers}
                answer = await http.post(url, content=offer, headers=sent)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            reason = str(error) or type(error).__name__
            raise PushFailed(f"{url} cannot be reached: {reason[:200]}", field="whip") from None
        if answer.status_code != 201:
            raise PushFailed(f"{url} answered {answer.status_code} instead of 201", field="whip")
        if location := answer.headers.get("location"):
            self._resource = urljoin(str(answer.url), location)
        return answer.text

    async def _state(self, wanted: str, timeout_s: float | None) -> None:
        """Wait for a state. Raises PushFailed if the connection ends before that."""
        try:
            async with asyncio.timeout(timeout_s):
                while self._pc.connectionState != wanted:
                    if self._pc.connectionState in ("failed", "closed"):
                        raise PushFailed("no connection for video: check the route for UDP", field="whip")
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            raise PushFailed(f"no connection for video in {timeout_s:g} s", field="whip") from None

    def _open(self) -> None:
        if self._media is not None:
            self._media.open()

    def _close(self) -> None:
        if self._media is not None:
            self._media.close()

    def _heard(self, data: bytes) -> None:
        if self._media is not None:
            self._media.heard(data)


def offer_of(text: str) -> str:
    """aiortc's offer, with the feedback and extensions that we support and aiortc doesn't."""
    described = sdp.parse(text)
    lines = list(described.session)
    for part in described.parts:
        lines.append(part.media_line())
        for line in part.lines:
            lines.append(line)
            number, _, name = line.removeprefix("a=rtpmap:").partition(" ")
            if line.startswith("a=rtpmap:") and not name.startswith("rtx/"):
                lines += [f"a=rtcp-fb:{number} {feedback}" for feedback in MORE_FEEDBACK]
        lines += [f"a=extmap:{number} {EXTENSIONS[name]}" for name, number in MORE_EXTENSIONS.items()]
    return sdp.text(lines)


def _extensions(part: sdp.MediaSection) -> dict[str, int]:
    names = {uri: name for name, uri in EXTENSIONS.items()}
    found = {}
    for value in part.values("extmap"):
        number, _, uri = value.partition(" ")
        if (name := names.get(uri.strip())) and number.partition("/")[0].isdecimal():
            found[name] = int(number.partition("/")[0])
    return found
