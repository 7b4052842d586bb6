from dataclasses import replace

import pytest

from bff.model import Grant, Ref
from bff.rules import redirects
from tests.build import UPSTREAM

GRANT = Grant(redirects=("https://pay.example",), cookies=("csrftoken",))


@pytest.mark.parametrize(
    "text", ["/", "/a/b?c=d#e", "https://pay.example/x", "HTTPS://PAY.EXAMPLE/x", "https://pay.example:443/x"]
)
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
        "https://pay.example:80/",
        "http://pay.example:443/",
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


@pytest.mark.parametrize(
    ("text", "to"),
    [
        ("http://Shop.example/a?b=c#d", "/a?b=c#d"),  # a Referer that is followed back
        ("https://shop.example", "/"),
        ("https://shop.example:443/a", "/a"),
        ("http://shop.example:80/a", "/a"),
        ("http://shop.example//evil.example", None),
        ("http://shop.example:81/a", None),
        ("http://user@shop.example/a", None),
        ("ftp://shop.example/a", None),
        ("?saved=1", "?saved=1"),
        ("#saved", "#saved"),
        ("?a b", None),
        ("saved?a=1", None),
    ],
)
def test_what_leads_to_the_host_that_was_asked_leads_to_its_path(text: str, to: str | None) -> None:
    assert redirects.location(text, UPSTREAM, GRANT, "shop.example") == to
    assert redirects.location(text, UPSTREAM, GRANT) is None
    assert redirects.scripted([(b"hx-redirect", text.encode())], UPSTREAM, GRANT, "shop.example") == (
        [(b"hx-redirect", to.encode())] if to is not None else None
    )


def test_a_default_port_that_is_stated_changes_nothing() -> None:
    granted = Grant(redirects=("https://pay.example:443", "http://old.example:80/"))
    assert redirects.location("https://pay.example/x", UPSTREAM, granted) == "https://pay.example/x"
    assert redirects.location("http://old.example/x", UPSTREAM, granted) == "http://old.example/x"
    assert redirects.location("http://shop.example/a", UPSTREAM, GRANT, "shop.example:80") == "/a"
    assert redirects.location("https://shop.example/a", UPSTREAM, GRANT, "shop.example:80") is None
    plain = replace(UPSTREAM, authority="orders.internal", port=80)
    grant = Grant(back=redirects.ways([("/api/{rest:path}", ("/", Ref("param", "rest"), ""))], plain))
    assert redirects.location("http://orders.internal:80/x", plain, grant) == "/api/x"


def test_only_granted_cookies_and_only_for_this_host() -> None:
    stated = [b"csrftoken=1; Path=/; Domain=.example; Secure", b"session=2", b"csrftoken2=3"]
    assert redirects.cookies(stated, GRANT) == [b"csrftoken=1; Path=/; Secure"]


WAYS = redirects.ways(
    [
        ("/shop/api/{rest:path}", ("/api/", Ref("param", "rest"), "")),
        ("/shop/users/{id}", ("/api/users/", Ref("param", "id"), "/profile")),
        ("/{rest:path}", ("/root/", Ref("param", "rest"), "")),
        ("/shop/lossy/{a}/{b}", ("/lossy/", Ref("param", "a"), "")),
        ("/shop/twice/{a}", ("/twice/", Ref("param", "a"), "/", Ref("param", "a"), "")),
    ],
    UPSTREAM,
)
BASED = replace(UPSTREAM, base="/v1")


@pytest.mark.parametrize(
    ("path", "to"),
    [
        ("/api/x/y?a=1&b=%20#f", "/shop/api/x/y?a=1&b=%20#f"),
        ("/api/a%2Fb", "/shop/api/a%2Fb"),
        ("/api/users/7/profile", "/shop/users/7"),
        ("/api/users/7/8/profile", "/shop/api/users/7/8/profile"),
        ("/root/x", "/x"),
        ("/root//evil.example", None),
        ("/api/../x", None),
        ("/api/%2e%2E/x", None),
        ("/api/", "/shop/api/"),
        ("/other", None),
        ("/lossy/1", None),
        ("/twice/1/1", None),
        ("", None),
    ],
)
def test_a_url_under_upstream_is_mapped_back_through_the_proxy_route_that_covers_it(path: str, to: str | None) -> None:
    grant = Grant(back=WAYS)
    assert redirects.location(f"http://127.0.0.1:9100{path}", UPSTREAM, grant) == to
    assert redirects.location(f"http://127.0.0.1:9101{path}", UPSTREAM, grant) is None


def test_the_base_path_is_part_of_what_is_covered() -> None:
    grant = Grant(back=redirects.ways([("/shop/api/{rest:path}", ("/api/", Ref("param", "rest"), ""))], BASED))
    assert redirects.location("http://127.0.0.1:9100/v1/api/x", BASED, grant) == "/shop/api/x"
    assert redirects.location("http://127.0.0.1:9100/api/x", BASED, grant) is None


@pytest.mark.parametrize("text", ["http://[", "https://pay.example:port/", "http://[::1", "https://[v.x]/"])
def test_what_is_no_url_at_all_leads_nowhere(text: str) -> None:
    assert redirects.location(text, UPSTREAM, GRANT) is None


def test_a_cookie_without_a_name_is_not_taken_for_one_that_is_granted() -> None:
    assert redirects.cookies([b"csrftoken", b"=csrftoken=1", b"; csrftoken=1"], GRANT) == []


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (b"hx-redirect", "/a"),
        (b"hx-redirect", "https://pay.example/x"),
        (b"hx-location", "/a?b"),
        (b"hx-location", '{"path":"/a","target":"#main"}'),
    ],
)
def test_htmx_may_be_sent_where_a_browser_may(name: bytes, text: str) -> None:
    said = [(b"hx-trigger", b"x"), (name, text.encode())]
    assert redirects.scripted(said, UPSTREAM, GRANT) == [said[1]]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (b"hx-redirect", "https://evil.example"),
        (b"hx-redirect", "//evil.example"),
        (b"hx-redirect", "javascript:alert(1)"),
        (b"hx-location", "https://evil.example"),
        (b"hx-location", '{"path":"https://evil.example"}'),
        (b"hx-location", '{"path":"//evil.example"}'),
        (b"hx-location", ' {"path":"/\\\\evil.example"}'),
        (b"hx-location", '{"path":1}'),
        (b"hx-location", '{"path":'),
        (b"hx-location", "{" * 5000),
    ],
)
def test_htmx_may_not_be_sent_elsewhere(name: bytes, text: str) -> None:
    assert redirects.scripted([(name, text.encode())], UPSTREAM, GRANT) is None


def test_htmx_is_sent_back_through_the_proxy_route_that_covers_a_url() -> None:
    said = [(b"hx-redirect", b"http://127.0.0.1:9100/api/x")]
    assert redirects.scripted(said, UPSTREAM, Grant(back=WAYS)) == [(b"hx-redirect", b"/shop/api/x")]
