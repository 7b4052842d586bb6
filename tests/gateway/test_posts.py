import asyncio
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import pytest

from bff.gateway.posts import Posts
from bff.gateway.problems import Answer
from bff.model import Forward, Grant, Purge, Reason
from bff.store.purger import Purger
from tests.build import World, fragment, slot

pytestmark = pytest.mark.anyio

BASKET = fragment(
    "shop/basket",
    forward=Forward(principal="x-user", headers=("x-a",)),
    grant=Grant(cookies=("csrftoken",), redirects=("https://pay.example",)),
    layer={"cache.fresh": "1m", "max_body": "1KiB"},
)
OTHER = fragment("other/mine", forward=Forward(principal="x-user"), layer={"cache.fresh": "1m"})


NONE: Mapping[str, str] = MappingProxyType({})


class Desk:
    def __init__(self) -> None:
        self.world = World(fragments={"shop/basket": BASKET, "other/mine": OTHER})
        purger = Purger(self.world.store, None, clock=self.world.loop.time)
        self.purged: list[list[Purge]] = []

        async def purge(purges: Iterable[Purge]) -> int:
            self.purged.append([*purges])
            return await purger(*self.purged[-1])

        self.posts = Posts(fetch=self.world.upstreams, purge=purge, telemetry=self.world.seen, tasks=self.world.tasks)

    async def post(
        self,
        headers: Mapping[str, str] = NONE,
        *,
        body: Sequence[bytes] = (b"qty=2",),
        method: str = "POST",
        cross: bool = False,
        gone: bool = False,
        closed: Callable[[Callable[[], None]], None] | None = None,
    ) -> "asyncio.Task[Answer]":
        messages: list[dict[str, Any]] = [{"type": "http.request", "body": part, "more_body": True} for part in body]
        messages.append({"type": "http.disconnect"} if gone else {"type": "http.request", "body": b""})

        async def receive() -> dict[str, Any]:
            return messages.pop(0)

        call = self.world.planner.call(BASKET, BASKET.policy, {}, slot=slot(1, "shop/basket", kind="primary"))
        assert call is not None
        visit = self.world.visit("ada", **{"host": "shop.example", **headers})
        register = closed or (lambda _call: None)
        scope = {"method": method, "headers": visit.fields, "extensions": {"bff.closed": register}}
        task = asyncio.ensure_future(self.posts.answer(scope, receive, call, visit, cross=cross))
        for _ in range(5):
            await asyncio.sleep(0)
        return task

    def keep(self, made: Any, principal: str, tag: str = "") -> None:
        """Have the store keep a private answer."""
        call = self.world.planner.call(made, made.policy, {})
        assert call is not None
        self.world.resolver.start(call, self.world.visit(principal), lambda result: None)
        self.world.upstreams.open[-1].reply(surrogate_key=tag)


async def test_the_request_goes_to_the_primary_and_its_answer_comes_back() -> None:
    desk = Desk()
    task = await desk.post(
        {
            "content_type": "application/x-www-form-urlencoded",
            "origin": "http://shop.example",
            "hx_request": "true",
            "x_evil": "1",
            "x_a": "2",
            "cookie": "s=1",
        }
    )
    flown = desk.world.upstreams.to("/basket")
    assert flown.ask.method == "POST"
    assert flown.ask.body == b"qty=2"
    sent = flown.headers
    assert sent["content-type"] == "application/x-www-form-urlencoded"
    assert sent["x-user"] == "ada"
    assert sent["hx-request"] == "true"
    assert sent["x-a"] == "2"
    assert "x-evil" not in sent
    assert "cookie" not in sent
    flown.reply(
        b"<p>ok</p>", 422, set_cookie="csrftoken=1", hx_trigger="x", etag='"1"', alt_svc="h3", x_total_count="4"
    )
    answer = await task
    head = dict(answer.headers)
    assert (answer.status, answer.body) == (422, b"<p>ok</p>")
    assert head[b"set-cookie"] == b"csrftoken=1"
    assert head[b"hx-trigger"] == b"x"
    assert head[b"etag"] == b'"1"'
    assert head[b"x-total-count"] == b"4"  # as through a proxy route
    assert head[b"x-request-id"].decode() == sent["x-request-id"]
    assert b"alt-svc" not in head
    assert head[b"cache-control"] == b"no-store"


async def test_nobody_keeps_the_answer_whatever_its_service_says() -> None:
    desk = Desk()
    task = await desk.post()
    flown = desk.world.upstreams.to("/basket")
    flown.reply(b"ok", cache_control="max-age=60", expires="Thu, 01 Jan 2099 00:00:00 GMT", age="5", pragma="x")
    head = dict((await task).headers)
    assert head[b"cache-control"] == b"no-store"
    assert head.keys().isdisjoint({b"expires", b"age", b"pragma"})


@pytest.mark.parametrize(
    ("to", "status"),
    [
        ("/checkout/1", 303),
        ("https://pay.example/x", 303),
        ("http://shop.example", 303),
        ("?saved=1", 303),
        ("https://evil.example", 502),
        ("//evil", 502),
    ],
)
async def test_post_redirect_get(to: str, status: int) -> None:
    desk = Desk()
    task = await desk.post()
    desk.world.upstreams.to("/basket").reply(b"", 303, location=to)
    answer = await task
    assert answer.status == status
    assert dict(answer.headers).get(b"location") == (
        to.replace("http://shop.example", "/").encode() if status == 303 else None
    )


@pytest.mark.parametrize(
    "headers",
    [
        {"sec_fetch_site": "cross-site"},
        {"sec_fetch_site": "same-site"},
        {"origin": "https://evil.example"},
        {"origin": "null"},
    ],
)
async def test_another_sites_request_is_refused_unless_the_route_says_otherwise(headers: dict[str, str]) -> None:
    desk = Desk()
    assert (await (await desk.post(headers))).status == 403
    assert desk.world.upstreams.flown == []
    task = await desk.post(headers, cross=True)
    desk.world.upstreams.to("/basket").reply()
    assert (await task).status == 200


@pytest.mark.parametrize(
    "headers", [{"sec_fetch_site": "same-origin"}, {"sec_fetch_site": "none"}, {"origin": "http://shop.example"}, {}]
)
async def test_our_own_sites_requests_pass(headers: dict[str, str]) -> None:
    desk = Desk()
    task = await desk.post(headers)
    desk.world.upstreams.to("/basket").reply()
    assert (await task).status == 200


async def test_too_large_gone_and_unknown_methods() -> None:
    desk = Desk()
    assert (await (await desk.post(body=[b"x" * 600, b"x" * 600]))).status == 413
    assert (await (await desk.post(gone=True))).status == 400
    refused = await (await desk.post(method="TRACE"))
    assert refused.status == 405
    assert b"PATCH" in dict(refused.headers)[b"allow"]
    assert desk.world.upstreams.flown == []
    task = await desk.post(method="PROPFIND")
    flown = desk.world.upstreams.to("/basket")
    assert flown.ask.method == "PROPFIND"
    flown.reply(b"<multistatus/>", 207)
    assert (await task).status == 207


@pytest.mark.parametrize(
    ("reason", "status"),
    [(Reason.TIMEOUT, 504), (Reason.CONCURRENCY, 503), (Reason.BREAKER, 503), (Reason.CONNECT, 502)],
)
async def test_failures_are_problems(reason: Reason, status: int) -> None:
    desk = Desk()
    task = await desk.post({"accept": "application/json"})
    desk.world.upstreams.to("/basket").fail(reason)
    answer = await task
    assert answer.status == status
    assert (b"retry-after" in dict(answer.headers)) == (status == 503)
    assert json.loads(answer.body)["status"] == status
    task = await desk.post({"accept": "text/html"})
    desk.world.upstreams.to("/basket").fail(reason)
    answer = await task
    assert answer.body.startswith(b"<!doctype html>")


async def test_a_change_expires_that_contexts_private_entries_of_the_principal() -> None:
    desk = Desk()
    desk.keep(BASKET, "ada")
    desk.keep(BASKET, "bob")
    desk.keep(OTHER, "ada")
    assert desk.world.store.entries == 3
    task = await desk.post()
    desk.world.upstreams.to("/basket").reply(b"", 303, location="/x")
    await task
    assert desk.world.store.entries == 2
    task = await desk.post()
    desk.world.upstreams.to("/basket").reply(b"", 500)
    await task
    assert desk.world.store.entries == 2


@pytest.mark.parametrize("status", [200, 202, 303])
async def test_a_change_expires_whatever_becomes_of_its_answer(status: int) -> None:
    desk = Desk()
    desk.keep(BASKET, "ada")
    task = await desk.post()
    desk.world.upstreams.to("/basket").reply(b"", status, location="https://evil.example")
    assert (await task).status == 502
    assert desk.world.store.entries == 0


async def test_what_changes_nothing_may_be_asked_by_anybody_and_expires_nothing() -> None:
    desk = Desk()
    desk.keep(BASKET, "ada")
    task = await desk.post({"sec_fetch_site": "cross-site"}, method="OPTIONS", body=())
    desk.world.upstreams.to("/basket").reply(b"", 204, allow="POST")
    answer = await task
    assert (answer.status, dict(answer.headers)[b"allow"]) == (204, b"POST")
    assert b"content-length" not in dict(answer.headers), "RFC 9110 §8.6"
    assert desk.world.store.entries == 1


@pytest.mark.parametrize("named", ["basket:7 basket:8", "basket:8, basket:7", "basket:7, basket:8"])
async def test_a_change_expires_the_tags_that_it_names(named: str) -> None:
    desk = Desk()
    desk.keep(BASKET, "bob", "basket:9, basket:7")  # of two lines
    task = await desk.post()
    desk.world.upstreams.to("/basket").reply(b"", bff_changed=named)
    await task
    assert desk.world.store.entries == 0
    assert [len(each) for each in desk.purged] == [3]  # all at once: the log that processes share is written once


async def test_a_post_that_begins_a_task_leads_to_it() -> None:
    desk = Desk()
    desk.keep(BASKET, "ada")
    for accept, status in (("text/html", 303), ("application/json", 202)):
        task = await desk.post({"accept": accept})
        desk.world.upstreams.to("/basket").reply(b'{"job_id": "1", "job_url": "/jobs/1"}', 202)
        answer = await task
        head = dict(answer.headers)
        assert (answer.status, head[b"cache-control"]) == (status, b"no-store")
        signed = head[b"location"].decode().removeprefix("/_bff/tasks/")
        began = desk.world.tasks.read(signed, "ada")
        assert began is not None
        assert (began.name, began.target) == (BASKET.name, "/jobs/1")
    assert desk.world.store.entries == 0
    task = await desk.post()
    desk.world.upstreams.to("/basket").reply(b"", 202, location="http://evil.test/jobs/1")
    assert (await task).status == 502
    task = await desk.post()
    desk.world.upstreams.to("/basket").reply(b"<p>later</p>", 202)
    assert (await task).status == 202


@pytest.mark.parametrize(("method", "entries"), [("POST", 1), ("OPTIONS", 2)])
async def test_the_exchange_ends_when_the_browser_goes_and_what_it_may_have_changed_expires(
    method: str, entries: int
) -> None:
    desk = Desk()
    desk.keep(BASKET, "ada")
    desk.keep(BASKET, "bob")
    leaves: list[Callable[[], None]] = []
    task = await desk.post(method=method, closed=leaves.append)
    flown = desk.world.upstreams.to("/basket")
    leaves[0]()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert flown.cancelled
    assert desk.world.store.entries == entries


async def test_the_exchange_ends_with_the_request() -> None:
    desk = Desk()
    task = await desk.post()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert desk.world.upstreams.flown[0].cancelled
    assert desk.world.seen.inflight.total() == 0


async def test_a_205_that_comes_with_a_body_loses_it() -> None:
    desk = Desk()
    task = await desk.post()
    desk.world.upstreams.to("/basket").reply(b"reset", 205)
    answer = await task
    assert (answer.status, answer.body, dict(answer.headers)[b"content-length"]) == (205, b"", b"0")
