"""Entity tags and dates as validators, and conditional requests answered from the store (RFC 9110 §8.8, §13; RFC 9111 §4.3.2).

Pure.
"""

from __future__ import annotations

import re
from typing import Final

from bff.rules.caching import Fields, Lines
from bff.rules.dates import exact
from bff.rules.rule import Rule
from bff.rules.stored import Stored

ANY: Final = b"*"
_TAG: Final = re.compile(rb'(?:W/)?"[!#-\xff]*"')  # RFC 9110 §8.8.3: etagc has neither quote nor space
_CARRIED: Final = frozenset(
    b"age cache-control cache-status cdn-cache-control content-location date etag expires last-modified vary".split()
)


def etags(value: bytes) -> tuple[bytes, ...]:
    """The entity tags of a list, `(b"*",)` for any; what is no tag is left out."""
    if value.strip(b" \t") == ANY:
        return (ANY,)
    return tuple(_TAG.findall(value))


def strong(one: bytes, other: bytes) -> bool:
    """RFC 9110 §8.8.3.2: the same bytes, and neither weak."""
    return one == other != b"" and not one.startswith(b"W/")


def weak(one: bytes, other: bytes) -> bool:
    """RFC 9110 §8.8.3.2: the same but for being weak."""
    return one.removeprefix(b"W/") == other.removeprefix(b"W/") != b""


def not_modified(stored: Stored, method: str, request: Fields) -> bool:
    """Whether a kept answer is answered with 304: If-None-Match, or where there is none If-Modified-Since.

    Only a 2xx is compared: conditions are ignored where the answer would be another without them (RFC 9110 §13.2.1).
    """
    if method not in ("GET", "HEAD") or not 200 <= stored.status < 300:
        return False
    if b"if-none-match" in request:
        tags = etags(request[b"if-none-match"])
        return tags == (ANY,) or any(weak(tag, stored.etag) for tag in tags)
    if b"if-modified-since" in request:
        since = exact(request[b"if-modified-since"], stored.date)
        return since is not None and (stored.date if stored.modified is None else stored.modified) <= since
    return False


def strong_date(stored: Stored) -> bool:
    """RFC 9110 §8.8.2.2: Last-Modified is a strong validator where the answer was given at least a second later."""
    return stored.modified is not None and stored.date - stored.modified >= 1.0


def not_modified_headers(headers: Lines) -> list[tuple[bytes, bytes]]:
    """What of an answer's head its 304 carries (RFC 9110 §15.4.5); Last-Modified too: it helps who has no tag."""
    return [line for line in headers if line[0] in _CARRIED]


RULES: Final = (
    Rule(
        "RFC 9110 §8.8.3.2",
        "Entity tags are compared weakly for If-None-Match, strongly for If-Range.",
        "test_validators.py::test_tags_are_compared",
    ),
    Rule(
        "RFC 9111 §4.3.2",
        "If-None-Match (a list, or *) is answered from the store, and wins over If-Modified-Since.",
        "test_validators.py::test_conditions_are_answered_from_the_store",
    ),
    Rule(
        "RFC 9111 §4.3.2",
        "If-Modified-Since is compared with Last-Modified, else with Date; one that is no date is ignored.",
        "test_validators.py::test_conditions_are_answered_from_the_store",
    ),
    Rule(
        "RFC 9110 §15.4.5",
        "A 304 carries the validators, the dates, the caching fields and Vary, and nothing of the body.",
        "test_validators.py::test_what_a_304_carries",
    ),
)
