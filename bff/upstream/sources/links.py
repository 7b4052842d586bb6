"""What a primary's answer links to beside its HTML (the Link header, RFC 8288), as elements for its page's head.

Relations that show or hasten something; style sheets and scripts are registered as assets instead.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from html import escape
from typing import Final

from bff.model import Fragment
from bff.rules.caching import Fields, text
from bff.upstream.sources.content import Content, Read, Unreadable
from bff.upstream.sources.reach import reached

MOST: Final = 16
"""Links of one answer: more are a mistake."""
RELATIONS: Final = frozenset(
    ("alternate", "canonical", "dns-prefetch", "modulepreload", "next", "preconnect", "preload", "prev")
)
_ATTRIBUTES: Final = ("as", "crossorigin", "fetchpriority", "hreflang", "integrity", "media", "type")
_LINK: Final = re.compile(r"<([^<>]*)>([^<]*)")
_PARAM: Final = re.compile(r";\s*([A-Za-z*-]+)(?:\s*=\s*(\"[^\"]*\"|[^\s;,\"]*))?")


def dressed(read: Read, fragment: Fragment, found: Fields) -> Read:
    """What was read, with the links that were stated; only a checked fragment has a say in the head."""
    links = dict(elements(text(found, b"link"), fragment)) if b"link" in found and fragment.trust == "checked" else {}
    if not links or isinstance(read, Unreadable):
        return read
    return _linked(read, links) if isinstance(read, Content) else lambda: _linked(read(), links)


def _linked(read: Content | Unreadable, links: Mapping[str, bytes]) -> Content | Unreadable:
    if isinstance(read, Unreadable) or read.markup is None:
        return read
    return replace(read, markup=replace(read.markup, head={**links, **read.markup.head}))


def elements(stated: str, fragment: Fragment) -> Iterator[tuple[str, bytes]]:
    """(key in the head, element); a canonical link has the key that the shell's own has."""
    for number, match in enumerate([*_LINK.finditer(stated)][:MOST]):
        told = {name.lower(): value.strip('"') for name, value in _PARAM.findall(match[2])}
        rel = told.get("rel", "").lower()
        href = reached(match[1].strip(), fragment)
        if rel not in RELATIONS or not _web(href):
            continue
        given = "".join(f' {name}="{escape(told[name])}"' for name in _ATTRIBUTES if name in told)
        element = f'<link rel="{rel}" href="{escape(href)}"{given}>'.encode()
        yield "canonical" if rel == "canonical" else f"link:{number}", element


def _web(href: str) -> bool:
    return (href.startswith("/") and not href.startswith("//")) or href.lower().startswith(("http://", "https://"))
