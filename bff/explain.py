"""Where every value comes from, a line each: of a fragment's policy, of a page and of its slots. Pure: a `World` in, text out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches

from bff.model import Fragment, Page, Pattern, Policy, Ref, Slot
from bff.registry import World
from bff.rules import policy
from bff.units import show_duration

MARGIN = 0.05
"""Seconds before the page's deadline at which its open slots end (contract §2)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Linked:
    """A slot with its fragment, and the policy that holds there."""

    page: Page
    slot: Slot
    fragment: Fragment
    policy: Policy
    origins: Mapping[str, str]


def of(world: World, name: str, ceilings: Mapping[str, object]) -> Iterator[str]:
    """All lines on what is called `name`: a fragment, a page, or one of each; none where there is neither."""
    if name in world.fragments:
        yield from fragment(world, name, ceilings)
    if name in world.pages:
        yield from page(world, name, ceilings)


def fragment(world: World, name: str, ceilings: Mapping[str, object]) -> Iterator[str]:
    """The fragment and its policy; then the values that hold otherwise in some slot."""
    of = world.fragments[name]
    yield f"fragment {name}  owner {of.owner}  source {of.source}  {'private' if of.private else 'shared'}"
    trust = "trust", of.trust, _origin(of.origins.get("trust", "registration"), of)
    yield from _table([*_values(of.policy, of.origins, of, ceilings), trust])
    slots = list(_slots_of(world, name, ceilings))
    for linked in slots:
        yield from _table(_otherwise(linked, of))
    shown = ", ".join(f"{linked.page.name} {linked.slot.id}" for linked in slots)
    within = ", ".join(each.name for each in world.fragments.values() if name in each.embeds)
    yield f"shown by  {shown or 'no page'}" + (f"  embedded by  {within}" if within else "")


def page(world: World, name: str, ceilings: Mapping[str, object]) -> Iterator[str]:
    """The page, its slots, and every value that is not the built-in one."""
    of = world.pages[name]
    yield f"page {name}  owner {of.owner}  route {of.route}"
    yield from _table([("deadline", show_duration(of.deadline), _deadline_origin(of))])
    yield from _table([_row(world, slot) for slot in of.shell.slots] or [("no slots",)])
    linked = [_linked(world, of, slot, ceilings) for slot in of.shell.slots]
    yield from _table(row for each in linked if each is not None for row in _set(each))


def names(world: World, wrong: str) -> list[str]:
    """Registered names that resemble `wrong`, the nearest first."""
    known = sorted({*world.pages, *world.fragments})
    near = get_close_matches(wrong, known, n=3, cutoff=0.5)
    same = [name for name in known if name.partition("/")[2] == wrong.rpartition("/")[2]]
    return list(dict.fromkeys([*same, *near]))[:3]


# --- rows -------------------------------------------------------------------------------------------------------------

Row = tuple[str, ...]


def _values(
    held: Policy, origins: Mapping[str, str], of: Fragment, ceilings: Mapping[str, object], where: str = ""
) -> Iterator[Row]:
    for key, value in policy.flat(held).items():
        origin = _origin(origins[key], of, where)
        if key in ceilings and value == ceilings[key]:
            origin += f", at most {policy.show(key, value)} by bff.yaml: ceilings"
        yield key, policy.show(key, value), origin


def _origin(origin: str, of: Fragment, where: str = "") -> str:
    named = {
        "context": f"context ({of.context})",
        "fragment": f"fragment ({of.name})",
        "slot": f"slot ({where})",
        "override": "override (bff.yaml or bff override)",
    }
    return named.get(origin, origin)


def _otherwise(linked: Linked, of: Fragment) -> Iterator[Row]:
    usual = policy.flat(of.policy)
    where = f"{linked.page.name} {linked.slot.id}"
    for key, value in policy.flat(linked.policy).items():
        if value != usual[key]:
            origin = linked.origins[key]
            why = "built-in for a primary" if origin == "built-in" else _origin(origin, of, where)
            yield f"in {where}", key, policy.show(key, value), why


def _set(linked: Linked) -> Iterator[Row]:
    where = f"{linked.page.name} {linked.slot.id}"
    wait = min(linked.policy.timeout.total, max(linked.page.deadline - MARGIN, 0.0))
    yield (
        linked.slot.id,
        "waits at most",
        show_duration(round(wait, 3)),
        "timeout.total and the page's deadline less 50ms",
    )
    for key, value in policy.flat(linked.policy).items():
        if linked.origins[key] != "built-in":
            yield linked.slot.id, key, policy.show(key, value), _origin(linked.origins[key], linked.fragment, where)


def _row(world: World, slot: Slot) -> Row:
    found = world.fragments.get(slot.fragment)
    params = " ".join(f"{name}={_shown(pattern)}" for name, pattern in slot.params)
    load = "" if slot.load == "stream" else f"load={slot.load}"
    owner = found.owner if found else "dangling"
    return slot.id, slot.fragment, slot.kind, owner, " ".join(filter(None, [load, params]))


def _shown(pattern: Pattern) -> str:
    parts = [
        f"{{{part.kind}{'.' if part.name else ''}{part.name}}}" if isinstance(part, Ref) else part for part in pattern
    ]
    return "".join(parts)


def _deadline_origin(of: Page) -> str:
    return "built-in" if of.deadline == 2.0 else f"page ({of.name}), or override"


# --- slots ------------------------------------------------------------------------------------------------------------


def slots(world: World, ceilings: Mapping[str, object]) -> Iterator[Linked]:
    """Every slot of every page that has its fragment."""
    for of in world.pages.values():
        for slot in of.shell.slots:
            linked = _linked(world, of, slot, ceilings)
            if linked is not None:
                yield linked


def _slots_of(world: World, name: str, ceilings: Mapping[str, object]) -> Iterator[Linked]:
    return (linked for linked in slots(world, ceilings) if linked.fragment.name == name)


def _linked(world: World, of: Page, slot: Slot, ceilings: Mapping[str, object]) -> Linked | None:
    found = world.fragments.get(slot.fragment)
    if found is None:
        return None
    own = ("slot", {key: policy.parse(key, text) for key, text in slot.policy.items()})
    before = [layer for layer in found.layers if layer[0] != "override"]
    after = [layer for layer in found.layers if layer[0] == "override"]
    primary = slot.kind == "primary"
    held, origins = policy.merge([*before, own, *after], ceilings=ceilings, primary=primary, private=found.private)
    return Linked(page=of, slot=slot, fragment=found, policy=held, origins=origins)


def _table(rows: Iterable[Row]) -> Iterator[str]:
    """Rows as lines, columns aligned, two spaces between them."""
    listed: Sequence[Row] = list(rows)
    widths = [max(len(row[i]) for row in listed if i < len(row)) for i in range(max(map(len, listed), default=0))]
    for row in listed:
        yield "  ".join(cell.ljust(widths[i]) for i, cell in enumerate(row)).rstrip()
