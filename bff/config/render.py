"""JSON → HTML: a context's templates, compiled when they are loaded, run once per answer, bounded in time and size.

Beside `templates` the only importer of Jinja2. A render ends when its time is over, whatever the template does: each turn
of a loop and each call looks at the clock (and what could make much of little in one step is refused).
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Mapping, MutableMapping
from datetime import datetime
from pathlib import Path
from time import monotonic
from typing import Any, Final

from jinja2 import ChainableUndefined, Environment, Template, TemplateNotFound, nodes
from jinja2.exceptions import SecurityError
from jinja2.filters import FILTERS
from jinja2.meta import find_undeclared_variables

from bff.config.templates import Files, Sandbox, fault, located, meant, named, said, uses
from bff.errors import Finding, TemplateFailed, TemplateSlow
from bff.model import Meta, Render
from bff.rules.policy import nearest

VARIABLES: Final = frozenset({"data", "params", "meta"})
MAX_OUTPUT: Final = 16 * 1024**2  # characters; the highest ceiling of `max_body`
_WIDE: Final = re.compile(r"%[^a-zA-Z%]*(?:\d{4}|\*)")  # a printf width or precision that makes a page of a digit
_GROWING: Final = frozenset(
    ("center", "expandtabs", "format", "format_map", "ljust", "rjust", "zfill")
)  # methods of str
_NARROW: Final = 1000  # characters that the filters `center` and `indent` may add


def compile_template(root: Path, context: str, template: str) -> tuple[Render | None, list[Finding]]:
    """A template that makes HTML of JSON, compiled with all that it includes; or None and why not.

    It sees `data`, `params` and `meta` (`model.Meta`), Jinja's filters, and `date`. What JSON lacks is empty, at any
    depth. The render raises `TemplateFailed` alone, with file and line: `TemplateSlow` once its time is over.
    """
    name = f"{context}/{template}"
    files = _Parsed(root)
    environment = _Bounded(files)
    try:
        tree = _load_all(environment, files, name)
        compiled = environment.get_template(name)
    except Exception as error:  # noqa: BLE001 - a template is input: whatever it does is told
        missing = named(environment, files, str(error.name)) if isinstance(error, TemplateNotFound) else None
        where = missing or fault(error, root, name)
        near = meant(error, environment, root)
        return None, [
            located(root, context, where, "template", f"the template cannot be compiled: {said(error)}", near=near)
        ]
    unknown = find_undeclared_variables(tree) - VARIABLES - environment.globals.keys() - _set_somewhere(tree)
    if unknown:
        line = min(n.lineno for n in tree.find_all(nodes.Name) if n.name in unknown)
        message = f"the template uses {', '.join(sorted(unknown))}, and is given {', '.join(sorted(VARIABLES))}"
        near = nearest(min(unknown), sorted(VARIABLES))
        return None, [located(root, context, (name, line), "template", message, near=near)]

    def render(data: Any, params: Mapping[str, Any], meta: Meta, within: float) -> str:
        try:
            return environment.bounded(compiled, within, {"data": data, "params": params, "meta": meta})
        except _Over as over:
            raise TemplateSlow(f"{name} takes longer than {within:g} s") from over
        except Exception as error:
            at, line = fault(error, root, name)
            raise TemplateFailed(f"{at}:{line}: {said(error)}") from error

    return render, []


class _Over(Exception):
    """The render's time is over."""


class _Clock(threading.local):
    """When the render of this thread must have ended (monotonic)."""

    until = float("inf")


class _Bounded(Sandbox):
    """A sandbox whose renders end in time. A thread runs one render at a time; several threads may render at once."""

    def __init__(self, files: Files) -> None:
        super().__init__(loader=files, undefined=ChainableUndefined, autoescape=True, auto_reload=False)
        self._render = _Clock()
        self.intercepted_binops = Sandbox.intercepted_binops | {"%"}
        own: dict[str, Callable[..., Any]] = {
            "date": show_date,
            "format": _format,
            "center": _center,
            "indent": _indent,
        }
        self.filters |= own
        del self.globals["lipsum"]

    def bounded(self, template: Template, within: float, variables: Mapping[str, Any]) -> str:
        """Render within so many seconds; raises `_Over`."""
        self._render.until = monotonic() + within
        pieces, size = [], 0
        for piece in template.generate(variables):
            pieces.append(piece)
            size += len(piece)
            if size > MAX_OUTPUT:
                raise SecurityError("it makes more than 16 MiB")
        return "".join(pieces)

    def tick(self) -> None:
        """Look at the clock; called at each turn of a loop."""

    def call(self, context: Any, obj: Any, /, *args: Any, **kwargs: Any) -> Any:
        if monotonic() > self._render.until:
            raise _Over
        return None if obj == self.tick else super().call(context, obj, *args, **kwargs)

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        if operator == "%":
            return (
                _format(left, *right)
                if isinstance(right, tuple)
                else _format(left, right)
                if isinstance(left, str)
                else left % right
            )
        return super().call_binop(context, operator, left, right)

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        return not (isinstance(obj, str) and attr in _GROWING) and super().is_safe_attribute(obj, attr, value)

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        tree = super()._parse(source, name, filename)
        for loop in tree.find_all(nodes.For):
            tick = nodes.Call(nodes.EnvironmentAttribute("tick"), [], [], None, None)
            loop.body.insert(0, nodes.ExprStmt(tick).set_lineno(loop.lineno).set_environment(self))
        return tree


class _Parsed(Files):
    """Files parsed once, though they are looked through before they are compiled."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self._trees: dict[str, nodes.Template] = {}

    def tree(self, environment: Environment, name: str) -> nodes.Template:
        if name not in self._trees:
            text, file, _ = self.get_source(environment, name)
            self._trees[name] = environment.parse(text, name, file)
        return self._trees[name]

    def load(
        self,
        environment: Environment,
        name: str,
        globals: MutableMapping[str, Any] | None = None,  # noqa: A002 - Jinja's signature
    ) -> Template:
        code = environment.compile(self.tree(environment, name), name, str(self.root / name))
        return Template.from_code(environment, code, environment.make_globals(globals), lambda: True)


def _load_all(environment: _Bounded, files: _Parsed, name: str) -> nodes.Template:
    """Compile a template and whatever it names, so that a mistake is told when it is loaded; gives its own tree."""
    seen: set[str] = set()
    waiting = [name]
    while waiting:
        current = waiting.pop()
        if current not in seen:
            seen.add(current)
            waiting += [target for _, target in uses(environment, current, files.tree(environment, current))]
            environment.get_template(current)
    return files.tree(environment, name)


def _set_somewhere(tree: nodes.Template) -> set[str]:
    """Names that the template itself gives a value, in some branch."""
    return {name.name for name in tree.find_all(nodes.Name) if name.ctx != "load"}


# --- filters ----------------------------------------------------------------------------------------------------------


def show_date(value: object, form: str = "") -> object:
    """The filter `date`: an ISO 8601 date or time as `24 November 2026`, or in `strftime` form; other text as it is."""
    try:
        when = datetime.fromisoformat(str(value))
    except ValueError:
        return value
    return when.strftime(form) if form else f"{when.day} {when:%B %Y}"


def _format(value: str, *args: Any, **kwargs: Any) -> Any:
    """Jinja's `format`, printf-style."""
    if _WIDE.search(value):
        raise SecurityError("a width in a format is for small numbers only")
    return FILTERS["format"](value, *args, **kwargs)


def _center(value: str, width: int = 80) -> Any:
    """Jinja's `center`."""
    return FILTERS["center"](value, min(int(width), _NARROW))


def _indent(value: str, width: int | str = 4, first: bool = False, blank: bool = False) -> Any:
    """Jinja's `indent`."""
    narrow = min(width, _NARROW) if isinstance(width, int) else width[:_NARROW]
    return FILTERS["indent"](value, narrow, first, blank)
