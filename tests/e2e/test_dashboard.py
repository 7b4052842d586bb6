"""The operators' dashboard in a browser: what it shows, what it does, and that it keeps its strict policy."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from playwright.async_api import Browser, Page, expect

from tests.e2e.gateway import Process, Serve, Site, running
from tests.fakes import FakeContext, free_port

pytestmark = [pytest.mark.anyio, pytest.mark.browser]

TOKEN = "operators-own"
SLOTS = '<bff-fragment name="shop/price"></bff-fragment><bff-fragment name="shop/offers"></bff-fragment>'
FRAGMENTS = {"price": {"path": "/price", "policy": {"cache": {"fresh": "1m"}}}, "offers": {"path": "/offers"}}


@pytest.fixture
async def gateway(site: Site, context: FakeContext, serve: Serve) -> Process:
    """A gateway that has shown a page: one slot well, the other one not."""
    context.route("/price", "<p>9</p>")
    context.route("/offers", "no", status=500)
    site.settings({"admin": {"token": TOKEN, "tokens": {"team": {"token": "teams-own", "scope": ["other"]}}}})
    site.page(SLOTS, FRAGMENTS, upstream=context.origin, contact="#shop")
    process = await serve()
    async with await process.get("/page") as answer:
        await answer.rest()
    return process


@pytest.fixture
async def page(chromium: Browser) -> AsyncIterator[Page]:
    """A tab that holds whatever goes wrong in it against the test: errors, and violations of the policy."""
    context = await chromium.new_context(viewport={"width": 390, "height": 844})
    wrong: list[str] = []
    made = await context.new_page()
    made.on("console", lambda said: wrong.append(said.text) if said.type in {"error", "warning"} else None)
    made.on("pageerror", lambda error: wrong.append(str(error)))
    yield made
    await context.close()
    assert [each for each in wrong if "status of 40" not in each] == []


async def test_the_token_leaves_the_address_and_the_numbers_are_there(gateway: Process, page: Page) -> None:
    await page.goto(f"{gateway.origin}/_bff/admin/#{TOKEN}")
    row = page.get_by_role("row", name="offers", exact=False)
    await expect(row).to_contain_text("omitted 1")
    await expect(row).to_contain_text("100 %")
    await expect(row).to_contain_text("status 1")
    assert page.url == f"{gateway.origin}/_bff/admin/"
    assert TOKEN not in await page.content()
    assert (
        await page.evaluate("JSON.stringify([{...localStorage}, {...sessionStorage}, document.cookie])") == '[{},{},""]'
    )
    await expect(page.get_by_text("operator, for all contexts")).to_be_visible()
    await expect(page.get_by_text("team-shop · #shop")).to_be_visible()
    await expect(page.get_by_role("row", name="shop/page")).to_contain_text("/page · team-shop")
    assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "nothing hangs over on a phone"
    async with await gateway.get("/page") as answer:
        await answer.rest()
    await expect(page.get_by_role("row", name="price", exact=False)).to_contain_text("fresh 2")
    await page.get_by_role("button", name="Last minute").click()
    await expect(page.get_by_role("row", name="price", exact=False)).to_contain_text("fresh 1")
    await page.get_by_label("Find").fill("price")
    await expect(page.get_by_role("row", name="offers", exact=False)).to_have_count(0)
    await page.reload()
    await expect(page.get_by_label("Token of its admin API")).to_be_focused()


async def test_a_wrong_token_shows_nothing(gateway: Process, page: Page) -> None:
    await page.goto(f"{gateway.origin}/_bff/admin/")
    await page.get_by_label("Token of its admin API").fill("wrong")
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("alert")).to_have_text("This token is not known here.")
    assert "shop" not in await page.content()
    await page.get_by_label("Token of its admin API").fill("teams-own")
    await page.keyboard.press("Enter")
    await expect(page.get_by_text("team, for other")).to_be_visible()
    assert "shop" not in await page.content(), "a team sees its own"


async def test_a_purge_is_asked_for_twice_and_told(gateway: Process, page: Page) -> None:
    await page.goto(f"{gateway.origin}/_bff/admin/#token={TOKEN}")
    button = page.get_by_role("button", name="Purge shop/price")
    await button.focus()
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("dialog")).to_contain_text("Purge shop/price?")
    await page.keyboard.press("Escape")
    await expect(page.get_by_role("dialog")).to_have_count(0)
    await expect(button).to_be_focused()
    await expect(page.get_by_text("Nothing since the workers began.")).to_be_visible()
    await page.keyboard.press("Enter")
    await page.get_by_label("Forget").check()
    await page.get_by_role("dialog").get_by_role("button", name="Purge").click()
    await expect(page.get_by_text("shop/price: 1 entry forgotten.")).to_be_visible()
    await expect(page.get_by_text("kind fragment · value shop/price · soft false · entries 1")).to_be_visible()


async def test_an_override_says_until_when_and_why_and_can_be_ended(gateway: Process, page: Page) -> None:
    await page.goto(f"{gateway.origin}/_bff/admin/#{TOKEN}")
    await page.get_by_role("button", name="Override shop/offers").click()
    dialog = page.get_by_role("dialog")
    await dialog.get_by_label("Key").fill("stat")
    await dialog.get_by_label("Why").fill("fails since the release")
    await dialog.get_by_role("button", name="Override").click()
    await expect(dialog.get_by_role("alert")).to_contain_text("there is no key stat; did you mean 'state'?")
    await dialog.get_by_label("Key").fill("state")
    await dialog.get_by_label("Value").fill("off")
    await dialog.get_by_role("button", name="Override").click()
    row = page.get_by_role("row", name="offers", exact=False)
    await expect(row).to_contain_text("overridden")
    await expect(row).to_contain_text("off")
    await expect(page.get_by_text("operator: fails since the release")).to_be_visible()
    async with await gateway.get("/page", accept="application/json") as answer:
        assert '"reason":"off"' in await answer.rest()
    await page.get_by_role("button", name="End shop/offers").click()
    await page.get_by_role("dialog").get_by_role("button", name="End it").click()
    await expect(page.get_by_text("Nothing is overridden.")).to_be_visible()
    await expect(row).not_to_contain_text("overridden")


async def test_an_incident_is_at_the_top(site: Site, context: FakeContext, serve: Serve, page: Page) -> None:
    """Which context, since when, why, what visitors see; and that the gateway itself is well."""
    context.route("/price", "no", status=500)
    site.settings({"admin": {"token": TOKEN}})
    hasty = {"breaker": {"min_requests": 3}, "retry": {"extra": 0}}
    site.page(
        '<bff-fragment name="shop/price"></bff-fragment>',
        {"price": {"path": "/price", "policy": hasty}},
        upstream=context.origin,
    )
    (site.fragments / "about").mkdir()
    (site.fragments / "about" / "context.yaml").write_text(
        "owner: team-about\nupstream: http://127.0.0.1:9\nfragments: {us: {path: /us}}\n"
    )
    gateway = await serve()
    for _ in range(5):
        async with await gateway.get("/page") as answer:
            await answer.rest()
    await page.goto(f"{gateway.origin}/_bff/admin/#{TOKEN}")
    headings = page.get_by_role("heading", level=2)
    await expect(headings.first).to_have_text("shop")
    await expect(page.get_by_text("shop (1 not asked, for")).to_be_visible()
    row = page.get_by_role("row", name="price", exact=False)
    await expect(row).to_contain_text("failed")
    await expect(row).to_contain_text("omitted 5")
    await expect(page.get_by_text("95 % are below")).to_be_visible()
    await expect(page.get_by_text("1 worker ·")).to_be_visible()


async def test_on_a_port_of_its_own_it_is_whole(site: Site, context: FakeContext, page: Page, tmp_path: Path) -> None:
    own = free_port()
    site.settings({"admin": {"token": TOKEN, "listen": f"127.0.0.1:{own}"}})
    site.page(SLOTS, FRAGMENTS, upstream=context.origin)
    folders = ("--config", str(site.root / "bff.yaml"), "--fragments", str(site.fragments))
    where = ("--host", "127.0.0.1", "--port", str(free_port()))
    async with running("serve", *folders, *where, port=own, log=tmp_path / "gateway.log") as gateway:
        await page.goto(f"{gateway.origin}/_bff/admin/#{TOKEN}")
        await expect(page.get_by_role("row", name="offers", exact=False)).to_contain_text("not asked")
