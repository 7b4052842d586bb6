"""What a primary's result makes of its page (contract §3): the status, and whether its own body is shown. Pure."""

from __future__ import annotations

from typing import Final

from bff.model import Outcome, Reason, Result

_REFUSED: Final = frozenset({Reason.CONCURRENCY, Reason.BREAKER, Reason.OVERLOAD})


def status(result: Result) -> int:
    """The page's status by its primary's result."""
    match result.outcome:
        case Outcome.FRESH:
            return result.status if result.status is not None and result.status >= 400 else 200
        case Outcome.STALE | Outcome.FALLBACK:
            return 200
        case _ if result.reason in (Reason.PARAMS, Reason.NOT_FOUND, Reason.WHEN):
            return 404
        case _ if result.reason is Reason.TIMEOUT:
            return 504
        case _ if result.reason in _REFUSED or result.reason is Reason.OFF:
            return 503
        case _:
            return 502


def has_body(result: Result) -> bool:
    return result.outcome is Outcome.FRESH and result.markup is not None and result.markup.size > 0
