"""Templates: where their files are, and shells with their layouts, expanded once when they are loaded.

Imports Jinja2, as only `render` and `sandbox` do beside it. Everything runs in the sandbox: a template is a team's text, not code
of the gateway. Knows neither slots nor HTML. Names are relative to the folder of the context that says them, or begin with it;
`<context>/layouts/…` may be another's.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator, MutableMapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from traceback import walk_tb
from types import CodeType
from typing import Any, Final

from jinja2 import (
    BaseLoader,
    Environment,
    StrictUndefined,
    Template,
    TemplateError,
    TemplateNotFound,
    nodes,
)
from jinja2 import TemplateSyntaxError as JinjaSyntaxError
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension
from jinja2.lexer import Token, TokenStream

from bff.config.layout import BUILT_IN
from bff.config.origins import Source, marked, unmarked
from bff.config.sandbox import Over, Sandbox
from bff.errors import Finding
from bff.rules.policy import nearest

EXPANDING: Final = 2.0  # seconds that a shell may take to be expanded; a page's takes milliseconds
MAX_SHELL: Final = 4 * 1024**2  # characters; a page's shell has some ten thousand
_UNKNOWN: Final = re.compile(r"(unknown tag|filter named|test named) '(\w+)'")
_TAGS: Final = (
    "block", "call", "elif", "else", "endblock", "endfilter", "endfor", "endif", "endmacro", "endset", "endwith", "extends",
    "filter", "for", "if", "import", "include", "macro", "raw", "set", "with",
)  # fmt: skip
_FOREIGN: Final = re.compile(r"[a-z0-9][a-z0-9-]*/layouts/.+")


# --- where template files are -----------------------------------------------------------------------------------------


class Files(BaseLoader):
    """Template files by full name, `<context>/<path>`. `replaced` layouts of other contexts are the built-in one."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.replaced: dict[str, str] = {}
        self.read: set[str] = set()

    def get_source(self, environment: Environment, template: str) -> tuple[str, str, Callable[[], bool]]:  # noqa: ARG002 - Jinja's signature
        if template in self.replaced:
            return self.replaced[template], template, lambda: True
        path = self.root / template
        folder = self.root / template.partition("/")[0]
        plain = all(part not in {"", ".", ".."} for part in template.split("/")) and not set(template) & {"\\", "\0"}
        try:
            there = plain and path.is_file() and path.resolve().is_relative_to(folder.resolve())
            raw = path.read_bytes() if there else b""
        except OSError as error:
            raise JinjaSyntaxError(f"it cannot be read: {error.strerror}", 1, template, str(path)) from None
        if not there:
            raise TemplateNotFound(template)
        self.read.add(template)
        try:
            text = raw.decode("utf-8-sig")
        except UnicodeDecodeError:
            raise JinjaSyntaxError("it is not UTF-8", 1, template, str(path)) from None
        if "\0" in text:
            raise JinjaSyntaxError(
                "it has a NUL character", text[: text.index("\0")].count("\n") + 1, template, str(path)
            )
        return text, str(path), lambda: True


class _ShellSandbox(Sandbox):
    """Here a name may be another context's layout."""

    def join_path(self, template: str, parent: str) -> str:
        return template if _FOREIGN.fullmatch(template) else super().join_path(template, parent)


def fault(error: Exception, root: Path, name: str) -> tuple[str, int]:
    """The full name and the line of the template that an error comes from; `name` where it does not say."""
    if isinstance(error, JinjaSyntaxError):
        return error.name or name, error.lineno
    if isinstance(error, TemplateNotFound):
        return str(error.name), 1
    found = (name, 1)
    for frame, line in walk_tb(error.__traceback__):
        file = Path(frame.f_code.co_filename)
        if file.suffix == ".html" and file.is_relative_to(root):
            found = (file.relative_to(root).as_posix(), line)
    return found


def named(environment: Sandbox, files: Files, name: str) -> tuple[str, int] | None:
    """Where one of the files that were read names this one; None where none does."""
    for file in sorted(files.read):
        with contextlib.suppress(TemplateError):
            for node, target in uses(environment, file, _tree(environment, files, file)):
                if target == name:
                    return file, node.lineno
    return None


def _tree(environment: Sandbox, files: Files, name: str) -> nodes.Template:
    text, file, _ = files.get_source(environment, name)
    return environment.parse(text, name, file)


def uses(environment: Sandbox, name: str, tree: nodes.Template) -> Iterator[tuple[nodes.Node, str]]:
    """What a template names by constants: where it does, and the full name."""
    for node in tree.find_all((nodes.Extends, nodes.Include, nodes.Import, nodes.FromImport)):
        target = node.template  # type: ignore[attr-defined] # all four have one
        if isinstance(target, nodes.Const) and isinstance(target.value, str):
            yield node, environment.join_path(target.value, name)


def located(root: Path, context: str, at: tuple[str, int], code: str, message: str, *, near: str = "") -> Finding:
    """A finding in a template; `near`: what was probably meant."""
    dangling = code == "dangling"
    remedy = "ask its owner, or use another" if dangling else "correct it"
    return Finding(
        file=str(root / at[0]), line=at[1], column=1, code=code, message=message, context=context,
        remedy=f"did you mean {near!r}?" if near else remedy, severity="warning" if dangling else "error",
    )  # fmt: skip


def meant(error: Exception, environment: Environment, root: Path) -> str:
    """What was probably meant by a tag, a filter, a test or a file that there is not; empty where nothing is near."""
    if isinstance(error, TemplateNotFound):
        name = str(error.name)
        return nearest(
            name, (file.relative_to(root).as_posix() for file in root.glob(f"{name.partition('/')[0]}/**/*.html"))
        )
    known = {"unknown tag": _TAGS, "filter named": environment.filters, "test named": environment.tests}
    unknown = _UNKNOWN.search(str(error)) if isinstance(error, JinjaSyntaxError) else None
    return nearest(unknown[2], known[unknown[1]]) if unknown else ""


def said(error: Exception) -> str:
    if isinstance(error, TemplateNotFound):
        return f"there is no template {error.name!r}"
    if isinstance(error, JinjaSyntaxError):  # as text it brings lines on where it comes from, which the finding says
        return error.message or type(error).__name__
    return str(error) or type(error).__name__


# --- shells -----------------------------------------------------------------------------------------------------------


def shell_source(root: Path, context: str, template: str) -> tuple[Source, list[Finding]]:
    """A shell with its layouts and includes in place; `root` is the folder of contexts, `template` relative to `context`'s.

    What is wrong with another context's layout is a `dangling` warning, and the built-in layout stands in; what is wrong
    with the context's own files is an error, and the text is empty. Findings have no owner.
    """
    expansion = _Expansion(root, context, template)
    return expansion.run(), expansion.findings


@dataclass(frozen=True, slots=True)
class _Reference:
    """An own template's use of another context's file."""

    name: str
    kind: type[nodes.Node]  # Extends or Include
    by: str
    line: int


class _ShellFiles(Files):
    """Files whose text was seen before need no compiling: a layout is compiled once for all the pages that extend it."""

    def tree(self, environment: Environment, name: str) -> nodes.Template:
        text, file, _ = self.get_source(environment, name)
        return _compiled(text, name, file)[0]

    def load(
        self,
        environment: Environment,
        name: str,
        globals: MutableMapping[str, Any] | None = None,  # noqa: A002 - Jinja's signature
    ) -> Template:
        text, file, fresh = self.get_source(environment, name)
        code = _compiled(text, name, file)[1]
        return Template.from_code(environment, code, environment.make_globals(globals), fresh)


@lru_cache(maxsize=256)
def _compiled(text: str, name: str, file: str) -> tuple[nodes.Template, CodeType]:
    """A shell's template, parsed and compiled: a pure function of its text, so that its results may be remembered."""
    environment = _shell_sandbox(None)
    tree = environment.parse(text, name, file)
    return tree, environment.compile(tree, name, file)


def _shell_sandbox(files: Files | None) -> _ShellSandbox:
    return _ShellSandbox(
        loader=files, undefined=StrictUndefined, extensions=[_Marks], cache_size=0, keep_trailing_newline=True
    )  # fmt: skip


class _Expansion:
    def __init__(self, root: Path, context: str, template: str) -> None:
        self.root, self.context = root, context
        self.name = f"{context}/{template}"
        self.files = _ShellFiles(root)
        self.environment = _shell_sandbox(self.files)
        self.findings: list[Finding] = []
        self.near = ""  # what was probably meant by the block that is lost

    def run(self) -> Source:
        empty = Source(text="", file=str(self.root / self.name))
        while True:
            references: list[_Reference] = []
            try:
                lost = self.lost_block(references)
                if lost is None:
                    return unmarked(self.text(), root=self.root, file=str(self.root / self.name))
            except Exception as error:  # noqa: BLE001 - a template is input: whatever it does is told
                if not self.stand_in(error, references):
                    return empty
            else:
                if not self.without(*lost, references):
                    return empty

    def text(self) -> str:
        try:
            return self.environment.bounded(self.environment.get_template(self.name), EXPANDING, {}, MAX_SHELL)
        except Over:
            raise SecurityError(f"it takes longer than {EXPANDING:g} s") from None

    # --- what other contexts owe

    def lost_block(self, references: list[_Reference]) -> tuple[str, nodes.Block, bool] | None:
        """An own block that no layout above it has: its file, itself, whether a layout of another context is above."""
        chain: list[tuple[str, nodes.Template]] = []
        name: str | None = self.name
        while name is not None and name not in dict(chain):
            tree = self.files.tree(self.environment, name)
            chain.append((name, tree))
            name = self.follow(name, tree, references)
        known: set[str] = set()
        foreign = False
        for current, tree in reversed(chain):
            foreign |= not self.own(current) or current in self.files.replaced
            for block in tree.body if current != chain[-1][0] and self.own(current) else ():
                if isinstance(block, nodes.Block) and block.name not in known and not self.files.replaced:
                    self.near = nearest(block.name, sorted(known))
                    return current, block, foreign
            known |= {block.name for block in tree.find_all(nodes.Block)}
        return None

    def follow(self, name: str, tree: nodes.Template, references: list[_Reference]) -> str | None:
        """The layout that this template extends; notes what it uses of other contexts."""
        above = None
        for node, target in uses(self.environment, name, tree):
            if self.own(name) and not self.own(target):
                references.append(_Reference(target, type(node), name, node.lineno))
            above = target if isinstance(node, nodes.Extends) else above
        return above

    def own(self, name: str) -> bool:
        return name.startswith(f"{self.context}/")

    def stand_in(self, error: Exception, references: list[_Reference]) -> bool:
        """Put something in place of another context's broken file; False, with an error, where it is our own that is broken."""
        culprit, line = fault(error, self.root, self.name)
        by_kind = sorted(references, key=lambda r: r.kind is nodes.Include)  # what is extended first
        candidates = [r for r in references if r.name == culprit] or by_kind
        left = [r for r in candidates if r.name not in self.files.replaced]
        if self.own(culprit) or not left:
            at = named(self.environment, self.files, culprit) if isinstance(error, TemplateNotFound) else None
            near = meant(error, self.environment, self.root)
            self.tell(
                *(at or (culprit, line)), "template", f"the template cannot be expanded: {said(error)}", near=near
            )
            return False
        self.replace(left[0], said(error), near=meant(error, self.environment, self.root))
        return True

    def without(self, name: str, block: nodes.Block, foreign: bool, references: list[_Reference]) -> bool:
        extended = [r for r in references if r.kind is nodes.Extends]
        if foreign and extended:
            self.replace(extended[0], f"it has no block {block.name!r}", at=(name, block.lineno), near=self.near)
            return True
        self.tell(name, block.lineno, "unknown-block", f"no layout has a block {block.name!r}", near=self.near)
        return False

    def replace(self, reference: _Reference, why: str, *, at: tuple[str, int] | None = None, near: str = "") -> None:
        extends = reference.kind is nodes.Extends
        self.files.replaced[reference.name] = BUILT_IN if extends else ""
        instead = "the built-in layout is used" if extends else "it is left out"
        name, line = at or (reference.by, reference.line)
        message = f"{reference.name!r} cannot be used: {why}; {instead}"
        self.tell(name, line, "dangling", message, near=near)

    def tell(self, name: str, line: int, code: str, message: str, *, near: str = "") -> None:
        self.findings.append(located(self.root, self.context, (name, line), code, message, near=near))


class _Marks(Extension):
    """Marks each line of literal text with the place it comes from; `unmarked` takes the marks out again."""

    lines: Sequence[str] = ()

    def preprocess(self, source: str, name: str | None, filename: str | None = None) -> str:  # noqa: ARG002 - Jinja's signature
        self.lines = source.splitlines()
        return source

    def filter_stream(self, stream: TokenStream) -> Iterator[Token]:
        line, column = 0, 0
        for token in stream:
            if token.type != "data":
                yield token
                continue
            first, *further = token.value.split("\n")
            text = self.lines[token.lineno - 1] if token.lineno <= len(self.lines) else ""
            start = max(text.find(first, column if token.lineno == line else 0), 0)
            line, column = token.lineno + len(further), len(further[-1]) if further else start + len(first)
            yield Token(token.lineno, "data", marked(token.value, stream.name or "", token.lineno, start + 1))
