"""Live slots end to end: a purge at the gateway, one connection a page, and exactly the slots it concerns."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.browsers import View, seen, shown
from tests.e2e.gateway import Process, Site, running
from tests.fakes import PATIENCE, FakeContext, Route, Seen, free_port

pytestmark = [pytest.mark.anyio, pytest.mark.browser]

TOKEN = "a-token-of-the-test"
SLOTS = "".join(
    f'<bff-fragment name="shop/price" n="{n}" as="p{n}{again}" live></bff-fragment>'
    for n, again in ((1, ""), (1, "b"), (2, ""))
)
FRESH = "[...document.querySelectorAll('bff-fragment')].map(each => each.innerText.trim()).join()"


class Prices:
    """A page of three slots over two prices, one of them twice, and what changes them."""

    def __init__(self, gateway: Process, routes: dict[int, Route], prices: dict[int, int]) -> None:
        self.gateway, self.routes, self.prices = gateway, routes, prices

    async def change(self, n: int, price: int) -> None:
        """The context changes a price and says so."""
        self.prices[n] = price
        headers = {"authorization": f"Bearer {TOKEN}", "content-type": "application/json"}
        body = b'{"tag": "price:%d"}' % n
        async with await self.gateway.ask("/_bff/admin/purge", method="POST", headers=headers, body=body) as answer:
            assert answer.status == 200, await answer.rest()

    def asked(self) -> dict[int, int]:
        return {n: len(route.requests) for n, route in self.routes.items()}


@contextlib.asynccontextmanager
async def selling(root: Path) -> AsyncIterator[Prices]:
    """A gateway of its own, and the context behind it."""
    site, port = Site(root), free_port()
    now = {1: 10, 2: 20}

    def price(seen: Seen) -> str:
        return f"<p>price {now[int(seen.path.rpartition('/')[2])]}</p>"

    fragment: dict[str, Any] = {
        "path": "/price/{n}",
        "params": {"n": {"type": "int"}},
        "tags": ["price:{n}"],
        "policy": {"cache": {"mode": "fixed", "fresh": "1h"}},
    }
    site.settings({"admin": {"token": TOKEN}})
    async with FakeContext() as context:
        routes = {n: context.route(f"/price/{n}", price) for n in now}
        site.page(SLOTS, {"price": fragment}, upstream=context.origin)
        folders = ("--config", str(root / "bff.yaml"), "--fragments", str(site.fragments))
        where = ("--host", "127.0.0.1", "--port", str(port))
        async with running("serve", *folders, *where, port=port, log=root / "gateway.log") as gateway:
            yield Prices(gateway, routes, now)


@pytest.fixture(scope="module")
async def shared(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Prices]:
    async with selling(tmp_path_factory.mktemp("live")) as prices:
        yield prices


@pytest.fixture
async def prices(shared: Prices) -> Prices:
    """As at the start: nobody listens, and what the tests before changed is sold at its first price."""
    await streams(shared.gateway, 0)
    for n, price in ((1, 10), (2, 20)):
        await shared.change(n, price)
    return shared


async def test_a_change_is_shown_by_exactly_the_slots_that_carry_it(prices: Prices, any_browser: View) -> None:
    await any_browser.goto(f"{prices.gateway.origin}/page")
    await shown(any_browser, "price 20")
    assert await any_browser.evaluate(FRESH) == "price 10,price 10,price 20"
    before = prices.asked()
    await prices.change(1, 11)  # told even if the page does not listen yet: it says since when it stands
    await seen(any_browser, f"{FRESH} == 'price 11,price 11,price 20'")
    await prices.change(2, 21)
    await seen(any_browser, f"{FRESH} == 'price 11,price 11,price 21'")
    assert prices.asked() == {1: before[1] + 1, 2: before[2] + 1}
    await streams(prices.gateway, 1)  # for all three


HIDE = """(hidden => {
  Object.defineProperty(document, "hidden", { get: () => hidden, configurable: true });
  document.dispatchEvent(new Event("visibilitychange"));
})"""


async def test_who_looks_away_is_not_told_and_catches_up(prices: Prices, any_browser: View) -> None:
    await any_browser.goto(f"{prices.gateway.origin}/page")
    await shown(any_browser, "price 20")
    await prices.change(1, 11)
    await seen(any_browser, f"{FRESH} == 'price 11,price 11,price 20'")
    await any_browser.evaluate(f"{HIDE}(true)")
    await streams(prices.gateway, 0)
    await prices.change(2, 21)
    await any_browser.evaluate(f"{HIDE}(false)")
    await seen(any_browser, f"{FRESH} == 'price 11,price 11,price 21'")


async def test_connections_do_not_hold_up_a_gateway_that_leaves(tmp_path: Path, any_browser: View) -> None:
    async with selling(tmp_path) as prices:
        await any_browser.goto(f"{prices.gateway.origin}/page")
        await streams(prices.gateway, 1)
        assert await prices.gateway.stop(within=8) == 0, "it would wait 10 seconds for what does not end"


async def streams(gateway: Process, others: int) -> None:
    """Wait until so many responses are under way besides the one that tells."""
    async with asyncio.timeout(PATIENCE):
        while True:
            async with await gateway.get("/_bff/metrics") as answer:
                if f"\nbff_streams {others + 1}.0\n" in await answer.rest():
                    return
            await asyncio.sleep(0.02)
