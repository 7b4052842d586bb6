"""What is judged by its shape is judged as if it had been walked."""

import time

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bff.markup.shapes import ENTRIES, LONGEST, Shapes
from bff.markup.walk import walk

from .test_differential import NEAT, SOUP

TEXTS = [
    "",
    "x",
    " ",
    "é",
    ">",
    "a > b",
    '"',
    "'",
    "--",
    "-->",
    "/",
    "=",
    "&lt;",
    "1 < 2",
    "<",
    "</",
    "</p>",
    "\0",
    "<!--",
    "?>",
]


def known(body: bytes) -> Shapes:
    shapes = Shapes()
    shapes.judge(body, ())
    shapes.judge(body, ())
    return shapes


@settings(max_examples=600, deadline=None)
@given(NEAT | SOUP, st.lists(st.sampled_from(TEXTS), min_size=1, max_size=12))
@example('<a t="b">c</a>', ['x">', "y"])
@example("<!--c--><p></p>", [" -->", "x"])
@example("<table><tbody></tbody></table>", ["x"])
@example("<style></style>", ["</style>", "x"])
@example('<a t="x ><b " c></b>', [' y" d="'])
def test_other_texts_between_the_same_tags_are_judged_as_if_walked(body: str, texts: list[str]) -> None:
    first, *rest = body.split(">")
    other = first + "".join(">" + texts[at % len(texts)] + piece for at, piece in enumerate(rest))
    for learnt, asked in ((body, other), (other, body)):
        shapes = known(learnt.encode())
        assert shapes.judge(asked.encode(), ()) == walk(asked.encode())
        assert shapes.judge(learnt.encode(), ()) == walk(learnt.encode())


def test_from_the_third_body_of_a_shape_on_none_is_walked() -> None:
    shapes = known(b"<p>one</p>\n")
    assert shapes.judge(b"<p>two</p>\n", ()) is shapes.judge(b"<p>a > b</p>\n", ())


@pytest.mark.parametrize("text", [b"\0", b"\xff", b"\xef\xbb\xbf"])
def test_what_is_no_plain_utf8_is_refused_whatever_its_shape(text: bytes) -> None:
    refused = text + b"<p>two</p>" if text == b"\xef\xbb\xbf" else b"<p>" + text + b"</p>"
    assert known(b"<p>one</p>").judge(refused, ()) is None


@pytest.mark.parametrize(
    ("fine", "other"),
    [
        (b"<script>1</script>", b"<script><!--<script></script>"),
        (b"<table><tr><td></td></tr></table>", b"<table>x<tr><td></td></tr></table>"),
        (b"<!-- > --><br>", b"<!-- > --> <p> --><br>"),
        (b'<a title="a>b"></a>', b'<a title="a><p"></a>'),
    ],
)
def test_where_text_matters_it_is_looked_at(fine: bytes, other: bytes) -> None:
    shapes = known(fine)
    assert shapes.judge(fine, ()) is not shapes.judge(fine, ())
    assert shapes.judge(other, ()) == walk(other)


def test_what_may_be_embedded_belongs_to_the_shape() -> None:
    body, shapes = b'<bff-fragment name="shop/x"></bff-fragment>', Shapes()
    for _ in range(3):
        assert shapes.judge(body, ("shop/x",)) is not None
        assert shapes.judge(body, ()) is None


def test_it_keeps_no_more_than_it_may() -> None:
    shapes = Shapes()
    for number in range(3 * ENTRIES):
        shapes.judge(b"<p id=a%d></p>" % number, ())
    shapes.judge(b"<br>" * LONGEST, ())
    assert len(shapes._known) <= ENTRIES
    assert sum(len(shape) for shape, _ in shapes._known) <= ENTRIES * LONGEST


@pytest.mark.parametrize(
    "body", [b">" * 200_000, b"<" * 200_000, b"<>" * 100_000, b"><" * 100_000, b"<p>" + b">" * 200_000]
)
def test_its_cost_grows_with_the_body_alone(body: bytes) -> None:
    began = time.process_time()
    Shapes().judge(body, ())
    assert time.process_time() - began < 2.0
