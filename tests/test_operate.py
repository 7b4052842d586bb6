"""Asking a running gateway: what is sent, what is said, and what to do where it cannot be done."""

from __future__ import annotations

import json

import anyio
import pytest
from typer.testing import CliRunner, Result

from bff import cli
from bff.chosen import Unusable
from bff.config.options import Settings
from bff.operate import Gateway, gateway
from tests.fakes import FakeContext, answering, free_port

pytestmark = pytest.mark.anyio


async def purge(origin: str, **asked: object) -> str:
    return await anyio.to_thread.run_sync(Gateway(url=origin, token="hush").purge, asked)


@pytest.mark.parametrize(
    ("told", "said"),
    [
        ({"entries": 3, "kind": "tag", "value": "course:1", "soft": False}, "3 entries purged on {} (tag course:1)"),
        ({"entries": 1, "kind": "context", "value": "a", "soft": True}, "1 entry marked stale on {} (context a)"),
        ({"entries": 0, "kind": "all", "value": "", "soft": False}, "0 entries purged on {} (everything)"),
    ],
)
async def test_what_was_purged_is_said(told: dict[str, object], said: str) -> None:
    async with FakeContext() as server:
        route = server.route("/_bff/admin/purge", json.dumps(told), type="application/json")
        assert await purge(server.origin, tag="x") == said.format(server.origin)
    seen = route.requests[0]
    assert (seen.method, json.loads(seen.body)) == ("POST", {"tag": "x"})
    assert seen.headers["authorization"] == "Bearer hush"


@pytest.mark.parametrize(
    ("status", "body", "why"),
    [
        (401, "{}", "does not know this token"),
        (404, "not JSON", "has no admin API"),
        (403, '{"detail": "all is beyond the scope of robot"}', "all is beyond the scope of robot"),
        (400, '{"detail": "there is no context x"}', "there is no context x"),
        (503, "busy", "status 503"),
        (500, "[]", "status 500"),
        (200, "[]", "does not answer as a gateway does"),
        (200, "<html>", "does not answer as a gateway does"),
    ],
)
async def test_why_it_was_not(status: int, body: str, why: str) -> None:
    async with FakeContext() as server:
        server.route("/_bff/admin/purge", body, status=status)
        with pytest.raises(Unusable, match=why):
            await purge(server.origin, tag="x")


async def test_a_token_is_not_shown_to_whom_an_answer_redirects() -> None:
    async with FakeContext() as server, FakeContext() as other:
        elsewhere = other.route("/")
        server.route("/_bff/admin/purge", "", status=302, headers={"location": other.origin + "/"})
        with pytest.raises(Unusable, match="status 302"):
            await purge(server.origin, tag="x")
    assert not elsewhere.requests


async def test_nobody_and_nonsense() -> None:
    with pytest.raises(Unusable, match=r"nobody answers at .*--url"):
        await purge(f"http://127.0.0.1:{free_port()}", tag="x")
    async with answering(b"220 mail.example ESMTP\r\n") as origin:
        with pytest.raises(Unusable, match="does not answer as a gateway does"):
            await purge(origin, tag="x")


@pytest.mark.parametrize(
    ("url", "settings", "wanted"),
    [
        ("", {}, "http://127.0.0.1:8000"),
        ("", {"listen": "0.0.0.0:80"}, "http://127.0.0.1:80"),
        ("", {"listen": "[::]:80"}, "http://[::1]:80"),
        ("", {"admin": {"listen": "127.0.0.1:9000"}}, "http://127.0.0.1:9000"),
        ("https://bff.example/", {}, "https://bff.example"),
    ],
)
def test_which_gateway_is_meant(url: str, settings: dict[str, object], wanted: str) -> None:
    assert gateway(url, "hush", Settings.model_validate(settings)) == Gateway(url=wanted, token="hush")


def test_whose_token_is_shown() -> None:
    settings = Settings.model_validate({"admin": {"token": "from-the-file"}})
    assert gateway("", "", settings).token == "from-the-file"
    assert gateway("", "typed", settings).token == "typed"
    with pytest.raises(Unusable, match="BFF_ADMIN__TOKEN"):
        gateway("", "", Settings())
    with pytest.raises(Unusable, match="no header can carry"):
        gateway("", "a\nb", Settings())


@pytest.mark.parametrize("url", ["127.0.0.1:8000", "file:///etc/passwd", "http://"])
def test_what_is_no_address(url: str) -> None:
    with pytest.raises(Unusable, match="is no gateway's address"):
        gateway(url, "hush", Settings())


# --- as it is typed ---------------------------------------------------------------------------------------------------


async def typed(*words: str, **env: str) -> Result:
    runner = CliRunner(env={"NO_COLOR": "1", "COLUMNS": "100", **env})
    return await anyio.to_thread.run_sync(lambda: runner.invoke(cli.app, ["purge", *words]))


async def test_the_command_says_what_was_purged() -> None:
    told = {"entries": 2, "kind": "tag", "value": "course:1", "soft": True}
    async with FakeContext() as server:
        route = server.route("/_bff/admin/purge", json.dumps(told), type="application/json")
        result = await typed("--tag", "course:1", "--soft", "--url", server.origin, BFF_ADMIN__TOKEN="from-env")
        assert (result.exit_code, result.output) == (0, f"2 entries marked stale on {server.origin} (tag course:1)\n")
        await typed("--all", "--url", server.origin, "--token", "typed")
    assert [json.loads(seen.body) for seen in route.requests] == [
        {"tag": "course:1", "soft": True},
        {"all": True, "soft": False},
    ]
    assert [seen.headers["authorization"] for seen in route.requests] == ["Bearer from-env", "Bearer typed"]


@pytest.mark.parametrize("words", [(), ("--tag", "a", "--all"), ("--soft",), ("--tag", "")])
async def test_the_command_wants_one_thing(words: tuple[str, ...]) -> None:
    result = await typed(*words, "--token", "x", "--url", "http://127.0.0.1:1")
    assert result.exit_code == 2
    assert "one of --tag, --fragment, --context, --all" in result.output


async def test_the_command_says_why_it_cannot() -> None:
    result = await typed("--all", "--token", "x", "--url", f"http://127.0.0.1:{free_port()}")
    assert result.exit_code == 2
    assert result.output.startswith("error: nobody answers")
