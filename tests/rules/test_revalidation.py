from typing import Any

import pytest

from bff.rules.caching import Lines, fields
from bff.rules.revalidation import conditional, head_renews, renewed, renewed_by, updated
from bff.rules.stored import Refused, Stored
from tests.rules.answers import NOW, WALL, at, head, kept, lines

FRESH = "cache-control: max-age=60"
TAG, OTHER = 'etag: "a"', 'etag: "b"'
MODIFIED = f"last-modified: {at(-500)}"
LATER: dict[str, Any] = {"request": {}, "asked": NOW + 100, "now": NOW + 100, "wall_now": WALL + 100}


def asks(request: Lines, *kept_: Stored) -> set[bytes]:
    return {b": ".join(line) for line in conditional(request, kept_)}


def test_what_is_asked() -> None:
    own = lines('if-none-match: "x"', f"if-modified-since: {at(0)}", "range: bytes=0-1", 'if-range: "x"', "accept: a")
    assert asks(own, kept(FRESH, TAG)) == {b"accept: a", b'if-none-match: "a"'}
    assert asks(own, kept(FRESH, MODIFIED)) == {b"accept: a", f"if-modified-since: {at(-500)}".encode()}
    assert asks(own, kept(FRESH, TAG, MODIFIED)) == {
        b"accept: a", b'if-none-match: "a"', f"if-modified-since: {at(-500)}".encode(),
    }  # fmt: skip
    assert asks(own, kept(FRESH, TAG, MODIFIED), kept(FRESH, OTHER), kept(FRESH, TAG)) == {
        b"accept: a", b'if-none-match: "a", "b"',
    }  # fmt: skip


def test_without_a_validator_the_request_goes_as_it_came() -> None:
    own = lines('if-none-match: "x"', "range: bytes=0-1")
    assert conditional(own, [kept(FRESH)]) == own
    assert conditional(own, [kept(MODIFIED), kept(MODIFIED)]) == own
    assert conditional(own, []) == own


@pytest.mark.parametrize(
    ("answer", "kept_", "which"),
    [
        ([TAG], [[TAG]], 0),
        ([TAG], [[OTHER], [TAG]], 1),
        ([TAG], [[OTHER]], None),
        ([TAG], [['etag: W/"a"']], None),
        (['etag: W/"a"'], [[TAG]], 0),
        (['etag: W/"a"'], [['etag: W/"a"', f"date: {at(-9)}"], ['etag: W/"a"', f"date: {at(-5)}"]], 1),
        ([MODIFIED], [[MODIFIED]], 0),
        ([MODIFIED], [[f"last-modified: {at(-9)}"]], None),
        ([MODIFIED], [[MODIFIED, f"date: {at(-9)}"], [MODIFIED, f"date: {at(-5)}"]], 1),
        ([TAG, MODIFIED], [[MODIFIED]], 0),
        ([], [[TAG]], 0),
        ([], [[MODIFIED]], 0),
        ([], [[]], None),
        ([TAG], [[]], None),
        ([], [[TAG], [OTHER]], None),
        ([], [], None),
    ],
)
def test_which_answer_a_304_renews(answer: list[str], kept_: list[list[str]], which: int | None) -> None:
    stored = [kept(FRESH, *texts) for texts in kept_]
    assert renewed_by(head(*answer), stored) is (None if which is None else stored[which])


def test_what_a_304_changes() -> None:
    old = lines(
        "content-type: text/html", "content-length: 5", "content-encoding: gzip", "x-old: 1", "x-both: 1", "x-both: 2", FRESH
    )  # fmt: skip
    new = lines(
        "content-type: text/plain", "content-length: 9", "content-encoding: br", "content-range: bytes 0-1/2", "x-both: 3",
        "connection: close", "transfer-encoding: chunked", "cache-control: max-age=9",
    )  # fmt: skip
    assert updated(old, new) == (
        (b"content-length", b"5"), (b"content-encoding", b"gzip"), (b"x-old", b"1"),
        (b"content-type", b"text/plain"), (b"x-both", b"3"), (b"cache-control", b"max-age=9"),
    )  # fmt: skip


def test_a_renewed_answer_is_as_new() -> None:
    stored = kept(FRESH, TAG, f"date: {at(-5)}", "age: 20", "x-old: 1")
    found = renewed(stored, lines("cache-control: max-age=90, stale-if-error=5", "age: 3", f"date: {at(98)}"), **LATER)
    assert isinstance(found, Stored)
    assert (found.lifetime, found.stale_if_error, found.etag) == (90, 5, b'"a"')
    assert NOW + 100 - found.born == 3
    assert (b"x-old", b"1") in found.headers
    assert not any(name == b"age" for name, _ in found.headers)


def test_a_304_without_date_is_dated_now() -> None:
    found = renewed(kept(FRESH, TAG, f"date: {at(-5)}"), lines(TAG), **LATER)
    assert isinstance(found, Stored)
    assert (NOW + 100 - found.born, found.date) == (0, WALL + 100)


def test_a_304_may_end_the_keeping() -> None:
    assert renewed(kept(FRESH, TAG), lines("cache-control: no-store"), **LATER) == Refused("no-store")
    assert renewed(kept(FRESH, TAG), lines("set-cookie: a=1"), **LATER) == Refused("set-cookie")


def test_a_304_may_change_what_selects_it() -> None:
    english = head("accept-language: en")
    found = renewed(kept(FRESH, TAG), lines("vary: accept-language"), **{**LATER, "request": english})
    assert isinstance(found, Stored)
    assert (found.vary, found.selecting) == ((b"accept-language",), (b"en",))


@pytest.mark.parametrize(
    ("stored", "answer", "status", "becomes"),
    [
        ([TAG], [TAG, "cache-control: max-age=90"], 200, "renewed"),
        ([TAG], ["cache-control: max-age=90"], 200, "renewed"),
        ([], ["cache-control: max-age=90"], 200, "renewed"),
        ([TAG, "content-length: 5"], [TAG, "content-length: 5", "cache-control: max-age=90"], 200, "renewed"),
        ([TAG], [TAG, "content-length: 5", "cache-control: max-age=90"], 200, "renewed"),  # it came in chunks
        ([TAG], [OTHER], 200, "forgotten"),
        ([], [TAG], 200, "forgotten"),
        ([MODIFIED], [f"last-modified: {at(-5)}"], 200, "forgotten"),
        ([TAG, "content-length: 5"], [TAG, "content-length: 6"], 200, "forgotten"),
        ([TAG], [TAG, "cache-control: no-store"], 200, "forgotten"),
        ([TAG], [], 404, "forgotten"),
        ([TAG], [], 410, "forgotten"),
        ([TAG], [OTHER], 503, "unchanged"),
        ([TAG], [TAG], 304, "unchanged"),
    ],
)
def test_what_head_does_to_get(stored: list[str], answer: list[str], status: int, becomes: str) -> None:
    old = kept(FRESH, "x-old: 1", *stored)
    found = head_renews(old, status, lines(*answer), **LATER)
    match becomes:
        case "renewed":
            assert found is not None
            assert (found.lifetime, found.born) == (90, NOW + 100)
            assert fields(found.headers)[b"x-old"] == b"1"
        case "unchanged":
            assert found is old
        case _:
            assert found is None


def test_head_says_nothing_of_another_answer() -> None:
    missing = kept(FRESH, status=404)
    assert head_renews(missing, 200, lines(TAG), **LATER) is missing
