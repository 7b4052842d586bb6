"""Who may read across origins: exact origins, preflights, and nothing where nothing is configured."""

import pytest

from bff.gateway.cors import EXPOSED, Cors

APP, OTHER = b"https://app.example", b"https://app.example.evil.example"
OURS = Cors([APP.decode(), "http://localhost:5173"])
WITH = Cors([APP.decode()], credentials=True)
ANY = Cors(["*"])

Pairs = list[tuple[bytes, bytes]]


def request(**headers: bytes) -> Pairs:
    return [(name.replace("_", "-").encode(), value) for name, value in headers.items()]


def test_an_origin_that_may_read() -> None:
    told = OURS.readable([(b"content-type", b"application/json"), (b"vary", b"Accept")], request(origin=APP))
    assert told == [
        (b"content-type", b"application/json"),
        (b"vary", b"Accept, Origin"),
        (b"access-control-allow-origin", APP),
        (b"access-control-expose-headers", EXPOSED),
    ]
    assert dict(WITH.readable([], request(origin=APP)))[b"access-control-allow-credentials"] == b"true"
    assert b"*" not in EXPOSED


@pytest.mark.parametrize(
    "asked",
    [
        request(origin=OTHER),
        request(origin=b"null"),
        request(origin=APP.upper()),
        request(origin=b"http://app.example"),
        request(origin=b""),
        [(b"origin", APP), (b"origin", OTHER)],
        [],
    ],
    ids=["another", "opaque", "other case", "other scheme", "empty", "two", "none"],
)
@pytest.mark.parametrize("cors", [OURS, WITH])
def test_one_that_may_not(cors: Cors, asked: Pairs) -> None:
    assert cors.readable([], asked) == [(b"vary", b"Origin")], "and no cache may give it what another one got"


def test_any_origin_never_comes_with_credentials() -> None:
    for asked in (request(origin=OTHER), request(origin=b"null"), []):
        told = dict(ANY.readable([], asked))
        assert told[b"access-control-allow-origin"] == b"*"
        assert b"access-control-allow-credentials" not in told
    both = Cors(["*"], credentials=True)
    assert both.readable([], request(origin=OTHER)) == [(b"vary", b"Origin")]


def test_a_context_decides_nothing_about_origins() -> None:
    theirs = [(b"access-control-allow-origin", b"*"), (b"access-control-allow-credentials", b"true")]
    assert OURS.readable(theirs, request(origin=OTHER)) == [(b"vary", b"Origin")]


def test_off_adds_nothing() -> None:
    off = Cors()
    assert not off.on
    assert off.readable([(b"vary", b"Accept")], request(origin=APP)) == [(b"vary", b"Accept")]
    assert off.preflight(request(origin=APP, access_control_request_method=b"GET"), ["GET"]) is None


def test_a_preflight() -> None:
    asked = request(
        origin=APP, access_control_request_method=b"GET", access_control_request_headers=b"authorization, x-a"
    )
    answer = WITH.preflight(asked, ["GET", "HEAD"])
    assert answer is not None
    assert (answer.status, answer.body) == (204, b"")
    assert dict(answer.headers) == {
        b"vary": b"Origin, Access-Control-Request-Method, Access-Control-Request-Headers",
        b"access-control-allow-origin": APP,
        b"access-control-allow-credentials": b"true",
        b"access-control-allow-methods": b"GET",
        b"access-control-allow-headers": b"authorization, x-a",
        b"access-control-max-age": b"600",
    }


@pytest.mark.parametrize(
    "asked",
    [
        request(origin=OTHER, access_control_request_method=b"GET"),
        request(origin=APP, access_control_request_method=b"DELETE"),
        request(origin=APP, access_control_request_method=b"\xff"),
    ],
    ids=["another origin", "another method", "no method at all"],
)
def test_a_preflight_that_is_refused(asked: Pairs) -> None:
    answer = OURS.preflight(asked, ["GET", "HEAD"])
    assert answer is not None
    assert answer.status == 403
    assert not [name for name, _ in answer.headers if name.startswith(b"access-control-")]


@pytest.mark.parametrize("asked", [request(origin=APP), request(access_control_request_method=b"GET")])
def test_an_options_that_is_no_preflight(asked: Pairs) -> None:
    assert OURS.preflight(asked, ["GET"]) is None


@pytest.mark.parametrize("wanted", [b"", b"a b", b"a,,b", b"a\x00", b"x" * 1025, b"a, (b)"])
def test_headers_that_are_none_are_not_allowed(wanted: bytes) -> None:
    asked = request(origin=APP, access_control_request_method=b"GET", access_control_request_headers=wanted)
    answer = OURS.preflight(asked, ["GET"])
    assert answer is not None
    assert b"access-control-allow-headers" not in dict(answer.headers)
