"""What a page, a program and an operator see of a context that fails: over a whole gateway, upstreams faked."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any, Self

import httpx2
import pytest

from bff.model import Reason
from tests.build import Flown
from tests.fakes import until
from tests.gateway.test_app import Site

pytestmark = pytest.mark.anyio

CONTEXT = """\
owner: team-shop
upstream: http://127.0.0.1:9
policy: {breaker: {open: 60s}}
fragments:
  main: {path: /main}
  side: {path: /side, fallback: [fallbacks/side.html]}
  once: {path: /once, starts_task: true}
pages:
  home: {path: /home, template: pages/home.html}
  gated: {path: /gated, template: pages/gated.html}
"""
HOME = """\
<!doctype html><html lang="en"><head><meta charset="utf-8"><title>T</title></head>
<body><bff-fragment name="shop/main"></bff-fragment><bff-fragment name="shop/side"></bff-fragment></body></html>
"""


@pytest.fixture
def site(tmp_path: Path) -> Site:
    made = Site(tmp_path)
    (made.shop / "fallbacks").mkdir()
    (made.shop / "fallbacks" / "side.html").write_text("<p>in its stead</p>\n")
    (made.shop / "context.yaml").write_text(CONTEXT)
    (made.shop / "pages" / "home.html").write_text(HOME)
    (made.shop / "pages" / "gated.html").write_text(HOME.replace('"shop/side"', '"shop/side" primary'))
    made.registry.load()
    return made


class Answering:
    """Upstreams that answer at once as `how` says, by target; the rest is well."""

    def __init__(self, site: Site, **how: Any) -> None:
        self._upstreams = site.upstreams
        self._how = {f"/{name}": way for name, way in how.items()}
        self._task = asyncio.ensure_future(self._answer())

    async def _answer(self) -> None:
        while True:
            await until(lambda: self._upstreams.open, "an exchange", within=60.0)
            for flown in self._upstreams.open:
                self._end(flown, self._how.get(flown.ask.target, 200))

    @staticmethod
    def _end(flown: Flown, how: Any) -> None:
        if isinstance(how, Reason):
            flown.fail(how, "connect")
        else:
            flown.reply(status=how)

    def asked(self, target: str) -> int:
        return sum(flown.ask.target == target for flown in self._upstreams.flown)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()


async def slots(client: httpx2.AsyncClient) -> dict[str, Any]:
    response = await client.get("/home", headers={"accept": "application/json"})
    assert response.status_code == 200
    slots: dict[str, Any] = response.json()["slots"]
    return slots


async def test_a_context_that_is_gone_is_asked_no_more_and_everybody_is_told(site: Site) -> None:
    async with site.running() as client, Answering(site, side=Reason.CONNECT) as upstreams:
        for _ in range(4):
            side = (await slots(client))["side"]
        assert (side["outcome"], side["reason"]) == ("fallback", "breaker")
        assert upstreams.asked("/side") == 5, "as often in a row as the policy says, second tries included"
        assert upstreams.asked("/main") >= 4, "the other fragment has a breaker of its own"
        page = await client.get("/home")
        assert (page.status_code, page.text.count("in its stead")) == (200, 1)
        timing = (await client.get("/gated")).headers["server-timing"]
        assert 'desc="shop/side fallback breaker"' in timing
        direct = await client.get("/_bff/fragments/shop/side", headers={"accept": "text/html"})
        assert (direct.status_code, direct.headers["bff-outcome"].split(";")[0]) == (200, "fallback")
        numbers = (await client.get("/_bff/metrics")).text
        assert 'bff_breaker_state{fragment="shop/side"} 2.0' in numbers
        assert 'bff_breaker_state{fragment="shop/main"} 0.0' in numbers
        assert 'bff_fragment_outcomes_total{fragment="shop/side",outcome="fallback",reason="breaker"} 4.0' in numbers
        assert 'bff_retries_total{context="shop"} 2.0' in numbers
        assert 'bff_upstream_requests_total{context="shop",status="connect"} 5.0' in numbers
    site.log.flush()
    lines = [json.loads(line) for line in b"".join(site.said).splitlines()]
    (opened,) = [line for line in lines if line["event"] == "breaker"]
    assert (opened["name"], opened["state"], opened["level"]) == ("shop/side", "open", "warning")
    assert opened["why"] == "no connection 5 times in a row"


async def test_a_program_is_told_when_to_come_again(site: Site) -> None:
    async with site.running() as client, Answering(site, main=Reason.CONNECT):
        for _ in range(4):
            main = (await slots(client))["main"]
        assert (main["outcome"], main["reason"], main["retry_after"]) == ("omitted", "breaker", 60)
        direct = await client.get("/_bff/fragments/shop/main")
        assert (direct.status_code, direct.headers["retry-after"]) == (503, "60")


async def test_what_may_pass_passes_unseen(site: Site) -> None:
    async with site.running() as client:
        asking = asyncio.ensure_future(slots(client))
        await site.answer("/side")
        await site.answer("/main", status=503)
        await site.answer("/main", b"<p>well</p>")
        main = (await asking)["main"]
    assert (main["outcome"], main["html"]) == ("fresh", "<p>well</p>")


async def test_what_begins_work_is_never_sent_twice(site: Site) -> None:
    async with site.running() as client, Answering(site, once=503) as upstreams:
        response = await client.get("/_bff/fragments/shop/once")
        assert response.status_code == 502
        assert upstreams.asked("/once") == 1
