"""Browsers in which no script runs: Chromium fills the markers itself, Firefox is told where the page is whole."""

import pytest
from playwright.async_api import Browser

from tests.e2e.browsers import LEFT_OVER, ChromiumTab, seen, shown
from tests.e2e.firefox import Firefox
from tests.e2e.gateway import Serve, Site
from tests.e2e.shop import Shop
from tests.fakes import FakeContext

pytestmark = [pytest.mark.anyio, pytest.mark.browser]

HEADINGS = "[...document.querySelectorAll('h2')].map(heading => heading.textContent).join()"


async def test_firefox_shows_the_shell_at_once_and_leads_to_the_whole_page(
    site: Site, context: FakeContext, serve: Serve, firefox_without_scripts: Firefox
) -> None:
    shop = await Shop.open(site, context, serve)
    tab = await firefox_without_scripts.tab()
    await tab.goto(f"{shop.gateway.origin}/page")
    await shown(tab, "the end")
    await shown(tab, "waiting for c")
    for route in context.routes.values():
        route.open()
    await shown(tab, "Parts of this page are missing here.")
    assert "here is" not in await tab.evaluate("document.body.innerText"), "then nothing need be said"
    bar = "document.querySelector('noscript').getBoundingClientRect()"
    assert await tab.evaluate(f"{bar}.top >= 0 && Math.round({bar}.bottom) <= innerHeight"), "it is in sight"
    await tab.click("noscript a")
    await shown(tab, "here is c")
    assert await tab.evaluate("location.pathname + location.search") == "/page?_bff=ordered"
    assert await tab.evaluate(HEADINGS) == "heading a,heading b,heading c"
    assert await tab.evaluate(LEFT_OVER) == []
    assert "missing" not in await tab.evaluate("document.body.innerText")
    await tab.close()


async def test_firefox_shows_what_the_store_has_without_further_ado(
    site: Site, context: FakeContext, serve: Serve, firefox_without_scripts: Firefox
) -> None:
    context.route("/kept", "<h2>kept</h2>", headers={"cache-control": "max-age=600"})
    slot = '<bff-fragment name="shop/kept"><p>waiting</p></bff-fragment>'
    site.page(slot, {"kept": {"path": "/kept"}}, upstream=context.origin)
    gateway = await serve()
    async with await gateway.get("/page?_bff=ordered") as answer:
        assert "kept" in await answer.rest()
    tab = await firefox_without_scripts.tab()
    await tab.goto(f"{gateway.origin}/page")
    await shown(tab, "kept")
    await seen(tab, "document.readyState == 'complete'")
    assert await tab.evaluate("document.querySelector('noscript')") is None
    assert "waiting" not in await tab.evaluate("document.body.innerText")
    await tab.close()


async def test_chromium_needs_no_scripts_and_is_told_nothing(
    site: Site, context: FakeContext, serve: Serve, chromium: Browser
) -> None:
    shop = await Shop.open(site, context, serve)
    tab = await ChromiumTab.open(chromium, java_script_enabled=False)
    await shop.watch(tab)
    assert await tab.evaluate("getComputedStyle(document.querySelector('noscript')).display") == "none"
    assert "missing" not in await tab.evaluate("document.body.innerText")
    await tab.close()
