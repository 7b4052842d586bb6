"""The demo's publisher: a title is changed, and everybody who keeps a copy is told, as Open edX tells it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx2
import pytest
from redis.asyncio import Redis

from bff.events import payload
from bff.events.event import Event, from_http, from_message
from bff.events.signature import HEADER, valid
from tests.events.telling import CATALOG, TOPIC, attributes
from tests.fakes import FakeContext
from tests.redis import redis_server

from .demo import client, create, load

pytestmark = pytest.mark.anyio
COURSE = "/api/v1/courses/HarborX+NAV101/"
RUNS = ["course-v1:HarborX+NAV101+R1", "course-v1:HarborX+NAV101+R2"]


async def rename(app: Any, title: object) -> httpx2.Response:
    async with client(app) as http:
        return await http.patch(COURSE, json={"title": title})


def keys(events: list[Event]) -> list[str]:
    return [event.data["catalog_info"]["course_key"] for event in events]


async def test_every_answer_has_the_new_title() -> None:
    app = create("discovery", env={})
    async with client(app) as http:
        before = (await http.get(COURSE)).json()
        assert (await rename(app, "  Winds and tides ")).json()["title"] == "Winds and tides"
        after = (await http.get(COURSE)).json()
        assert after["title"] == after["course_runs"][0]["title"] == "Winds and tides"
        assert after["modified"] > before["modified"]
        other = (await http.get("/api/v1/courses/?page_size=100")).json()["results"]
        assert [row["modified"] for row in other if row["key"] != after["key"]] == [before["modified"]] * (
            len(other) - 1
        )
        programs = (await http.get("/api/v1/programs/")).text
        assert before["title"] not in programs
        assert "Winds and tides" in programs


@pytest.mark.parametrize("title", ["", "  ", "x" * 201, 7, None])
async def test_a_title_that_is_none(title: object) -> None:
    answer = await rename(create("discovery", env={}), title)
    assert answer.status_code == 400
    assert "title" in answer.json()


async def test_what_is_not_there_cannot_be_renamed_nor_what_is_not_said() -> None:
    async with client(create("discovery", env={})) as http:
        assert (await http.patch("/api/v1/courses/No+Such/", json={"title": "x"})).status_code == 404
        assert (await http.patch(COURSE, content=b"{")).status_code == 400


async def test_an_answer_says_what_it_is_made_of() -> None:
    async with client(create("discovery", env={})) as http:

        async def tags(path: str) -> list[str]:
            return (await http.get(path)).headers["surrogate-key"].split()

        assert await tags(COURSE) == ["course:HarborX+NAV101", *(f"course:{run}" for run in RUNS)]
        assert await tags(f"/api/v1/course_runs/{RUNS[0]}/") == [f"course:{RUNS[0]}"]
        assert {f"course:{run}" for run in RUNS} <= {*await tags("/api/v1/courses/?page_size=100")}
        assert {f"course:{run}" for run in RUNS} <= {*await tags("/api/v1/programs/?page_size=100")}


async def test_the_webhook_is_told_of_each_run() -> None:
    async with FakeContext() as gateway:
        route = gateway.route("/_bff/events", "", status=202)
        app = create("discovery", env={"EVENTS_WEBHOOK": f"{gateway.origin}/_bff/events", "EVENTS_SECRET": "hush"})
        assert (await rename(app, "Winds and tides")).status_code == 200
    events = [from_http(seen.headers, seen.body, payload.read) for seen in route.requests]
    assert keys(events) == RUNS
    assert {event.type for event in events} == {CATALOG}
    assert {event.data["catalog_info"]["name"] for event in events} == {"Winds and tides"}
    for seen, event in zip(route.requests, events, strict=True):
        assert event.time is not None
        assert valid(seen.headers[HEADER], seen.body, "hush", wall=event.time)


@pytest.mark.parametrize(("prefix", "stream"), [("dev", f"dev-{TOPIC}"), ("", TOPIC)])
async def test_the_bus_is_told_as_edx_event_bus_redis_does(tmp_path: Path, prefix: str, stream: str) -> None:
    async with redis_server(tmp_path) as server, Redis.from_url(server.url) as redis:
        await rename(create("discovery", env={"EVENTS_BUS": server.url, "EVENTS_PREFIX": prefix}), "Winds and tides")
        entries: Any = await redis.xrange(stream)
        told = [fields for _, fields in entries]
    assert {name.decode() for name in told[0]} == {*attributes(0)[0], "event_data"}
    assert keys([read(fields) for fields in told]) == RUNS


def read(fields: Mapping[Any, bytes]) -> Event:
    plain = {name.decode(): value for name, value in fields.items()}
    body = plain.pop("event_data")
    return from_message({name: value.decode() for name, value in plain.items()}, body, payload.read)


@pytest.mark.parametrize("number", [0, 1])
def test_its_avro_is_that_of_openedx_events(number: int) -> None:
    told, body = attributes(number)
    announcer = load("discovery").Announcer({})
    assert announcer.avro(payload.read(told["type"], body)["catalog_info"]) == body


async def test_nobody_who_cannot_be_reached_holds_up_a_change(capsys: pytest.CaptureFixture[str]) -> None:
    env = {"EVENTS_WEBHOOK": "http://127.0.0.1:1/", "EVENTS_BUS": "redis://127.0.0.1:1/0"}
    assert (await rename(create("discovery", env=env), "Winds and tides")).status_code == 200
    assert capsys.readouterr().err.count("a change could not be told") == 4
