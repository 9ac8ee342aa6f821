"""Background tasks have names, and no error gets lost."""

from __future__ import annotations

import asyncio

import pytest

from server.config import ServerConfig
from server.tasks import first_of
from server.webrtc.fanout import Fanout
from server.webrtc.pushes import INTERNAL, Pushes
from tests.rigs.control.gateway import FakeSteering
from tests.rigs.waiting import until


async def test_the_first_one_ends_the_others() -> None:
    names: list[str] = []

    async def forever() -> None:
        task = asyncio.current_task()
        assert task is not None
        names.append(task.get_name())
        await asyncio.Event().wait()

    async def soon() -> None:
        await asyncio.sleep(0)

    await first_of(waiting=forever(), quick=soon())
    assert names == ["waiting"]
    assert not [task for task in asyncio.all_tasks() if task.get_name() in ("waiting", "quick")]


async def test_the_error_of_the_first_one_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    async def broken() -> None:
        raise KeyError("lost")

    await first_of(broken=broken(), waiting=asyncio.Event().wait())
    assert "task broken failed" in caplog.text
    assert "lost" in caplog.text


async def test_a_bug_in_a_push_is_logged_and_listed(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The error used to be swallowed, and the push was retried forever without a reason."""

    async def broken(*args: object) -> None:
        raise KeyError("lost")

    monkeypatch.setattr("server.webrtc.whip.WhipConnection.run", broken)
    fanout = Fanout(lambda viewers: None, lambda rendition: None)
    async with Pushes(ServerConfig(), FakeSteering()) as pushes:
        push = pushes.start("main", fanout, [900_000], "http://127.0.0.1:9/whip", None)
        await until(lambda: push.state == "retrying", "a failed attempt")
        assert push.error == INTERNAL
        assert f"session main: push {push.id} failed" in caplog.text
