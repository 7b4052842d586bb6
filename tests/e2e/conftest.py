"""Fixtures of the end-to-end tests: registrations on disk, gateways, fake contexts, browsers."""

import contextlib
import itertools
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from playwright.async_api import Browser, async_playwright

from tests.e2e.browsers import ChromiumTab, View
from tests.e2e.firefox import Firefox
from tests.e2e.gateway import Process, Serve, Site, running
from tests.fakes import FakeContext, free_port

CHROMIUM = Path("/usr/bin/chromium")
FIREFOX = Path("/usr/bin/firefox-esr")
QUIET = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--no-first-run",
)


def installed(program: Path) -> None:
    """A missing browser is a failure, never a test left out."""
    if not program.exists():
        pytest.fail(f"{program} is missing; install it: make browsers, or apt-get install {program.name}")


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


@pytest.fixture
async def context() -> AsyncIterator[FakeContext]:
    """A context's service."""
    async with FakeContext() as fake:
        yield fake


@pytest.fixture
async def serve(site: Site, tmp_path: Path) -> AsyncIterator[Serve]:
    """Start `bff serve` on what the test has written into `site` by now."""
    numbers = itertools.count(1)
    async with contextlib.AsyncExitStack() as stack:

        async def start() -> Process:
            port = free_port()
            folders = ("--config", str(site.root / "bff.yaml"), "--fragments", str(site.fragments))
            where = ("--host", "127.0.0.1", "--port", str(port))
            return await stack.enter_async_context(
                running("serve", *folders, *where, port=port, log=tmp_path / f"gateway-{next(numbers)}.log")
            )

        yield start


@pytest.fixture(scope="session")
async def chromium() -> AsyncIterator[Browser]:
    """One Chromium for the session; every test opens contexts of its own."""
    installed(CHROMIUM)
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=str(CHROMIUM), args=list(QUIET))
        yield browser
        await browser.close()


@pytest.fixture(scope="session")
async def firefox(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Firefox]:
    """One Firefox for the session, with a profile of its own."""
    installed(FIREFOX)
    async with Firefox(FIREFOX, tmp_path_factory.mktemp("firefox")) as browser:
        yield browser


@pytest.fixture(scope="session")
async def firefox_without_scripts(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Firefox]:
    """One Firefox for the session in which no page runs any script."""
    installed(FIREFOX)
    async with Firefox(FIREFOX, tmp_path_factory.mktemp("firefox-without-scripts"), scripts=False) as browser:
        yield browser


@pytest.fixture(params=["chromium", "firefox"])
async def any_browser(request: pytest.FixtureRequest, chromium: Browser, firefox: Firefox) -> AsyncIterator[View]:
    """A tab in each of the browsers, in turn."""
    view: View = await firefox.tab() if request.param == "firefox" else await ChromiumTab.open(chromium)
    yield view
    await view.close()
