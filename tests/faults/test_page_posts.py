"""What a page's service that fails is spared of what people send to it: the same as of what they ask for."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from tests.attacks.ground import ground, registration
from tests.fakes import PATIENCE
from tests.gateway.proxies import Asked, said

pytestmark = pytest.mark.anyio

SLOT = '<bff-fragment name="shop/card" primary></bff-fragment>'


def shop(**policy: Any) -> dict[str, Any]:
    return registration(SLOT, {"card": {"path": "/card", "policy": policy}})


def on_fire(_asked: Asked) -> bytes:
    return said(b"no", "500 Internal Server Error")


async def test_a_page_whose_breaker_is_open_sends_nothing_on(tmp_path: Path) -> None:
    policy = {"breaker": {"min_requests": 3, "open": "60s"}, "retry": {"extra": 0}}
    async with ground(tmp_path, shop(**policy)) as here:
        here.context.answers["/card"] = on_fire
        for _ in range(3):
            await here.ask()
        here.context.asked.clear()
        answer = await here.ask("/page", "POST", b"qty=2")
        assert answer.status == 503
        assert 1 <= int(answer.headers["retry-after"]) <= 60
        assert here.context.asked == []


async def test_what_is_sent_to_a_page_opens_its_breaker_too_and_closes_it_again(tmp_path: Path) -> None:
    policy = {"breaker": {"min_requests": 3, "open": "100ms"}, "retry": {"extra": 1}}
    async with ground(tmp_path, shop(**policy)) as here:
        here.context.answers["/card"] = on_fire
        statuses = [(await here.ask("/page", "POST", b"qty=2")).status for _ in range(3)]
        assert statuses == [500, 500, 500]
        assert len(here.context.asked) == 3, "nothing that was sent is sent again"
        assert (await here.ask("/page", "POST", b"qty=2")).status == 503
        here.context.html("/card", "<p>well</p>")
        async with asyncio.timeout(PATIENCE):
            while (answer := await here.ask("/page", "POST", b"qty=2")).status == 503:  # noqa: ASYNC110 - until the breaker has been open long enough
                await asyncio.sleep(0.02)
        assert answer.status == 200
        assert (await here.ask()).status == 200


@pytest.mark.parametrize("state", ["off", "stored"])
async def test_a_service_that_is_not_to_be_asked_is_sent_nothing(tmp_path: Path, state: str) -> None:
    async with ground(tmp_path, shop(state=state)) as here:
        answer = await here.ask("/page", "POST", b"qty=2")
        assert answer.status == 503
        assert answer.headers["retry-after"] == "60"
        assert here.context.asked == []
