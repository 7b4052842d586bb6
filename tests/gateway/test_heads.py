import pytest

from bff.gateway.heads import Refused, head, problem, target

DATE = b"date: today\r\n"


@pytest.mark.parametrize(
    ("url", "found"),
    [
        (b"/", (b"/", b"", None)),
        (b"/a?b=c?d", (b"/a", b"b=c?d", None)),
        (b"//a/b", (b"//a/b", b"", None)),
        (b"http://x:80/a?b", (b"/a", b"b", b"x:80")),
        (b"HTTPS://x", (b"/", b"", b"x")),
        (b"http://x?q", (b"/", b"q", b"x")),
        (b"http://x?q=/a", (b"/", b"q=/a", b"x")),
    ],
)
def test_a_target_is_split(url: bytes, found: tuple[bytes, bytes, bytes | None]) -> None:
    assert target(url) == found


@pytest.mark.parametrize("url", [b"*", b"ftp://x/a", b"/a#b", b"http://x/a#b", b"a:80"])
def test_what_is_no_target_is_refused(url: bytes) -> None:
    with pytest.raises(Refused) as caught:
        target(url)
    assert caught.value.status == 400


def test_a_head_is_dated_once() -> None:
    assert head(200, [], DATE)[0] == b"HTTP/1.1 200 OK\r\ndate: today\r\n"
    assert head(200, [(b"date", b"then")], DATE)[0] == b"HTTP/1.1 200 OK\r\ndate: then\r\n"


def test_a_head_tells_its_framing() -> None:
    assert head(404, [(b"content-length", b"12"), (b"connection", b"Close")], DATE)[1:] == (12, True)
    assert head(200, [(b"connection", b"keep-alive")], DATE)[1:] == (None, False)


def test_framing_is_not_the_applications() -> None:
    lines = b"HTTP/1.1 299 \r\nx: y\r\ndate: today\r\n"
    assert head(299, [(b"transfer-encoding", b"chunked"), (b"x", b"y")], DATE) == (lines, None, False)


@pytest.mark.parametrize(
    "pair", [(b"a", b"b\r\nc: d"), (b"a", b"b\nc"), (b"a", b"b\rc"), (b"a\r\nb", b"c"), (b"a", b"\0")]
)
def test_no_header_can_end_its_line(pair: tuple[bytes, bytes]) -> None:
    with pytest.raises(ValueError, match="line break"):
        head(200, [pair], DATE)


def test_a_problem_is_json_of_rfc_9457() -> None:
    headers, body = problem(431, "too much")
    assert (
        body
        == b'{"type": "about:blank", "title": "Request Header Fields Too Large", "status": 431, "detail": "too much"}'
    )
    assert dict(headers)[b"content-type"] == b"application/problem+json"
    assert dict(headers)[b"content-length"] == b"%d" % len(body)
