"""`/_bff/tasks/<id>` and `…/result`: slow work that a context has begun, asked for on behalf of whoever began it.

An id says whose registration asks, and where; the visitor's own forwarded credentials go with every question, so a context
decides each time whether it answers. Nothing is kept but which tasks have not ended (`page.tasks`).
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from html import escape
from typing import Final, NamedTuple, Protocol

from bff.gateway.asking import exchanged
from bff.gateway.passing import Pieces
from bff.gateway.problems import Answer, Fields, problem
from bff.model import Ask, Bounds, Failure, Fetch, Fragment, Headers, Reason, Reply, Telemetry, Upstream
from bff.page.call import Visit
from bff.page.tasks import Underway
from bff.rules import keys, redirects, tasks
from bff.rules.caching import fields, text
from bff.rules.tasks import Job, Task
from bff.upstream.stream import Head

PATIENCE: Final = 10.0  # seconds that a question about a task may take at most
HOPS: Final = 3  # redirects within the upstream that lead to a result
_GONE: Final = frozenset({404, 410})
_THEIRS: Final = frozenset({401, 403})
_PASSED: Final = frozenset(
    (b"content-type", b"content-disposition", b"content-encoding", b"content-language", b"last-modified", b"etag")
)
_STEPS: Final = frozenset({301, 302, 303, 307, 308})


class Opened(Pieces, Protocol):
    """A streamed exchange under way."""

    async def head(self) -> Head | Failure: ...
    @property
    def seconds(self) -> float: ...


Start = Callable[..., Opened]
"""Starts a streamed exchange, as `upstream.stream.Streams` does."""


class Passed(NamedTuple):
    """A result on its way: its head, and whatever of its body is still to come."""

    headers: Fields
    pieces: Opened


class Tasks:
    """Answers for tasks. `find` gives the fragment (or what stands for a proxy route) by the name that an id holds."""

    def __init__(
        self,
        *,
        underway: Underway,
        fetch: Fetch,
        start: Start,
        telemetry: Telemetry,
        find: Callable[[str], Fragment | None],
    ) -> None:
        self._underway = underway
        self._fetch = fetch
        self._start = start
        self._telemetry = telemetry
        self._find = find

    async def status(self, signed: str, visit: Visit, *, html: bool) -> Answer:
        """How far the task is: `{"id","state","progress","result"}`, or a small page where no script asks."""
        found = self._task(signed, visit)
        if found is None:
            return _unknown(html=html)
        task, fragment = found
        job = await self._job(task, fragment, visit)
        if isinstance(job, int):
            return self._trouble(job, task, html=html)
        result = f"/_bff/tasks/{signed}/result" if job.state == "succeeded" and job.result is not None else None
        head: Fields = [(b"cache-control", b"no-store"), (b"x-content-type-options", b"nosniff")]
        if not job.over:
            pause = b"%d" % tasks.pause(self._underway.age(task), job.wait)
            head += [(b"retry-after", pause), *([(b"refresh", pause)] if html else [])]
        if html:
            return _whole(200, b"text/html; charset=utf-8", _page(job, result), [*head, _CSP])
        said = {"id": signed, "state": job.state, "progress": job.progress, "result": result}
        return _whole(200, b"application/json", json.dumps(said).encode(), head)

    async def result(self, signed: str, visit: Visit, *, html: bool) -> Answer | Passed:
        """What the task has made, passed on with its type and its name; elsewhere only where the registration grants it."""
        found = self._task(signed, visit)
        if found is None:
            return _unknown(html=html)
        task, fragment = found
        reply = await self._ask(fragment, task.target, visit)
        job = self._read(task, reply)
        if isinstance(job, int) or isinstance(reply, Failure):
            return self._trouble(job if isinstance(job, int) else 502, task, html=html)
        if not job.over:
            pause = b"%d" % tasks.pause(self._underway.age(task), job.wait)
            return problem(409, "This task has not ended.", html=html, headers=[(b"retry-after", pause)])
        if job.state != "succeeded" or job.result is None:
            return problem(404, "This task has made nothing to fetch.", html=html)
        if job.result == "":
            return _passed(reply)
        return await self._follow(job.result, task.target, fragment, visit, html=html)

    async def _follow(
        self, stated: str, asked: str, fragment: Fragment, visit: Visit, *, html: bool
    ) -> Answer | Passed:
        for _ in range(HOPS):
            target = tasks.target(stated, asked, fragment.upstream)
            if target is None:
                return _elsewhere(stated, fragment, html=html)
            head, pieces = await self._opened(fragment, target, visit)
            if isinstance(head, Failure):
                return problem(_status(head), f"The result could not be had ({head.reason.value}).", html=html)
            if head.status in (200, 203):
                return Passed(_lines(head.headers, head.length), pieces)
            pieces.cancel()
            if head.status not in _STEPS:
                return _refused(head.status, html=html)
            stated, asked = text(fields(head.headers), b"location"), target
        return problem(502, "The result is behind too many redirects.", html=html)

    # --- asking -------------------------------------------------------------------------------------------------------

    def _task(self, signed: str, visit: Visit) -> tuple[Task, Fragment] | None:
        task = self._underway.read(signed, visit.principal)
        fragment = self._find(task.name) if task is not None else None
        return None if task is None or fragment is None else (task, fragment)

    async def _opened(self, fragment: Fragment, target: str, visit: Visit) -> tuple[Head | Failure, Opened]:
        """A result's head, its body still to come; it may be larger than any fragment."""
        sent = keys.variant(fragment, visit.headers, visit.cookies, visit.principal, visit.locale).lines
        block = b"accept: */*\r\naccept-encoding: identity\r\nuser-agent: bff\r\n%b%b" % (sent, visit.trace)
        pairs = [line.partition(b": ") for line in block.split(b"\r\n") if line]
        lines = [(name, value) for name, _, value in pairs]
        policy = fragment.policy
        pieces = self._start(
            fragment.upstream, "GET", target, lines, body=None, timeout=policy.timeout, limit=policy.concurrency
        )
        try:
            head = await pieces.head()
        except asyncio.CancelledError:
            pieces.cancel()
            raise
        self._telemetry.upstream(fragment, str(head.status), pieces.seconds)
        return head, pieces

    async def _ask(self, fragment: Fragment, target: str, visit: Visit) -> Reply | Failure:
        if fragment.policy.state != "on":
            return Failure(Reason.OFF, "refused", "its context is not to be asked")
        sent = keys.variant(fragment, visit.headers, visit.cookies, visit.principal, visit.locale).lines
        lines = b"accept: */*\r\nuser-agent: bff\r\n%b%b" % (sent, visit.trace)
        ask = Ask(fragment.upstream, "GET", target, lines, Bounds.of(fragment.policy))
        return await exchanged(self._fetch, self._telemetry, fragment, ask)

    async def _job(self, task: Task, fragment: Fragment, visit: Visit) -> Job | int:
        return self._read(task, await self._ask(fragment, task.target, visit))

    def _read(self, task: Task, reply: Reply | Failure) -> Job | int:
        """What the upstream says of the task, or the status that tells why it says nothing."""
        if isinstance(reply, Failure):
            return _status(reply)
        if reply.status in _GONE:
            self._underway.end(task)
            return 404
        job = tasks.job(reply.status, fields(reply.headers), reply.body)
        if job is None:
            return reply.status if reply.status in _THEIRS else 502
        if job.over:
            self._underway.end(task)
        return job

    def _trouble(self, status: int, task: Task, *, html: bool) -> Answer:
        """Nothing is known now. Where that may pass, a client is told to ask again."""
        if status == 404:
            return _unknown(html=html)
        pause = [(b"retry-after", b"%d" % tasks.pause(self._underway.age(task)))] if status >= 500 else []
        return problem(status, "How far this task is cannot be said.", html=html, headers=pause)


def task_location(
    underway: Underway, name: str, upstream: Upstream, *, stated: str, asked: str, principal: str | None
) -> str | None:
    """Where a client asks for a task whose 202 says `stated` to a request for `asked`; None where that is not under its
    upstream. `name` is what `Tasks.find` will be asked for.
    """
    target = tasks.target(stated, asked, upstream)
    return None if target is None else underway.url(underway.begin(name, target, None), principal)


# --- answers ----------------------------------------------------------------------------------------------------------

_CSP: Final = (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'")
_SANDBOX: Final = (b"content-security-policy", b"sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:")
"""Of results: a document of a context's must not run in the gateway's origin."""


def _unknown(*, html: bool) -> Answer:
    return problem(404, "There is no such task.", html=html)


def _whole(status: int, kind: bytes, body: bytes, head: Fields) -> Answer:
    return Answer(status, [(b"content-type", kind), (b"content-length", b"%d" % len(body)), *head], body)


def _passed(reply: Reply) -> Answer:
    return Answer(200, _lines(reply.headers, len(reply.body)), reply.body)


def _lines(headers: Headers, length: int | None) -> Fields:
    """The head of a result: what it is and how it is called, and that nobody is to keep it."""
    head: Fields = [(name, value) for name, value in headers if name in _PASSED]
    if all(name != b"content-type" for name, _ in head):
        head.append((b"content-type", b"application/octet-stream"))
    if length is not None:
        head.append((b"content-length", b"%d" % length))
    return [*head, (b"cache-control", b"no-store"), (b"x-content-type-options", b"nosniff"), _SANDBOX]


def _refused(answered: int, *, html: bool) -> Answer:
    status = answered if answered in _GONE | _THEIRS else 502
    return problem(status, f"The result could not be had (its address answered {answered}).", html=html)


def _elsewhere(stated: str, fragment: Fragment, *, html: bool) -> Answer:
    """A result at an origin that the registration may redirect to (a bucket's signed address, say)."""
    to = redirects.location(stated, fragment.upstream, fragment.grant)
    if to is None or to.startswith("/"):
        return problem(502, "The result is where this context may not send anybody.", html=html)
    head: Fields = [(b"location", to.encode("latin-1")), (b"content-length", b"0"), (b"cache-control", b"no-store")]
    return Answer(302, head)


def _status(failure: Failure) -> int:
    return {Reason.TIMEOUT: 504, Reason.CONCURRENCY: 503, Reason.OFF: 503}.get(failure.reason, 502)


_SAID: Final = {
    "pending": "Waiting to begin",
    "running": "Under way",
    "succeeded": "Done",
    "failed": "This did not work",
    "canceled": "Canceled",
}
_HTML: Final = (
    '<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
    "<title>{title}</title></head><body><main><h1>{title}</h1>{body}</main></body></html>\n"
)


def _page(job: Job, result: str | None) -> bytes:
    """The state for people without scripts: the page asks again by itself (Refresh) until there is something to fetch."""
    body = "<p>This page renews itself.</p>" if not job.over else ""
    if job.progress is not None and not job.over:
        body = f'<p><progress value="{job.progress:g}">{job.progress:.0%}</progress></p>{body}'
    if result is not None:
        body = f'<p><a href="{escape(result)}">Fetch the result</a></p>'
    return _HTML.format(title=_SAID[job.state], body=body).encode()
