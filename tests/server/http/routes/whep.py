"""Offers to the WHEP endpoint."""

from __future__ import annotations

import httpx

from tests.rigs.server.server_rig import SDP, Live

WHEP = "/v1/sessions/main/whep"


async def post(server: Live, sdp: str | bytes, query: str = "", **headers: str) -> httpx.Response:
    return await server.http.post(WHEP + query, content=sdp, headers=SDP | headers)
