import pytest
from hypothesis import given
from hypothesis import strategies as st

from bff.rules import forwarding
from bff.rules.reuse import Use, reuse
from bff.rules.stored import Refused, Stored
from bff.rules.storing import UNDERSTOOD, compiled, displaces, restored
from tests.rules.answers import CACHE, NOW, WALL, answer, at, head, kept

FRESH = "cache-control: max-age=60"
SIGNED = head("authorization: Bearer x")


@pytest.mark.parametrize(
    ("texts", "status", "request_", "method", "reason"),
    [
        ([FRESH], 200, [], "POST", "method"),
        ([FRESH], 200, [], "HEAD", "method"),
        ([FRESH], 200, [], "get", "method"),
        ([FRESH], 206, [], "GET", "partial"),
        ([FRESH], 304, [], "GET", "partial"),
        ([FRESH, "content-range: bytes 0-1/2"], 200, [], "GET", "partial"),
        ([FRESH], 103, [], "GET", "status"),
        ([], 302, [], "GET", "status"),
        (["cache-control: no-cache"], 500, [], "GET", "status"),
        (["cdn-cache-control: foo", f"expires: {at(60)}"], 302, [], "GET", "status"),
        ([FRESH], 401, [], "GET", "status"),
        ([FRESH], 403, [], "GET", "status"),
        ([FRESH], 429, [], "GET", "status"),
        (["cache-control: public, max-age=60"], 511, [], "GET", "status"),
        ([FRESH], 200, ["cache-control: no-store"], "GET", "request"),
        (["cache-control: no-store"], 200, [], "GET", "no-store"),
        (["cache-control: max-age=60, No-Store"], 200, [], "GET", "no-store"),
        ([FRESH, "cdn-cache-control: no-store"], 200, [], "GET", "no-store"),
        (["cache-control: private, max-age=60"], 200, [], "GET", "private"),
        (["cache-control: private=x-user, max-age=60"], 200, [], "GET", "private"),
        ([FRESH, "cdn-cache-control: private"], 200, [], "GET", "private"),
        ([FRESH, "set-cookie: a=1"], 200, [], "GET", "set-cookie"),
        ([FRESH, "set-cookie2: a=1"], 200, [], "GET", "set-cookie"),
        ([FRESH, "vary: accept, *"], 200, [], "GET", "vary"),
        ([FRESH], 200, ["authorization: x"], "GET", "authorization"),
        ([FRESH, "cache-control: proxy-revalidate"], 200, ["authorization: x"], "GET", "authorization"),
        (["cdn-cache-control: max-age=60", "cache-control: public"], 200, ["authorization: x"], "GET", "authorization"),
    ],
)  # fmt: skip
def test_what_is_not_stored(texts: list[str], status: int, request_: list[str], method: str, reason: str) -> None:
    assert answer(*texts, status=status, request=head(*request_), method=method) == Refused(reason)  # type: ignore[arg-type] # one of its words


@pytest.mark.parametrize(
    ("texts", "status", "request_"),
    [
        ([], 200, []),
        ([], 404, []),
        ([FRESH], 302, []),
        ([FRESH], 500, []),
        ([FRESH], 299, []),
        ([FRESH], 599, []),
        (["cache-control: s-maxage=5"], 302, []),
        (["cache-control: public"], 302, []),
        (["expires: 0"], 302, []),
        (["cdn-cache-control: max-age=60", "cache-control: no-store, private"], 200, []),
        (["cdn-cache-control: &", FRESH], 200, []),
        (['cache-control: private="x-user", max-age=60'], 200, []),
        ([FRESH, "surrogate-control: no-store", "pragma: no-cache"], 200, ["pragma: no-store"]),
        (["cache-control: public, max-age=60"], 200, ["authorization: x"]),
        (["cache-control: max-age=60, must-revalidate"], 200, ["authorization: x"]),
        (["cache-control: s-maxage=60"], 200, ["authorization: x"]),
        ([FRESH], 200, ["cookie: a=1"]),
        ([FRESH, "warning: 110 - stale"], 200, []),
    ],
)
def test_what_is_stored(texts: list[str], status: int, request_: list[str]) -> None:
    assert kept(*texts, status=status, request=head(*request_)).status == status


def test_one_persons_store_may_keep_what_is_theirs() -> None:
    for texts in (["cache-control: private, max-age=60"], ["cache-control: private"]):
        assert isinstance(answer(*texts, private=True, request=SIGNED), Stored)
    own = answer("cache-control: max-age=60, s-maxage=5", "cdn-cache-control: max-age=1", private=True)
    assert isinstance(own, Stored)
    assert (own.lifetime, own.must_revalidate) == (60, False)
    assert answer("cache-control: private", status=302) == Refused("private")
    assert isinstance(answer("cache-control: private", status=302, private=True), Stored)
    assert answer("cache-control: s-maxage=5", status=302, private=True) == Refused("status")
    named = answer('cache-control: private="x-user"', "x-user: ann", private=True)
    assert isinstance(named, Stored)
    assert (b"x-user", b"ann") in named.headers


@pytest.mark.parametrize(
    ("texts", "status", "collapses"),
    [
        ([], 500, True),
        (["retry-after: 5", "vary: accept"], 503, True),
        (["cache-control: no-cache"], 500, False),
        (["cache-control: no-store"], 500, False),
        (["cache-control: private"], 500, False),
        (["set-cookie: a=1"], 500, False),
        (["vary: *"], 500, False),
        ([], 511, False),
        ([], 429, False),
        ([], 302, False),
        (["cache-control: must-understand, no-store"], 599, False),
    ],
)
def test_which_errors_are_for_all_who_wait(texts: list[str], status: int, collapses: bool) -> None:
    found = answer(*texts, status=status)
    assert isinstance(found, Refused)
    assert found.collapses is collapses


@pytest.mark.parametrize(
    "said", ["cache-control: no-store", "cdn-cache-control: private", "vary: *", "content-range: bytes 0-1/2"]
)
def test_connection_takes_nothing_away_that_forbids_storing(said: str) -> None:
    named = said.partition(":")[0]
    lines = [(b"connection", f"close, {named.title()}, X-Four".encode()), (b"x-four", b"4"), (b"etag", b'"a"')]
    name, _, value = said.encode().partition(b": ")
    shown = forwarding.answer([*lines, (name, value)])
    assert shown == [(b"etag", b'"a"'), (name, value)]
    assert isinstance(answer(said, f"connection: {named}", "date: Thu, 01 Jan 2026 00:00:00 GMT"), Refused)


def test_must_understand() -> None:
    assert kept("cache-control: must-understand, no-store, max-age=60").lifetime == 60
    assert answer("cache-control: must-understand, no-store, max-age=60", status=299) == Refused("status")
    assert answer("cache-control: must-understand, max-age=60", status=599) == Refused("status")
    assert {200, 302, 404, 503} <= UNDERSTOOD
    assert not {206, 304, 401, 429} & UNDERSTOOD


def test_what_of_the_head_is_kept() -> None:
    stored = kept(
        'cache-control: max-age=60, no-cache="X-One, x-two"', 'cache-control: private="x-three"', f"date: {at(-5)}", "age: 3",
        "connection: close, X-Four", "keep-alive: 5", "proxy-authenticate: x", "transfer-encoding: chunked", "upgrade: h2",
        "x-one: 1", "x-two: 2", "x-three: 3", "x-four: 4", "x-five: 5", "content-type: text/html", 'etag: "a"',
    )  # fmt: skip
    assert [name for name, _ in stored.headers] == [
        b"cache-control", b"cache-control", b"date", b"x-five", b"content-type", b"etag",
    ]  # fmt: skip
    assert stored.lifetime == 60
    assert not stored.no_cache


@pytest.mark.parametrize("texts", [[], ["date: yesterday"]])
def test_a_missing_date_is_added(texts: list[str]) -> None:
    stored = kept(FRESH, *texts)
    assert stored.headers[-1] == (b"date", at(0).encode())
    assert sum(name == b"date" for name, _ in stored.headers) == 1
    assert stored.date == WALL


def test_the_targeted_field_replaces_the_others() -> None:
    stored = kept("cdn-cache-control: max-age=60", "cache-control: max-age=1, must-revalidate", "expires: 0")
    assert (stored.lifetime, stored.must_revalidate) == (60, False)
    stored = kept("cdn-cache-control: no-cache", FRESH)
    assert (stored.no_cache, stored.must_revalidate) == (True, True)


def test_an_error_replaces_no_good_answer() -> None:
    good, missing, failed = kept(FRESH), kept(FRESH, status=404), kept(FRESH, status=500)
    assert displaces(failed, None)
    assert displaces(failed, failed)
    assert not displaces(failed, good)
    assert displaces(missing, good)
    assert displaces(good, failed)


def test_what_comes_back_from_a_store_is_what_went_in() -> None:
    request = head("accept-language: en")
    stored = kept(
        FRESH, f"date: {at(-5)}", f"last-modified: {at(-500)}", 'etag: "a"', "vary: accept-language", request=request
    )
    again = restored(request=request, status=200, headers=stored.headers, born=stored.born, wall_now=WALL + 30)
    assert again == stored


NAMES = [
    "cache-control",
    "cdn-cache-control",
    "expires",
    "age",
    "date",
    "vary",
    "set-cookie",
    "last-modified",
    "etag",
    "x",
]
VALUES = [
    "no-store",
    "private",
    "public",
    "max-age=60",
    "s-maxage=60",
    "no-cache",
    "*",
    "a",
    '"',
    'private="x"',
    "0",
    at(60),
]
HEADS = st.lists(st.tuples(st.sampled_from(NAMES), st.sampled_from(VALUES)), max_size=6)


@given(HEADS, st.sampled_from([200, 206, 302, 401, 404, 500]), st.booleans(), st.booleans(), st.floats(0, 1e5))
def test_what_forbids_keeping_always_does(
    pairs: list[tuple[str, str]], status: int, signed: bool, fixed: bool, later: float
) -> None:
    texts = [f"{name}: {value}" for name, value in pairs]
    found = answer(*texts, status=status, request=SIGNED if signed else None, fixed=fixed)
    said = {value for name, value in pairs if name == "cache-control"}
    aimed = any(name == "cdn-cache-control" for name, _ in pairs)
    if status in (206, 401) or any(name == "set-cookie" or (name, value) == ("vary", "*") for name, value in pairs):
        assert isinstance(found, Refused)
    if not aimed and said & {"no-store", "private"}:
        assert isinstance(found, Refused)
    if signed and not aimed and not said & {"public", "s-maxage=60"}:
        assert isinstance(found, Refused)
    if isinstance(found, Stored) and not fixed:
        decision = reuse(found, "GET", {}, CACHE, NOW + later)
        if not aimed and "no-cache" in said:
            assert decision.use in (Use.VALIDATE, Use.MISS)
        if decision.use is Use.HIT:
            assert decision.ttl > 0


@given(st.lists(st.tuples(st.binary(max_size=12).map(bytes.lower), st.binary(max_size=24)), max_size=8))
def test_no_head_breaks_it(pairs: list[tuple[bytes, bytes]]) -> None:
    found = compiled(method="GET", request={}, status=200, headers=pairs, asked=NOW, now=NOW, wall_now=WALL)
    assert isinstance(found, Stored | Refused)
