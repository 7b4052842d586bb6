"""Entries as a resolver makes them."""

from typing import Any

from bff.model import Markup, Outcome, Reason, Result
from bff.rules.caching import fields, terms
from bff.store.entry import Entry, Seen
from tests.build import policy

SEEN: Seen = (0.0, policy().cache, Result(outcome=Outcome.FRESH, reason=Reason.HIT))
HEAD = [(b"cache-control", b"max-age=60"), (b"date", b"Mon, 01 Jan 2024 00:00:00 GMT")]


def entry(key: str, size: int = 1000, *, etag: bytes = b'"1"', **changes: Any) -> Entry:
    """One with a body of its own."""
    body = b"x" * size
    said = fields([*HEAD, (b"etag", etag)])
    given: dict[str, Any] = {
        "fragment": "a/b",
        "version": "1",
        "status": 200,
        "markup": Markup(parts=(body,), flat=body),
        "data": None,
        "terms": terms(said, 200, scope="shared", obey=True, wall_now=1_704_067_200.0 + size % 7),
        "born": float(size),
        "as_of": None,
    }
    return Entry(key=key, **{**given, **changes})
