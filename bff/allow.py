"""What the operator lets a context claim (`allow` in `bff.yaml`), held against what its registration claims. Pure.

A context that `allow` does not name may claim anything; one that it names may claim only what is listed, kind by kind.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from bff.config.manifest import Manifest
from bff.config.options import Allowed
from bff.config.yaml import Loc
from bff.errors import Finding

Claim = tuple[str, Loc, str]
"""The kind (a key of `allow`), where it is claimed, and what."""


def refused(manifest: Manifest, allowed: Allowed | None) -> Iterator[Finding]:
    """An error for each claim that is not allowed, where it stands."""
    if allowed is None:
        return
    for kind, loc, text in _claims(manifest):
        if not permits(allowed, kind, text):
            listed: tuple[str, ...] = getattr(allowed, kind)
            yield manifest.finding(
                loc,
                "not-allowed",
                f"{manifest.name} may not claim {text!r}",
                f"the operator allows it {kind}: {', '.join(listed) or 'none'}",
            )


def permits(allowed: Allowed | None, kind: str, text: str) -> bool:
    """Whether `text` may be claimed of a kind (a key of `allow`)."""
    listed: tuple[str, ...] | None = getattr(allowed, kind) if allowed is not None else None
    return listed is None or any(_matches(pattern, text) for pattern in listed)


def _claims(manifest: Manifest) -> Iterator[Claim]:
    spec = manifest.spec
    if spec.upstream:
        yield "upstreams", ("upstream",), spec.upstream
    forwards: list[tuple[Loc, tuple[str, ...], tuple[str, ...]]] = [
        (("forward",), spec.forward.headers, spec.forward.cookies)
    ]
    for number, proxy in enumerate(spec.proxy):
        yield "routes", ("proxy", number, "path"), proxy.path
        if proxy.forward is not None:
            forwards.append((("proxy", number, "forward"), proxy.forward.headers, proxy.forward.cookies))
    for loc, headers, cookies in forwards:
        yield from _each("headers", (*loc, "headers"), headers)
        yield from _each("cookies", (*loc, "cookies"), cookies)
    yield from _each("cookies", ("grant", "cookies"), spec.grant.cookies)
    yield from _each("redirects", ("grant", "redirects"), spec.grant.redirects)
    for directive, sources in spec.csp.items():
        yield from _each("csp", ("csp", directive), sources)
    for name, page in spec.pages.items():
        yield "routes", ("pages", name, "path"), page.path
    for name, fragment in spec.fragments.items():
        yield "trust", ("fragments", name, "trust"), fragment.trust


def _each(kind: str, loc: Loc, texts: tuple[str, ...]) -> Iterator[Claim]:
    return ((kind, (*loc, number), text) for number, text in enumerate(texts))


def _matches(pattern: str, text: str) -> bool:
    """`*` in `pattern` is any text, as in routes."""
    return re.fullmatch(".*".join(map(re.escape, pattern.split("*"))), text) is not None
