"""Proxy routes end to end: what passes, what does not, and how bodies go through. What is kept is test_proxy_cache."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import httpx2
import pytest

from bff.gateway.arrivals import body
from bff.upstream.stream import Body
from tests.gateway.proxies import NONE, ROUTE, Asked, Upstream, parsed, request, said, site
from tests.upstream.wire import Peer, until

pytestmark = pytest.mark.anyio


async def test_a_request_and_its_answer_pass_through(tmp_path: Path) -> None:
    upstream = Upstream([said(b"hello", etag='"1"', server="theirs", x_a="b", cache_control="no-store")])
    async with site(tmp_path, upstream) as shop:
        answer = await shop.ask("/shop/api/a%2Fb/c;d?x=1&y=%20&&z")
    assert (answer.status, answer.body) == (200, b"hello")
    assert upstream.asked[0].line == "GET /api/a%2Fb/c;d?x=1&y=%20&&z HTTP/1.1"
    assert answer.headers["etag"] == '"1"'
    assert answer.headers["x-a"] == "b"
    assert answer.headers["via"] == "1.1 bff"
    assert answer.headers["cache-status"] == "bff; fwd=uri-miss; detail=no-store"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert len(answer.headers["x-request-id"]) == 16


async def test_what_of_a_request_reaches_the_context(tmp_path: Path) -> None:
    upstream = Upstream([said(cache_control="no-store")])
    rest = ROUTE.replace("methods", "forward: {headers: [x-flag], cookies: [session], principal: x-user}, methods")
    sent = {
        "Accept": "text/x", "Accept-Encoding": "zstd", "Accept-Language": "de", "Range": "bytes=1-", "If-None-Match": '"e"',
        "Cache-Control": "no-cache", "User-Agent": "Mozilla", "Cookie": "session=1; other=2", "Authorization": "Basic eA==",
        "X-Flag": "f", "X-Other": "o", "X-User": "root", "X-Forwarded-For": "6.6.6.6", "X-Forwarded-Host": "evil",
        "Forwarded": "for=6.6.6.6", "BFF-Deadline": "1", "X-Request-ID": "mine", "Origin": "http://shop.example",
        "Connection": "keep-alive, x-flag2", "X-Flag2": "2", "Keep-Alive": "9", "TE": "trailers", "Upgrade": "websocket",
        "Proxy-Authorization": "Basic eA==",
    }  # fmt: skip
    async with site(tmp_path, upstream, rest) as shop:
        await shop.ask(headers=sent)
        authority = shop.fake.upstream.authority
    found = upstream.asked[0].headers
    assert {found.pop("traceparent")[:3], found.pop("x-request-id") != "mine"} == {"00-", True}
    assert found == {
        "host": authority, "accept": "text/x", "accept-encoding": "zstd", "accept-language": "de", "range": "bytes=1-",
        "if-none-match": '"e"', "cache-control": "no-cache", "cookie": "session=1", "x-flag": "f", "user-agent": "bff",
        "via": "1.1 bff", "x-forwarded-for": "127.0.0.1", "x-forwarded-host": "shop.example", "x-forwarded-proto": "http",
    }  # fmt: skip


async def test_a_star_forwards_everything_but_credentials_and_what_is_the_gateways(tmp_path: Path) -> None:
    upstream = Upstream([said(cache_control="no-store")])
    rest = ROUTE.replace("methods", "forward: {headers: '*'}, methods")
    sent = {
        "User-Agent": "Mozilla", "Depth": "1", "Cookie": "a=b", "Authorization": "Basic eA==", "Via": "1.1 edge",
        "X-Forwarded-User": "root", "X_Forwarded_User": "root", "X-Http-Method-Override": "DELETE", "Proxy": "http://x",
        "X-Real-IP": "6.6.6.6", "True-Client-IP": "6.6.6.6", "X-Client-IP": "6.6.6.6", "X-Host": "x", "X-Original-Host": "x",
        "X-Original-URI": "/x", "X-Middleware-Subrequest": "x", "Traceparent": "x", "Bff-X": "1", "Expect": "x",
    }  # fmt: skip
    async with site(tmp_path, upstream, rest) as shop:
        await shop.ask(method="PROPFIND", headers=sent)
    found = upstream.asked[0]
    assert found.headers["depth"] == "1"
    assert found.headers["user-agent"] == "Mozilla"
    assert [line for line in found.lines if line.startswith("via")] == ["via: 1.1 edge", "via: 1.1 bff"]
    for name in (
        "cookie",
        "authorization",
        "x-forwarded-user",
        "x_forwarded_user",
        "x-http-method-override",
        "bff-x",
        "expect",
        "proxy",
        "x-real-ip",
        "true-client-ip",
        "x-client-ip",
        "x-host",
        "x-original-host",
        "x-original-uri",
        "x-middleware-subrequest",
    ):
        assert name not in found.headers
    assert found.headers["traceparent"] != "x"


async def test_a_trusted_proxys_word_is_passed_on_as_far_as_it_is_one(tmp_path: Path) -> None:
    upstream = Upstream([said(cache_control="no-store")])
    headers = {
        "X-Forwarded-For": "6.6.6.6, 9.9.9.9, 127.0.0.7",
        "X-Forwarded-Proto": "https",
        "X-Forwarded-Host": "www.example",
    }
    async with site(tmp_path, upstream, settings="trusted_proxies: [127.0.0.0/8]\n") as shop:
        await shop.ask(headers=headers)
    found = upstream.asked[0].headers
    assert found["x-forwarded-for"] == "9.9.9.9, 127.0.0.7, 127.0.0.1"
    assert found["x-forwarded-proto"] == "https"
    assert found["x-forwarded-host"] == "www.example"


async def test_what_of_an_answer_reaches_the_client(tmp_path: Path) -> None:
    answer = said(
        status="200 OK", connection="x-hop", x_hop="1", keep_alive="timeout=5", proxy_authenticate="Basic", trailer="x-t",
        upgrade="h2c", clear_site_data='"*"', strict_transport_security="max-age=1", refresh="0; url=//evil", alt_svc="clear",
        access_control_allow_origin="*", surrogate_key="a b", bff_changed="x", service_worker_allowed="/", warning="199 - x",
        cache_control="no-store",
    )  # fmt: skip
    cookies = b"set-cookie: csrftoken=1; Domain=.example\r\nset-cookie: session=2\r\n"
    upstream = Upstream([answer.replace(b"connection:", cookies + b"connection:")])
    async with site(tmp_path, upstream, "grant: {cookies: [csrftoken]}\n" + ROUTE) as shop:
        found = await shop.ask(method="POST")
    assert sorted(found.names) == [
        "cache-control", "cache-status", "content-length", "date", "set-cookie", "via", "warning", "x-content-type-options",
        "x-request-id",
    ]  # fmt: skip
    assert found.headers["set-cookie"] == "csrftoken=1"


@pytest.mark.parametrize(
    ("to", "status", "shown"),
    [
        ("/x", 302, "/x"),
        ("details/", 302, "details/"),
        ("?page=2", 302, "?page=2"),
        ("http://shop.example/y", 302, "http://shop.example/y"),
        ("http://shop.example:80/y", 302, "http://shop.example:80/y"),
        ("http://shop.example:81/y", 502, ""),
        ("http://UPSTREAM/api/z?a=b", 302, "/shop/api/z?a=b"),
        ("https://pay.example/x", 302, "https://pay.example/x"),
        ("http://UPSTREAM/other", 502, ""),
        ("//evil.example/", 502, ""),
        ("https://evil.example/", 502, ""),
        ("javascript:alert(1)", 502, ""),
        ("http://[", 502, ""),
    ],
)
async def test_where_an_answer_leads(tmp_path: Path, to: str, status: int, shown: str) -> None:
    upstream = Upstream([b""])
    rest = 'grant: {redirects: ["https://pay.example"]}\n' + ROUTE
    async with site(tmp_path, upstream, rest) as shop:
        stated = to.replace("UPSTREAM", shop.fake.upstream.authority)
        upstream.answers = [said(b"", "302 Found", location=stated)]
        answer = await shop.ask(headers={"Accept": "application/json"})
    assert answer.status == status
    assert answer.headers.get("location", "") == shown


async def test_a_task_that_was_begun_is_asked_for_at_the_gateway(tmp_path: Path) -> None:
    begun = said(b"", "202 Accepted", location="/api/jobs/7")
    upstream = Upstream([begun, said(b'{"state": "succeeded"}', content_type="application/json")])
    async with site(tmp_path, upstream) as shop:
        answer = await shop.ask(method="POST")
        assert answer.status == 202
        assert answer.headers["location"].startswith("/_bff/tasks/")
        state = json.loads((await shop.ask(answer.headers["location"])).body)
        assert state["state"] == "succeeded"
        assert upstream.asked[1].target == "/api/jobs/7"
        upstream.answers = [said(b"", "202 Accepted", location="https://evil.example/")]
        assert (await shop.ask(method="POST")).status == 502


# --- what does not pass -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "rest",
    [
        "..", "../admin", "a/../b", "%2e%2e/x", ".%2E/x", "a%2F..%2Fb", "..%2fx", "..%5cx", "..\\x", "..;/x", "%2e%2e;x=1/y",
        "%252e%252e/x", "a%00b", "a%0d%0ab", "./x",
    ],
)  # fmt: skip
async def test_a_path_that_could_lead_elsewhere_is_refused(tmp_path: Path, rest: str) -> None:
    upstream = Upstream([said()])
    async with site(tmp_path, upstream) as shop:
        assert (await shop.ask(f"/shop/api/{rest}")).status == 400
    assert upstream.asked == []


@pytest.mark.parametrize("rest", ["x//y", "/x", "%2F%2Fx", "a...b", "%zz", "a%20b", "x/", "c%C3%A9"])
async def test_every_other_path_passes_as_it_was_sent(tmp_path: Path, rest: str) -> None:
    upstream = Upstream([said()])
    async with site(tmp_path, upstream) as shop:
        assert (await shop.ask(f"/shop/api/{rest}")).status == 200
    assert upstream.asked[0].target == f"/api/{rest}"


async def test_a_target_never_begins_with_two_slashes(tmp_path: Path) -> None:
    upstream = Upstream([said()])
    async with site(tmp_path, upstream, "proxy: [{path: '/x/{rest:path}', to: '/{rest}'}]\n") as shop:
        assert (await shop.ask("/x//evil.example")).status == 400


async def test_only_the_methods_of_the_route(tmp_path: Path) -> None:
    upstream = Upstream([said()])
    async with site(tmp_path, upstream, ROUTE.replace("'*'", "[GET, POST]")) as shop:
        refused = await shop.ask(method="DELETE")
        assert (refused.status, refused.headers["allow"]) == (405, "GET, HEAD, POST")
        assert (await shop.ask(method="OPTIONS")).status == 405
        assert (await shop.ask(method="POST")).status == 200
        upstream.answers = [said(b"")]
        assert (await shop.ask(method="HEAD")).status == 200


async def test_tunnels_and_traces_never_pass(tmp_path: Path) -> None:
    upstream = Upstream([said()])
    async with site(tmp_path, upstream) as shop:
        refused = await shop.ask(method="TRACE")
        assert (refused.status, refused.headers["cache-status"]) == (405, "bff; detail=refused")
        assert refused.headers["allow"] == "DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT", (
            "an empty one would mean none"
        )
        assert (await shop.ask(method="CONNECT")).status == 501
        assert (await shop.ask("*", method="OPTIONS")).status == 400
    assert upstream.asked == []


@pytest.mark.parametrize("method", ["BREW", "PROPFIND", "M-SEARCH", "QUERY", "purge", "X"])
async def test_methods_that_nobody_knows_pass(tmp_path: Path, method: str) -> None:
    upstream = Upstream([said()])
    async with site(tmp_path, upstream) as shop:
        client = await shop.connect()
        for _ in range(2):
            await client.send(request(method=method, body=b"abc"))
            assert (await client.answer()).status == 200
    assert upstream.asked[0].line == f"{method} /api/x HTTP/1.1"
    assert upstream.asked[1].body == b"abc"


async def test_max_forwards(tmp_path: Path) -> None:
    upstream = Upstream([said()])
    async with site(tmp_path, upstream, ROUTE.replace("'*'", "[GET, OPTIONS]")) as shop:
        here = await shop.ask(method="OPTIONS", headers={"Max-Forwards": "0"})
        assert (here.status, here.headers["allow"]) == (204, "GET, HEAD, OPTIONS")
        await shop.ask(method="OPTIONS", headers={"Max-Forwards": "5"})
    assert [asked.headers["max-forwards"] for asked in upstream.asked] == ["4"]


@pytest.mark.parametrize("headers", [{"Sec-Fetch-Site": "cross-site"}, {"Origin": "https://evil.example"}])
async def test_another_sites_unsafe_request_is_refused_unless_the_route_says_otherwise(
    tmp_path: Path, headers: dict[str, str]
) -> None:
    upstream = Upstream([said(b"")])
    async with site(tmp_path, upstream) as shop:
        assert (await shop.ask(method="POST", headers=headers)).status == 403
        assert (await shop.ask(method="BREW", headers=headers)).status == 403
        assert (await shop.ask(method="GET", headers=headers)).status == 200
    upstream = Upstream([said(b"")])
    async with site(tmp_path / "2", upstream, ROUTE.replace("methods", "cross_site: true, methods")) as shop:
        assert (await shop.ask(method="POST", headers=headers)).status == 200


async def test_other_origins_may_read_what_the_operator_lets_them(tmp_path: Path) -> None:
    upstream = Upstream([said(access_control_allow_origin="*")])
    async with site(tmp_path, upstream, settings="cors: {origins: [https://app.example]}\n") as shop:
        answer = await shop.ask(headers={"Origin": "https://app.example"})
        assert answer.headers["access-control-allow-origin"] == "https://app.example"
        asked = {"Origin": "https://app.example", "Access-Control-Request-Method": "BREW"}
        named = {"Access-Control-Request-Headers": "x-one, x-two"}
        preflight = await shop.ask(method="OPTIONS", headers=asked | named)
        assert (preflight.status, preflight.headers["access-control-allow-methods"]) == (204, "BREW")
        assert preflight.headers["access-control-allow-headers"] == "x-one, x-two"
        assert "access-control-max-age" in preflight.headers
        assert (await shop.ask(method="OPTIONS", headers=asked | {"Origin": "https://evil.example"})).status == 403
        assert "access-control-allow-origin" not in (await shop.ask()).headers
        refused = await shop.ask("/shop/api/..", headers={"Origin": "https://app.example"})
        assert refused.headers["access-control-allow-origin"] == "https://app.example"
    assert len(upstream.asked) == 2


async def test_a_route_that_is_switched_off(tmp_path: Path) -> None:
    upstream = Upstream([said()])
    off = ROUTE.replace("methods", "policy: {state: off}, methods")
    async with site(tmp_path, upstream, off) as shop:
        answer = await shop.ask()
        assert (answer.status, answer.headers["retry-after"]) == (503, "60")
    assert upstream.asked == []


async def test_pages_and_routes_stand_side_by_side(tmp_path: Path) -> None:
    upstream = Upstream([said()])
    shop_ = tmp_path / "fragments" / "shop" / "pages"
    shop_.mkdir(parents=True)
    (shop_ / "p.html").write_text("<!doctype html><html><head><title>t</title></head><body>page</body></html>")
    pages = (
        "pages: {p: {path: /shop/api/page, template: pages/p.html}, q: {path: '/{any:path}', template: pages/p.html}}\n"
    )
    async with site(tmp_path, upstream, ROUTE + pages) as shop:
        assert b"page" in (await shop.ask("/shop/api/page")).body
        assert b"page" in (await shop.ask("/shop/apis/x")).body
        assert b"page" in (await shop.ask("/shop/api")).body
        assert (await shop.ask("/shop/api/")).body == b"hello"
        assert (await shop.ask("/shop/api/pages")).body == b"hello"


# --- bodies -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("status", ["204 No Content", "304 Not Modified", "205 Reset Content"])
async def test_answers_without_a_body(tmp_path: Path, method: str, status: str) -> None:
    upstream = Upstream([said(b"", status, content_length="" if status[2] != "5" else "0")])
    async with site(tmp_path, upstream) as shop:
        client = await shop.connect()
        for _ in range(2):
            await client.send(request(method=method))
            answer = await client.answer()
            assert answer.status == int(status[:3])
    assert len(shop.fake.peers) == 1


async def test_a_205_that_comes_with_a_body_loses_it(tmp_path: Path) -> None:
    async with site(tmp_path, Upstream([said(b"reset", "205 Reset Content")])) as shop:
        for method in ("GET", "POST", "GET"):
            answer = await shop.ask(method=method)
            assert (answer.status, answer.body) == (205, b"")


async def test_head(tmp_path: Path) -> None:
    upstream = Upstream([said(b"", content_length="77")])
    async with site(tmp_path, upstream) as shop:
        client = await shop.connect()
        for _ in range(2):
            await client.send(request(method="HEAD"))
            answer = await client.answer(head=True)
            assert (answer.status, answer.headers["content-length"]) == (200, "77")


async def test_interim_answers_pass_and_never_end_the_exchange(tmp_path: Path) -> None:
    hints = b"HTTP/1.1 103 Early Hints\r\nlink: </a.css>\r\nconnection: x-b\r\nx-b: 1\r\n\r\n"
    early = b"HTTP/1.1 102 Processing\r\n\r\n" + hints + b"HTTP/1.1 100 Continue\r\n\r\n"
    async with site(tmp_path, Upstream([early + said(b"done", cache_control="no-store")])) as shop:
        client = await shop.connect()
        await client.send(request())
        assert (await client.answer()).status == 102
        hint = await client.answer()
        assert (hint.status, hint.headers) == (103, {"link": "</a.css>"})
        assert (await client.answer()).body == b"done"
        await client.send(request().replace(b"HTTP/1.1", b"HTTP/1.0"))
        assert (await client.answer()).body == b"done", "HTTP/1.0 knows no interim answers"
    switching = b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n"
    async with site(tmp_path / "2", Upstream([switching])) as shop:
        assert (await shop.ask(headers={"Upgrade": "websocket", "Connection": "upgrade"})).status == 502


async def test_trailers_go_no_further_in_either_direction(tmp_path: Path) -> None:
    body = b""

    async def script(peer: Peer) -> None:
        nonlocal body
        await peer.head()
        body = await peer.reader.readuntil(b"0\r\n\r\n")
        await peer.send(
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: x-t\r\n\r\n2\r\nhi\r\n0\r\nx-t: 1\r\n\r\n"
        )

    async with site(tmp_path, script) as shop:
        client = await shop.connect()
        await client.send(request(method="POST", headers={"Transfer-Encoding": "chunked", "Trailer": "x-u"}))
        await client.send(b"3\r\nabc\r\n0\r\nx-u: 2\r\n\r\n")
        answer = await client.answer()
        assert (answer.body, answer.headers.get("trailer")) == (b"hi", None)
    assert body == b"3\r\nabc\r\n0\r\n\r\n"


async def test_the_head_of_an_answer_does_not_wait_for_its_body(tmp_path: Path) -> None:
    go = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.head()
        await peer.send(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
        await go.wait()
        await peer.send(b"4\r\ndata\r\n")
        await peer.send(b"0\r\n\r\n")

    async with site(tmp_path, script) as shop:
        client = await shop.connect()
        await client.send(request())
        head = await client._reader.readuntil(b"\r\n\r\n")
        assert b"text/event-stream" in head
        go.set()
        assert (await client._reader.readuntil(b"0\r\n\r\n")) == b"4\r\ndata\r\n0\r\n\r\n"


async def test_a_slow_client_holds_the_upstream_in_bytes(tmp_path: Path) -> None:
    sent, size = 0, 64 << 20

    async def script(peer: Peer) -> None:
        nonlocal sent
        await peer.head()
        await peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % size)
        for _ in range(size // 65536):
            await peer.send(b"x" * 65536)
            sent += 65536

    async with site(tmp_path, script) as shop:
        client = await shop.connect()
        client.stop_reading()
        await client.send(request())
        before = -1
        while before != sent or not sent:  # until every buffer on the way is full
            before = sent
            for _ in range(500):
                await asyncio.sleep(0)
        assert sent < size // 2, "the kernel's buffers and a few windows"
        client.read_on()
        answer = await client.answer()
        assert len(answer.body) == size


async def test_a_slow_upstream_holds_the_client_in_bytes(tmp_path: Path) -> None:
    go, size, got = asyncio.Event(), 64 << 20, 0

    async def script(peer: Peer) -> None:
        nonlocal got
        await peer.head()
        await go.wait()
        while got < size:
            got += len(await peer.reader.read(1 << 20))
        await peer.send(said(b"took it"))

    async with site(tmp_path, script) as shop:
        client = await shop.connect()
        await client.send(request(method="PUT", headers={"Content-Length": str(size)}))
        written = 0

        async def upload() -> None:
            nonlocal written
            while written < size:
                await client.send(b"y" * 65536)
                written += 65536

        task = asyncio.ensure_future(upload())
        before = -1
        while before != written or not written:
            before = written
            for _ in range(500):
                await asyncio.sleep(0)
        assert written < size // 2
        go.set()
        assert (await client.answer()).body == b"took it"
        await task
    assert got == size


async def test_100_continue_is_the_contexts_to_say(tmp_path: Path) -> None:
    go = asyncio.Event()
    heads: list[Asked] = []

    async def script(peer: Peer) -> None:
        heads.append(parsed(await peer.head()))
        await go.wait()
        await peer.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        assert await peer.reader.readexactly(3) == b"abc"
        await peer.send(said(b"thanks"))

    async with site(tmp_path, script) as shop:
        client = await shop.connect()
        await client.send(request(method="POST", headers={"Content-Length": "3", "Expect": "100-continue"}))
        await until(lambda: heads)
        assert heads[0].headers["expect"] == "100-continue"
        reading = asyncio.ensure_future(client.answer())
        for _ in range(20):
            await asyncio.sleep(0)
        assert not reading.done()
        go.set()
        assert (await reading).status == 100
        await client.send(b"abc")
        assert (await client.answer()).body == b"thanks"


async def test_an_answer_instead_of_100_spares_the_body(tmp_path: Path) -> None:
    async def script(peer: Peer) -> None:
        await peer.head()
        await peer.send(said(b"no", "417 Expectation Failed"))
        await peer.ended()

    async with site(tmp_path, script) as shop:
        client = await shop.connect()
        await client.send(request(method="POST", headers={"Content-Length": "9", "Expect": "100-continue"}))
        answer = await client.answer()
        assert (answer.status, answer.headers["connection"]) == (417, "close")
        assert await client.rest() == b""


async def test_an_early_answer_while_the_body_is_still_being_sent(tmp_path: Path) -> None:
    async def script(peer: Peer) -> None:
        await peer.head()
        await peer.reader.readexactly(3)
        await peer.send(said(b"enough", "413 Content Too Large"))
        assert await peer.ended() or True

    async with site(tmp_path, script) as shop:
        client = await shop.connect()
        await client.send(request(method="POST", headers={"Content-Length": str(1 << 30)}) + b"abc")
        answer = await client.answer()
        assert (answer.status, answer.body) == (413, b"enough")
        await shop.fake.peers[0].over.wait()


@pytest.mark.parametrize("framing", ["content-length: 9", "transfer-encoding: chunked"])
@pytest.mark.parametrize("version", ["1.1", "1.0"])
async def test_a_body_that_ends_early_never_ends_well(tmp_path: Path, framing: str, version: str) -> None:
    async def script(peer: Peer) -> None:
        await peer.head()
        begun = b"part" if framing[0] == "c" else b"9\r\npart"
        await peer.send(f"HTTP/1.1 200 OK\r\n{framing}\r\n\r\n".encode() + begun)
        await until(lambda: received)
        peer.reset()

    async with site(tmp_path, script) as shop:
        received = b""
        client = await shop.connect()
        await client.send(request().replace(b"HTTP/1.1", b"HTTP/" + version.encode()))
        head = (await client._reader.readuntil(b"\r\n\r\n")).lower()
        received = await client._reader.readuntil(b"part")
        if b"content-length" not in head and b"chunked" not in head:
            with pytest.raises(ConnectionError):
                await client._reader.read()
        else:
            assert b"0\r\n\r\n" not in await client.rest()


async def test_a_client_that_goes_ends_the_exchange(tmp_path: Path) -> None:
    async def script(peer: Peer) -> None:
        await peer.head()
        await peer.ended()

    async with site(tmp_path, script) as shop:
        client = await shop.connect()
        await client.send(request())
        await until(lambda: shop.fake.peers)
        client.reset()
        await shop.fake.peers[0].over.wait()
        client = await shop.connect()
        await client.send(request(method="POST", headers={"Content-Length": "9"}) + b"abc")
        await until(lambda: len(shop.fake.peers) == 2)
        client.reset()
        await shop.fake.peers[1].over.wait()
        await until(lambda: not shop.server.server.shared.cycles)
        assert [s.active for s in shop.running.client.stats().values()] == [0]
        assert not shop.running.proxy._ground.flights._all


async def test_on_another_server_the_clients_going_is_asked_for(tmp_path: Path) -> None:
    upstream = Upstream([said(b"taken", cache_control="no-store")])
    async with site(tmp_path, upstream) as shop:
        transport = httpx2.ASGITransport(shop.gateway)
        async with httpx2.AsyncClient(transport=transport, base_url="http://shop.example") as client:
            assert (await client.get("/shop/api/x")).text == "taken"
            assert (await client.post("/shop/api/x", content=b"abc")).text == "taken"
        assert upstream.asked[1].body == b"abc"
        upstream.gate.clear()
        for body, length in ((b"", b"0"), (b"ab", b"9")):
            went = asyncio.Event()
            messages: list[dict[str, object]] = [{"type": "http.request", "body": body, "more_body": bool(body)}]

            async def receive(
                messages: list[dict[str, object]] = messages, went: asyncio.Event = went
            ) -> dict[str, object]:
                if not messages:
                    await went.wait()
                    return {"type": "http.disconnect"}
                return messages.pop(0)

            async def send(_: object) -> None:
                raise AssertionError("nobody is there")

            scope = {
                "type": "http", "method": "POST", "path": "/shop/api/x", "raw_path": b"/shop/api/x", "query_string": b"",
                "headers": [(b"host", b"shop.example"), (b"content-length", length)], "client": ("127.0.0.1", 1), "scheme": "http",
            }  # fmt: skip
            asking = asyncio.ensure_future(shop.gateway(scope, receive, send))
            await until(lambda: shop.running.proxy._ground.flights._all)
            went.set()
            await asking
            await until(lambda: not shop.running.proxy._ground.flights._all)


# --- what goes wrong --------------------------------------------------------------------------------------------------


async def test_failures_are_problems(tmp_path: Path) -> None:
    async def script(peer: Peer) -> None:
        await peer.head()
        if peer.number == 0:
            await peer.send(b"garbage\r\n\r\n")
        else:
            await peer.ended()

    rest = ROUTE.replace("methods", "policy: {timeout: {first_byte: 50ms, total: 60ms}}, methods")
    async with site(tmp_path, script, rest) as shop:
        broken = await shop.ask(headers={"Accept": "application/json"})
        assert (broken.status, broken.headers["content-type"]) == (502, "application/problem+json")
        assert broken.headers["cache-status"] == "bff; fwd=uri-miss; detail=torn"
        silent = await shop.ask(headers={"Accept": "text/html"})
        assert (silent.status, silent.headers["content-type"]) == (504, "text/html; charset=utf-8")
        assert (await shop.ask(headers=NONE)).status == 504
        numbers = (await shop.ask("/_bff/metrics")).body.decode()
    assert 'bff_upstream_requests_total{context="shop",status="reset"} 1.0' in numbers
    assert 'bff_upstream_requests_total{context="shop",status="timeout"} 2.0' in numbers
    assert 'bff_upstream_inflight{context="shop"} 0.0' in numbers


async def test_a_context_that_is_not_there(tmp_path: Path) -> None:
    async with site(tmp_path, Upstream([b""])) as shop:
        shop.fake.peers.clear()
        registration = tmp_path / "fragments" / "shop" / "context.yaml"
        registration.write_text(registration.read_text().replace(shop.fake.upstream.authority, "127.0.0.1:9"))
        shop.gateway.registry.load()
        shop.running.proxy.register(shop.gateway.registry.world)
        assert (await shop.ask()).status == 502


async def test_too_many_at_once_wait_and_are_refused(tmp_path: Path) -> None:
    upstream = Upstream([said(cache_control="no-store")])
    upstream.gate.clear()
    one = ROUTE.replace("methods", "policy: {concurrency: 1, cache: {mode: off}}, methods")
    async with site(tmp_path, upstream, one) as shop:
        asking = [asyncio.ensure_future(shop.ask(f"/shop/api/{n}")) for n in range(2)]
        await until(lambda: [s for s in shop.running.client.stats().values() if s.active and s.queued])
        refused = await shop.ask("/shop/api/3")
        assert (refused.status, refused.headers["retry-after"]) == (503, "1")
        upstream.gate.set()
        assert [(await each).status for each in asking] == [200, 200]


def test_a_body_is_framed_as_it_came() -> None:
    assert body([]) is None
    assert body([(b"content-length", b"0")]) is None
    assert body([(b"content-length", b"7")]) == Body(7)
    assert body([(b"transfer-encoding", b"chunked"), (b"expect", b"100-Continue")]) == Body(None, expects=True)
