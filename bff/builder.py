"""One manifest, compiled: the registration, its shells, templates and fallbacks become the values of `model`.

Reads the context's folder (and the layouts it extends); what it comes across on the way are findings.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from pathlib import Path
from typing import Any, Final

from bff.config import compile as texts
from bff.config import spec as specs
from bff.config.manifest import Manifest
from bff.config.options import Settings
from bff.config.origins import Source
from bff.config.render import compile_template
from bff.config.templates import shell_source
from bff.config.validate import parted
from bff.config.yaml import Loc
from bff.errors import Finding, TemplateFailed
from bff.events import payload
from bff.link import Built, Place, Template
from bff.markup.shell import read_shell
from bff.model import (
    Assets,
    Back,
    Context,
    Forward,
    Fragment,
    Grant,
    Page,
    Policy,
    Render,
    Route,
    Shell,
    Slot,
    Subscription,
    Upstream,
)
from bff.rules import policy, redirects
from bff.rules import serve as versions

_FORM: Final = re.compile(rb"<form[\s>]", re.IGNORECASE)
_USES_OTHERS: Final = re.compile(rb"\{%-?\s*(?:include|import|from|extends)\b")


@dataclass(slots=True, kw_only=True)
class Builder:
    """Compiles one manifest; what it comes across on the way is in `findings`."""

    manifest: Manifest
    settings: Settings
    last: Built | None
    findings: list[Finding]
    places: dict[str, Place] = field(default_factory=dict)
    templates: dict[str, Template] = field(default_factory=dict)
    all_templates: bytes = b""
    policies: dict[str, tuple[Policy, dict[str, str]]] = field(default_factory=dict)

    def build(self) -> Built:
        spec, name = self.manifest.spec, self.manifest.name
        upstream = texts.parse_upstream(spec.upstream) if spec.upstream else None
        forward = Forward(**spec.forward.model_dump())
        grant = Grant(**spec.grant.model_dump(), back=self._back(upstream))
        layers = [("bff.yaml", self.settings.policy), ("context", spec.policy)]
        self._place(f"upstream:{name}", "upstream")
        fragments = [
            self.fragment(short, each, upstream, forward, grant)
            for short, each in spec.fragments.items()
            if upstream is not None  # else there are none: an error of the registration
        ]
        pages = [self.page(short, each) for short, each in spec.pages.items()]
        routes = [
            self._route(number, each, upstream, forward, grant)
            for number, each in enumerate(spec.proxy)
            if upstream is not None
        ]
        context = Context(
            name=name,
            owner=spec.owner,
            contact=spec.contact,
            upstream=upstream,
            fragments={fragment.name: fragment for fragment in fragments},
            pages={page.name: page for page in pages if page is not None},
            routes={route.name: route for route in routes},
            policy=policy.merge(layers, ceilings=self.settings.ceilings)[0],
            grant=grant,
            csp=spec.csp,
            events=tuple(self._event(number, each) for number, each in enumerate(spec.events)),
        )
        return Built(context=context, places=self.places, templates=self.templates)

    # --- fragments ----------------------------------------------------------------------------------------------------

    def fragment(
        self, short: str, spec: specs.Fragment, upstream: Upstream, forward: Forward, grant: Grant
    ) -> Fragment:
        name = f"{self.manifest.name}/{short}"
        self._place(f"embeds:{name}", "fragments", short, "embeds")
        params = {key: texts.compile_declared(key, each) for key, each in spec.params.items()}
        template, source = self.template(spec.template)
        html, json = self._fallbacks(spec.fallback)
        trust = self.settings.overrides.trust_of(name) or spec.trust
        kind = spec.source or self.manifest.spec.source
        made = Fragment(
            name=name,
            context=self.manifest.name,
            owner=self.manifest.owner,
            upstream=upstream,
            path=texts.parse_pattern(texts.path_of(spec.path, kind)),
            query=tuple((key, texts.parse_pattern(value)) for key, value in spec.query.items()),
            params=params,
            policy=DEFAULTS,
            origins={},
            layers=self._layers(name, spec.policy),
            source=kind,
            template=template,
            as_of=spec.as_of,
            paginate=_paginate(spec.paginate),
            embeds=spec.embeds,
            tags=tuple(texts.parse_pattern(tag) for tag in spec.tags),
            fallback_html=html,
            fallback_json=json,
            assets=Assets(**spec.assets.model_dump()),
            reserve=spec.reserve,
            trust=trust,
            starts_task=spec.starts_task,
            form=any(map(_FORM.search, [html or b"", self._text(spec.template)])),
            forward=forward,
            grant=grant,
            csp=self.manifest.spec.csp,
            version=versions.trusted(self._version(spec, source), trust),
        )
        held, origins = self._policy(made)
        self._clamps(("fragments", short, "policy"), made)
        if trust != spec.trust:
            origins = {**origins, "trust": "override"}
        return replace(made, policy=held, origins=origins)

    def _layers(self, name: str, written: Mapping[str, Any]) -> tuple[tuple[str, Mapping[str, Any]], ...]:
        """All layers but the slot's own, which the plan puts before `override`; empty ones are left out."""
        layers = (
            ("bff.yaml", self.settings.policy),
            ("context", self.manifest.spec.policy),
            ("fragment", written),
            ("override", self.settings.overrides.layer_of(name)),
        )
        return tuple((origin, layer) for origin, layer in layers if layer)

    def _policy(self, fragment: Fragment) -> tuple[Policy, dict[str, str]]:
        """Merged once for all fragments with equal layers: most have the same."""
        key = repr((fragment.layers, fragment.private))
        if key not in self.policies:
            self.policies[key] = policy.merge(
                fragment.layers, ceilings=self.settings.ceilings, private=fragment.private
            )
        return self.policies[key]

    def _clamps(self, own: Loc, fragment: Fragment) -> None:
        for clamp in policy.clamped(fragment.layers, ceilings=self.settings.ceilings, private=fragment.private):
            if clamp.origin not in {"context", "fragment"}:
                continue
            where: Loc = ("policy",) if clamp.origin == "context" else own
            self._find(
                (*where, clamp.key),
                "over-ceiling",
                f"{clamp.key} of {fragment.name} is {policy.show(clamp.key, clamp.value)}",
                f"the operator allows at most {policy.show(clamp.key, clamp.ceiling)}, which holds instead",
                severity="warning",
            )

    def template(self, template: str) -> tuple[Render | None, str]:
        """Compiled, and what it was compiled from; once for all fragments and reloads as long as that stays the same."""
        if not template:
            return None, ""
        source = self._source(template)
        before = self.last.templates.get(source) if self.last is not None else None
        made = self.templates.get(source) or before
        if made is None:
            render, findings = compile_template(self.manifest.folder.parent, self.manifest.name, template)
            made = (render or _broken, tuple(findings))
        self.templates[source] = made
        self._add(made[1])
        return made[0], source

    def _source(self, template: str) -> str:
        """A digest of a template and, where it uses others, of all that there are."""
        text = self._text(template)
        digest = blake2b(template.encode(), digest_size=16)
        digest.update(text)
        if _USES_OTHERS.search(text):
            digest.update(self._all_templates())
        return digest.hexdigest()

    def _text(self, template: str) -> bytes:
        return (self.manifest.folder / template).read_bytes() if template else b""

    def _all_templates(self) -> bytes:
        if not self.all_templates:
            digest = blake2b()
            for file in sorted(self.manifest.folder.rglob("*.html")):
                with suppress(OSError):  # what is used of them is told of
                    digest.update(file.read_bytes() if file.is_file() else b"")
            self.all_templates = digest.digest()
        return self.all_templates

    def _fallbacks(self, files: Iterable[str]) -> tuple[bytes | None, bytes | None]:
        found = {Path(file).suffix: (self.manifest.folder / file).read_bytes() for file in files}
        return found.get(".html"), found.get(".json")

    def _version(self, spec: specs.Fragment | specs.Proxy, source: str) -> str:
        """What an entry in the store was made by: equal versions, equal answers to equal questions."""
        asked = spec.model_dump_json(exclude={"policy", "trust", "fallback", "reserve", "assets", "cross_site"})
        context = self.manifest.spec.model_dump_json(include={"upstream", "source", "forward"})
        return blake2b(f"{asked}{context}{source}".encode(), digest_size=8).hexdigest()

    # --- proxy routes -------------------------------------------------------------------------------------------------

    def _route(self, number: int, spec: specs.Proxy, upstream: Upstream, forward: Forward, grant: Grant) -> Route:
        """A proxy route, and the fragment that stands for it: every rule on fragments holds for it too."""
        name = f"{self.manifest.name}/proxy:{spec.path}"
        self._place(f"page:{name}", "proxy", number, "path")
        to = texts.parse_pattern(spec.to)
        made = Fragment(
            name=f"{self.manifest.name}/proxy",
            context=self.manifest.name,
            owner=self.manifest.owner,
            upstream=upstream,
            path=to,
            policy=DEFAULTS,
            origins={},
            layers=self._layers(f"{self.manifest.name}/proxy", spec.policy),
            forward=forward if spec.forward is None else Forward(**spec.forward.model_dump()),
            grant=grant,
            version=self._version(spec, ""),
        )
        held, origins = self._policy(made)
        self._clamps(("proxy", number, "policy"), made)
        return Route(
            name=name,
            route=spec.path,
            to=to,
            fragment=replace(made, policy=held, origins=origins),
            methods=frozenset(spec.methods),
            cross_site=spec.cross_site,
        )

    def _back(self, upstream: Upstream | None) -> tuple[Back, ...]:
        ways = [(each.path, texts.parse_pattern(each.to)) for each in self.manifest.spec.proxy]
        return redirects.ways(ways, upstream) if upstream is not None else ()

    # --- events -------------------------------------------------------------------------------------------------------

    def _event(self, number: int, spec: specs.Event) -> Subscription:
        if spec.topic and spec.type not in payload.types():
            self._find(
                ("events", number, "type"),
                "unknown-event",
                f"the bus carries {spec.type} without its schema, and none is known here",
                "have its payload sent as JSON, or over the webhook without a topic; else compare the type's spelling",
                severity="warning",
            )
        return Subscription(
            context=self.manifest.name,
            type=spec.type,
            topic=spec.topic,
            tags=tuple(texts.parse_event_tag(tag) for tag in spec.tags),
            action=spec.action,
        )

    # --- pages --------------------------------------------------------------------------------------------------------

    def page(self, short: str, spec: specs.Page) -> Page | None:
        name = f"{self.manifest.name}/{short}"
        self._place(f"page:{name}", "pages", short, "path")
        before = self.last.context.pages.get(name) if self.last is not None else None
        shell = self._shell(f"shell:{name}", spec.template, before.shell if before else None)
        error = self._shell(f"error:{name}", spec.error, before.error if before else None) if spec.error else None
        if shell is None:
            return None
        override = self.settings.overrides.pages.get(name)
        return Page(
            name=name,
            context=self.manifest.name,
            owner=self.manifest.owner,
            route=spec.path,
            shell=shell,
            error=error,
            query={key: texts.compile_declared(key, each) for key, each in spec.query.items()},
            deadline=spec.deadline if override is None else override.deadline,
            cross_site=spec.cross_site,
        )

    def _shell(self, key: str, template: str, before: Shell | None) -> Shell | None:
        """Compiled, or what can be judged of it; as it was `before`, where another context's layout is no longer there."""
        source, findings = shell_source(self.manifest.folder.parent, self.manifest.name, template)
        self._add(findings)
        if any(finding.severity == "error" for finding in findings):
            return None
        if before is not None and self.last is not None and any(finding.code == "dangling" for finding in findings):
            kept = {place: at for place, at in self.last.places.items() if place.startswith(f"{key}:")}
            self.places.update(kept)
            return before
        shell, findings = read_shell(
            source.text, file=source.file, context=self.manifest.name, owner=self.manifest.owner
        )
        self._add(_placed(finding, source) for finding in findings)
        return self._slots(key, shell, source)

    def _slots(self, key: str, shell: Shell, source: Source) -> Shell:
        """The shell with the places of its slots noted, and without values of policy that nobody could read."""
        parts = {}
        for slot in shell.slots:
            file, line, column = source.at(slot.line, slot.column)
            whose = _whose(file, self.manifest.folder.parent)
            place = self.places[f"{key}:{slot.index}"] = Place(file=file, line=line, column=column, context=whose)
            parts[slot.index] = replace(slot, policy=dict(self._readable(slot, place)))
        return Shell(
            parts=tuple(parts[part.index] if isinstance(part, Slot) else part for part in shell.parts),
            slots=tuple(parts.values()),
        )

    def _readable(self, slot: Slot, place: Place) -> Iterator[tuple[str, str]]:
        own = place.context == self.manifest.name
        for key, text in slot.policy.items():
            try:
                policy.parse(key, text)
            except ValueError as error:
                message, remedy = parted(str(error))
                self.findings.append(
                    Finding(
                        file=place.file, line=place.line, column=place.column, code="bad-policy" if own else "dangling",
                        message=f"{slot.fragment}: {key}: {message}", remedy=remedy, context=self.manifest.name,
                        owner=self.manifest.owner, severity="error" if own else "warning",
                    )
                )  # fmt: skip
            else:
                yield key, text

    # --- words --------------------------------------------------------------------------------------------------------

    def _place(self, key: str, *loc: str | int) -> None:
        line, column = self.manifest.at(*loc)
        self.places[key] = Place(file=self.manifest.file, line=line, column=column)

    def _find(self, loc: Loc, code: str, message: str, remedy: str, *, severity: Any = "error") -> None:
        self.findings.append(self.manifest.finding(loc, code, message, remedy, severity=severity))

    def _add(self, findings: Iterable[Finding]) -> None:
        """Findings of another stage, with whose they are."""
        for finding in findings:
            whose = finding.context or self.manifest.name
            owner = finding.owner or (self.manifest.owner if whose == self.manifest.name else "")
            self.findings.append(replace(finding, context=whose, owner=owner))


def _placed(finding: Finding, source: Source) -> Finding:
    file, line, column = source.at(finding.line, finding.column)
    return replace(finding, file=file, line=line, column=column)


def _whose(file: str, root: Path) -> str:
    """The context in whose folder a file lies."""
    path = Path(file)
    return path.relative_to(root).parts[0] if path.is_relative_to(root) else ""


def _broken(*_: Any) -> str:
    """Stands for a template that does not compile, so that nothing is said of its absence."""
    raise TemplateFailed("the template did not compile")


DEFAULTS: Final = policy.merge([])[0]


def _paginate(spec: specs.Paginate | None) -> str | Mapping[str, str]:
    if spec is None:
        return ""
    return spec.style or {"items": spec.items, "next": spec.next}
