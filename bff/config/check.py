"""What the keys of one registration must have to do with each other: references, files, names, header rules.

Runs on a registration whose shape is right; reads nothing but the names and the static JSON of files in its folder.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from functools import cached_property
from importlib.metadata import entry_points
from pathlib import Path
from typing import Final, TypeVar

from bff.config import csp
from bff.config import spec as grammar
from bff.config.compile import (
    Misfit,
    compile_declared,
    compile_param,
    parse_event_tag,
    parse_path,
    parse_pattern,
    parse_route,
    parse_upstream,
    path_of,
    references,
    route_shape,
)
from bff.config.headers import forbidden_header, principal_header
from bff.config.validate import finding
from bff.config.yaml import Document, Loc
from bff.errors import Finding
from bff.model import Param, Pattern
from bff.rules import ijson
from bff.rules.policy import nearest, suggestion

T = TypeVar("T")

SOURCES: Final = ("html", "json", "podium", "web-fragment")
SOURCE_PLUGINS: Final = "bff.sources"
_MARKUP: Final = ("html", "podium", "web-fragment")
_SIZES: Final = ("page_size", "per_page", "pagesize", "limit", "size", "first", "count")  # of pages, as APIs call it
NAME: Final = r"[a-z0-9][a-z0-9-]*"


def check(
    spec: grammar.Spec, document: Document, *, folder: Path, upstream_from: str = "", identity_header: str = ""
) -> list[Finding]:
    """All findings about `spec`. `upstream_from`: the variable that gave its upstream, if one did."""
    checker = Checker(document, folder, identity_header)
    if not re.fullmatch(NAME, folder.name):
        checker.error((), "bad-name", f"the folder's name {folder.name!r} is not a context's; use a-z, 0-9 and -")
    checker.upstream(spec, upstream_from)
    checker.source(("source",), spec.source)
    checker.forward(("forward",), spec.forward)
    for number, origin in enumerate(spec.grant.redirects):
        checker.attempt(("grant", "redirects", number), _origin, origin)
    checker.csp(spec.csp)
    for name, fragment in spec.fragments.items():
        checker.fragment(("fragments", name), fragment, spec)
    for name, page in spec.pages.items():
        checker.page(("pages", name), page)
    for number, proxy in enumerate(spec.proxy):
        checker.proxy(("proxy", number), proxy)
    checker.routes(spec)
    for number, event in enumerate(spec.events):
        checker.event(("events", number), event)
    return checker.found


class Checker:
    """Collects findings about one registration, each at its place."""

    def __init__(self, document: Document, folder: Path, identity_header: str) -> None:
        self.document = document
        self.folder = folder
        self.real = folder.resolve()
        self.identity_header = identity_header.lower()
        self.found: list[Finding] = []
        self.context = folder.name

    # --- telling

    def error(self, loc: Loc, code: str, message: str, *, key: bool = False) -> None:
        self.found.append(finding(self.document, loc, code, message, key=key))

    def warning(self, loc: Loc, code: str, message: str, *, key: bool = False) -> None:
        self.found.append(finding(self.document, loc, code, message, key=key, severity="warning"))

    def attempt(self, loc: Loc, parse: Callable[[str], T], text: str, code: str = "bad-value") -> T | None:
        """`parse(text)`, or a finding and None."""
        try:
            return parse(text)
        except ValueError as error:
            self.error(loc, code, str(error))
            return None

    # --- the context

    def upstream(self, spec: grammar.Spec, variable: str) -> None:
        if not spec.upstream:
            if spec.fragments or spec.proxy:
                self.error(
                    (),
                    "missing-key",
                    "upstream is missing; add upstream: http://host:port, its fragments come from there",
                )
            return
        try:
            parse_upstream(spec.upstream)
        except ValueError as error:
            self.found.append(
                finding(_Variable(variable) if variable else self.document, ("upstream",), "bad-upstream", str(error))
            )

    def source(self, loc: Loc, name: str) -> None:
        if name not in SOURCES and name not in entry_points(group=SOURCE_PLUGINS).names:
            self.error(loc, "unknown-source", f"unknown source {name!r}; {suggestion(name, SOURCES)}")

    def forward(self, loc: Loc, forward: grammar.Forward, *, proxy: bool = False) -> None:
        for number, name in enumerate(forward.headers):
            if name == "*" and proxy:
                continue
            wrong = forbidden_header(name, identity=self.identity_header, proxy=proxy)
            if wrong:
                self.error((*loc, "headers", number), "forbidden-header", wrong)
        if forward.principal:
            wrong = principal_header(forward.principal, forward.headers, identity=self.identity_header)
            if wrong:
                self.error((*loc, "principal"), "forbidden-header", wrong)

    def csp(self, additions: Mapping[str, tuple[str, ...]]) -> None:
        for loc, code, message, key in csp.wrong(additions, csp.DIRECTIVES):
            self.error(("csp", *loc), code, message, key=key)

    # --- fragments

    def fragment(self, loc: Loc, fragment: grammar.Fragment, spec: grammar.Spec) -> None:
        params = self.params((*loc, "params"), fragment.params)
        source = fragment.source or spec.source
        if fragment.source:
            self.source((*loc, "source"), fragment.source)
        if source in _MARKUP:
            linked = fragment.paginate is not None and fragment.paginate.style == "link"
            for key in ("template", "as_of", *(() if linked else ("paginate",))):
                if getattr(fragment, key):
                    self.error(
                        (*loc, key),
                        "needs-json",
                        f"{key} is for JSON, and this source is {source}; write source: json",
                        key=True,
                    )
        path = path_of(fragment.path, source)
        if not path:
            self.error(loc, "missing-key", "path is missing; add path: …")
        self.references(loc, fragment, params, path or "/")
        self.embeds((*loc, "embeds"), fragment.embeds, spec)
        self.fallback((*loc, "fallback"), fragment.fallback)
        if source in _MARKUP and fragment.fallback and not any(name.endswith(".html") for name in fragment.fallback):
            message = (
                f"a page shows nothing of a JSON fallback where the source is {source}; add one that ends in .html"
            )
            self.warning((*loc, "fallback"), "no-html-fallback", message)
        if fragment.template:
            self.file((*loc, "template"), fragment.template, (".html",))
        self.assets((*loc, "assets"), fragment.assets)
        self.paginate((*loc, "paginate"), fragment.paginate)
        if fragment.paginate is not None:
            self.sizes(loc, fragment)

    def references(self, loc: Loc, fragment: grammar.Fragment, params: Mapping[str, Param], path: str) -> None:
        used = self.refer((*loc, "path"), self.attempt((*loc, "path"), parse_path, path), params)
        for name in used:
            if params[name].many:
                self.error(
                    (*loc, "path"),
                    "params-mismatch",
                    f"{{{name}}} may have many values and a path takes one; put it into query",
                )
        for name, text in fragment.query.items():
            used |= self.refer((*loc, "query", name), self.attempt((*loc, "query", name), parse_pattern, text), params)
        for number, text in enumerate(fragment.tags):
            used |= self.refer(
                (*loc, "tags", number), self.attempt((*loc, "tags", number), parse_pattern, text), params
            )
        if not fragment.template:  # a template may show what the upstream need not know
            self.unused(loc, [name for name in params if name not in used])

    def params(self, loc: Loc, declared: Mapping[str, grammar.Param], *, page: bool = False) -> dict[str, Param]:
        """The compiled ones; one that is broken counts as declared all the same."""
        made = {}
        for name, param in declared.items():
            if page and param.source:
                self.error(
                    (*loc, name, "from"),
                    "bad-value",
                    "a page's query comes from its visitors; leave out from: principal",
                )
            made[name] = self.param((*loc, name), param)
        return made

    def param(self, loc: Loc, param: grammar.Param) -> Param:
        """One of them. What is wrong with it is told key by key, each judged without those before it."""
        left, wrong = param, set[str]()
        while True:
            try:
                made = compile_declared(str(loc[-1]), left)
            except Misfit as error:
                if error.key in wrong:  # nor does it go without
                    break
                wrong.add(error.key)
                self.error((*loc, error.key), "bad-param", str(error))
                left = left.model_copy(update={error.key: grammar.Param.model_fields[error.key].default})
            else:
                if not wrong:
                    return made
                break
        return compile_param(str(loc[-1]), many=param.many)

    def refer(self, loc: Loc, pattern: Pattern | None, params: Mapping[str, Param]) -> set[str]:
        names = set(references(pattern or ()))
        for name in sorted(names - params.keys()):
            near = suggestion(name, params) if params else f"declare it: params: {{{name}: {{type: str}}}}"
            self.error(loc, "params-mismatch", f"{{{name}}} is not among its params; {near}")
        return names & params.keys()

    def unused(self, loc: Loc, names: Iterable[str]) -> None:
        for name in names:
            message = f"the parameter {name} is never used; put {{{name}}} into path, query or tags, or leave it out"
            self.warning((*loc, "params", name), "unused-param", message, key=True)

    def embeds(self, loc: Loc, embeds: tuple[str, ...], spec: grammar.Spec) -> None:
        for number, full in enumerate(embeds):
            context, _, name = full.partition("/")
            if context == self.context and name not in spec.fragments:
                near = suggestion(name, spec.fragments)
                self.error((*loc, number), "unknown-fragment", f"this context has no fragment {name!r}; {near}")

    def fallback(self, loc: Loc, files: tuple[str, ...]) -> None:
        seen = set()
        for number, name in enumerate(files):
            path = self.file((*loc, number), name, (".html", ".json"))
            suffix = Path(name).suffix
            if suffix in seen:
                self.error((*loc, number), "bad-value", f"a second {suffix} fallback; keep one of each kind")
            seen.add(suffix)
            if path and suffix == ".json":
                self.static_json(path)

    def static_json(self, path: Path) -> None:
        try:
            ijson.read(path.read_bytes())
        except (ValueError, OSError) as error:
            line, column = (error.lineno, error.colno) if isinstance(error, json.JSONDecodeError) else (1, 1)
            self.found.append(
                Finding(
                    file=str(path),
                    line=line,
                    column=column,
                    code="bad-fallback",
                    message=f"not JSON: {error}",
                    remedy="write one JSON document",
                )
            )

    def file(self, loc: Loc, name: str, endings: tuple[str, ...]) -> Path | None:
        """The file of that name in the context's folder, or a finding and None."""
        path = self.folder / name
        if not name.endswith(endings):
            self.error(loc, "bad-file", f"{name!r} does not end in {' or '.join(endings)}; rename it")
        elif (
            name.startswith("/")
            or ".." in name.split("/")
            or "\0" in name
            or not path.resolve().is_relative_to(self.real)
        ):
            self.error(loc, "bad-file", f"{name!r} leaves the context's folder; keep the file in it")
        else:
            return self.readable(loc, path, name, endings)
        return None

    def readable(self, loc: Loc, path: Path, name: str, endings: tuple[str, ...]) -> Path | None:
        try:
            if path.is_file():
                path.open("rb").close()
                return path
        except OSError as error:
            self.error(loc, "unreadable", f"{name!r} cannot be read: {error.strerror}; check its permissions")
        else:
            self.error(loc, "missing-file", f"{name!r} does not exist; {self.meant(name, endings)}put it at {path}")
        return None

    @cached_property
    def files(self) -> list[str]:
        """All names in the folder, looked up once: many may be missing."""
        return [file.relative_to(self.folder).as_posix() for file in self.folder.rglob("*")]

    def meant(self, name: str, endings: tuple[str, ...]) -> str:
        """Which of the folder's files was probably meant by one that is not there."""
        there = [file for file in self.files if file.endswith(endings)]
        near = nearest(name, there)
        return f"did you mean {near!r}? Else " if near else ""

    def assets(self, loc: Loc, assets: grammar.Assets) -> None:
        if bool(assets.vite) != bool(assets.entry) or (assets.vite and (assets.css or assets.js)):
            self.error(loc, "bad-value", "assets are css and js, or vite and entry; write one of the two", key=True)
        for key in ("css", "js"):
            for number, path in enumerate(getattr(assets, key)):
                self.attempt((*loc, key, number), parse_path, path)
        if assets.vite:
            self.attempt((*loc, "vite"), parse_path, assets.vite)

    def sizes(self, loc: Loc, fragment: grammar.Fragment) -> None:
        """How much one page holds is the gateway's to bound: a context that obliges anybody is a way to hurt it."""
        for name, text in fragment.query.items():
            param = fragment.params.get(text.strip("{}"))
            if name in _SIZES and param is not None and param.type == "int" and not param.le:
                message = f"{name} is bounded by nothing; write le: 100, beyond which nobody is served"
                self.warning((*loc, "params", text.strip("{}")), "unbounded-page", message, key=True)

    def paginate(self, loc: Loc, paginate: grammar.Paginate | None) -> None:
        if paginate and not paginate.style and not (paginate.items and paginate.next):
            self.error(loc, "bad-value", "paginate needs drf, link, or both items and next; write one of them")

    # --- pages, proxy routes, events

    def page(self, loc: Loc, page: grammar.Page) -> None:
        route = self.attempt((*loc, "path"), parse_route, page.path)
        self.params((*loc, "query"), page.query, page=True)
        for name, _ in route or ():
            if name in page.query:
                self.error(
                    (*loc, "query", name),
                    "params-mismatch",
                    f"{name} is in the path too; give one of them another name",
                    key=True,
                )
        for key in ("template", "error"):
            if getattr(page, key):
                self.file((*loc, key), getattr(page, key), (".html",))

    def proxy(self, loc: Loc, proxy: grammar.Proxy) -> None:
        route = self.attempt((*loc, "path"), parse_route, proxy.path)
        target = self.attempt((*loc, "to"), parse_path, proxy.to)
        if route is not None:
            self.refer((*loc, "to"), target, {name: compile_param(name) for name, _ in route})
        if proxy.forward:
            self.forward((*loc, "forward"), proxy.forward, proxy=True)
        for number, method in enumerate(proxy.methods):
            if not re.fullmatch(r"\*|[A-Z][A-Z0-9_-]{0,39}", method) or method in {"CONNECT", "TRACE"}:
                self.error(
                    (*loc, "methods", number),
                    "bad-value",
                    f"{method!r} is not a method that is let through; write one such as POST",
                )

    def routes(self, spec: grammar.Spec) -> None:
        """One context's own claims on one route; across contexts the registry decides who holds it."""
        claims: list[tuple[Loc, str, str]] = [
            (("pages", name, "path"), page.path, f"the page {name}") for name, page in spec.pages.items()
        ]
        claims += [(("proxy", n, "path"), proxy.path, f"the proxy {proxy.path}") for n, proxy in enumerate(spec.proxy)]
        seen: dict[str, str] = {}
        for loc, path, what in claims:
            shape = route_shape(path)
            if shape in seen:
                self.error(loc, "duplicate-route", f"{seen[shape]} is on this route already; choose another path")
            seen.setdefault(shape, what)

    def event(self, loc: Loc, event: grammar.Event) -> None:
        for number, text in enumerate(event.tags):
            self.attempt((*loc, "tags", number), parse_event_tag, text)
        if not event.tags:
            message = (
                "an event without tags concerns nothing; write tags: [...], as the fragments it concerns have them"
            )
            self.warning(loc, "no-tags", message)


class _Variable:
    """An environment variable as the place of what it says."""

    def __init__(self, name: str) -> None:
        self.name = name

    def place(self, loc: Loc, *, key: bool = False) -> tuple[str, int, int]:  # noqa: ARG002 - one place for all
        return self.name, 1, 1


def _origin(text: str) -> None:
    upstream = parse_upstream(text)
    if upstream.base or upstream.socket:
        raise ValueError(f"{text!r} is more than an origin; write https://host")
