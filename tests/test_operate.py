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
        (
            {"entries": 0, "kind": "all", "value": "", "soft": False, "everywhere": False},
            "0 entries purged on {} (everything); the store does not take it now, so this holds in the process that answered, and in the others once it does",
        ),
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
        await typed("--tag", "a", "--tag", "b", "--url", server.origin, "--token", "typed")
    assert [json.loads(seen.body) for seen in route.requests] == [
        {"tag": "course:1", "soft": True},
        {"all": True, "soft": False},
        {"tag": ["a", "b"], "soft": False},
    ]
    assert [seen.headers["authorization"] for seen in route.requests[:2]] == ["Bearer from-env", "Bearer typed"]


@pytest.mark.parametrize("words", [(), ("--tag", "a", "--all"), ("--soft",), ("--tag", "")])
async def test_the_command_wants_one_thing(words: tuple[str, ...]) -> None:
    result = await typed(*words, "--token", "x", "--url", "http://127.0.0.1:1")
    assert result.exit_code == 2
    assert "one of --tag, --fragment, --context, --all" in result.output


async def test_the_command_says_why_it_cannot() -> None:
    result = await typed("--all", "--token", "x", "--url", f"http://127.0.0.1:{free_port()}")
    assert result.exit_code == 2
    assert result.output.startswith("error: nobody answers")


# --- overrides and explanations ---------------------------------------------------------------------------------------

MADE = {
    "target": "discovery/card",
    "values": {"timeout.total": "800ms", "state": "stored"},
    "until": "2026-11-24T12:00:00+00:00",
    "by": "operator",
    "reason": "slow since the release",
}


async def said(origin: str, *words: str) -> Result:
    def run() -> Result:
        return CliRunner().invoke(cli.app, [*words, "--url", origin, "--token", "hush"])

    return await anyio.to_thread.run_sync(run)


async def test_an_override_is_asked_for_and_said() -> None:
    async with FakeContext() as server:
        route = server.route("/_bff/admin/overrides", json.dumps(MADE), type="application/json")
        words = ("discovery/card", "timeout.total=800ms", "state=stored", "--for", "2h", "--reason", "slow")
        result = await said(server.origin, "override", *words)
        assert (result.exit_code, result.stderr) == (0, "")
        assert "timeout.total=800ms state=stored until 2026-11-24T12:00:00+00:00" in result.stdout
    sent = json.loads(route.requests[0].body)
    assert sent == {
        "target": "discovery/card",
        "set": {"timeout.total": "800ms", "state": "stored"},
        "for": "2h",
        "reason": "slow",
    }


async def test_overrides_are_listed() -> None:
    async with FakeContext() as server:
        server.route("/_bff/admin/overrides", json.dumps({"overrides": [MADE]}), type="application/json")
        result = await said(server.origin, "override", "--list")
    assert "discovery/card timeout.total=800ms" in result.stdout
    assert "by operator: slow since the release" in result.stdout


async def test_that_nothing_is_overridden_is_said() -> None:
    async with FakeContext() as server:
        server.route("/_bff/admin/overrides", json.dumps({"overrides": []}), type="application/json")
        assert (await said(server.origin, "override", "--list")).stdout == "nothing is overridden\n"


async def test_overrides_are_cleared() -> None:
    async with FakeContext() as server:
        ended = json.dumps({"target": "shop", "ended": 1})
        route = server.route("/_bff/admin/overrides", ended, type="application/json")
        result = await said(server.origin, "override", "shop", "--clear")
    assert result.stdout == f"1 override of shop ended on {server.origin}\n"
    assert route.requests[0].method == "DELETE"


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ((), "say what to override"),
        (("shop", "state=off"), "say for how long and why"),
        (("shop", "state", "--for", "1h", "--reason", "x"), "'state' is no KEY=VALUE"),
    ],
)
def test_an_override_that_is_not_whole_is_exit_code_2(words: tuple[str, ...], why: str) -> None:
    result = CliRunner().invoke(cli.app, ["override", *words, "--url", "http://127.0.0.1:1", "--token", "x"])
    assert result.exit_code == 2
    assert why in result.stderr


async def test_a_running_gateway_is_explained() -> None:
    async with FakeContext() as server:
        lines = {"name": "shop/card", "lines": ["fragment shop/card", "state  on  built-in"]}
        server.route("/_bff/admin/explain", json.dumps(lines), type="application/json")
        result = await said(server.origin, "explain", "shop/card")
    assert result.stdout == "fragment shop/card\nstate  on  built-in\n"


async def test_what_a_running_gateway_does_not_know_is_exit_code_2() -> None:
    async with FakeContext() as server:
        server.route("/_bff/admin/explain", '{"detail": "there is no page or fragment x"}', status=404)
        result = await said(server.origin, "explain", "x")
    assert (result.exit_code, "there is no page or fragment x" in result.stderr) == (2, True)
