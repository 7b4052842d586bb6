"""`source: json`: the context answers JSON, handed out as it is and turned into HTML by the fragment's own template."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final

from bff.errors import TemplateFailed, TemplateSlow
from bff.markup.check import Checker
from bff.model import Fragment, Meta
from bff.rules import ijson
from bff.rules.caching import Fields, wall
from bff.upstream.sources.content import SLOW, Content, Kit, Read, Unreadable, content_type, rfc3339
from bff.upstream.sources.html import checked

_LATEST: Final = datetime(9999, 1, 1, tzinfo=UTC).timestamp()  # what RFC 3339 can say
QUICK: Final = 0.005
"""Seconds that a template may hold up the event loop; then it begins again in a thread."""


class JsonSource:
    accept = "application/json"

    def __init__(self, checker: Checker, *, render: float = 2.0) -> None:
        """`render`: seconds a template may take; a quick one runs on the event loop, and moves to a thread once it is not."""
        self._checker = checker
        self._limit = render

    @classmethod
    def made(cls, kit: Kit) -> JsonSource:
        return cls(kit.checker, render=kit.render)

    def read(self, fragment: Fragment, found: Fields, body: bytes, params: Mapping[str, Any], *, head: bool) -> Read:
        kind = content_type(found)
        if kind != b"application/json" and not kind.endswith(b"+json"):
            return Unreadable(f"answered {kind.decode('latin-1') or 'no content type'} where JSON is expected")
        work = partial(self._read, fragment, found, body, params, head=head)
        if len(body) >= SLOW:
            return partial(work, within=self._limit)
        try:
            return work(within=QUICK)
        except TemplateSlow:
            return partial(work, within=self._limit)

    def _read(
        self, fragment: Fragment, found: Fields, body: bytes, params: Mapping[str, Any], *, head: bool, within: float
    ) -> Content | Unreadable:
        try:
            data, body = ijson.read(body)
        except ValueError as error:
            return Unreadable(f"answered no valid JSON: {error}")
        spoke = timestamp(data, fragment.as_of)
        if fragment.template is None:
            return Content(data=body, as_of=spoke)
        try:
            html = fragment.template(data, params, _meta(found, spoke), within)
        except TemplateFailed as error:
            if isinstance(error, TemplateSlow) and within < self._limit:
                raise
            return Unreadable(str(error))
        read = checked(self._checker, fragment, html.encode(), head=head)
        done = read() if callable(read) else read
        return done if isinstance(done, Unreadable) else Content(markup=done.markup, data=body, as_of=spoke)


def _meta(found: Fields, spoke: float | None) -> Meta:
    date = wall(found.get(b"date", b"")) or datetime.now(UTC).timestamp()
    as_of = spoke or wall(found.get(b"last-modified", b"")) or date
    return Meta(date=rfc3339(date), as_of=rfc3339(as_of))


def timestamp(data: Any, path: str) -> float | None:
    """The wall time in a JSON field named by a dotted path, ISO 8601 or seconds since the epoch; None where there is none."""
    for name in path.split(".") if path else ():
        if isinstance(data, list) and name.isdigit() and int(name) < len(data):
            data = data[int(name)]
        elif isinstance(data, dict):
            data = data.get(name)
        else:
            return None
    if not path or isinstance(data, bool):
        return None
    try:
        seconds = _seconds(data)
    except (ValueError, OverflowError):
        return None
    return seconds if seconds is not None and 0 <= seconds < _LATEST else None


def _seconds(data: Any) -> float | None:
    if isinstance(data, int | float):
        return float(data)
    if not isinstance(data, str):
        return None
    moment = datetime.fromisoformat(data)
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
