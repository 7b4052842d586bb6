from email.utils import formatdate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bff.rules.caching import Terms, fields, terms, text, wall, words

NOW = 1_750_000_000.0
FIELDS = [b"age", b"cache-control", b"cdn-cache-control", b"date", b"etag", b"expires", b"last-modified", b"vary"]


def read(*lines: tuple[str, str], status: int = 200, private: bool = False, obey: bool = True) -> Terms:
    found = fields([(name.encode(), value.encode()) for name, value in lines])
    return terms(found, status, scope="private" if private else "shared", obey=obey, wall_now=NOW)


def control(text: str, **more: bool) -> Terms:
    return read(("cache-control", text), **more)


def test_an_answer_that_says_nothing_leaves_it_to_the_policy() -> None:
    found = read()
    assert found.storable
    assert found.lifetime is None
    assert found.age == 0
    assert not found.must_revalidate


@pytest.mark.parametrize("text", ["no-store", "private", 'no-cache="x", no-store', "NO-STORE", "max-age=60, private"])
def test_never_stored_where_all_could_see_it(text: str) -> None:
    assert not control(text).storable


def test_private_answers_may_be_kept_for_the_one_they_belong_to() -> None:
    assert control("private, max-age=60", private=True).storable
    assert not control("no-store", private=True).storable


@pytest.mark.parametrize("field", [("set-cookie", "a=1"), ("vary", "*"), ("vary", "accept, *")])
def test_answers_made_for_one_client_are_never_stored(field: tuple[str, str]) -> None:
    assert not read(field, ("cache-control", "public, max-age=60")).storable


def test_lifetimes_in_the_order_of_rfc_9111() -> None:
    later = formatdate(NOW + 300, usegmt=True)
    date = ("date", formatdate(NOW, usegmt=True))
    assert control("max-age=60, s-maxage=10").lifetime == 10
    assert control("max-age=60, s-maxage=10", private=True).lifetime == 60
    assert read(("expires", later), date).lifetime == 300
    assert read(("expires", later), date, ("cache-control", "max-age=5")).lifetime == 5
    assert read(("expires", "0")).lifetime == 0
    assert read(("expires", formatdate(NOW - 300, usegmt=True)), date).lifetime == 0
    assert control("max-age=abc").lifetime == 0
    assert control("no-cache, max-age=60").lifetime == 0


def test_the_targeted_field_replaces_the_general_one() -> None:
    found = read(("cache-control", "no-store"), ("cdn-cache-control", "max-age=30"))
    assert (found.storable, found.lifetime) == (True, 30)
    found = read(("cdn-cache-control", "max-age=30"), ("cache-control", "max-age=60"), private=True)
    assert found.lifetime == 60


def test_a_targeted_field_that_is_none_is_ignored() -> None:
    found = read(("cdn-cache-control", "max-age=30, &"), ("cache-control", "max-age=60"))
    assert found.lifetime == 60
    assert read(("cdn-cache-control", ""), ("cache-control", "max-age=60")).lifetime == 60
    assert read(("cdn-cache-control", "foo"), ("expires", "0")).lifetime is None


@pytest.mark.parametrize("text", ['private="x-user"', 'no-cache="set-cookie"'])
def test_markup_is_not_taken_apart_by_field(text: str) -> None:
    found = control(f"max-age=60, {text}")
    assert not found.storable or (found.lifetime == 0 and found.must_revalidate)


def test_age_is_the_largest_of_what_is_known() -> None:
    date = ("date", formatdate(NOW - 20, usegmt=True))
    assert read(date).age == 20
    assert read(date, ("age", "50")).age == 50
    assert read(("age", "x")).age == 0
    assert read(("date", formatdate(NOW + 20, usegmt=True))).age == 0


def test_stale_windows_and_their_prohibitions() -> None:
    found = control("max-age=1, stale-while-revalidate=5, stale-if-error=7")
    assert (found.stale_while_revalidate, found.stale_if_error) == (5, 7)
    assert control("must-revalidate").must_revalidate
    assert control("proxy-revalidate").must_revalidate
    assert not control("proxy-revalidate", private=True).must_revalidate
    assert control("no-cache").must_revalidate
    assert control("s-maxage=1").must_revalidate


def test_fixed_mode_heeds_only_what_forbids_storing() -> None:
    found = control("max-age=60, stale-if-error=5, must-revalidate", obey=False)
    assert (found.lifetime, found.stale_if_error, found.must_revalidate) == (None, None, False)
    assert not control("no-store", obey=False).storable


def test_statuses_without_a_default_need_explicit_freshness() -> None:
    assert not read(status=302).storable
    assert read(("cache-control", "max-age=5"), status=302).storable


def test_validators_are_kept() -> None:
    found = read(("etag", '"a"'), ("last-modified", "x"))
    assert (found.etag, found.last_modified) == ('"a"', "x")


def test_field_lines_are_one_list() -> None:
    assert fields([(b"a", b"1"), (b"b", b"2"), (b"a", b"3")]) == {b"a": b"1, 3", b"b": b"2"}
    assert text({b"a": b"1"}, b"a") == "1"
    assert text({}, b"a") == ""


@given(st.lists(st.tuples(st.sampled_from(FIELDS), st.binary(max_size=40)), max_size=6))
def test_no_head_breaks_it(lines: list[tuple[bytes, bytes]]) -> None:
    found = terms(fields(lines), 200, scope="shared", obey=True, wall_now=NOW)
    assert found.age >= 0
    assert found.lifetime is None or found.lifetime >= 0


def test_a_date_in_any_form_is_read() -> None:
    assert wall(b"Mon, 99 Jan 2024 00:00:00 GMT") is None
    assert wall(b"Tue, 2 Jan 2024 02:00:00 +0200") == 1_704_153_600


def test_words_stay_what_they_are_though_a_field_has_several_lines() -> None:
    found = fields([(b"surrogate-key", b"course:1  course:2"), (b"surrogate-key", b"a,b"), (b"x", b"")])
    assert words(found, b"surrogate-key") == ["course:1", "course:2", "a,b"]
    assert words(found, b"x") == words(found, b"cache-tag") == []
