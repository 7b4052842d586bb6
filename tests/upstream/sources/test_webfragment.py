import json
from typing import Any

import pytest
from web_fragments.fragment import Fragment as WebFragment  # type: ignore[import-untyped] # it ships no types

from bff.markup.check import Checker
from bff.model import Fragment, Grant, Ref
from bff.rules.redirects import ways
from bff.upstream.sources.content import SLOW, Content, Unreadable
from bff.upstream.sources.reach import reached
from bff.upstream.sources.webfragment import WebFragmentSource, assembled
from tests.build import UPSTREAM, fragment

JSON = {b"content-type": b"application/json"}
BLOCK = fragment("shop/block", source="web-fragment")


def read(said: Any, found: dict[bytes, bytes] = JSON, made: Fragment = BLOCK) -> Content | Unreadable:
    content = WebFragmentSource(Checker()).read(made, found, json.dumps(said).encode(), {}, head=False)
    return content() if callable(content) else content


def text(content: Content | Unreadable) -> str:
    assert isinstance(content, Content)
    assert content.markup is not None
    return b"".join(part for part in content.markup.parts if isinstance(part, bytes)).decode()


def made() -> WebFragment:
    block = WebFragment("<p class=poll>Which?</p>")
    block.add_javascript("window.Poll = (runtime, element, args) => { element.dataset.seen = args.n }")
    block.add_css(".poll { color: red }")
    block.add_css(".poll { color: red }")
    block.add_css_url("https://cdn.test/a.css?x=1&y=2")
    block.add_javascript_url("https://cdn.test/a.js")
    block.add_resource("<template id=t></template>", "text/html", "foot")
    block.initialize_js("Poll", {"n": 3, "html": "</script>"})
    return block


def test_what_the_package_writes_is_one_piece_of_html_in_order() -> None:
    html = text(read(made().to_dict()))
    inside = [
        "<style",
        ".poll { color: red }</style>",
        '<link rel="stylesheet" href="https://cdn.test/a.css?x=1&amp;y=2">',
        '<div class="web-fragment" data-init="Poll" data-runtime-version="1">',
        "Which?</p>",
        'class="xblock_json_init_args">{"n": 3, "html": "\\u003c/script>"}</script></div>',
        "window.Poll = ",
        'src="https://cdn.test/a.js"',
        "<template",
        "dataset.init",
    ]
    at = -1
    for piece in inside:
        assert (at := html.find(piece, at + 1)) >= 0, piece
    assert html.count("<style") == 1


def test_content_alone_is_alone() -> None:
    block = WebFragment("<p>x</p>")
    assert text(read(block.to_dict())) == "<p>x</p>"
    assert text(read({"content": "<p>x</p>"}, {b"content-type": b"application/web-fragment"})) == "<p>x</p>"
    block.initialize_js("Poll")
    assert "xblock_json_init_args" not in assembled(block.to_dict(), BLOCK).partition("</div>")[0]


@pytest.mark.parametrize(
    ("said", "why"),
    [
        (None, "no content"),
        ([], "no content"),
        ({"content": None}, "no content"),
        ({"content": "", "resources": {"a": 1}}, "no list"),
        ({"content": "", "resources": ["x"]}, "no data"),
        ({"content": "", "resources": [{"kind": "text", "data": 1}]}, "no data"),
        ({"content": "", "resources": [{"kind": "url", "data": "x", "mimetype": "text/html"}]}, "'text/html'"),
        ({"content": "", "resources": [{"kind": "file", "data": "x", "mimetype": "text/css"}]}, "'file'"),
        ({"content": "", "resources": [{"kind": "text", "data": "", "mimetype": "text/css", "placement": "x"}]}, "'x'"),
    ],
)
def test_what_is_no_web_fragment_is_told(said: Any, why: str) -> None:
    content = read(said)
    assert isinstance(content, Unreadable)
    assert why in content.detail


def test_other_types_are_refused_and_so_is_what_is_no_json() -> None:
    content = read({"content": ""}, {b"content-type": b"text/html"})
    assert content == Unreadable("answered text/html where a web fragment is expected")
    assert read({"content": ""}, {}) == Unreadable("answered no content type where a web fragment is expected")
    for body in (b"{", b"[" * 100_000):
        found = WebFragmentSource(Checker()).read(BLOCK, JSON, body, {}, head=False)
        assert isinstance(found() if callable(found) else found, Unreadable)


def test_large_ones_are_read_elsewhere() -> None:
    body = json.dumps({"content": "<p>x</p>" * SLOW}).encode()
    work = WebFragmentSource(Checker()).read(BLOCK, JSON, body, {}, head=False)
    assert callable(work)
    assert isinstance(work(), Content)


def test_what_lies_under_the_upstream_goes_through_a_proxy_route() -> None:
    grant = Grant(back=ways([("/shop/static/{rest:path}", ("/static/", Ref("param", "rest"), ""))], UPSTREAM))
    block = fragment("shop/block", grant=grant)
    assert reached("/static/a.js?v=1", block) == "/shop/static/a.js?v=1"
    assert reached("static/a.js", block) == "/shop/static/a.js"
    assert reached("http://127.0.0.1:9100/static/a.js", block) == "/shop/static/a.js"
    assert reached("/media/a.js", block) == "/media/a.js"
    assert reached("http://127.0.0.1:9100/media/a.js", block) == "/media/a.js"
    assert reached("https://cdn.test/a.js", block) == "https://cdn.test/a.js"
    assert reached("//cdn.test/a.js", block) == "//cdn.test/a.js"
    assert reached("http://[", block) == "http://["
