"""Registrations made by hand, for tests of what judges and shows them."""

from __future__ import annotations

from typing import Any

from bff.link import Built, Place, link
from bff.model import Context, Fragment, Page, Param, Shell, Slot, Upstream
from bff.registry import World
from bff.rules import policy

UPSTREAM = Upstream(scheme="http", host="127.0.0.1", port=9102, authority="127.0.0.1:9102")
DEFAULTS = policy.merge([])[0]


def fragment(name: str, **given: Any) -> Fragment:
    context = name.partition("/")[0]
    fields: dict[str, Any] = {"path": ("/x",), "policy": DEFAULTS, "origins": {}, "upstream": UPSTREAM} | given
    return Fragment(name=name, context=context, owner=f"team-{context}", **fields)


def param(name: str, **given: Any) -> Param:
    return Param(name=name, type="str", parse=lambda text: text if text != "bad" else None, **given)


def slot(name: str, index: int = 1, **given: Any) -> Slot:
    return Slot(index=index, fragment=name, key=name.partition("/")[2], line=7, column=3, **given)


def shell(*slots: Slot) -> Shell:
    return Shell(parts=slots, slots=slots)


def page(name: str, *slots: Slot, **given: Any) -> Page:
    context = name.partition("/")[0]
    fields: dict[str, Any] = {"route": "/" + name, "shell": shell(*slots)} | given
    return Page(name=name, context=context, owner=f"team-{context}", **fields)


def built(name: str, *parts: Fragment | Page, upstream: Upstream | None = None, written: str = "") -> Built:
    context = Context(
        name=name,
        owner=f"team-{name}",
        contact="",
        upstream=upstream,
        fragments={part.name: part for part in parts if isinstance(part, Fragment)},
        pages={part.name: part for part in parts if isinstance(part, Page)},
        policy=DEFAULTS,
    )
    places = {f"upstream:{name}": Place(file=f"{name}.yaml", line=3, column=11)}
    for part in parts:
        for kind in ("page", "embeds"):
            places[f"{kind}:{part.name}"] = Place(file=f"{kind}s/{part.name}", line=2, column=5, context=name)
        shells = {"shell": part.shell, "error": part.error} if isinstance(part, Page) else {}
        for kind, made in shells.items():
            for each in made.slots if made else ():
                file = f"{kind}s/{part.name}"
                whose = written or name
                places[f"{kind}:{part.name}:{each.index}"] = Place(file=file, line=7, column=3, context=whose)
    return Built(context=context, places=places)


def world(*contexts: Built) -> World:
    linked = link(contexts, {})
    return World(
        contexts=linked.contexts,
        fragments=linked.fragments,
        pages=linked.pages,
        findings=linked.findings,
        loaded=dict.fromkeys(linked.contexts, True),
        generation=1,
        places=linked.places,
    )
