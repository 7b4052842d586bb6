"""Whatever the check accepts, and whatever repair writes, leaves its neighbours alone in a browser's parser."""

from hypothesis import example, given, settings
from hypothesis import strategies as st

from bff.markup.check import Checker
from bff.markup.repair import balanced
from bff.markup.walk import walk
from bff.model import Trust

from .browser import stands_alone

TAGS = [
    "p", "div", "a", "b", "span", "ul", "li", "table", "tr", "td", "tbody", "select", "option", "button",
    "form", "svg", "path", "title", "style", "script", "template", "noscript", "h1", "h2", "math", "mi",
    "mtext", "foreignObject", "desc", "textarea", "iframe", "caption", "colgroup", "dd", "dt", "dl", "rt", "rp",
    "ruby", "nobr", "object", "optgroup", "x-y", "image", "font", "label", "plaintext", "frameset", "html",
    "head", "body", "xmp", "annotation-xml", "section", "bff-fragment", "search", "marquee",
]  # fmt: skip
VOID = ["br", "img", "input", "hr", "col", "wbr", "meta", "link", "base", "input type=hidden"]
ATTRIBUTES = [
    "",
    "",
    " class=x",
    ' a="<b>"',
    " b='>'",
    " href=/x/",
    " checked",
    " for=x",
    ' t="</noscript>"',
    ' x"y=1',
    " a= ",
]
ODDS = [
    "x", " ", "é", "1 < 2", "&amp;", "<!--c-->", "<!-- > -->", "<!-->", "<!--a--!>", "<!--", "<", "</", "<?start name='s1.x'>",
    "<?end>", "<![CDATA[a]]>", "<![CDATA[", "]]>", "</noscript>", "<!--</noscript>-->", "</p>", "</div>", "</svg>", "</template>",
    "</table>", "</a>", "</br>", "<script>", "<!--<script>", "<style>", "\0", "<p", "<a b='", "<!doctype html>", "</bff-fragment>",
]  # fmt: skip


def element(children: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.builds(
        lambda tag, text, inner, end: f"<{tag}{text}>{inner}{end and f'</{tag}>'}",
        st.sampled_from(TAGS) | st.sampled_from(TAGS).map(str.upper),
        st.sampled_from(ATTRIBUTES),
        children,
        st.sampled_from([True] * 12 + [False]),
    )


VOIDS = st.builds(lambda tag, text: f"<{tag}{text}>", st.sampled_from(VOID), st.sampled_from([*ATTRIBUTES[:7], "/"]))
SOUP = st.recursive(
    st.sampled_from(["x", "", " "]) | st.sampled_from(ODDS) | VOIDS,
    lambda inner: st.lists(element(inner) | inner, max_size=4).map("".join),
    max_leaves=20,
)
NEAT = st.recursive(
    st.sampled_from(["x", "", "<!--c-->", "<br>"]),
    lambda inner: st.lists(element(inner), max_size=3).map("".join),
    max_leaves=12,
)


@settings(max_examples=150, deadline=None)
@given(NEAT | SOUP)
@example("<table><tr><td></td></tr></table>")
@example("<select><option><svg><title>x</title></svg></option></select>")
def test_what_is_accepted_stands_alone(body: str) -> None:
    encoded = body.encode()
    if walk(encoded) is not None:
        assert stands_alone(encoded)


@settings(max_examples=100, deadline=None)
@given(SOUP)
def test_what_is_repaired_stands_alone(body: str) -> None:
    markup = Checker().repair(body.encode())
    assert stands_alone(b"".join(part if isinstance(part, bytes) else b"N" for part in markup.parts))


@settings(max_examples=100, deadline=None)
@given(SOUP | st.binary(max_size=60).map(lambda b: b.decode(errors="replace")))
def test_what_is_balanced_is_accepted(body: str) -> None:
    fixed = balanced(body.replace("\0", "").encode(), ("a/b",))
    assert walk(fixed, ("a/b",)) is not None
    assert stands_alone(fixed)


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=200) | SOUP.map(str.encode))
def test_repair_never_raises(body: bytes) -> None:
    trusts: tuple[Trust, ...] = ("checked", "sanitized")
    for trust in trusts:
        checker = Checker()
        markup = checker.repair(body, trust=trust, embeds=("a/b",), head=True)
        assert checker.verdict(body, trust=trust, embeds=("a/b",), head=True) is markup
