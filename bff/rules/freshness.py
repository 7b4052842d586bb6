"""How long an answer is fresh, how old it came, and how much longer the policy lets it be used (RFC 9111 §4.2, RFC 5861).

Pure: times are arguments, in seconds.
"""

from __future__ import annotations

from typing import Final

from bff.model import Cache
from bff.rules.caching import HEURISTIC_STATUSES, Fields
from bff.rules.control import Control, age
from bff.rules.dates import lenient, until
from bff.rules.rule import Rule
from bff.rules.stored import Stored

HEURISTIC_SHARE: Final = 0.1  # RFC 9111 §4.2.2: a typical setting
HEURISTIC_CAP: Final = 86400.0  # the contract's default of `max_stale`: a guess is not trusted for longer
NEGATIVE: Final = frozenset({404, 410})


def initial_age(found: Fields, *, asked: float, now: float, wall_now: float) -> float:
    """RFC 9111 §4.2.3: corrected_initial_age of an answer asked for at `asked` whose head arrived at `now`."""
    date = lenient(found[b"date"]) if b"date" in found else None
    apparent = max(0.0, wall_now - date) if date is not None else 0.0
    return max(apparent, (age(found[b"age"]) if b"age" in found else 0.0) + max(0.0, now - asked))


def explicit(
    found: Fields, said: Control, date: float, wall_now: float, *, targeted: bool, private: bool
) -> float | None:
    """RFC 9111 §4.2.1: s-maxage, then max-age, then Expires minus Date; an Expires that is no date has passed (§5.3).

    `targeted`: what is said came by CDN-Cache-Control, and Expires does not count (RFC 9213 §2.2).
    """
    if said.s_maxage is not None and not private:
        return said.s_maxage
    if said.max_age is not None:
        return said.max_age
    if b"expires" in found and not targeted:
        return until(found[b"expires"], date, wall_now)
    return None


def guessed(status: int, said: Control, date: float, modified: float | None) -> float | None:
    """RFC 9111 §4.2.2: a tenth of the time it had stood unchanged, where its status or `public` allows a guess."""
    if modified is None or not (said.public or status in HEURISTIC_STATUSES):
        return None
    return min(max(0.0, date - modified) * HEURISTIC_SHARE, HEURISTIC_CAP)


def lifetime(stored: Stored, cache: Cache) -> float:
    """Seconds an answer is fresh: what its upstream says or lets guess, else `negative` for 404 and 410, else nothing.

    Under `mode: fixed` the policy's `fresh` takes the place of what the upstream says.
    """
    if stored.lifetime is not None and cache.mode != "fixed":
        return stored.lifetime
    if stored.status in NEGATIVE:
        return cache.negative
    return cache.fresh if cache.mode == "fixed" else 0.0


def windows(stored: Stored, cache: Cache) -> tuple[float, float]:
    """Seconds past its lifetime that an answer may be shown while it is renewed, and in place of an error (RFC 5861).

    Where the upstream says nothing the policy does, but not for errors: nobody is served by a stale one.
    """
    if stored.must_revalidate:
        return 0.0, 0.0
    renewing, failing = stored.stale_while_revalidate, stored.stale_if_error
    good = stored.status < 400
    return (
        renewing if renewing is not None else cache.stale_while_revalidate if good else 0.0,
        failing if failing is not None else cache.stale_if_error if good else 0.0,
    )


def worth(stored: Stored, cache: Cache) -> bool:
    """Whether keeping it is of any use: it has some lifetime or window, or a validator to renew it by."""
    if cache.mode == "off":
        return False
    shown = not stored.no_cache and (lifetime(stored, cache) > 0 or max(windows(stored, cache)) > 0)
    return shown or bool(stored.etag or stored.last_modified)


def keep_for(stored: Stored, cache: Cache) -> float:
    """Seconds of age past which it is of no use: its windows are over and nothing can renew it, or it is over `max_stale`."""
    span = lifetime(stored, cache) + max(windows(stored, cache))
    return cache.max_stale if stored.etag or stored.last_modified else min(span, cache.max_stale)


RULES: Final = (
    Rule(
        "RFC 9111 §4.2.1",
        "Lifetime: s-maxage, else max-age, else Expires minus Date; an Expires that is no date has passed.",
        "test_freshness.py::test_lifetimes",
    ),
    Rule(
        "RFC 9111 §4.2.2",
        "Nothing stated: a tenth of Date minus Last-Modified, at most a day, where the status or public allows it.",
        "test_freshness.py::test_lifetimes",
    ),
    Rule(
        "RFC 9111 §4.2.3",
        "Age on arrival: the larger of Date's distance and of Age plus the time the answer took.",
        "test_freshness.py::test_age_on_arrival",
    ),
    Rule(
        "RFC 9111 §5.1",
        "Of several Age values the first counts; one that is no number of seconds is ignored.",
        "test_freshness.py::test_age_on_arrival",
    ),
    Rule(
        "RFC 9111 §4.2.4",
        "no-cache, must-revalidate, proxy-revalidate and s-maxage forbid a stale answer, whatever the policy says.",
        "test_freshness.py::test_what_forbids_a_stale_answer",
    ),
    Rule(
        "RFC 5861 §3, §4",
        "The windows for renewing and for failing are apart; where the upstream states none, the policy does.",
        "test_freshness.py::test_the_windows_are_apart",
    ),
    Rule("contract", "Nothing older than max_stale is kept or shown.", "test_freshness.py::test_how_long_it_is_kept"),
)
