"""`source: html`: the context answers text/html, which is checked and, where it must be, repaired."""

from __future__ import annotations

import codecs
import re
from collections.abc import Mapping
from functools import lru_cache, partial
from typing import Any, Final

from bff.markup.check import Checker
from bff.model import Fragment, Markup
from bff.rules.caching import Fields
from bff.upstream.sources import links
from bff.upstream.sources.content import LARGE, SLOW, Content, Kit, Read, Unreadable, media_type

_CHARSET: Final = re.compile(rb";\s*charset\s*=\s*\"?([^\s;\"]*)", re.IGNORECASE)
_UTF_8: Final = frozenset({"", "utf-8", "utf8", "us-ascii", "ascii"})
_OTHERS: Final = re.compile(
    r"iso-8859-\d{1,2}|latin1|windows-125\d|koi8-[ru]|shift_jis|euc-jp|euc-kr|gbk|gb2312|gb18030|big5|utf-16(?:le|be)?"
)
"""Character sets of documents; what else Python calls an encoding need be no text at all."""
_BROWSERS: Final[Mapping[str, str]] = {"iso-8859-1": "windows-1252", "latin1": "windows-1252", "gb2312": "gbk"}
"""What browsers take a label for (WHATWG Encoding, §4.2)."""


class HtmlSource:
    accept = "text/html"

    def __init__(self, checker: Checker) -> None:
        self._checker = checker

    @classmethod
    def made(cls, kit: Kit) -> HtmlSource:
        return cls(kit.checker)

    def read(self, fragment: Fragment, found: Fields, body: bytes, params: Mapping[str, Any], *, head: bool) -> Read:
        del params
        text = hypertext(found, body)
        if isinstance(text, Unreadable):
            return text
        read = checked(self._checker, fragment, text, head=head)
        return links.dressed(read, fragment, found) if head else read


def hypertext(found: Fields, body: bytes) -> bytes | Unreadable:
    """The text of an answer of HTML in UTF-8, as pages are; or why it is none."""
    charset = _charset(found.get(b"content-type", b""))
    if charset == "":
        return body
    return charset if isinstance(charset, Unreadable) else body.decode(charset, "replace").encode()


@lru_cache(maxsize=256)
def _charset(stated: bytes) -> str | Unreadable:
    """The character set that a Content-Type of HTML states, as Python calls it; "" where it is UTF-8, or nothing is said."""
    kind, said = media_type(stated), _CHARSET.search(stated)
    if kind != b"text/html":
        return Unreadable(f"answered {kind.decode('latin-1') or 'no content type'} where text/html is expected")
    name = said[1].decode("latin-1").lower() if said else ""
    if name in _UTF_8:
        return ""
    try:
        return codecs.lookup(_BROWSERS.get(name, name)).name if _OTHERS.fullmatch(name) else _unknown(name)
    except LookupError:
        return _unknown(name)


def _unknown(charset: str) -> Unreadable:
    return Unreadable(f"answered HTML in the character set {charset!r}, which is not known: answer UTF-8")


def checked(checker: Checker, fragment: Fragment, body: bytes, *, head: bool) -> Read:
    """The body as markup: at once where it needs no repair or is small, else as work for a thread."""
    if len(body) >= LARGE:
        return partial(_checked, checker, fragment, body, head)
    markup = checker.verdict(body, trust=fragment.trust, embeds=fragment.embeds, head=head)
    if markup is not None:
        return Content(markup)
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
