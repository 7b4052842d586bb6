"""What to do with a kept copy, with an answer and with a failure: the one table on staleness and falling back.

Pure: `now` is an argument. Sources: RFC 9111 §4 (reuse), RFC 5861 (stale windows), the project's contract (§2, policy).
"""

from __future__ import annotations

from enum import Enum, auto
from math import inf
from typing import Final, Protocol

from bff.model import Cache, Policy, Reason, Step, Trust
from bff.rules.caching import Terms


class Kept(Protocol):
    """What the rules need to know of a kept copy."""

    status: int
    version: str
    terms: Terms
    born: float
    stale_at: float  # what a purge makes of it: stale from then on; -inf: of no use; inf: nothing


class Use(Enum):
    """What a kept copy is good for now."""

    FRESH = auto()  # serve it, ask nobody
    REVALIDATE = auto()  # serve it, refresh in the background (stale-while-revalidate)
    RESERVE = auto()  # ask; serve it only if that fails (stale-if-error)
    NOTHING = auto()


FRESH: Final = Use.FRESH  # looking up a member of an Enum is dear on the hot path


class Answer(Enum):
    """What an upstream's answer is to a slot."""

    CONTENT = auto()
    ACCEPTED = auto()
    EMPTY = auto()
    NOT_MODIFIED = auto()
    REDIRECT = auto()
    NOT_FOUND = auto()
    AUTH = auto()
    CLIENT_ERROR = auto()
    ERROR = auto()


NEGATIVE: Final = frozenset({404, 410})


def lifetime(terms: Terms, status: int, cache: Cache) -> float:
    """Seconds an answer is fresh: what its upstream says, else `negative` for 404 and 410, else `fresh`."""
    if terms.lifetime is not None:
        return terms.lifetime
    return cache.negative if status in NEGATIVE else cache.fresh


def use(kept: Kept | None, version: str, cache: Cache, now: float) -> Use:
    """Whether a kept copy may be shown now, under the policy in force now (so that it can be tuned live)."""
    if kept is None or cache.mode == "off":
        return Use.NOTHING
    age = now - kept.born
    if age > cache.max_stale:
        return Use.NOTHING
    stale = age - lifetime(kept.terms, kept.status, cache)
    if kept.stale_at <= now:
        stale = max(stale, now - kept.stale_at)
    current = kept.version == version
    if not current and kept.version.rpartition(":")[0] != version.rpartition(":")[0]:
        return Use.NOTHING  # made under another level of trust
    if stale < 0 and current:
        return FRESH
    if kept.terms.must_revalidate or kept.status in NEGATIVE:
        return Use.NOTHING
    if current and stale < _window(kept.terms.stale_while_revalidate, cache.stale_while_revalidate):
        return Use.REVALIDATE
    if stale < _window(kept.terms.stale_if_error, cache.stale_if_error):
        return Use.RESERVE
    return Use.NOTHING


def trusted(version: str, trust: Trust) -> str:
    """A registration's version that says under which trust answers are read: a copy made under another is never shown."""
    return version if trust == "checked" else f"{trust}:{version}"


def _window(stated: float | None, policy: float) -> float:
    return policy if stated is None else stated


def expiry(kept: Kept, cache: Cache) -> float:
    """When it turns stale."""
    return min(lifetime(kept.terms, kept.status, cache) + kept.born, kept.stale_at)


def left(kept: Kept, cache: Cache, now: float) -> float:
    """Seconds of freshness left; negative once stale."""
    return expiry(kept, cache) - now


def steady(kept: Kept, cache: Cache, now: float) -> float:
    """Until when a fresh copy is shown as it is now, unless a purge meets it: fresh, and of the same age in whole seconds.

    -inf where what is shown depends on who asks.
    """
    if kept.status in NEGATIVE:
        return -inf
    return min(expiry(kept, cache), kept.born + min(int(now - kept.born) + 1, cache.max_stale))


def classify(status: int, *, conditional: bool = False) -> Answer:
    """What a status means for a slot; anything unexpected is an error, which never replaces a good entry."""
    match status:
        case 200 | 203:
            return Answer.CONTENT
        case 202:
            return Answer.ACCEPTED
        case 204:
            return Answer.EMPTY
        case 304 if conditional:
            return Answer.NOT_MODIFIED
        case 301 | 302 | 303 | 307 | 308:
            return Answer.REDIRECT
        case 404 | 410:
            return Answer.NOT_FOUND
        case 401 | 403:
            return Answer.AUTH
        case 429:
            return Answer.ERROR
        case _ if 400 <= status < 500:
            return Answer.CLIENT_ERROR
        case _:
            return Answer.ERROR


def keepable(terms: Terms, status: int, cache: Cache, *, shareable: bool) -> bool:
    """Whether an answer goes into the store: it may, and some window makes it of use."""
    if cache.mode == "off" or not shareable or not terms.storable:
        return False
    if lifetime(terms, status, cache) > 0:
        return True
    validator = terms.etag or terms.last_modified
    if terms.must_revalidate or status in NEGATIVE:
        return bool(validator)
    windows = (
        _window(terms.stale_while_revalidate, cache.stale_while_revalidate),
        _window(terms.stale_if_error, cache.stale_if_error),
    )
    return bool(validator) or max(windows) > 0


REUSE: Final = 3600.0  # seconds that a copy with a validator is worth keeping past its windows: a 304 is cheap


def keep_for(terms: Terms, status: int, cache: Cache) -> float:
    """Seconds from its birth after which a kept answer is of no use to anybody."""
    life = lifetime(terms, status, cache)
    windows = 0.0
    if not (terms.must_revalidate or status in NEGATIVE):
        windows = max(
            _window(terms.stale_while_revalidate, cache.stale_while_revalidate),
            _window(terms.stale_if_error, cache.stale_if_error),
        )
    if terms.etag or terms.last_modified:
        windows = max(windows, REUSE)
    return min(life + windows, cache.max_stale)


_NO_STALE: Final = frozenset({Reason.NOT_FOUND, Reason.AUTH})


def step(policy: Policy, reason: Reason, *, stale: bool, fallback: bool, client: bool, primary: bool) -> Step:
    """The first step of `on_error` that can be taken.

    404, 410, 401 and 403 are answers: no stale copy hides them. `client` only makes sense after a timeout, and a primary,
    which decides the page's status, uses only `stale` and `fallback`.
    """
    for each in policy.on_error:
        match each:
            case "stale" if stale and reason not in _NO_STALE:
                return each
            case "fallback" if fallback:
                return each
            case "client" if client and reason is Reason.TIMEOUT and not primary:
                return each
            case "omit":
                return each
            case _:
                continue
    return "omit"
