"""Small texts of a registration, compiled: parameters, patterns with `{references}`, upstream URLs, routes.

Pure; knows neither files nor YAML. Every function raises `ValueError` with a remedy after `; `. The only importer of re2:
a team's pattern must not be able to hold up the gateway, so it is matched in linear time.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import date
from decimal import Decimal
from typing import Any, Final, Literal, assert_never, cast
from urllib.parse import urlsplit

import re2

from bff.config import spec
from bff.model import Param, Pattern, Ref, Upstream
from bff.rules import addresses
from bff.rules.spelling import spelt

MAX_VALUE: Final = 256  # characters of one parameter's value
Type = Literal["str", "int", "float", "bool", "enum", "date"]

_UNPRINTABLE: Final = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_INT: Final = re.compile(r"0|-?[1-9][0-9]*")
_FLOAT: Final = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?")
_DATE: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_REFERENCE: Final = re.compile(r"\{([^{}]*)\}")
_PARAM: Final = re.compile(r"[a-z][a-z0-9_]*")
_FIELD: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*")


class Misfit(ValueError):
    """A parameter that cannot stand; `key` is the one of its keys that is to blame."""

    def __init__(self, key: str, message: str) -> None:
        super().__init__(message)
        self.key = key


# --- parameters -------------------------------------------------------------------------------------------------------


def compile_param(
    name: str,
    *,
    type: Type = "str",  # noqa: A002 - the word people write
    pattern: str = "",
    values: tuple[str, ...] = (),
    ge: str = "",
    le: str = "",
    default: tuple[str, ...] | None = None,
    many: bool = False,
    max: int = 100,  # noqa: A002 - the word people write
    principal: bool = False,
    example: str = "",
) -> Param:
    """One declared parameter. A value has one spelling: ` 1`, `01` and `+1` are no int, so one answer has one key."""
    check = _checker(type, pattern, values)
    low, high = (_bound(type, word, text) for word, text in (("ge", ge), ("le", le)))
    if low is not None and high is not None and low > high:
        raise Misfit("le", f"ge {ge} is above le {le}; nothing would be valid")

    def parse(text: str) -> str | None:
        if len(text) > MAX_VALUE:
            return None
        canonical = check(text)
        if canonical is None or (low is None and high is None):
            return canonical
        measured = _measure(type, canonical)
        fits = (low is None or measured >= low) and (high is None or measured <= high)
        return canonical if fits else None

    return Param(
        name=name, type=type, parse=parse, required=default is None, default=_default(parse, default, many=many, most=max),
        many=many, max=max, principal=principal, example=_example(parse, example),
    )  # fmt: skip


def compile_declared(name: str, param: spec.Param) -> Param:
    """A declared parameter, compiled. `Misfit` where its keys do not fit together."""
    return compile_param(
        name, type=param.type, pattern=param.pattern, values=param.values, ge=param.ge, le=param.le, default=param.default,
        many=param.many, max=param.max, principal=param.source == "principal", example=param.example,
    )  # fmt: skip


def _default(
    parse: Callable[[str], str | None], texts: tuple[str, ...] | None, *, many: bool, most: int
) -> tuple[str, ...]:
    parsed = tuple(parse(text) for text in texts or ())
    if None in parsed:
        raise Misfit(
            "default",
            f"the default {(texts or ())[parsed.index(None)]!r} breaks the parameter's own rules; change either",
        )
    if len(parsed) > (most if many else 1) or (texts == () and not many):
        raise Misfit("default", "the default has the wrong number of values; write one, or a list with many: true")
    return cast("tuple[str, ...]", parsed)


def _example(parse: Callable[[str], str | None], text: str) -> str:
    if text and parse(text) is None:
        raise Misfit("example", f"the example {text!r} breaks the parameter's own rules; change either")
    return text


def _checker(type_: Type, pattern: str, values: tuple[str, ...]) -> Callable[[str], str | None]:
    if pattern and type_ != "str":
        raise Misfit("pattern", f"pattern is for type str, not {type_}; leave it out")
    if bool(values) != (type_ == "enum"):
        raise Misfit("values", "values and type enum belong together; write type: enum and values: [a, b]")
    match type_:
        case "str":
            return _text(pattern)
        case "enum":
            return dict(zip(values, values, strict=True)).get
        case "bool":
            return {"true": "true", "false": "false"}.get
        case "int":
            return lambda text: text if _INT.fullmatch(text) else None
        case "float":
            return _float
        case "date":
            return _date
        case _:
            assert_never(type_)


def _text(pattern: str) -> Callable[[str], str | None]:
    matches = compile_pattern(pattern) if pattern else None

    def check(text: str) -> str | None:
        plain = (text.isascii() and text.isprintable()) or not _UNPRINTABLE.search(text)
        return text if plain and (matches is None or matches(text)) else None

    return check


def compile_pattern(pattern: str) -> Callable[[str], bool]:
    """Whether a text matches `pattern` as a whole, in time linear in the text (RE2's syntax: no look-around, no back-references)."""
    options = re2.Options()
    options.log_errors = False
    try:
        compiled = re2.compile(pattern, options)
    except re2.error as error:
        reason = error.args[0].decode() if isinstance(error.args[0], bytes) else error.args[0]
        raise Misfit("pattern", f"the pattern does not compile: {reason}; see RE2's syntax") from None
    return lambda text: compiled.fullmatch(text) is not None


def _float(text: str) -> str | None:
    match = _FLOAT.fullmatch(text)
    if not match:
        return None
    short = text.rstrip("0").rstrip(".") if match[2] else text
    return "0" if short == "-0" else short


def _date(text: str) -> str | None:
    try:
        return date.fromisoformat(text).isoformat() if _DATE.fullmatch(text) else None
    except ValueError:  # the 30th of February
        return None


def _measure(type_: Type, canonical: str) -> Any:
    """What ge and le compare: dates as text (ISO 8601 sorts), numbers exactly."""
    return canonical if type_ == "date" else Decimal(canonical)


def _bound(type_: Type, word: str, text: str) -> Any:
    if not text:
        return None
    if type_ not in {"int", "float", "date"}:
        raise Misfit(word, f"{word} is for int, float and date, not {type_}; leave it out")
    canonical = _checker(type_, "", ())(text)
    if canonical is None:
        raise Misfit(word, f"{word}: {text!r} is not of type {type_}; write one")
    return _measure(type_, canonical)


# --- patterns and routes ----------------------------------------------------------------------------------------------


def parse_pattern(text: str) -> Pattern:
    """Text with parameter references, split: `/a/{x}` is ("/a/", Ref("param", "x"), "")."""
    pieces = _REFERENCE.split(text)
    if any("{" in literal or "}" in literal for literal in pieces[::2]):
        raise ValueError(f"{text!r} has a brace without its other half; write references as {{name}}")
    for name in pieces[1::2]:
        if not _PARAM.fullmatch(name):
            raise ValueError(f"{{{name}}} is no reference; write the name of a parameter, such as {{page}}")
    return tuple(Ref("param", piece) if index % 2 else piece for index, piece in enumerate(pieces))


def parse_event_tag(text: str) -> Pattern:
    """A tag with references to an event's data: `course:{catalog_info.course_key}`."""
    pieces = _REFERENCE.split(text)
    fields = pieces[1::2]
    if not text or any("{" in piece or "}" in piece for piece in pieces[::2]) or not all(map(_FIELD.fullmatch, fields)):
        raise ValueError(f"{text!r} is not a tag; write text and {{field.of.the.data}}")
    return tuple(Ref("field", piece) if index % 2 else piece for index, piece in enumerate(pieces))


def references(pattern: Pattern) -> tuple[str, ...]:
    """The names of the parameters that a pattern refers to."""
    return tuple(part.name for part in pattern if isinstance(part, Ref))


_USUAL: Final[Mapping[str, str]] = {
    "podium": "/manifest.json"
}  # Podium's documentation: where a podlet has its manifest


def path_of(written: str, source: str) -> str:
    """A fragment's path: what is written, else where a source of this kind usually answers; "" where there is no such place."""
    return written or _USUAL.get(source, "")


def parse_path(text: str) -> Pattern:
    """A path under an upstream, with references."""
    pattern = parse_pattern(text)
    _plain_path("".join("x" if isinstance(part, Ref) else part for part in pattern), text)
    return pattern


def parse_route(text: str) -> tuple[tuple[str, bool], ...]:
    """The parameters of a route, in order: (name, whether it takes the rest of the path). `{x}` is one whole segment."""
    params = []
    segments = text.split("/")[1:]
    for number, segment in enumerate(segments, 1):
        match = re.fullmatch(r"\{([a-z][a-z0-9_]*)(:path)?\}", segment)
        if match:
            params.append((match[1], bool(match[2])))
            if match[2] and number < len(segments):
                raise ValueError(f"{segment} takes the rest of the path; put it last")
        elif "{" in segment or "}" in segment:
            raise ValueError(
                f"{segment!r} is not a segment of a route; write {{name}} or {{name:path}} between slashes"
            )
    names = [name for name, _ in params]
    if len(set(names)) < len(names):
        raise ValueError(f"{text!r} names a parameter twice; give each its own name")
    _plain_path(_REFERENCE.sub("x", text), text)
    if re.match(r"/_bff(/|$)", spelt(text)):
        raise ValueError("/_bff belongs to the gateway; choose another path")
    return tuple(params)


def route_shape(text: str) -> str:
    """A route without its parameters' names: two routes of one shape answer the same paths."""
    return re.sub(r"\{[^:}]*", "{", spelt(text))


def _plain_path(filled: str, text: str) -> None:
    if not filled.startswith("/"):
        raise ValueError(f"{text!r} does not begin with a slash; write /{text}")
    if not re.fullmatch(r"[!-~]+", filled) or set(filled) & set('?#\\"<>`|^'):
        raise ValueError(f"{text!r} is not a path; percent-encode what is special, and leave out ? and #")
    if any(re.fullmatch(r"(\.|%2[eE]){1,2}", segment) for segment in filled.split("/")):
        raise ValueError(f"{text!r} has . or .. in it; write the path it means")
    if "//" in filled:
        raise ValueError(f"{text!r} has an empty segment; leave out the second slash")


# --- upstream ---------------------------------------------------------------------------------------------------------

_PORTS: Final[Mapping[str, int]] = {"http": 80, "https": 443}
_ADVICE: Final = "write http://host:port, https://host or http+unix:///run/app.sock"


def parse_upstream(text: str) -> Upstream:
    """An origin and an optional base path; or a unix socket."""
    if text.startswith("http+unix://"):
        socket = text.removeprefix("http+unix://")
        if not re.fullmatch(r"/[!-~]+", socket) or set(socket) & set("?#"):
            raise ValueError(f"{text!r} names no socket; write http+unix:///run/app.sock")
        return Upstream(scheme="http", host="localhost", port=80, authority="localhost", socket=socket)
    try:
        url = urlsplit(text)
        port = url.port
    except ValueError as error:
        raise ValueError(f"{text!r} is not a URL ({error}); {_ADVICE}") from None
    if url.scheme not in _PORTS or not url.hostname or not re.fullmatch(r"[!-~]+", text) or port == 0:
        raise ValueError(f"{text!r} is not an upstream; {_ADVICE}")
    if "@" in url.netloc or "?" in text or "#" in text:
        raise ValueError(f"{text!r} has more than an origin and a path; leave out user, query and fragment")
    host = url.hostname
    if not re.fullmatch(r"[0-9a-z._-]+|[0-9a-f:.]+", host):
        raise ValueError(f"{host!r} is not a host name or address; {_ADVICE}")
    _reachable(host)
    if url.path.strip("/"):
        _plain_path(url.path.rstrip("/"), url.path)
    shown = f"[{host}]" if ":" in host else host
    default = _PORTS[url.scheme]
    return Upstream(
        scheme=cast("Literal['http', 'https']", url.scheme),
        host=host,
        port=port or default,
        authority=shown if port in (None, default) else f"{shown}:{port}",
        base=url.path.rstrip("/"),
    )


def _reachable(host: str) -> None:
    if addresses.disguised(host):
        raise ValueError(f"{host!r} is an address in disguise; write it as four decimal numbers, such as 127.0.0.1")
    address = addresses.literal(host)
    why = addresses.never(address) if address is not None else ""
    if why:
        raise ValueError(f"{host} is {why}, where no context can be; write the address of its service")
