"""What the server prints when it is ready, and how its address may be written."""

from __future__ import annotations

from server import arguments
from server.http.greeting import greeting
from tests.rigs.server.server_rig import config, live


async def test_the_link_of_an_ipv6_address_has_its_brackets() -> None:
    async with live(config(host="::1")) as server:  # localhost may be 127.0.0.1 only
        assert greeting(server.services, 8080).startswith("psistream is live at http://[::1]:8080")
    async with live(config(host="fd00::7")) as server:
        assert greeting(server.services, 8080).startswith(
            "psistream is live at http://[fd00::7]:8080/#token="
        )


async def test_a_gateway_without_main_says_where_its_link_is() -> None:
    async with live(config(host="192.0.2.1", name="g2")) as server:
        assert "another gateway, which has printed its link" in greeting(server.services, 8080)


def test_the_host_may_be_written_as_in_a_url() -> None:
    assert arguments.settings(arguments.parser().parse_args(["--host", "[::1]"])).host == "::1"


async def test_beyond_loopback_the_greeting_shows_the_necessary_secrets() -> None:
    async with live(config(host="0.0.0.0")) as server:
        lines = greeting(server.services, 8080).split("\n")
        main = server.services.gateway.session("main")
        assert lines[0] == f"psistream is live at http://localhost:8080/#token={main.token}"
        assert f"Authorization: Bearer {server.services.access.made_key}" in lines[1]
        assert len(lines) <= 3
