from typing import Any

import pytest

from bff.errors import TemplateFailed, TemplateSlow
from bff.markup.check import Checker
from bff.model import Meta
from bff.upstream.sources.content import LARGE, SLOW, Content, Unreadable, content_type, rfc3339
from bff.upstream.sources.html import HtmlSource
from bff.upstream.sources.json import QUICK, JsonSource, timestamp
from bff.upstream.sources.podium import PodiumSource
from tests.build import fragment


def head(kind: bytes = b"text/html; charset=utf-8", **headers: str) -> dict[bytes, bytes]:
    return {b"content-type": kind} | {name.encode(): text.encode() for name, text in headers.items()}


def test_content_types_are_compared_without_parameters_and_case() -> None:
    assert content_type(head(b"Text/HTML; x=y")) == b"text/html"
    assert content_type({}) == b""


@pytest.mark.parametrize("kind", [b"text/plain", b"application/json", b"application/xhtml+xml", b""])
def test_html_is_text_html(kind: bytes) -> None:
    read = HtmlSource(Checker()).read(fragment(), head(kind), b"<p></p>", {}, head=False)
    assert isinstance(read, Unreadable)


@pytest.mark.parametrize(
    ("charset", "body", "text"),
    [
        ("iso-8859-1", b"<p>Caf\xe9 \x80</p>", "<p>Café €</p>"),
        ('"ISO-8859-15"', b"<p>\xa4</p>", "<p>€</p>"),
        ("shift_jis", "<p>学習</p>".encode("shift_jis"), "<p>学習</p>"),
        ("utf-16le", "<p>é</p>".encode("utf-16le"), "<p>é</p>"),
        ("windows-1252; x=y", b"<p>\x81</p>", "<p>\ufffd</p>"),
        ("UTF-8", "<p>é</p>".encode(), "<p>é</p>"),
        ("us-ascii", b"<p>e</p>", "<p>e</p>"),
    ],
)
def test_html_in_another_character_set_becomes_utf_8(charset: str, body: bytes, text: str) -> None:
    found = head(f"text/html; charset={charset}".encode())
    for source in (HtmlSource(Checker()), PodiumSource(Checker())):
        read = source.read(fragment(), found, body, {}, head=False)
        assert isinstance(read, Content)
        assert read.markup is not None
        assert read.markup.flat == text.encode()


@pytest.mark.parametrize("charset", ["rot13", "unicode_escape", "zlib", "utf-7", "x-user-defined", "iso-8859-99"])
def test_what_is_no_character_set_of_documents_is_said_to_be_none(charset: str) -> None:
    found = head(f"text/html;charset={charset}".encode())
    read = HtmlSource(Checker()).read(fragment(), found, b"<p></p>", {}, head=False)
    assert read == Unreadable(f"answered HTML in the character set '{charset}', which is not known: answer UTF-8")


def test_a_small_repair_is_made_at_once_and_a_large_one_in_a_thread() -> None:
    source = HtmlSource(Checker())
    small = source.read(fragment(), head(), b"<p>x", {}, head=False)
    assert isinstance(small, Content)
    assert small.markup is not None
    assert small.markup.flat == b"<p>x</p>"
    large = source.read(fragment(), head(), b"<p>" + b"x" * SLOW, {}, head=False)
    assert callable(large)
    made = large()
    assert isinstance(made, Content)
    assert made.markup is not None
    assert made.markup.flat == b"<p>" + b"x" * SLOW + b"</p>"
    again = source.read(fragment(), head(), b"<p>" + b"x" * SLOW, {}, head=False)
    assert isinstance(again, Content), "what was repaired is remembered"


def template(data: Any, params: Any, meta: Meta, within: float) -> str:
    return f"<p>{data['title']}, {params['n']}, {meta.as_of}, {meta.date}</p>"


def test_json_is_kept_and_rendered() -> None:
    made = fragment(source="json", template=template, as_of="course.modified")
    body = b'{"title": "T", "course": {"modified": "2026-01-02T03:04:05Z"}}'
    found = head(b"application/json", date="Fri, 02 Jan 2026 05:00:00 GMT")
    read = JsonSource(Checker()).read(made, found, body, {"n": 1}, head=False)
    assert isinstance(read, Content)
    assert read.markup is not None
    assert read.markup.flat == b"<p>T, 1, 2026-01-02T03:04:05Z, 2026-01-02T05:00:00Z</p>"
    assert read.data == body
    assert read.as_of == 1767323045


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"{", b"application/json"),
        (b"{}", b"text/html"),
        (b"\xff", b"application/json"),
        (b'["\\ud800"]', b"application/json"),
        (b"[NaN]", b"application/json"),
    ],
)
def test_what_is_no_json(body: bytes, kind: bytes) -> None:
    assert isinstance(JsonSource(Checker()).read(fragment(source="json"), head(kind), body, {}, head=False), Unreadable)


def test_without_a_template_json_is_data_alone() -> None:
    read = JsonSource(Checker()).read(fragment(source="json"), head(b"application/ld+json"), b"[1]", {}, head=False)
    assert read == Content(data=b"[1]")


def failing(data: Any, params: Any, meta: Meta, within: float) -> str:
    raise TemplateFailed("card.html:3: 'title' is undefined")


def test_a_template_that_fails_is_an_unreadable_answer() -> None:
    read = JsonSource(Checker()).read(
        fragment(source="json", template=failing), head(b"application/json"), b"{}", {}, head=False
    )
    assert read == Unreadable("card.html:3: 'title' is undefined")


def test_a_large_document_is_read_in_a_thread_and_its_markup_repaired() -> None:
    made = fragment(source="json", template=lambda data, params, meta, within: "<b>" + data["x"])
    body = b'{"x": "' + b"y" * SLOW + b'"}'
    read = JsonSource(Checker()).read(made, head(b"application/json"), body, {}, head=False)
    assert callable(read)
    done = read()
    assert isinstance(done, Content)
    assert done.markup is not None
    assert done.markup.flat is not None
    assert done.markup.flat.endswith(b"y</b>")


@pytest.mark.parametrize(
    ("data", "path", "found"),
    [
        ({"a": {"b": 5}}, "a.b", 5.0),
        ({"a": [{"b": "1970-01-01T00:00:10"}]}, "a.0.b", 10.0),
        ({"a": "1970-01-01T01:00:10+01:00"}, "a", 10.0),
        ({"a": "no date"}, "a", None),
        ({"a": True}, "a", None),
        ({"a": None}, "a", None),
        ({"a": 1}, "a.b", None),
        ({"a": []}, "a.0", None),
        ({}, "a", None),
        (5, "", None),
        ({"a": 10**400}, "a", None),
        ({"a": 1e18}, "a", None),
        ({"a": -1}, "a", None),
        ({"a": "0001-01-01T00:00:00+23:59"}, "a", None),
    ],
)
def test_the_sources_own_timestamp(data: Any, path: str, found: float | None) -> None:
    assert timestamp(data, path) == found


def test_times_are_rfc_3339() -> None:
    assert rfc3339(0) == "1970-01-01T00:00:00Z"


def test_a_very_large_body_is_checked_in_a_thread() -> None:
    for body in (b"<p>" + b"x" * LARGE + b"</p>", b"<p>" + b"y" * LARGE):
        read = HtmlSource(Checker()).read(fragment(), head(), body, {}, head=False)
        assert callable(read)
        done = read()
        assert isinstance(done, Content)
        assert done.markup is not None
        assert done.markup.flat is not None
        assert done.markup.flat.endswith(b"</p>")


def test_a_template_that_takes_longer_begins_again_in_a_thread() -> None:
    given: list[float] = []

    def slow(data: Any, params: Any, meta: Meta, within: float) -> str:
        given.append(within)
        if within < 1:
            raise TemplateSlow("t.html takes longer")
        return "<p>made</p>"

    source = JsonSource(Checker(), render=1.5)
    read = source.read(fragment(source="json", template=slow), head(b"application/json"), b"{}", {}, head=False)
    assert callable(read)
    made = read()
    assert isinstance(made, Content)
    assert given == [QUICK, 1.5]


def test_a_template_that_never_ends_is_an_unreadable_answer() -> None:
    def endless(data: Any, params: Any, meta: Meta, within: float) -> str:
        raise TemplateSlow(f"t.html takes longer than {within:g} s")

    source = JsonSource(Checker(), render=1.5)
    read = source.read(fragment(source="json", template=endless), head(b"application/json"), b"{}", {}, head=False)
    assert callable(read)
    assert read() == Unreadable("t.html takes longer than 1.5 s")
