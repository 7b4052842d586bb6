"""Style sheets and scripts of a page's fragments, gathered for its head: once each, whoever asks for them. Pure.

Where their files come from, and what they are called at the gateway, is decided elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from html import escape
from typing import Final

from bff.model import Fragment

MOST: Final = 16
"""Preloads in a Link header: more would delay what they are meant to hasten."""
_DEPTH: Final = 3  # of fragments in fragments


@dataclass(frozen=True, slots=True)
class Link:
    """One file: its URL at the gateway, and its integrity (SRI), which tells equal content too."""

    url: str
    integrity: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Hoisted:
    """What a fragment needs, or a page: style sheets, modules, and modules that those import."""

    css: tuple[Link, ...] = ()
    js: tuple[Link, ...] = ()
    imports: tuple[Link, ...] = ()

    def urls(self) -> dict[str, list[str]] | None:
        """As the JSON forms list them; None where there is nothing."""
        if not (self.css or self.js):
            return None
        return {"css": [link.url for link in self.css], "js": [link.url for link in self.js]}


def of_page(used: Iterable[Fragment], fragments: Mapping[str, Fragment], held: Mapping[str, Hoisted]) -> Hoisted:
    """The assets of fragments and of those that they embed, in that order."""
    found = [held[fragment.name] for fragment in _all(used, fragments) if fragment.name in held]
    return Hoisted(
        css=_once(link for each in found for link in each.css),
        js=_once(link for each in found for link in each.js),
        imports=_once(link for each in found for link in each.imports),
    )


def _all(used: Iterable[Fragment], fragments: Mapping[str, Fragment]) -> list[Fragment]:
    """Fragments and what they embed; only checked ones act in the page itself (contract §2, `trust`)."""
    seen: dict[str, Fragment] = {}
    level = [*used]
    for _ in range(_DEPTH + 1):
        level = [each for each in level if each.name not in seen and each.trust == "checked"]
        seen |= {each.name: each for each in level}
        level = [fragments[name] for each in level for name in each.embeds if name in fragments]
    return [*seen.values()]


def _once(links: Iterable[Link]) -> tuple[Link, ...]:
    """Without what has the same content under another name."""
    found: dict[str, Link] = {}
    for link in links:
        found.setdefault(link.integrity, link)
    return tuple(found.values())


def elements(page: Hoisted) -> bytes:
    """For the head: style sheets that hold up painting, modules that hold up nothing."""
    sheets = [f'<link rel="stylesheet"{_attributes("href", link)}>' for link in page.css]
    modules = [f'<script type="module" async{_attributes("src", link)}></script>' for link in page.js]
    return "".join(sheets + modules).encode()


def _attributes(name: str, link: Link) -> str:
    return f' {name}="{escape(link.url)}" integrity="{link.integrity}"'


def preloads(page: Hoisted) -> bytes:
    """The Link header's value (RFC 8288), so that a browser or an edge asks for them before it has read the head."""
    sheets = [f"<{link.url}>; rel=preload; as=style" + _integrity(link) for link in page.css]
    modules = [f"<{link.url}>; rel=modulepreload" + _integrity(link) for link in (*page.js, *page.imports)]
    return ", ".join((sheets + modules)[:MOST]).encode()


def _integrity(link: Link) -> str:
    return f'; integrity="{link.integrity}"'
