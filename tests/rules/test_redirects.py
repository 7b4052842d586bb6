import pytest

from bff.model import Grant
from bff.rules import redirects
from tests.build import UPSTREAM

GRANT = Grant(redirects=("https://pay.example",), cookies=("csrftoken",))


@pytest.mark.parametrize("text", ["/", "/a/b?c=d#e", "https://pay.example/x", "HTTPS://PAY.EXAMPLE/x"])
def test_where_a_context_may_send_the_browser(text: str) -> None:
    assert redirects.location(text, UPSTREAM, GRANT) == text


@pytest.mark.parametrize(
    "text",
    [
        "//evil.example",
        "/\\evil.example",
        "\\\\evil",
        "https://evil.example",
        "https://pay.example.evil.example",
        "https://pay.example@evil.example/",
        "javascript:alert(1)",
        "/a\r\nset-cookie: x",
        "/ a",
        "relative",
        "",
        "http://127.0.0.1:9100/inside",
        "ftp://pay.example/",
        "https:///x",
    ],
)
def test_where_it_may_not(text: str) -> None:
    assert redirects.location(text, UPSTREAM, GRANT) is None


def test_only_granted_cookies_and_only_for_this_host() -> None:
    stated = [b"csrftoken=1; Path=/; Domain=.example; Secure", b"session=2", b"csrftoken2=3"]
    assert redirects.cookies(stated, GRANT) == [b"csrftoken=1; Path=/; Secure"]
