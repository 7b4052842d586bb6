"""`source: html`: the context answers text/html, which is checked and, where it must be, repaired."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from bff.markup.check import Checker
from bff.model import Fragment, Markup
from bff.rules.caching import Fields
from bff.upstream.sources import links
from bff.upstream.sources.content import LARGE, SLOW, Content, Kit, Read, Unreadable, content_type


class HtmlSource:
    accept = "text/html"

    def __init__(self, checker: Checker) -> None:
        self._checker = checker

    @classmethod
    def made(cls, kit: Kit) -> HtmlSource:
        return cls(kit.checker)

    def read(self, fragment: Fragment, found: Fields, body: bytes, params: Mapping[str, Any], *, head: bool) -> Read:
        del params
        if (kind := content_type(found)) != b"text/html":
            return Unreadable(f"answered {kind.decode('latin-1') or 'no content type'} where text/html is expected")
        read = checked(self._checker, fragment, body, head=head)
        return links.dressed(read, fragment, found) if head else read


def checked(checker: Checker, fragment: Fragment, body: bytes, *, head: bool) -> Read:
    """The body as markup: at once where it needs no repair or is small, else as work for a thread."""
    if len(body) >= LARGE:
        return partial(_checked, checker, fragment, body, head)
    markup = checker.verdict(body, trust=fragment.trust, embeds=fragment.embeds, head=head)
    if markup is not None:
        return Content(markup=markup)
    work = partial(_repaired, checker, fragment, body, head)
    return work if len(body) >= SLOW else work()


def certain(checker: Checker, fragment: Fragment, body: bytes, *, head: bool) -> Markup:
    """The body as markup, repaired where it must be."""
    markup = checker.verdict(body, trust=fragment.trust, embeds=fragment.embeds, head=head)
    return markup or checker.repair(body, trust=fragment.trust, embeds=fragment.embeds, head=head)


def _checked(checker: Checker, fragment: Fragment, body: bytes, head: bool) -> Content:
    return Content(markup=certain(checker, fragment, body, head=head))


def _repaired(checker: Checker, fragment: Fragment, body: bytes, head: bool) -> Content:
    return Content(markup=checker.repair(body, trust=fragment.trust, embeds=fragment.embeds, head=head))
