"""`source: json`: the context answers JSON, handed out as it is and turned into HTML by the fragment's own template."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import partial
from typing import Any

from bff.errors import TemplateFailed
from bff.markup.check import Checker
from bff.model import Fragment, Meta, Reply
from bff.rules.caching import header, wall
from bff.upstream.sources.content import SLOW, Content, Read, Unreadable, content_type, rfc3339
from bff.upstream.sources.html import checked


class JsonSource:
    accept = "application/json"

    def __init__(self, checker: Checker) -> None:
        self._checker = checker

    def read(self, fragment: Fragment, reply: Reply, params: Mapping[str, Any], *, head: bool) -> Read:
        kind = content_type(reply)
        if kind != "application/json" and not kind.endswith("+json"):
            return Unreadable(f"answered {kind or 'no content type'} where JSON is expected")
        work = partial(self._read, fragment, reply, params, head)
        return work if len(reply.body) >= SLOW else work()

    def _read(self, fragment: Fragment, reply: Reply, params: Mapping[str, Any], head: bool) -> Content | Unreadable:
        try:
            data = json.loads(reply.body)
        except ValueError as error:
            return Unreadable(f"answered no valid JSON: {error}")
        spoke = timestamp(data, fragment.as_of)
        if fragment.template is None:
            return Content(data=reply.body, as_of=spoke)
        try:
            html = fragment.template(data, params, _meta(reply, spoke))
        except TemplateFailed as error:
            return Unreadable(str(error))
        read = checked(self._checker, fragment, html.encode(), head=head)
        done = read() if callable(read) else read
        return done if isinstance(done, Unreadable) else Content(markup=done.markup, data=reply.body, as_of=spoke)


def _meta(reply: Reply, spoke: float | None) -> Meta:
    date = wall(header(reply.headers, b"date")) or datetime.now(UTC).timestamp()
    as_of = spoke or wall(header(reply.headers, b"last-modified")) or date
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
    if isinstance(data, int | float):
        return float(data)
    try:
        moment = datetime.fromisoformat(data) if isinstance(data, str) else None
    except ValueError:
        return None
    if moment is None:
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
