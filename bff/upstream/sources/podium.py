"""`source: podium`: a podlet's content with its style sheets and scripts, as a Podium v5 layout would place them.

What lies under the upstream goes through the context's proxy route that covers it, as podlets' own proxies do
(`/podium-resource/<podlet>/<name>/…`); what lies elsewhere is used as it is. Scripts never hold up the page: `async`.
"""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

from bff.markup.check import Checker
from bff.model import Clock, Fetch, Fragment, Headers
from bff.rules.caching import Fields, fields, text
from bff.upstream.manifests import Asset, assets
from bff.upstream.podlets import Podlets
from bff.upstream.sources.content import Kit, Read, Unreadable
from bff.upstream.sources.html import checked, hypertext
from bff.upstream.sources.reach import reached

CONTENT = ("content", "all")
FALLBACK = ("fallback", "all")


class PodiumSource:
    accept = "text/html"

    def __init__(self, checker: Checker) -> None:
        self._checker = checker

    @classmethod
    def made(cls, kit: Kit) -> PodiumSource:
        return cls(kit.checker)

    def read(self, fragment: Fragment, found: Fields, body: bytes, params: Mapping[str, Any], *, head: bool) -> Read:
        del params
        text = hypertext(found, body)
        if isinstance(text, Unreadable):
            return text
        return checked(self._checker, fragment, dressed(fragment, found, text, CONTENT), head=head)

    def through(self, fetch: Fetch, clock: Clock) -> Asked:
        return Asked(fetch, clock)


class Asked(Podlets):
    """Podlets, with what stands in for them as HTML."""

    def fallback(self, fragment: Fragment, target: str) -> bytes | None:
        """The podlet's own fallback with its assets, where there is one."""
        found: tuple[bytes, Headers] | None = self.stand_in(fragment.upstream, target)
        return None if found is None else dressed(fragment, fields(found[1]), found[0], FALLBACK)


def dressed(fragment: Fragment, found: Fields, body: bytes, scopes: tuple[str, ...]) -> bytes:
    """Markup with its style sheets before it and its scripts behind."""
    named = list(assets(text(found, b"link"), scopes))
    before = "".join(_style(each, fragment) for each in named if each.kind == "style")
    behind = "".join(_script(each, fragment) for each in named if each.kind == "script")
    return b"%b%b%b" % (before.encode(), body, behind.encode()) if named else body


def _style(asset: Asset, fragment: Fragment) -> str:
    media = f' media="{escape(asset.media)}"' if asset.media else ""
    return f'<link rel="stylesheet" href="{escape(reached(asset.url, fragment))}"{media}{_checks(asset)}>'


def _script(asset: Asset, fragment: Fragment) -> str:
    module = ' type="module"' if asset.module else ""
    return f'<script{module} async src="{escape(reached(asset.url, fragment))}"{_checks(asset)}></script>'


def _checks(asset: Asset) -> str:
    pairs = ("integrity", asset.integrity), ("crossorigin", asset.crossorigin)
    return "".join(f' {name}="{escape(value)}"' for name, value in pairs if value)
