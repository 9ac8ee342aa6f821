"""From an address to the transport that it means."""

from __future__ import annotations

from collections.abc import Callable

import httpx

from clients.http import ProxyUnusable, http_client
from clients.refusal import judged, refusal
from clients.steer.errors import SteerError
from clients.steer.mqtt import Broker, MqttTransport
from clients.steer.transport import CONNECT_TIMEOUT_S, Control, Hear, Queue, Transport, check_session
from clients.target import Target
from engine.errors import InvalidInput

KNOWN = ("auto", "mqtt", "http", "datachannel")


def transport_to(url: str, session: str | None, token: str | None, by: str) -> Transport:
    """Raises SteerError."""
    if by not in KNOWN:
        raise SteerError(f"by must be one of {', '.join(KNOWN)}, not {by!r}")
    if url.startswith(("mqtt://", "mqtts://")):
        if by not in ("auto", "mqtt"):
            raise SteerError(f"{by} needs an address like http://localhost:8080, not {url.split('@')[-1]!r}")
        return MqttTransport(Broker.parse(url), session or "main", token=token)
    try:
        target = Target.parse(url, session, token)
    except InvalidInput as error:
        raise SteerError(str(error)) from None
    check_session(target.session)
    if by == "mqtt":
        return ToldBroker(target)
    if by == "datachannel":
        from clients.steer.datachannel import DataChannelTransport  # aiortc takes a while to import

        return DataChannelTransport(target)
    from clients.steer.http import HttpTransport

    return HttpTransport(target)


async def broker_of(target: Target) -> tuple[str, str | None]:
    """The MQTT URL and the session's topic, as its server tells them. Raises SteerError."""
    server = target.base.rstrip("/")
    try:
        async with http_client(server, CONNECT_TIMEOUT_S) as client:
            answer = await client.get(target.path, headers=target.headers)
            content = answer.json()
    except ProxyUnusable as error:
        raise SteerError(str(error)) from None
    except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
        raise SteerError(f"no psistream server at {server} ({error or type(error).__name__})") from None
    if answer.status_code == 404:
        raise judged(SteerError(f"no session {target.session} at {server}"), answer)
    if answer.status_code in (401, 403):
        raise judged(SteerError(refusal(answer, server, target.session)), answer)
    if answer.status_code != 200 or not isinstance(content, dict) or "mqtt" not in content:
        raise SteerError(f"{server} does not tell its broker (HTTP {answer.status_code}): say it with --mqtt")
    if not isinstance(content["mqtt"], dict):
        raise SteerError(f"{server} runs without MQTT: start it with --mqtt embedded")
    topic = content["mqtt"].get("topic")
    return str(content["mqtt"].get("url")), topic if isinstance(topic, str) else None


class ToldBroker:
    """MQTT to the broker that an HTTP server names; it is asked at the start."""

    ask_again_s = MqttTransport.ask_again_s

    def __init__(self, target: Target) -> None:
        self.shown = target.base
        self._target = target
        self._early = Queue()
        self._transport: MqttTransport | None = None

    def post(self, control: Control) -> None:
        if self._transport is None:
            self._early.put(control)
        else:
            self._transport.post(control)

    async def converse(self, hear: Hear, connected: Callable[[], None]) -> None:
        if self._transport is None:
            url, topic = await broker_of(self._target)
            target = self._target
            self._transport = MqttTransport(
                Broker.parse(url), target.session, topic=topic, token=target.token
            )
            self.shown = self._transport.shown
            for control in self._early.drain():
                self._transport.post(control)
        await self._transport.converse(hear, connected)
