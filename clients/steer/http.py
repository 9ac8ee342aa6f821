"""Steering by HTTP. A receipt comes as the answer to a request. So `applied` is asked for by sending the
control again with the same id, which has no second effect. The state is asked for once a second."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import httpx

from clients.http import ProxyUnusable, cause, http_client
from clients.refusal import refusal
from clients.steer.errors import SteerError
from clients.steer.transport import CONNECT_TIMEOUT_S, RETRY_S, Control, Disconnected, Hear, Queue, first_of
from clients.target import Target

STATE_EVERY_S = 1.0


class HttpTransport:
    ask_again_s = 0.3

    def __init__(self, target: Target) -> None:
        self.shown = target.base
        self._target = target
        self._queue = Queue()

    def post(self, control: Control) -> None:
        self._queue.put(control)

    async def converse(self, hear: Hear, connected: Callable[[], None]) -> None:
        try:
            client = http_client(self._target.base, CONNECT_TIMEOUT_S)
        except ProxyUnusable as error:
            raise SteerError(str(error)) from None
        client.headers.update(self._target.headers)
        try:
            async with client:
                answer = await self._tell_state(client, hear)
                if answer.status_code != 200:
                    raise Disconnected(refusal(answer, self._target.base, self._target.session))
                connected()
                await first_of(
                    httpx.HTTPError,
                    httpx.InvalidURL,
                    send=self._queue.send_all(lambda control: self._send(client, control, hear)),
                    states=self._tell_states(client, hear),
                )
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise Disconnected(
                f"cannot reach {self.shown}: is `psistream serve` running there? ({cause(self.shown, error)})"
            ) from None

    async def _tell_states(self, client: httpx.AsyncClient, hear: Hear) -> None:
        while True:
            await asyncio.sleep(STATE_EVERY_S)
            await self._tell_state(client, hear)

    async def _tell_state(self, client: httpx.AsyncClient, hear: Hear) -> httpx.Response:
        answer = await client.get(self._target.path)
        if answer.status_code == 404:
            raise SteerError(f"no session {self._target.session} at {self.shown}")
        if answer.status_code in (401, 403):
            raise SteerError(refusal(answer, self._target.base, self._target.session))
        if answer.status_code == 200:
            state = _object(answer)
            hear("state", state)
            if isinstance(state.get("stats"), dict):
                hear("event", {"type": "segment", **state["stats"]})
        return answer

    async def _send(self, client: httpx.AsyncClient, control: Control, hear: Hear) -> None:
        answer = await client.post(f"{self._target.path}/controls", json=control)
        told = _object(answer)
        limited = answer.status_code == 429 and told.get("type") != "receipt"  # such a receipt is final
        if limited or "retry-after" in answer.headers:  # such as before it is restored
            await asyncio.sleep(_seconds(answer.headers.get("retry-after")))
            self._queue.put_back(control)
        elif answer.is_success:
            hear("receipt", told)
        else:
            message = str(told.get("message") or refusal(answer, self.shown, self._target.session))
            fields = {"code": told.get("code") or "error", "field": told.get("field")}
            hear("receipt", {"id": control["id"], "status": "rejected", "message": message, **fields})


def _object(answer: httpx.Response) -> dict[str, Any]:
    try:
        content = answer.json()
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}


def _seconds(text: str | None) -> float:
    return float(text) if text and text.isascii() and text.isdigit() else RETRY_S
