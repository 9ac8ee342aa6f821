"""WHEP's two requests: sending an offer, and leaving. It knows no media."""

from __future__ import annotations

import contextlib
from urllib.parse import urljoin

import httpx

from clients.errors import ViewError, ViewRefused
from clients.http import as_view_errors, http_client
from clients.refusal import FINAL, judged, refusal
from clients.target import Target

MOVED = ("moved", "fenced")  # codes of sessions that end at one gateway and go on at another one
LEAVE_TIMEOUT_S = 2.0
VANISHED = (404, 503)
# Other gateways say 503 at once if nobody listens at the viewer's gateway, and later if that one is slow.
VANISHED_TIMEOUT_S = 1.0


async def post_offer(
    target: Target, offer: str, timeout_s: float, start_kbps: int | None = None
) -> tuple[str, str | None]:
    """The SDP answer, and the viewer's own address on the server. `start_kbps`: what the last connection
    carried. Raises ViewError, ViewRefused."""
    base = target.base
    headers = {"Content-Type": "application/sdp", **target.headers}
    with as_view_errors(base, timeout_s):
        async with http_client(base, timeout_s) as http:
            query = {} if start_kbps is None else {"start_kbps": start_kbps}
            response = await http.post(f"{target.path}/whep", content=offer, headers=headers, params=query)
    if response.status_code != 201:
        kind = ViewRefused if response.status_code in FINAL else ViewError
        raise judged(kind(refusal(response, target.base, target.session)), response)
    location = response.headers.get("location")
    return response.text, urljoin(str(response.url), location) if location else None


async def vanished(target: Target, resource: str) -> bool:
    """Whether a server says that this viewer is gone, or that its gateway is. No answer says nothing."""
    with contextlib.suppress(httpx.HTTPError):
        async with http_client(resource, VANISHED_TIMEOUT_S) as http:
            return (await http.get(resource, headers=target.headers)).status_code in VANISHED
    return False


async def leave(target: Target, resource: str) -> None:
    """End the viewer. A server that can't be reached notices by itself."""
    with contextlib.suppress(httpx.HTTPError):
        async with http_client(resource, LEAVE_TIMEOUT_S) as http:
            await http.delete(resource, headers=target.headers)


def payload_names(sdp: str) -> dict[int, str]:
    """RTP payload type → codec name, from an SDP answer."""
    names = {}
    for line in sdp.splitlines():
        if line.startswith("a=rtpmap:"):
            number, _, name = line[len("a=rtpmap:") :].partition(" ")
            if number.isdigit():
                names[int(number)] = name.split("/")[0].upper()
    return names
