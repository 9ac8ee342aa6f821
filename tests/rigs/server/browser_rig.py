"""A real server process and a real Chromium for the page's tests. Nothing here is downloaded."""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import pytest_asyncio
from playwright.async_api import Browser, Error, Page, async_playwright

from benchmarks.server.subject import Subject, own_server
from tests.rigs.server.fake_device import FAKE_OPTIONS

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    # on a machine with loopback only, all three are needed
    "--allow-loopback-in-peer-connection",
    "--disable-features=WebRtcHideLocalIpsWithMdns",
    "--force-webrtc-ip-handling-policy=default",
]
FAKE = [*FAKE_OPTIONS, "--prompt", "a red ball stands still"]
PIXELS = """() => {
  const video = document.querySelector('video'), canvas = document.createElement('canvas');
  [canvas.width, canvas.height] = [160, 96];
  const context = canvas.getContext('2d', {willReadFrequently: true});
  context.drawImage(video, 0, 0, 160, 96);
  return Array.from(context.getImageData(0, 16, 160, 16).data);
}"""
STRIPE_PX = 32  # period of the fake backend's stripes


@asynccontextmanager
async def chromium() -> AsyncIterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("there is no Chromium on this machine: apt-get install chromium")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        await browser.close()


@pytest.fixture(scope="module")
def server() -> Iterator[Subject]:
    with own_server(FAKE) as subject:
        yield subject


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def browser() -> AsyncIterator[Browser]:
    async with chromium() as started:
        yield started


@asynccontextmanager
async def opened(
    browser: Browser, url: str, *, phone: bool = False, large: bool = False
) -> AsyncIterator[Page]:
    """The page in a new browser profile. An error that it logs or throws fails the test.

    Every pixel is drawn by the CPU here, so the window is small unless its picture is inspected."""
    faults: list[str] = []
    width, height = (390, 844) if phone else (1280, 800) if large else (760, 560)
    context = await browser.new_context(
        viewport={"width": width, "height": height}, has_touch=phone, is_mobile=phone
    )
    page = await context.new_page()
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("console", lambda line: faults.append(line.text) if line.type == "error" else None)
    try:
        await page.goto(url)
        yield page
    finally:
        await context.close()
    unexpected = [fault for fault in faults if "Failed to load resource" not in fault]
    assert not unexpected, unexpected


async def until(
    page: Page, expression: str, good: Callable[[Any], bool], what: str, timeout_s: float = 40
) -> Any:
    """Poll the page until the expression is true. The page's policy forbids Playwright's own waiting, which
    needs eval."""
    deadline_s = time.monotonic() + timeout_s
    value = None
    while time.monotonic() < deadline_s:
        try:
            value = await page.evaluate(f"() => {expression}")
        except Error as error:
            if "navigation" not in str(error):  # the page is not loading again
                raise
            continue
        if good(value):
            return value
        await asyncio.sleep(0.05)
    raise AssertionError(f"{what}: still {value!r} after {timeout_s} s")


async def reads(page: Page, selector: str, part: str, what: str = "") -> str:
    """Wait until this element's text contains `part`, and return the text."""
    text = f"document.querySelector({selector!r}).innerText"
    return str(await until(page, text, lambda found: part in found, what or part))


async def live(page: Page, timeout_s: float = 40) -> None:
    await until(page, "window.psistream?.state", lambda state: state == "live", "live", timeout_s)


async def shown(page: Page, more: int) -> None:
    """Wait until this many more frames were shown."""
    before = await page.evaluate("() => psistream.framesShown")
    await until(page, "psistream.framesShown", lambda n: n >= before + more, f"{more} more frames")


async def say(page: Page, text: str, key: str = "Enter") -> dict[str, Any]:
    """Type a prompt, and return its receipt once the picture is on the screen."""
    await page.fill("#prompt", text)
    await page.press("#prompt", key)
    receipt = await until(
        page,
        "psistream.lastReceipt",
        lambda r: r and r["text"] == text and r["onScreenMs"] is not None,
        f"receipt of {text!r}",
    )
    assert isinstance(receipt, dict)
    return receipt


async def strip(page: Page) -> npt.NDArray[np.int64]:
    """(16, 160, 3) uint8: a part of the sky in the current picture of the fake backend."""
    return np.array(await page.evaluate(PIXELS)).reshape(16, 160, 4)[:, :, :3]


async def sky(page: Page) -> tuple[int, int, int]:
    """The background colour of the fake backend, which is the colour of the prompt."""
    red, green, blue = (await strip(page)).mean((0, 1)).round().astype(int)
    return int(red), int(green), int(blue)


async def stripes(page: Page) -> float:
    """The position of the fake backend's camera: the phase of the stripes, 0 to 1 of a period."""
    row = (await strip(page)).mean((0, 2))
    wave = np.fft.rfft(row - row.mean())
    return float(np.angle(wave[len(row) // STRIPE_PX]) / (2 * np.pi) % 1)


async def still(page: Page) -> bool:
    before = await stripes(page)
    await shown(page, 9)
    return distance(before, await stripes(page)) < 0.04


async def moved(page: Page, start: float, timeout_s: float = 40) -> None:
    """Wait until the camera has moved away from `start`."""
    deadline_s = time.monotonic() + timeout_s
    while distance(start, await stripes(page)) < 0.1:
        if time.monotonic() > deadline_s:
            raise AssertionError(f"nothing moved in {timeout_s} s")
        await asyncio.sleep(0.03)


def distance(a: float, b: float) -> float:
    """The distance between two phases."""
    return min((a - b) % 1, (b - a) % 1)


async def private(page: Page) -> None:
    """A private session, playing."""
    await live(page)
    await page.click("#new-private")
    await until(page, "location.search", lambda s: "session=" in s, "a link of its own")
    await live(page)
