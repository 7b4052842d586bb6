"""Lists that go on, for every kind of source: the answer's own word on its next page, read before the source reads the rest.

In JSON the context's URLs are replaced by the gateway's before a template or a program sees them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from bff.model import Fragment
from bff.rules import ijson, keys, pages
from bff.rules.caching import Fields, text
from bff.upstream.sources.content import SLOW, Content, Read, Source, Unreadable


def read(
    source: Source,
    fragment: Fragment,
    found: Fields,
    body: bytes,
    *,
    values: keys.Values,
    params: Mapping[str, Any],
    head: bool,
) -> Read:
    """As `source.read`, with where the list goes on."""
    if not fragment.paginate:
        return source.read(fragment, found, body, params, head=head)
    ask = partial(source.read, fragment, found, params=params, head=head)
    if len(body) >= SLOW:
        return lambda: _done(_begun(ask, fragment, values, found, body))
    made = _begun(ask, fragment, values, found, body)
    return made if not isinstance(made, _Slow) else lambda: _done(made)


@dataclass(frozen=True, slots=True)
class _Slow:
    """What a source wants to do in a worker thread, and where the list goes on."""

    work: Callable[[], Content | Unreadable]
    next: str


def _begun(
    ask: Callable[..., Read], fragment: Fragment, values: keys.Values, found: Fields, body: bytes
) -> Content | Unreadable | _Slow:
    following, body = _link(fragment, values, found, body)
    made = ask(body=body)
    return _Slow(made, following) if callable(made) else _with(made, following)


def _done(made: Content | Unreadable | _Slow) -> Content | Unreadable:
    return _with(made.work(), made.next) if isinstance(made, _Slow) else made


def _with(made: Content | Unreadable, following: str) -> Content | Unreadable:
    return replace(made, next=following) if isinstance(made, Content) else made


def _link(fragment: Fragment, values: keys.Values, found: Fields, body: bytes) -> tuple[str, bytes]:
    """The next page's address, and the body with the gateway's addresses in place of the context's."""
    style = fragment.paginate
    if style == "link":
        return pages.onward(fragment, values, pages.linked(text(found, b"link"))), body
    try:
        data, body = ijson.read(body)
    except ValueError:
        return "", body  # the source says what is wrong with it
    path = ["next"] if isinstance(style, str) else style["next"].split(".")
    following = _replace(fragment, values, data, path)
    if style == "drf":
        _replace(fragment, values, data, ["previous"])
    return following, json.dumps(data, ensure_ascii=False, separators=(",", ":")).encode()


def _replace(fragment: Fragment, values: keys.Values, data: Any, path: list[str]) -> str:
    """Put the gateway's address where the context's stands; null where it leads to nothing that is declared."""
    *outer, last = path
    for name in outer:
        data = data.get(name) if isinstance(data, dict) else None
    if not isinstance(data, dict) or last not in data:
        return ""
    made = pages.onward(fragment, values, data[last])
    data[last] = made or None
    return made
