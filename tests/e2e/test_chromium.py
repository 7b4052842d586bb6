"""Pages in Chromium, which places late fragments itself: with scripts, without them, and where none may run."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from playwright.async_api import Browser

from tests.e2e.browsers import ChromiumTab, seen, shown
from tests.e2e.gateway import Serve, Site
from tests.e2e.shop import Shop
from tests.e2e.stage import under_policy
from tests.fakes import FakeContext

pytestmark = [pytest.mark.anyio, pytest.mark.browser]


@pytest.fixture
async def shop(site: Site, context: FakeContext, serve: Serve) -> Shop:
    return await Shop.open(site, context, serve)


@pytest.fixture
async def tab(chromium: Browser) -> AsyncIterator[ChromiumTab]:
    tab = await ChromiumTab.open(chromium)
    yield tab
    await tab.close()


async def test_each_fragment_is_seen_before_the_next_one_answers(shop: Shop, tab: ChromiumTab) -> None:
    complaints: list[str] = []
    tab.page.on("console", lambda message: complaints.append(message.text))
    tab.page.on("pageerror", lambda error: complaints.append(str(error)))
    await shop.watch(tab, timed=True)
    assert await tab.evaluate("performance.getEntriesByType('resource').map(entry => entry.name).join()") == (
        f"{shop.gateway.origin}/_bff/static/bff.js"
    )
    assert complaints == [], "nothing violates the page's policy"


async def test_it_is_the_same_without_javascript(shop: Shop, chromium: Browser) -> None:
    tab = await ChromiumTab.open(chromium, java_script_enabled=False)
    await shop.watch(tab)
    await tab.close()


@pytest.mark.parametrize(
    "policy", ["script-src 'none'", "script-src 'self'", "script-src 'self'; require-trusted-types-for 'script'"]
)
async def test_it_is_the_same_under_other_policies(shop: Shop, tab: ChromiumTab, policy: str) -> None:
    async with under_policy(shop.gateway.origin, policy) as origin:
        await shop.watch(tab, origin, blocked={"script-src-elem"} if "none" in policy else ())


async def test_nothing_moves_while_fragments_arrive(shop: Shop, tab: ChromiumTab) -> None:
    await shop.watch(tab)
    shifts = """new Promise(resolve => {
        const seen = [];
        new PerformanceObserver(list => seen.push(...list.getEntries())).observe({type: 'layout-shift', buffered: true});
        requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(() => resolve(seen.map(e => e.value)))));
    })"""
    assert await tab.evaluate(shifts) == []
    assert await tab.evaluate("document.querySelector('bff-fragment').getBoundingClientRect().height >= 140") is True


async def test_the_accessibility_tree_reads_in_visual_order(shop: Shop, tab: ChromiumTab) -> None:
    await shop.watch(tab)
    session = await tab.page.context.new_cdp_session(tab.page)
    nodes: list[dict[str, Any]] = (await session.send("Accessibility.getFullAXTree"))["nodes"]
    by_id = {node["nodeId"]: node for node in nodes}

    def texts(node: dict[str, Any]) -> list[str]:
        if node["role"]["value"] == "StaticText":
            return [node["name"]["value"]]
        return [text for child in node.get("childIds", []) for text in texts(by_id[child])]

    read = texts(nodes[0])
    assert [text for text in read if text.startswith("heading")] == ["heading a", "heading b", "heading c"]
    tops = "[...document.querySelectorAll('h2, main p')].map(e => [e.getBoundingClientRect().top, e.textContent])"
    visual = [text for _, text in sorted(await tab.evaluate(tops))]
    assert [text for text in read if text in visual] == visual


async def test_a_client_slot_is_fetched_by_the_browser(
    site: Site, context: FakeContext, serve: Serve, tab: ChromiumTab
) -> None:
    context.route("/late", "<p>fetched</p>", headers={"cache-control": "max-age=60"})
    site.page(
        '<bff-fragment name="shop/late" load="client"><p>waiting</p></bff-fragment>',
        {"late": {"path": "/late"}},
        upstream=context.origin,
    )
    gateway = await serve()
    await tab.goto(f"{gateway.origin}/page")
    await shown(tab, "fetched")
    await seen(tab, "document.querySelector('bff-fragment').getAttribute('state') == 'fresh'")


async def test_the_script_of_a_fragment_runs_once_under_the_page_s_nonce(
    site: Site, context: FakeContext, serve: Serve, tab: ChromiumTab
) -> None:
    script = "document.body.dataset.ran = Number(document.body.dataset.ran ?? 0) + 1"
    one = context.route("/one", f"<p>with a script</p><script>{script}</script>", gated=True)
    site.page('<bff-fragment name="shop/one"></bff-fragment>', {"one": {"path": "/one"}}, upstream=context.origin)
    gateway = await serve()
    await tab.goto(f"{gateway.origin}/page")
    await shown(tab, "the end")
    one.open()
    await shown(tab, "with a script")
    await seen(tab, "document.readyState == 'complete'")
    assert await tab.evaluate("document.body.dataset.ran") == "1"
