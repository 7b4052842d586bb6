"""What identifies an answer: the fragment, its canonical parameters, and whatever else of the request was sent.

Pure. Two requests share an entry, a fetch or a queue only where their keys are equal, so everything of a browser's request
that reaches a context must be in here; nothing else may be (unkeyed input is how caches are poisoned).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import quote, unquote

from bff.model import Fragment, Param, Pattern, Ref

Values = Mapping[str, tuple[str, ...]]
"""Canonical parameter values by name; one value, or any number where the parameter is `many`."""


@dataclass(frozen=True, slots=True)
class Variant:
    """What of one browser's request goes to one context: the header lines to send and the text to key by.

    `shareable` is False where the answer may be kept or shared by nobody: a credential that nobody verified, or none.
    """

    lines: bytes = b""
    key: str = ""
    shareable: bool = True


NO_VARIANT = Variant()


def base(fragment: str, values: Values, *, primary: bool = False) -> str:
    """The part of the key that the fragment and its parameters make."""
    pairs = "&".join(f"{name}={quote(v, safe='')}" for name in sorted(values) for v in values[name])
    return f"{fragment}{'!' if primary else ''}?{pairs}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Recalled:
    """What a key of shared scope says of the request that it was made for."""

    fragment: str
    primary: bool
    given: Mapping[str, list[str]]
    variant: Variant


def recalled(key: str) -> Recalled | None:
    """Read a key of shared scope: enough to ask for the same again. None where it names a principal."""
    asked, _, also = key.partition("#")
    name, _, query = asked.partition("?")
    given: dict[str, list[str]] = {}
    for pair in query.split("&") if query else ():
        param, _, value = pair.partition("=")
        given.setdefault(param, []).append(unquote(value))
    lines = []
    for pair in also.split("&") if also else ():
        header, _, value = pair.partition(":")
        if header == "principal":
            return None
        lines.append(f"{header}: {unquote(value)}\r\n")
    sent = Variant("".join(lines).encode("latin-1"), f"#{also}" if also else "")
    return Recalled(fragment=name.removesuffix("!"), primary=name.endswith("!"), given=given, variant=sent)


def variant(
    fragment: Fragment,
    headers: Mapping[str, str],
    cookies: Mapping[str, str],
    principal: str | None,
    locale: str,
    *,
    unverified: bool = False,
) -> Variant:
    """What `forward` sends of this request, and the key it makes.

    In private scope the verified principal stands for the credentials (a token that is renewed keeps its entries).
    """
    forward, private = fragment.forward, fragment.private
    if not private and not forward.headers:
        return NO_VARIANT
    lines, keyed = [], []
    for name in forward.headers:
        value = locale if name == "accept-language" else headers.get(name)
        if value:
            lines.append(f"{name}: {value}\r\n")
            if name != "authorization":
                keyed.append(f"{name}:{quote(value, safe='')}")
    sent = [f"{name}={cookies[name]}" for name in forward.cookies if name in cookies]
    if sent:
        lines.append(f"cookie: {'; '.join(sent)}\r\n")
    if forward.principal and principal is not None:
        lines.append(f"{forward.principal}: {quote(principal, safe='@+ ')}\r\n")
    if private and principal is not None:
        keyed.append(f"principal:{quote(principal, safe='')}")
    key = "#" + "&".join(keyed) if keyed else ""
    shareable = not private or (principal is not None and not unverified)
    return Variant("".join(lines).encode("latin-1"), key, shareable)


def values(params: Mapping[str, Param], given: Mapping[str, Sequence[str]]) -> Values | None:
    """Canonical values of all declared parameters, defaults filled in; None where one is missing or invalid."""
    made: dict[str, tuple[str, ...]] = {}
    for name, param in params.items():
        texts = given.get(name)
        if texts is None:
            if param.required:
                return None
            made[name] = param.default
            continue
        parsed = tuple(param.parse(text) for text in texts)
        if None in parsed or len(parsed) > (param.max if param.many else 1) or not (parsed or param.many):
            return None
        made[name] = parsed  # type: ignore[assignment] # no None is left
    return made


def target(fragment: Fragment, values: Values) -> str | None:
    """The request target under the fragment's upstream, or None where a value would leave its place in the path."""
    path = "".join(part if isinstance(part, str) else _segment(values[part.name]) for part in fragment.path)
    if any(segment in (".", "..") for segment in path.split("/")) or _hollow(fragment.path, values):
        return None
    pairs = [pair for name, pattern in fragment.query for pair in _pairs(name, pattern, values)]
    return fragment.upstream.base + path + ("?" + "&".join(pairs) if pairs else "")


def _segment(texts: tuple[str, ...]) -> str:
    return quote(",".join(texts), safe="")


def _hollow(path: Pattern, values: Values) -> bool:
    """Whether an empty value would collapse a segment of the path."""
    return any(isinstance(part, Ref) and not "".join(values[part.name]) for part in path)


def _pairs(name: str, pattern: Pattern, values: Values) -> list[str]:
    refs = [part for part in pattern if isinstance(part, Ref)]
    if len(refs) == 1 and all(part == "" for part in pattern if isinstance(part, str)):
        return [f"{quote(name, safe='')}={quote(text, safe='')}" for text in values[refs[0].name]]
    return [f"{quote(name, safe='')}={quote(fill(pattern, values), safe='')}"]


def fill(pattern: Pattern, values: Values) -> str:
    """A pattern's text, its references replaced by parameter values."""
    return "".join(part if isinstance(part, str) else ",".join(values[part.name]) for part in pattern)
