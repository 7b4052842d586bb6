import pytest
from hypothesis import given
from hypothesis import strategies as st

from bff.rules.structured import Item, Token, dictionary, word


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ("", {}),
        ("  ", {}),
        ("max-age=60", {"max-age": 60}),
        ("a, b=?0, c=?1", {"a": True, "b": False, "c": True}),
        ("a=1 \t,\t b=-2", {"a": 1, "b": -2}),
        ("a=1.5, b=-0.125", {"a": 1.5, "b": -0.125}),
        ('a="x, \\"y\\\\"', {"a": 'x, "y\\'}),
        ("a=tok*en/x:y", {"a": "tok*en/x:y"}),
        ("a=:aGk=:", {"a": b"hi"}),
        ("a=@1659578233", {"a": 1659578233}),
        ('a=%"f%c3%bc"', {"a": "fü"}),
        ("a=(1 2  3), b=()", {"a": (1, 2, 3), "b": ()}),
        ("a=(x;q=1 y);z, b", {"a": ("x", "y"), "b": True}),
        ("a;x=1;  y;z=?0, b=2;c", {"a": True, "b": 2}),
        ("a=1, b=2, a=3", {"b": 2, "a": 3}),
        ("*a_b-c.d=1", {"*a_b-c.d": 1}),
        ("a=999999999999999", {"a": 999999999999999}),
    ],
)
def test_what_a_dictionary_holds(value: str, found: dict[str, Item]) -> None:
    assert dictionary(value.encode()) == found


@pytest.mark.parametrize(
    "value",
    [
        "a=1, &", "a=1,", "a=1,,b", "A=1", "a =1", "a= 1", "a=", "=1", "1=a", "a=1 b", "a=1;", "a=1;X", "a=?2", "a=1.",
        "a=1.2345", "a=1234567890123.1", "a=1234567890123456", "a=-", 'a="x', 'a="\\x"', 'a="\xe9"', "a=:a:", "a=:a=b=:",
        "a=@1.5", "a=@", 'a=%"%FF"', 'a=%"%ff"', "a=(1", "a=(1 2", "a=(1,2)", 'a=("a""b")', "a=('", "a=\x00", "a\tb",
        "a=(" + "1 " * 80 + ")",
    ],
)  # fmt: skip
def test_one_wrong_byte_and_there_is_no_field(value: str) -> None:
    assert dictionary(value.encode("latin-1")) is None


@given(st.binary(max_size=60))
def test_no_bytes_break_it(value: bytes) -> None:
    found = dictionary(value)
    assert found is None or all(isinstance(key, str) for key in found)


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("stale-error", "stale-error"),
        ("two words", '"two words"'),
        ('a "b" \\', '"a \\"b\\" \\\\"'),
        ("line\nbreak; hit", '"line?break; hit"'),
        ("fü", '"f?"'),
        ("", '""'),
        ("9", '"9"'),
    ],
)
def test_a_word_is_written_as_what_it_is(text: str, written: str) -> None:
    assert word(text) == written


@given(st.text(max_size=40))
def test_whatever_is_written_is_one_item(text: str) -> None:
    found = dictionary(b"a=" + word(text).encode())
    assert found is not None
    assert isinstance(found["a"], str)
    assert isinstance(found["a"], Token) is not word(text).startswith('"')
