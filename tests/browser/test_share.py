"""The page lets others in: links for watching, and links that end."""

from __future__ import annotations

import pytest
from playwright.async_api import Browser

from benchmarks.server.subject import Subject
from tests.rigs.server import browser_rig
from tests.rigs.server.browser_rig import live, opened, private, reads, say, until

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300), pytest.mark.asyncio(loop_scope="module")]
server, browser = browser_rig.server, browser_rig.browser


async def test_a_private_session_its_watch_link_and_its_end(browser: Browser, server: Subject) -> None:
    async with opened(browser, server.target.base) as page:
        await private(page)
        await say(page, "a yellow cube")
        await page.click("#share")
        link = await page.input_value("#share-link")
        token = await page.evaluate("() => new URLSearchParams(location.hash.slice(1)).get('token')")
        assert token
        assert token not in link
        async with opened(browser, link, phone=True) as onlooker:
            await live(onlooker)
            assert "watching" in await onlooker.inner_text("#receipt")
            assert not await onlooker.is_visible("#prompt")
            await page.click("#end-private")
            await reads(onlooker, "[data-part=title]", "has ended")
        await live(page)
        assert await page.evaluate("() => location.search") == ""


async def test_a_link_that_ends_lets_somebody_steer_but_not_share(browser: Browser, server: Subject) -> None:
    async with opened(browser, server.target.base) as page:
        await private(page)
        await page.click("#share")
        lasting = await page.input_value("#share-link")
        await page.select_option("#share-kind", "driver 3600")
        link = "document.querySelector('#share-link').value"
        await until(page, link, lambda value: "#token=" in value and value != lasting, "the link")
        assert "steer" in await page.inner_text("#share-text")
        async with opened(browser, await page.input_value("#share-link")) as guest:
            await live(guest)
            await say(guest, "a yellow cube")
            assert not await guest.is_visible("#share")
        await page.select_option("#share-kind", "")
        assert await page.input_value("#share-link") == lasting
        await page.click("#end-private")
        await live(page)
