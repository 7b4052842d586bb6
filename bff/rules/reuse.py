"""Whether a kept answer may be used for a request, and if not, why it must be asked for (RFC 9111 §4, RFC 5861, RFC 9211).

Pure: `now` is an argument. Nothing is parsed for a request that says nothing of caches.
"""

from __future__ import annotations

from enum import Enum, auto
from functools import lru_cache
from typing import Final, Literal, NamedTuple

from bff.model import Cache
from bff.rules.caching import Fields
from bff.rules.control import directives, seconds
from bff.rules.freshness import lifetime, windows
from bff.rules.rule import Rule
from bff.rules.stored import Stored


class Use(Enum):
    """What a kept answer is good for now."""

    HIT = auto()  # serve it, ask nobody
    REFRESH = auto()  # serve it, renew it in the background (stale-while-revalidate)
    RESERVE = auto()  # ask; serve it if that fails
    VALIDATE = auto()  # ask; it serves only once it is renewed
    MISS = auto()  # ask; there is nothing to renew
    UNAVAILABLE = auto()  # do not ask: 504 (only-if-cached)


Forward = Literal["", "uri-miss", "vary-miss", "miss", "stale", "request", "bypass", "method", "partial"]
"""Why an answer was asked for, in the words of RFC 9211 §2.2; "" where it was not."""


class Reuse(NamedTuple):
    """A decision. `age` and `ttl` (what is left of its lifetime, negative once stale) are seconds; 0 where nothing is kept."""

    use: Use
    age: float
    ttl: float
    why: Forward


class Asked(NamedTuple):
    """What a request says to caches (RFC 9111 §5.2.1); `max-stale` is not among it: no client may widen the policy."""

    no_cache: bool = False
    no_store: bool = False
    only_if_cached: bool = False
    max_age: float | None = None
    min_fresh: float | None = None


ASKED_NOTHING: Final = Asked()
_LONGEST: Final = 256  # bytes; what clients send is not remembered beyond
_PRECONDITIONS: Final = frozenset({b"if-match", b"if-unmodified-since"})


def asked(request: Fields) -> Asked:
    """A request's Cache-Control. Pragma, which RFC 9111 §5.4 deprecates, says nothing."""
    value = request.get(b"cache-control")
    if value is None:
        return ASKED_NOTHING
    return _asked(value) if len(value) <= _LONGEST else _asked.__wrapped__(value)


@lru_cache(maxsize=512)
def _asked(value: bytes) -> Asked:
    said: dict[str, str | None] = {}
    for name, argument, _ in directives(value):
        said.setdefault(name, argument)
    return Asked(
        no_cache="no-cache" in said,
        no_store="no-store" in said,
        only_if_cached="only-if-cached" in said,
        max_age=seconds(said.get("max-age")),
        min_fresh=seconds(said.get("min-fresh")),
    )


def reuse(
    stored: Stored | None, method: str, request: Fields, cache: Cache, now: float, *, others: bool = False
) -> Reuse:
    """What to do for a request, with the answer it selects (`vary.select`) under the policy in force now.

    `others`: answers to this URI are kept that the request does not select.
    """
    if method not in ("GET", "HEAD"):
        return Reuse(Use.MISS, 0.0, 0.0, "method")
    said = asked(request)
    if cache.mode == "off":
        decision = Reuse(Use.MISS, 0.0, 0.0, "bypass")
    elif not _PRECONDITIONS.isdisjoint(request):  # RFC 9111 §4.3.2: for the origin alone to judge
        decision = Reuse(Use.MISS, 0.0, 0.0, "request")
    elif stored is None:
        decision = Reuse(Use.MISS, 0.0, 0.0, "vary-miss" if others else "uri-miss")
    else:
        decision = _decided(stored, said, cache, now)
    if said.only_if_cached and decision.use not in (Use.HIT, Use.REFRESH):
        return decision._replace(use=Use.UNAVAILABLE, why="")
    return decision


def _decided(stored: Stored, said: Asked, cache: Cache, now: float) -> Reuse:
    age = now - stored.born
    ttl = lifetime(stored, cache) - age
    if age > cache.max_stale or stored.no_cache:
        return Reuse(_validated(stored), age, ttl, "stale")
    if ttl > 0:
        return Reuse(Use.RESERVE, age, ttl, "request") if _unwanted(said, age, ttl) else Reuse(Use.HIT, age, ttl, "")
    return _stale(stored, said, cache, age, ttl)


def _stale(stored: Stored, said: Asked, cache: Cache, age: float, ttl: float) -> Reuse:
    renewing, failing = windows(stored, cache)
    if -ttl < renewing and not _unwanted(said, age, ttl):
        return Reuse(Use.REFRESH, age, ttl, "")
    return Reuse(Use.RESERVE if -ttl < failing else _validated(stored), age, ttl, "stale")


def _validated(stored: Stored) -> Use:
    return Use.VALIDATE if stored.etag or stored.last_modified else Use.MISS


def _unwanted(said: Asked, age: float, ttl: float) -> bool:
    """Whether the request prefers that the origin be asked (RFC 9111 §5.2.1.1, §5.2.1.3, §5.2.1.4)."""
    if said is ASKED_NOTHING:
        return False
    too_old = said.max_age is not None and age > said.max_age
    return said.no_cache or too_old or (said.min_fresh is not None and ttl < said.min_fresh)


def stands_in(decision: Reuse, status: int | None) -> bool:
    """Whether the kept answer may take the place of what came: nothing (None), or a 5xx or 429, which are errors (contract)."""
    return decision.use is Use.RESERVE and (status is None or status >= 500 or status == 429)


def age_header(stored: Stored, now: float) -> bytes:
    """The value of Age (RFC 9111 §5.1): whole seconds."""
    return b"%d" % max(0, int(now - stored.born))


RULES: Final = (
    Rule(
        "RFC 9111 §4",
        "A fresh selected answer is reused for GET and HEAD without asking; every other method is passed on.",
        "test_reuse.py::test_what_becomes_of_a_request",
    ),
    Rule(
        "RFC 9111 §5.2.2.4",
        "An answer with no-cache is never reused without asking.",
        "test_reuse.py::test_what_becomes_of_a_request",
    ),
    Rule(
        "RFC 5861 §3",
        "Within stale-while-revalidate a stale answer is served and renewed in the background.",
        "test_reuse.py::test_what_becomes_of_a_request",
    ),
    Rule(
        "RFC 5861 §4",
        "Within stale-if-error a stale answer takes the place of an error.",
        "test_reuse.py::test_what_a_stale_answer_stands_in_for",
    ),
    Rule(
        "RFC 9111 §5.2.1",
        "A request's no-cache, max-age and min-fresh have the origin asked; if that fails, a copy that is fresh still serves.",
        "test_reuse.py::test_what_a_request_may_ask_for",
    ),
    Rule(
        "RFC 9111 §5.2.1.2",
        "A request's max-stale is ignored: staleness is the operator's to allow.",
        "test_reuse.py::test_what_a_request_may_ask_for",
    ),
    Rule(
        "RFC 9111 §5.2.1.7",
        "only-if-cached is answered from the store or with 504.",
        "test_reuse.py::test_only_if_cached",
    ),
    Rule("RFC 9111 §5.4, §5.5", "Pragma and Warning are ignored.", "test_reuse.py::test_what_a_request_may_ask_for"),
    Rule(
        "RFC 9111 §4.3.2",
        "If-Match and If-Unmodified-Since are for the origin to judge.",
        "test_reuse.py::test_what_becomes_of_a_request",
    ),
    Rule("RFC 9111 §5.1", "Age is on every answer from the store.", "test_reuse.py::test_age_is_in_whole_seconds"),
)
