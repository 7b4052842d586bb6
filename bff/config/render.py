"""JSON → HTML: a context's templates, compiled when they are loaded, run once per answer, in a sandbox that bounds them.

Beside `templates` and `sandbox` the only importer of Jinja2.
"""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from jinja2 import ChainableUndefined, Environment, Template, TemplateNotFound, nodes
from jinja2.meta import find_undeclared_variables

from bff.config.sandbox import Over, Sandbox
from bff.config.templates import Files, fault, located, meant, named, said, uses
from bff.errors import Finding, TemplateFailed, TemplateSlow
from bff.model import Meta, Render
from bff.rules.policy import nearest

VARIABLES: Final = frozenset({"data", "params", "meta"})


def compile_template(root: Path, context: str, template: str) -> tuple[Render | None, list[Finding]]:
    """A template that makes HTML of JSON, compiled with all that it includes; or None and why not.

    It sees `data`, `params` and `meta` (`model.Meta`), Jinja's filters, and `date`. What JSON lacks is empty, at any
    depth. The render raises `TemplateFailed` alone, with file and line: `TemplateSlow` once its time is over.
    """
    name = f"{context}/{template}"
    files = _Parsed(root)
    environment = Sandbox(loader=files, undefined=ChainableUndefined, autoescape=True, auto_reload=False)
    environment.filters["date"] = show_date
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
        except Over as over:
            raise TemplateSlow(f"{name} takes longer than {within:g} s") from over
        except Exception as error:
            at, line = fault(error, root, name)
            raise TemplateFailed(f"{at}:{line}: {said(error)}") from error

    return render, []


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


def _load_all(environment: Sandbox, files: _Parsed, name: str) -> nodes.Template:
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
