"""The engine beside hishel's, which was written by other people from the same RFC: over thousands of heads both decide alike.

Only what hishel decides by the RFC is compared. It does not look at Age, response delay, CDN-Cache-Control, must-understand,
the windows of RFC 5861 and a request's max-age and min-fresh; it stores HEAD, Set-Cookie, and 401, 403 and RFC 6585's
statuses where they say how long; it guesses up to a week; a lifetime that cannot be read it takes for none, and of two the
last, where RFC 9111 §4.2.1 has it over, or the first; and it passes every Range on. There the other tests' tables decide alone.
"""

import time
import uuid
from dataclasses import replace
from email.utils import formatdate
from itertools import combinations, product

import hishel
import pytest

from bff.rules.caching import fields
from bff.rules.reuse import Use, reuse
from bff.rules.stored import Refused, Stored
from bff.rules.storing import compiled
from bff.rules.vary import select
from tests.rules.answers import CACHE

POLICY = replace(CACHE, negative=0.0)
OPTIONS = hishel.CacheOptions(shared=True)
URL = "https://shop.example/"
STEP = 100  # seconds; half of it is the least distance of two times that are compared, so that the clock cannot matter

DIRECTIVES = (
    "no-store", "no-cache", "private", "public", "must-revalidate", "proxy-revalidate", "ext", 'ext="max-age=9, no-store"',
    "max-age=0", "max-age=100", "MAX-AGE=500", "s-maxage=0", "s-maxage=300",
)  # fmt: skip
CONTROLS = (
    "",
    *DIRECTIVES,
    *(
        ", ".join(pair)
        for pair in combinations(DIRECTIVES, 2)
        if len({text.lower().split("=")[0] for text in pair}) == 2
    ),
)
STATUSES = (200, 203, 206, 299, 301, 302, 304, 308, 404, 410, 500, 501, 503, 599)
Head = dict[str, str]


def lines(texts: Head) -> list[tuple[bytes, bytes]]:
    return [(name.encode(), value.encode()) for name, value in texts.items()]


def ours(method: str, asked: Head, status: int, texts: Head, wall: float) -> Stored | Refused:
    return compiled(
        method=method, request=fields(lines(asked)), status=status, headers=lines(texts), asked=wall, now=wall, wall_now=wall
    )  # fmt: skip


def theirs(method: str, asked: Head, status: int, texts: Head) -> hishel.Response | None:
    """What hishel keeps; None where it keeps nothing."""
    miss = hishel.CacheMiss(options=OPTIONS, request=hishel.Request(method, URL, hishel.Headers({**asked})))
    state = miss.next(hishel.Response(status, hishel.Headers({**texts})))
    return state.response if isinstance(state, hishel.StoreAndUse) else None


def we_reuse(stored: Stored, asked: Head, wall: float) -> bool:
    found = fields(lines(asked))
    return reuse(select([stored], found), "GET", found, POLICY, wall).use is Use.HIT


def they_reuse(response: hishel.Response, first: Head, second: Head) -> bool:
    kept = hishel.Entry(uuid.uuid4(), hishel.Request("GET", URL, hishel.Headers({**first})), response)
    asked = hishel.Request("GET", URL, hishel.Headers({**second}))
    return isinstance(hishel.IdleClient(options=OPTIONS).next(asked, [kept]), hishel.FromCache)


def compare(first: Head, second: Head, texts: Head, *, status: int = 200, method: str = "GET") -> tuple[bool, bool]:
    """Whether it is stored, and reused: both say the same."""
    wall = time.time()
    mine, other = ours(method, first, status, texts, wall), theirs(method, first, status, texts)
    assert isinstance(mine, Stored) is (other is not None), (first, status, texts, mine)
    if not isinstance(mine, Stored) or other is None:
        return False, False
    found = we_reuse(mine, second, wall)
    assert found is they_reuse(other, first, second), (first, second, status, texts, mine)
    return True, found


@pytest.mark.parametrize("method", ["GET", "POST", "PUT"])
def test_both_store_the_same(method: str) -> None:
    seen = set()
    for status, control, signed in product(STATUSES, CONTROLS, (False, True)):
        asked = {"authorization": "Bearer x"} if signed else {}
        texts = {"cache-control": control} if control else {}
        seen.add(compare(asked, {}, texts, status=status, method=method)[0])
    assert seen == ({True, False} if method == "GET" else {False})


def test_both_find_the_same_fresh() -> None:
    wall, seen = time.time(), set()
    for control, date, expires, modified in product(CONTROLS, (-1, -5), (None, -3, 2, 9, "0"), (None, -20, -80)):
        given = wall + date * STEP - STEP // 2
        texts = {"date": formatdate(given, usegmt=True)}
        if control:
            texts["cache-control"] = control
        if expires is not None:
            texts["expires"] = expires if isinstance(expires, str) else formatdate(wall + expires * STEP, usegmt=True)
        if modified is not None:
            texts["last-modified"] = formatdate(given + modified * STEP, usegmt=True)
        seen.add(compare({}, {}, texts))
    assert seen == {(True, True), (True, False), (False, False)}


def test_both_select_the_same() -> None:
    languages: tuple[Head, ...] = ({}, {"accept-language": "en"}, {"accept-language": "de"})
    seen = set()
    for vary, first, second in product(
        ("", "Accept-Language", "accept-language, x-none", "x-none"), languages, languages
    ):
        texts = {"cache-control": "max-age=500", **({"vary": vary} if vary else {})}
        seen.add(compare(first, second, texts)[1])
    assert seen == {True, False}


@pytest.mark.parametrize("wish", ["no-cache", "no-cache, max-age=900", "", "ext"])
def test_both_heed_the_same_wish(wish: str) -> None:
    asked = {"cache-control": wish} if wish else {}
    assert compare({}, asked, {"cache-control": "max-age=500"}) == (True, "no-cache" not in wish)


@pytest.mark.parametrize("text", ['private="x-user"', 'no-cache="x-user"'])
def test_both_leave_out_the_fields_named(text: str) -> None:
    texts = {"cache-control": f"max-age=60, {text}", "x-user": "ann", "x-other": "1"}
    mine, other = ours("GET", {}, 200, texts, time.time()), theirs("GET", {}, 200, texts)
    assert isinstance(mine, Stored)
    assert other is not None
    for name in ("x-user", "x-other"):
        assert (name.encode() in dict(mine.headers)) is (name in other.headers) is (name == "x-other")
