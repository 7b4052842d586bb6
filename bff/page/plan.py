"""What a request asks of a page: which fragments, with which parameters, under which policy. Pure.

Everything that depends on registrations alone is compiled when they load; what depends on the URL, the principal and the
locale is worked out once and remembered, so that a popular page's plan is one look-up.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final
from urllib.parse import parse_qsl

from bff.markup.patch import Wrapper, reserve_rule, wrapper
from bff.model import NONCE, Bounds, Fragment, Hole, Outcome, Page, Pattern, Policy, Reason, Ref, Result, Shell, Slot
from bff.page.call import Call, typed
from bff.page.elements import Elements
from bff.page.hoist import Hoisted, elements, of_page, preloads
from bff.page.routes import Routes
from bff.rules import keys
from bff.rules.pages import address
from bff.rules.policy import merge, parse

REMEMBERED: Final = 4096
LONGEST: Final = 1024  # bytes of a URL whose plan is remembered
MODULE: Final = (b'<script type="module" async src="/_bff/static/bff.js" nonce="', NONCE, b'"></script>')
"""The nonce is for what it inserts: the scripts and styles of fragments that arrive after the page."""
_CORE: Final = ("primary", "core")
_BY_HAND: Final = ("click", "none")


@dataclass(frozen=True, slots=True, kw_only=True)
class SlotPlan:
    """One slot, linked: its fragment (None: dangling) under its own policy."""

    slot: Slot
    number: str
    fragment: Fragment | None
    policy: Policy | None
    wrapper: Wrapper
    core: bool
    inside: tuple[int, ...]  # the elements open around it, by number: where its late template may be written
    index: int = 0  # position among the page's slots
    assets: Mapping[str, list[str]] | None = None  # of its fragment, as the JSON forms list them


Part = bytes | Hole | SlotPlan


@dataclass(frozen=True, slots=True, kw_only=True)
class PagePlan:
    """A page, linked and flattened for writing: bytes, holes and slots in document order."""

    page: Page
    parts: tuple[Part, ...]
    slots: tuple[SlotPlan, ...]
    primary: SlotPlan | None
    csp: tuple[str, str, str]  # around the two places of the nonce
    body: int  # where in `parts` late templates may still be written: just before </body>
    error: PagePlan | None = None
    links: bytes = b""  # the Link header: preloads of what its head refers to


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """A plan for one URL, principal and locale. `calls[i]` is what slot i asks; `decided[i]` how it ended without asking."""

    plan: PagePlan
    calls: tuple[Call | None, ...]
    decided: tuple[Result | None, ...]
    given: Mapping[str, tuple[str, ...]]
    error: Planned | None = None


class BadQuery(Exception):
    """A declared query parameter of a page is invalid, missing or repeated: 400."""


def omitted(reason: Reason) -> Result:
    return Result(outcome=Outcome.OMITTED, reason=reason)


LEFT_TO_BROWSER: Final = Result(outcome=Outcome.PENDING, reason=Reason.LOAD)
_OMITTED: Final = {reason: omitted(reason) for reason in (Reason.DANGLING, Reason.PARAMS, Reason.WHEN)}


class Planner:
    """The plans of one world of registrations."""

    def __init__(
        self,
        pages: Mapping[str, Page],
        fragments: Mapping[str, Fragment],
        *,
        accept: Mapping[str, str],
        ceilings: Mapping[str, Any],
        csp: Csp,
        assets: Mapping[str, Hoisted] | None = None,
    ) -> None:
        """`accept`: the Accept header by source; `ceilings`: dotted policy key → limit; `assets`: by fragment."""
        self.fragments = fragments
        self._accept = accept
        self._ceilings = ceilings
        self.csp = csp
        self._assets = assets or {}
        self._routes = Routes(pages.values())
        self._plans = {name: self._compile(page) for name, page in pages.items()}
        self._known: dict[tuple[bytes, bytes, str | None, str], Planned | None] = {}

    # --- per request --------------------------------------------------------------------------------------------------

    def find(self, path: bytes, query: bytes, principal: str | None, locale: str) -> Planned | None:
        """The plan for a raw path and query string; None where no page is there. Raises `BadQuery`."""
        key = (path, query, principal, locale)
        try:
            return self._known[key]
        except KeyError:
            planned = self._find(path.decode("latin-1"), query.decode("latin-1"), principal, locale)
            if len(query) + len(path) + len(locale) > LONGEST:
                return planned
            if len(self._known) >= REMEMBERED:
                self._known.clear()
            self._known[key] = planned
            return planned

    def _find(self, path: str, query: str, principal: str | None, locale: str) -> Planned | None:
        found = self._routes.find(path)
        if found is None:
            return None
        page, given = found
        values: dict[str, tuple[str, ...]] = {f"path.{name}": (text,) for name, text in given.items()}
        values |= {f"query.{name}": texts for name, texts in _query(page, query).items()}
        if principal is not None:
            values["principal"] = (principal,)
        values["locale"] = (locale,)
        return self._planned(self._plans[page.name], values)

    def _planned(self, plan: PagePlan, given: Mapping[str, tuple[str, ...]]) -> Planned:
        calls, decided = [], []
        for each in plan.slots:
            call = self._call(each, given)
            calls.append(call if isinstance(call, Call) else None)
            decided.append(_decide(each, call, given))
        error = self._planned(plan.error, given) if plan.error is not None else None
        return Planned(plan=plan, calls=tuple(calls), decided=tuple(decided), given=given, error=error)

    def _call(self, plan: SlotPlan, given: Mapping[str, tuple[str, ...]]) -> Call | Reason:
        fragment, policy = plan.fragment, plan.policy
        if fragment is None or policy is None:
            return Reason.DANGLING
        passed: dict[str, tuple[str, ...]] = {}
        for name, pattern in plan.slot.params:
            param = fragment.params.get(name)
            if param is None or param.principal:  # unknown there, or the gateway's to fill
                return Reason.DANGLING
            texts = _fill(pattern, given)
            if texts is None:
                if not param.required:
                    continue
                return Reason.PARAMS
            passed[name] = texts
        if "principal" in given:
            passed |= {name: given["principal"] for name, param in fragment.params.items() if param.principal}
        return self.call(fragment, policy, passed, slot=plan.slot) or Reason.PARAMS

    def call(
        self,
        fragment: Fragment,
        policy: Policy,
        passed: Mapping[str, Sequence[str]],
        *,
        slot: Slot | None = None,
        primary: bool = False,
    ) -> Call | None:
        """A call with given parameter texts; None where one is missing or invalid. Without a slot, `primary` says whether it is one."""
        values = keys.values(fragment.params, passed)
        target = keys.target(fragment, values) if values is not None else None
        if values is None or target is None:
            return None
        kind = slot.kind if slot is not None else "primary" if primary else "optional"
        accept = self._accept[fragment.source]
        return Call(
            fragment=fragment,
            policy=policy,
            bounds=Bounds.of(policy, optional=kind == "optional"),
            values=values,
            params=typed(fragment.params, values),
            target=target,
            key=keys.base(fragment.name, values, primary=kind == "primary"),
            head=f"accept: {accept}\r\nuser-agent: bff\r\n".encode(),
            src=address(fragment, values),
            plain=not fragment.private and not fragment.forward.headers,
            primary=kind == "primary",
            client=slot is not None and slot.wrap and kind != "primary",
            place=slot.place if slot is not None else 0,
            then_fresh=slot is not None and slot.then_fresh,
        )

    def embedded(self, parent: SlotPlan, slot: Slot, number: int) -> tuple[SlotPlan, Call | None, Result | None]:
        """A slot found in a fragment's own HTML: literal parameters, never core, inside its parent's place."""
        within = replace(slot, index=number, kind="optional", in_form=parent.slot.in_form)
        plan = self._slot(within, parent.inside, number - 1)
        call = self._call(plan, {})
        return plan, call if isinstance(call, Call) else None, _decide(plan, call, {})

    # --- per load -----------------------------------------------------------------------------------------------------

    def _compile(self, page: Page) -> PagePlan:
        plan = self._shell(page, page.shell)
        return replace(plan, error=self._shell(page, page.error)) if page.error is not None else plan

    def _shell(self, page: Page, shell: Shell) -> PagePlan:
        inside = _open_elements(shell)
        slots = tuple(self._slot(slot, inside[i], i) for i, slot in enumerate(shell.slots))
        primary = next((each for each in slots if each.slot.kind == "primary"), None)
        contexts = {each.fragment.context: each.fragment.csp for each in slots if each.fragment is not None}
        used = [each.fragment for each in slots if each.fragment is not None]
        hoisted = of_page(used, self.fragments, self._assets)
        flat = _flatten(shell, slots, elements(hoisted), keep_head=primary is not None)
        return PagePlan(
            page=page,
            parts=flat,
            slots=slots,
            primary=primary,
            csp=self.csp.around(contexts.values()),
            links=preloads(hoisted),
            body=next((i for i, part in enumerate(flat) if isinstance(part, Hole) and part.key == "body"), len(flat)),
        )

    def _slot(self, slot: Slot, inside: tuple[int, ...], index: int) -> SlotPlan:
        fragment = self.fragments.get(slot.fragment)
        number = slot.id
        policy = self.policy(fragment, slot) if fragment is not None else None
        if fragment is not None and policy is not None and policy.cache.scope != fragment.policy.cache.scope:
            fragment = replace(fragment, policy=policy)  # whose answers are somebody's own here, or are not
        if fragment is not None and fragment.starts_task and slot.kind != "primary" and slot.load not in _BY_HAND:
            slot = replace(slot, load="click" if slot.wrap else "none")  # a page that is read begins nothing
        return SlotPlan(
            slot=slot,
            number=number,
            fragment=fragment,
            policy=policy,
            wrapper=wrapper(slot, number),
            core=slot.kind in _CORE,
            inside=inside,
            index=index,
            assets=self._assets[slot.fragment].urls() if slot.fragment in self._assets else None,
        )

    def policy(self, fragment: Fragment, slot: Slot) -> Policy:
        """The fragment's policy with the slot's own values between the registration's and the operator's."""
        if not slot.policy and slot.kind != "primary":
            return fragment.policy
        own = ("slot", {name: parse(name, text) for name, text in slot.policy.items()})
        before = [layer for layer in fragment.layers if layer[0] != "override"]
        after = [layer for layer in fragment.layers if layer[0] == "override"]
        primary = slot.kind == "primary"
        layers = [*before, own, *after]
        return merge(layers, ceilings=self._ceilings, primary=primary, private=fragment.private)[0]


@dataclass(frozen=True, slots=True)
class Csp:
    """The pages' Content-Security-Policy, compiled per page: the defaults and what its slots' contexts add."""

    add: Mapping[str, Sequence[str]]
    report_uri: str = ""
    enforce: bool = True

    @property
    def header(self) -> bytes:
        return b"content-security-policy" + (b"" if self.enforce else b"-report-only")

    def around(self, contexts: Any) -> tuple[str, str, str]:
        """The header's text before, between and after the two places of the nonce."""
        merged = {name: list(sources) for name, sources in _CSP.items()}
        for additions in (self.add, *contexts):
            for name, sources in additions.items():
                kept = merged.setdefault(name, ["'self'"])
                kept.extend(source for source in sources if source not in kept)
        if self.report_uri:
            merged["report-uri"] = [self.report_uri]
        text = "; ".join(f"{name} {' '.join(sources)}" for name, sources in merged.items())
        before, between, after = text.split("'nonce-'", 2)
        return before + "'nonce-", "'" + between + "'nonce-", "'" + after


_CSP: Final[Mapping[str, tuple[str, ...]]] = {
    "default-src": ("'self'",),
    "script-src": ("'self'", "'nonce-'"),
    "style-src": ("'self'", "'nonce-'"),
    "img-src": ("'self'", "data:", "https:"),
    "base-uri": ("'none'",),
    "object-src": ("'none'",),
    "form-action": ("'self'",),
    "frame-ancestors": ("'self'",),
}


def _query(page: Page, query: str) -> dict[str, tuple[str, ...]]:
    """The declared query parameters, canonical; undeclared ones are ignored, bad or repeated ones are `BadQuery`."""
    if not page.query:
        return {}
    given: dict[str, list[str]] = {}
    pairs = parse_qsl(query, keep_blank_values=True, errors="surrogateescape") if query else ()
    for name, text in pairs:  # what is no UTF-8 is no parameter's value
        if name in page.query:
            given.setdefault(name, []).append(text)
    for name, param in page.query.items():
        if len(given.get(name, ())) > (param.max if param.many else 1):
            raise BadQuery(f"the query parameter {name!r} is given more than once")
        if name not in given and param.required:
            raise BadQuery(f"the query parameter {name!r} is missing")
    values = keys.values(page.query, given)
    if values is None:
        bad = next(n for n in given if any(page.query[n].parse(text) is None for text in given[n]))
        raise BadQuery(f"the query parameter {bad!r} is not a valid {page.query[bad].type}")
    return dict(values)


def _fill(pattern: Pattern, given: Mapping[str, tuple[str, ...]]) -> tuple[str, ...] | None:
    """A slot attribute's values; None where something it refers to is not there."""
    refs = [part for part in pattern if isinstance(part, Ref)]
    names = [f"{ref.kind}.{ref.name}" if ref.name else ref.kind for ref in refs]
    if any(name not in given for name in names):
        return None
    found = [given[name] for name in names]
    if len(refs) == 1 and all(part == "" for part in pattern if isinstance(part, str)):
        return found[0]
    texts = iter(found)
    return ("".join(part if isinstance(part, str) else ",".join(next(texts)) for part in pattern),)


def _decide(plan: SlotPlan, call: Call | Reason, given: Mapping[str, tuple[str, ...]]) -> Result | None:
    slot = plan.slot
    if slot.when and (slot.when == "authenticated") != ("principal" in given):
        return _OMITTED[Reason.WHEN]
    if not isinstance(call, Call):
        return _OMITTED[call]
    return None if slot.load == "stream" else LEFT_TO_BROWSER


def _flatten(shell: Shell, slots: tuple[SlotPlan, ...], assets: bytes, *, keep_head: bool) -> tuple[Part, ...]:
    """The shell's parts with the page's own style and module in place, and no hole left that nothing fills."""
    at = {slot.index: plan for slot, plan in zip(shell.slots, slots, strict=True)}
    parts: list[Part] = []
    for part in shell.parts:
        if isinstance(part, Slot):
            parts.append(at[part.index])
        elif isinstance(part, Hole) and part.key == "head":
            parts.extend([part] if keep_head else [])
            parts.append(assets)
            parts.extend(_head(slots))
        elif isinstance(part, Hole) and part.key not in _FILLED and not keep_head:
            parts.append(part.default)
        else:
            parts.append(part)
    return _joined(parts)


_FILLED: Final = frozenset({"nonce", "lang", "body"})


def _head(slots: tuple[SlotPlan, ...]) -> list[Part]:
    rules = [
        reserve_rule(each.number, each.slot.reserve or (each.fragment.reserve if each.fragment else ""))
        for each in slots
        if each.slot.wrap and (each.slot.reserve or (each.fragment is not None and each.fragment.reserve))
    ]
    out: list[Part] = [b'<style nonce="', NONCE, f'">{"".join(rules)}</style>'.encode()] if rules else []
    return [*out, *MODULE] if any(_late(each) for each in slots) else out


def _late(plan: SlotPlan) -> bool:
    """Whether anything of a slot may reach the browser after its place."""
    return plan.slot.wrap and (not plan.core or plan.wrapper.again or bool(plan.slot.more))


def _joined(parts: list[Part]) -> tuple[Part, ...]:
    out: list[Part] = []
    for part in parts:
        last = out[-1] if out else None
        if isinstance(part, bytes) and isinstance(last, bytes):
            out[-1] = last + part
        elif part != b"":
            out.append(part)
    return tuple(out)


def _open_elements(shell: Shell) -> list[tuple[int, ...]]:
    """For each slot, which elements are open around it (numbered in document order)."""
    elements = Elements()
    found: list[tuple[int, ...]] = []
    for part in shell.parts:
        if isinstance(part, Slot):
            found.append(elements.open)
        else:
            elements.feed(part if isinstance(part, bytes) else part.default)
    return found
