import asyncio
import json
import logging
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest

from bff.config.settings import read_settings
from bff.gateway.app import Gateway
from bff.gateway.logs import Log
from bff.gateway.process import make
from bff.registry import Registry
from tests.build import Upstreams
from tests.fakes import until
from tests.gateway.test_assets import DOWN, Service

pytestmark = pytest.mark.anyio

CONTEXT = """\
owner: team-shop
upstream: http://127.0.0.1:9
grant: {redirects: ["https://pay.example"]}
fragments:
  main: {path: "/main/{n}", params: {n: {type: int}}}
  side: {path: /side, policy: {cache: {fresh: 1m}}}
pages:
  home: {path: "/p/{n}", template: pages/home.html, query: {q: {type: int, default: 1}}}
  plain: {path: /plain, template: pages/plain.html}
"""
HOME = """\
<!doctype html><html lang="en"><head><meta charset="utf-8"><title>T</title></head>
<body><bff-fragment name="shop/main" n="{path.n}" primary></bff-fragment><bff-fragment name="shop/side"></bff-fragment></body></html>
"""
PLAIN = '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>T</title></head><body>plain</body></html>\n'


class Site:
    """A gateway over real registrations and faked upstreams."""

    def __init__(self, folder: Path, **settings: str) -> None:
        self.shop = folder / "fragments" / "shop"
        (self.shop / "pages").mkdir(parents=True)
        (self.shop / "context.yaml").write_text(CONTEXT)
        (self.shop / "pages" / "home.html").write_text(HOME)
        (self.shop / "pages" / "plain.html").write_text(PLAIN)
        lines = [f"{name}: {text}" for name, text in {"watch": "false", **settings}.items()]
        (folder / "bff.yaml").write_text("\n".join(lines))
        read, _ = read_settings(folder / "bff.yaml", env={})
        self.said: list[bytes] = []
        self.log = Log(write=self.said.append)
        self.registry = Registry(read, {}, config=folder / "bff.yaml")
        self.registry.load()
        self.upstreams = Upstreams()
        self.gateway: Gateway = make(read, self.registry, log=self.log, fetch=self.upstreams)

    def told(self, event: str) -> list[dict[str, Any]]:
        """The log's lines on an event."""
        self.log.flush()
        lines = [json.loads(line) for line in b"".join(self.said).splitlines()]
        return [line for line in lines if line["event"] == event]

    @asynccontextmanager
    async def running(self) -> AsyncIterator[httpx2.AsyncClient]:
        transport = httpx2.ASGITransport(self.gateway)
        async with (
            self.gateway.started(),
            httpx2.AsyncClient(transport=transport, base_url="http://shop.example") as client,
        ):
            yield client

    async def answer(self, target: str, body: bytes = b"<p>x</p>", status: int = 200, **headers: str) -> None:
        """Answer the exchange for a target as soon as it is asked for."""
        await until(lambda: any(flown.ask.target == target for flown in self.upstreams.open), f"a request for {target}")
        self.upstreams.to(target).reply(body, status, b"text/html", **headers)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


async def test_a_page_over_any_asgi_server(site: Site) -> None:
    async with site.running() as client:
        asked = asyncio.ensure_future(client.get("/p/1"))
        await site.answer("/main/1", b"<title>Mine</title><p>main</p>")
        await site.answer("/side", b"<p>side</p>")
        response = await asked
        assert response.status_code == 200
        assert "<title>Mine</title>" in response.text
        assert "<p>side</p>" in response.text


async def test_what_needs_no_waiting_is_answered_at_once(site: Site) -> None:
    scope: dict[str, Any] = {
        "type": "http",
        "method": "GET",
        "path": "/plain",
        "raw_path": b"/plain",
        "query_string": b"",
        "headers": [],
        "client": None,
    }
    assert site.gateway.now(scope) is None, "it has not started"
    async with site.running():
        answer = site.gateway.now(scope)
        assert answer is not None
        assert answer[0] == 200
        assert b"plain" in answer[2]
        assert site.gateway.now({**scope, "path": "/_bff/livez", "raw_path": b"/_bff/livez"}) is None


async def test_the_system_routes(site: Site) -> None:
    async with site.running() as client:
        assert (await client.get("/_bff/livez")).status_code == 200
        assert (await client.get("/_bff/readyz")).status_code == 200
        site.gateway.drain.draining = True
        assert (await client.get("/_bff/readyz")).status_code == 503
        metrics = await client.get("/_bff/metrics")
        assert 'bff_config_last_reload_successful{context="shop"} 1.0' in metrics.text
        assert 'bff_context_info{context="shop",owner="team-shop"} 1.0' in metrics.text
        assert (await client.get("/_bff/static/bff.js")).status_code == 200
        assert (await client.get("/_bff/nothing")).status_code == 404
        assert (await client.get("/_bff/fragments/shop/nothing")).status_code == 404


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", "/_bff/fragments/shop/side", 405),
        ("DELETE", "/_bff/tasks/x", 405),
        ("POST", "/_bff/static/bff.js", 405),
        ("POST", "/_bff/readyz", 405),
        ("BREW", "/_bff/metrics", 405),
        ("POST", "/_bff/nothing", 404),
        ("OPTIONS", "/_bff/admin/status", 404),  # no token is configured: there is nothing
        ("BREW", "/_bff/admin/", 404),
    ],
)
async def test_errors_under_bff_are_problems_too(site: Site, method: str, path: str, status: int) -> None:
    async with site.running() as client:
        answer = await client.request(method, path, headers={"accept": "application/json"})
        assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")
        assert answer.json()["status"] == status
        assert ("GET" in answer.headers.get("allow", "")) is (status == 405)
        page = await client.request(method, path, headers={"accept": "text/html"})
        assert page.status_code == status
        if "/admin/" not in path:
            assert page.headers["content-type"] == "text/html; charset=utf-8"


async def test_a_broken_contexts_owner_is_among_the_numbers(site: Site) -> None:
    broken = site.shop.parent / "broken"
    broken.mkdir()
    (broken / "context.yaml").write_text("owner: team-b\nupstream: ftp://x\n")
    site.registry.load()
    async with site.running() as client:
        text = (await client.get("/_bff/metrics")).text
        assert 'bff_config_last_reload_successful{context="broken"} 0.0' in text
        assert 'bff_context_info{context="broken",owner="team-b"} 1.0' in text


async def test_who_asks_admin_is_settled_before_how(tmp_path: Path) -> None:
    async with Site(tmp_path, admin="{token: a-long-token}").running() as client:
        assert (await client.options("/_bff/admin/status")).status_code == 401
        answer = await client.options("/_bff/admin/status", headers={"authorization": "Bearer a-long-token"})
        assert (answer.status_code, answer.headers["allow"]) == (405, "GET, HEAD")


async def test_one_fragment(site: Site) -> None:
    async with site.running() as client:
        asked = asyncio.ensure_future(client.get("/_bff/fragments/shop/side"))
        await site.answer("/side", b"<p>side</p>")
        response = await asked
        assert (response.status_code, response.text) == (200, "<p>side</p>")
        head = await client.head("/_bff/fragments/shop/side")
        assert (head.status_code, head.text) == (200, "")
        assert (await client.get("/_bff/fragments/shop/main?n=x")).status_code == 400


async def test_other_methods_go_to_the_primary(site: Site) -> None:
    async with site.running() as client:
        asked = asyncio.ensure_future(client.post("/p/1", content=b"a=1"))
        await site.answer("/main/1", b"", 303, location="/p/2")
        response = await asked
        assert (response.status_code, response.headers["location"]) == (303, "/p/2")
        assert site.upstreams.flown[0].ask.body == b"a=1"
        assert (await client.post("/plain")).status_code == 405
        assert (await client.post("/nowhere")).status_code == 404
        assert (await client.post("/p/x")).status_code == 404
        assert (await client.post("/p/1?q=x")).status_code == 400


async def test_a_page_in_process(site: Site) -> None:
    async with site.running():
        rendering = asyncio.ensure_future(site.gateway.render("/p/1?q=2", headers=[(b"accept", b"text/html")]))
        await site.answer("/main/1")
        await site.answer("/side")
        made = await rendering
        assert made.status == 200
        assert made.body.endswith(b"</html>\n")
        assert made.report is not None
        assert [ended.fragment for ended in made.report.slots] == ["shop/main", "shop/side"]
        assert (await site.gateway.render("/nowhere")).report is None


async def test_registrations_are_read_again(site: Site) -> None:
    site.gateway.reload()  # before the start nothing happens
    async with site.running() as client:
        (site.shop / "pages" / "plain.html").write_text(PLAIN.replace("plain", "changed"))
        pages = site.gateway.live.pages
        before = pages.planner
        site.gateway.reload()
        await until(lambda: pages.planner is not before and site.told("reloaded"), "a new planner")
        assert "changed" in (await client.get("/plain")).text
        (site.shop / "context.yaml").write_text("owner: [")
        before = pages.planner
        site.gateway.reload()
        await until(lambda: pages.planner is not before and len(site.told("reloaded")) == 2, "a new planner")
        assert "changed" in (await client.get("/plain")).text, "the last good version stays"
        assert site.told("finding")
        reloads = [(each["level"], each["pages"], each["broken"]) for each in site.told("reloaded")]
        there = len(site.gateway.registry.world.pages)
        assert reloads == [("info", there, []), ("warning", there, ["shop"])]


async def test_csp_and_cors_hold_from_the_next_page_on(site: Site) -> None:
    config = site.shop.parent.parent / "bff.yaml"
    async with site.running() as client:
        asks = {"accept": "application/json", "origin": "https://app.example"}
        assert "access-control-allow-origin" not in (await client.get("/plain", headers=asks)).headers
        config.write_text(
            "watch: false\ncsp: {add: {font-src: [https://f.example]}}\ncors: {origins: ['https://app.example']}\n"
        )
        site.gateway.reload()
        await until(lambda: bool(site.gateway.live.pages.planner.csp.add), "a planner with it")
        assert "font-src 'self' https://f.example" in (await client.get("/plain")).headers["content-security-policy"]
        answer = await client.get("/plain", headers=asks)
        assert answer.headers["access-control-allow-origin"] == "https://app.example"


async def test_registrations_are_watched(tmp_path: Path) -> None:
    site = Site(tmp_path, watch="true")
    async with site.running() as client:
        before = site.gateway.live.pages.planner
        (site.shop / "pages" / "plain.html").write_text(PLAIN.replace("plain", "changed"))
        await until(lambda: site.gateway.live.pages.planner is not before, "a new planner")
        assert "changed" in (await client.get("/plain")).text


async def test_whoever_goes_ends_the_fetch(site: Site) -> None:
    async with site.running():
        messages: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        sent: list[Any] = []

        async def send(message: Any) -> None:
            sent.append(message)

        scope = {
            "type": "http",
            "method": "GET",
            "path": "/p/1",
            "raw_path": b"/p/1",
            "query_string": b"",
            "headers": [],
            "client": ("127.0.0.1", 1),
            "extensions": {},
        }
        task = asyncio.ensure_future(site.gateway(scope, messages.get, send))
        await until(lambda: site.upstreams.flown, "a fetch")
        await messages.put({"type": "http.request", "body": b""})
        await messages.put({"type": "http.disconnect"})
        await task
        assert sent == []


async def test_the_lifespan(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    sent: list[dict[str, Any]] = []
    messages: asyncio.Queue[dict[str, Any]] = asyncio.Queue()

    async def send(message: Any) -> None:
        sent.append(message)

    await messages.put({"type": "lifespan.startup"})
    task = asyncio.ensure_future(site.gateway({"type": "lifespan"}, messages.get, send))
    await until(lambda: sent, "the start")
    assert site.gateway.running is not None
    await messages.put({"type": "lifespan.shutdown"})
    await task
    assert [message["type"] for message in sent] == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
    with pytest.raises(RuntimeError, match="not been started"):
        _ = site.gateway.live
    sent.clear()
    site.gateway.settings = None  # type: ignore[assignment] # nothing can be made of that
    await messages.put({"type": "lifespan.startup"})
    with caplog.at_level(logging.CRITICAL, "bff"):
        await site.gateway({"type": "lifespan"}, messages.get, send)
    assert sent[0]["type"] == "lifespan.startup.failed"
    await site.gateway({"type": "websocket"}, messages.get, send)
    assert len(sent) == 1


async def test_the_real_client_is_made_and_closed(tmp_path: Path) -> None:
    site = Site(tmp_path)
    gateway = make(site.registry.settings, site.registry, log=site.log)
    async with gateway.started() as running:
        assert running.client is not None
        transport = httpx2.ASGITransport(gateway)
        async with httpx2.AsyncClient(transport=transport, base_url="http://shop.example") as client:
            response = await client.get("/p/1", headers={"accept": "application/json"})
            assert response.status_code == 502
            assert json.loads(response.text)["status"] == 502


def test_tokens_are_verified_where_the_settings_say_so(tmp_path: Path) -> None:
    keys = tmp_path / "keys.json"
    keys.write_text(
        json.dumps({"keys": [{"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]})
    )
    site = Site(tmp_path, identity=f"{{jwt: {{keys: {keys}}}}}")
    assert site.gateway.identifier.tokens is not None


LONG = b"<p>a long one</p>" * 200
APP = "https://app.example"


async def test_answers_come_in_the_coding_that_is_asked_for(site: Site) -> None:
    async with site.running() as client:
        await fetched(site, client, "/_bff/fragments/shop/side", "/side", LONG)
        response = await client.get("/_bff/fragments/shop/side", headers={"accept-encoding": "gzip"})
        assert response.headers["content-encoding"] == "gzip"
        assert response.headers["etag"].startswith('W/"')
        assert response.content == LONG
        known = {"accept-encoding": "gzip", "if-none-match": response.headers["etag"]}
        again = await client.get("/_bff/fragments/shop/side", headers=known)
        assert (again.status_code, again.headers["etag"]) == (304, response.headers["etag"])
        head = await client.head("/_bff/fragments/shop/side", headers={"accept-encoding": "gzip"})
        for name in ("content-encoding", "content-length", "etag", "vary"):
            assert head.headers[name] == response.headers[name]
        plain = await client.get("/_bff/fragments/shop/side", headers={"accept-encoding": "identity"})
        assert "content-encoding" not in plain.headers
        static = {"accept-encoding": "gzip"}
        async with asyncio.timeout(20):  # a thread encodes it
            while "content-encoding" not in (await client.get("/_bff/static/bff.js", headers=static)).headers:
                pass
        assert (await client.get("/_bff/static/none.js")).status_code == 404


async def test_the_answer_to_a_form_is_encoded_unless_another_site_sent_it(site: Site) -> None:
    async with site.running() as client:
        response = await fetched(site, client, "/p/1", "/main/1", LONG, method="POST", accept_encoding="gzip")
        assert response.headers["content-encoding"] == "gzip"
        assert response.content == LONG
        (site.shop / "context.yaml").write_text(CONTEXT.replace("query: {q", "cross_site: true, query: {q"))
        site.gateway.registry.load()
        site.gateway._changed()
        headers = {"accept_encoding": "gzip", "sec_fetch_site": "cross-site"}
        response = await fetched(site, client, "/p/1", "/main/1", LONG, method="POST", **headers)
        assert "content-encoding" not in response.headers


async def test_other_origins_read_what_is_for_programs(tmp_path: Path) -> None:
    site = Site(tmp_path, cors=f'{{origins: ["{APP}"], credentials: true}}')
    async with site.running() as client:
        for accept in ("application/json", "application/x-ndjson"):
            response = await client.get("/plain", headers={"origin": APP, "accept": accept})
            assert response.headers["access-control-allow-origin"] == APP
            assert "Origin" in response.headers["vary"]
        for path in ("/p/x", "/nowhere", "/p/1?q=x"):
            headers = {"origin": APP, "accept": "application/json"}
            response = await client.get(path, headers=headers)
            assert response.status_code >= 400
            assert response.headers["access-control-allow-origin"] == APP
        response = await fetched(site, client, "/_bff/fragments/shop/side", "/side", origin=APP)
        assert response.headers["access-control-allow-origin"] == APP
        assert "BFF-Outcome" in response.headers["access-control-expose-headers"]
        assert (await client.get("/_bff/tasks/x", headers={"origin": APP})).headers[
            "access-control-allow-origin"
        ] == APP
        for path in ("/plain", "/_bff/livez", "/_bff/metrics", "/nowhere"):
            response = await client.get(path, headers={"origin": APP, "accept": "text/html"})
            assert "access-control-allow-origin" not in response.headers, path
        other = await client.get("/plain", headers={"origin": "https://other.example", "accept": "application/json"})
        assert "access-control-allow-origin" not in other.headers
        assert "Origin" in other.headers["vary"]


async def test_an_app_of_another_origin_loads_the_client_that_it_is_given(tmp_path: Path) -> None:
    async with Site(tmp_path, cors=f'{{origins: ["{APP}"]}}').running() as client:
        for path in ("/_bff/static/bff-client.js", "/_bff/assets/shop/none.js"):  # modules load by CORS alone
            mine = await client.get(path, headers={"origin": APP})
            assert mine.headers["access-control-allow-origin"] == APP, path
            assert "Origin" in mine.headers["vary"], path
            other = await client.get(path, headers={"origin": "https://other.example"})
            assert "access-control-allow-origin" not in other.headers, path


async def test_preflights_are_answered_by_the_gateway(tmp_path: Path) -> None:
    site = Site(tmp_path, cors=f'{{origins: ["{APP}"]}}')
    asked = {"origin": APP, "access-control-request-method": "GET", "access-control-request-headers": "authorization"}
    async with site.running() as client:
        for path in ("/p/1", "/_bff/fragments/shop/side", "/_bff/tasks/x"):
            response = await client.options(path, headers=asked)
            assert response.status_code == 204, path
            assert response.headers["access-control-allow-origin"] == APP
            assert response.headers["access-control-allow-headers"] == "authorization"
            refused = await client.options(path, headers=asked | {"access-control-request-method": "POST"})
            assert refused.status_code == 403, path
        assert (await client.options("/_bff/fragments/shop/side")).headers["allow"] == "GET, HEAD, OPTIONS"
        assert site.upstreams.flown == []
        response = await fetched(site, client, "/p/1", "/main/1", method="OPTIONS")
        assert response.status_code == 200, "one that is no preflight goes to the page's own service"


async def fetched(
    site: Site,
    client: httpx2.AsyncClient,
    path: str,
    target: str,
    body: bytes = b"<p>x</p>",
    /,
    method: str = "GET",
    **headers: str,
) -> httpx2.Response:
    """One request whose fragment is answered with a body."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    asked = asyncio.ensure_future(client.request(method, path, headers=named))
    await site.answer(target, body)
    return await asked


async def test_the_assets_of_a_page_are_in_its_head_and_behind_the_gateway(site: Site) -> None:
    assets = "side: {path: /side, assets: {css: [/side.css], js: [/side.js]}, policy"
    (site.shop / "context.yaml").write_text(CONTEXT.replace("side: {path: /side, policy", assets))
    site.registry.load()
    service = Service(files={"/side.css": b"a{}", "/side.js": b"1", "/main/1": b"<p>main</p>", "/side": b"<p>x</p>"})
    service.more = ((b"content-type", b"text/html"),)
    site.gateway.given = service
    async with site.running() as client:
        response = await client.get("/p/1")
        css, js = re.findall(r'(?:href|src)="(/_bff/assets/[^"]+)"', response.text)
        assert response.text.index(css) < response.text.index("</head>")
        assert f"<{css}>; rel=preload; as=style" in response.headers["link"]
        assert f"<{js}>; rel=modulepreload" in response.headers["link"]
        assert "link" not in (await client.get("/plain")).headers
        shown = (await client.get("/p/1", headers={"accept": "application/json"})).json()
        assert shown["slots"]["side"]["assets"] == {"css": [css], "js": [js]}
        assert "assets" not in shown["slots"]["main"]
        file = await client.get(css)
        assert (file.status_code, file.content, file.headers["content-type"]) == (
            200,
            b"a{}",
            "text/css; charset=utf-8",
        )
        assert "immutable" in file.headers["cache-control"]
        service.files |= {"/side.css": 503, "/side.js": DOWN}
        await site.gateway.live.assets.refresh()
        assert css in (await client.get("/p/1")).text, "its service has none any more, the gateway has"


async def test_a_start_waits_a_moment_for_assets_and_no_longer(site: Site) -> None:
    (site.shop / "context.yaml").write_text(CONTEXT.replace("path: /side,", "path: /side, assets: {css: [/a.css]},"))
    site.registry.load()
    async with site.running() as client:  # nobody answers for /a.css
        assert (await client.get("/plain")).status_code == 200
