"""One context's folder, read, compiled and judged: everything it says, or everything that is wrong with it, at once.

Reads that folder (and the layouts it extends); judges only what the context says about itself. What it asks of others is
judged by `link`, when all are there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Final

from bff.allow import refused
from bff.builder import DEFAULTS, Builder
from bff.config.manifest import Manifest, read_partly
from bff.config.options import Settings
from bff.errors import Finding
from bff.link import Built, own
from bff.model import Context, Forward, Fragment, Grant, Page, Shell, Upstream

_OF_FRAGMENTS: Final = ("path", "query", "params", "source", "template", "tags", "fallback")
_OF_PAGES: Final = ("path", "query")
"""What slots are judged by, and what must be right to be compiled."""
_NOWHERE: Final = Upstream(scheme="http", host="localhost", port=80, authority="localhost")


def build(
    folder: Path, *, settings: Settings, env: Mapping[str, str], last: Built | None = None
) -> tuple[Built | None, list[Finding]]:
    """The context in `folder`, or None where there is an error, and all findings. Never raises for what is in the files.

    `last`: its last good version, whose shells stay where the layout that they extend is gone.
    """
    manifest, findings = read_partly(folder, env=env, identity_header=settings.identity.header.name)
    if manifest is None:
        return None, findings
    if _broken(findings):
        return None, sorted({*findings, *_rest(manifest, settings, findings)})
    builder = Builder(manifest=manifest, settings=settings, last=last, findings=findings)
    built = builder.build()
    claimed = refused(manifest, settings.allow.get(manifest.name))
    findings = [*builder.findings, *claimed, *own(built.context, built.places)]
    return (None if _broken(findings) else built), sorted({*findings})  # a template of two fragments is told of once


def _broken(findings: list[Finding]) -> bool:
    return any(finding.severity == "error" for finding in findings)


# --- what is left of a broken registration ----------------------------------------------------------------------------


def _rest(manifest: Manifest, settings: Settings, findings: list[Finding]) -> Iterator[Finding]:
    """The errors that the manifest's own do not hide: in templates and shells, and in what these ask of the context."""
    told = {(each.line, each.column) for each in findings if each.file == manifest.file and each.severity == "error"}
    builder = Builder(manifest=manifest, settings=settings, last=None, findings=[])
    unsound = {
        f"{manifest.name}/{short}"
        for short in manifest.spec.fragments
        if any(_marked(manifest, told, "fragments", short, key) for key in _OF_FRAGMENTS)
    }
    context = Context(
        name=manifest.name,
        owner=manifest.owner,
        contact="",
        upstream=None,
        fragments={each.name: each for each in _fragments(builder, told, unsound)},
        pages={each.name: each for each in _pages(builder, told, unsound)},
        policy=DEFAULTS,
    )
    asked = own(context, builder.places)
    claimed = refused(manifest, settings.allow.get(manifest.name))
    for each in (*builder.findings, *claimed, *asked):
        if each.severity == "error" and not (each.file == manifest.file and (each.line, each.column) in told):
            yield each


def _fragments(builder: Builder, told: set[tuple[int, int]], unsound: set[str]) -> Iterator[Fragment]:
    manifest = builder.manifest
    for short, spec in manifest.spec.fragments.items():
        if f"{manifest.name}/{short}" not in unsound:
            yield builder.fragment(short, spec, _NOWHERE, Forward(), Grant())
        elif spec.template and manifest.at("fragments", short, "template") not in told:
            builder.template(spec.template)


def _pages(builder: Builder, told: set[tuple[int, int]], unsound: set[str]) -> Iterator[Page]:
    manifest = builder.manifest
    for short, spec in manifest.spec.pages.items():
        if not spec.template or manifest.at("pages", short, "template") in told:
            continue
        error = "" if manifest.at("pages", short, "error") in told else spec.error
        page = None
        with suppress(ValueError):  # of its query, told already; its shells have been read by then
            page = builder.page(short, spec.model_copy(update={"error": error}))
        if page is not None and not any(_marked(manifest, told, "pages", short, key) for key in _OF_PAGES):
            yield replace(page, shell=_without(page.shell, unsound), error=page.error and _without(page.error, unsound))


def _marked(manifest: Manifest, told: set[tuple[int, int]], *loc: str) -> bool:
    """Whether anything was told of what is written there, or of its not being there."""
    return manifest.at(*loc) in told or not told.isdisjoint(manifest.document.places(*loc))


def _without(shell: Shell, fragments: set[str]) -> Shell:
    """A shell without the slots of fragments that nobody can judge."""
    return replace(shell, slots=tuple(slot for slot in shell.slots if slot.fragment not in fragments))
