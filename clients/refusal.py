"""Turns a server's refusal over HTTP into one line for the user. Pure except for httpx's response."""

from __future__ import annotations

from typing import TypeVar

import httpx

from clients.errors import ClientError

OPTIONS = {  # what the server asks of HTTP clients, for users of commands
    "send Authorization: Bearer <api key>": "give an API key (--api-key; of view and play: --token)",
    "send Authorization: Bearer <token>": "give --token, or a link with it",
}
FINAL = (400, 401, 403, 404, 406, 415)  # retrying would change nothing

AnyError = TypeVar("AnyError", bound=ClientError)


def judged(error: AnyError, response: httpx.Response) -> AnyError:
    """The error of a command whose first request the server refused: see clients.errors."""
    error.called_wrongly = response.status_code in FINAL
    return error


def refusal(response: httpx.Response, base: str, session: str) -> str:
    """The invalid field, the server's message, and when to try again, as far as the server says. `session` is
    empty if it was asked for something else."""
    try:
        body = response.json()
    except ValueError:
        body = {}
    body = body.get("error", body) if isinstance(body, dict) else {}
    told = body if isinstance(body, dict) else {}
    said, field = told.get("message") or told.get("detail"), told.get("field")
    if response.status_code == 404 and not said and not session:
        return f"{base} answered 404: is it a psistream server?"
    if response.status_code == 404 and not said:
        return f"{base} has no session {session!r}"
    if response.status_code == 401 and not said and session:
        return f"session {session!r} needs a token: --token …"
    words = str(said or f"{base} answered {response.status_code}")
    for header, option in OPTIONS.items():
        words = words.replace(header, option)
    named = f"{field}: " if field and said and not words.startswith(str(field)) else ""
    after = response.headers.get("retry-after", "")
    later = f"; try again in {after} s" if after.isdigit() and "again" not in words else ""
    return f"{named}{words}{later}"
