import asyncio
import json
from collections.abc import Mapping
from typing import Any

import pytest

from bff.gateway import fragments as endpoint
from bff.gateway.problems import Answer
from bff.gateway.tasks import Tasks, task_location
from bff.model import Forward, Grant, Outcome, Reason, Result
from tests.build import World, fragment

pytestmark = pytest.mark.anyio

EXPORT = fragment(
    "shop/export",
    starts_task=True,
    forward=Forward(principal="x-user"),
    grant=Grant(redirects=("https://bucket.test",)),
)
JOB = {"job_id": "1", "state": "In Progress", "result": None}


class Desk:
    """The endpoint over upstreams that the test speaks for."""

    def __init__(self) -> None:
        self.world = World(fragments={"shop/export": EXPORT})
        self.tasks = Tasks(
            underway=self.world.tasks,
            fetch=self.world.upstreams,
            telemetry=self.world.seen,
            find=self.world.planner.fragments.get,
        )
        self.task = self.world.tasks.begin("shop/export", "/jobs/1", "key")

    def id(self, principal: str | None = "ada") -> str:
        return self.world.tasks.url(self.task, principal).removeprefix("/_bff/tasks/")

    def begun(
        self, what: str = "status", *, html: bool = False, principal: str | None = "ada"
    ) -> "asyncio.Task[Answer]":
        return asyncio.ensure_future(getattr(self.tasks, what)(self.id(), self.world.visit(principal), html=html))

    async def status(self, job: Mapping[str, Any], status: int = 200, *, html: bool = False, **headers: str) -> Answer:
        task = self.begun(html=html)
        await asyncio.sleep(0)
        self.world.upstreams.to("/jobs/1").reply(json.dumps(job).encode(), status, b"application/json", **headers)
        return await task

    async def result(self, job: Mapping[str, Any]) -> "asyncio.Task[Answer]":
        """The result asked for, and the job's own answer given."""
        task = self.begun("result")
        await asyncio.sleep(0)
        self.world.upstreams.to("/jobs/1").reply(json.dumps(job).encode(), 200, b"application/json")
        await asyncio.sleep(0)
        return task


async def test_a_task_under_way_says_how_far_and_when_to_ask_again() -> None:
    desk = Desk()
    answer = await desk.status(JOB | {"completed_steps": 1, "total_steps": 4})
    assert answer.status == 200
    assert json.loads(answer.body) == {"id": desk.id(), "state": "running", "progress": 0.25, "result": None}
    head = dict(answer.headers)
    assert (head[b"cache-control"], head[b"retry-after"]) == (b"no-store", b"1")
    assert desk.world.upstreams.flown[0].headers["x-user"] == "ada"
    desk.world.loop.advance(40)
    assert dict((await desk.status(JOB)).headers)[b"retry-after"] == b"8"
    assert dict((await desk.status(JOB, retry_after="33")).headers)[b"retry-after"] == b"33"
    assert desk.world.tasks.known("key") == desk.task


async def test_a_task_that_has_ended_is_forgotten_and_its_result_is_the_gateways() -> None:
    desk = Desk()
    answer = await desk.status(JOB | {"state": "Succeeded", "result": "http://127.0.0.1:9100/media/1.csv"})
    said = json.loads(answer.body)
    assert said == {
        "id": desk.id(),
        "state": "succeeded",
        "progress": None,
        "result": f"/_bff/tasks/{desk.id()}/result",
    }
    assert b"retry-after" not in dict(answer.headers)
    assert desk.world.tasks.known("key") is None
    assert json.loads((await desk.status(JOB | {"state": "Failed"})).body)["result"] is None
    assert json.loads((await desk.status(JOB | {"state": "Canceled"})).body)["state"] == "canceled"
    assert json.loads((await desk.status(JOB | {"state": "Succeeded"})).body)["result"] is None


@pytest.mark.parametrize("what", ["status", "result"])
async def test_what_is_unknown_forged_or_anothers_is_not_there(what: str) -> None:
    desk = Desk()
    visit = desk.world.visit("ada")
    own, bobs = desk.id(), desk.id("bob")
    for signed in ("x", "", ".", bobs, desk.id(None), own[:-2], "e30." + own.partition(".")[2]):
        answer = await getattr(desk.tasks, what)(signed, visit, html=False)
        assert answer.status == 404
    assert (await desk.begun(what, principal="bob")).status == 404
    gone = desk.world.tasks.begin("shop/gone", "/jobs/2", None)
    signed = desk.world.tasks.url(gone, "ada").removeprefix("/_bff/tasks/")
    assert (await getattr(desk.tasks, what)(signed, visit, html=False)).status == 404
    assert not desk.world.upstreams.flown


@pytest.mark.parametrize(
    ("reason", "status"), [(Reason.TIMEOUT, 504), (Reason.CONNECT, 502), (Reason.CONCURRENCY, 503)]
)
async def test_a_context_that_does_not_answer_is_asked_again(reason: Reason, status: int) -> None:
    for what in ("status", "result"):
        desk = Desk()
        task = desk.begun(what)
        await asyncio.sleep(0)
        desk.world.upstreams.to("/jobs/1").fail(reason)
        answer = await task
        assert answer.status == status
        assert dict(answer.headers)[b"retry-after"] == b"1"
        assert desk.world.tasks.known("key") == desk.task


@pytest.mark.parametrize(("given", "status"), [(404, 404), (410, 404), (403, 403), (500, 502), (418, 502)])
async def test_a_context_that_knows_no_such_job(given: int, status: int) -> None:
    desk = Desk()
    answer = await desk.status({"detail": "no"}, given)
    assert answer.status == status
    assert (b"retry-after" in dict(answer.headers)) is (status == 502)
    assert (desk.world.tasks.known("key") is None) is (status == 404)


async def test_without_scripts_the_task_is_a_page_that_renews_itself() -> None:
    desk = Desk()
    answer = await desk.status(JOB | {"progress": 0.4}, html=True)
    head = dict(answer.headers)
    assert (head[b"content-type"], head[b"refresh"]) == (b"text/html; charset=utf-8", b"1")
    assert b'<progress value="0.4">40%</progress>' in answer.body
    answer = await desk.status(JOB | {"state": "Succeeded", "result": "/media/1.csv"}, html=True)
    assert b"refresh" not in dict(answer.headers)
    assert f'<a href="/_bff/tasks/{desk.id()}/result">'.encode() in answer.body
    answer = await desk.status(JOB | {"state": "Failed"}, html=True)
    assert b"This did not work" in answer.body


async def test_the_result_passes_through_with_its_type_and_name() -> None:
    desk = Desk()
    task = await desk.result(JOB | {"state": "Succeeded", "result": "../media/1.csv"})
    desk.world.upstreams.to("/media/1.csv").reply(
        b"a,b\n", 200, b"text/csv", content_disposition='attachment; filename="1.csv"', set_cookie="a=b", server="x"
    )
    answer = await task
    assert (answer.status, answer.body) == (200, b"a,b\n")
    head = dict(answer.headers)
    assert head[b"content-type"] == b"text/csv"
    assert head[b"content-disposition"] == b'attachment; filename="1.csv"'
    assert head[b"content-length"] == b"4"
    assert head[b"content-security-policy"].startswith(b"sandbox;")
    assert head[b"cache-control"] == b"no-store"
    assert b"set-cookie" not in head
    assert b"server" not in head
    assert desk.world.upstreams.flown[-1].headers["x-user"] == "ada"


async def test_a_job_that_is_its_own_result() -> None:
    desk = Desk()
    task = desk.begun("result")
    await asyncio.sleep(0)
    desk.world.upstreams.to("/jobs/1").reply(b"<h1>Report</h1>", 200, b"text/html")
    answer = await task
    assert (answer.status, answer.body) == (200, b"<h1>Report</h1>")


async def test_redirects_lead_to_a_result_within_reason() -> None:
    desk = Desk()
    task = desk.begun("result")
    await asyncio.sleep(0)
    desk.world.upstreams.to("/jobs/1").reply(b"", 303, location="/a")
    for here, there in (("/a", "/b"), ("/b", "/c"), ("/c", "/d")):
        await asyncio.sleep(0)
        desk.world.upstreams.to(here).reply(b"", 302, location=there)
    answer = await task
    assert answer.status == 502
    task = desk.begun("result")
    await asyncio.sleep(0)
    desk.world.upstreams.to("/jobs/1").reply(b"", 303, location="/a")
    await asyncio.sleep(0)
    desk.world.upstreams.to("/a").reply(b"", 302, location="https://bucket.test/1.csv?signature=x")
    answer = await task
    assert (answer.status, dict(answer.headers)[b"location"]) == (302, b"https://bucket.test/1.csv?signature=x")


@pytest.mark.parametrize("result", ["https://evil.test/1.csv", "//evil.test/x", "javascript:alert(1)", "/../x%2e"])
async def test_a_result_elsewhere_needs_a_grant(result: str) -> None:
    desk = Desk()
    task = await desk.result(JOB | {"state": "Succeeded", "result": result})
    if desk.world.upstreams.open:  # a path of its own after all
        desk.world.upstreams.open[0].reply(b"", 500)
    assert (await task).status == 502


@pytest.mark.parametrize(
    ("state", "status"), [("In Progress", 409), ("Failed", 404), ("Canceled", 404), ("Succeeded", 404)]
)
async def test_no_result_yet_or_ever(state: str, status: int) -> None:
    answer = await (await Desk().result(JOB | {"state": state}))
    assert answer.status == status
    assert (b"retry-after" in dict(answer.headers)) is (status == 409)


@pytest.mark.parametrize(("given", "status"), [(404, 404), (403, 403), (500, 502)])
async def test_a_result_that_cannot_be_had(given: int, status: int) -> None:
    desk = Desk()
    task = await desk.result(JOB | {"state": "Succeeded", "result": "/media/1.csv"})
    desk.world.upstreams.to("/media/1.csv").reply(b"no", given)
    assert (await task).status == status
    task = await desk.result(JOB | {"state": "Succeeded", "result": "/media/1.csv"})
    desk.world.upstreams.to("/media/1.csv").fail(Reason.TIMEOUT, "timeout")
    assert (await task).status == 504


async def test_who_stops_waiting_ends_the_exchange() -> None:
    desk = Desk()
    task = desk.begun()
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert desk.world.upstreams.flown[0].cancelled
    assert desk.world.seen.inflight_now == 0


async def test_a_proxy_routes_202_gets_a_location_too() -> None:
    desk = Desk()
    asked = {"stated": "/jobs/1", "asked": "/x", "principal": "ada"}
    made = task_location(desk.world.tasks, "shop/export", EXPORT.upstream, **asked)
    assert made is not None
    assert made.startswith("/_bff/tasks/")
    asked["stated"] = "https://evil.test/"
    assert task_location(desk.world.tasks, "shop/export", EXPORT.upstream, **asked) is None


# --- the fragment endpoint --------------------------------------------------------------------------------------------

BEGUN = Result(outcome=Outcome.PENDING, reason=Reason.TASK, task="/_bff/tasks/a.b", retry_after=3)


def answered(**headers: str) -> Answer:
    world = World(fragments={"shop/export": EXPORT})
    call = world.planner.call(EXPORT, EXPORT.policy, {})
    assert call is not None
    fields = [(name.replace("_", "-").encode(), text.encode()) for name, text in headers.items()]
    return endpoint.answer(call, BEGUN, world.planner, {"headers": fields})


def test_what_was_begun_is_told_to_scripts_and_shown_to_people() -> None:
    answer = answered(accept="text/html", sec_fetch_mode="cors")
    head = dict(answer.headers)
    assert (answer.status, head[b"location"], head[b"retry-after"]) == (202, b"/_bff/tasks/a.b", b"3")
    assert (head[b"bff-outcome"], head[b"cache-control"]) == (b"pending", b"no-store")
    assert json.loads(answer.body) == {"id": "a.b", "state": "pending", "progress": None, "result": None}
    assert answered(accept="application/json").status == 202
    answer = answered(accept="text/html,*/*", sec_fetch_mode="navigate")
    assert (answer.status, dict(answer.headers)[b"location"]) == (303, b"/_bff/tasks/a.b")
    assert answered(accept="text/html").status == 303  # a text browser says no more than this


def test_nothing_begins_that_nobody_asked_for() -> None:
    def refused(**headers: str) -> int:
        answer = endpoint.unbidden(EXPORT, {name.replace("_", "-"): text for name, text in headers.items()})
        return 0 if answer is None else answer.status

    assert refused() == 0
    assert refused(sec_fetch_site="same-origin") == 0
    assert refused(sec_fetch_site="cross-site") == 403
    assert refused(sec_purpose="prefetch;prerender") == 503
    assert refused(purpose="prefetch") == 503
    assert refused(x_sec_purpose="prefetch") == 503, "Turbo's word for it"
    plain = fragment("shop/card")
    assert endpoint.unbidden(plain, {"sec-fetch-site": "cross-site", "sec-purpose": "prefetch"}) is None
