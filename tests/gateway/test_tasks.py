import asyncio
import json
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from bff.gateway import fragments as endpoint
from bff.gateway.passing import Passing
from bff.gateway.problems import Answer
from bff.gateway.tasks import Passed, Tasks, task_location
from bff.model import Failure, Forward, Fragment, Grant, Outcome, Reason, Result, Upstream
from bff.upstream.stream import Head, Torn
from tests.build import World, fragment

pytestmark = pytest.mark.anyio

EXPORT = fragment(
    "shop/export",
    starts_task=True,
    forward=Forward(principal="x-user"),
    grant=Grant(redirects=("https://bucket.test",)),
)
JOB = {"job_id": "1", "state": "In Progress", "result": None}


class Streamed:
    """One streamed exchange: the test gives its head, then its pieces."""

    seconds = 0.1

    def __init__(self, target: str, lines: Sequence[tuple[bytes, bytes]]) -> None:
        self.target = target
        self.headers = {name.decode(): value.decode() for name, value in lines}
        self.pieces: list[bytes | Torn] = []
        self.cancelled = False
        self._head: asyncio.Future[Head | Failure] = asyncio.get_running_loop().create_future()

    def answer(self, status: int, *pieces: bytes | Torn, length: int | None = None, **headers: str) -> None:
        fields = [(name.replace("_", "-").encode(), text.encode()) for name, text in headers.items()]
        self.pieces += pieces
        self._head.set_result(Head(status, fields, length))

    def fail(self, reason: Reason) -> None:
        self._head.set_result(Failure(reason, "timeout", "as the test says"))

    async def head(self) -> Head | Failure:
        return await self._head

    async def read(self) -> bytes:
        piece = self.pieces.pop(0) if self.pieces else b""
        if isinstance(piece, Torn):
            raise piece
        return piece

    def cancel(self) -> None:
        self.cancelled = True


class Desk:
    """The endpoint over upstreams that the test speaks for."""

    def __init__(self, export: Fragment = EXPORT) -> None:
        self.world = World(fragments={"shop/export": export})
        self.tasks = Tasks(
            underway=self.world.tasks,
            fetch=self.world.upstreams,
            start=self.start,
            telemetry=self.world.seen,
            find=self.world.planner.fragments.get,
        )
        self.task = self.world.tasks.begin("shop/export", "/jobs/1", "key")
        self.streams: list[Streamed] = []

    def start(
        self, _: Upstream, method: str, target: str, lines: Sequence[tuple[bytes, bytes]], **more: Any
    ) -> Streamed:
        assert (method, more["body"]) == ("GET", None)
        self.streams.append(Streamed(target, lines))
        return self.streams[-1]

    def id(self, principal: str | None = "ada") -> str:
        return self.world.tasks.url(self.task, principal).removeprefix("/_bff/tasks/")

    def begun(self, what: str = "status", *, html: bool = False, principal: str | None = "ada") -> "asyncio.Task[Any]":
        return asyncio.ensure_future(getattr(self.tasks, what)(self.id(), self.world.visit(principal), html=html))

    async def status(self, job: Mapping[str, Any], status: int = 200, *, html: bool = False, **headers: str) -> Answer:
        task = self.begun(html=html)
        await asyncio.sleep(0)
        self.world.upstreams.to("/jobs/1").reply(json.dumps(job).encode(), status, b"application/json", **headers)
        answer: Answer = await task
        return answer

    async def result(self, job: Mapping[str, Any]) -> "asyncio.Task[Any]":
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


async def test_of_a_context_that_is_not_to_be_asked_nothing_is_known() -> None:
    desk = Desk(fragment("shop/export", starts_task=True, layer={"state": "off"}))
    for what in ("status", "result"):
        answer = await desk.begun(what)
        assert answer.status == 503
        assert dict(answer.headers)[b"retry-after"] == b"1"
    assert desk.world.upstreams.flown == []


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
    (stream,) = desk.streams
    assert (stream.target, stream.headers["x-user"]) == ("/media/1.csv", "ada")
    named = 'attachment; filename="1.csv"'
    stream.answer(200, b"a,", b"b\n", length=4, content_type="text/csv", content_disposition=named, set_cookie="a=b")
    passed = await task
    assert isinstance(passed, Passed)
    head = dict(passed.headers)
    assert (head[b"content-type"], head[b"content-disposition"]) == (b"text/csv", named.encode())
    assert (head[b"content-length"], head[b"cache-control"]) == (b"4", b"no-store")
    assert head[b"content-security-policy"].startswith(b"sandbox;")
    assert b"set-cookie" not in head
    assert await sent(passed) == (200, b"a,b\n", True)
    assert stream.cancelled  # which does nothing to one that is over


async def test_a_result_that_is_encoded_unasked_says_so() -> None:
    desk = Desk()
    task = await desk.result(JOB | {"state": "Succeeded", "result": "../media/1.csv"})
    (stream,) = desk.streams
    assert stream.headers["accept-encoding"] == "identity"
    stream.answer(200, b"\x1f\x8b", length=2, content_type="text/csv", content_encoding="gzip")
    passed = await task
    assert isinstance(passed, Passed)
    assert dict(passed.headers)[b"content-encoding"] == b"gzip", "its bytes pass as they are"


async def sent(passed: Passed, *, method: str = "GET", gone: bool = False) -> tuple[int, bytes, bool]:
    """Status, body, and whether it was ended well, as a server would have it."""
    messages: list[Any] = []
    waiting = asyncio.Event()

    async def send(message: Any) -> None:
        messages.append(message)

    async def receive() -> Any:
        if not gone:
            await waiting.wait()
        return {"type": "http.disconnect"}

    await Passing(passed.headers, passed.pieces)({"method": method}, receive, send)
    body = b"".join(message.get("body", b"") for message in messages)
    return messages[0]["status"], body, not messages[-1].get("more_body", False)


async def test_what_is_torn_is_not_ended_well() -> None:
    stream = await opened()
    stream.pieces = [b"a,", Torn(Failure(Reason.TORN, "reset", ""))]
    assert await sent(Passed([], stream)) == (200, b"a,", False)


async def opened() -> Streamed:
    return Streamed("/x", [])


async def test_a_head_alone_reads_nothing() -> None:
    stream = await opened()
    stream.pieces = [b"a,"]
    assert await sent(Passed([], stream), method="HEAD") == (200, b"", True)
    assert stream.cancelled
    assert stream.pieces == [b"a,"]


async def test_our_own_server_tells_when_the_client_goes() -> None:
    stream = await opened()
    calls: list[Any] = []

    async def send(message: Any) -> None:
        del message

    async def receive() -> Any:
        raise AssertionError("nobody reads")

    scope = {"method": "GET", "extensions": {"bff.closed": calls.append}}
    await Passing([], stream)(scope, receive, send)
    assert calls == [stream.cancel]


async def test_a_result_without_a_type_is_bytes() -> None:
    desk = Desk()
    task = await desk.result(JOB | {"state": "Succeeded", "result": "/1"})
    desk.streams[0].answer(200)
    passed = await task
    assert dict(passed.headers)[b"content-type"] == b"application/octet-stream"
    assert b"content-length" not in dict(passed.headers)


async def test_who_stops_waiting_for_a_result_ends_its_exchange() -> None:
    desk = Desk()
    task = await desk.result(JOB | {"state": "Succeeded", "result": "/1"})
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert desk.streams[0].cancelled


async def test_a_job_that_is_its_own_result() -> None:
    desk = Desk()
    task = desk.begun("result")
    await asyncio.sleep(0)
    desk.world.upstreams.to("/jobs/1").reply(b"<h1>Report</h1>", 200, b"text/html")
    answer = await task
    assert (answer.status, answer.body) == (200, b"<h1>Report</h1>")


async def test_redirects_lead_to_a_result_within_reason() -> None:
    desk = Desk()
    task = await desk.result(JOB | {"state": "Succeeded", "result": "/a"})
    for there in ("/b", "/c", "/d"):
        desk.streams[-1].answer(302, location=there)
        await asyncio.sleep(0)
    assert (await task).status == 502
    assert [stream.target for stream in desk.streams] == ["/a", "/b", "/c"]
    assert all(stream.cancelled for stream in desk.streams)
    desk = Desk()
    task = desk.begun("result")
    await asyncio.sleep(0)
    desk.world.upstreams.to("/jobs/1").reply(b"", 303, location="/a")
    await asyncio.sleep(0)
    desk.streams[0].answer(302, location="https://bucket.test/1.csv?signature=x")
    answer = await task
    assert (answer.status, dict(answer.headers)[b"location"]) == (302, b"https://bucket.test/1.csv?signature=x")


@pytest.mark.parametrize("result", ["https://evil.test/1.csv", "//evil.test/x", "javascript:alert(1)", "/%2e%2e/x"])
async def test_a_result_elsewhere_needs_a_grant(result: str) -> None:
    desk = Desk()
    task = await desk.result(JOB | {"state": "Succeeded", "result": result})
    assert (await task).status == 502
    assert not desk.streams


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
    desk.streams[0].answer(given)
    assert (await task).status == status
    assert desk.streams[0].cancelled
    task = await desk.result(JOB | {"state": "Succeeded", "result": "/media/1.csv"})
    desk.streams[1].fail(Reason.TIMEOUT)
    assert (await task).status == 504


async def test_who_stops_waiting_ends_the_exchange() -> None:
    desk = Desk()
    task = desk.begun()
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert desk.world.upstreams.flown[0].cancelled
    assert desk.world.seen.inflight.total() == 0


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
