"""References between registrations: what pages ask of fragments, what fragments embed, who holds a route.

Pure: compiled contexts in, findings out. What a context gets wrong about itself is an error; what another context lacks
never rejects anybody's page and is a `dangling` warning.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from bff.config.compile import route_shape
from bff.errors import Finding
from bff.model import Context, Fragment, Page, Pattern, Ref, Render, Route, Slot
from bff.rules import policy

Position = tuple[int, int]
_ROUTE: Final = re.compile(r"\{([a-z][a-z0-9_]*)(:path)?\}")
_TAKEN: Final = frozenset(
    [
        "id",
        "class",
        "name",
        "as",
        "primary",
        "core",
        "load",
        "refresh",
        "live",
        "more",
        "stale",
        "when",
        "wrap",
        "reserve",
    ]
)
"""Attributes with a meaning of their own: a parameter called so is passed as `param:…`."""
_BY_SCRIPT: Final = ("client", "none")


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where something was written: a file, a line and a column from 1, and the context whose file it is."""

    file: str
    line: int = 1
    column: int = 1
    context: str = ""


Template = tuple[Render, tuple[Finding, ...]]
"""A compiled template, and what was found on the way."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Built:
    """One context compiled alone, and where its parts were written.

    `places` by "page:<page>" and "page:<context>/proxy:<route>" (its path), "shell:<page>:<index>" and "error:<page>:<index>" (the slots of its two shells,
    which a layout of another context may have brought), "embeds:<fragment>" and "upstream:<context>".
    """

    context: Context
    places: Mapping[str, Place]
    templates: Mapping[str, Template] = field(default_factory=dict)  # by what they were compiled from


@dataclass(frozen=True, slots=True, kw_only=True)
class Linked:
    """Contexts together: everything by full name, each route of the gateway held by one page or proxy."""

    contexts: Mapping[str, Context] = field(default_factory=dict)
    fragments: Mapping[str, Fragment] = field(default_factory=dict)
    pages: Mapping[str, Page] = field(default_factory=dict)
    routes: Mapping[str, Route] = field(default_factory=dict)
    places: Mapping[str, Place] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()


def link(built: Sequence[Built], holders: Mapping[str, str]) -> Linked:
    """Put contexts together. `holders`: route → page or proxy that held it until now; else the first in `built` gets it."""
    contexts = {each.context.name: each.context for each in built}
    fragments = {name: fragment for context in contexts.values() for name, fragment in context.fragments.items()}
    held, findings = _routes(built, holders)
    for each in built:
        for page in each.context.pages.values():
            findings.extend(foreign(page, fragments, each.places))
        for fragment in each.context.fragments.values():
            findings.extend(_embeds(fragment, fragments, each.places))
    return Linked(
        contexts={name: _holding(context, held) for name, context in contexts.items()},
        fragments=fragments,
        pages={name: each for name, each in held.items() if isinstance(each, Page)},
        routes={name: each for name, each in held.items() if isinstance(each, Route)},
        places={key: place for each in built for key, place in each.places.items()},
        findings=tuple(findings),
    )


def own(context: Context, places: Mapping[str, Place]) -> Iterator[Finding]:
    """What a context asks of itself and does not have; an error where it says so itself, not a layout that it extends."""
    for page in context.pages.values():
        for slot, place in _slots(page, places):
            yield from _written(page, slot, place)
            if _context(slot.fragment) == context.name:
                yield from _asked(page, slot, context.fragments, place)


def foreign(page: Page, fragments: Mapping[str, Fragment], places: Mapping[str, Place]) -> Iterator[Finding]:
    """What a page asks of other contexts that is not there: all of these are `dangling`."""
    for slot, place in _slots(page, places):
        if _context(slot.fragment) != page.context:
            yield from _asked(page, slot, fragments, place)


# --- routes -----------------------------------------------------------------------------------------------------------


Claim = Page | Route
"""What answers at a route of the gateway."""


def _routes(built: Sequence[Built], holders: Mapping[str, str]) -> tuple[dict[str, Claim], list[Finding]]:
    """Claims by name without those whose route another one holds, and an error for each of those."""
    claims = [(claim, each) for each in built for claim in _claims(each.context)]
    names = {claim.name for claim, _ in claims}
    holding = {route_shape(claim.route): claim for claim, _ in reversed(claims)}
    for claim, _ in claims:  # who holds a route keeps it
        if holders.get(route_shape(claim.route)) == claim.name in names:
            holding[route_shape(claim.route)] = claim
    findings = [
        _taken(claim, holding[route_shape(claim.route)], each.places)
        for claim, each in claims
        if holding[route_shape(claim.route)] is not claim
    ]
    return {claim.name: claim for claim, _ in claims if holding[route_shape(claim.route)] is claim}, findings


def _claims(context: Context) -> list[Claim]:
    return [*context.pages.values(), *context.routes.values()]


def _taken(claim: Claim, holder: Claim, places: Mapping[str, Place]) -> Finding:
    return _finding(
        claim,
        places[f"page:{claim.name}"],
        code="route-taken",
        message=f"the route {claim.route} is held by {holder.name} ({holder.owner}); {claim.name} is left out",
        remedy="choose another path, or agree with its owner who has it",
    )


def _holding(context: Context, held: Mapping[str, Claim]) -> Context:
    if all(claim.name in held for claim in _claims(context)):
        return context
    return replace(
        context,
        pages={name: page for name, page in context.pages.items() if name in held},
        routes={name: route for name, route in context.routes.items() if name in held},
    )


# --- slots ------------------------------------------------------------------------------------------------------------


def _written(page: Page, slot: Slot, place: Place) -> Iterator[Finding]:
    """References to the page's own parameters that it does not have."""
    known = {"path": [match[1] for match in _ROUTE.finditer(page.route)], "query": [*page.query]}
    for name, pattern in slot.params:
        for ref in _refs(pattern):
            if ref.kind in known and ref.name not in known[ref.kind]:
                there = ", ".join(f"{{{ref.kind}.{each}}}" for each in known[ref.kind]) or f"no {ref.kind} parameters"
                yield _finding(
                    page,
                    place,
                    code="unknown-reference",
                    message=f"{slot.fragment}: {name} refers to {{{ref.kind}.{ref.name}}}, which {page.name} does not have",
                    remedy=f"it has {there}",
                    own=place.context == page.context,
                )


def _asked(page: Page, slot: Slot, fragments: Mapping[str, Fragment], place: Place) -> Iterator[Finding]:
    """What a slot asks of its fragment, judged by what the fragment declares."""
    fragment = fragments.get(slot.fragment)
    problems = _mismatches(slot, fragment) if fragment is not None else [_missing(slot.fragment, fragments)]
    own = _context(slot.fragment) == page.context == place.context
    for code, message, remedy in problems:
        yield _finding(page, place, code=code, message=message, remedy=remedy, own=own)


Problem = tuple[str, str, str]
"""code, message, remedy."""


def _missing(name: str, fragments: Mapping[str, Fragment]) -> Problem:
    near = policy.suggestion(name, [*fragments]) if len(fragments) <= 1000 else ""
    remedy = near if near.startswith("did") else "register it, or take the slot out"
    return "unknown-fragment", f"there is no fragment {name}", remedy


def _mismatches(slot: Slot, fragment: Fragment) -> Iterator[Problem]:
    given = dict(slot.params)
    for name, pattern in slot.params:
        param = fragment.params.get(name)
        if param is None:
            near = policy.nearest(name, [*fragment.params, *sorted(_TAKEN)])
            remedy = f"did you mean {near!r}?" if near else f"it declares {', '.join(fragment.params) or 'none'}"
            yield "unknown-param", f"{fragment.name} has no parameter {name}", remedy
        elif param.principal:
            yield "unknown-param", f"{fragment.name}: {name} is filled by the gateway", "take the attribute out"
        elif not _refs(pattern) and param.parse(_text(pattern)) is None:
            yield (
                "bad-param",
                f"{fragment.name}: {_text(pattern)!r} is no value for {name} ({param.type})",
                f"write one such as {param.example!r}" if param.example else "see its declaration",
            )
    for name, param in fragment.params.items():
        if param.required and not param.principal and name not in given:
            written = f"param:{name}" if name in _TAKEN else name
            yield "missing-param", f"{fragment.name} needs the parameter {name}", f'add {written}="…" to the slot'
    untold = fragment.source == "json" and fragment.template is None and not fragment.starts_task
    if untold and slot.load not in _BY_SCRIPT:
        yield (
            "no-template",
            f"{fragment.name} is JSON without a template, which a page cannot show",
            'give it a `template`, or the slot load="client" or load="none"',
        )


def _embeds(fragment: Fragment, fragments: Mapping[str, Fragment], places: Mapping[str, Place]) -> Iterator[Finding]:
    """Those of other contexts; the own ones are judged where the registration is read."""
    for name in fragment.embeds:
        if name not in fragments and _context(name) != fragment.context:
            code, message, remedy = _missing(name, fragments)
            place = places[f"embeds:{fragment.name}"]
            told = f"{fragment.name} embeds: {message}"
            yield _finding(fragment, place, code=code, message=told, remedy=remedy, own=False)


# --- words ------------------------------------------------------------------------------------------------------------


def _finding(of: Claim | Fragment, place: Place, *, code: str, message: str, remedy: str, own: bool = True) -> Finding:
    return Finding(
        file=place.file,
        line=place.line,
        column=place.column,
        code=code if own else "dangling",
        message=message,
        remedy=remedy,
        context=of.context,
        owner=of.owner,
        severity="error" if own else "warning",
    )


def _slots(page: Page, places: Mapping[str, Place]) -> Iterator[tuple[Slot, Place]]:
    """The slots of a page and of its error page, with where each was written."""
    for kind, shell in (("shell", page.shell), ("error", page.error)):
        for slot in shell.slots if shell is not None else ():
            yield slot, places[f"{kind}:{page.name}:{slot.index}"]


def _context(fragment: str) -> str:
    return fragment.partition("/")[0]


def _refs(pattern: Pattern) -> list[Ref]:
    return [part for part in pattern if isinstance(part, Ref)]


def _text(pattern: Iterable[str | Ref]) -> str:
    return "".join(part for part in pattern if isinstance(part, str))
