"""Sends a request on to another gateway and streams the answer back. Nothing is stored on the way.

Bodies are read no faster than the other side takes them. It ends with the client, and when the other gateway
is not heard of any more. Pure ASGI and httpx; it knows no sessions.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence

import httpx
from starlette.datastructures import Headers
from starlette.types import Receive, Scope, Send

from server.http.problems import too_large

log = logging.getLogger(__name__)

CONNECT_S, ANSWER_S, PAUSE_S = 2.0, 45.0, 30.0  # to connect, until the answer begins, between its parts
LOOK_S = 0.5  # how often it looks whether the other gateway is still there
MOST = 48  # requests to one gateway at a time
KEEP_S = 2.0  # less than the other gateway keeps connections that are not used
HOP = frozenset(
    b"connection keep-alive proxy-authenticate proxy-authorization proxy-connection te trailer "
    b"transfer-encoding upgrade".split()
)
FAILURES = httpx.HTTPError, httpx.InvalidURL, UnicodeError  # the last: no host can have such a name
# about the way from the client to this gateway, which has judged them already
OURS = frozenset(
    b"forwarded x-forwarded-for x-forwarded-host x-forwarded-port x-forwarded-proto x-forwarded-prefix "
    b"x-real-ip x-psistream-passed origin referer sec-fetch-dest sec-fetch-mode sec-fetch-site "
    b"sec-fetch-user cookie expect".split()
)


class Unanswered(Exception):
    """The other gateway gave no answer."""


class Forwarding:
    """The connections to other gateways, by their URLs."""

    def __init__(self) -> None:
        self._clients: dict[str, httpx.AsyncClient] = {}

    async def __call__(
        self,
        url: str,
        target: bytes,
        extra: Mapping[str, str],
        gone: Callable[[], bool],
        most: int,
        scope: Scope,
        receive: Receive,
        send: Send,
    ) -> None:
        """Pass the request on to `target`, the path and the query, of the gateway at `url`, with `extra`
        headers, unless that gateway is `gone`. The body may have at most `most` bytes. Raises TooLarge, and
        Unanswered if no answer has begun."""
        given = Headers(scope=scope)
        if int(given.get("content-length", "0")) > most:
            raise too_large("body", most)
        parts: asyncio.Queue[bytes | None] = asyncio.Queue(1)
        chunked = "transfer-encoding" in given  # then a length does not count
        without = HOP | OURS | ({b"content-length"} if chunked else set())
        headers = [(k, v) for k, v in scope["headers"] if k.lower() not in without]
        headers += [(k.encode(), v.encode()) for k, v in extra.items()]
        body = _all(parts) if _has_body(given) else None
        request = self._request(scope["method"], url, target, headers, body)
        exchange = asyncio.create_task(self._exchange(url, request, send), name="pass-on")
        client = asyncio.create_task(_read(receive, parts, most), name="read-client")
        try:
            while not (exchange.done() or client.done() or gone()):
                await asyncio.wait({exchange, client}, timeout=LOOK_S, return_when=asyncio.FIRST_COMPLETED)
            if exchange.done():
                exchange.result()
            elif client.done():
                client.result()
            else:
                raise Unanswered
        finally:
            for task in (exchange, client):
                task.cancel()
            await asyncio.gather(exchange, client, return_exceptions=True)

    async def ask(
        self, url: str, target: bytes, headers: Mapping[str, str], most: int, within_s: float
    ) -> tuple[int, bytes]:
        """The status and body that the gateway at `url` answers to GET `target`. Raises TimeoutError, and
        Unanswered with the reason, such as more than `most` bytes."""
        body, request = bytearray(), self._request("GET", url, target, [*headers.items()])
        client = self._client(url)
        try:
            async with asyncio.timeout(within_s):
                response = await client.send(request, stream=True)
                try:
                    async for part in response.aiter_bytes():
                        body += part
                        if len(body) > most:
                            raise Unanswered("its answer is too large")
                finally:
                    await response.aclose()
        except FAILURES as error:
            raise Unanswered("it does not answer") from error
        return response.status_code, bytes(body)

    def _request(
        self,
        method: str,
        url: str,
        target: bytes,
        headers: Sequence[tuple[bytes, bytes]] | Sequence[tuple[str, str]],
        body: AsyncIterator[bytes] | None = None,
    ) -> httpx.Request:
        """Raises Unanswered for an address that none can have."""
        try:
            base = httpx.URL(url)
            # httpx would write the target in its own way, and this gateway vouches for these bytes; and it
            # logs the URL, where clients may have tokens
            as_it_is = {"target": base.raw_path.rstrip(b"/") + target}
            return self._client(url).build_request(
                method, base, headers=headers, content=body, extensions=as_it_is
            )
        except FAILURES as error:
            raise Unanswered("it cannot be asked") from error

    async def aclose(self, but: Collection[str] = ()) -> None:
        """Close the connections to all gateways but those at these URLs. Idempotent."""
        for url in [each for each in self._clients if each not in but]:
            await self._clients.pop(url).aclose()

    async def _exchange(self, url: str, request: httpx.Request, send: Send) -> None:
        started = False
        try:
            async with asyncio.timeout(ANSWER_S):
                response = await self._client(url).send(request, stream=True)
            try:
                kept = [(k.lower(), v) for k, v in response.headers.raw if k.lower() not in HOP | {b"date"}]
                started = True
                await send({"type": "http.response.start", "status": response.status_code, "headers": kept})
                async for part in response.aiter_raw():
                    await send({"type": "http.response.body", "body": part, "more_body": True})
                await send({"type": "http.response.body"})
            finally:
                await response.aclose()
        except (*FAILURES, TimeoutError) as error:
            if not started:
                raise Unanswered from error
            log.warning(
                "an answer of %s broke off: %s", url, type(error).__name__
            )  # as it does for the client

    def _client(self, url: str) -> httpx.AsyncClient:
        if url not in self._clients:
            self._clients[url] = httpx.AsyncClient(
                trust_env=False,
                verify=not url.startswith("http:"),  # loading certificates would stop everything for 20 ms
                timeout=httpx.Timeout(PAUSE_S, connect=CONNECT_S, read=ANSWER_S, pool=CONNECT_S),
                limits=httpx.Limits(
                    max_connections=MOST, max_keepalive_connections=MOST, keepalive_expiry=KEEP_S
                ),
            )
        return self._clients[url]


async def _read(receive: Receive, parts: asyncio.Queue[bytes | None], most: int) -> None:
    """Put the parts of the request's body into the queue, and None after the last one. Return once the client
    has hung up. Raises TooLarge."""
    size = 0
    while (message := await receive())["type"] != "http.disconnect":
        if body := message.get("body"):
            if (size := size + len(body)) > most:
                raise too_large("body", most)
            await parts.put(body)
        if not message.get("more_body"):
            await parts.put(None)


async def _all(parts: asyncio.Queue[bytes | None]) -> AsyncIterator[bytes]:
    while (part := await parts.get()) is not None:
        yield part


def _has_body(headers: Headers) -> bool:
    return "transfer-encoding" in headers or headers.get("content-length", "0") != "0"
