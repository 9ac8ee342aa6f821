"""The response to a refused request."""

from __future__ import annotations

import httpx

PROBLEM = "application/problem+json"


def problem(response: httpx.Response) -> tuple[int, str, str | None]:
    """Status, code and field of a problem response. Asserts that it is one."""
    assert response.headers["content-type"] == PROBLEM, response.text
    body = response.json()
    assert body["status"] == response.status_code
    assert body["message"]
    assert "Traceback" not in response.text
    return response.status_code, body["code"], body["field"]
