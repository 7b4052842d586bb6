"""What a shared HTTP cache does, as data: exchanges with a cache, and what of them shows that it behaves.

The behaviours are those that independent suites ask of caches (RFC 9110, 9111, 5861, 9213); `required` ones are what the
specifications demand, `optional` ones what a good cache does besides. Knows nothing of the gateway.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final, Literal

Value = str | int
"""Text, or a date so many seconds from when the origin answers."""
Lines = Sequence[tuple[str, Value]]
Seen = Literal["", "cached", "asked", "by-tag", "by-date"]
PAUSE: Final = 3.0  # seconds


@dataclass(frozen=True, kw_only=True)
class Step:
    """One request, the answer that the origin has for it, and what must become of both."""

    method: str = "GET"
    sent: Lines = ()
    body: str = ""
    path: str = ""  # "": the case's own
    origin: Lines = ()
    status: int = 200  # of the origin's answer
    text: str | None = None  # its body; None: the case's name
    early: tuple[tuple[int, Lines], ...] = ()  # answers before it that are not the last
    cut: bool = False  # the origin hangs up instead
    pause: bool = False  # before the next step
    seen: Seen = ""  # from the cache, by asking, or by asking whether it still holds
    got: int = 0  # the status that the client gets; 0: the origin's
    gives: str | None = None  # the body that it gets
    has: Lines = ()  # fields that the client gets; a number: more seconds than that; "=": as in the first answer
    lacks: Sequence[str] = ()
    asks: Lines = ()  # fields that the origin gets


@dataclass(frozen=True, kw_only=True)
class Case:
    name: str
    required: bool
    steps: tuple[Step, ...] = field(repr=False)


MAX: Final[tuple[str, Value]] = ("Cache-Control", "max-age=3600")
Line = tuple[str, Value]
DATE: Final[Line] = ("Date", 0)
FRESH: Final[Lines] = (("Expires", 100000), ("Cache-Control", "max-age=100000"), ("Last-Modified", 0), DATE)
STALE: Final[Lines] = (("Expires", -5000), ("Last-Modified", -100000), DATE)
SHORT: Final = Step(origin=[("Cache-Control", "max-age=2"), ("Template-A", "1")], pause=True)


def must(name: str, *steps: Step) -> Case:
    return Case(name=name, required=True, steps=steps)


def good(name: str, *steps: Step) -> Case:
    return Case(name=name, required=False, steps=steps)


def kept(name: str, *origin: tuple[str, Value], make: Callable[..., Case] = good, pause: bool = True) -> Case:
    """An answer with these fields is used again."""
    return make(name, Step(origin=origin, pause=pause), Step(seen="cached"))


def unkept(name: str, *origin: tuple[str, Value], pause: bool = True) -> Case:
    """An answer with these fields must not be used again."""
    return must(name, Step(origin=origin, pause=pause), Step(seen="asked"))


def cc(text: str) -> tuple[str, Value]:
    return ("Cache-Control", text)


def freshness() -> Iterator[Case]:
    yield kept("max-age", MAX)
    yield must("max-age, over", SHORT, Step(seen="asked"))
    yield unkept("max-age of 0", cc("max-age=0"))
    for number in (2**31 - 1, 2**31, 2**31 + 1, 99999999999):
        yield kept(f"max-age of {number}", cc(f"max-age={number}"))
    yield unkept("Age above max-age", DATE, MAX, ("Age", "7200"))
    yield kept("max-age before a past Expires", MAX, ("Expires", -7200), DATE)
    yield kept("max-age before an Expires that is none", MAX, ("Expires", "0"), DATE)
    yield unkept("max-age of 0 before a future Expires", ("Expires", 3600), cc("max-age=0"), DATE)
    yield kept("max-age beside an extension", cc("foobar, max-age=3600"))
    yield kept("MaX-aGe", cc("MaX-aGe=3600"))
    yield unkept("negative max-age", cc("max-age=-3600"))
    yield kept("s-maxage", cc("s-maxage=3600"))
    for text in ("max-age=3600, s-maxage=1", "s-maxage=1, max-age=3600"):
        yield unkept(f"short s-maxage: {text}", cc(text))
    yield unkept("short s-maxage on a line of its own", MAX, cc("s-maxage=1"))
    yield kept("long s-maxage", cc("max-age=1, s-maxage=3600"))
    yield kept("long s-maxage before a past Expires", ("Expires", -10), cc("max-age=0, s-maxage=3600"))


def directives() -> Iterator[Case]:
    yield unkept("max-age quoted in an extension, before", cc('extension="max-age=3600", max-age=1'))
    yield unkept("max-age quoted in an extension, after", cc('max-age=1, extension="max-age=3600"'))
    yield kept("max-age with leading zeros", cc("max-age=003600"), make=must)
    yield unkept("max-age in single quotes", cc("max-age='3600'"))
    yield unkept("private", cc("private, max-age=3600"), pause=False)
    yield unkept("no-store", cc("no-store"), pause=False)
    yield unkept("No-StOrE", cc("No-StOrE"), pause=False)
    yield unkept("no-store beside max-age", cc("max-age=10000, no-store"), ("Expires", 10000), DATE, pause=False)
    yield unkept("no-cache beside max-age", cc("max-age=10000, no-cache"), ("Expires", 10000), DATE, pause=False)
    yield unkept("No-CaChE beside max-age", cc("max-age=10000, No-CaChE"), ("Expires", 10000), DATE, pause=False)
    tag: Line = ("ETag", '"abcd"')
    yield good("no-cache is asked about", Step(origin=[cc("no-cache"), tag]), Step(origin=[tag], seen="by-tag"))
    fresh: list[Line] = [cc("max-age=10000, no-cache"), ("Expires", 10000), DATE, tag]
    yield good("no-cache is asked about though fresh", Step(origin=fresh), Step(origin=[tag], seen="by-tag"))
    yield kept("must-revalidate while fresh", cc("max-age=10000, must-revalidate"), tag, pause=False)
    again: list[Line] = [cc("max-age=2, must-revalidate"), tag]
    yield must(
        "must-revalidate once stale",
        Step(origin=again),
        Step(origin=again, seen="cached", pause=True),
        Step(origin=[tag], seen="by-tag"),
    )
    for text in ("no-store", "no-store, max-age=0"):
        yield must(
            f"{text} later on changes nothing that is fresh",
            Step(origin=[cc("max-age=10000"), DATE, ("A", "1")], pause=True),
            Step(origin=[cc(text), DATE, ("A", "2")], pause=True),
            Step(seen="cached", has=[("A", "1")]),
        )
    understood = [cc("max-age=3600, no-store, must-understand")]
    yield must("must-understand, unknown status", Step(origin=understood, status=599), Step(seen="asked"))
    yield good("must-understand, known status", Step(origin=understood), Step(seen="cached"))


def expires() -> Iterator[Case]:
    month = 30 * 24 * 3600
    yield kept("future Expires", ("Expires", month), DATE)
    yield unkept("past Expires", ("Expires", -month), DATE)
    yield unkept("present Expires", ("Expires", 0), DATE, pause=False)
    yield unkept("Expires before Date, both ahead", ("Expires", 300), ("Date", 400))
    yield unkept("Expires of 0", ("Expires", "0"), DATE)
    yield kept("Expires beside a Date that is none", ("Date", "foo"), ("Expires", 10), pause=False)
    yield unkept("Age above Expires, Date slow", ("Date", -10), ("Expires", 10), ("Age", "25"), pause=False)
    yield unkept("Age above Expires, Date fast", ("Date", 10), ("Expires", 20), ("Age", "15"), pause=False)
    for text in (
        "Tue, 19 Jan 2038 14:14:08 GMT", "Sun, 21 Nov 2286 04:46:39 GMT", "Thursday, 18-Aug-50 02:01:18 GMT",
        "Thu Aug  8 02:01:18 2050", "THU, 18 Aug 2050 02:01:18 GMT", "Thu, 18 AUG 2050 02:01:18 GMT",
        "Thu, 18 Aug 2050 02:01:18 gMT",
    ):  # fmt: skip
        yield kept(f"Expires: {text}", ("Expires", text), DATE)
    for text in (
        "Thu, 18 Aug 2050 02:01:18 UTC", "Thu, 18 Aug 2050 02:01:18 AEST", "Thu, 18 Aug 50 02:01:18 GMT",
        "Thu 18 Aug 2050 02:01:18 GMT", "Thu, 18  Aug  2050 02:01:18 GMT", "Thu, 18-Aug-2050 02:01:18 GMT",
        "Thu, 18 Aug 2050 02.01.18 GMT", "Thu, 18 Aug 2050 2:01:18 GMT",
    ):  # fmt: skip
        yield unkept(f"Expires that is no date: {text}", ("Expires", text), DATE)
    lines = [("Expires", f"Thu, 18 Aug 2050 2:01:{second} GMT") for second in (18, 19)]
    yield unkept("Expires twice", *lines, DATE, pause=False)


def ages() -> Iterator[Case]:
    for fresh in ("abc", "-7200", "7200.0", "0, 7200", "0, 0"):
        yield kept(f"Age: {fresh}", DATE, MAX, ("Age", fresh), make=must)
    for old in ("2147483647", "2147483648", "2147483649", "7200, 0"):
        yield unkept(f"Age: {old}", DATE, MAX, ("Age", old))
    yield unkept("Age on two lines, old first", DATE, MAX, ("Age", "7200"), ("Age", "0"))
    yield kept("Age on two lines, old last", DATE, MAX, ("Age", "0"), ("Age", "7200"), make=must)
    yield kept("Age twice 0", DATE, MAX, ("Age", "0"), ("Age", "0"), make=must)
    yield kept("Age twice, not old", DATE, cc("max-age=10000"), ("Age", "3600"), ("Age", "3600"), make=must)
    yield must("Age is told", Step(origin=FRESH, pause=True), Step(seen="cached", has=[("Age", 2)]))
    month = 30 * 24 * 3600
    aged = [("Expires", month), DATE, ("Age", "30")]
    yield must("Age goes on, by Expires", Step(origin=aged, pause=True), Step(seen="cached", has=[("Age", 32)]))
    aged = [*FRESH, ("Age", "30")]
    yield must("Age goes on, by max-age", Step(origin=aged, pause=True), Step(seen="cached", has=[("Age", 32)]))
    for name, line in (("max-age", cc("max-age=100000")), ("Expires", ("Expires", month))):
        told = [line, DATE]
        yield must(f"Date stays, by {name}", Step(origin=told, pause=True), Step(seen="cached", has=[("Date", "=")]))


def heuristics() -> Iterator[Case]:
    day: list[tuple[str, Value]] = [("Last-Modified", -24 * 3600), DATE]
    for status in (200, 203, 204, 404, 405, 410, 414, 501):
        yield good(f"{status} by guess", Step(origin=day, status=status), Step(status=status, seen="cached"))
    for status in (201, 202, 403, 502, 503, 504, 599):
        yield must(f"no guess for {status}", Step(origin=day, status=status), Step(status=status, seen="asked"))
    public = [*day, cc("public")]
    yield good("599 by guess where public", Step(origin=public, status=599), Step(status=599, seen="cached"))


def statuses() -> Iterator[Case]:
    for status in (200, 203, 204, 299, 301, 302, 303, 307, 308, 400, 404, 410, 499, 500, 502, 503, 504, 599):
        yield good(f"fresh {status}", Step(origin=FRESH, status=status, pause=True), Step(status=status, seen="cached"))
        yield must(f"stale {status}", Step(origin=STALE, status=status), Step(status=status, seen="asked"))


def variants() -> Iterator[Case]:
    base: list[tuple[str, Value]] = [cc("max-age=5000"), ("Last-Modified", -3000), DATE]

    def vary(name: str, fields: str, first: Lines, then: Lines, seen: Seen) -> Case:
        steps = Step(sent=first, origin=[*base, ("Vary", fields)]), Step(sent=then, seen=seen)
        return (good if seen == "cached" else must)(f"Vary: {name}", *steps)

    foo, other, bar, baz = ("Foo", "1"), ("Foo", "2"), ("Bar", "abc"), ("Baz", "789")
    yield vary("the same", "Foo", [foo], [foo], "cached")
    yield vary("another", "Foo", [foo], [other], "asked")
    yield vary("absent then", "Foo", [], [foo], "asked")
    yield vary("absent now", "Foo", [foo], [], "asked")
    told = [*base, ("Vary", "Foo")]
    yield good(
        "Vary: two kept",
        Step(sent=[foo], origin=told, text="one"),
        Step(sent=[other], origin=told, text="two", seen="asked"),
        Step(sent=[foo], seen="cached", gives="one"),
    )
    yield vary("other fields", "Foo", [foo, ("Other", "2")], [foo, ("Other", "3")], "cached")
    yield vary("two fields", "Foo, Bar", [foo, bar], [foo, bar], "cached")
    yield vary("two fields, another", "Foo, Bar", [foo, bar], [other, bar], "asked")
    yield vary("two fields, absent", "Foo, Bar", [foo, bar], [], "asked")
    yield vary("three fields", "Foo, Bar, Baz", [foo, bar, baz], [foo, bar, baz], "cached")
    yield vary("three fields, another", "Foo, Bar, Baz", [foo, bar, baz], [other, bar, baz], "asked")
    yield vary(
        "three fields, in another order", "Foo, Bar, Baz", [foo, bar, baz], [foo, baz, ("Bar", "abcde")], "asked"
    )
    yield vary("three fields, one absent", "Foo, Bar, Baz", [foo, baz], [foo, baz], "cached")
    yield vary("*", "*", [foo, baz], [foo, baz], "asked")
    yield vary("lines joined", "Foo", [("Foo", "1, 2")], [foo, other], "cached")
    yield vary("space", "Foo", [("Foo", "1,2")], [("Foo", " 1, 2 ")], "cached")
    languages = [("Accept-Language", "en, de")]
    for name, value in (("order", "de, en"), ("case", "eN, De"), ("space", " en ,   de")):
        yield vary(f"language, {name}", "Accept-Language", languages, [("Accept-Language", value)], "cached")
    chosen = [*base, ("Vary", "Accept-Language"), ("Content-Language", "de")]
    asked = [("Accept-Language", "fr;q=0.5, de;q=1.0")]
    yield good("Vary: language, chosen", Step(sent=languages, origin=chosen), Step(sent=asked, seen="cached"))
    for stars in (["*"], ["*, *"], ["*", "*"], [", *"], ["", "*"], ["*, Foo"], ["Foo, *"]):
        lines = [*base, *(("Vary", star) for star in stars)]
        yield must(f"Vary as {stars}", Step(sent=[foo, baz], origin=lines), Step(sent=[foo, baz], seen="asked"))


def conditions() -> Iterator[Case]:
    tag = [*FRESH, ("ETag", '"abcdef"')]

    def answered(
        name: str, sent: Lines, origin: Lines = tag, make: Callable[..., Case] = good, has: Lines = ()
    ) -> Case:
        return make(name, Step(origin=origin, pause=True), Step(sent=sent, seen="cached", got=304, has=has))

    named: Lines = [("If-None-Match", '"abcdef"')]
    yield answered("If-None-Match", named)
    yield answered("If-None-Match gets the tag", named, make=must, has=[("ETag", '"abcdef"')])
    both: Lines = [*named, ("If-Modified-Since", -1)]
    older = [*tag, ("Last-Modified", -5000)]
    yield answered("If-None-Match before If-Modified-Since", both, origin=older, make=must)
    weak = 'W/"abcdef"'
    yield answered("If-None-Match, weak", [("If-None-Match", weak)], origin=[*FRESH, ("ETag", weak)])
    for at, value in enumerate(('"abcdef", "1234", "5678"', '"1234", "abcdef", "5678"', '"1234", "5678", "abcdef"')):
        yield answered(f"If-None-Match, number {at} of three", [("If-None-Match", value)])
    told: list[Line] = [("Expires", 1), ("ETag", '"abcdef"'), DATE, ("Vary", "Abc")]
    yield must(
        "what selects goes with the question",
        Step(sent=[("Abc", "123")], origin=told, pause=True),
        Step(sent=[("Abc", "123")], origin=told, seen="by-tag", asks=[("Abc", "123")]),
    )
    for value in ('"abcdef"', weak):
        short = [*SHORT.origin, ("ETag", value)]
        asks = [("If-None-Match", value)]
        yield good(
            f"asked about by {value}", Step(origin=short, pause=True), Step(origin=short, seen="by-tag", asks=asks)
        )
    dated: list[tuple[str, Value]] = [cc("max-age=100000"), ("Last-Modified", "Wed, 01 Jan 2020 00:00:00 GMT"), DATE]
    yield answered("If-Modified-Since", [("If-Modified-Since", "Wed, 01 Jan 2020 00:00:00 GMT")], origin=dated)
    yield answered("If-Modified-Since, later", [("If-Modified-Since", "Thu, 02 Jan 2020 00:00:00 GMT")], origin=dated)
    short = [cc("max-age=2"), *dated[1:]]
    since: Lines = [("If-Modified-Since", "Wed, 01 Jan 2020 00:00:00 GMT")]
    yield good(
        "If-Modified-Since once stale",
        Step(origin=short, pause=True),
        Step(sent=since, origin=short, seen="by-date", got=304),
    )


FIELDS: Final[Sequence[tuple[str, str, str]]] = (
    ("Test-Header", "one", "two"), ("X-Test-Header", "one", "two"), ("Content-Foo", "one", "two"),
    ("X-Content-Foo", "one", "two"), ("Cache-Control", "max-age=1", "max-age=3600"), ("Content-Encoding", "one", "two"),
    ("Content-Location", "/foo", "/bar"), ("Content-MD5", "rL0Y20zC+Fzt72VPzMSk2A==", "N7UdGUp1E+RbVvZSTy1R8g=="),
    ("Content-Range", "one", "two"), ("Content-Security-Policy", "default-src 'self'", "default-src 'self' cdn.example.com"),
    ("Content-Type", "text/plain", "text/plain;charset=utf-8"), ("Clear-Site-Data", "cache", "cookies"),
    ("ETag", '"abcdef"', '"ghijkl"'), ("Expires", "Fri, 01 Jan 2038 01:01:01 GMT", "Mon, 11 Jan 2038 11:11:11 GMT"),
    ("Public-Key-Pins", "one", "two"), ("Set-Cookie", "a=b", "a=c"), ("Set-Cookie2", "a=b", "a=c"),
    ("X-Frame-Options", "deny", "sameorigin"), ("X-XSS-Protection", "1", "1; mode=block"),
)  # fmt: skip
OF_A_HOP: Final = ("Keep-Alive", "Proxy-Authenticate", "Proxy-Authentication-Info", "Proxy-Authorization", "Proxy-Connection",
                   "TE", "Upgrade")  # fmt: skip
RENEWED: Final = frozenset({"Test-Header", "X-Test-Header", "Content-Foo", "X-Content-Foo", "Cache-Control"})


def stored_fields() -> Iterator[Case]:
    listed: list[Line] = [*FRESH, ("Connection", "a, b"), ("a", "1"), ("b", "2"), ("c", "3")]
    yield must(
        "fields of Connection", Step(origin=listed, pause=True), Step(seen="cached", has=[("c", "3")], lacks=["a", "b"])
    )
    for name, _, value in FIELDS:
        lines = [DATE, (name, value), *([] if name == "Cache-Control" else [MAX])]
        yield must(f"{name} is kept", Step(origin=lines, pause=True), Step(seen="cached", has=[(name, value)]))
    yield must(
        "Content-Length is kept",
        Step(origin=[DATE, MAX], pause=True),
        Step(seen="cached", has=[("Content-Length", "24")]),
    )
    for name in (*OF_A_HOP, "Connection", "Transfer-Encoding"):
        lines = [DATE, (name, "x-one"), MAX]
        yield must(f"{name} is not kept", Step(origin=lines, pause=True), Step(seen="cached", lacks=[name]))


def renewals() -> Iterator[Case]:
    modified: Line = ("Last-Modified", "Wed, 01 Jan 2020 00:00:00 GMT")
    first: list[Line] = [cc("max-age=2"), modified, DATE, ("Test-Header", "one")]
    steps = Step(origin=first, pause=True), Step(origin=[modified, DATE], seen="by-date", has=[("Test-Header", "one")])
    yield must("a 304 keeps what it leaves out", *steps)
    for name, before, after in FIELDS:
        if name not in RENEWED:
            continue
        life = [] if name == "Cache-Control" else [cc("max-age=2")]
        tag: Line = ("ETag", '"a-tag"')
        yield must(
            f"a 304 renews {name}",
            Step(origin=[DATE, (name, before), *life, tag], pause=True),
            Step(origin=[DATE, (name, after), *life, tag], seen="by-tag", has=[(name, after)]),
            Step(seen="cached", has=[(name, after)]),
        )
    length: Line = ("ETag", '"length"')
    yield must(
        "a 304 leaves Content-Length",
        Step(origin=[DATE, cc("max-age=2"), length], pause=True, text="12345"),
        Step(
            origin=[DATE, cc("max-age=2"), length, ("Content-Length", "10")],
            seen="by-tag",
            has=[("Content-Length", "5")],
        ),
        Step(seen="cached", has=[("Content-Length", "5")]),
    )


def invalidations() -> Iterator[Case]:
    for method in ("POST", "PUT", "DELETE", "M-SEARCH"):
        change = Step(method=method, body="abc")
        yield must(f"{method} invalidates", Step(origin=FRESH, pause=True), change, Step(seen="asked"))
        failed = Step(method=method, body="abc", status=500)
        yield good(f"a failed {method} does not", Step(origin=FRESH, pause=True), failed, Step(seen="cached"))


def parts() -> Iterator[Case]:
    whole = Step(origin=[MAX, ("A", "1")], text="01234567890")
    for value, text in (("0-1", "01"), ("1-", "1234567890"), ("-1", "0")):
        part = Step(sent=[("Range", f"bytes={value}")], seen="cached", got=206, gives=text)
        yield good(f"bytes={value} of a whole", whole, part)
    served = Step(sent=[("Range", "bytes=0-1")], seen="cached", got=206, gives="01", has=[("A", "1")])
    yield must("a part has the fields of its whole", whole, served)
    yield must("a part has the fields that are kept", whole, served)
    tail = Step(
        sent=[("Range", "bytes=-5")], status=206, origin=[MAX, ("Content-Range", "bytes 4-9/10")], text="01234",
        asks=[("Range", "bytes=-5")],
    )  # fmt: skip
    for value, text in (("-5", "01234"), ("6-8", "234"), ("6-", "234"), ("-1", "4")):
        part = Step(sent=[("Range", f"bytes={value}")], seen="cached", got=206, gives=text)
        yield good(f"bytes={value} of a kept part", tail, part)
    yield good("a kept part is completed", tail, Step(asks=[("Range", "bytes=5-")]))


def stale() -> Iterator[Case]:
    tag: Line = ("ETag", '"abc"')
    window = Step(origin=[cc("max-age=1, stale-while-revalidate=3600"), tag], pause=True)
    yield good("stale-while-revalidate", window, Step(origin=[tag], seen="cached"))
    yield must(
        "stale-while-revalidate, over",
        Step(origin=[cc("max-age=1, stale-while-revalidate=4"), tag], pause=True),
        Step(origin=[cc("no-cache"), ("ETag", '"def"')], seen="cached", pause=True),
        Step(seen="asked"),
    )
    for text in ("must-revalidate", "proxy-revalidate", "no-cache", "s-maxage=2"):
        cut = Step(cut=True, lacks=["Count"], got=502)
        yield must(f"{text} forbids stale", Step(origin=[cc(f"max-age=2, {text}")], pause=True), cut)


def targeted() -> Iterator[Case]:
    def cdn(text: str) -> tuple[str, Value]:
        return ("CDN-Cache-Control", text)

    for number in (3600, 2**31, 99999999999):
        yield kept(f"CDN max-age of {number}", cdn(f"max-age={number}"))
    yield unkept("CDN max-age below Age", DATE, cdn("max-age=3600"), ("Age", "7200"))
    yield unkept("CDN max-age of 0", cdn("max-age=0"))
    yield kept("CDN max-age beside an extension", cdn("foobar, max-age=3600"))
    yield kept("CDN max-age before a past Expires", cdn("max-age=3600"), ("Expires", -10000), DATE)
    yield kept("CDN max-age before an Expires that is none", cdn("max-age=3600"), ("Expires", "0"), DATE)
    yield unkept("CDN max-age of 0 before a future Expires", cdn("max-age=0"), ("Expires", 10000), DATE)
    yield kept("long CDN max-age", cc("max-age=1"), cdn("max-age=3600"))
    yield unkept("short CDN max-age", MAX, cdn("max-age=1"))
    rest: list[tuple[str, Value]] = [cc("max-age=10000"), ("Expires", 10000), DATE]
    for text in ("private", "no-cache", "no-store"):
        yield unkept(f"CDN {text}", cdn(text), *rest, pause=text == "no-store")
    yield kept("CDN max-age before no-store", cc("no-store"), cdn("max-age=10000"), make=must)
    for text in ("max-age=10000, &&&&&", 'max-age="10000"'):
        yield unkept(f"CDN that is none: {text}", cdn(text), cc("no-store"))


def others() -> Iterator[Case]:
    def query(value: str, seen: Seen) -> tuple[Step, Step]:
        return Step(origin=FRESH, path="?test=1", pause=True), Step(path=f"?test={value}", seen=seen)

    yield must("another query, another answer", *query("2", "asked"))
    yield good("the same query", *query("1", "cached"))
    yield kept("Set-Cookie", *FRESH, ("Set-Cookie", "a=b"))
    yield good("a request's Cookie", Step(origin=FRESH, pause=True), Step(sent=[("Cookie", "a=b")], seen="cached"))
    credential = [("Authorization", "FOO")]
    yield must("Authorization", Step(sent=credential, asks=credential, origin=FRESH, pause=True), Step(seen="asked"))
    for text in ("max-age=3600, public", "max-age=3600, must-revalidate", "s-maxage=3600"):
        first = Step(sent=credential, asks=credential, origin=[cc(text), DATE], pause=True)
        yield good(f"Authorization with {text}", first, Step(seen="cached"))
    own = Step(
        method="POST", body="12345", origin=[("Expires", 30 * 24 * 3600), ("Content-Location", ""), DATE], pause=True
    )
    yield good("a POST's answer for GET", own, Step(seen="cached"))
    link: Lines = [("link", "</styles.css>; rel=preload; as=style"), ("x-my-header", "test")]
    final = [cc("max-age=100000"), DATE]
    yield good("102 passes", Step(early=((102, []),), origin=final, pause=True), Step(seen="cached"))
    yield good("103 passes", Step(early=((103, link),), origin=final, pause=True), Step(seen="cached"))
    yield must("103 is not kept", Step(early=((103, link[:1]),), origin=final, pause=True), Step(seen="cached"))
    first = Step(early=((103, link),), origin=final, pause=True, lacks=["x-my-header"])
    yield good("103's fields are not kept", first, Step(seen="cached", lacks=["x-my-header"]))


def cases() -> tuple[Case, ...]:
    """All of them; each name once."""
    makers = (
        freshness, directives, expires, ages, heuristics, statuses, variants, conditions, stored_fields, renewals,
        invalidations, parts, stale, targeted, others,
    )  # fmt: skip
    found = tuple(case for make in makers for case in make())
    names = sorted(case.name for case in found)
    assert not [one for one, two in pairwise(names) if one == two]
    return found
