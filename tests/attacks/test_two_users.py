"""Two visitors at once: nothing of one's is ever the other's, and nobody is believed to be somebody else."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.attacks.ground import KEEP, ground, registration
from tests.fakes import PATIENCE
from tests.gateway.proxies import Asked, said
from tests.upstream.wire import until

pytestmark = pytest.mark.anyio

FORWARD = {"principal": "x-user", "cookies": ["session"], "headers": ["authorization"]}
API = [{"path": "/api/{rest:path}", "to": "/{rest}", "methods": "*", "forward": FORWARD}]
SHOP = registration(forward=FORWARD, proxy=API)
USERS: tuple[Mapping[str, str], ...] = (
    {"X-Forwarded-User": "ann", "Cookie": "session=a"},
    {"X-Forwarded-User": "bob", "Cookie": "session=b"},
    {"X-Forwarded-User": "ann@example.org", "Authorization": "Bearer x"},
    {"Cookie": "session=nobodys"},
    {"Authorization": "Bearer nobodys"},
    {},
)


def mine(asked: Asked) -> bytes:
    who = json.dumps([asked.headers.get(name) for name in ("x-user", "cookie", "authorization")])
    return said(f"<p>{who}</p>".encode(), content_type="text/html", cache_control=f"public, {KEEP}")


def expected(user: Mapping[str, str]) -> bytes:
    name = user.get("X-Forwarded-User")
    return json.dumps([name, user.get("Cookie"), user.get("Authorization")]).encode()


@pytest.mark.parametrize("target", ["/page", "/_bff/fragments/shop/card", "/api/card"])
async def test_everybody_gets_their_own_answer_together_and_from_the_store(tmp_path: Path, target: str) -> None:
    """Coalesced, kept, at the endpoint and through a proxy route; `public` of the context's changes nothing."""
    async with ground(tmp_path, SHOP) as here:
        here.context.answers["/card"] = mine
        here.context.gate.clear()
        asking = [asyncio.ensure_future(here.ask(target, headers=dict(user))) for user in USERS for _ in range(3)]
        await asyncio.wait_for(until(lambda: len(here.context.asked) >= len(USERS)), PATIENCE)
        here.context.gate.set()
        first = await asyncio.gather(*asking)
        again = [await here.ask(target, headers=dict(user)) for user in USERS]
        for answer, user in [
            *zip(first, [user for user in USERS for _ in range(3)], strict=True),
            *zip(again, USERS, strict=True),
        ]:
            assert expected(user) in answer.body, (user, answer.body)


async def test_an_answer_with_a_cookie_is_its_askers_alone_though_others_wait_for_it(tmp_path: Path) -> None:
    numbers = iter(range(100))
    async with ground(
        tmp_path, registration(proxy=[{"path": "/api/{rest:path}", "to": "/{rest}"}], grant={"cookies": ["id"]})
    ) as here:
        here.context.answers["/x"] = lambda asked: said(b"x", cache_control=KEEP, set_cookie=f"id={next(numbers)}")
        here.context.gate.clear()
        asking = [asyncio.ensure_future(here.ask("/api/x")) for _ in range(5)]
        await asyncio.wait_for(until(lambda: here.context.asked), PATIENCE)
        here.context.gate.set()
        cookies = [answer.headers["set-cookie"] for answer in await asyncio.gather(*asking)]
        assert len({*cookies}) == 5


async def test_a_stale_copy_never_crosses_from_one_to_another(tmp_path: Path) -> None:
    fragments = {"card": {"path": "/card", "policy": {"cache": {"stale_if_error": "1h"}}}}
    async with ground(tmp_path, registration(fragments=fragments, forward=FORWARD)) as here:
        here.context.answers["/card"] = mine
        await here.ask(headers=dict(USERS[0]))
        here.context.answers["/card"] = said(b"down", "500 Down")
        for user in USERS[1:]:
            assert b"ann" not in (await here.ask(headers=dict(user))).body


SPOOFED = [
    {"X-Forwarded-User": "root"},
    {"X-FORWARDED-USER": "root"},
    {"X_Forwarded_User": "root"},
    {"X-User": "root"},
    {"X_User": "root"},
    {"X-Remote-User": "root", "Remote-User": "root"},
    {"X-Forwarded-For": "127.0.0.1", "X-Forwarded-User": "root"},
    {"X-Real-Ip": "10.0.0.1", "Forwarded": "for=10.0.0.1", "X-Forwarded-User": "root"},
    {"Bff-Principal": "root", "Bff-User": "root"},
    {"Connection": "X-User", "X-Forwarded-User": "root"},
]


@pytest.mark.parametrize("headers", SPOOFED, ids=str)
async def test_nobody_is_who_they_say_they_are(tmp_path: Path, headers: dict[str, str]) -> None:
    """From a peer that is no trusted proxy; through pages, the endpoint, forms and proxy routes that forward everything."""
    everything = [{"path": "/api/{rest:path}", "to": "/{rest}", "methods": "*", "forward": {"headers": "*"}}]
    primary = '<bff-fragment name="shop/card" primary></bff-fragment>'
    shop = registration(primary, forward={"principal": "x-user"}, proxy=everything)
    async with ground(tmp_path, shop, settings={"trusted_proxies": ["10.0.0.0/8"]}) as here:
        here.context.answers["/x"] = said(b"x")
        for target, method in (
            ("/page", "GET"),
            ("/page", "POST"),
            ("/_bff/fragments/shop/card", "GET"),
            ("/api/x", "GET"),
        ):
            await here.ask(target, method, b"x" if method == "POST" else b"", headers)
        for asked in here.context.asked:
            told = {name for name, value in asked.headers.items() if value == "root"}
            allowed = {"x-user", "x-remote-user", "remote-user"} if asked.target == "/x" else set()
            assert told <= allowed
        document = json.loads((await here.ask(headers={"Accept": "application/json", **headers})).body)
        assert document["principal"] is False


async def test_two_names_are_nobody(tmp_path: Path) -> None:
    async with ground(tmp_path, registration(forward={"principal": "x-user"})) as here:
        raw = b"GET /page HTTP/1.1\r\nHost: a\r\nX-Forwarded-User: ann\r\nX-Forwarded-User: root\r\n\r\n"
        await here.raw(raw)
        assert "x-user" not in here.context.asked[0].headers


async def test_a_parameter_that_the_gateway_fills_is_never_a_visitors(tmp_path: Path) -> None:
    fragments = {"card": {"path": "/card/{user}", "params": {"user": {"type": "str", "from": "principal"}}}}
    async with ground(tmp_path, registration(fragments=fragments)) as here:
        ann = {"X-Forwarded-User": "ann"}
        for query in ("?user=root", "?user=ann", "?%75ser=root", "?user=", "?param:user=root"):
            assert (await here.ask(f"/_bff/fragments/shop/card{query}", headers=ann)).status == 400, query
        assert (await here.ask("/_bff/fragments/shop/card")).status == 401
        await here.ask("/page?user=root", headers=ann)
        assert {asked.target for asked in here.context.asked} == {"/card/ann"}


async def test_a_live_connection_tells_of_nothing_that_is_somebody_elses(tmp_path: Path) -> None:
    async with ground(tmp_path, registration(forward={"principal": "x-user"})) as here:
        assert (await here.ask("/_bff/live?fragment=shop/card")).status == 401
        here.context.answers["/card"] = lambda asked: said(
            b"", "403 Forbidden" if asked.headers["x-user"] == "bob" else "200 OK", content_type="text/html"
        )
        assert (await here.ask("/_bff/live?fragment=shop/card", headers={"X-Forwarded-User": "bob"})).status == 403


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "null", "http://shop.example.evil", "http://[", "http://shop.example:1"]
)
async def test_another_sites_form_is_refused(tmp_path: Path, origin: str) -> None:
    primary = '<bff-fragment name="shop/card" primary></bff-fragment>'
    async with ground(tmp_path, registration(primary, proxy=API)) as here:
        for headers in (
            {"Origin": origin},
            {"Origin": "http://shop.example", "Sec-Fetch-Site": "cross-site"},
            {"Sec-Fetch-Site": "same-site"},
        ):
            for target in ("/page", "/api/x"):
                for method in ("POST", "PUT", "DELETE", "PATCH"):
                    assert (await here.ask(target, method, b"x", headers)).status == 403, (headers, target, method)
        assert here.context.asked == []
