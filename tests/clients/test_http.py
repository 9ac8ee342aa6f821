"""Clients in an environment with proxies: direct connections to this machine, and unusable proxies are
named."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from benchmarks.server.subject import Subject, own_server
from clients.errors import ViewError
from clients.http import ProxyUnusable, http_client, is_loopback
from clients.steer import connect
from clients.target import Target
from clients.view.command import main
from clients.whep import WhepViewer
from tests.rigs.server.fake_device import FAKE_OPTIONS

NAMES = (
    "http_proxy",
    "HTTP_PROXY",
    "https_proxy",
    "HTTPS_PROXY",
    "all_proxy",
    "ALL_PROXY",
    "no_proxy",
    "NO_PROXY",
)


@pytest.fixture(scope="module")
def server() -> Iterator[Subject]:
    with own_server([*FAKE_OPTIONS, "--prompt", "a red ball"]) as subject:
        yield subject


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("name", "proxy"),
    [
        ("http_proxy", "http://192.0.2.1:3128"),
        ("ALL_PROXY", "socks5://192.0.2.1:1080"),
        ("HTTP_PROXY", "nonsense"),
    ],
)
async def test_a_server_on_this_machine_is_reached_directly(
    server: Subject, name: str, proxy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, proxy)
    async with WhepViewer(server.target) as viewer, connect(server.target.base) as session:
        await viewer.ready(30)
        assert session.state.prompt


@pytest.mark.parametrize("proxy", ["socks5://user:secret@192.0.2.1:1080", "gopher://192.0.2.1", "::::"])
def test_a_proxy_that_cannot_be_used_is_one_line_with_its_variable(
    proxy: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ALL_PROXY", proxy)
    with pytest.raises(
        ProxyUnusable, match=r"the proxy in \$ALL_PROXY cannot be used: .*NO_PROXY=video\.example"
    ):
        http_client("http://video.example:8080", 1.0)
    assert main(["http://video.example:8080", "--seconds", "1"]) == 1
    told = capsys.readouterr().err
    assert "$ALL_PROXY" in told
    assert told.count("\n") == 1
    assert "secret" not in told


def test_a_proxy_that_does_not_answer_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("http_proxy", "http://user:secret@127.0.0.1:9")
    assert main(["http://192.0.2.1:8080", "--seconds", "1"]) == 1
    told = capsys.readouterr().err
    assert "through the proxy in $http_proxy" in told
    assert "secret" not in told


@pytest.mark.parametrize(
    ("url", "local"),
    [
        ("http://localhost:8080", True),
        ("localhost:8080", True),
        ("http://a.localhost", True),
        ("http://127.8.0.1/", True),
        ("http://[::1]:8080/", True),
        ("http://[::ffff:127.0.0.1]/", True),
        ("http://10.0.0.1", False),
        ("http://localhost.example.com", False),
        ("http://[", False),
    ],
)
def test_loopback_addresses_are_recognised(url: str, local: bool) -> None:
    assert is_loopback(url) == local


async def test_a_remote_server_is_still_reached_through_the_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")  # nothing listens there

    with pytest.raises(ViewError, match="cannot reach"):
        async with WhepViewer(Target.parse("http://192.0.2.1:8080")):
            pass
