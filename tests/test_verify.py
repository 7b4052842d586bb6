"""A live service against what is registered of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bff.config.options import Settings
from bff.errors import Finding
from bff.registry import Registry
from bff.verify import verify
from tests.fakes import FakeContext, answering
from tests.folders import context

pytestmark = pytest.mark.anyio

FRESH = {"cache-control": "max-age=60", "last-modified": "Tue, 24 Nov 2026 10:00:00 GMT"}
JSON = "application/json"


async def found(
    root: Path, fragment: str, origin: str, *, files: dict[str, str] | None = None, rest: str = "", **asker: Any
) -> list[Finding]:
    """What is found about one fragment, registered as `fragment`."""
    context(root, "shop", f"{rest}fragments:\n  card: {{{fragment}}}\n", files)
    registry = Registry(Settings(fragments=root), {"BFF_UPSTREAM__SHOP": origin})
    world = registry.load()
    assert not [each for each in world.findings if each.severity == "error"], world.findings
    given = {"render": 1.0, "header_bytes": 65536, "principal": None, "headers": ()} | asker
    return await verify(world, "shop", **given)


def codes(findings: list[Finding]) -> list[str]:
    return [each.code for each in findings]


async def test_a_service_that_is_what_it_says(tmp_path: Path) -> None:
    async with FakeContext() as shop:
        headers = FRESH | {"surrogate-key": "card:1 card:2 card:3 card:4"}
        card = shop.route("/card/7", "<p>x</p>", headers=headers)
        told = await found(tmp_path, "path: '/card/{n}', params: {n: {type: int, example: 7}}", shop.origin)
        (summary,) = told
        assert (summary.code, summary.severity, summary.owner, summary.line) == ("verified", "note", "team-shop", 4)
        assert "answered 200 in " in summary.message
        assert summary.message.endswith("8B, fresh for 1m, 4 tags (card:1, card:2, card:3, …)")
        sent = card.requests[0].headers
        assert (sent["accept"], sent["user-agent"], sent["bff-deadline"]) == ("text/html", "bff", "1500")


@pytest.mark.parametrize(
    ("headers", "policy", "code", "severity", "says"),
    [
        ({}, "", "no-lifetime", "note", "Cache-Control"),
        ({}, ", policy: {cache: {fresh: 1s}}", "no-validator", "note", "ETag"),
        ({"cache-control": "no-store"}, "", "not-kept", "note", "(no-store)"),
        ({"vary": "*"}, "", "not-kept", "note", "(Vary: *)"),
        (FRESH | {"set-cookie": "a=b"}, "", "set-cookie", "warning", "never kept"),
        (FRESH | {"vary": "Accept-Encoding, X-Beta"}, "", "vary", "warning", "x-beta"),
        ({"etag": '"1"', "cache-control": "max-age=9"}, "", "no-304", "note", "answered 200 to its own ETag"),
    ],
)
async def test_what_its_headers_mean_for_keeping_it(
    tmp_path: Path, headers: dict[str, str], policy: str, code: str, severity: str, says: str
) -> None:
    async with FakeContext() as shop:
        shop.route("/card", "<p>x</p>", headers=headers)
        told = await found(tmp_path, f"path: /card{policy}", shop.origin)
        assert codes(told) == ["verified", code]
        assert told[1].severity == severity
        assert says in str(told[1])


async def test_nothing_is_said_of_keeping_what_is_never_kept(tmp_path: Path) -> None:
    async with FakeContext() as shop:
        shop.route("/card", "<p>x</p>")
        assert codes(await found(tmp_path, "path: /card, policy: {cache: {mode: off}}", shop.origin)) == ["verified"]


@pytest.mark.parametrize(
    ("status", "code", "severity"),
    [
        (204, "empty", "note"),
        (302, "redirect", "error"),
        (401, "auth", "warning"),
        (404, "not-found", "warning"),
        (418, "status", "error"),
        (500, "status", "error"),
    ],
)
async def test_what_is_no_content(tmp_path: Path, status: int, code: str, severity: str) -> None:
    async with FakeContext() as shop:
        shop.route("/card", "", status=status)
        (told,) = await found(tmp_path, "path: /card", shop.origin)
        assert (told.code, told.severity) == (code, severity)
        assert str(status) in told.message


@pytest.mark.parametrize(
    ("body", "type_", "fragment", "says"),
    [
        ("{}", JSON, "path: /card", "where text/html is expected"),
        ("<p>", "text/html", "path: /card, source: json", "where JSON is expected"),
        ("{", JSON, "path: /card, source: json", "no valid JSON"),
        ('{"n": 0}', JSON, "path: /card, source: json, template: templates/card.html", "card.html"),
    ],
)
async def test_what_no_page_can_show(tmp_path: Path, body: str, type_: str, fragment: str, says: str) -> None:
    async with FakeContext() as shop:
        shop.route("/card", body, type=type_)
        files = {"templates/card.html": "<p>{{ 1 // data.n }}</p>"}
        (told,) = await found(tmp_path, fragment, shop.origin, files=files)
        assert (told.code, told.severity) == ("unreadable", "error")
        assert says in told.message


async def test_markup_that_must_be_mended(tmp_path: Path) -> None:
    async with FakeContext() as shop:
        shop.route("/card", "<p><b>x</p>", headers=FRESH)
        assert codes(await found(tmp_path, "path: /card", shop.origin)) == ["verified", "repaired"]


async def test_limits_are_told_before_they_are_met(tmp_path: Path) -> None:
    async with FakeContext() as shop:
        shop.route("/card", "<p>x</p>" * 110, headers=FRESH)
        told = await found(tmp_path, "path: /card, policy: {max_body: 1KiB}", shop.origin)
        assert codes(told) == ["verified", "large"]
        shop.route("/card", "x" * 2000, headers=FRESH)
        assert codes(await found(tmp_path, "path: /card, policy: {max_body: 1KiB}", shop.origin)) == ["too-large"]
        shop.route("/card", gated=True)
        told = await found(tmp_path, "path: /card, policy: {timeout: {total: 50ms}}", shop.origin)
        assert codes(told) == ["timeout"]


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 9\r\n\r\nx", "torn"),
        (b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 1\r\n\r\nx", "refused"),
    ],
)
async def test_answers_that_are_none(tmp_path: Path, raw: bytes, code: str) -> None:
    async with answering(raw) as origin:
        (told,) = await found(tmp_path, "path: /card", origin)
        assert (told.code, told.severity) == (code, "error")


async def test_nobody_there(tmp_path: Path) -> None:
    async with FakeContext() as shop:
        origin = shop.origin
    (told,) = await found(tmp_path, "path: /card", origin)
    assert told.code == "unreachable"
    assert "start the service" in told.remedy


async def test_what_cannot_be_asked_is_said(tmp_path: Path) -> None:
    async with FakeContext() as shop:
        told = await found(tmp_path, "path: '/{n}', params: {n: {type: int}}", shop.origin)
        assert [(each.code, each.severity) for each in told] == [("no-example", "warning")]
        assert "example: …" in told[0].remedy
        mine = "path: '/mine/{user}/{n}', params: {user: {from: principal}, n: {type: int, default: 1}}"
        assert codes(await found(tmp_path, mine, shop.origin)) == ["not-asked"]
        card = shop.route("/mine/ada/1", "<p>x</p>", headers=FRESH)
        rest = "forward: {headers: [x-a], principal: x-user}\n"
        told = await found(tmp_path, mine, shop.origin, rest=rest, principal="ada", headers=[(b"x-a", b"1")])
        assert codes(told) == ["verified"]
        assert (card.requests[0].headers["x-user"], card.requests[0].headers["x-a"]) == ("ada", "1")
        export = shop.route("/export")
        assert codes(await found(tmp_path, "path: /export, starts_task: true", shop.origin)) == ["not-asked"]
        assert not export.requests


async def test_tasks_that_nobody_wanted(tmp_path: Path) -> None:
    async with FakeContext() as shop:
        shop.route("/card", "", status=202, headers={"location": "/jobs/1"})
        assert codes(await found(tmp_path, "path: /card", shop.origin)) == ["starts-task"]
        shop.route("/card", "", status=202, headers={"location": "http://evil.test/jobs/1"})
        (told,) = await found(tmp_path, "path: /card", shop.origin)
        assert (told.code, told.severity) == ("task-location", "error")


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ({"results": [], "next": None}, []),
        ({"results": [], "next": "/card?page=2"}, []),
        ({"results": [], "next": "/card?cursor=x"}, ["next-unmapped"]),
        ({"items": [], "next": None}, ["no-items"]),
    ],
)
async def test_lists_go_on_where_parameters_say(tmp_path: Path, data: dict[str, Any], expected: list[str]) -> None:
    async with FakeContext() as shop:
        shop.route("/card", json.dumps(data), type=JSON, headers=FRESH)
        made = (
            "path: /card, source: json, paginate: drf, query: {page: '{page}'}, params: {page: {type: int, default: 1}}"
        )
        assert codes(await found(tmp_path, made, shop.origin)) == ["verified", *expected]


async def test_lists_by_links_and_by_fields_of_their_own(tmp_path: Path) -> None:
    async with FakeContext() as shop:
        shop.route("/card", "<p>x</p>", headers=FRESH | {"link": "</card?after=3>; rel=next"})
        assert codes(await found(tmp_path, "path: /card, paginate: link", shop.origin)) == ["verified", "next-unmapped"]
        shop.route("/card", '{"a": {"rows": []}, "next": ""}', type=JSON, headers=FRESH)
        made = "path: /card, source: json, paginate: {items: a.rows, next: a.next}"
        assert codes(await found(tmp_path, made, shop.origin)) == ["verified"]


@pytest.mark.parametrize(
    ("to", "expected"), [("/podium-resource/basket/api/{rest:path}", []), ("/x/{rest:path}", ["no-proxy"])]
)
async def test_podlets_ask_for_their_proxies(tmp_path: Path, to: str, expected: list[str]) -> None:
    async with FakeContext() as shop:
        said = {"name": "basket", "version": "1", "content": "/", "proxy": {"api": "/api"}}
        shop.route("/manifest.json", json.dumps(said), type=JSON)
        shop.route("/", "<p>x</p>", headers=FRESH)
        rest = f'proxy: [{{path: "{to}", to: "/api/{{rest}}"}}]\n'
        told = await found(tmp_path, "path: /manifest.json, source: podium", shop.origin, rest=rest)
        assert codes(told) == ["verified", *expected]
