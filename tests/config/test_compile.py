"""`bff.config.compile`: one spelling per value, references split out, upstreams and routes understood or refused."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bff.config.compile import (
    Misfit,
    compile_declared,
    compile_param,
    parse_event_tag,
    parse_path,
    parse_pattern,
    parse_route,
    parse_upstream,
    references,
    route_shape,
)
from bff.config.spec import Param as Declared
from bff.model import Ref, Upstream


@pytest.mark.parametrize(
    ("rules", "good", "bad"),
    [
        ({"type": "str"}, {"": "", "a b": "a b", "é\u00a0": "é\u00a0"}, ["\n", "\x00", "\ud800", "a" * 257]),
        ({"type": "str", "pattern": "course-v1:[^/]+"}, {"course-v1:a": "course-v1:a"}, ["course-v1:", "xcourse-v1:a", "course-v1:a/b"]),
        ({"type": "str", "pattern": "a|b"}, {"a": "a"}, ["ab", "ac", ""]),
        ({"type": "int"}, {"0": "0", "-5": "-5", "10": "10"}, ["", "01", "+1", " 1", "1 ", "-0", "1.0", "1_0", "٣", "1\n"]),
        ({"type": "int", "ge": "1", "le": "500"}, {"1": "1", "500": "500"}, ["0", "501", "-1"]),
        ({"type": "float"}, {"1.50": "1.5", "1.0": "1", "-0": "0", "-0.0": "0", "10": "10", "100.00": "100"}, ["1.", ".5", "1e3", "nan", "inf", "01.0"]),
        ({"type": "float", "ge": "0.5"}, {"0.5": "0.5", "0.50": "0.5"}, ["0.4999999999999999999999"]),
        ({"type": "bool"}, {"true": "true", "false": "false"}, ["True", "1", "on", "yes", ""]),
        ({"type": "enum", "values": ("a", "b c")}, {"a": "a", "b c": "b c"}, ["A", "b", ""]),
        ({"type": "date"}, {"2026-02-28": "2026-02-28"}, ["2026-02-29", "20260228", "2026-W09-1", "2026-2-1", "", "2026-02-28\n"]),
        ({"type": "date", "le": "2026-06-30"}, {"2026-06-30": "2026-06-30"}, ["2026-07-01"]),
    ],
)  # fmt: skip
def test_a_value_has_one_spelling(rules: dict[str, Any], good: dict[str, str], bad: list[str]) -> None:
    param = compile_param("x", **rules)
    assert {text: param.parse(text) for text in good} == good
    assert [text for text in bad if param.parse(text) is not None] == []


@pytest.mark.parametrize(
    ("rules", "key", "says"),
    [
        ({"type": "int", "pattern": "a"}, "pattern", "leave it out"),
        ({"pattern": "(a"}, "pattern", "missing"),
        ({"pattern": r"(?=a)"}, "pattern", "RE2"),
        ({"pattern": r"(a)\1"}, "pattern", "RE2"),
        ({"type": "enum"}, "values", "values: [a, b]"),
        ({"type": "str", "values": ("a",)}, "values", "type: enum"),
        ({"type": "str", "ge": "1"}, "ge", "not str"),
        ({"type": "int", "le": "x"}, "le", "not of type int"),
        ({"type": "date", "ge": "2026-13-01"}, "ge", "not of type date"),
        ({"type": "int", "ge": "2", "le": "1"}, "le", "nothing would be valid"),
        ({"type": "int", "default": ("x",)}, "default", "'x' breaks"),
        ({"type": "int", "ge": "1", "default": ("0",)}, "default", "breaks"),
        ({"default": ("a", "b")}, "default", "number of values"),
        ({"default": ()}, "default", "number of values"),
        ({"default": ("a", "b", "c"), "many": True, "max": 2}, "default", "number of values"),
        ({"pattern": "a+", "example": "b"}, "example", "'b' breaks"),
    ],
)
def test_keys_that_do_not_fit_are_told(rules: dict[str, Any], key: str, says: str) -> None:
    with pytest.raises(Misfit) as caught:
        compile_param("x", **rules)
    assert caught.value.key == key
    assert says in str(caught.value)


def test_defaults_are_canonical_and_make_a_parameter_optional() -> None:
    assert compile_param("x").required
    param = compile_param("x", type="float", default=("1.0", "2.50"), many=True)
    assert (param.required, param.default) == (False, ("1", "2.5"))
    assert compile_param("x", default=(), many=True).default == ()


def test_declared_parameters_compile() -> None:
    assert compile_declared("user", Declared.model_validate({"from": "principal"})).principal
    number = compile_declared("n", Declared(type="int", ge="3"))
    assert (number.parse("2"), number.parse("3"), number.name) == (None, "3", "n")


def test_a_pattern_takes_linear_time() -> None:
    """Exponential in an engine that backtracks: 2^200 steps. Under the suite's timeout only because it is not."""
    assert compile_param("x", pattern="(a+)+b").parse("a" * 200) is None


@given(st.integers())
def test_every_int_has_its_own_text_alone(number: int) -> None:
    parse = compile_param("x", type="int").parse
    assert parse(str(number)) == str(number)
    assert parse(f"0{number}") is None


@given(st.text(max_size=300))
def test_what_is_canonical_stays_so(text: str) -> None:
    for kind in ("str", "int", "float", "bool", "date"):
        parse = compile_param("x", type=kind).parse
        once = parse(text)
        assert once is None or parse(once) == once


# --- patterns ---------------------------------------------------------------------------------------------------------


def test_references_are_split_out() -> None:
    assert parse_pattern("/a/{x}") == ("/a/", Ref("param", "x"), "")
    assert parse_pattern("plain") == ("plain",)
    assert parse_pattern("") == ("",)
    assert parse_pattern("{a}{b_1}z") == ("", Ref("param", "a"), "", Ref("param", "b_1"), "z")
    assert references(parse_pattern("{a}-{b}")) == ("a", "b")


@pytest.mark.parametrize("text", ["{", "a}", "{a", "{{a}}", "{}", "{A}", "{a.b}", "{path.x}", "{a b}"])
def test_half_a_reference_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="write"):
        parse_pattern(text)


@given(st.lists(st.one_of(st.text("abc/:?", max_size=5), st.sampled_from(["{x}", "{long_name}"]))))
def test_a_pattern_s_pieces_make_its_text(pieces: list[str]) -> None:
    text = "".join(pieces)
    pattern = parse_pattern(text)
    assert "".join(p if isinstance(p, str) else f"{{{p.name}}}" for p in pattern) == text
    assert all(isinstance(part, Ref) == bool(index % 2) for index, part in enumerate(pattern))


@pytest.mark.parametrize("text", ["/", "/a", "/a/{x}/", "/a{x}b", "/%20", "/a.b/..c"])
def test_paths(text: str) -> None:
    assert "".join(p if isinstance(p, str) else f"{{{p.name}}}" for p in parse_path(text)) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a",
        "//a",
        "/a//b",
        "/a?b",
        "/a#b",
        "/a b",
        "/é",
        "/a\\b",
        "/..",
        "/a/../b",
        "/./a",
        "/%2e%2E/a",
        "http://x/",
    ],
)
def test_what_is_no_path(text: str) -> None:
    with pytest.raises(ValueError, match=";"):
        parse_path(text)


@pytest.mark.parametrize(
    ("text", "params", "shape"),
    [
        ("/", (), "/"),
        ("/checkout/{basket_id}", (("basket_id", False),), "/checkout/{}"),
        ("/api/{a}/{rest:path}", (("a", False), ("rest", True)), "/api/{}/{:path}"),
        ("/_bffx", (), "/_bffx"),
        ("/%7euser/%c3%a9%2f", (), "/~user/%C3%A9%2F"),
    ],
)
def test_routes(text: str, params: tuple[tuple[str, bool], ...], shape: str) -> None:
    assert parse_route(text) == params
    assert route_shape(text) == shape


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("checkout", "does not begin with a slash"),
        ("/a-{x}", "segment of a route"),
        ("/{X}", "segment of a route"),
        ("/{x:int}", "segment of a route"),
        ("/{x", "segment of a route"),
        ("/{rest:path}/a", "put it last"),
        ("/{a}/{a}", "twice"),
        ("/_bff", "belongs to the gateway"),
        ("/_bff/{x}", "belongs to the gateway"),
        ("/%5fbff/x", "belongs to the gateway"),
        ("/a?b", "not a path"),
    ],
)
def test_what_is_no_route(text: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        parse_route(text)


# --- upstreams --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "upstream"),
    [
        ("http://127.0.0.1:9102", Upstream(scheme="http", host="127.0.0.1", port=9102, authority="127.0.0.1:9102")),
        ("https://Api.Example.org/", Upstream(scheme="https", host="api.example.org", port=443, authority="api.example.org")),
        ("http://x:80/base/v1/", Upstream(scheme="http", host="x", port=80, authority="x", base="/base/v1")),
        ("http://[::1]:8080", Upstream(scheme="http", host="::1", port=8080, authority="[::1]:8080")),
        ("https://[::1]:443", Upstream(scheme="https", host="::1", port=443, authority="[::1]")),
        ("http+unix:///run/a.sock", Upstream(scheme="http", host="localhost", port=80, authority="localhost", socket="/run/a.sock")),
    ],
)  # fmt: skip
def test_upstreams(text: str, upstream: Upstream) -> None:
    assert parse_upstream(text) == upstream


@pytest.mark.parametrize(
    "text",
    [
        "", "x", "ftp://x", "http://", "http:///a", "//x", "http://u:p@x", "http://u@x", "http://x?a", "http://x/#", "http://x:0",
        "http://x:99999", "http://x:y", "http://[::1", "http://a b", "http://ex^ample", "http://x/a/../b", "http://x//a", "http+unix://",
        "http+unix://run/a", "http+unix:///a?b", "http+unix:///a b", "http://é", "http://2130706433", "http://0x7f.1", "http://0177.0.0.1/", "http://127.1:80",
        "http://169.254.169.254", "http://[::ffff:169.254.169.254]", "http://[fe80::1]", "http://0.0.0.0:80", "http://[::]", "http://224.0.0.1",
    ],
)  # fmt: skip
def test_what_is_no_upstream(text: str) -> None:
    with pytest.raises(ValueError, match=";"):
        parse_upstream(text)


def test_an_events_tag_refers_to_fields_of_its_data() -> None:
    assert parse_event_tag("a:{b.C_1}:{d}") == ("a:", Ref("field", "b.C_1"), ":", Ref("field", "d"), "")
    assert parse_event_tag("all") == ("all",)


@pytest.mark.parametrize("text", ["", "{", "a}", "{}", "{a.}", "{.a}", "{a b}", "{a-b}", "{1}", "{{a}}"])
def test_what_is_no_tag_of_an_event(text: str) -> None:
    with pytest.raises(ValueError, match="is not a tag; write text and"):
        parse_event_tag(text)
