import pytest
from hypothesis import given
from hypothesis import strategies as st

from bff.rules.invalidation import invalidated, uri
from tests.rules.answers import head

TARGET = "http://shop.example/a/b?c=1"


@pytest.mark.parametrize(
    ("parts", "spelt"),
    [
        (("http", "shop.example", "/a?b=c"), "http://shop.example/a?b=c"),
        (("HTTP", "Shop.Example:80", "/A"), "http://shop.example/A"),
        (("https", "shop.example:443", "/"), "https://shop.example/"),
        (("https", "shop.example:80", "/"), "https://shop.example:80/"),
        (("http", "shop.example:8080", "/"), "http://shop.example:8080/"),
        (("http", "shop.example:", "/"), "http://shop.example/"),
        (("http", "[::1]:80", "/"), "http://[::1]/"),
        (("http", "shop.example", ""), "http://shop.example/"),
        (("http", "shop.example", "?a"), "http://shop.example/?a"),
        (("http", "shop.example", "/a#b"), "http://shop.example/a"),
        (("ws", "shop.example:80", "/"), "ws://shop.example:80/"),
    ],
)
def test_one_spelling(parts: tuple[str, str, str], spelt: str) -> None:
    assert uri(*parts) == spelt


@pytest.mark.parametrize(
    ("method", "status", "texts", "gone"),
    [
        ("POST", 200, [], [TARGET]),
        ("PUT", 204, [], [TARGET]),
        ("DELETE", 303, [], [TARGET]),
        ("PATCH", 201, [], [TARGET]),
        ("M-SEARCH", 200, [], [TARGET]),
        ("POST", 400, ["location: /x"], []),
        ("POST", 500, [], []),
        ("POST", 199, [], []),
        ("GET", 200, ["location: /x"], []),
        ("HEAD", 200, [], []),
        ("OPTIONS", 200, [], []),
        ("TRACE", 200, [], []),
        ("POST", 201, ["location: /x?y#z"], [TARGET, "http://shop.example/x?y"]),
        ("POST", 201, ["location: x", "content-location: ../y"], [TARGET, "http://shop.example/a/x", "http://shop.example/y"]),
        ("POST", 201, ["location: HTTP://SHOP.example:80/x"], [TARGET, "http://shop.example/x"]),
        ("POST", 201, ["location: //shop.example/x"], [TARGET, "http://shop.example/x"]),
        ("POST", 201, ["location: https://shop.example/x"], [TARGET]),
        ("POST", 201, ["location: http://other.example/x"], [TARGET]),
        ("POST", 201, ["location: http://shop.example.evil/x"], [TARGET]),
        ("POST", 201, ["location: http://shop.example@evil/x"], [TARGET]),
        ("POST", 201, ["content-location: http://[broken"], [TARGET]),
        ("POST", 200, [f"content-location: {TARGET}"], [TARGET]),
    ],
)  # fmt: skip
def test_what_is_forgotten(method: str, status: int, texts: list[str], gone: list[str]) -> None:
    assert list(invalidated(method, status, TARGET, head(*texts))) == gone


@given(st.text(st.characters(codec="latin-1"), max_size=30))
def test_nothing_of_another_origin_is_forgotten(reference: str) -> None:
    for found in invalidated("POST", 200, TARGET, {b"location": reference.encode("latin-1")}):
        assert found.startswith("http://shop.example/")
