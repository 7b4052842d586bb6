"""The operators' API: who may, what it does, what is on record."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from bff.config.options import Admin as Options
from bff.gateway.admin import LARGEST, MOST, NAMED, RECENT, Admin
from bff.gateway.logs import Log
from bff.gateway.overriding import Overrides
from bff.model import Purge
from bff.registry import World
from bff.rules.overrides import Layers
from tests.build import fragment as registered
from tests.worlds import built, fragment, world

pytestmark = pytest.mark.anyio

ADMIN = "/_bff/admin/"
OPERATOR = {"authorization": "Bearer operators-own"}
TEAM = {"authorization": "Bearer team-discovery"}
OPTIONS = {
    "token": "operators-own",
    "tokens": {
        "discovery": {"token": "team-discovery", "scope": ["discovery", "site"]},
        "robot": {"token": "robots-token", "scope": "*"},
    },
}
WORLD = world(
    built("discovery", fragment("discovery/card"), fragment("discovery/list")),
    built("ecommerce", fragment("ecommerce/lines")),
)

CEILINGS: dict[str, object] = {"timeout.total": 10.0}


class Desk:
    """The API with what it was made to do."""

    def __init__(
        self, options: dict[str, Any] | None = None, known: World = WORLD, numbers: dict[str, Any] | None = None
    ) -> None:
        self.numbers = numbers or {}
        self.purges: list[Purge] = []
        self.written: list[bytes] = []
        self.log = Log(write=self.written.append, clock=lambda: 60.0)
        self.held: list[Layers] = []
        self.overrides = Overrides(
            None,
            world=lambda: WORLD,
            ceilings=lambda: CEILINGS,
            trusted=lambda context, level: (context, level) != ("discovery", "checked"),
            apply=self._apply,
            log=self.log,
            wall=lambda: 0.0,
        )
        self.admin = Admin(
            Options.model_validate(OPTIONS if options is None else options),
            world=lambda: known,
            purging=self._purge,
            status=self._status,
            live=lambda fragment: [f"now {fragment}  breaker closed"],
            overrides=self.overrides,
            ceilings=lambda: CEILINGS,
            log=self.log,
            wall=lambda: 0.0,
        )

    async def _status(self) -> dict[str, Any]:
        counted = {"contexts": {}, "fragments": {}, "pages": {}, **self.numbers}
        return {
            **counted,
            "process": {},
            "bounds": {},
            "store": {"entries": 7},
            "events": {},
            "actions": self.admin.recent,
        }

    async def _apply(self, layers: Layers) -> None:
        self.held.append(layers)

    async def _purge(self, purges: Iterable[Purge], soft: bool) -> int:
        made = [*purges]
        assert all(each.soft is soft for each in made)
        self.purges += made
        return 3 * len(made)

    def lines(self) -> list[dict[str, Any]]:
        self.log.flush()
        return [json.loads(line) for line in b"".join(self.written).splitlines()]

    @asynccontextmanager
    async def client(self) -> AsyncIterator[httpx2.AsyncClient]:
        async def answer(request: Request) -> Response:
            answered = await self.admin.answer(request)
            response = Response(answered.body, answered.status)
            response.raw_headers = list(answered.headers)
            return response

        methods = ["GET", "HEAD", "POST", "PUT", "DELETE"]
        app = Starlette(routes=[Route("/_bff/admin/{what:path}", answer, methods=methods)])
        transport = httpx2.ASGITransport(app)
        async with httpx2.AsyncClient(transport=transport, base_url="http://bff.example") as client:
            yield client

    async def purge(self, body: object, headers: dict[str, str] = OPERATOR) -> httpx2.Response:
        async with self.client() as client:
            return await client.post("/_bff/admin/purge", json=body, headers=headers)


# --- who may ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["status", "purge", "nothing"])
async def test_without_a_token_there_is_no_admin(path: str) -> None:
    async with Desk({}).client() as client:
        for headers in ({}, OPERATOR, {"authorization": "Bearer "}):
            assert (await client.get(f"/_bff/admin/{path}", headers=headers)).status_code == 404


@pytest.mark.parametrize(
    "shown",
    [
        "",
        "Bearer",
        "Bearer ",
        "Bearer wrong",
        "Bearer operators-ow",
        "Bearer operators-own2",
        "Basic operators-own",
        "operators-own",
    ],
)
async def test_a_wrong_token_is_nobody(shown: str) -> None:
    async with Desk().client() as client:
        answer = await client.get("/_bff/admin/status", headers={"authorization": shown} if shown else {})
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"].startswith("Bearer")
        assert answer.headers["content-type"] == "application/problem+json"
        assert (await client.get("/_bff/admin/nothing")).status_code == 401, "nobody learns what there is"


@pytest.mark.parametrize("shown", ["Bearer operators-own", "bearer  operators-own", "Bearer robots-token"])
async def test_a_right_token_is_somebody(shown: str) -> None:
    async with Desk().client() as client:
        assert (await client.get("/_bff/admin/status", headers={"authorization": shown})).status_code == 200


@pytest.mark.parametrize(
    "header", [{"sec-fetch-site": "cross-site"}, {"sec-fetch-site": "same-site"}, {"origin": "https://evil.example"}]
)
async def test_another_site_may_nothing(header: dict[str, str]) -> None:
    desk = Desk()
    answer = await desk.purge({"all": True}, OPERATOR | header)
    assert answer.status_code == 403
    assert not desk.purges
    assert (await desk.purge({"all": True}, OPERATOR | {"origin": "http://bff.example"})).status_code == 200


# --- purge ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "wanted"),
    [
        ({"tag": "course:1"}, Purge(kind="tag", value="course:1")),
        ({"tag": "course:1", "soft": True}, Purge(kind="tag", value="course:1", soft=True)),
        ({"fragment": "discovery/card"}, Purge(kind="fragment", value="discovery/card")),
        ({"fragment": "discovery/proxy"}, Purge(kind="fragment", value="discovery/proxy")),
        ({"context": "ecommerce", "soft": False}, Purge(kind="context", value="ecommerce")),
        ({"all": True}, Purge(kind="all")),
    ],
)
async def test_a_purge_is_carried_out_and_recorded(body: dict[str, object], wanted: Purge) -> None:
    desk = Desk()
    answer = await desk.purge(body)
    assert answer.status_code == 200
    told = {"kind": wanted.kind, "value": wanted.value, "soft": wanted.soft, "entries": 3}
    assert answer.json() == told | {"everywhere": True}
    assert desk.purges == [wanted]
    line = {"time": "1970-01-01T00:01:00.000Z", "level": "info", "event": "admin", "who": "operator", "action": "purge"}
    assert desk.lines() == [line | told]


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ({}, "0 things are named"),
        ({"tag": "a", "all": True}, "2 things are named"),
        ({"tag": "a", "hard": True}, "'hard' is unknown"),
        ({"tag": ""}, "tag must be a text"),
        ({"tag": []}, "tag must be a text, or a list of texts"),
        ({"tag": ["a", 1]}, "tag must be a text, or a list of texts"),
        ({"tag": ["a", ""]}, "tag must be a text, or a list of texts"),
        ({"tag": [f"t{number}" for number in range(MOST + 1)]}, "at most 10000 tags at once"),
        ({"context": ["discovery"]}, "context must be a text"),
        ({"all": False}, "all must be true"),
        ({"tag": "a", "soft": "yes"}, "soft must be true or false"),
        ({"context": "discvery"}, "did you mean 'discovery'?"),
        ({"fragment": "discovery/crad"}, "did you mean 'discovery/card'?"),
        (["tag"], "must be a JSON object"),
    ],
)
async def test_what_is_not_understood_is_told_and_does_nothing(body: object, why: str) -> None:
    desk = Desk()
    answer = await desk.purge(body)
    assert answer.status_code == 400
    assert why in answer.json()["detail"]
    assert not desk.purges
    assert desk.lines()[0]["refused"] == answer.json()["detail"]


async def test_bodies_that_are_none() -> None:
    async with Desk().client() as client:
        for body, status in ((b"", 400), (b"{", 400), (b"\xff", 400), (b" " * (LARGEST + 1), 413)):
            answer = await client.post("/_bff/admin/purge", content=body, headers=OPERATOR)
            assert answer.status_code == status


@pytest.mark.parametrize(
    "body",
    [
        {"all": True},
        {"context": "ecommerce"},
        {"fragment": "ecommerce/lines"},
        {"context": "no-such"},
        {"fragment": "x"},
    ],
)
async def test_a_team_may_nothing_beyond_its_scope(body: dict[str, object]) -> None:
    desk = Desk()
    answer = await desk.purge(body, TEAM)
    assert answer.status_code == 403
    assert "discovery" in answer.json()["detail"]
    assert not desk.purges
    assert desk.lines()[0]["who"] == "discovery"


async def test_a_teams_tag_is_confined_to_its_contexts() -> None:
    desk = Desk()
    answer = await desk.purge({"tag": "course:1"}, TEAM)
    assert answer.json()["entries"] == 6
    assert desk.purges == [Purge(kind="tag", value="course:1", context=name) for name in ("discovery", "site")]


async def test_many_tags_are_purged_by_one_request_and_recorded_as_one_action() -> None:
    desk = Desk()
    tags = [f"course:{number}" for number in range(NAMED + 2)]
    answer = await desk.purge({"tag": [*tags, "course:0"], "soft": True})
    said = ", ".join(tags[:NAMED]) + " and 2 more"
    assert answer.json() == {"entries": 66, "kind": "tag", "value": said, "soft": True, "everywhere": True}
    assert desk.purges == [Purge(kind="tag", value=tag, soft=True) for tag in tags]
    assert [line["value"] for line in desk.lines()] == [said]
    answer = await desk.purge({"tag": ["a", "b"]}, TEAM)
    assert (answer.json()["entries"], answer.json()["value"]) == (12, "a, b")
    assert {each.context for each in desk.purges[-4:]} == {"discovery", "site"}
    refused = await desk.purge({"tag": [*map(str, range(MOST))]}, TEAM)
    assert "at most 5000 tags at once" in refused.json()["detail"]


async def test_a_teams_mistakes_tell_nothing_of_others() -> None:
    answer = await Desk().purge({"fragment": "discovery/lines"}, TEAM)
    assert answer.status_code == 400
    assert "ecommerce" not in answer.text


@pytest.mark.parametrize(("method", "path", "allow"), [("GET", "purge", "POST"), ("POST", "status", "GET, HEAD")])
async def test_methods(method: str, path: str, allow: str) -> None:
    async with Desk().client() as client:
        answer = await client.request(method, f"/_bff/admin/{path}", headers=OPERATOR)
        assert answer.status_code == 405
        assert answer.headers["allow"] == allow
        assert (await client.get("/_bff/admin/nothing", headers=OPERATOR)).status_code == 404


# --- status -----------------------------------------------------------------------------------------------------------


async def test_the_status_says_what_there_is() -> None:
    desk = Desk()
    await desk.purge({"all": True})
    await desk.purge({"tag": "a"}, TEAM)
    async with desk.client() as client:
        told = (await client.get("/_bff/admin/status", headers=OPERATOR)).json()
    assert [context["name"] for context in told["contexts"]] == ["discovery", "ecommerce"]
    assert told["contexts"][0] == {
        "name": "discovery",
        "owner": "team-discovery",
        "contact": "",
        "loaded": True,
        "events": [],
        "proxy": {},
    }
    assert told["bearer"] == {"name": "operator", "scope": "*"}
    assert told["overrides"] == []
    assert [each["name"] for each in told["fragments"]] == ["discovery/card", "discovery/list", "ecommerce/lines"]
    assert told["store"] == {"entries": 7}
    assert [(action["who"], action["kind"]) for action in told["actions"]] == [
        ("discovery", "tag"),
        ("operator", "all"),
    ]


async def test_a_team_sees_its_own() -> None:
    desk = Desk()
    await desk.purge({"all": True})
    await desk.purge({"tag": "a"}, TEAM)
    async with desk.client() as client:
        told = (await client.get("/_bff/admin/status", headers=TEAM)).json()
    assert [context["name"] for context in told["contexts"]] == ["discovery"]
    assert {each["name"].partition("/")[0] for each in told["fragments"]} == {"discovery"}
    assert [action["who"] for action in told["actions"]] == ["discovery"]


async def test_the_status_counts_what_the_scope_reaches() -> None:
    ends, statuses = {"ends": {"fresh": {"ok": 3}}}, {"statuses": {"200": 3}}
    fragments = dict.fromkeys(("discovery/card", "discovery/proxy", "ecommerce/lines"), ends)
    desk = Desk(numbers={"fragments": fragments, "contexts": {"discovery": statuses, "ecommerce": statuses}})
    await desk.overrides.add("discovery/card", {"state": "stored"}, lasting="1h", reason="slow", by="ada")
    await desk.overrides.add("ecommerce", {"state": "off"}, lasting="1h", reason="gone", by="ada")
    async with desk.client() as client:
        told = (await client.get("/_bff/admin/status", headers=TEAM)).json()
    assert told["bearer"] == {"name": "discovery", "scope": ["discovery", "site"]}
    assert told["fragments"][0]["ends"] == {"fresh": {"ok": 3}}
    assert told["contexts"][0]["statuses"] == {"200": 3}
    assert told["contexts"][0]["proxy"] == {"ends": {"fresh": {"ok": 3}}}
    assert [each["target"] for each in told["overrides"]] == ["discovery/card"]
    assert "ecommerce" not in json.dumps(told)


# --- the dashboard ----------------------------------------------------------------------------------------------------


async def test_the_dashboards_shell_is_for_anybody_and_holds_nothing() -> None:
    async with Desk().client() as client:
        for headers in ({}, {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}):
            answer = await client.get(ADMIN, headers=headers)
            assert (answer.status_code, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert "<script>" not in answer.text
        assert "discovery" not in answer.text
        assert (await client.post(ADMIN)).status_code == 401
        assert (await client.post(ADMIN, headers=OPERATOR)).status_code == 404
    async with Desk({}).client() as client:
        assert (await client.get(ADMIN)).status_code == 404


async def test_the_record_has_an_end() -> None:
    desk = Desk()
    async with desk.client() as client:
        for number in range(RECENT + 5):
            await client.post("/_bff/admin/purge", json={"tag": str(number)}, headers=OPERATOR)
        told = (await client.get("/_bff/admin/status", headers=OPERATOR)).json()
    assert len(told["actions"]) == RECENT
    assert told["actions"][0]["value"] == str(RECENT + 4)


# --- overrides --------------------------------------------------------------------------------------------------------

SLOW = {"target": "discovery/card", "set": {"timeout.total": "800ms"}, "for": "2h", "reason": "slow since the release"}


async def test_an_override_holds_for_a_while_and_is_on_record() -> None:
    desk = Desk()
    async with desk.client() as client:
        made = await client.post(ADMIN + "overrides", json=SLOW, headers=OPERATOR)
        assert made.status_code == 200
        assert made.json()["until"] == "1970-01-01T02:00:00+00:00"
        listed = (await client.get(ADMIN + "overrides", headers=OPERATOR)).json()["overrides"]
    assert [(each["target"], each["values"], each["by"]) for each in listed] == [
        ("discovery/card", {"timeout.total": "800ms"}, "operator")
    ]
    assert desk.held[-1].fragments == {"discovery/card": {"timeout.total": 0.8}}
    assert desk.lines()[-1]["reason"] == "slow since the release"


async def test_trust_is_taken_from_a_fragment_or_a_whole_context() -> None:
    desk = Desk()
    async with desk.client() as client:
        for target, level in ("discovery/card", "sandboxed"), ("discovery", "sanitized"):
            asked = SLOW | {"target": target, "set": {"trust": level}}
            assert (await client.post(ADMIN + "overrides", json=asked, headers=OPERATOR)).status_code == 200
    assert desk.held[-1].trust == {"discovery/card": "sandboxed", "discovery": "sanitized"}


async def test_an_override_is_cleared() -> None:
    desk = Desk()
    async with desk.client() as client:
        await client.post(ADMIN + "overrides", json=SLOW, headers=OPERATOR)
        gone = await client.delete(ADMIN + "overrides?target=discovery/card", headers=OPERATOR)
        assert gone.json() == {"target": "discovery/card", "ended": 1, "everywhere": True}
    assert desk.held[-1].fragments == {}
    assert desk.overrides.listed() == []


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"set": {"timeout.totl": "1s"}}, "did you mean 'timeout.total'"),
        ({"set": {"timeout.total": "1"}}, "is not a duration"),
        ({"set": {"timeout.total": "20s"}}, "beyond the ceiling, 10s"),
        ({"set": {}}, "KEY=VALUE"),
        ({"set": []}, '"set": {KEY: VALUE}'),
        ({"for": "1y"}, "is not a duration"),
        ({"for": "365d"}, "belongs into bff.yaml"),
        ({"reason": " "}, "say why"),
        ({"target": "discovery/crad"}, "did you mean 'discovery/card'"),
        ({"target": "discovery/card", "set": {"deadline": "1s"}}, "no key deadline"),
        ({"set": {"trust": "full"}}, "checked, sanitized, sandboxed"),
        ({"set": {"trust": "checked"}}, "`allow` in bff.yaml"),
    ],
)
async def test_an_override_that_makes_no_sense_is_refused(change: dict[str, Any], why: str) -> None:
    desk = Desk()
    async with desk.client() as client:
        answer = await client.post(ADMIN + "overrides", json=SLOW | change, headers=OPERATOR)
    assert answer.status_code == 400
    assert why in answer.json()["detail"]
    assert desk.held == []


async def test_overrides_stay_within_the_tokens_scope() -> None:
    desk = Desk()
    theirs = {"authorization": "Bearer team-discovery"}
    async with desk.client() as client:
        assert (await client.post(ADMIN + "overrides", json=SLOW, headers=theirs)).status_code == 200
        others = SLOW | {"target": "ecommerce/lines"}
        assert (await client.post(ADMIN + "overrides", json=others, headers=theirs)).status_code == 403
        await client.post(ADMIN + "overrides", json=others, headers=OPERATOR)
        listed = (await client.get(ADMIN + "overrides", headers=theirs)).json()["overrides"]
        assert [each["target"] for each in listed] == ["discovery/card"]
        assert (await client.delete(ADMIN + "overrides?target=ecommerce/lines", headers=theirs)).status_code == 403
        assert (await client.get(ADMIN + "explain?name=ecommerce/lines", headers=theirs)).status_code == 403
        assert (await client.put(ADMIN + "overrides", headers=OPERATOR)).status_code == 405


async def test_the_running_gateway_explains_its_policy() -> None:
    desk = Desk(known=world(built("discovery", registered("discovery/card"))))
    async with desk.client() as client:
        said = (await client.get(ADMIN + "explain?name=discovery/card", headers=OPERATOR)).json()
        assert said["lines"][0].startswith("fragment discovery/card")
        assert said["lines"][-1] == "now discovery/card  breaker closed"
        unknown = await client.get(ADMIN + "explain?name=discovery/crad", headers=OPERATOR)
    assert unknown.status_code == 404
    assert "did you mean discovery/card" in unknown.json()["detail"]
