"""Cache-Control and CDN-Cache-Control, read once into one shape (RFC 9111 §5.2, RFC 9213).

Pure, memoised by value: a service says the same few things over and over. Whatever forbids is understood generously, whatever
permits strictly: a malformed lifetime is over, a malformed prohibition holds.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Final, NamedTuple

from bff.rules.rule import Rule
from bff.rules.structured import Item, Token, dictionary

MAX_DELTA: Final = 2**31  # RFC 9111 §1.2.2: larger delta-seconds count as this
_REMEMBERED: Final = 512  # bytes; longer values are read each time, so that nobody fills the memory with them


class Control(NamedTuple):
    """What an answer says to caches. Lifetimes are seconds, None where nothing was said, 0 where what was said is none."""

    no_store: bool = False
    public: bool = False
    private: bool = False  # as a whole
    private_fields: frozenset[bytes] = frozenset()
    no_cache: bool = False  # as a whole
    no_cache_fields: frozenset[bytes] = frozenset()
    must_revalidate: bool = False
    proxy_revalidate: bool = False
    must_understand: bool = False
    max_age: float | None = None
    s_maxage: float | None = None
    stale_while_revalidate: float | None = None
    stale_if_error: float | None = None


def seconds(value: str | None) -> float | None:
    """Delta-seconds, or None where the text is none (RFC 9111 §1.2.2)."""
    return float(min(int(value[:20]), MAX_DELTA)) if value and value.isascii() and value.isdigit() else None


def age(value: bytes) -> float:
    """The first member of an Age value, or 0 where it is no delta-seconds (RFC 9111 §5.1)."""
    return seconds(value.split(b",")[0].strip().decode("latin-1")) or 0.0


def never_stale(said: Control, *, private: bool) -> bool:
    """RFC 9111 §4.2.4, §5.2.2.2, §5.2.2.4, §5.2.2.8, and §5.2.2.10: s-maxage includes proxy-revalidate."""
    shared = not private and (said.proxy_revalidate or said.s_maxage is not None)
    return said.no_cache or said.must_revalidate or shared


def directives(value: bytes) -> tuple[tuple[str, str | None, bool], ...]:
    """(name in lower case, argument or None, whether it was quoted) of each directive, in order.

    Space about "=" is no grammar: the directive is there, and its argument is none ("").
    """
    return tuple(_directives(value.decode("latin-1")))


def _directives(text: str) -> Iterator[tuple[str, str | None, bool]]:
    for part in _split(text):
        name, equals, argument = part.partition("=")
        if bare := name.strip().lower():
            argument = argument.rstrip()
            quoted = len(argument) > 1 and argument[0] == argument[-1] == '"'
            if equals and (name[-1].isspace() or argument[:1].isspace()):
                argument = ""
            if quoted:
                argument = re.sub(r"\\(.)", r"\1", argument[1:-1])
            yield bare, argument if equals else None, quoted


def _split(text: str) -> list[str]:
    """At commas outside quoted arguments.

    A quote that follows no "=" opens nothing, and where one does not close, every comma counts: none may hide a prohibition.
    """
    if '"' not in text:
        return text.split(",")
    parts, start, quoted, escaped = [], 0, False, False
    for at, char in enumerate(text):
        if escaped:
            escaped = False
        elif char == '"' and (quoted or text[at - 1 : at] == "="):
            quoted = not quoted
        elif quoted:
            escaped = char == "\\"
        elif char == ",":
            parts.append(text[start:at])
            start = at + 1
    return text.split(",") if quoted else [*parts, text[start:]]


_FLAGS: Final = frozenset({"no-store", "public", "must-revalidate", "proxy-revalidate", "must-understand"})
_QUALIFIED: Final = frozenset({"private", "no-cache"})  # narrowed by a list of fields
_LIFETIMES: Final = frozenset({"max-age", "s-maxage"})
_DELTAS: Final = _LIFETIMES | {"stale-while-revalidate", "stale-if-error"}


def control(value: bytes) -> Control:
    """What one Cache-Control value says; of duplicated lifetimes the first counts (RFC 9111 §4.2.1)."""
    return _control(value) if len(value) <= _REMEMBERED else _control.__wrapped__(value)


@lru_cache(maxsize=4096)
def _control(value: bytes) -> Control:
    made = _Made()
    for name, argument, quoted in directives(value):
        if name in _FLAGS:
            made.flag(name)
        elif name in _QUALIFIED:
            made.qualified(name, argument if quoted else None)
        elif name in _DELTAS:
            made.delta(name, seconds(argument))
    return made.control()


def targeted(value: bytes) -> Control | None:
    """What a CDN-Cache-Control value says, or None where it is to be ignored: empty, or no such field (RFC 9213 §2.2)."""
    return _targeted(value) if len(value) <= _REMEMBERED else _targeted.__wrapped__(value)


@lru_cache(maxsize=4096)
def _targeted(value: bytes) -> Control | None:
    found = dictionary(value)
    if not found or not all(_typed(name, item) for name, item in found.items()):
        return None
    made = _Made()
    for name, item in found.items():
        if name in _FLAGS and item:
            made.flag(name)
        elif name in _QUALIFIED and item:
            made.qualified(name, item if isinstance(item, str) else None)
        elif name in _DELTAS:
            made.delta(name, seconds(str(item)))
    return made.control()


def _typed(name: str, item: Item) -> bool:
    """RFC 9213 §2.1: a directive without a value is a Boolean, delta-seconds an Integer, a list of fields a String."""
    if name in _FLAGS:
        return isinstance(item, bool)
    if name in _DELTAS:
        return isinstance(item, int) and not isinstance(item, bool)
    return name not in _QUALIFIED or (isinstance(item, bool | str) and not isinstance(item, Token))


class _Made:
    """A `Control` in the making."""

    __slots__ = ("_deltas", "_fields", "_flags")

    def __init__(self) -> None:
        self._flags: set[str] = set()
        self._deltas: dict[str, float | None] = {}
        self._fields: dict[str, set[bytes]] = {"private": set(), "no-cache": set()}

    def flag(self, name: str) -> None:
        self._flags.add(name)

    def qualified(self, name: str, listed: str | None) -> None:
        """Only a quoted list that names something narrows the directive; anything else is the whole answer."""
        named = {part.strip().lower().encode("latin-1", "replace") for part in (listed or "").split(",")} - {b""}
        if named:
            self._fields[name] |= named
        else:
            self._flags.add(name)

    def delta(self, name: str, value: float | None) -> None:
        if value is None and name in _LIFETIMES:
            value = 0.0  # RFC 9111 §4.2.1: what cannot be read is stale
        self._deltas.setdefault(name, value)

    def control(self) -> Control:
        flags, deltas = self._flags, self._deltas
        return Control(
            no_store="no-store" in flags,
            public="public" in flags,
            private="private" in flags,
            private_fields=frozenset(self._fields["private"]),
            no_cache="no-cache" in flags,
            no_cache_fields=frozenset(self._fields["no-cache"]),
            must_revalidate="must-revalidate" in flags,
            proxy_revalidate="proxy-revalidate" in flags,
            must_understand="must-understand" in flags,
            max_age=deltas.get("max-age"),
            s_maxage=deltas.get("s-maxage"),
            stale_while_revalidate=deltas.get("stale-while-revalidate"),
            stale_if_error=deltas.get("stale-if-error"),
        )


RULES: Final = (
    Rule(
        "RFC 9111 §1.2.2",
        "Delta-seconds are digits alone, and at most 2³¹ however many.",
        "test_control.py::test_delta_seconds",
    ),
    Rule(
        "RFC 9111 §4.2.1",
        "Of duplicated directives the first counts; a lifetime that cannot be read is over.",
        "test_control.py::test_what_a_cache_control_value_says",
    ),
    Rule(
        "RFC 9111 §5.2",
        "Names are matched whatever their case, arguments may be quoted, unknown directives are ignored; a quote that does not close hides no prohibition.",
        "test_control.py::test_what_a_cache_control_value_says",
    ),
    Rule(
        "RFC 9213 §2.1",
        "CDN-Cache-Control is a structured dictionary whose directives have the right types.",
        "test_control.py::test_what_a_targeted_value_says",
    ),
    Rule(
        "RFC 9213 §2.2",
        "An empty or invalid CDN-Cache-Control is ignored, and Cache-Control counts.",
        "test_control.py::test_what_is_no_targeted_field_is_ignored",
    ),
)
