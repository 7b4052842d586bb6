"""The sandbox that templates run in, shells' and those that make HTML of JSON: no code, no changes to data, an end.

Beside `templates` and `render` the only importer of Jinja2. What runs in it ends when its time is over: each turn of a loop and
each call looks at the clock. What would make much of little in one step is refused before it does; what grows step by step is
counted as it is written, in macros and blocks too.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterable, Mapping
from functools import wraps
from string import Formatter
from time import monotonic
from typing import Any, Final

from jinja2 import Template, Undefined, nodes, pass_environment, pass_eval_context
from jinja2.exceptions import SecurityError
from jinja2.filters import FILTERS, make_attrgetter
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.visitor import NodeTransformer

MAX_TEXT: Final = 16 * 1024**2  # characters of one text; the highest ceiling of `max_body`
MAX_WRITTEN: Final = 4 * MAX_TEXT  # characters that one render writes, what it throws away included
_WIDE: Final = re.compile(r"%[^a-zA-Z%]*(?:\d{4}|\*)")  # a printf width or precision that makes a page of a digit
_BROAD: Final = re.compile(r"\d{4}|\{")  # the same in the specification of a replacement field, or one from elsewhere
_GROWING: Final = frozenset(("expandtabs", "format_map", "translate"))  # methods of str that nobody needs
_PADDING: Final = frozenset(("center", "ljust", "rjust", "zfill"))  # methods of str whose first argument is a width
_SMALL: Final = "a width in a format is for small numbers only"
_SHORT: Final = 64  # characters up to which a value that is written is not looked at
_ITEM: Final = 16  # characters that an item of a list counts as
_NARROW: Final = 1000  # characters that the filters `center` and `indent` may add, columns of `batch` and `slice`


class Over(Exception):
    """The render's time is over."""


class _Left(threading.local):
    """What this thread's render has left: until when (monotonic), and how many characters. A thread runs one at a time."""

    until = float("inf")
    written = float("inf")


class _Sizing(NodeTransformer):
    """Has the result of every `~` measured."""

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:  # noqa: N802 - Jinja's name
        self.generic_visit(node)
        return nodes.Call(nodes.EnvironmentAttribute("sized"), [node], [], None, None).set_lineno(node.lineno)


class Sandbox(ImmutableSandboxedEnvironment):
    """No code, no changes to data, no text of any size; names of files are relative to the context that says them."""

    intercepted_binops = frozenset({"*", "**", "%", "+"})

    def __init__(self, **options: Any) -> None:
        super().__init__(**options, finalize=self.written)
        self._left = _Left()
        self.filters = {name: self._counted(each) for name, each in {**self.filters, **_FILTERS}.items()}
        del self.globals["lipsum"]

    def bounded(self, template: Template, within: float, variables: Mapping[str, Any], most: int = MAX_TEXT) -> str:
        """Render within so many seconds, to so many characters at most; raises `Over`, or `SecurityError`."""
        self._left.until = monotonic() + within
        self._left.written = MAX_WRITTEN
        pieces, size = [], 0
        for piece in template.generate(variables):
            pieces.append(piece)
            size += len(piece)
            if size > most:
                raise SecurityError(f"it makes more than {most // 1024**2} MiB")
        return "".join(pieces)

    # --- what the compiled template calls

    def tick(self, least: int) -> None:
        """A turn of a loop that writes so many characters of literal text and short values."""
        self._spend(least)  # `call` has looked at the clock

    def sized(self, value: Any) -> Any:
        """A text or list that was put together."""
        if isinstance(value, str):
            _room(len(value))
        elif isinstance(value, list | tuple):
            _room(len(value) * _ITEM)
        return value

    def written(self, value: Any) -> Any:
        """A value that is written somewhere; short ones are the loop's."""
        if isinstance(value, str):
            if len(value) > _SHORT:
                self._spend(len(value))
        elif value is not None and not isinstance(value, int | float):
            self._spend(_weight(value))
        return value

    def _counted(self, made: Callable[..., Any]) -> Callable[..., Any]:
        """A filter whose texts count: `map` may have a hundred thousand of them made, and nothing written."""

        @wraps(made, assigned=())  # its dictionary says what Jinja is to pass to it
        def counted(*args: Any, **kwargs: Any) -> Any:
            value = made(*args, **kwargs)
            if isinstance(value, str):
                self._spend(len(value))
            return value

        return counted

    def _spend(self, size: int) -> None:
        left = self._left
        left.written -= size
        if left.written < 0:
            raise SecurityError(f"it makes more than {MAX_WRITTEN // 1024**2} MiB on its way")

    # --- Jinja's

    def call(self, context: Any, obj: Any, /, *args: Any, **kwargs: Any) -> Any:
        if monotonic() > self._left.until:
            raise Over
        if obj in (self.tick, self.sized):
            return obj(*args)
        owner, name = getattr(obj, "__self__", None), getattr(obj, "__name__", "")
        if isinstance(owner, str) and name == "replace" and len(args) >= 2:
            _replacing(owner, *args[:2])
        elif isinstance(owner, str) and name in _PADDING and args:
            _few(args[0])
        elif isinstance(owner, str) and name == "join" and args:
            args = (_joining(owner, args[0]),)
        return super().call(context, obj, *args, **kwargs)

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        if operator == "%":
            if not isinstance(left, str):
                return left % right
            return _format(left, *right) if isinstance(right, tuple) else _format(left, right)
        if operator == "+":
            return self.sized(left + right)
        if not all(isinstance(operand, int | float) for operand in (left, right)) or (operator == "**" and right > 64):
            raise SecurityError(f"{operator} is for small numbers only")
        return super().call_binop(context, operator, left, right)

    def unsafe_undefined(self, obj: Any, attribute: str) -> Undefined:
        raise SecurityError(f"{attribute!r} of a {type(obj).__name__} is unsafe")

    def wrap_str_format(self, value: Any) -> Callable[..., Any] | None:
        """`format` of a text, where Jinja's own knows neither widths nor how often a value is repeated; no `format_map`."""
        made = super().wrap_str_format(value)
        if made is None or value.__name__ != "format":
            return None

        def bounded(*args: Any, **kwargs: Any) -> Any:
            _formatting(value.__self__, [*args, *kwargs.values()])
            return made(*args, **kwargs)

        return bounded

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        growing = (isinstance(obj, str) and attr in _GROWING) or attr == "to_bytes"
        return not growing and super().is_safe_attribute(obj, attr, value)

    def getattr(self, obj: Any, attribute: str) -> Any:
        """A JSON object's field before a method of dict: `data.items` is the field, where there is one."""
        return obj[attribute] if isinstance(obj, dict) and attribute in obj else super().getattr(obj, attribute)

    def join_path(self, template: str, parent: str) -> str:
        own = f"{parent.partition('/')[0]}/"
        return template if template.startswith(own) else own + template

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        tree: nodes.Template = _Sizing().visit(super()._parse(source, name, filename))
        for loop in tree.find_all(nodes.For):
            parts = [part for each in loop.find_all(nodes.Output) for part in each.nodes]
            least = sum(len(part.data) if isinstance(part, nodes.TemplateData) else _SHORT for part in parts)
            tick = nodes.Call(nodes.EnvironmentAttribute("tick"), [nodes.Const(least)], [], None, None)
            loop.body.insert(0, nodes.ExprStmt(tick).set_lineno(loop.lineno))
        tree.set_environment(self)
        return tree


# --- sizes ------------------------------------------------------------------------------------------------------------


def _room(size: int) -> None:
    if size > MAX_TEXT:
        raise SecurityError(f"it makes more than {MAX_TEXT // 1024**2} MiB")


def _few(size: Any) -> None:
    if int(size) > _NARROW:
        raise SecurityError("a size is for small numbers only")


def _weight(value: Any) -> int:
    """The characters of all texts within a value, or so many that it is too large."""
    weight, waiting = 0, [value]
    while waiting and weight <= MAX_WRITTEN:
        each = waiting.pop()
        if isinstance(each, str):
            weight += len(each)
        elif isinstance(each, list | tuple):
            weight += len(each)
            waiting += each
        elif isinstance(each, dict):
            weight += len(each)
            waiting += each.keys()
            waiting += each.values()
    return weight


def _formatting(text: str, values: list[Any]) -> None:
    fields = 0
    for _, name, spec, _ in Formatter().parse(text):
        fields += name is not None
        if spec and _BROAD.search(spec):
            raise SecurityError(_SMALL)
    _room(len(text) + fields * (_NARROW + _weight(values)))


def _replacing(text: object, old: object, new: object) -> None:
    said = str(text)
    _room(len(said) + said.count(str(old)) * max(len(str(new)) - len(str(old)), 0))


def _joining(between: object, items: Iterable[Any]) -> list[Any]:
    made, size, gap = [], 0, len(str(between))
    for each in items:
        made.append(each)
        size += gap + _weight(each)
        _room(size)
    return made


# --- filters: Jinja's, where theirs know no bounds --------------------------------------------------------------------


def _format(value: str, *args: Any, **kwargs: Any) -> Any:
    """printf-style."""
    if _WIDE.search(value):
        raise SecurityError(_SMALL)
    return FILTERS["format"](value, *args, **kwargs)


def _center(value: str, width: int = 80) -> Any:
    return FILTERS["center"](value, min(int(width), _NARROW))


def _indent(value: str, width: int | str = 4, first: bool = False, blank: bool = False) -> Any:
    narrow = min(width, _NARROW) if isinstance(width, int) else width[:_NARROW]
    _room(len(value) + (value.count("\n") + 1) * (narrow if isinstance(narrow, int) else len(narrow)))
    return FILTERS["indent"](value, narrow, first, blank)


@pass_eval_context
def _replace(context: Any, value: str, old: str, new: str, count: int | None = None) -> Any:
    _replacing(value, old, new)
    return FILTERS["replace"](context, value, old, new, count)


@pass_eval_context
def _join(context: Any, value: Iterable[Any], d: str = "", attribute: str | int | None = None) -> Any:
    items = value if attribute is None else map(make_attrgetter(context.environment, attribute), value)
    return FILTERS["join"](context, _joining(d, items), d)


def _batch(value: Iterable[Any], linecount: int, fill_with: Any = None) -> Any:
    _few(linecount)
    return FILTERS["batch"](value, linecount, fill_with)


@pass_eval_context
def _slice(context: Any, value: Iterable[Any], slices: int, fill_with: Any = None) -> Any:
    _few(slices)
    return FILTERS["slice"](context, value, slices, fill_with)


@pass_environment
def _wordwrap(environment: Any, s: str, width: int = 79, *args: Any, wrapstring: str | None = None, **more: Any) -> Any:
    between = wrapstring if len(args) < 2 else args[1]
    _room((len(s) + 1) * len(between or ""))
    named = {} if wrapstring is None else {"wrapstring": wrapstring}
    return FILTERS["wordwrap"](environment, s, width, *args, **named, **more)


@pass_eval_context
def _tojson(context: Any, value: Any, indent: int | None = None) -> Any:  # noqa: ARG001 - the same JSON, for machines
    return FILTERS["tojson"](context, value)


@pass_eval_context
def _urlize(context: Any, value: str, *args: Any, **more: Any) -> Any:
    for each in (*args, *more.values()):
        _few(len(each) if isinstance(each, str) else 0)
    return FILTERS["urlize"](context, value, *args, **more)


_FILTERS: Final[Mapping[str, Callable[..., Any]]] = {
    "batch": _batch,
    "center": _center,
    "format": _format,
    "indent": _indent,
    "join": _join,
    "replace": _replace,
    "slice": _slice,
    "tojson": _tojson,
    "urlize": _urlize,
    "wordwrap": _wordwrap,
}
