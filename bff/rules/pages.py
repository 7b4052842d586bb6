"""Lists that go on: from what a context says of its next page to the gateway's own address of it.

Pure. A context's URL never reaches a browser: its query is read back into the parameters that the fragment declares, and
those make the address (so a page that no declared parameter names, or whose size is beyond `le`, is none).
Sources: RFC 8288 (Link), Django REST framework's pagination envelopes.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final
from urllib.parse import parse_qsl, quote, urlsplit

from bff.model import Fragment, Pattern, Ref
from bff.rules import keys

_LINK: Final = re.compile(r"<([^<>]*)>([^<]*)")
_REL: Final = re.compile(r';\s*rel\s*=\s*("[^"]*"|[^\s;,"]+)', re.IGNORECASE)
FIELDS: Final = 100  # of a query that are read: a list's parameters are a handful


def linked(value: str, rel: str = "next") -> str:
    """The target of a Link header's link with this relation; "" where there is none (RFC 8288 §3.3)."""
    for match in _LINK.finditer(value):
        said = _REL.search(match[2])
        if said is not None and rel in said[1].strip('"').lower().split():
            return match[1].strip()
    return ""


def turned(fragment: Fragment, values: keys.Values, stated: str) -> keys.Values | None:
    """The parameters of the page that `stated` is the URL of; None where they do not say it, or it is this one.

    A query parameter that the URL leaves out has its default (DRF leaves `page` out of the way back to the first page);
    whatever the query does not carry stays as it is.
    """
    try:
        pairs = parse_qsl(urlsplit(stated).query, keep_blank_values=True, max_num_fields=FIELDS)
    except ValueError:
        return None
    given: dict[str, Sequence[str]] = dict(values)
    for name, param in carried(fragment.query):
        texts = [text for key, text in pairs if key == name]
        if texts:
            given[param] = texts
        elif not fragment.params[param].required:
            given[param] = fragment.params[param].default
    made = keys.values(fragment.params, given)
    return None if made is None or made == values else made


def carried(query: Sequence[tuple[str, Pattern]]) -> list[tuple[str, str]]:
    """(query name, parameter name) where the query carries one parameter as it is."""
    return [
        (name, part.name)
        for name, pattern in query
        for part in pattern
        if isinstance(part, Ref) and all(other == "" for other in pattern if other is not part)
    ]


def address(fragment: Fragment, values: keys.Values) -> str:
    """The fragment endpoint's URL for these parameters; what the gateway fills in itself is left to it."""
    pairs = [
        f"{name}={quote(text, safe='')}"
        for name, texts in values.items()
        if not fragment.params[name].principal and texts != fragment.params[name].default
        for text in texts
    ]
    return f"/_bff/fragments/{fragment.name}" + ("?" + "&".join(pairs) if pairs else "")


def onward(fragment: Fragment, values: keys.Values, stated: object) -> str:
    """The gateway's address of the page that a context's answer calls its next; "" where there is none."""
    made = turned(fragment, values, stated) if isinstance(stated, str) and stated else None
    return "" if made is None else address(fragment, made)
