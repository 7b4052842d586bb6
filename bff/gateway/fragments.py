"""`/_bff/fragments/<context>/<fragment>`: one fragment over HTTP, for the browser's own fetches and for other programs."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable, Mapping
from math import floor
from typing import Any, Final
from urllib.parse import parse_qsl

from bff.gateway import forms
from bff.gateway.problems import Answer, Fields, problem
from bff.gateway.request import cross_site, form, matches, navigates, picked
from bff.markup.patch import CLOSE, bare, wrapper
from bff.model import Fragment, Outcome, Reason, Result, Slot
from bff.page.call import Call, Visit
from bff.page.flight import Wait
from bff.page.plan import Planner, SlotPlan
from bff.page.resolve import Resolver
from bff.store.entry import Entry

_REFUSED: Final = frozenset({Reason.CONCURRENCY, Reason.BREAKER, Reason.OVERLOAD})
_PASSED: Final = frozenset({401, 403, 404, 410})
_FRAME: Final = re.compile(r"[A-Za-z0-9_:.-]{1,128}")  # ids that frames have; nothing that would need escaping


class BadParameters(Exception):
    """A parameter is invalid, undeclared, missing or repeated: 400."""


def call_for(planner: Planner, fragment: Fragment, query: str, principal: str | None) -> Call:
    """The call that a query string asks for. Raises `BadParameters`."""
    passed: dict[str, list[str]] = {}
    for name, text in parse_qsl(query, keep_blank_values=True, errors="surrogateescape"):  # no parameter takes these
        param = fragment.params.get(name)
        if param is None or param.principal:
            raise BadParameters(f"{fragment.name} declares no parameter {name!r}")
        passed.setdefault(name, []).append(text)
        if len(passed[name]) > (param.max if param.many else 1):
            raise BadParameters(f"the parameter {name!r} is given too often")
    for name, param in fragment.params.items():
        if param.principal and principal is not None:
            passed[name] = [principal]
        elif param.required and name not in passed and not param.principal:
            raise BadParameters(f"the parameter {name!r} is missing")
    call = planner.call(fragment, fragment.policy, passed)
    if call is None:
        if any(param.principal for param in fragment.params.values()) and principal is None:
            raise PermissionError
        raise BadParameters("a parameter is not valid")
    return call


async def resolved(
    resolver: Resolver, call: Call, visit: Visit, closed: Callable[[Callable[[], None]], None]
) -> Result:
    """One call's result; the wait ends with the browser."""
    future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()

    def done(result: Result) -> None:
        if not future.done():
            future.set_result(result)

    answer = resolver.start(call, visit, done)
    if not isinstance(answer, Wait):
        return answer

    def gone() -> None:
        answer.leave()
        future.cancel()

    closed(gone)
    try:
        return await future
    finally:
        answer.leave()


def answer(
    call: Call, result: Result, planner: Planner, scope: Mapping[str, Any], entry: Entry | None = None
) -> Answer:
    """The endpoint's answer (contract §3): content with its outcome, the upstream's own 401, 403, 404 and 410, or why not.

    `entry`: what is in the store for this call, of which the result may have been made.
    """
    head: Fields = [(b"bff-outcome", result.outcome.value.encode()), (b"bff-reason", result.reason.value.encode())]
    if result.status in _PASSED and result.outcome is Outcome.OMITTED:
        if result.age is None:
            head.append((b"cache-status", _cache_status(result)))
        else:
            head += [(b"cache-status", b"bff; hit; ttl=%d" % floor(result.left)), (b"age", b"%d" % result.age)]
        return problem(result.status, f"{call.fragment.name} answered {result.status}.", html=False, headers=head)
    if result.task:
        return _task(result, scope, head)
    if result.outcome in (Outcome.OMITTED, Outcome.PENDING):
        return _nothing(call, result, head)
    head.append((b"x-content-type-options", b"nosniff"))
    data = _wants_data(call.fragment, scope) and result.data is not None
    body = (result.data or b"") if data or result.markup is None else _html(call, result, planner)
    kind = b"application/json" if data or result.markup is None else b"text/html; charset=utf-8"
    if kind != b"application/json":
        body = framed(body, scope)
    etag = forms.etag(body, entry)
    if result.next:
        head.append((b"link", f'<{result.next}>; rel="next"'.encode()))
    head += [(b"etag", etag), *_freshness(call, result), (b"content-security-policy", _CSP[call.fragment.trust])]
    if matches(scope["headers"], etag):
        return Answer(304, head)
    return Answer(200, [(b"content-type", kind), (b"content-length", b"%d" % len(body)), *head], body)


def framed(body: bytes, scope: Mapping[str, Any]) -> bytes:
    """Turbo looks for the frame that it asked for in the answer: the fragment goes into one (Turbo's handbook, frames)."""
    name = dict(scope["headers"]).get(b"turbo-frame", b"").decode("latin-1")
    if not _FRAME.fullmatch(name):
        return body
    return b'<turbo-frame id="%b">%b</turbo-frame>' % (name.encode(), body)


def unbidden(fragment: Fragment, headers: Mapping[str, str]) -> Answer | None:
    """A GET that begins work is refused where nobody asked for it: a prefetch, or another site's image."""
    if not fragment.starts_task:
        return None
    if any("prefetch" in headers.get(name, "") for name in ("sec-purpose", "x-sec-purpose", "purpose")):
        return problem(503, f"{fragment.name} begins work, which nobody has asked for yet.", html=False)
    if cross_site(headers):
        return problem(403, "This request was made by another site.", html=False)
    return None


def _task(result: Result, scope: Mapping[str, Any], head: Fields) -> Answer:
    """A task was begun, or is under way: where it can be asked for; a browser that navigates goes there."""
    head += [(b"location", result.task.encode()), (b"cache-control", b"no-store")]
    head.append((b"x-content-type-options", b"nosniff"))
    if navigates(scope):
        return Answer(303, [*head, (b"content-length", b"0")])
    said = {"id": result.task.rpartition("/")[2], "state": "pending", "progress": None, "result": None}
    body = json.dumps(said).encode()
    head += [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    return Answer(202, [*head, (b"retry-after", b"%d" % (result.retry_after or 1))], body)


_CSP: Final[Mapping[str, bytes]] = {
    "checked": b"default-src 'none'; img-src 'self' data: https:; frame-ancestors 'none'",
    "sanitized": b"default-src 'none'; img-src 'self' data: https:; frame-ancestors 'none'",
    "sandboxed": b"sandbox allow-scripts",
}


def _nothing(call: Call, result: Result, head: Fields) -> Answer:
    detail = f"{call.fragment.name} has nothing to give ({result.reason.value})."
    asked = result.reason not in _REFUSED and result.reason is not Reason.OFF
    head.append((b"cache-status", f"bff{'; fwd=uri-miss' if asked else ''}; detail={result.reason.value}".encode()))
    if not asked:
        head.append((b"retry-after", b"%d" % (result.retry_after or 1)))
        return problem(503, detail, html=False, headers=head)
    return problem(504 if result.reason is Reason.TIMEOUT else 502, detail, html=False, headers=head)


def _wants_data(fragment: Fragment, scope: Mapping[str, Any]) -> bool:
    accept = picked(scope["headers"]).get(b"accept", b"")
    return fragment.source == "json" and form(accept) == "json"


def _html(call: Call, result: Result, planner: Planner) -> bytes:
    if result.markup is None:
        return b""
    number = 0
    out: list[bytes] = []
    for part in bare(result.markup):
        if isinstance(part, Slot):
            number += 1
            out.append(_embedded(call, part, number, planner))
        else:
            out.append(part)
    return b"".join(out)


def _embedded(call: Call, slot: Slot, number: int, planner: Planner) -> bytes:
    """A fragment in a fragment: left to the browser, which knows where to ask."""
    outer = SlotPlan(
        slot=slot,
        number="",
        fragment=call.fragment,
        policy=call.policy,
        wrapper=wrapper(slot, ""),
        core=False,
        inside=(),
    )
    plan, inner, _ = planner.embedded(outer, slot, number)
    state = "pending" if inner is not None else "omitted"
    opening = plan.wrapper.open(state, src=inner.src if inner is not None else "")
    return opening + b"".join(part for part in slot.placeholder if isinstance(part, bytes)) + CLOSE


def _freshness(call: Call, result: Result) -> Fields:
    shared = not call.fragment.private and not result.withheld
    left = max(0, int(result.left)) if result.outcome is Outcome.FRESH else 0
    forward = call.fragment.forward
    vary = ", ".join(
        ["Accept", "Accept-Encoding", "Turbo-Frame", *forward.headers, *(["Cookie"] if forward.cookies else [])]
    )
    head: Fields = [
        (b"cache-control", b"public, max-age=%d" % left if shared else b"private, no-cache"),
        (b"vary", vary.encode()),
        (b"cache-status", _cache_status(result)),
    ]
    return [*head, (b"age", b"%d" % result.age)] if result.age is not None else head


def _cache_status(result: Result) -> bytes:
    """RFC 9211: what the store did for this answer."""
    if result.reason is Reason.REVALIDATED:
        return b"bff; fwd=stale; fwd-status=304; stored"
    if result.age is not None:
        late = b"" if result.reason is Reason.HIT else b"; detail=stale-error"
        return b"bff; hit; ttl=%d" % floor(result.left) + late
    if result.outcome is Outcome.FALLBACK:
        return b"bff; fwd=uri-miss; detail=fallback"
    return b"bff; " + (result.cache or "fwd=uri-miss").encode()


def fault(error: Exception) -> Answer:
    if isinstance(error, PermissionError):
        detail, headers = "This fragment is somebody's own; nobody is signed in.", _refused(Reason.AUTH)
        return problem(401, detail, html=False, headers=headers)
    return problem(400, str(error), html=False, headers=_refused(Reason.PARAMS))


def _refused(reason: Reason) -> Fields:
    """Said of what was neither looked for in the store nor asked for."""
    return [(b"bff-reason", reason.value.encode()), (b"cache-status", f"bff; detail={reason.value}".encode())]
