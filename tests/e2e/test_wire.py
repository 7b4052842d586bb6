"""Pages on the wire (contract §3), over real sockets: what is sent, and when, while contexts answer as the tests let them."""

import json
import re
import time
from html import unescape
from typing import Any

import pytest
from selectolax.lexbor import LexborHTMLParser

from tests.e2e.gateway import Process, Serve, Site
from tests.fakes import FakeContext, answering, free_port, until

pytestmark = pytest.mark.anyio

KEEP = {"cache-control": "max-age=60"}
OFF = {"cache": {"mode": "off"}}


def fragment(path: str, **more: object) -> dict[str, object]:
    return {"path": path} | more


def tag(name: str, attributes: str = "", placeholder: str = "<p>waiting</p>") -> str:
    return f'<bff-fragment name="shop/{name}" {attributes}>{placeholder}</bff-fragment>'


def slots(html: str) -> dict[str, dict[str, str]]:
    """The attributes that each slot's wrapper ended with."""
    found: dict[str, dict[str, str]] = {}
    for match in re.finditer(r"<bff-fragment\b([^>]*)>", html):
        attributes = {key: unescape(value or "") for key, value in re.findall(r'([\w-]+)(?:="([^"]*)")?', match[1])}
        found[attributes["data-slot"]] = attributes
    return found


def late(html: str) -> list[str]:
    """The slots that templates filled, in the order of arrival."""
    return re.findall(r'<template for="(s\d+)\.[0-9a-z]{6,}">', html)


async def page(gateway: Process, path: str = "/page", **headers: str) -> str:
    async with await gateway.get(path, **headers) as answer:
        return await answer.rest()


async def document(gateway: Process, path: str = "/page", **headers: str) -> Any:
    """The page's JSON form."""
    return json.loads(await page(gateway, path, accept="application/json", **headers))


# --- order ------------------------------------------------------------------------------------------------------------


async def test_the_shell_is_sent_before_any_fragment_answers(site: Site, context: FakeContext, serve: Serve) -> None:
    one = context.route("/one", "<p>one</p>", gated=True)
    site.page(tag("one"), {"one": fragment("/one")}, upstream=context.origin)
    gateway = await serve()
    async with await gateway.get("/page") as answer:
        first = await answer.until("the end")
        await one.asked()
        assert re.search(
            r'<\?start name="s1\.[0-9a-z]{6,}"><bff-fragment name="shop/one" data-slot="s1" state="loading" aria-busy="true">'
            r"<p>waiting</p></bff-fragment><\?end>",
            first,
        )
        assert "<p>one</p>" not in first
        one.open()
        whole = await answer.rest()
    filled = whole[len(first) :]
    assert re.search(
        r'<template for="s1\.[0-9a-z]{6,}"><bff-fragment name="shop/one" data-slot="s1" state="fresh"><p>one</p>'
        r"</bff-fragment></template><wbr hidden>",
        filled,
    )
    assert whole.rstrip().endswith("</body></html>")


async def test_fragments_are_sent_as_they_arrive(site: Site, context: FakeContext, serve: Serve) -> None:
    routes = {name: context.route(f"/{name}", f"<p>it is {name}</p>", gated=True) for name in "abc"}
    fragments = {name: fragment(f"/{name}") for name in "abc"}
    site.page("".join(map(tag, "abc")), fragments, upstream=context.origin)
    gateway = await serve()
    async with await gateway.get("/page") as answer:
        await answer.until("the end")
        for name in "cab":
            routes[name].open()
            await answer.until(f"it is {name}")
        assert late(await answer.rest()) == ["s3", "s1", "s2"]


async def test_the_stream_waits_at_a_core_slot(site: Site, context: FakeContext, serve: Serve) -> None:
    core = context.route("/core", "<p>the core</p>", gated=True)
    side = context.route("/side", "<p>aside</p>", gated=True)
    fragments = {"core": fragment("/core"), "side": fragment("/side")}
    site.page(tag("side") + "<h2>before</h2>" + tag("core", "core"), fragments, upstream=context.origin)
    gateway = await serve()
    async with await gateway.get("/page") as answer:
        first = await answer.until("before")
        await core.asked()
        await side.asked()
        side.open()
        await until(lambda: side.answered, "the other answer")
        assert "the end" not in first
        core.open()
        whole = await answer.rest()
    assert whole.index("before") < whole.index("the core") < whole.index("the end")
    assert "s2" not in late(whole)
    assert {name: attributes["state"] for name, attributes in slots(whole).items()} == {"s1": "fresh", "s2": "fresh"}


async def test_what_is_in_the_store_is_sent_in_place_at_once(site: Site, context: FakeContext, serve: Serve) -> None:
    context.route("/one", "<p>one</p>", headers=KEEP)
    site.page(tag("one"), {"one": fragment("/one")}, upstream=context.origin)
    gateway = await serve()
    await page(gateway)
    async with await gateway.get("/page") as answer:
        whole = await answer.rest()
        assert int(answer.headers["content-length"]) == len(answer.body)
    assert "transfer-encoding" not in answer.headers
    assert late(whole) == []
    assert "<?start" not in whole
    assert slots(whole)["s1"]["state"] == "fresh"
    assert int(slots(whole)["s1"]["age"]) >= 0
    assert len(context.routes["/one"].requests) == 1


async def test_ordered_mode_has_everything_in_place(site: Site, context: FakeContext, serve: Serve) -> None:
    context.route("/a", "<p>it is a</p>")
    context.route("/b", "<p>it is b</p>")
    fragments = {"a": fragment("/a"), "b": fragment("/b")}
    site.page(tag("a") + "<hr>" + tag("b"), fragments, upstream=context.origin)
    gateway = await serve()
    for path, headers in (
        ("/page?_bff=ordered", {}),
        ("/page", {"hx_request": "true"}),
        ("/page", {"turbo_frame": "x"}),
        ("/page", {"x_up_target": "main"}),
        ("/page", {"user_agent": "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)"}),
    ):
        text = await page(gateway, path, **headers)
        assert "<?start" not in text
        assert "<template" not in text
        assert text.index("it is a") < text.index("<hr>") < text.index("it is b") < text.index("the end")


# --- outcomes ---------------------------------------------------------------------------------------------------------


async def outcome(gateway: Process, path: str = "/page", **headers: str) -> tuple[str, str]:
    """Outcome and reason of the one slot, which every form of the page must agree on."""
    (slot,) = (await document(gateway, path, **headers))["slots"].values()
    html = slots(await page(gateway, path, **headers))["s1"]
    assert html["state"] == slot["outcome"]
    return slot["outcome"], slot["reason"]


FAST = {"timeout": {"total": "150ms"}}


@pytest.mark.parametrize(
    "case",
    [
        ({"body": "<p>x</p>"}, {"policy": OFF}, ("fresh", "ok")),
        ({"status": 204}, {"policy": OFF}, ("fresh", "ok")),
        ({"status": 500}, {}, ("omitted", "status")),
        ({"status": 429}, {}, ("omitted", "status")),
        ({"status": 404}, {"policy": OFF}, ("omitted", "not_found")),
        ({"status": 410}, {"policy": OFF}, ("omitted", "not_found")),
        ({"status": 401}, {}, ("omitted", "auth")),
        ({"status": 403}, {}, ("omitted", "auth")),
        ({"gated": True}, {"policy": FAST | {"on_error": ["omit"]}}, ("omitted", "timeout")),
        ({"gated": True}, {"policy": FAST}, ("pending", "timeout")),
        ({"body": "x" * 2000}, {"policy": {"max_body": "1KiB"}}, ("omitted", "too_large")),
        ({"body": "{}", "type": "application/json"}, {}, ("omitted", "refused")),
        ({"body": "x", "headers": {"content-encoding": "gzip"}}, {}, ("omitted", "refused")),
        ({"status": 500}, {"fallback": ["fallbacks/x.html"]}, ("fallback", "status")),
        ({"status": 404}, {"fallback": ["fallbacks/x.html"]}, ("fallback", "not_found")),
        ({"body": "x"}, {"fallback": ["fallbacks/x.html"], "policy": {"state": "off"}}, ("fallback", "off")),
    ],
)
async def test_a_slot_ends_as_one_outcome_with_its_reason(
    site: Site, context: FakeContext, serve: Serve, case: tuple[dict[str, Any], dict[str, object], tuple[str, str]]
) -> None:
    answer, more, expected = case
    context.route("/one", **answer)
    files = {"fallbacks/x.html": "<p>instead</p>"}
    site.page(tag("one"), {"one": fragment("/one", **more)}, upstream=context.origin, files=files)
    gateway = await serve()
    assert await outcome(gateway) == expected
    html = await page(gateway)
    assert ("<p>instead</p>" in html) == (expected[0] == "fallback")
    if expected[0] == "omitted":
        assert "hidden" in slots(html)["s1"]
    if expected[0] == "pending":
        assert slots(html)["s1"]["src"] == "/_bff/fragments/shop/one"
        assert html.count("<p>waiting</p>") >= 1


@pytest.mark.parametrize(
    ("slot", "expected"),
    [
        ('name="shop/needs" n="{query.n}"', ("omitted", "params")),
        ('name="shop/plain" when="authenticated"', ("omitted", "when")),
        ('name="elsewhere/gone"', ("omitted", "dangling")),
        ('name="shop/plain" load="client"', ("pending", "load")),
        ('name="shop/plain" load="click"', ("pending", "load")),
    ],
)
async def test_what_is_never_asked_has_its_reason_too(
    site: Site, context: FakeContext, serve: Serve, slot: str, expected: tuple[str, str]
) -> None:
    asked = context.route("/plain", "<p>plain</p>")
    fragments = {
        "plain": fragment("/plain"),
        "needs": fragment("/plain", query={"n": "{n}"}, params={"n": {"type": "int"}}),
    }
    query = {"n": {"type": "str", "default": ""}}
    site.page(f"<bff-fragment {slot}></bff-fragment>", fragments, upstream=context.origin, page={"query": query})
    gateway = await serve()
    for path in ("/page", "/page?n=many"):
        assert await outcome(gateway, path) == expected
    assert asked.requests == []


async def test_a_context_that_is_down_or_tears_its_answer(site: Site, serve: Serve) -> None:
    torn = b"HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: 100\r\n\r\n<p>half"
    async with answering(torn) as origin:
        site.page(tag("one"), {"one": fragment("/one")}, upstream=origin)
        gateway = await serve()
        assert await outcome(gateway) == ("omitted", "torn")
        assert "half" not in await page(gateway)
    site.page(tag("one"), {"one": fragment("/one")}, upstream=f"http://127.0.0.1:{free_port()}")
    gateway = await serve()
    assert await outcome(gateway) == ("omitted", "connect")


async def test_a_stale_copy_stands_in_for_an_error(site: Site, context: FakeContext, serve: Serve) -> None:
    one = context.route("/one", "<p>first</p>", headers={"cache-control": "max-age=0"})
    site.page(tag("one"), {"one": fragment("/one", fallback=["fallbacks/x.html"])}, upstream=context.origin,
              files={"fallbacks/x.html": "<p>instead</p>"})  # fmt: skip
    gateway = await serve()
    await page(gateway)
    one.answer.status = 500
    assert await outcome(gateway) == ("stale", "status")
    html = await page(gateway)
    assert "<p>first</p>" in html
    assert "instead" not in html
    assert int(slots(html)["s1"]["age"]) >= 0


async def test_an_error_never_replaces_what_was_good(site: Site, context: FakeContext, serve: Serve) -> None:
    one = context.route("/one", "<p>good</p>", headers={"cache-control": "max-age=0"})
    site.page(tag("one"), {"one": fragment("/one")}, upstream=context.origin)
    gateway = await serve()
    await page(gateway)
    for status in (500, 503, 429, 403):
        one.answer.status, one.answer.body = status, "<p>bad</p>"
        await page(gateway)
    one.answer.status = 500
    assert "<p>good</p>" in await page(gateway)


# --- deadlines, lateness, leaving -------------------------------------------------------------------------------------


async def test_a_page_ends_before_its_deadline_with_a_silent_context(
    site: Site, context: FakeContext, serve: Serve
) -> None:
    context.route("/one", "<p>one</p>", gated=True)
    slow = {"timeout": {"first_byte": "5s", "total": "5s"}}
    site.page(tag("one"), {"one": fragment("/one", policy=slow)}, upstream=context.origin, page={"deadline": "500ms"})
    gateway = await serve()
    await page(gateway, "/_bff/livez")
    began = time.monotonic()
    html = await page(gateway)
    assert 0.40 < time.monotonic() - began < 0.55
    assert slots(html)["s1"]["state"] == "pending"
    assert html.rstrip().endswith("</body></html>")
    assert len(LexborHTMLParser(html).css("footer")) == 1


async def test_an_answer_after_its_deadline_is_kept(site: Site, context: FakeContext, serve: Serve) -> None:
    one = context.route("/one", "<p>one</p>", headers=KEEP, gated=True)
    slow = {"timeout": {"first_byte": "5s", "total": "5s"}}
    site.page(tag("one"), {"one": fragment("/one", policy=slow)}, upstream=context.origin, page={"deadline": "300ms"})
    gateway = await serve()
    assert slots(await page(gateway))["s1"]["state"] == "pending"
    one.open()
    await until(lambda: one.answered, "the late answer")
    html = await page(gateway)
    assert slots(html)["s1"]["state"] == "fresh"
    assert len(one.requests) == 1


async def test_who_leaves_ends_what_only_they_wanted(site: Site, context: FakeContext, serve: Serve) -> None:
    keep = context.route("/keep", "<p>keep</p>", headers=KEEP, gated=True)
    mine = context.route("/mine", "<p>mine</p>", gated=True)
    site.page(
        tag("keep") + tag("mine"),
        {"keep": fragment("/keep"), "mine": fragment("/mine", policy=OFF)},
        upstream=context.origin,
        policy={"timeout": {"first_byte": "8s", "total": "8s"}},
    )
    gateway = await serve()
    async with await gateway.get("/page") as answer:
        await answer.until("the end")
        await keep.asked()
        await mine.asked()
    await mine.left()
    assert keep.abandoned == 0
    keep.open()
    await until(lambda: keep.answered, "the answer that is kept")
    mine.open()
    (slot, _) = (await document(gateway))["slots"].values()
    assert slot["reason"] == "hit"
    assert len(keep.requests) == 1


async def test_identical_fetches_are_one(site: Site, context: FakeContext, serve: Serve) -> None:
    one = context.route("/one", "<p>one</p>", headers=KEEP, gated=True)
    site.page(tag("one"), {"one": fragment("/one")}, upstream=context.origin)
    gateway = await serve()
    exchanges = [await gateway.get("/page") for _ in range(5)]
    for exchange in exchanges:
        async with exchange:
            await exchange.until("the end")
            if exchange is exchanges[0]:
                for follower in exchanges[1:]:
                    await follower.until("the end")
                await one.asked()
                one.open()
            assert "<p>one</p>" in await exchange.rest()
    assert len(one.requests) == 1


# --- who is who -------------------------------------------------------------------------------------------------------


async def test_two_users_at_once_never_see_each_other(site: Site, context: FakeContext, serve: Serve) -> None:
    grades = context.route(
        "/grades",
        lambda seen: f"<p>grades of {seen.headers.get('x-user', 'nobody')}</p>",
        headers={"cache-control": "private, max-age=60"},
        gated=True,
    )
    site.settings({"trusted_proxies": ["127.0.0.1"]})
    site.page(
        tag("grades"),
        {"grades": fragment("/grades")},
        upstream=context.origin,
        forward={"principal": "x-user"},
    )
    gateway = await serve()
    users = ("ada", "bob", "cyd")
    exchanges = {user: await gateway.get("/page", x_forwarded_user=user) for user in users}
    for exchange in exchanges.values():
        await exchange.until("the end")
    await grades.asked(3)
    grades.open()
    for user, exchange in exchanges.items():
        async with exchange:
            text = await exchange.rest()
        assert [name for name in users if f"grades of {name}" in text] == [user]
        assert exchange.headers["cache-control"] == "private, no-cache"
    for user in users:
        assert f"grades of {user}" in await page(gateway, x_forwarded_user=user)
    assert len(grades.requests) == 3
    for _ in range(2):
        assert "grades of nobody" in await page(gateway)
    assert len(grades.requests) == 5, "answers to nobody are neither stored nor shared"


async def test_a_name_from_an_untrusted_peer_counts_for_nothing(site: Site, context: FakeContext, serve: Serve) -> None:
    grades = context.route("/grades", lambda seen: f"<p>{seen.headers.get('x-user', 'nobody')}</p>")
    site.page(tag("grades"), {"grades": fragment("/grades")}, upstream=context.origin, forward={"principal": "x-user"})
    gateway = await serve()
    assert "<p>nobody</p>" in await page(gateway, x_forwarded_user="ada")
    assert (await document(gateway, x_forwarded_user="ada"))["principal"] is False
    assert "x-user" not in grades.requests[0].headers


async def test_only_what_is_declared_reaches_a_context(site: Site, context: FakeContext, serve: Serve) -> None:
    one = context.route("/base/one", "<p>one</p>")
    site.page(
        tag("one", 'n="{query.n}"'),
        {"one": fragment("/one", query={"n": "{n}"}, params={"n": {"type": "int"}})},
        upstream=context.origin + "/base",
        page={"query": {"n": {"type": "int", "default": 1}}},
        forward={"headers": ["x-tenant"], "cookies": ["theme"]},
    )
    gateway = await serve()
    await page(
        gateway,
        "/page?n=7&utm_source=mail",
        cookie="theme=dark; session=secret",
        authorization="Bearer secret",
        x_tenant="t1",
        x_other="no",
        user_agent="browser",
    )
    (seen,) = one.requests
    assert seen.query == "n=7"
    assert seen.headers["cookie"] == "theme=dark"
    assert seen.headers["x-tenant"] == "t1"
    assert seen.headers["host"] == context.origin.removeprefix("http://")
    assert 0 < int(seen.headers["bff-deadline"]) <= 2000
    assert re.fullmatch(r"00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}", seen.headers["traceparent"])
    assert seen.headers.get("user-agent") != "browser"
    assert not {"authorization", "x-other", "referer", "x-forwarded-for"} & set(seen.headers)


# --- whatever fragments do --------------------------------------------------------------------------------------------

HOSTILE = {
    "template": '<template for="s2">hijack</template>',
    "breakout": '</template><template for="s2.k7f3qa">hijack</template>',
    "trap": '<p>A</p><?start name="s2"><p>trap</p><?end>',
    "comment": "<p>A</p><!-- never closed",
    "script": "<p>A</p><script>never closed",
    "style": "<p>A</p><style>never closed",
    "textarea": "<p>A</p><textarea>never closed",
    "title": "<p>A</p><title>never closed",
    "plaintext": "<p>A</p><plaintext>for ever",
    "tags": "<div><ul><li>never closed",
    "stray": "</main></div></body></html></bff-fragment><p>A</p>",
    "end": "<p>A</p><?end><?end>",
    "document": "<!doctype html><html><head><title>T</title></head><body onload=x><p>A</p></body></html>",
    "base": '<base href="//evil.example/"><p>A</p>',
    "refresh": '<meta http-equiv="refresh" content="0;url=//evil.example"><p>A</p>',
    "policy": '<meta http-equiv="Content-Security-Policy" content="default-src *"><p>A</p>',
    "attribute": '<p>A</p><img alt="never closed',
    "tag": "<p>A</p><img alt=",
    "table": "<tr><td>A</td></tr></table><table>",
    "shadow": '<div><template shadowrootmode="open"><p>A</p>',
    "wrapper": '</bff-fragment><bff-fragment name="x/y" data-slot="s2" state="fresh">hijack</bff-fragment>',
    "deep": "<div>" * 5000,
    "cdata": "<svg><![CDATA[ never closed",
    "select": "<select><option>A",
    "frameset": "<frameset><frame src=x></frameset>",
}


@pytest.mark.parametrize("name", HOSTILE)
async def test_a_hostile_fragment_harms_no_other(site: Site, context: FakeContext, serve: Serve, name: str) -> None:
    context.route("/bad", HOSTILE[name], headers=KEEP)
    good = context.route("/good", "<p>all well</p>", gated=True)
    fragments = {"bad": fragment("/bad"), "good": fragment("/good", policy=OFF)}
    site.page(tag("bad") + tag("good") + "<h2>after</h2>", fragments, upstream=context.origin)
    gateway = await serve()
    async with await gateway.get("/page") as answer:
        await answer.until("the end")
        await until(lambda: context.routes["/bad"].answered, "the hostile answer")
        good.open()
        streamed = await answer.rest()
    tree = LexborHTMLParser(streamed)
    (template,) = [node for node in tree.css("template") if "all well" in (node.html or "")]
    assert template.parent is not None
    assert template.parent.tag in {"body", "main"}
    well_formed(tree, hidden=True)
    for path in ("/page?_bff=ordered", "/page"):  # the hostile one is in the store by now: in place
        text = await page(gateway, path)
        well_formed(LexborHTMLParser(text), hidden="<template" in text)


def well_formed(tree: LexborHTMLParser, *, hidden: bool) -> None:
    """The shell's own tree stands, with its slots where they were written."""
    body = [node.tag for node in tree.css("body > *")]
    assert body[:2] == ["header", "main"]
    assert "footer" in body
    assert [node.text() for node in tree.css("main > h2")] == ["after"]
    assert [node.text() for node in tree.css("head > title")] == ["Shop"]
    assert [node.attributes["data-slot"] for node in tree.css("main > bff-fragment")] == ["s1", "s2"]
    assert tree.css("base, meta[http-equiv], frameset, plaintext") == []
    (second,) = tree.css('main > [data-slot="s2"]')
    assert "hijack" not in second.text()
    assert hidden or second.text() == "all well"


# --- reload -----------------------------------------------------------------------------------------------------------


async def test_registrations_change_while_pages_are_served(site: Site, context: FakeContext, serve: Serve) -> None:
    one = context.route("/one", "<p>one</p>", gated=True)
    fragments = {"one": fragment("/one", policy=OFF)}
    site.page(tag("one"), fragments, upstream=context.origin)
    gateway = await serve()
    async with await gateway.get("/page") as under_way:
        await under_way.until("the end")
        await one.asked()
        shell = (site.fragments / "shop/pages/page.html").read_text()
        site.write("shop/pages/page.html", shell.replace("the end", "the new end"))
        await changed(gateway, "the new end")
        one.open()
        old = await under_way.rest()
    assert slots(old)["s1"]["state"] == "fresh"
    assert "the new end" not in old

    site.write("shop/context.yaml", "owner: team-shop\nowner: twice\nfragments: [")
    await until_metric(gateway, 'bff_config_last_reload_successful{context="shop"} 0.0')
    html = await page(gateway)
    assert "the new end" in html
    assert slots(html)["s1"]["state"] == "fresh"
    site.page(tag("one"), fragments, upstream=context.origin)
    await until_metric(gateway, 'bff_config_last_reload_successful{context="shop"} 1.0')
    assert "the new end" not in await page(gateway)


async def changed(gateway: Process, text: str) -> None:
    found = ""
    for _ in range(300):
        async with await gateway.get("/page") as answer:
            found = await answer.until("</footer>")
        if text in found:
            return
    raise AssertionError(f"no new page shows {text!r}: {found}")


async def until_metric(gateway: Process, line: str) -> None:
    found = ""
    for _ in range(300):
        found = await page(gateway, "/_bff/metrics")
        if line in found.splitlines():
            return
    raise AssertionError(f"no {line!r} in:\n{found}")


async def test_a_broken_context_never_takes_down_another(site: Site, context: FakeContext, serve: Serve) -> None:
    context.route("/one", "<p>one</p>")
    site.page(tag("one"), {"one": fragment("/one")}, upstream=context.origin)
    site.write("broken/context.yaml", "owner: [")
    gateway = await serve()
    assert "<p>one</p>" in await page(gateway)
    metrics = (await page(gateway, "/_bff/metrics")).splitlines()
    assert 'bff_config_last_reload_successful{context="broken"} 0.0' in metrics
    assert 'bff_config_last_reload_successful{context="shop"} 1.0' in metrics


# --- the primary ------------------------------------------------------------------------------------------------------

ERROR = '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Sorry</title></head><body><h1>Sorry</h1></body></html>'


def with_primary(site: Site, context: FakeContext, **more: object) -> None:
    site.page(
        tag("main", "primary") + tag("side"),
        {"main": fragment("/main", **more), "side": fragment("/side")},
        upstream=context.origin,
        page={"error": "pages/error.html"},
        files={"pages/error.html": ERROR},
        grant={"cookies": ["basket"]},
    )


async def test_the_primary_gives_status_and_title_before_the_first_byte(
    site: Site, context: FakeContext, serve: Serve
) -> None:
    main = context.route(
        "/main", '<title>Basket &amp; you</title><meta name="description" content="d"><p>lines</p>', gated=True
    )
    context.route("/side", "<p>aside</p>")
    with_primary(site, context)
    gateway = await serve()
    exchange = await gateway.get("/page")
    await main.asked()
    main.open()
    async with exchange:
        html = await exchange.rest()
    assert exchange.status == 200
    tree = LexborHTMLParser(html)
    assert [node.text() for node in tree.css("title")] == ["Basket & you"]
    assert [node.attributes["content"] for node in tree.css("head > meta[name=description]")] == ["d"]
    assert [node.text() for node in tree.css('main > [data-slot="s1"] > p')] == ["lines"]


async def test_a_4xx_of_the_primary_is_the_page_s_with_its_body_in_place(
    site: Site, context: FakeContext, serve: Serve
) -> None:
    context.route("/main", "<p>no such basket</p>", status=404)
    context.route("/side", "<p>aside</p>")
    with_primary(site, context)
    gateway = await serve()
    async with await gateway.get("/page") as answer:
        html = await answer.rest()
    assert answer.status == 404
    assert "<p>no such basket</p>" in html
    assert "the end" in html
    assert "<p>aside</p>" in html


@pytest.mark.parametrize(("status", "expected"), [(500, 502), (503, 502), (None, 504)])
async def test_the_error_shell_shows_when_the_primary_fails(
    site: Site, context: FakeContext, serve: Serve, status: int | None, expected: int
) -> None:
    context.route("/main", "<p>broken</p>", status=status or 200, gated=status is None)
    context.route("/side", "<p>aside</p>")
    with_primary(site, context, policy={"timeout": {"total": "200ms"}})
    gateway = await serve()
    async with await gateway.get("/page") as answer:
        html = await answer.rest()
    assert answer.status == expected
    assert "<h1>Sorry</h1>" in html
    assert "broken" not in html
    async with await gateway.get("/page", accept="application/json") as answer:
        await answer.rest()
    assert answer.status == expected


async def test_a_redirect_of_the_primary_is_the_page_s(site: Site, context: FakeContext, serve: Serve) -> None:
    main = context.route("/main", status=303, headers={"location": "/page?done=1", "set-cookie": "basket=7; Path=/"})
    context.route("/side", "<p>aside</p>")
    with_primary(site, context)
    gateway = await serve()
    async with await gateway.get("/page") as answer:
        await answer.rest()
    assert (answer.status, answer.headers["location"]) == (303, "/page?done=1")
    assert "basket=7" in answer.headers["set-cookie"]
    for unsafe in ("//evil.example/", "https://evil.example/", "/\\evil.example", "javascript:alert(1)"):
        main.answer.headers["location"] = unsafe
        async with await gateway.get("/page") as answer:
            await answer.rest()
        assert answer.status == 502, unsafe
        assert "location" not in answer.headers


async def test_a_post_goes_to_the_primary_and_its_redirect_back(site: Site, context: FakeContext, serve: Serve) -> None:
    main = context.route("/main", status=303, headers={"location": "/page", "set-cookie": "basket=7; Path=/"})
    context.route("/side", "<p>aside</p>")
    with_primary(site, context)
    gateway = await serve()
    form = {
        "content-type": "application/x-www-form-urlencoded",
        "sec-fetch-site": "same-origin",
        "origin": gateway.origin,
    }
    async with await gateway.ask("/page", method="POST", headers=form, body=b"quantity=2") as answer:
        await answer.rest()
    assert (answer.status, answer.headers["location"]) == (303, "/page")
    assert "basket=7" in answer.headers["set-cookie"]
    (seen,) = main.requests
    assert (seen.method, seen.body) == ("POST", b"quantity=2")
    assert seen.headers["content-type"] == "application/x-www-form-urlencoded"
    main.answer.headers["set-cookie"] = "session=stolen; Path=/"
    async with await gateway.ask("/page", method="POST", headers=form, body=b"quantity=2") as answer:
        await answer.rest()
    assert "set-cookie" not in answer.headers


@pytest.mark.parametrize("headers", [{"sec-fetch-site": "cross-site"}, {"origin": "https://evil.example"}])
async def test_a_cross_site_post_is_refused(
    site: Site, context: FakeContext, serve: Serve, headers: dict[str, str]
) -> None:
    main = context.route("/main", "<p>done</p>")
    with_primary(site, context)
    gateway = await serve()
    async with await gateway.ask("/page", method="POST", headers=headers, body=b"quantity=2") as answer:
        await answer.rest()
    assert answer.status == 403
    assert main.requests == []


async def test_head_asks_the_primary_alone(site: Site, context: FakeContext, serve: Serve) -> None:
    main = context.route("/main", "<p>no such basket</p>", status=404)
    side = context.route("/side", "<p>aside</p>")
    with_primary(site, context)
    gateway = await serve()
    async with await gateway.ask("/page", method="HEAD") as answer:
        assert await answer.rest() == ""
    assert answer.status == 404
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert len(main.requests) == 1
    assert side.requests == []


# --- other forms, other answers ---------------------------------------------------------------------------------------


async def test_ndjson_sends_each_slot_as_it_ends(site: Site, context: FakeContext, serve: Serve) -> None:
    routes = {name: context.route(f"/{name}", f"<p>it is {name}</p>", gated=True) for name in "ab"}
    site.page(tag("a") + tag("b", 'as="bee"'), {name: fragment(f"/{name}") for name in "ab"}, upstream=context.origin)
    gateway = await serve()
    async with await gateway.get("/page", accept="application/x-ndjson") as answer:
        head = json.loads((await answer.until("\n")).splitlines()[0])
        routes["b"].open()
        await answer.until("it is b")
        routes["a"].open()
        *slot_lines, done = map(json.loads, (await answer.rest()).splitlines()[1:])
    assert answer.headers["content-type"].startswith("application/x-ndjson")
    assert answer.headers["cache-control"] == "no-store"
    assert head == {
        "page": "shop/page",
        "principal": False,
        "slots": [
            {"slot": "s1", "as": "a", "fragment": "shop/a", "params": {}},
            {"slot": "s2", "as": "bee", "fragment": "shop/b", "params": {}},
        ],
    }
    assert [line["slot"] for line in slot_lines] == ["s2", "s1"]
    assert slot_lines[0] | {"as_of": 0, "ms": 0} == {
        "slot": "s2", "as": "bee", "fragment": "shop/b", "outcome": "fresh", "reason": "ok", "status": 200,
        "html": "<p>it is b</p>", "as_of": 0, "ms": 0,
    }  # fmt: skip
    assert done["done"] is True
    assert done["ms"] > 0


async def test_json_is_one_document(site: Site, context: FakeContext, serve: Serve) -> None:
    context.route("/data", '{"title": "Streams"}', type="application/json")
    context.route("/html", "<p>html</p>")
    fragments = {
        "data": fragment("/data", source="json", template="templates/data.html"),
        "html": fragment("/html"),
    }
    files = {"templates/data.html": "<h2>{{ data.title }}</h2>"}
    site.page(tag("data") + tag("html"), fragments, upstream=context.origin, files=files)
    gateway = await serve()
    async with await gateway.get("/page", accept="application/json") as answer:
        found = json.loads(await answer.rest())
    assert answer.headers["cache-control"] == "no-store"
    assert (found["page"], found["principal"]) == ("shop/page", False)
    assert found["slots"]["data"]["data"] == {"title": "Streams"}
    assert "html" not in found["slots"]["data"]
    assert found["slots"]["html"]["html"] == "<p>html</p>"
    assert "<h2>Streams</h2>" in await page(gateway)


async def test_a_bad_declared_query_is_400_and_others_are_ignored(
    site: Site, context: FakeContext, serve: Serve
) -> None:
    context.route("/one", "<p>one</p>")
    site.page(
        tag("one"),
        {"one": fragment("/one")},
        upstream=context.origin,
        page={"query": {"n": {"type": "int", "default": 1}}},
    )
    gateway = await serve()
    for path, status in {
        "/page?n=2": 200, "/page?x=y&x=z": 200, "/page?n=two": 400, "/page?n=1&n=2": 400, "/nowhere": 404, "/page/": 404,
    }.items():  # fmt: skip
        assert await gateway.status(path) == status, path
    async with await gateway.get("/nowhere", accept="application/json") as answer:
        problem = json.loads(await answer.rest())
    assert answer.headers["content-type"] == "application/problem+json"
    assert problem["status"] == 404


async def test_the_headers_of_a_page(site: Site, context: FakeContext, serve: Serve) -> None:
    context.route("/one", "<p>one</p><script>one()</script>")
    site.page(tag("one", 'reserve="120px"'), {"one": fragment("/one")}, upstream=context.origin)
    gateway = await serve()
    async with await gateway.get("/page") as answer:
        html = await answer.rest()
    headers = answer.headers
    assert headers["content-type"] == "text/html; charset=utf-8"
    assert headers["cache-control"] == "private, no-cache"
    assert headers["vary"] == "Accept, Accept-Encoding, HX-Request, Turbo-Frame, X-Up-Target"
    assert headers["x-content-type-options"] == "nosniff"
    assert "referrer-policy" in headers
    assert "x-request-id" in headers
    assert "server-timing" in headers
    assert "etag" not in headers
    policy = {key: values for key, *values in map(str.split, headers["content-security-policy"].split(";"))}
    (nonce,) = re.findall(r"'nonce-([^']+)'", headers["content-security-policy"])[:1]
    assert policy["default-src"] == ["'self'"]
    assert policy["script-src"] == policy["style-src"] == ["'self'", f"'nonce-{nonce}'"]
    assert policy["base-uri"] == policy["object-src"] == ["'none'"]
    assert policy["form-action"] == policy["frame-ancestors"] == ["'self'"]
    assert policy["img-src"] == ["'self'", "data:", "https:"]
    assert f'<script nonce="{nonce}">one()</script>' in html
    assert re.search(
        rf'<style nonce="{nonce}">[^<]*bff-fragment\[data-slot=s1\]:not\(\[hidden\]\)\{{display:flow-root;min-height:120px',
        html,
    )
    assert re.search(r'<script type="module" async src="/_bff/static/bff\.js"', html)
    async with await gateway.get("/page") as answer:
        assert nonce not in answer.headers["content-security-policy"]
    async with await gateway.get("/_bff/static/bff.js") as answer:
        await answer.rest()
    assert answer.status == 200
    assert answer.headers["content-type"].startswith("text/javascript")


async def test_a_stale_copy_shows_first_where_the_slot_says_so(site: Site, context: FakeContext, serve: Serve) -> None:
    one = context.route("/one", "<p>old</p>", headers={"cache-control": "max-age=0"})
    site.page(tag("one", 'stale="then-fresh"'), {"one": fragment("/one")}, upstream=context.origin)
    gateway = await serve()
    await page(gateway)
    one.answer.body = "<p>new</p>"
    one.close()
    async with await gateway.get("/page") as answer:
        await answer.until("<p>old</p>")
        await one.asked(2)
        one.open()
        html = await answer.rest()
    assert html.index("<p>old</p>") < html.index("<p>new</p>")
    assert slots(html)["s1"]["state"] == "fresh"


async def test_the_fragment_endpoint_gives_the_bare_fragment(site: Site, context: FakeContext, serve: Serve) -> None:
    one = context.route("/one", "<p>one</p>", headers=KEEP)
    site.page(
        tag("one", 'n="3"'),
        {"one": fragment("/one", query={"n": "{n}"}, params={"n": {"type": "int"}})},
        upstream=context.origin,
    )
    gateway = await serve()
    where = "/_bff/fragments/shop/one"
    async with await gateway.get(f"{where}?n=3") as answer:
        assert await answer.rest() == "<p>one</p>"
    assert answer.status == 200
    assert answer.headers["bff-outcome"] == "fresh"
    assert answer.headers["cache-control"].startswith("public, max-age=")
    async with await gateway.get(f"{where}?n=3", if_none_match=answer.headers["etag"]) as again:
        await again.rest()
    assert again.status == 304
    for bad in ("", "?n=x", "?n=1&n=2", "?n=1&m=2"):
        assert await gateway.status(where + bad) == 400, bad
    assert len(one.requests) == 1


async def test_sigterm_lets_pages_under_way_finish(site: Site, context: FakeContext, serve: Serve) -> None:
    one = context.route("/one", "<p>one</p>", gated=True)
    site.page(tag("one"), {"one": fragment("/one")}, upstream=context.origin)
    gateway = await serve()
    async with await gateway.get("/page") as answer:
        await answer.until("the end")
        await one.asked()
        gateway.process.terminate()
        await draining(gateway)
        one.open()
        assert "<p>one</p>" in await answer.rest()
    assert await gateway.process.wait() == 0


async def draining(gateway: Process) -> None:
    """Until nobody new is let in: the probe says 503, or nobody listens any more."""
    for _ in range(500):
        if await gateway.status("/_bff/readyz") in {0, 503}:
            return
    raise AssertionError("the gateway takes new requests after SIGTERM")
