"""The Link header of a primary becomes elements of its page's head."""

from typing import Any

import pytest

from bff.markup.check import Checker
from bff.rules.caching import fields
from bff.upstream.sources.content import LARGE, Content, Unreadable
from bff.upstream.sources.html import HtmlSource
from bff.upstream.sources.links import MOST, elements
from tests.build import fragment

CARD = fragment("shop/card")
SOURCE = HtmlSource(Checker())


@pytest.mark.parametrize(
    ("stated", "head"),
    [
        ("</a.css>; rel=preload; as=style", {"link:0": b'<link rel="preload" href="/a.css" as="style">'}),
        ('<https://cdn.example>; rel="preconnect"', {"link:0": b'<link rel="preconnect" href="https://cdn.example">'}),
        (
            '<https://a.example/x>; rel=canonical, </p?page=2&a=1>; REL=Next; title="x"',
            {
                "canonical": b'<link rel="canonical" href="https://a.example/x">',
                "link:1": b'<link rel="next" href="/p?page=2&amp;a=1">',
            },
        ),
        (
            "</m.js>; rel=modulepreload; crossorigin; integrity=sha384-x",
            {"link:0": b'<link rel="modulepreload" href="/m.js" crossorigin="" integrity="sha384-x">'},
        ),
        ('</x">; rel=preload; as="font\'&"', {"link:0": b'<link rel="preload" href="/x&quot;" as="font&#x27;&amp;">'}),
        ("</a.css>; rel=stylesheet, </b>; rel=import, </c>", {}),
        ("<javascript:alert(1)>; rel=next, <data:,x>; rel=alternate, <//[x>; rel=next", {}),
        ("not a link at all", {}),
        ("", {}),
    ],
)
def test_what_is_stated(stated: str, head: dict[str, bytes]) -> None:
    assert dict(elements(stated, CARD)) == head


def test_there_are_bounds() -> None:
    assert len(dict(elements(", ".join(["</a>; rel=preload"] * 100), CARD))) == MOST


def read(body: bytes, *, head: bool = True, link: str = "</a.css>; rel=preload; as=style", **more: Any) -> Any:
    found = fields([(b"content-type", b"text/html"), (b"link", link.encode())])
    made = SOURCE.read(fragment("shop/card", **more), found, body, {}, head=head)
    return made() if callable(made) else made


def test_a_primary_s_links_go_to_the_head_beside_what_its_html_says() -> None:
    answer = read(b"<title>T</title><p>x</p>")
    assert isinstance(answer, Content)
    assert answer.markup is not None
    assert set(answer.markup.head) == {"title", "link:0"}
    long = read(b"<p>x</p>" * (LARGE // 8 + 1))
    assert set(long.markup.head) == {"link:0"}, "what is read in a thread has them too"


def test_who_has_no_say_in_the_head() -> None:
    for answer in (read(b"<p>x</p>", head=False), read(b"<p>x</p>", trust="sanitized"), read(b"<p>x</p>", link="")):
        assert answer.markup.head == {}


def test_html_outranks_the_header() -> None:
    answer = read(b'<link rel="canonical" href="/mine"><p>x</p>', link="</theirs>; rel=canonical")
    assert b"/mine" in answer.markup.head["canonical"]


def test_what_cannot_be_read_stays_so() -> None:
    found = fields([(b"content-type", b"text/plain"), (b"link", b"</a>; rel=preload")])
    assert isinstance(SOURCE.read(CARD, found, b"x", {}, head=True), Unreadable)
