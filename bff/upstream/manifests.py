"""A podlet's manifest (Podium v5, `@podium/schemas`): what it says, and the assets that its headers name. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal
from urllib.parse import urljoin

from bff.model import Upstream
from bff.rules.within import within

_NAME: Final = re.compile(r"[a-zA-Z0-9_-]{2,100}")
_LINK: Final = re.compile(r"<([^<>\s]*)>([^<]*)")
_PARAM: Final = re.compile(r";\s*([a-z-]+)(?:\s*=\s*(\"[^\"]*\"|[^\s;,]*))?", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Asset:
    """A style sheet or a script: where it is, as the podlet wrote it."""

    kind: Literal["style", "script"]
    url: str
    scope: str = "all"  # content | fallback | all
    module: bool = False
    integrity: str = ""
    crossorigin: str = ""
    media: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What a podlet says of itself. `content` and `fallback` are request targets under its upstream."""

    name: str
    version: str
    content: str
    fallback: str = ""
    assets: tuple[Asset, ...] = ()
    proxies: tuple[tuple[str, str], ...] = ()  # (name, target)


def manifest(body: bytes, asked: str, upstream: Upstream) -> Manifest | str:
    """The manifest, or what is wrong with it. `asked`: its own target, which its URLs are relative to."""
    try:
        said = json.loads(body)
    except (ValueError, RecursionError):
        return "the podlet's manifest is no JSON"
    if not isinstance(said, dict) or not _NAME.fullmatch(_text(said, "name")):
        return "the podlet's manifest has no name"
    content = within(_text(said, "content"), asked, upstream)
    if content is None:
        return "the podlet's content is not under its upstream"
    stated = _text(said, "fallback")
    fallback = within(stated, asked, upstream) if stated else ""
    if fallback is None:
        return "the podlet's fallback is not under its upstream"
    return Manifest(
        name=said["name"],
        version=_text(said, "version"),
        content=content,
        fallback=fallback,
        assets=(*_assets(said, "css", "style", asked), *_assets(said, "js", "script", asked)),
        proxies=tuple(_proxies(said.get("proxy"))),
    )


def _text(said: Mapping[str, Any], key: str) -> str:
    found = said.get(key)
    return found if isinstance(found, str) else ""


def _assets(said: Mapping[str, Any], key: str, kind: Literal["style", "script"], asked: str) -> Iterator[Asset]:
    listed = said.get(key)
    for each in listed if isinstance(listed, list) else ():
        if isinstance(each, dict) and _text(each, "value"):
            told = {name: str(value) for name, value in each.items() if isinstance(value, str)}
            yield _asset(kind, urljoin(asked, told["value"]), told)


def _proxies(said: Any) -> Iterator[tuple[str, str]]:
    """v5 lists `{name, target}`; older podlets map names to targets."""
    pairs: list[tuple[Any, Any]] = [*said.items()] if isinstance(said, dict) else []
    if isinstance(said, list):
        pairs = [(each.get("name"), each.get("target")) for each in said if isinstance(each, dict)]
    yield from ((name, to) for name, to in pairs if isinstance(name, str) and isinstance(to, str))


def _asset(kind: Literal["style", "script"], url: str, told: Mapping[str, str]) -> Asset:
    return Asset(
        kind=kind,
        url=url,
        scope=told.get("scope") or "all",
        module=told.get("type") in ("module", "esm"),
        integrity=told.get("integrity", ""),
        crossorigin=told.get("crossorigin", ""),
        media=told.get("media", ""),
    )


def linked(said: Manifest) -> list[tuple[bytes, bytes]]:
    """The manifest's assets as the Link header that newer podlets send."""
    links = [
        f"<{each.url}>; asset-type={each.kind}; scope={each.scope}" + ("; type=module" if each.module else "")
        for each in said.assets
    ]
    return [(b"link", ", ".join(links).encode())] if links else []


def assets(link: str, scopes: Sequence[str]) -> Iterator[Asset]:
    """The assets of a Link header that are for one of these scopes."""
    for match in _LINK.finditer(link):
        told = {name.lower(): (value or "").strip('"') for name, value in _PARAM.findall(match[2])}
        kind = told.get("asset-type")
        made = _asset("style" if kind == "style" else "script", match[1], told)
        if kind in ("style", "script") and made.scope in scopes:
            yield made
