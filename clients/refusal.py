"""Turns a server's refusal over HTTP into one line for the user. Pure except for httpx's response."""

from __future__ import annotations

import httpx


def refusal(response: httpx.Response, base: str, session: str) -> str:
    """The invalid field, the server's message, and when to try again, as far as the server says."""
    try:
        body = response.json()
    except ValueError:
        body = {}
    body = body.get("error", body) if isinstance(body, dict) else {}
    told = body if isinstance(body, dict) else {}
    said, field = told.get("message") or told.get("detail"), told.get("field")
    if response.status_code == 404 and not said:
        return f"{base} has no session {session!r}"
    if response.status_code == 401 and not said:
        return f"session {session!r} needs a token: --token …"
    words = str(said or f"{base} answered {response.status_code}")
    named = f"{field}: " if field and said and not words.startswith(str(field)) else ""
    after = response.headers.get("retry-after", "")
    later = f"; try again in {after} s" if after.isdigit() and "again" not in words else ""
    return f"{named}{words}{later}"
