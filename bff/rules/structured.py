"""Structured fields (RFC 9651, which replaced RFC 8941): dictionaries read strictly, items written.

Pure. A field is valid as a whole or not at all: one wrong byte, and `dictionary` gives None.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from typing import Final

from bff.rules.rule import Rule


class Token(str):
    """A bare word; a `str` is a quoted string."""

    __slots__ = ()


Item = bool | int | float | bytes | str | tuple["Item", ...]
"""A bare item, parameters dropped; an inner list is a tuple. A date is an int, a display string a str."""

_KEY: Final = re.compile(rb"[a-z*][a-z0-9_\-.*]*")
_NUMBER: Final = re.compile(rb"-?(\d+)(?:\.(\d*))?")
_STRING: Final = re.compile(rb'"((?:[ !#-\[\]-~]|\\["\\])*)"')
_TOKEN: Final = re.compile(rb"[A-Za-z*][!#$%&'*+\-.^_`|~0-9A-Za-z:/]*")
_BYTES: Final = re.compile(rb":([A-Za-z0-9+/=]*):")
_BOOLEAN: Final = re.compile(rb"\?([01])")
_DATE: Final = re.compile(rb"@(-?\d{1,15})(?!\.)")
_DISPLAY: Final = re.compile(rb'%"((?:[ !#$&-~]|%[0-9a-f]{2})*)"')
_SPACE: Final = re.compile(rb" *")
_COMMA: Final = re.compile(rb"[ \t]*,[ \t]*")
_LISTED: Final = 64  # members of an inner list; nothing read here has more


class _Invalid(Exception):
    """The field is none; never leaves this module."""


def dictionary(value: bytes) -> Mapping[str, Item] | None:
    """A dictionary's members without their parameters, the last of duplicates counting; None where it is none (§4.2.2)."""
    reader = _Reader(value.strip(b" "))
    try:
        return reader.dictionary()
    except _Invalid:
        return None


class _Reader:
    """The algorithms of RFC 9651 §4.2 over one value."""

    __slots__ = ("_at", "_value")

    def __init__(self, value: bytes) -> None:
        self._value, self._at = value, 0

    def dictionary(self) -> dict[str, Item]:
        found: dict[str, Item] = {}
        while self._at < len(self._value):
            key = self._take(_KEY)[0].decode()
            found.pop(key, None)
            found[key] = self._member() if self._peek() == b"=" else True
            self._parameters()
            if self._at == len(self._value):
                break
            self._take(_COMMA)
            if self._at == len(self._value):
                raise _Invalid  # a trailing comma
        return found

    def _member(self) -> Item:
        self._at += 1
        return self._inner() if self._peek() == b"(" else self._item()

    def _inner(self) -> Item:
        self._at += 1
        items: list[Item] = []
        while len(items) <= _LISTED:
            spaced = self._take(_SPACE)[0] or not items
            if self._peek() == b")":
                self._at += 1
                return tuple(items)
            if not spaced:
                break
            items.append(self._item())
            self._parameters()
        raise _Invalid

    def _parameters(self) -> None:
        while self._peek() == b";":
            self._at += 1
            self._take(_SPACE)
            self._take(_KEY)
            if self._peek() == b"=":
                self._at += 1
                self._item()

    def _item(self) -> Item:
        match self._peek():
            case b'"':
                return re.sub(rb"\\(.)", rb"\1", self._take(_STRING)[1]).decode()
            case b"?":
                return self._take(_BOOLEAN)[1] == b"1"
            case b":":
                return self._bytes()
            case b"@":
                return int(self._take(_DATE)[1])
            case b"%":
                return self._display()
            case first if first and first in b"-0123456789":
                return self._number()
            case _:
                return Token(self._take(_TOKEN)[0].decode())

    def _number(self) -> int | float:
        match = self._take(_NUMBER)
        whole, fraction = match[1], match[2]
        if fraction is None:
            if len(whole) > 15:
                raise _Invalid
            return int(match[0])
        if len(whole) > 12 or not 1 <= len(fraction) <= 3:
            raise _Invalid
        return float(match[0])

    def _bytes(self) -> bytes:
        try:
            return base64.b64decode(self._take(_BYTES)[1], validate=True)
        except binascii.Error:
            raise _Invalid from None

    def _display(self) -> str:
        text = self._take(_DISPLAY)[1]
        try:
            return re.sub(rb"%(..)", lambda m: bytes([int(m[1], 16)]), text).decode()
        except UnicodeDecodeError:
            raise _Invalid from None

    def _peek(self) -> bytes:
        return self._value[self._at : self._at + 1]

    def _take(self, form: re.Pattern[bytes]) -> re.Match[bytes]:
        match = form.match(self._value, self._at)
        if match is None:
            raise _Invalid
        self._at = match.end()
        return match


def word(text: str) -> str:
    """A token where the text is one, else a string; what ASCII cannot say becomes "?" (RFC 9651 §4.1.6, §4.1.7)."""
    plain = text.encode("ascii", "replace")
    if _TOKEN.fullmatch(plain):
        return plain.decode()
    kept = re.sub(rb"[^ -~]", b"?", plain).replace(b"\\", b"\\\\").replace(b'"', b'\\"')
    return f'"{kept.decode()}"'


RULES: Final = (
    Rule(
        "RFC 9651 §4.2",
        "A structured field with one wrong byte does not exist.",
        "test_structured.py::test_one_wrong_byte_and_there_is_no_field",
    ),
)
