"""Pages in Firefox, where `bff.js` places late fragments: the same bytes, the same to be seen."""

from collections.abc import AsyncIterator

import pytest

from tests.e2e.browsers import seen, shown
from tests.e2e.firefox import Firefox, Tab
from tests.e2e.gateway import Serve, Site
from tests.e2e.shop import Shop
from tests.e2e.stage import under_policy
from tests.fakes import FakeContext

pytestmark = [pytest.mark.anyio, pytest.mark.browser]


@pytest.fixture
async def shop(site: Site, context: FakeContext, serve: Serve) -> Shop:
    return await Shop.open(site, context, serve)


@pytest.fixture
async def tab(firefox: Firefox) -> AsyncIterator[Tab]:
    tab = await firefox.tab()
    yield tab
    await tab.close()


async def test_each_fragment_is_seen_before_the_next_one_answers(shop: Shop, tab: Tab) -> None:
    await shop.watch(tab)
    assert await tab.evaluate("'htmlFor' in HTMLTemplateElement.prototype") is False, "then this file tests nothing"
    sizes = "(({encodedBodySize: sent, decodedBodySize: read}) => sent < read)(performance.getEntriesByType('navigation')[0])"
    assert await tab.evaluate(sizes) is True, "it came in a coding that Firefox asks for by itself"


@pytest.mark.parametrize("policy", ["script-src 'self'", "script-src 'self'; require-trusted-types-for 'script'"])
async def test_it_is_the_same_under_other_policies(shop: Shop, tab: Tab, policy: str) -> None:
    async with under_policy(shop.gateway.origin, policy) as origin:
        await shop.watch(tab, origin)


async def test_nothing_moves_while_fragments_arrive(shop: Shop, tab: Tab) -> None:
    """Firefox has no layout-shift entries: the rules between the slots must not move instead."""
    where = "[...document.querySelectorAll('hr')].map(rule => rule.getBoundingClientRect().top).join()"
    await tab.goto(f"{shop.gateway.origin}/page")
    await shown(tab, "the end")
    before = await tab.evaluate(where)
    await tab.goto("about:blank")  # or the first look at the second page might still see the first
    await seen(tab, "location.href == 'about:blank'")
    await shop.watch(tab)
    assert await tab.evaluate(where) == before


async def test_assistive_technology_reads_in_visual_order(shop: Shop, tab: Tab) -> None:
    await shop.watch(tab)
    tops = "[...document.querySelectorAll('h2')].map(e => [e.getBoundingClientRect().top, e.textContent])"
    visual = [text for _, text in sorted(await tab.evaluate(tops))]
    assert await tab.accessible("heading") == visual == ["heading a", "heading b", "heading c"]


async def test_a_client_slot_is_fetched_by_the_browser(
    site: Site, context: FakeContext, serve: Serve, tab: Tab
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
