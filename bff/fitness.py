"""Rules of good order over all registrations that no single file can break: budgets and upstreams. Pure.

A warning is worth a red build; a note is worth knowing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Final, Literal

from bff import explain
from bff.config.options import Settings
from bff.config.validate import Places
from bff.config.yaml import Loc
from bff.errors import Finding, TemplateFailed
from bff.link import Place
from bff.model import Context, Fragment, Meta, Page, Upstream
from bff.page.call import typed
from bff.registry import World
from bff.rules import ijson, keys, policy
from bff.units import show_duration

LONG: Final = 2.0  # seconds; the contract's default deadline, beyond which readers leave


def rules(world: World, ceilings: Mapping[str, object]) -> Iterator[Finding]:
    """Findings of all rules, in the order of pages and contexts."""
    for linked in explain.slots(world, ceilings):
        yield from _budget(world, linked)
        yield from _window(world, linked)
        yield from _ceilings(world, linked, ceilings)
        yield from _click(world, linked)
        yield from _form(world, linked)
        yield from _task(world, linked)
    for page in world.pages.values():
        yield from _deadline(world, page)
    for fragment in world.fragments.values():
        yield from _stand_in(world, fragment)
    yield from _upstreams(world)


def strangers(world: World, settings: Settings, places: Places) -> Iterator[Finding]:
    """What `bff.yaml` says of contexts, fragments and pages that are not there: it would hold for nobody, unsaid.

    What a context has that could not be read is not known; nothing is said of that.
    """
    over, contexts = settings.overrides, world.loaded
    tables: list[tuple[Loc, Iterable[str], Iterable[str]]] = [
        (("allow",), settings.allow, contexts),
        (("overrides", "contexts"), over.contexts, contexts),
        (("overrides", "fragments"), over.fragments, world.fragments),
        (("overrides", "pages"), over.pages, world.pages),
        (("overrides", "trust"), over.trust, [*contexts, *world.fragments]),
    ]
    for loc, names, there in tables:
        known = {*there}
        for name in names:
            context, _, part = name.partition("/")
            if name not in known and not (part and contexts.get(context) is False):
                yield _stranger((*loc, name), places, known)


def _stranger(loc: Loc, places: Places, known: Iterable[str]) -> Finding:
    """A warning where it is like something that is there; else it may be for what is still to come."""
    file, line, column = places.place(loc, key=True)
    name = str(loc[-1])
    near = policy.nearest(name, known)
    return Finding(
        file=file,
        line=line,
        column=column,
        code="unknown-target",
        message=f"{'.'.join(map(str, loc[:-1]))}: there is no {name}",
        remedy=f"did you mean {near!r}?" if near else "it holds once there is; else take it out",
        severity="warning" if near else "note",
    )


def _budget(world: World, linked: explain.Linked) -> Iterator[Finding]:
    """What gates the page must be able to fail before the page's own deadline, or its `on_error` never shows."""
    page, slot, total = linked.page, linked.slot, linked.policy.timeout.total
    if slot.kind != "optional" and total > page.deadline:
        yield _finding(
            page,
            world.places[f"shell:{page.name}:{slot.index}"],
            code="budget",
            message=f"the {slot.kind} slot {linked.fragment.name} may take {show_duration(total)}, "
            f"longer than the page's deadline of {show_duration(page.deadline)}",
            remedy=f'write timeout.total="{show_duration(max(page.deadline - 0.5, page.deadline / 2))}" on the slot',
            severity="warning",
        )


def _window(world: World, linked: explain.Linked) -> Iterator[Finding]:
    """A fragment has one breaker, which counts over one window."""
    slot = linked.slot
    if "breaker.window" in slot.policy:
        yield _finding(
            linked.page,
            world.places[f"shell:{linked.page.name}:{slot.index}"],
            code="no-effect",
            message=f"breaker.window on a slot of {slot.fragment} has no effect: the fragment's breaker has one window",
            remedy="write it into the fragment's policy",
            severity="note",
        )


def _ceilings(world: World, linked: explain.Linked, ceilings: Mapping[str, object]) -> Iterator[Finding]:
    """What a slot asks for beyond what the operator allows; of registrations that is told when they are built."""
    own = {key: policy.parse(key, text) for key, text in linked.slot.policy.items() if linked.origins[key] == "slot"}
    for clamp in policy.clamped([("slot", own)], ceilings={key: ceilings[key] for key in own if key in ceilings}):
        yield _finding(
            linked.page,
            world.places[f"shell:{linked.page.name}:{linked.slot.index}"],
            code="over-ceiling",
            message=f"{clamp.key} of the slot of {linked.fragment.name} is {policy.show(clamp.key, clamp.value)}",
            remedy=f"the operator allows at most {policy.show(clamp.key, clamp.ceiling)}, which holds instead",
            severity="warning",
        )


def _click(world: World, linked: explain.Linked) -> Iterator[Finding]:
    """What is loaded by a click says what it is: its placeholder is the link, where it holds none itself."""
    slot = linked.slot
    shown = b"".join(part for part in slot.placeholder if isinstance(part, bytes)).lower()
    if slot.load == "click" and not re.sub(rb"<[^>]*>", b"", shown).strip():
        yield _finding(
            linked.page,
            world.places[f"shell:{linked.page.name}:{slot.index}"],
            code="click-target",
            message=f"the slot of {slot.fragment} loads by a click, and its placeholder says nothing",
            remedy="write into the slot what a click gives: it becomes the link",
            severity="warning",
        )


def _form(world: World, linked: explain.Linked) -> Iterator[Finding]:
    """HTML has no form in a form: parsers drop the inner one's tag, and its fields are sent with the outer one's."""
    if linked.slot.in_form and linked.fragment.form:
        yield _finding(
            linked.page,
            world.places[f"shell:{linked.page.name}:{linked.slot.index}"],
            code="form-in-form",
            message=f"the slot of {linked.fragment.name} stands in a form, and the fragment has a form of its own",
            remedy="put the slot outside the form; inside, it is refused",
            severity="warning",
        )


def _task(world: World, linked: explain.Linked) -> Iterator[Finding]:
    """Work that a page's being read would begin: the gateway waits for a click all the same."""
    slot = linked.slot
    if linked.fragment.starts_task and (slot.load not in ("click", "none") or slot.kind == "primary"):
        yield _finding(
            linked.page,
            world.places[f"shell:{linked.page.name}:{slot.index}"],
            code="starts-task",
            message=f"{slot.fragment} begins work, and this slot would begin it whenever the page is read",
            remedy='write load="click"; a primary cannot begin a task',
            severity="warning",
        )


def _deadline(world: World, page: Page) -> Iterator[Finding]:
    if page.deadline > LONG:
        yield _finding(
            page,
            world.places[f"page:{page.name}"],
            code="long-deadline",
            message=f"{page.name} may take {show_duration(page.deadline)}",
            remedy=f"people leave after {show_duration(LONG)}; make slow slots non-core",
            severity="note",
        )


def _stand_in(world: World, fragment: Fragment) -> Iterator[Finding]:
    """A fallback of JSON is shown by the fragment's template, when nothing else is left: an empty slot, where that fails."""
    if fragment.template is None or fragment.fallback_json is None or fragment.fallback_html is not None:
        return
    given = {
        name: [each.example or "somebody"] for name, each in fragment.params.items() if each.example or each.principal
    }
    values = keys.values(fragment.params, given)
    if values is None:  # a parameter without an example, which `verify` tells
        return
    try:
        data, _ = ijson.read(fragment.fallback_json)
        fragment.template(data, typed(fragment.params, values), Meta(date="", as_of=""), LONG)
    except (ValueError, TemplateFailed) as error:
        yield _finding(
            fragment,
            world.places[f"embeds:{fragment.name}"],
            code="fallback-fails",
            message=f"the template of {fragment.name} cannot show its own fallback: {error}",
            remedy="give the JSON what the template reads, or add a fallback that ends in .html",
            severity="warning",
        )


def _upstreams(world: World) -> Iterator[Finding]:
    """A service is one context's: two that share one hide who owns it."""
    first: dict[Upstream, Context] = {}
    for context in world.contexts.values():
        if context.upstream is None:
            continue
        holder = first.setdefault(context.upstream, context)
        if holder is not context:
            yield _finding(
                context,
                world.places[f"upstream:{context.name}"],
                code="shared-upstream",
                message=f"{context.name} points at the upstream of {holder.name} ({holder.owner})",
                remedy="register its fragments there, or give the context a service of its own",
                severity="warning",
            )


def _finding(
    of: Page | Fragment | Context,
    place: Place,
    *,
    code: str,
    message: str,
    remedy: str,
    severity: Literal["warning", "note"],
) -> Finding:
    return Finding(
        file=place.file,
        line=place.line,
        column=place.column,
        code=code,
        message=message,
        remedy=remedy,
        context=of.name if isinstance(of, Context) else of.context,
        owner=of.owner,
        severity=severity,
    )
