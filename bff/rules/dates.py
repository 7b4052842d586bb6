"""HTTP dates: read exactly where a wrong date must count as past, leniently where any date is better than none; written.

Pure: a clock enters as `wall_now`, and only because RFC 850 dates have two-digit years. Seconds since the epoch.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from email.utils import formatdate, parsedate_tz
from functools import lru_cache
from typing import Final

from bff.rules.rule import Rule

_MONTHS: Final = {name: at for at, name in enumerate(b"jan feb mar apr may jun jul aug sep oct nov dec".split(), 1)}
_TIME: Final = rb"(?P<hour>\d\d):(?P<minute>\d\d):(?P<second>\d\d)"
_DAY: Final = rb"(?:mon|tue|wed|thu|fri|sat|sun)"
_LONG_DAY: Final = rb"(?:mon|tues|wednes|thurs|fri|satur|sun)day"
_MONTH: Final = rb"(?P<month>[a-z]{3})"
_FORMS: Final = tuple(
    re.compile(form)
    for form in (  # RFC 9110 §5.6.7: IMF-fixdate, rfc850-date, asctime-date
        _DAY + rb", (?P<day>\d\d) " + _MONTH + rb" (?P<year>\d{4}) " + _TIME + rb" gmt",
        _LONG_DAY + rb", (?P<day>\d\d)-" + _MONTH + rb"-(?P<year>\d\d) " + _TIME + rb" gmt",
        _DAY + rb" " + _MONTH + rb" (?P<day>\d\d| \d) " + _TIME + rb" (?P<year>\d{4})",
    )
)
_LONGEST: Final = 64  # bytes; no date is longer
_AVERAGE_YEAR: Final = 31_556_952


def exact(value: bytes, wall_now: float) -> float | None:
    """The time an HTTP-date names, or None for anything that is none, letter for letter but for case (RFC 9111 §4.2).

    The day's name is not compared with the date.
    """
    if len(value) > _LONGEST:
        return None
    return _exact(value, 1970 + int(wall_now // _AVERAGE_YEAR) if b"-" in value else 0)


@lru_cache(maxsize=2048)
def _exact(value: bytes, year_now: int) -> float | None:
    lowered = value.lower()
    for form in _FORMS:
        if match := form.fullmatch(lowered):
            return _time(match, year_now)
    return None


def _time(match: re.Match[bytes], year_now: int) -> float | None:
    month = _MONTHS.get(match["month"])
    hour, minute, second = int(match["hour"]), int(match["minute"]), int(match["second"])
    if month is None or hour > 23 or minute > 59 or second > 60:  # 60: a leap second
        return None
    year = int(match["year"])
    if len(match["year"]) == 2:
        year = _century(year, year_now)
    try:
        day = datetime(year, month, int(match["day"]), tzinfo=UTC)
    except ValueError:
        return None
    return day.timestamp() + hour * 3600 + minute * 60 + second


def _century(two_digits: int, year_now: int) -> int:
    """RFC 9110 §5.6.7: what seems more than 50 years ahead is the latest such year that has passed."""
    year = year_now - year_now % 100 + two_digits
    return year - 100 if year > year_now + 50 else year


def until(expires: bytes, date: float, wall_now: float) -> float:
    """Seconds of freshness from Date to Expires; one that is no date has passed (RFC 9111 §5.3)."""
    time = exact(expires, wall_now)
    return 0.0 if time is None else max(0.0, time - date)


def lenient(value: bytes) -> float | None:
    """The time a date means, in any form that mail or HTTP ever used, or None."""
    return _lenient(value) if len(value) <= _LONGEST else None


@lru_cache(maxsize=2048)
def _lenient(value: bytes) -> float | None:
    try:
        parts = parsedate_tz(value.decode("latin-1"))
        return datetime(*parts[:6], tzinfo=UTC).timestamp() - (parts[9] or 0) if parts else None
    except (ValueError, OverflowError, IndexError, TypeError):  # what its parser lets out on garbage
        return None


@lru_cache(maxsize=64)
def written(wall: int) -> bytes:
    """An IMF-fixdate (RFC 9110 §5.6.7)."""
    return formatdate(wall, usegmt=True).encode()


RULES: Final = (
    Rule(
        "RFC 9110 §5.6.7",
        "All three forms of an HTTP-date are read; a two-digit year more than 50 years ahead is in the past.",
        "test_dates.py::test_the_three_forms_are_read",
    ),
    Rule(
        "RFC 9111 §4.2",
        "Dates are matched whatever their case; a zone but GMT, a wrong shape or an impossible day makes Expires invalid.",
        "test_dates.py::test_what_is_no_date_is_none",
    ),
)
