"""Heads as the tests of the caching rules write them: `Name: value` texts, and dates as seconds from `WALL`."""

from email.utils import formatdate

from bff.model import Cache
from bff.rules.caching import Fields, fields
from bff.rules.stored import Refused, Stored
from bff.rules.storing import compiled
from tests.build import policy

WALL = 1_750_000_000.0  # Sun, 15 Jun 2025 15:06:40 GMT
NOW = 1000.0  # of the clock that `born` is on

CACHE: Cache = policy(
    cache__stale_while_revalidate="0s", cache__stale_if_error="0s", cache__max_stale="24h", cache__negative="5s"
).cache


def at(seconds: float) -> str:
    """The HTTP date so many seconds from now."""
    return formatdate(WALL + seconds, usegmt=True)


def lines(*texts: str) -> list[tuple[bytes, bytes]]:
    pairs = (text.partition(":") for text in texts)
    return [(name.strip().lower().encode(), value.strip().encode("latin-1")) for name, _, value in pairs]


def head(*texts: str) -> Fields:
    return fields(lines(*texts))


def answer(
    *texts: str,
    status: int = 200,
    request: Fields | None = None,
    method: str = "GET",
    took: float = 0.0,
    private: bool = False,
    fixed: bool = False,
) -> Stored | Refused:
    """What is kept of an answer that has just arrived."""
    return compiled(
        method=method,
        request=request or {},
        status=status,
        headers=lines(*texts),
        asked=NOW - took,
        now=NOW,
        wall_now=WALL,
        private=private,
        mode="fixed" if fixed else "http",
    )


def kept(
    *texts: str, status: int = 200, request: Fields | None = None, took: float = 0.0, fixed: bool = False
) -> Stored:
    found = answer(*texts, status=status, request=request, took=took, fixed=fixed)
    assert isinstance(found, Stored), found
    return found
