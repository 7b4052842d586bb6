import pytest

from bff.rules.cookies import cookies


@pytest.mark.parametrize(
    ("values", "found"),
    [
        ([], {}),
        ([b""], {}),
        ([b"a=b"], {b"a": b"b"}),
        ([b"a=b; c=d;e=f"], {b"a": b"b", b"c": b"d", b"e": b"f"}),
        ([b"a=1; a=2", b"a=3; b=4"], {b"a": b"1", b"b": b"4"}),
        ([b"a=b=c"], {b"a": b"b=c"}),
        ([b'a="b c"'], {b"a": b'"b c"'}),
        ([b"a; =b; ; c="], {b"c": b""}),
        ([b"  a \t=\t b  "], {b"a": b"b"}),
        ([b"A=1; a=2"], {b"A": b"1", b"a": b"2"}),
        ([b"a=\xff%3B"], {b"a": b"\xff%3B"}),
    ],
)
def test_cookies_are_read_as_they_were_sent(values: list[bytes], found: dict[bytes, bytes]) -> None:
    assert cookies(values) == found
