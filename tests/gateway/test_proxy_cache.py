"""What proxy routes keep, share and forget, end to end; counted at the upstream. The rules one by one are test_conformance's."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from bff.model import Purge
from bff.store.answers import Answers, Kept
from tests.gateway import wire as front
from tests.gateway.proxies import ROUTE, Site, Upstream, request, said, site
from tests.upstream.wire import Peer, until

pytestmark = pytest.mark.anyio

PRIVATE = ROUTE.replace("methods", "forward: {cookies: [session], principal: x-user}, methods")
TRUSTING = "trusted_proxies: [127.0.0.1]\nidentity: {header: {name: x-forwarded-user}}\n"


def policy(text: str) -> str:
    return ROUTE.replace("methods", f"policy: {{{text}}}, methods")


async def told(shop: Site, **more: Any) -> str:
    """Only what the store did."""
    return (await shop.ask(**more)).headers["cache-status"]


async def aged(shop: Site, seconds: float) -> None:
    """Everything that is kept was fetched so much earlier."""
    for kept in everything(shop):
        object.__setattr__(kept.stored, "born", kept.stored.born - seconds)
        object.__setattr__(kept.stored, "date", kept.stored.date - seconds)


def everything(shop: Site) -> list[Kept]:
    entries = shop.running.store.matching(Purge(kind="all"))
    return [kept for entry in entries if isinstance(entry, Answers) for kept in entry.kept]


# --- keeping ----------------------------------------------------------------------------------------------------------


async def test_a_kept_answer_is_given_again_with_its_age(tmp_path: Path) -> None:
    upstream = Upstream([said(b"one", cache_control="max-age=60", etag='"1"', x_a="b"), said(b"two")])
    async with site(tmp_path, upstream) as shop:
        first = await shop.ask()
        assert first.headers["cache-status"] == "bff; fwd=uri-miss; stored"
        await aged(shop, 7)
        second = await shop.ask(headers={"Accept": "text/html"})
        assert (second.body, second.headers["age"], second.headers["x-a"]) == (b"one", "7", "b")
        assert re.fullmatch(r"bff; hit; ttl=5[23]", second.headers["cache-status"])
        assert second.headers["x-request-id"] != first.headers["x-request-id"]
        head = await shop.ask(method="HEAD")
        assert (head.headers["content-length"], head.headers["age"]) == ("3", "7")
        assert (await shop.ask(headers={"If-None-Match": 'W/"1"'})).status == 304
        part = await shop.ask(headers={"Range": "bytes=1-"})
        assert (part.status, part.body, part.headers["content-range"]) == (206, b"ne", "bytes 1-2/3")
        assert (await shop.ask(headers={"Range": "bytes=9-"})).status == 416
        numbers = (await shop.ask("/_bff/metrics")).body.decode()
    assert len(upstream.asked) == 1
    assert 'bff_cache_requests_total{fragment="shop/proxy",result="hit"} 5.0' in numbers
    assert 'bff_cache_requests_total{fragment="shop/proxy",result="miss"} 1.0' in numbers


async def test_what_may_not_be_kept_says_why(tmp_path: Path) -> None:
    upstream = Upstream(
        [said(cache_control="no-store"), said(set_cookie="a=b", cache_control="max-age=9"), said(vary="*")]
    )
    async with site(tmp_path, upstream) as shop:
        assert await told(shop) == "bff; fwd=uri-miss; detail=no-store"
        assert await told(shop) == "bff; fwd=uri-miss; detail=set-cookie"
        assert await told(shop) == "bff; fwd=uri-miss; detail=vary"
        assert await told(shop, method="POST") == "bff; fwd=method"
        assert shop.running.store.entries == 0


async def test_variants(tmp_path: Path) -> None:
    async def script(peer: Peer) -> None:
        while head := await peer.head():
            lang = b"de" if b"accept-language: de" in head else b"en"
            asked.append(lang)
            await peer.send(said(lang, cache_control="max-age=60", vary="Accept-Language"))

    asked: list[bytes] = []
    async with site(tmp_path, script) as shop:
        for _ in range(2):
            for lang in (b"de", b"en"):
                assert (await shop.ask(headers={"Accept-Language": lang.decode()})).body == lang
        assert "fwd=vary-miss" in await told(shop, headers={"Accept-Language": "fr"})
        assert shop.running.store.entries == 1
    assert asked == [b"de", b"en", b"en"]


async def test_the_accepted_host_is_part_of_the_key(tmp_path: Path) -> None:
    upstream = Upstream([said(b"one", cache_control="max-age=60"), said(b"two", cache_control="max-age=60")])
    async with site(tmp_path, upstream) as shop:
        client = await shop.connect()
        await client.send(request())
        assert (await client.answer()).body == b"one"
        await client.send(request().replace(b"shop.example", b"other.example"))
        assert (await client.answer()).body == b"two"
        await client.send(request().replace(b"shop.example", b"SHOP.example:80"))
        assert (await client.answer()).body == b"one"


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_body_over_max_body_passes_and_is_not_kept(tmp_path: Path, chunked: bool) -> None:
    answer = said(b"x" * 3000, cache_control="max-age=60")
    if chunked:
        answer = b"HTTP/1.1 200 OK\r\ncache-control: max-age=60\r\ntransfer-encoding: chunked\r\n\r\n" + b"3e8\r\n%b\r\n" * 3 % (
            (b"x" * 1000,) * 3
        ) + b"0\r\n\r\n"  # fmt: skip
    upstream = Upstream([answer])
    async with site(tmp_path, upstream, policy("max_body: 2KiB")) as shop:
        for _ in range(2):
            assert (await shop.ask()).body == b"x" * 3000
        assert shop.running.store.entries == 0
    assert len(upstream.asked) == 2


async def test_a_torn_body_is_not_kept(tmp_path: Path) -> None:
    async def script(peer: Peer) -> None:
        await peer.head()
        await peer.send(said(b"part", cache_control="max-age=60", content_length="9"))

    async with site(tmp_path, script) as shop:
        client = await shop.connect()
        await client.send(request())
        assert (await client.rest()).endswith(b"part")
        assert shop.running.store.entries == 0


async def test_fixed_and_off(tmp_path: Path) -> None:
    upstream = Upstream([said(cache_control="max-age=0"), said(cache_control="max-age=60")])
    async with site(tmp_path, upstream, policy("cache: {mode: fixed, fresh: 1m}")) as shop:
        await shop.ask()
        assert "hit" in await told(shop)
    async with site(tmp_path / "2", upstream, policy("cache: {mode: off}")) as shop:
        assert await told(shop) == "bff; fwd=bypass"
        assert await told(shop, headers={"Cache-Control": "only-if-cached"}) == "bff; detail=not-kept"


async def test_a_get_with_a_body_is_its_own(tmp_path: Path) -> None:
    upstream = Upstream([said(cache_control="max-age=60")])
    async with site(tmp_path, upstream) as shop:
        for _ in range(2):
            assert await told(shop, body=b"query") == "bff; fwd=bypass"
    assert [asked.body for asked in upstream.asked] == [b"query", b"query"]


# --- two identities ---------------------------------------------------------------------------------------------------


async def test_a_private_answer_is_its_principals_alone(tmp_path: Path) -> None:
    upstream = Upstream(
        [said(b"ada", cache_control="private, max-age=60"), said(b"bob", cache_control="max-age=60"), said(b"x")]
    )
    async with site(tmp_path, upstream, PRIVATE, TRUSTING) as shop:
        for _ in range(2):
            assert (await shop.ask(headers={"X-Forwarded-User": "ada"})).body == b"ada"
            assert (await shop.ask(headers={"X-Forwarded-User": "bob"})).body == b"bob"
        for headers in ({}, {"Cookie": "session=1"}, {"X-Forwarded-User": "ada", "Authorization": "Basic eA=="}):
            answer = await shop.ask(headers=headers)
            assert (answer.body, answer.headers["cache-control"]) == (b"x", "private")
            assert answer.headers["cache-status"] == "bff; fwd=bypass"
    assert [asked.headers.get("x-user") for asked in upstream.asked] == ["ada", "bob", None, None, "ada"]


async def test_an_authorization_that_is_forwarded_makes_answers_private(tmp_path: Path) -> None:
    upstream = Upstream([said(cache_control="public, max-age=60")])
    async with site(
        tmp_path, upstream, ROUTE.replace("methods", "forward: {headers: [authorization]}, methods")
    ) as shop:
        for _ in range(2):
            assert await told(shop, headers={"Authorization": "Bearer x"}) == "bff; fwd=bypass"
    assert upstream.asked[0].headers["authorization"] == "Bearer x"


async def test_a_cookie_that_is_set_reaches_nobody_else(tmp_path: Path) -> None:
    upstream = Upstream([said(set_cookie="csrftoken=1", cache_control="max-age=60")])
    upstream.gate.clear()
    async with site(tmp_path, upstream, "grant: {cookies: [csrftoken]}\n" + ROUTE) as shop:
        asking = [asyncio.ensure_future(shop.ask()) for _ in range(3)]
        await until(lambda: upstream.asked)
        upstream.gate.set()
        answers = [await each for each in asking]
    assert len(upstream.asked) == 3
    assert all("set-cookie" in answer.headers for answer in answers)


# --- the herd ---------------------------------------------------------------------------------------------------------


async def herd(shop: Site, upstream: Upstream, count: int = 50, **more: Any) -> list[front.Answer]:
    """So many requests at once, all there before the upstream answers the first."""
    upstream.gate.clear()
    before = len(upstream.asked)
    asking = [asyncio.ensure_future(shop.ask(**more)) for _ in range(count)]
    turns = shop.server.server.shared.cycles
    await until(lambda: len(turns) == count and len(upstream.asked) > before)
    upstream.gate.set()
    return [await each for each in asking]


async def test_fifty_clients_on_a_cold_entry_make_one_request(tmp_path: Path) -> None:
    upstream = Upstream([said(b"shared", cache_control="max-age=60")])
    async with site(tmp_path, upstream) as shop:
        answers = await herd(shop, upstream)
        assert {answer.body for answer in answers} == {b"shared"}
        collapsed = [answer for answer in answers if "collapsed" in answer.headers["cache-status"]]
        assert len(collapsed) == 49
        numbers = (await shop.ask("/_bff/metrics")).body.decode()
    assert len(upstream.asked) == 1
    assert 'bff_coalesced_total{fragment="shop/proxy"} 49.0' in numbers


async def test_an_answer_that_cannot_be_shared_releases_all_at_once(tmp_path: Path) -> None:
    upstream = Upstream([said(cache_control="no-store")])
    async with site(tmp_path, upstream) as shop:
        upstream.gate.clear()
        asking = [asyncio.ensure_future(shop.ask()) for _ in range(20)]
        await until(lambda: len(shop.server.server.shared.cycles) == 20 and upstream.asked)
        assert len(upstream.asked) == 1
        upstream.gate.set()
        await asking[0]
        upstream.gate.clear()
        await until(lambda: len(upstream.asked) == 20)
        upstream.gate.set()
        assert {(await each).status for each in asking} == {200}
        upstream.gate.clear()
        asking = [asyncio.ensure_future(shop.ask()) for _ in range(5)]
        await until(lambda: len(upstream.asked) == 25)  # and who comes soon waits for nobody
        upstream.gate.set()
        await asyncio.gather(*asking)


async def test_an_error_is_for_all_who_wait_for_it(tmp_path: Path) -> None:
    body = b"out of order" * 20_000  # more than may wait for the slowest of those who read it
    upstream = Upstream([said(body, "500 No", retry_after="7")])
    async with site(tmp_path, upstream) as shop:
        answers = await herd(shop, upstream)
        assert {(answer.status, answer.body, answer.headers["retry-after"]) for answer in answers} == {(500, body, "7")}
        told = sorted(answer.headers["cache-status"] for answer in answers)
        assert told == ["bff; fwd=uri-miss; collapsed"] * 49 + ["bff; fwd=uri-miss; detail=status"]
        assert len(upstream.asked) == 1
        await shop.ask()
    assert len(upstream.asked) == 2, "who comes later asks: an error is not kept"


async def test_an_error_with_a_retry_is_two_requests(tmp_path: Path) -> None:
    upstream = Upstream([said(b"", "503 No")])
    async with site(tmp_path, upstream) as shop:
        assert {answer.status for answer in await herd(shop, upstream, 20)} == {503}
    assert len(upstream.asked) == 2


@pytest.mark.parametrize("says", [{"set_cookie": "a=1"}, {"cache_control": "no-store"}, {"vary": "*"}])
async def test_an_error_that_is_somebodys_own_releases_all(tmp_path: Path, says: dict[str, str]) -> None:
    upstream = Upstream([said(b"", "500 No", **says)])
    async with site(tmp_path, upstream) as shop:
        await herd(shop, upstream, 10)
    assert len(upstream.asked) == 10


async def test_an_error_to_another_request_is_asked_for(tmp_path: Path) -> None:
    upstream = Upstream([said(b"", "500 No")])
    async with site(tmp_path, upstream) as shop:
        upstream.gate.clear()
        asking = [asyncio.ensure_future(shop.ask(headers={"Accept": kind})) for kind in ("a/b", "a/b", "c/d", "c/d")]
        await until(lambda: len(shop.server.server.shared.cycles) == 4 and upstream.asked)
        upstream.gate.set()
        await asyncio.gather(*asking)
    assert sorted(asked.headers["accept"] for asked in upstream.asked) == ["a/b", "c/d"]


async def test_waiters_of_another_variant_ask_for_themselves(tmp_path: Path) -> None:
    upstream = Upstream([said(cache_control="max-age=60", vary="accept-language")])
    async with site(tmp_path, upstream) as shop:
        upstream.gate.clear()
        asking = [asyncio.ensure_future(shop.ask(headers={"Accept-Language": lang})) for lang in ("de", "de", "en")]
        await until(lambda: len(shop.server.server.shared.cycles) == 3 and upstream.asked)
        upstream.gate.set()
        await asyncio.gather(*asking)
    assert sorted(asked.headers["accept-language"] for asked in upstream.asked) == ["de", "en"]


async def test_within_stale_while_revalidate_nobody_waits_and_one_asks(tmp_path: Path) -> None:
    upstream = Upstream([said(b"one", cache_control="max-age=1, stale-while-revalidate=60", etag='"1"'), said(b"two")])
    async with site(tmp_path, upstream) as shop:
        await shop.ask()
        await aged(shop, 5)
        upstream.gate.clear()
        answers = await asyncio.gather(*(shop.ask() for _ in range(20)))
        assert {answer.body for answer in answers} == {b"one"}
        assert all("ttl=-" in answer.headers["cache-status"] for answer in answers)
        await until(lambda: len(upstream.asked) == 2)
        assert upstream.asked[1].headers["if-none-match"] == '"1"'
        upstream.gate.set()
        await until(lambda: not shop.running.proxy._ground.flights._all)
        assert (await shop.ask()).body == b"two"
    assert len(upstream.asked) == 3, "the second answer has no lifetime of its own"


async def test_a_failing_refresh_holds_down(tmp_path: Path) -> None:
    upstream = Upstream([said(b"one", cache_control="max-age=1, stale-while-revalidate=60"), said(b"", "500 Oops")])
    async with site(tmp_path, upstream) as shop:
        await shop.ask()
        await aged(shop, 5)
        for _ in range(5):
            assert (await shop.ask()).body == b"one"
            await until(lambda: not shop.running.proxy._ground.flights._all)
    assert len(upstream.asked) == 2


async def test_a_stale_answer_stands_in_for_errors_of_a_whole_herd(tmp_path: Path) -> None:
    upstream = Upstream([said(b"one", cache_control="max-age=1, stale-if-error=60"), said(b"", "503 No")])
    async with site(tmp_path, upstream) as shop:
        await shop.ask()
        await aged(shop, 5)
        answers = await herd(shop, upstream, 20)
        assert {(answer.status, answer.body) for answer in answers} == {(200, b"one")}
        assert all(
            re.search(r"hit; ttl=-\d+; detail=stale-error", answer.headers["cache-status"]) for answer in answers
        )
    assert len(upstream.asked) == 3, "the first, one for all of them, and its retry"


async def test_a_stale_answer_stands_in_where_there_is_no_answer(tmp_path: Path) -> None:
    async def script(peer: Peer) -> None:
        if peer.number == 0:
            await peer.head()
            await peer.send(said(b"one", cache_control="max-age=1, stale-if-error=60", connection="close"))
        else:
            await peer.head()

    async with site(tmp_path, script) as shop:
        await shop.ask()
        await aged(shop, 5)
        assert (await shop.ask()).body == b"one"
        assert (await shop.ask("/shop/api/y")).status == 502


async def test_the_shared_fetch_outlives_its_first_waiter(tmp_path: Path) -> None:
    upstream = Upstream([said(b"shared", cache_control="max-age=60")])
    async with site(tmp_path, upstream) as shop:
        upstream.gate.clear()
        first = await shop.connect()
        await first.send(request())
        await until(lambda: upstream.asked)
        others = [asyncio.ensure_future(shop.ask()) for _ in range(3)]
        await until(lambda: len(shop.server.server.shared.cycles) == 4)
        first.reset()
        await until(lambda: len(shop.server.server.shared.cycles) == 3)
        upstream.gate.set()
        assert {(await each).body for each in others} == {b"shared"}
        upstream.gate.clear()
        alone = await shop.connect()
        await alone.send(request("/shop/api/y"))
        await until(lambda: len(upstream.asked) == 2)
        alone.reset()
        await until(lambda: not shop.server.server.shared.cycles)
        upstream.gate.set()
        await until(lambda: not shop.running.proxy._ground.flights._all)
        assert "hit" in await told(shop, target="/shop/api/y")
    assert len(upstream.asked) == 2


async def test_an_abandoned_fetch_ends_within_total(tmp_path: Path) -> None:
    async def script(peer: Peer) -> None:
        await peer.head()
        await peer.send(said(b"part", cache_control="max-age=60", content_length="9"))
        await peer.ended()

    async with site(tmp_path, script, policy("timeout: {first_byte: 100ms, total: 150ms}")) as shop:
        client = await shop.connect()
        await client.send(request())
        await client._reader.readuntil(b"part")
        client.reset()
        await shop.fake.peers[0].over.wait()
        assert shop.running.store.entries == 0


async def test_a_slow_first_client_holds_up_no_other(tmp_path: Path) -> None:
    size = 6 << 20

    async def script(peer: Peer) -> None:
        while await peer.head():
            await peer.send(said(b"x" * size, cache_control="max-age=60"))

    async with site(tmp_path, script, policy("max_body: 8MiB")) as shop:
        slow = await shop.connect()
        slow.stop_reading()
        await slow.send(request())
        await until(lambda: shop.fake.peers)
        assert len((await shop.ask()).body) == size
        slow.read_on()
        assert len((await slow.answer()).body) == size
    assert len(shop.fake.peers) == 1


# --- asking whether it still holds ------------------------------------------------------------------------------------


async def test_304_renews(tmp_path: Path) -> None:
    upstream = Upstream(
        [
            said(b"one", cache_control="max-age=1", etag='"1"', x_a="old", surrogate_key="k"),
            said(b"", "304 Not Modified", cache_control="max-age=60", etag='"1"', x_a="new", content_length=""),
        ]
    )
    async with site(tmp_path, upstream, policy("cache: {stale_if_error: 0s}")) as shop:
        await shop.ask()
        await aged(shop, 5)
        answers = await herd(shop, upstream, 5)
        assert {(answer.body, answer.headers["x-a"]) for answer in answers} == {(b"one", "new")}
        assert "bff; fwd=stale; fwd-status=304; stored" in {answer.headers["cache-status"] for answer in answers}
        assert "hit" in await told(shop)
        shop.running.store.purge(Purge(kind="tag", value="k", context="shop"), 1e12)
        assert shop.running.store.entries == 0
    assert len(upstream.asked) == 2
    assert upstream.asked[1].headers["if-none-match"] == '"1"'


async def test_304_that_forbids_keeping_serves_once(tmp_path: Path) -> None:
    upstream = Upstream(
        [
            said(b"one", cache_control="max-age=1", etag='"1"'),
            said(b"", "304 Not Modified", cache_control="no-store", etag='"1"', content_length=""),
            said(b"three", cache_control="no-store"),
        ]
    )
    async with site(tmp_path, upstream, policy("cache: {stale_if_error: 0s}")) as shop:
        await shop.ask()
        await aged(shop, 5)
        assert (await shop.ask()).body == b"one"
        assert (await shop.ask()).body == b"three"


async def test_304_that_fits_nothing_is_asked_again(tmp_path: Path) -> None:
    upstream = Upstream(
        [
            said(b"one", cache_control="max-age=1", etag='"1"'),
            said(b"", "304 Not Modified", etag='"2"', content_length=""),
            said(b"three"),
        ]
    )
    async with site(tmp_path, upstream, policy("cache: {stale_if_error: 0s}")) as shop:
        await shop.ask()
        await aged(shop, 5)
        assert (await shop.ask()).body == b"three"
    assert "if-none-match" not in upstream.asked[2].headers


async def test_a_clients_own_condition_is_answered_when_what_is_kept_is_renewed(tmp_path: Path) -> None:
    upstream = Upstream(
        [said(b"one", cache_control="max-age=1", etag='"1"'), said(b"two", cache_control="max-age=9", etag='"2"')]
    )
    async with site(tmp_path, upstream, policy("cache: {stale_if_error: 0s}")) as shop:
        await shop.ask()
        await aged(shop, 5)
        answer = await shop.ask(headers={"If-None-Match": '"2"'})
        assert (answer.status, answer.headers["etag"]) == (304, '"2"')
        assert (await shop.ask()).body == b"two"
    assert upstream.asked[1].headers["if-none-match"] == '"1"'


async def test_a_condition_on_nothing_that_is_kept_passes(tmp_path: Path) -> None:
    upstream = Upstream(
        [said(b"", "304 Not Modified", etag='"1"', content_length=""), said(b"one", cache_control="max-age=60")]
    )
    async with site(tmp_path, upstream) as shop:
        assert (await shop.ask(headers={"If-None-Match": '"1"'})).status == 304
        assert (await shop.ask()).body == b"one"
    assert upstream.asked[0].headers["if-none-match"] == '"1"'


async def test_where_no_variant_is_selected_all_tags_are_asked_about(tmp_path: Path) -> None:
    upstream = Upstream(
        [
            said(b"one", cache_control="max-age=60", etag='"1"', vary="accept-language"),
            said(
                b"",
                "304 Not Modified",
                etag='"1"',
                content_length="",
                vary="accept-language",
                cache_control="max-age=60",
            ),
        ]
    )
    async with site(tmp_path, upstream) as shop:
        await shop.ask(headers={"Accept-Language": "de"})
        assert (await shop.ask(headers={"Accept-Language": "en"})).body == b"one"
        assert "hit" in await told(shop, headers={"Accept-Language": "en"})
    assert len(upstream.asked) == 2


async def test_head_renews_or_voids_what_get_keeps(tmp_path: Path) -> None:
    upstream = Upstream(
        [
            said(b"one", cache_control="max-age=1", etag='"1"'),
            said(b"", cache_control="max-age=60", etag='"1"', content_length="3"),
            said(b"", cache_control="max-age=60", etag='"2"', content_length="3"),
            said(b"two", cache_control="max-age=60"),
        ]
    )
    async with site(tmp_path, upstream, policy("cache: {stale_if_error: 0s}")) as shop:
        await shop.ask()
        await aged(shop, 5)
        await shop.ask(method="HEAD")
        assert "hit" in await told(shop)
        await aged(shop, 100)
        await shop.ask(method="HEAD")
        assert (await shop.ask()).body == b"two"
    assert len(upstream.asked) == 4


async def test_a_request_may_ask_for_a_fresh_answer(tmp_path: Path) -> None:
    upstream = Upstream([said(b"one", cache_control="max-age=60"), said(b"two", cache_control="max-age=60")])
    async with site(tmp_path, upstream) as shop:
        await shop.ask()
        assert (await shop.ask(headers={"Cache-Control": "no-cache"})).body == b"two"
        assert (await shop.ask()).body == b"two"
        assert (await shop.ask(headers={"Cache-Control": "only-if-cached"})).body == b"two"
        assert (await shop.ask("/shop/api/y", headers={"Cache-Control": "only-if-cached"})).status == 504


async def test_what_was_kept_by_another_registration_is_stale_at_best(tmp_path: Path) -> None:
    upstream = Upstream(
        [said(b"one", cache_control="max-age=60, stale-if-error=60", etag='"1"'), said(b"", "500 Oops"), said(b"two")]
    )
    async with site(tmp_path, upstream) as shop:
        await shop.ask()
        registration = tmp_path / "fragments" / "shop" / "context.yaml"
        registration.write_text(
            registration.read_text().replace("to:", "cross_site: true, forward: {headers: [x-b]}, to:")
        )
        shop.gateway.registry.load()
        shop.running.proxy.register(shop.gateway.registry.world)
        assert (await shop.ask()).body == b"one"
        assert (await shop.ask()).body == b"two"
    assert all("if-none-match" not in asked.headers for asked in upstream.asked)


async def test_a_popular_answer_is_renewed_before_its_end(tmp_path: Path) -> None:
    upstream = Upstream(
        [said(b"one", cache_control="max-age=60", etag='"1"'), said(b"two", cache_control="max-age=60")]
    )
    async with site(tmp_path, upstream) as shop:
        await shop.ask()
        await aged(shop, 59.9)
        for kept in everything(shop):
            object.__setattr__(kept, "took", 1000.0)
        assert (await shop.ask()).body == b"one"
        await until(lambda: len(upstream.asked) == 2)
        await until(lambda: not shop.running.proxy._ground.flights._all)
        assert (await shop.ask()).body == b"two"


async def test_only_what_is_kept_where_the_context_is_not_to_be_asked(tmp_path: Path) -> None:
    upstream = Upstream([said(b"one", cache_control="max-age=1", etag='"1"')])
    async with site(tmp_path, upstream) as shop:
        await shop.ask()
        await aged(shop, 100)
        registration = tmp_path / "fragments" / "shop" / "context.yaml"
        registration.write_text(registration.read_text().replace("to:", "policy: {state: stored}, to:"))
        shop.gateway.registry.load()
        shop.running.proxy.register(shop.gateway.registry.world)
        answer = await shop.ask()
        assert (answer.body, answer.headers["age"]) == (b"one", "100")
        assert (await shop.ask("/shop/api/y")).status == 503
        assert (await shop.ask(method="POST")).status == 503
    assert len(upstream.asked) == 1


@pytest.mark.parametrize(
    ("said_of_it", "age", "headers"),
    [
        ("no-cache", 0, {}),
        ("max-age=1, must-revalidate", 9, {}),
        ("s-maxage=1", 9, {}),
        ("max-age=1", 90_000, {}),
        ("max-age=1", 90_000, {"If-Match": '"1"'}),
    ],
)
async def test_what_must_not_be_shown_unasked_is_not_shown_where_nobody_may_ask(
    tmp_path: Path, said_of_it: str, age: int, headers: Mapping[str, str]
) -> None:
    upstream = Upstream([said(b"one", cache_control=said_of_it, etag='"1"')])
    async with site(tmp_path, upstream) as shop:
        await shop.ask()
        await aged(shop, age)
        registration = tmp_path / "fragments" / "shop" / "context.yaml"
        registration.write_text(registration.read_text().replace("to:", "policy: {state: stored}, to:"))
        shop.gateway.registry.load()
        shop.running.proxy.register(shop.gateway.registry.world)
        assert (await shop.ask(headers=headers)).status == 503
    assert len(upstream.asked) == 1


# --- forgetting -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "gone"),
    [
        ({}, True),
        ({"status": "302 Found", "location": "/shop/api/other"}, True),
        ({"status": "400 Bad"}, False),
        ({"status": "500 Oops"}, False),
    ],
)
async def test_an_unsafe_request_makes_its_uri_doubtful(tmp_path: Path, answer: Mapping[str, str], gone: bool) -> None:
    kept = said(b"kept", cache_control="max-age=60")
    upstream = Upstream([kept, kept, said(b"", **answer), said(b"new", cache_control="max-age=60")])
    async with site(tmp_path, upstream) as shop:
        await shop.ask("/shop/api/x?a=1")
        await shop.ask("/shop/api/other")
        await shop.ask("/shop/api/x?a=1", method="BREW")
        assert (await shop.ask("/shop/api/x?a=1")).body == (b"new" if gone else b"kept")
        assert (await shop.ask("/shop/api/other")).body == (b"new" if "location" in answer else b"kept")


async def test_what_an_answer_names_is_named_as_the_upstream_knows_it(tmp_path: Path) -> None:
    kept = said(b"kept", cache_control="max-age=60")
    upstream = Upstream([kept])
    async with site(tmp_path, upstream) as shop:
        await shop.ask("/shop/api/other")
        named = f"http://{shop.fake.upstream.authority}/api/other"
        upstream.answers = [said(b"", content_location=named), said(b"new")]
        await shop.ask(method="POST")
        assert (await shop.ask("/shop/api/other")).body == b"new"


async def test_a_context_says_what_it_changed(tmp_path: Path) -> None:
    kept = said(b"kept", cache_control="max-age=60", cache_tag="course:7, course:8")
    upstream = Upstream([kept, said(b"", bff_changed="course:8 course:9"), said(b"new")])
    async with site(tmp_path, upstream) as shop:
        assert "cache-tag" not in (await shop.ask("/shop/api/7")).headers
        assert "bff-changed" not in (await shop.ask("/shop/api/change", method="POST")).headers
        assert (await shop.ask("/shop/api/7")).body == b"new"


async def test_a_change_forgets_the_principals_private_answers(tmp_path: Path) -> None:
    kept = said(b"kept", cache_control="max-age=60")
    upstream = Upstream([kept, kept, said(b""), said(b"new")])
    async with site(tmp_path, upstream, PRIVATE, TRUSTING) as shop:
        for who in ("ada", "bob"):
            await shop.ask("/shop/api/7", headers={"X-Forwarded-User": who})
        await shop.ask("/shop/api/8", method="POST", headers={"X-Forwarded-User": "ada"})
        assert (await shop.ask("/shop/api/7", headers={"X-Forwarded-User": "ada"})).body == b"new"
        assert (await shop.ask("/shop/api/7", headers={"X-Forwarded-User": "bob"})).body == b"kept"


async def test_a_fetch_begun_before_a_change_brings_nothing_back(tmp_path: Path) -> None:
    go, asked = asyncio.Event(), 0

    async def script(peer: Peer) -> None:
        nonlocal asked
        while head := await peer.head():
            asked += 1
            if head.startswith(b"POST"):
                await peer.send(said(b""))
            elif asked == 1:
                await go.wait()
                await peer.send(said(b"old", cache_control="max-age=60"))
            else:
                await peer.send(said(b"new", cache_control="max-age=60"))

    async with site(tmp_path, script) as shop:
        early = asyncio.ensure_future(shop.ask())
        await until(lambda: asked)
        await shop.ask(method="POST")
        assert (await shop.ask()).body == b"new", "who asks after the change does not share what was asked before it"
        go.set()
        assert (await early).body == b"old"
        assert (await shop.ask()).body == b"new"


async def test_a_purge_parts_those_who_ask_after_it_from_those_before(tmp_path: Path) -> None:
    upstream = Upstream([said(cache_control="max-age=60")])
    async with site(tmp_path, upstream) as shop:
        upstream.gate.clear()
        early = asyncio.ensure_future(shop.ask())
        await until(lambda: upstream.asked)
        await shop.running.invalidation.changes.purge(Purge(kind="fragment", value="shop/proxy"))
        late = asyncio.ensure_future(shop.ask())
        await until(lambda: len(upstream.asked) == 2)
        upstream.gate.set()
        await early
        await late


async def test_purging_by_tag_fragment_and_context(tmp_path: Path) -> None:
    upstream = Upstream([said(b"kept", cache_control="max-age=60", surrogate_key="k", etag='"1"')])
    async with site(tmp_path, upstream) as shop:
        purge = shop.running.invalidation.changes.purge
        for each in (
            Purge(kind="tag", value="k"),
            Purge(kind="fragment", value="shop/proxy"),
            Purge(kind="context", value="shop"),
            Purge(kind="all"),
        ):
            await shop.ask()
            assert await purge(each) == 1
            assert "uri-miss" in await told(shop)
        assert await purge(Purge(kind="tag", value="k", soft=True)) == 1
        before = len(upstream.asked)
        assert "fwd=stale" in await told(shop)
        assert upstream.asked[before].headers["if-none-match"] == '"1"'
        assert "hit" in await told(shop)
