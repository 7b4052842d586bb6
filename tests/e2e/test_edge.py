"""What leaves the gateway, as Chromium takes it: encoded streams, assets in heads, and pages that are gone back to."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from playwright.async_api import Browser, Response, async_playwright

from tests.e2e.browsers import LOADED, ChromiumTab, seen, shown
from tests.e2e.conftest import CHROMIUM, QUIET
from tests.e2e.gateway import Serve, Site
from tests.e2e.shop import Shop
from tests.fakes import FakeContext

pytestmark = [pytest.mark.anyio, pytest.mark.browser]


@pytest.fixture
async def tab(chromium: Browser) -> AsyncIterator[ChromiumTab]:
    tab = await ChromiumTab.open(chromium)
    yield tab
    await tab.close()


async def test_an_encoded_page_is_seen_as_it_arrives(
    site: Site, context: FakeContext, serve: Serve, tab: ChromiumTab
) -> None:
    heads: list[Response] = []
    tab.page.on("response", lambda response: heads.append(response) if response.url.endswith("/page") else None)
    await (await Shop.open(site, context, serve)).watch(tab)
    assert heads[0].headers["content-encoding"] == "zstd"


CARD = {"path": "/card", "assets": {"css": ["/card.css"], "js": ["/card.js"]}, "policy": {"cache": {"mode": "off"}}}
CSS = ".card { border-top: 7px solid; }" + "/* of some length */" * 100
JS = "document.body.dataset.module = document.querySelectorAll('script[src*=card]').length;" + "// long\n" * 200


async def test_assets_are_fetched_once_and_hold(
    site: Site, context: FakeContext, serve: Serve, tab: ChromiumTab
) -> None:
    context.route("/card.css", CSS, type="text/css")
    context.route("/card.js", JS, type="text/javascript")
    card = context.route("/card", '<div class="card">a card</div>', gated=True)
    slots = '<bff-fragment name="shop/card"><p>waiting</p></bff-fragment>' * 2
    site.page(slots, {"card": CARD}, upstream=context.origin)
    gateway = await serve()
    complaints: list[str] = []
    answers: list[Response] = []
    tab.page.on("console", lambda message: complaints.append(message.text))
    tab.page.on("response", lambda response: answers.append(response))  # noqa: PLW0108 # playwright marks what it is given
    await tab.goto(f"{gateway.origin}/page")
    await shown(tab, "waiting")
    await seen(tab, "document.body.dataset.module == '1'")
    card.open()
    await shown(tab, "a card")
    await seen(tab, "document.readyState == 'complete'")
    assert await tab.evaluate("getComputedStyle(document.querySelector('.card')).borderTopWidth") == "7px"
    fetched = [answer for answer in answers if "/_bff/assets/" in answer.url]
    assert sorted(answer.url.rpartition(".")[2] for answer in fetched) == ["css", "js"], "preloaded, and no second time"
    for answer in fetched:
        assert answer.headers["content-encoding"] == "zstd"
        assert "immutable" in answer.headers["cache-control"]
    assert complaints == [], "integrity, policy and preloads hold"


@pytest.fixture
async def returning() -> AsyncIterator[ChromiumTab]:
    """A tab whose browser keeps pages that are left, as people's do."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=str(CHROMIUM), args=[*QUIET], ignore_default_args=["--disable-back-forward-cache"]
        )
        yield await ChromiumTab.open(browser)
        await browser.close()


async def test_going_back_shows_the_page_as_it_was_left(
    site: Site, context: FakeContext, serve: Serve, returning: ChromiumTab
) -> None:
    shop = await Shop.open(site, context, serve)
    await shop.watch(returning)
    await seen(returning, LOADED)
    asked = {path: len(route.requests) for path, route in context.routes.items()}
    await returning.evaluate(
        "addEventListener('pageshow', event => document.body.dataset.persisted = event.persisted), window.kept = 1"
    )
    await returning.goto(f"{shop.gateway.origin}/_bff/livez")
    await seen(returning, "document.body.innerText.includes('alive')")
    await returning.page.go_back(wait_until="commit")
    await shown(returning, "here is c")
    assert await _left(returning) == ("true", 1)
    assert {path: len(route.requests) for path, route in context.routes.items()} == asked, "nothing is asked for again"


async def _left(tab: ChromiumTab) -> tuple[Any, Any]:
    await seen(tab, "document.body.dataset.persisted")
    return await tab.evaluate("document.body.dataset.persisted"), await tab.evaluate("window.kept")
