"""The operators' API: a bearer's token and nothing else opens it, as far as its scope; no browser is talked into using it."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from statistics import median

import pytest

from bff.config.options import Admin
from bff.gateway.admin import Tokens
from tests.attacks.ground import KEEP, Ground, ground, registration

pytestmark = pytest.mark.anyio

TOKEN = "the operator's own token"
TEAM = "a token of team blog's"
SETTINGS = {"admin": {"token": TOKEN, "tokens": {"blog": {"token": TEAM, "scope": ["blog"]}}}}
ADDRESSES = [
    "/_bff/admin/status",
    "/_bff/admin/purge",
    "/_bff/admin/overrides",
    "/_bff/admin/explain",
    "/_bff/admin/",
    "/_bff/admin/x",
]


@pytest.fixture(scope="module")
async def here(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Ground]:
    others = {"blog": {"fragments": {"post": {"path": "/post"}}}}
    async with ground(tmp_path_factory.mktemp("site"), registration(), others=others, settings=SETTINGS) as made:
        yield made


def bearer(token: str, **more: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}", "Content-Type": "application/json"} | more


WRONG = [
    "", "Bearer", "Bearer ", f"Basic {TOKEN}", TOKEN, f"Bearer {TOKEN}x", f"Bearer {TOKEN[:-1]}", f"Bearer x{TOKEN}", "Bearer null",
    f"Bearer {TOKEN.upper()}", f"Bearer  {TOKEN[1:]}", f"bearer:{TOKEN}", f"Bearer {TOKEN}, Bearer x",
]  # fmt: skip


@pytest.mark.parametrize("authorization", WRONG)
async def test_without_the_token_there_is_nothing_to_learn(here: Ground, authorization: str) -> None:
    for address in ADDRESSES:
        for method in ("GET", "POST", "DELETE"):
            body = b'{"all": true}' if method == "POST" else b""
            answer = await here.ask(address, method, body, {"Authorization": authorization} if authorization else {})
            shell = (address, method) == ("/_bff/admin/", "GET")  # the dashboard's, which holds no data
            assert answer.status == (200 if shell else 401), (address, method)
            assert b"shop" not in answer.body


async def test_cookies_queries_and_bodies_are_no_credentials(here: Ground) -> None:
    answer = await here.ask(
        f"/_bff/admin/status?token={TOKEN.replace(' ', '%20')}", headers={"Cookie": f"token={TOKEN}"}
    )
    assert answer.status == 401
    answer = await here.ask("/_bff/admin/purge", "POST", json.dumps({"token": TOKEN, "all": True}).encode())
    assert answer.status == 401


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"}, {"Origin": "null"}, {"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "same-site"},
        {"Origin": "http://["},
    ],
    ids=str,
)  # fmt: skip
async def test_another_site_is_refused_even_with_the_token(here: Ground, headers: dict[str, str]) -> None:
    for method, body in (("GET", b""), ("POST", b'{"all": true}')):
        answer = await here.ask("/_bff/admin/purge", method, body, bearer(TOKEN) | headers)
        assert answer.status == 403


BEYOND = [{"all": True}, {"context": "shop"}, {"fragment": "shop/card"}, {"fragment": "shop/none"}, {"context": "none"}]


@pytest.mark.parametrize("asked", BEYOND, ids=str)
async def test_a_teams_token_reaches_its_own_contexts_only(here: Ground, asked: dict[str, object]) -> None:
    """And is told the same of what is there and of what is not."""
    answer = await here.ask("/_bff/admin/purge", "POST", json.dumps(asked).encode(), bearer(TEAM))
    assert answer.status == 403
    for target in ("shop", "shop/card", "none/none"):
        wanted = json.dumps({"target": target, "set": {"state": "off"}, "for": "1h", "reason": "x"}).encode()
        assert (await here.ask("/_bff/admin/overrides", "POST", wanted, bearer(TEAM))).status == 403
        assert (await here.ask(f"/_bff/admin/overrides?target={target}", "DELETE", b"", bearer(TEAM))).status == 403
        assert (await here.ask(f"/_bff/admin/explain?name={target}", headers=bearer(TEAM))).status == 403
    told = json.loads((await here.ask("/_bff/admin/status", headers=bearer(TEAM))).body)
    assert [each["name"] for each in (*told["contexts"], *told["fragments"])] == ["blog", "blog/post"]
    assert {each["who"] for each in told["actions"]} == {"blog"}


async def test_a_teams_tag_purges_nothing_of_anothers(here: Ground) -> None:
    site = await here.renewed()
    site.context.html("/card", "<p>x</p>", cache_control=KEEP, surrogate_key="course:1")
    await site.page()
    answer = await site.ask("/_bff/admin/purge", "POST", b'{"tag": "course:1"}', bearer(TEAM))
    assert (answer.status, json.loads(answer.body)["entries"]) == (200, 0)
    await site.page()
    assert len(site.context.asked) == 1


@pytest.mark.parametrize(
    "body", [b"", b"x", b"[]", b"[" * 100_000, b'{"all": 1}', b'{"all": true, "x": 1}', b"\xff", b"null", b"x" * 70_000]
)
async def test_what_is_no_request_is_refused_and_nothing_happens(here: Ground, body: bytes) -> None:
    answer = await here.ask("/_bff/admin/purge", "POST", body, bearer(TOKEN))
    assert answer.status in (400, 413)


@pytest.mark.parametrize(
    "kind", ["text/plain", "Text/Plain; charset=utf-8", "multipart/form-data; boundary=x", "text/html"]
)
async def test_what_only_looks_like_json_is_none(here: Ground, kind: str) -> None:
    answer = await here.ask("/_bff/admin/purge", "POST", b'{"all": true}', bearer(TOKEN) | {"Content-Type": kind})
    assert answer.status == 415


@pytest.mark.parametrize(
    "path",
    [
        "/%5fbff/admin/status",
        "/_bff/%61dmin/status",
        "/_bff/x/../admin/status",
        "/_bff//admin/status",
        "//_bff/admin/status",
        "/_BFF/admin/status",
        "/_bff/admin%2fstatus",
        "/_bff;x/admin/status",
    ],
)
async def test_no_other_spelling_of_its_address_leads_to_it(here: Ground, path: str) -> None:
    """So that a proxy in front can keep the public away by the prefix."""
    assert (await here.ask(path, headers=bearer(TOKEN))).status == 404


async def test_every_action_and_every_refusal_is_on_record_without_the_token(here: Ground) -> None:
    await here.ask("/_bff/admin/purge", "POST", b'{"context": "shop"}', bearer(TOKEN))
    await here.ask("/_bff/admin/purge", "POST", b'{"context": "shop"}', bearer(TEAM))
    told = [json.loads(line) for line in here.lines() if '"admin"' in line]
    assert any(each["who"] == "operator" and each.get("value") == "shop" for each in told)
    assert any(each["who"] == "blog" and "refused" in each for each in told)
    assert TOKEN not in "".join(here.lines())
    assert TEAM not in "".join(here.lines())


async def test_without_a_token_there_is_no_admin(tmp_path: Path) -> None:
    async with ground(tmp_path) as site:
        for address in ADDRESSES:
            assert (await site.ask(address, headers=bearer(""))).status == 404


def test_a_wrong_token_takes_as_long_whatever_of_it_is_right() -> None:
    """What is compared is a digest, in constant time: the first letters right tell nobody that they are."""
    tokens = Tokens(Admin(token="x" * 4096))
    guesses = [f"Bearer {'x' * right}{'y' * (4096 - right)}" for right in (0, 1024, 2048, 4095)]
    taken: list[list[float]] = [[] for _ in guesses]
    for _ in range(200):
        for guess, times in zip(guesses, taken, strict=True):
            began = time.perf_counter()
            tokens.bearer(guess)
            times.append(time.perf_counter() - began)
    medians = [median(times) for times in taken]
    assert max(medians) < 3 * min(medians)
