"""What a slot became, as a value: made from a fresh copy, an answer, a redirect, or whatever stands in for one. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Final

from bff.errors import TemplateFailed
from bff.model import Cache, Markup, Meta, Outcome, Reason, Reply, Result, Timing
from bff.page.call import Call
from bff.rules import ijson, keys, serve
from bff.rules.caching import Fields, Terms, text, words
from bff.store.entry import Entry
from bff.upstream.sources.content import Content

EMPTY = Markup(parts=(b"",), flat=b"")
_RENDER = 0.05  # seconds that a template may take for a static document, which is a team's own and small
_FRESH: Final = Outcome.FRESH  # looking up a member of an Enum is dear on the hot path
_OK: Final = Reason.OK
_REFUSED = frozenset({Reason.CONCURRENCY, Reason.BREAKER, Reason.OVERLOAD})


def hit(call: Call, entry: Entry, now: float) -> Result:
    """A fresh copy's result, true for a second."""
    return Result(
        outcome=Outcome.FRESH,
        reason=Reason.HIT,
        markup=entry.markup,
        data=entry.data,
        status=entry.status,
        age=float(int(now - entry.born)),
        as_of=entry.as_of,
        spoke=entry.terms.spoke,
        tags=entry.tags,
        next=entry.next,
        left=serve.left(entry, call.policy.cache, now),
        etag=entry.terms.etag,
    )


def stale(
    entry: Entry,
    cache: Cache,
    reason: Reason,
    *,
    began: float,
    now: float,
    detail: str = "",
    timing: Timing | None = None,
) -> Result:
    """A copy past its freshness, with the reason that it is shown for."""
    return Result(
        outcome=Outcome.STALE,
        reason=reason,
        markup=entry.markup,
        data=entry.data,
        status=entry.status,
        age=float(int(now - entry.born)),
        as_of=entry.as_of,
        spoke=entry.terms.spoke,
        seconds=now - began,
        timing=timing,
        detail=detail,
        tags=entry.tags,
        next=entry.next,
        left=serve.left(entry, cache, now),
        etag=entry.terms.etag,
    )


def answered(
    call: Call,
    reply: Reply,
    content: Content,
    terms: Terms,
    tags: tuple[str, ...],
    *,
    began: float,
    now: float,
    kept: str,
) -> Result:
    """An answer just given; `kept` says in RFC 9211's words what the store did with it."""
    status = reply.status
    result = Result(_FRESH, _OK if status == 200 else _reason(status), content.markup, content.data, status)
    # one by one, not by name above: that would cost a dictionary on the hot path
    result.as_of = content.as_of
    result.spoke = terms.spoke
    result.seconds = now - began
    result.timing = reply.timing
    result.tags = tags
    result.next = content.next
    if call.primary:
        result.cookies = set_cookies(reply)
    result.left = serve.lifetime(terms, status, call.policy.cache) - terms.age
    result.withheld = not terms.storable
    result.cache = kept
    result.etag = terms.etag
    return result


def revalidated(call: Call, entry: Entry, reply: Reply, *, began: float, now: float) -> Result:
    """A copy that its source has just confirmed."""
    fresh = hit(call, entry, now)
    return replace(fresh, reason=Reason.REVALIDATED, seconds=now - began, timing=reply.timing)


def underway(task: str, *, began: float, now: float, wait: int, reply: Reply | None = None) -> Result:
    """A task that a context has begun; the browser asks at `task` how far it is, in `wait` seconds."""
    return Result(
        outcome=Outcome.PENDING,
        reason=Reason.TASK,
        status=reply.status if reply is not None else None,
        timing=reply.timing if reply is not None else None,
        seconds=now - began,
        retry_after=wait,
        task=task,
    )


def redirected(reply: Reply, to: str, *, began: float, now: float) -> Result:
    """A primary's redirect; whether it is allowed is decided where it would be sent."""
    return Result(
        outcome=Outcome.FRESH,
        reason=Reason.OK,
        status=reply.status,
        seconds=now - began,
        timing=reply.timing,
        location=to,
        cookies=set_cookies(reply),
    )


def fallen(
    call: Call,
    reason: Reason,
    entry: Entry | None,
    fallback: Callable[[bytes], Markup],
    *,
    began: float,
    now: float,
    detail: str = "",
    timing: Timing | None = None,
    status: int | None = None,
) -> Result:
    """What stands in for an answer: the first step of the policy's `on_error` that can be taken.

    `entry` is a stale copy that may be shown; `fallback` makes the markup of the fragment's static one.
    """
    fragment = call.fragment
    stands_in = fragment.fallback_html is not None or fragment.fallback_json is not None
    step = serve.step(
        call.policy,
        reason,
        stale=entry is not None,
        fallback=stands_in,
        client=call.client,
        primary=call.primary,
    )
    if step == "stale" and entry is not None:
        return stale(entry, call.policy.cache, reason, began=began, now=now, detail=detail, timing=timing)
    outcome = {"fallback": Outcome.FALLBACK, "client": Outcome.PENDING}.get(step, Outcome.OMITTED)
    used = outcome is Outcome.FALLBACK
    html = _fallback_html(call) if used else None
    return Result(
        outcome=outcome,
        reason=reason,
        markup=fallback(html) if html is not None else None,
        data=fragment.fallback_json if used else None,
        status=status,
        seconds=now - began,
        detail=detail,
        timing=timing,
        retry_after=1 if reason in _REFUSED and not used else None,
    )


def _fallback_html(call: Call) -> bytes | None:
    """The fragment's own, or what its template makes of its static JSON; None where there is neither."""
    fragment = call.fragment
    if fragment.fallback_html is not None or fragment.template is None or fragment.fallback_json is None:
        return fragment.fallback_html
    try:
        data, _ = ijson.read(fragment.fallback_json)
        return fragment.template(data, call.params, Meta(date="", as_of=""), _RENDER).encode()
    except (ValueError, TemplateFailed):
        return None


def misplaced(result: Result) -> Result:
    """Markup that is well-formed, and would break the place it goes to."""
    detail = 'parts of a table need wrap="none", a shadow root a wrapper, and a form cannot stand in a form'
    return replace(result, outcome=Outcome.OMITTED, reason=Reason.REFUSED, markup=None, detail=detail)


def set_cookies(reply: Reply) -> tuple[bytes, ...]:
    return tuple(value for name, value in reply.headers if name == b"set-cookie")


def _reason(status: int) -> Reason:
    if status in serve.NEGATIVE:
        return Reason.NOT_FOUND
    return Reason.OK if status < 400 else Reason.STATUS


def merged(entry: Entry, found: Fields) -> Fields:
    """The stored validators where the 304 names none of its own (RFC 9111 §3.2)."""
    kept = (b"etag", entry.terms.etag), (b"last-modified", entry.terms.last_modified)
    return {name: value.encode("latin-1") for name, value in kept if value} | dict(found)


def tags(call: Call, found: Fields) -> tuple[str, ...]:
    """The registration's tags and the upstream's own, confined to its context, each once."""
    patterns = call.fragment.tags
    if not patterns and b"surrogate-key" not in found and b"cache-tag" not in found:
        return ()
    own = [keys.fill(pattern, call.values) for pattern in patterns]
    if b"surrogate-key" in found:
        own += words(found, b"surrogate-key")
    if b"cache-tag" in found:
        own += [tag.strip() for tag in text(found, b"cache-tag").split(",") if tag.strip()]
    return tuple(dict.fromkeys(own))
