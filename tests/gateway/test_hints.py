"""Early Hints over real sockets: who is told what, once, while a primary keeps the head waiting; and nobody else anything."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import subprocess
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from bff.gateway import hints
from bff.page.hoist import MOST
from tests.build import document, fragment, page, planner, slot
from tests.build import shell as made_of
from tests.fakes import PATIENCE, free_port
from tests.gateway.proxies import NONE, Site, Upstream, request, said, site
from tests.gateway.wire import Answer, Client

pytestmark = pytest.mark.anyio

ON = 'early_hints: true\ntrusted_proxies: ["127.0.0.1"]\n'
GOES: Mapping[str, str] = {"Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document", "Accept": "text/html"}
PAGES = """fragments:
  main: {path: /main}
  side: {path: /side}
pages:
  first: {path: /first, template: pages/first.html, error: pages/sorry.html}
  loose: {path: /loose, template: pages/loose.html}
  plain: {path: /plain, template: pages/plain.html}
"""
HEAD = """<!doctype html><html lang="en"><head><title>Shop</title>
<link rel="stylesheet" href="/theme.css" integrity="sha384-abc+/="><script type="module" src="/app.js"></script>
"""
BODY = (
    '</head><body><bff-fragment name="shop/main" primary></bff-fragment><bff-fragment name="shop/side"></bff-fragment>'
)
TOLD = (
    '</theme.css>; rel=preload; as=style; integrity="sha384-abc+/=", </app.js>; rel=modulepreload, '
    "</_bff/static/bff.js>; rel=modulepreload"
)
SHELLS = {
    "first": HEAD + BODY,
    "loose": HEAD + BODY.replace(" primary", ""),
    "plain": '<!doctype html><html lang="en"><head><title>Shop</title></head><body><bff-fragment name="shop/main" primary></bff-fragment>',
    "sorry": HEAD.replace("theme", "sorry") + "</head><body><h1>Sorry</h1>",
}


@dataclass(frozen=True)
class Shop:
    """A running shop. Its one upstream answers once `gate` is open."""

    site: Site
    gate: asyncio.Event

    async def begin(self, target: str = "/first", method: str = "GET", headers: Mapping[str, str] = GOES) -> Client:
        client = await self.site.connect()
        await client.send(request(target, method, headers=headers))
        return client

    async def alone(self, client: Client, *, head: bool = False) -> Answer:
        """The one answer that comes, once the upstream may speak."""
        self.gate.set()
        return await next_of(client, head=head)


@asynccontextmanager
async def serving(
    folder: Path, *answers: bytes, settings: str = ON, registration: str = PAGES, **limits: int
) -> AsyncIterator[Shop]:
    shells = folder / "fragments" / "shop" / "pages"
    shells.mkdir(parents=True)
    for name, text in SHELLS.items():
        (shells / f"{name}.html").write_text(text + "</body></html>\n")
    upstream = Upstream([*answers] or [html("<p>main</p>")])
    upstream.gate.clear()
    async with site(folder, upstream, registration, settings, **limits) as made:
        yield Shop(made, upstream.gate)


def html(text: str, status: str = "200 OK", **headers: str) -> bytes:
    return said(text.encode(), status, content_type="text/html", **headers)


async def next_of(client: Client, *, head: bool = False) -> Answer:
    async with asyncio.timeout(PATIENCE):
        return await client.answer(head=head)


async def test_a_page_that_waits_for_its_primary_says_at_once_what_its_head_refers_to(tmp_path: Path) -> None:
    async with serving(tmp_path) as shop:
        client = await shop.begin()
        early = await next_of(client)
        assert (early.status, early.names) == (103, ["link"])
        assert early.headers["link"] == TOLD
        shop.gate.set()
        page = await next_of(client)
        assert page.status == 200
        assert b"<p>main</p>" in page.body
        assert b'href="/theme.css"' in page.body


async def test_the_connection_goes_on_and_each_page_is_hinted_once(tmp_path: Path) -> None:
    async with serving(tmp_path, html("<p>main</p>", cache_control="no-store")) as shop:
        client = await shop.site.connect()
        for _ in range(2):
            shop.gate.clear()
            await client.send(request("/first", headers=GOES))
            assert (await next_of(client)).status == 103
            shop.gate.set()
            assert (await next_of(client)).status == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Accept": "text/html"},
        {**GOES, "Sec-Fetch-Mode": "cors"},
        {**GOES, "Sec-Fetch-Dest": "iframe"},
        {**GOES, "Sec-Purpose": "prefetch"},
        {**GOES, "Accept": "application/json"},
        {**GOES, "Accept": "application/x-ndjson"},
    ],
)
async def test_nobody_is_told_who_would_not_heed_it(tmp_path: Path, headers: Mapping[str, str]) -> None:
    async with serving(tmp_path) as shop:
        assert (await shop.alone(await shop.begin(headers=headers))).status == 200


@pytest.mark.parametrize("settings", ["", 'trusted_proxies: ["127.0.0.1"]\n', 'early_hints: true\ntrusted_proxies: ["10.0.0.1"]\n'])  # fmt: skip
async def test_nobody_is_told_unless_the_operator_says_that_who_is_in_front_understands(
    tmp_path: Path, settings: str
) -> None:
    async with serving(tmp_path, settings=settings) as shop:
        assert (await shop.alone(await shop.begin())).status == 200


@pytest.mark.parametrize("target", ["/loose", "/plain"])
async def test_pages_without_a_primary_or_without_preloads_tell_nothing(tmp_path: Path, target: str) -> None:
    async with serving(tmp_path) as shop:
        assert (await shop.alone(await shop.begin(target))).status == 200


async def test_a_primary_that_is_there_already_holds_nothing_back(tmp_path: Path) -> None:
    kept = PAGES.replace("main: {path: /main}", "main: {path: /main, policy: {cache: {mode: fixed, fresh: 1h}}}")
    async with serving(tmp_path, registration=kept) as shop:
        shop.gate.set()
        client = await shop.begin()
        assert [(await next_of(client)).status for _ in range(2)] == [103, 200]
        await client.send(request("/first", headers=GOES))
        assert (await next_of(client)).status == 200, "its head does not wait; another slot does"


async def test_http_1_0_knows_no_interim_answers(tmp_path: Path) -> None:
    async with serving(tmp_path) as shop:
        client = await shop.site.connect()
        await client.send(request("/first", headers=GOES).replace(b"HTTP/1.1", b"HTTP/1.0"))
        assert (await shop.alone(client)).status == 200


async def test_head_and_post_tell_nothing(tmp_path: Path) -> None:
    async with serving(tmp_path) as shop:
        assert (await shop.alone(await shop.begin(method="HEAD"), head=True)).status == 200
        shop.gate.clear()
        client = await shop.site.connect()
        await client.send(request("/first", "POST", b"a=1", {**GOES, "Sec-Fetch-Site": "same-origin"}))
        assert (await shop.alone(client)).status == 200


async def test_a_conditional_request_is_told_and_gets_the_page(tmp_path: Path) -> None:
    async with serving(tmp_path) as shop:
        client = await shop.begin(headers={**GOES, "If-None-Match": "*", "If-Modified-Since": "Thu, 01 Jan 2026 00:00:00 GMT"})  # fmt: skip
        assert (await next_of(client)).status == 103
        assert (await shop.alone(client)).status == 200


@pytest.mark.parametrize(
    ("answer", "status", "shown"),
    [
        (html("broken", "500 Internal Server Error"), 502, b"Sorry"),
        (html("<p>gone</p>", "404 Not Found"), 404, b"<p>gone</p>"),
        (html("", "302 Found", location="/elsewhere"), 302, b""),
    ],
)
async def test_what_comes_afterwards_is_its_own(tmp_path: Path, answer: bytes, status: int, shown: bytes) -> None:
    async with serving(tmp_path, answer) as shop:
        client = await shop.begin()
        assert "/theme.css" in (await next_of(client)).headers["link"]
        last = await shop.alone(client)
        assert last.status == status
        assert shown in last.body


async def test_a_page_that_is_shed_begins_nothing(tmp_path: Path) -> None:
    async with serving(tmp_path, streams=1) as shop:
        first = await shop.begin()
        assert (await next_of(first)).status == 103
        shed = await next_of(await shop.begin())
        assert (shed.status, shed.headers["retry-after"]) == (503, "1")
        assert (await shop.alone(first)).status == 200


async def test_a_request_behind_another_gets_its_page_alone(tmp_path: Path) -> None:
    async with serving(tmp_path) as shop:
        client = await shop.site.connect()
        await client.send(request("/first", headers=GOES) * 2)
        assert (await next_of(client)).status == 103
        shop.gate.set()
        assert [(await next_of(client)).status for _ in range(2)] == [200, 200]


async def test_a_browser_that_goes_after_the_hints_leaves_nothing_behind(tmp_path: Path) -> None:
    async with serving(tmp_path) as shop:
        client = await shop.begin()
        assert (await next_of(client)).status == 103
        client.reset()
        shop.gate.set()
        assert (await shop.site.ask("/_bff/livez", headers=NONE)).status == 200


# --- behind Debian's nginx --------------------------------------------------------------------------------------------

NGINX = shutil.which("nginx")
VERSION = tuple(map(int, re.findall(r"[0-9]+", subprocess.run([NGINX, "-v"], capture_output=True, text=True, check=True).stderr)[:2])) if NGINX else (0, 0)  # fmt: skip


@asynccontextmanager
async def nginx(folder: Path, upstream: tuple[str, int], rest: str) -> AsyncIterator[int]:
    """A proxy in front of a gateway, with `rest` in its location. Yields its port."""
    port = free_port()
    (folder / "nginx.conf").write_text(f"""
daemon off; worker_processes 1; pid nginx.pid; error_log error.log; {"user root;" if os.geteuid() == 0 else ""}
events {{}}
http {{
  access_log off;
  server {{ listen 127.0.0.1:{port}; location / {{ proxy_pass http://127.0.0.1:{upstream[1]}; {rest} }} }}
}}
""")
    process = await asyncio.create_subprocess_exec(
        str(NGINX), "-p", str(folder), "-c", str(folder / "nginx.conf"), stderr=asyncio.subprocess.DEVNULL
    )
    try:
        yield port
    finally:
        process.terminate()
        await process.wait()


async def reached(port: int) -> Client:
    """A connection to what may still be starting."""
    async with asyncio.timeout(PATIENCE):
        while True:
            try:
                return Client(*await asyncio.open_connection("127.0.0.1", port))
            except ConnectionError:
                await asyncio.sleep(0.01)


KEEPS_ALIVE = 'proxy_http_version 1.1; proxy_set_header Connection "";'


@pytest.mark.skipif(NGINX is None, reason="no nginx here")
@pytest.mark.parametrize(
    ("settings", "rest"),
    [
        pytest.param("", KEEPS_ALIVE, id="not asked for"),
        pytest.param(ON, "proxy_http_version 1.0;", id="by HTTP/1.0"),
        pytest.param(
            ON,
            KEEPS_ALIVE,
            id="by HTTP/1.1",
            marks=pytest.mark.skipif(VERSION < (1, 29), reason="takes a 103 for the answer: why they are off"),
        ),
    ],
)
async def test_nginx_in_front_gets_its_page(tmp_path: Path, settings: str, rest: str) -> None:
    async with serving(tmp_path, settings=settings) as shop:
        shop.gate.set()
        async with nginx(tmp_path, shop.site.server.address, rest) as port:
            for _ in range(2):
                client = await reached(port)
                await client.send(request("/first", headers={**GOES, "Connection": "close"}))
                async with asyncio.timeout(PATIENCE):
                    answer = await client.rest()
                await client.close()
                assert answer.rpartition(b"HTTP/1.1 ")[2].startswith(b"200 OK")
                assert b"<p>main</p>" in answer


# --- what a head refers to --------------------------------------------------------------------------------------------


def told(head: str, links: bytes = b"") -> list[str]:
    """The hints of a page with this in its head."""
    parts = document(b"<p>x</p>", slot(1, "shop/main", kind="primary")).parts
    shell = made_of(*(part if part != b"</head><body>" else head.encode() + part for part in parts))
    found = planner(page(shell), fragments={"shop/main": fragment("shop/main")}).find(b"/p", b"", None, "")
    assert found is not None
    return [line for line in hints.link(replace(found.plan, links=links)).decode().split(", ") if line]


@pytest.mark.parametrize(
    ("head", "line"),
    [
        ('<LINK REL="StyleSheet" HREF=/a.css>', "</a.css>; rel=preload; as=style"),
        ('<link rel="stylesheet" href="/a.css" media="all" crossorigin>', "</a.css>; rel=preload; as=style; crossorigin"),
        ('<link rel="stylesheet" href="/a.css?v=1&amp;w=2">', "</a.css?v=1&w=2>; rel=preload; as=style"),
        ('<link rel="preload" as="font" href="/a.woff2" crossorigin="anonymous">', '</a.woff2>; rel=preload; as=font; crossorigin="anonymous"'),
        ('<link rel="modulepreload" href="/a.js">', "</a.js>; rel=modulepreload"),
        ('<script src="/a.js"></script>', "</a.js>; rel=preload; as=script"),
        ('<script defer type="text/javascript" src="/a.js">x</script>', "</a.js>; rel=preload; as=script"),
        ('<script type="module" src="/a.js" integrity="sha384-x"></script>', '</a.js>; rel=modulepreload; integrity="sha384-x"'),
    ],
)  # fmt: skip
def test_an_element_becomes_a_preload(head: str, line: str) -> None:
    assert told(head) == [line]


@pytest.mark.parametrize(
    "head",
    [
        '<link rel="stylesheet" href="https://cdn.example/a.css">',
        '<link rel="stylesheet" href="//cdn.example/a.css">',
        '<link rel="stylesheet" href="a.css">',
        '<link rel="stylesheet" href="/a b.css">',
        '<link rel="stylesheet" href="/a>;b.css">',
        '<link rel="stylesheet" href="/é.css">',
        '<link rel="stylesheet" href="/a.css" integrity=\'x"; y\'>',
        '<link rel="stylesheet" href="/a.css" media="print">',
        '<link rel="stylesheet" href="/a.css" disabled>',
        '<link rel="alternate stylesheet" href="/a.css">',
        '<link rel="icon" href="/a.png"><link href="/b"><link rel="stylesheet">',
        '<link rel="preload" href="/a.png">',
        '<link rel="preload" as="image" href="/a.png" imagesrcset="/b.png 2x">',
        '<script nomodule src="/a.js"></script><script>import("/b.js")</script>',
        '<script type="importmap" src="/a.json"></script>',
        '<noscript><link rel="stylesheet" href="/a.css"></noscript>',
        '<!-- <link rel="stylesheet" href="/a.css"> -->',
        "<style>@import '/a.css'</style>",
    ],
)
def test_what_is_elsewhere_or_not_for_everybody_is_left_out(head: str) -> None:
    assert told(head) == []


def test_what_is_needed_first_comes_first_and_each_once() -> None:
    head = (
        '<script type="module" src="/m.js"></script><script async src="/late.js"></script><script src="/now.js"></script>'
        '<noscript>x</noscript></noscript><link rel="stylesheet" href="/a.css"><link rel="stylesheet" href="/a.css">'
    )
    lines = told(head, b'</a.css>; rel=preload; as=style, </_bff/assets/n.js>; rel=modulepreload; integrity="sha384-x"')
    assert [line.partition(">")[0] for line in lines] == ["</a.css", "</now.js", "</late.js", "</m.js", "</_bff/assets/n.js"]  # fmt: skip


def test_there_are_no_more_than_help() -> None:
    assert len(told("".join(f'<link rel="stylesheet" href="/{i}.css">' for i in range(MOST + 5)))) == MOST


def test_a_shell_without_a_head_refers_to_nothing() -> None:
    shell = made_of(b"<link rel=stylesheet href=/a.css>", slot(1, "shop/main", kind="primary"))
    found = planner(page(shell), fragments={"shop/main": fragment("shop/main")}).find(b"/p", b"", None, "")
    assert found is not None
    assert hints.link(found.plan) == b""
