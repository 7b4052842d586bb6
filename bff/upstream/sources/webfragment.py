"""`source: web-fragment`: Open edX's `application/web-fragment` JSON, as the Python package web-fragments and XBlock write it.

Content, resources in the order of their placement, and the call of `js_init_fn` become one piece of HTML, which is checked
like any other. A resource's URL is used as it is, but for one under the upstream, which goes through the context's proxy
route that covers it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import partial
from html import escape
from typing import Any, Final

from bff.markup.check import Checker
from bff.model import Fragment
from bff.rules import ijson
from bff.rules.caching import Fields
from bff.upstream.sources.content import SLOW, Content, Kit, Read, Unreadable, content_type
from bff.upstream.sources.html import checked
from bff.upstream.sources.reach import reached

_SCRIPTS: Final = frozenset({"application/javascript", "text/javascript"})
_BEGIN: Final = (
    "<script>(e=>{const a=e.querySelector(':scope>.xblock_json_init_args'),"
    "go=()=>{const f=window[e.dataset.init];f&&f({},e,a?JSON.parse(a.textContent):undefined);return f};"
    "go()||document.addEventListener('load',function h(){go()&&document.removeEventListener('load',h,true)},true)"
    "})(document.currentScript.previousElementSibling)</script>"
)
"""Calls the function once its script is there: `f(runtime, element, args)`, as XBlock's client does."""


class Malformed(ValueError):
    """JSON that is no web fragment; the message says why."""


class WebFragmentSource:
    accept = "application/web-fragment"

    def __init__(self, checker: Checker) -> None:
        self._checker = checker

    @classmethod
    def made(cls, kit: Kit) -> WebFragmentSource:
        return cls(kit.checker)

    def read(self, fragment: Fragment, found: Fields, body: bytes, params: Mapping[str, Any], *, head: bool) -> Read:
        del params
        kind = content_type(found)
        if kind not in (b"application/json", b"application/web-fragment") and not kind.endswith(b"+json"):
            return Unreadable(
                f"answered {kind.decode('latin-1') or 'no content type'} where a web fragment is expected"
            )
        work = partial(self._read, fragment, body, head)
        return work if len(body) >= SLOW else work()

    def _read(self, fragment: Fragment, body: bytes, head: bool) -> Content | Unreadable:
        try:
            html = assembled(ijson.read(body)[0], fragment)
        except ValueError as error:
            return Unreadable(f"answered no web fragment: {error}")
        made = checked(self._checker, fragment, html.encode(), head=head)
        return made() if callable(made) else made


def assembled(said: Any, fragment: Fragment) -> str:
    """The fragment as HTML. `Malformed` where it is none."""
    if not isinstance(said, dict) or not isinstance(said.get("content"), str):
        raise Malformed("it has no content")
    listed = said.get("resources") or []
    if not isinstance(listed, list):
        raise Malformed("its resources are no list")
    placed: dict[str, list[str]] = {"head": [], "foot": []}
    for html, placement in dict.fromkeys(_resource(each, fragment) for each in listed):
        placed[placement].append(html)
    return "".join([*placed["head"], *_content(said), *placed["foot"], *([_BEGIN] if said.get("js_init_fn") else [])])


def _content(said: Mapping[str, Any]) -> list[str]:
    """The content; in an element of its own, with what its function is to be called with, where it has one."""
    name = said.get("js_init_fn")
    if not name:
        return [said["content"]]
    args = json.dumps(said.get("json_init_args")).replace("<", "\\u003c") if said.get("json_init_args") else ""
    told = f'<script type="json/xblock-args" class="xblock_json_init_args">{args}</script>' if args else ""
    version = escape(str(said.get("js_init_version") or 1))
    start = f'<div class="web-fragment" data-init="{escape(str(name))}" data-runtime-version="{version}">'
    return [start, said["content"], told, "</div>"]


def _resource(each: Any, fragment: Fragment) -> tuple[str, str]:
    """One resource as HTML, and where it goes."""
    if not isinstance(each, dict) or not isinstance(each.get("data"), str):
        raise Malformed("a resource has no data")
    kind, data, mime = each.get("kind"), each["data"], each.get("mimetype")
    place = each.get("placement") or ("foot" if mime in _SCRIPTS else "head")
    if place not in ("head", "foot"):
        raise Malformed(f"a resource is placed at {place!r}")
    match kind, mime:
        case "text", "text/css":
            return f"<style>{data}</style>", place
        case "url", "text/css":
            return f'<link rel="stylesheet" href="{escape(reached(data, fragment))}">', place
        case "text", _ if mime in _SCRIPTS:
            return f"<script>{data}</script>", place
        case "url", _ if mime in _SCRIPTS:
            return f'<script src="{escape(reached(data, fragment))}"></script>', place
        case "text", "text/html":
            return data, place
        case _:
            raise Malformed(f"a resource is {kind!r} of {mime!r}")
