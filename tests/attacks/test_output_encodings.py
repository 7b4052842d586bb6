"""Output encodings: a value stays a value in HTML, in JSON within it, in lines of NDJSON, in events and in the log."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from urllib.parse import quote

import pytest
from selectolax.lexbor import LexborHTMLParser

from bff.model import Purge
from tests.attacks.ground import KEEP, Ground, ground, registration
from tests.fakes import PATIENCE
from tests.gateway.proxies import said
from tests.upstream.wire import until

pytestmark = pytest.mark.anyio

TEXTS = [
    "</script><script>alert(1)</script>", "<!--<script>", "'\"><img src=x onerror=alert(1)>", "a\nb\r\nc\n\nd", "\u2028\u2029\u0085", "]]>", "{{7*7}}",
    "${x}", "\\u003c/script>", "&lt;script&gt;", "javascript:alert(1)", "%0d%0a", "\x1b[2J\x1b]0;x\x07", "\U0001f600", "\\", '"', "x" * 250,
]  # fmt: skip
PARAM = {"n": {"type": "str", "default": ""}}


def sayable(text: str) -> str:
    """What a parameter may hold: no control characters (a page whose query has them is 400)."""
    return "".join(char for char in text if char >= " " and not "\x7f" <= char <= "\x9f")


@pytest.mark.parametrize("text", TEXTS)
async def test_a_value_in_a_page_is_text(tmp_path: Path, text: str) -> None:
    """Of a context's JSON through its template, and of a visitor's query through attributes and the overlay's JSON."""
    fragments = {
        "card": {"path": "/card", "source": "json", "template": "card.html", "params": PARAM, "query": {"n": "{n}"}}
    }
    slot = '<bff-fragment name="shop/card" n="{query.n}" data-x="y"></bff-fragment><bff-fragment name="shop/card" n="{query.n}" load="client"></bff-fragment>'
    (tmp_path / "fragments" / "shop").mkdir(parents=True)
    (tmp_path / "fragments" / "shop" / "card.html").write_text(
        '<p title="{{ data.x }}">{{ data.x }}|{{ params.n }}</p>'
    )
    async with ground(tmp_path, registration(slot, fragments, {"query": PARAM}), dev=True) as here:
        here.context.answers["/card"] = said(json.dumps({"x": text}).encode(), content_type="application/json")
        page = await here.page(f"/page?n={quote(sayable(text))}")
        tree = LexborHTMLParser(page)
        assert {each.attributes.get("type") for each in tree.css("script")} <= {"application/json", "module"}
        assert not tree.css("img")
        overlay = tree.css_first("#bff-overlay")
        assert overlay is not None
        assert json.loads(overlay.text())["page"] == "shop/page"
        shown = tree.css_first("[data-slot=s1] p")
        if shown is not None:
            assert shown.attributes["title"] == text.replace("\r\n", "\n").replace("\r", "\n")


@pytest.mark.parametrize("text", TEXTS)
async def test_a_line_of_ndjson_is_one_line(tmp_path: Path, text: str) -> None:
    fragments = {
        "card": {"path": "/card", "params": PARAM, "query": {"n": "{n}"}},
        "data": {"path": "/data", "source": "json", "template": "card.html"},
    }
    slot = '<bff-fragment name="shop/card" n="{query.n}"></bff-fragment><bff-fragment name="shop/data"></bff-fragment>'
    (tmp_path / "fragments" / "shop").mkdir(parents=True)
    (tmp_path / "fragments" / "shop" / "card.html").write_text("<p>x</p>")
    async with ground(tmp_path, registration(slot, fragments, {"query": PARAM})) as here:
        here.context.html("/card", f"<p>{text}</p>", surrogate_key="a b")
        here.context.answers["/data"] = said(json.dumps({"x": text}).encode(), content_type="application/json")
        answer = await here.ask(f"/page?n={quote(sayable(text))}", headers={"Accept": "application/x-ndjson"})
        lines = answer.body.split(b"\n")
        assert lines[-1] == b""
        told = [json.loads(line) for line in lines[:-1]]
        assert len(told) == 4
        assert all(b"\r" not in line for line in lines)
        assert {each["data"]["x"] for each in told if "data" in each} == {text}
        whole = await here.ask(f"/page?n={quote(sayable(text))}", headers={"Accept": "application/json"})
        assert json.loads(whole.body)["slots"]["data"]["data"]["x"] == text
        assert whole.headers["content-type"] == "application/json"
        assert whole.headers["x-content-type-options"] == "nosniff"


UNSPEAKABLE = [
    b'{"x": "\\ud800"}', b'{"x": "\\udfff\\ud800"}', b'{"x": NaN}', b'{"x": Infinity}', b'{"x": 1e999}', b'{"x": "\xff"}', b'{"x": 1} x', b"",
    b"[" * 5000 + b"]" * 5000, b'{"x":' * 400 + b"1" + b"}" * 400, b'{"x": ' + b"9" * 6000 + b"}", '{"x": 1}'.encode("utf-16"),
]  # fmt: skip


@pytest.mark.parametrize("body", UNSPEAKABLE, ids=range(len(UNSPEAKABLE)))
async def test_json_that_could_not_be_written_on_is_refused_at_once_in_every_form(tmp_path: Path, body: bytes) -> None:
    fragments = {"card": {"path": "/card", "source": "json", "template": "card.html"}}
    (tmp_path / "fragments" / "shop").mkdir(parents=True)
    (tmp_path / "fragments" / "shop" / "card.html").write_text("<p>{{ data.x }}</p>")
    async with ground(tmp_path, registration(fragments=fragments, page={"deadline": "20s"})) as here:
        here.context.answers["/card"] = said(body, content_type="application/json")
        document = json.loads((await here.ask(headers={"Accept": "application/json"})).body)
        assert document["slots"]["card"]["reason"] == "refused"
        assert 'state="omitted"' in await here.page()
        assert (await here.ask("/_bff/fragments/shop/card")).status == 502


@pytest.mark.parametrize("text", ["a\nb", "a\r\nevent: evil", "a\n\ndata: evil", "a\rid: 9", ": x", "\u2028data: x"])
async def test_an_event_is_one_event_whatever_its_parameters_and_tags_hold(tmp_path: Path, text: str) -> None:
    fragments = {"card": {"path": "/card", "params": {"n": {"type": "str", "default": "x"}}, "query": {"n": "{n}"}}}
    async with ground(tmp_path, registration(fragments=fragments)) as here:
        here.context.html("/card", "<p>x</p>", cache_control=KEEP, surrogate_key="course:1")
        named = f"shop/card?n={quote(quote(text.replace(chr(10), ' ').replace(chr(13), ' ')))}&n2={quote(text)}"
        for target in (f"/_bff/live?fragment={named}", "/_bff/live?fragment=shop/card&x=" + quote(text)):
            lines = await heard(here, target)
            for line in lines:
                assert line.partition(":")[0] in ("", "retry", "id", "event", "data"), line
            assert [line for line in lines if "evil" in line and not line.startswith("data: {")] == []


async def heard(here: Ground, target: str) -> list[str]:
    """The lines of an event stream until one event has come, or its refusal."""
    await here.ask("/_bff/fragments/shop/card?n=x")
    client = await here.server.connect()
    await client.send(f"GET {target} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
    async with asyncio.timeout(PATIENCE):
        top = await client._reader.readuntil(b"\r\n\r\n")
        if b" 200 " not in top:
            return []
        await until(lambda: len(here.running.changes._listeners))
        await here.running.invalidation.changes.purge(Purge(kind="context", value="shop"))
        here.running.changes._second()
        text = b""
        while b"refresh" not in text:
            text += await client._reader.read(4096)
    return [line for line in text.decode().split("\n") if line and line.strip("\r0123456789abcdef") != ""]


@pytest.mark.parametrize("form", ["json", "console"])
async def test_a_line_of_the_log_is_one_line_without_commands_to_a_terminal(tmp_path: Path, form: str) -> None:
    async with ground(tmp_path) as here:
        here.gateway.log._json = form == "json"
        here.context.answers["/card"] = said(b"x", "200 \x1b[2J", content_type="text/\x1b[31mevil", etag='"\x9b2J"')
        for target in (
            "/page%0a%7b%22event%22:%22evil%22%7d",
            "/page?n=%1b%5b2J",
            "/page%1b[2J",
            "/page%c2%9b2J",
            "/page%e2%80%a8x",
        ):
            await here.ask(target, headers={"User-Agent": "\x1b[2J", "X-Request-Id": "evil", "Referer": "\x9b2J"})
        for line in here.lines():
            assert line.isprintable(), line
            if form == "json":
                assert json.loads(line)["event"] != "evil"


async def test_no_credential_query_or_body_is_in_the_log(tmp_path: Path) -> None:
    primary = '<bff-fragment name="shop/card" primary></bff-fragment>'
    async with ground(tmp_path, registration(primary)) as here:
        sent = {"Authorization": "Bearer secret1", "Cookie": "session=secret2", "X-Forwarded-User": "secret3"}
        await here.ask("/page?token=secret4", headers=sent)
        await here.ask("/page?token=secret4", "POST", b"password=secret5", sent)
        here.context.answers["/card"] = said(b"secret6", "500 x")
        await here.ask("/page?token=secret4", headers=sent)
        assert "secret" not in "".join(here.lines())


async def test_no_label_of_a_metric_is_a_visitors(tmp_path: Path) -> None:
    async with ground(tmp_path) as here:
        for target in (
            '/page"} 1\nevil',
            "/evil",
            "/_bff/fragments/shop/evil",
            "/_bff/fragments/evil/card",
            "/page?evil=1",
        ):
            await here.ask(quote(target, safe="/?=&"), "GET", headers={"X-Evil": "evil"})
        await here.ask("/page", "POST", b"evil", headers={"X-Http-Method-Override": "evil"})
        assert b"evil" not in (await here.ask("/_bff/metrics")).body
