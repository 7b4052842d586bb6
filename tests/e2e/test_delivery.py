"""Delivery in both browsers where contexts misbehave: siblings are shown, pages end, readers lose neither place nor page."""

import pytest
from playwright.async_api import Browser

from tests.e2e.browsers import LEFT_OVER, ChromiumTab, View, seen, shown
from tests.e2e.firefox import Firefox
from tests.e2e.gateway import Serve, Site
from tests.e2e.shop import Shop
from tests.e2e.stage import under_policy
from tests.e2e.test_wire import HOSTILE, OFF, fragment, tag
from tests.fakes import FakeContext, answering

pytestmark = [pytest.mark.anyio, pytest.mark.browser]

COMPLETE = "document.readyState == 'complete' && performance.timing.loadEventEnd"


TORN = b"HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: 100\r\n\r\n<p>half of it"
DOCUMENT = "<!doctype html><html><head><title>theirs</title></head><body><p>their body</p></body></html>"
STATES = "[...document.querySelectorAll('bff-fragment')].map(each => each.getAttribute('state'))"


async def test_what_hangs_is_torn_or_is_a_whole_document_ends_as_one_slot(
    site: Site, context: FakeContext, serve: Serve, any_browser: View
) -> None:
    context.route("/never", "<p>it came after all</p>", gated=True)
    context.route("/document", DOCUMENT)
    context.route("/good", "<p>all well</p>")
    names = ("never", "document", "good")
    slots = "".join(tag(name) for name in names) + '<bff-fragment name="torn/torn"><p>waiting</p></bff-fragment>'
    fragments = {name: fragment(f"/{name}", policy=OFF) for name in names}
    site.page(slots, fragments, upstream=context.origin, page={"deadline": "1s"})
    async with answering(TORN) as origin:
        site.context("torn", {"fragments": {"torn": fragment("/torn", policy=OFF)}}, upstream=origin)
        gateway = await serve()
        await any_browser.goto(f"{gateway.origin}/page")
        await shown(any_browser, "all well")
        await seen(any_browser, COMPLETE)
        never, document, good, torn = await any_browser.evaluate(STATES)
    assert (never, good, torn) == ("pending", "fresh", "omitted")
    assert document in {"fresh", "omitted"}
    assert "half of it" not in await any_browser.evaluate("document.body.innerText")
    assert await any_browser.evaluate("document.title") == "Shop"
    assert await any_browser.evaluate("document.querySelectorAll('html, head, body').length") == 3
    assert await any_browser.evaluate("document.querySelectorAll('template').length") == 0
    context.routes["/never"].open()
    await shown(any_browser, "it came after all")


async def test_hostile_fragments_leave_the_others_and_the_page_as_they_are(
    site: Site, context: FakeContext, serve: Serve, any_browser: View
) -> None:
    """All of them on one page, late, each followed by one that is well."""
    names = [name for name in HOSTILE if name != "deep"]
    slots = ""
    fragments: dict[str, object] = {}
    for number, name in enumerate(names):
        context.route(f"/bad{number}", HOSTILE[name])
        context.route(f"/good{number}", f"<p>well {number}.</p>", gated=number == 0)
        for kind in ("bad", "good"):
            fragments[f"{kind}{number}"] = fragment(f"/{kind}{number}", policy=OFF)
            slots += tag(f"{kind}{number}")
    site.page(slots + "<h2>after</h2>", fragments, upstream=context.origin)
    gateway = await serve()
    await any_browser.goto(f"{gateway.origin}/page")
    await shown(any_browser, "the end")
    context.routes["/good0"].open()
    await seen(any_browser, COMPLETE)
    wells = "[...document.querySelectorAll('bff-fragment[name^=\"shop/good\"]')].map(e => e.innerText.trim())"
    assert await any_browser.evaluate(wells) == [f"well {number}." for number in range(len(names))]
    assert await any_browser.evaluate("location.pathname + document.title") == "/pageShop"
    assert await any_browser.evaluate("document.querySelectorAll('main > bff-fragment').length") == 2 * len(names)
    assert await any_browser.evaluate("[...document.body.children].map(e => e.localName).slice(0, 2)") == [
        "header",
        "main",
    ]
    assert await any_browser.evaluate("document.querySelector('main > h2').innerText") == "after"
    assert (
        await any_browser.evaluate("document.querySelectorAll('base, frameset, plaintext, meta[http-equiv]').length")
        == 0
    )


async def test_a_script_and_a_sheet_that_never_come_hold_nobody_up(
    site: Site, context: FakeContext, serve: Serve, any_browser: View
) -> None:
    for never in ("/slow.js", "/slow.css"):
        context.route(never, "", gated=True)
    bad = f'<link rel=stylesheet href="{context.origin}/slow.css"><script src="{context.origin}/slow.js"></script><p>it asks for much</p>'
    context.route("/bad", bad)
    good = context.route("/good", "<p>all well</p>", gated=True)
    fragments = {"bad": fragment("/bad", policy=OFF), "good": fragment("/good", policy=OFF)}
    site.page(tag("bad") + tag("good"), fragments, upstream=context.origin)
    gateway = await serve()
    await any_browser.goto(f"{gateway.origin}/page")
    await shown(any_browser, "it asks for much")
    good.open()
    await shown(any_browser, "all well")
    for name in ("/slow.js", "/slow.css"):
        context.routes[name].open()
    await seen(any_browser, COMPLETE)


async def test_what_is_read_stays_where_it_is_while_something_grows_above(
    site: Site, context: FakeContext, serve: Serve, chromium: Browser
) -> None:
    """In Chromium: headless Firefox anchors what people scroll, not what scripts do."""
    tab = await ChromiumTab.open(chromium)
    above = context.route("/above", "<p>grown</p>" * 20, gated=True)
    site.page(
        tag("above") + "<h2 id=here>here</h2>" + "<p>a line of the text</p>" * 200,
        {"above": fragment("/above", policy=OFF)},
        upstream=context.origin,
    )
    gateway = await serve()
    await tab.goto(f"{gateway.origin}/page")
    await shown(tab, "the end")
    where = "document.querySelectorAll('main > p')[100].getBoundingClientRect().top"
    await tab.evaluate("scrollTo(0, 2000)")
    before = await seen(
        tab,
        f"scrollY == 2000 && new Promise(r => requestAnimationFrame(() => requestAnimationFrame(() => r({where}))))",
    )
    above.open()
    await seen(tab, "document.body.innerText.includes('grown') && document.readyState == 'complete'")
    await seen(tab, f"scrollY > 2000 && Math.abs({where} - {before}) < 2")
    await tab.close()


async def test_with_no_script_at_all_the_page_in_order_is_whole(
    site: Site, context: FakeContext, serve: Serve, any_browser: View
) -> None:
    shop = await Shop.open(site, context, serve)
    for name in "abc":
        context.routes[f"/{name}"].open()
    async with under_policy(shop.gateway.origin, "script-src 'none'") as origin:
        await any_browser.goto(f"{origin}/page?_bff=ordered")
        await shown(any_browser, "here is c")
        assert await any_browser.evaluate("[...document.querySelectorAll('h2')].map(e => e.innerText)") == [
            "heading a",
            "heading b",
            "heading c",
        ]
        assert await any_browser.evaluate(LEFT_OVER) == []
        assert "waiting" not in await any_browser.evaluate("document.body.innerText")


async def test_going_back_shows_a_page_that_was_complete(
    site: Site, context: FakeContext, serve: Serve, firefox: Firefox
) -> None:
    """In Firefox; tests/e2e/test_edge.py has Chromium's, in a browser that is told to keep pages."""
    tab = await firefox.tab()
    shop = await Shop.open(site, context, serve)
    await shop.watch(tab)
    asked = {path: len(route.requests) for path, route in context.routes.items()}
    await tab.evaluate("addEventListener('pageshow', e => window.persisted = e.persisted) ?? (window.kept = 1)")
    await tab.goto(f"{shop.gateway.origin}/_bff/livez")
    await seen(tab, "document.body.innerText.includes('alive')")
    await tab.evaluate("setTimeout(() => history.back()) > 0")
    await shown(tab, "here is c")
    await seen(tab, "window.persisted && window.kept == 1")
    assert {path: len(route.requests) for path, route in context.routes.items()} == asked, "nothing is asked for again"
    await tab.close()
