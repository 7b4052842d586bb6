"""Which ends of an exchange say what of a context, which are worth a second try, and when that is made. Pure."""

from __future__ import annotations

import re
from collections import deque
from enum import Enum
from typing import Final

from bff.model import Failure, Reason, Reply, Timing
from bff.rules.caching import fields
from bff.rules.dates import exact

BASE: Final = 0.025
"""Seconds. Envoy's back-off: the nth retry comes after up to 2ⁿ - 1 times this, drawn evenly."""
SAMPLES: Final = 256
FEWEST: Final = 20
"""Answers of which a percentile says something."""
REFRESH: Final = 3.0
"""Seconds for which a percentile holds (Finagle's backup requests)."""
_AGAIN: Final = frozenset({502, 503, 504})
_OVERLOADED: Final = frozenset({429, 502, 503, 504})
_SPENT: Final = re.compile(rb"^bff-deadline: ([0-9]+)\r$", re.MULTILINE)


class Verdict(Enum):
    """What the end of an exchange says of its context."""

    FINE = "it answered; a 404 is an answer"
    FAILED = "it failed, and took the request"
    REJECTED = "it is overloaded, away, or too slow"
    CONNECT = "no connection: it is away"
    UNKNOWN = "nothing: the request never left"


FINE: Final = Verdict.FINE  # looking up a member of an Enum is dear on the hot path
UNKNOWN: Final = Verdict.UNKNOWN


def verdict(answer: Reply | Failure) -> Verdict:
    if isinstance(answer, Reply):
        if answer.status < 500 and answer.status != 429:
            return FINE
        return Verdict.REJECTED if answer.status in _OVERLOADED else Verdict.FAILED
    match answer.reason:
        case Reason.CONNECT:
            return Verdict.CONNECT
        case Reason.TIMEOUT | Reason.TORN:
            return Verdict.REJECTED
        case Reason.TOO_LARGE:
            return Verdict.FAILED
        case Reason.REFUSED if answer.timing.first_byte:
            return Verdict.FAILED  # what it sent was refused
        case _:
            return UNKNOWN


def worth_retrying(answer: Reply | Failure) -> bool:
    """Connect failure, reset before the first byte, 502, 503, 504."""
    if isinstance(answer, Reply):
        return answer.status in _AGAIN
    return answer.reason is Reason.CONNECT or (answer.reason is Reason.TORN and not answer.timing.first_byte)


def pause(retry: int, chance: float, answer: Reply | Failure, wall: float) -> float:
    """Seconds to wait before the nth retry, from 1; at least what the context asks for. `chance`: from 0 to below 1."""
    own = BASE * ((1 << retry) - 1) * chance
    stated = retry_after(answer, wall) if isinstance(answer, Reply) else None
    return own if stated is None else stated + own


def retry_after(reply: Reply, wall: float) -> float | None:
    """Seconds, from either form of the field (RFC 9110 §10.2.3); None where there is none that can be read."""
    value = fields(reply.headers).get(b"retry-after", b"").strip()
    if value.isdigit():
        return float(value[:9])
    time = exact(value, wall)
    return None if time is None else max(0.0, time - wall)


def later(headers: bytes, seconds: float) -> bytes:
    """A request's header lines when it is sent again so much later: the time left in `BFF-Deadline` is less."""
    return _SPENT.sub(lambda found: b"bff-deadline: %d\r" % max(0, int(found[1]) - round(seconds * 1000)), headers)


def since(timing: Timing, seconds: float) -> Timing:
    """The times of a try as seen from the first, which began so much earlier."""
    queued, connected, first_byte, total = timing
    return Timing(
        queued and queued + seconds,
        connected and connected + seconds,
        first_byte and first_byte + seconds,
        total + seconds,
    )


class Latencies:
    """How long the last answers took, for hedging at a percentile."""

    __slots__ = ("_at", "_last", "_until", "_value")

    def __init__(self) -> None:
        self._last: deque[float] = deque(maxlen=SAMPLES)
        self._at = ""
        self._until = 0.0
        self._value: float | None = None

    def add(self, seconds: float) -> None:
        self._last.append(seconds)

    def percentile(self, at: str, now: float) -> float | None:
        """The nearest-rank percentile (`p95`) of the last answers, for three seconds; None before there are twenty."""
        if now >= self._until or at != self._at:
            if len(self._last) < FEWEST:
                return None
            rank = -(-int(at[1:]) * len(self._last) // 100)
            self._at, self._until, self._value = at, now + REFRESH, sorted(self._last)[rank - 1]
        return self._value
