"""Content codings: which is chosen, that every chunk can be decoded at once, and what is left alone."""

import sys
import zlib
from collections.abc import Callable
from itertools import product

import brotli
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bff.gateway import compress
from bff.gateway.compress import CODINGS, Coding, asked, best, chosen, compressible, encoded, encoder, fed
from bff.gateway.problems import Answer, Fields

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

pytestmark = pytest.mark.anyio


def decoder(coding: Coding) -> Callable[[bytes], bytes]:
    """What a client makes of each chunk, without waiting for the next."""
    match coding:
        case "zstd":
            return zstd.ZstdDecompressor().decompress
        case "br":
            made = brotli.Decompressor()
            return lambda data: bytes(made.process(data))
        case _:
            return zlib.decompressobj(31).decompress


CASES: list[tuple[bytes, Coding | None]] = [
    (b"gzip, deflate, br, zstd", "zstd"),
    (b"gzip, deflate, br", "br"),
    (b"gzip", "gzip"),
    (b"x-gzip", "gzip"),
    (b"GZIP;Q=0.5", "gzip"),
    (b"br;q=0.5, gzip;q=0.8, zstd;q=0.1", "gzip"),
    (b"br ; q=1.0 , gzip", "br"),
    (b"*", "zstd"),
    (b"zstd;q=0, *", "br"),
    (b"*;q=0.3, gzip;q=0.4", "gzip"),
    (b"*;q=0", None),
    (b"gzip;q=0, *;q=0", None),
    (b"gzip;q=0", None),
    (b"gzip;q=0.000", None),
    (b"gzip, identity;q=0", "gzip"),
    (b"identity;q=0", None),
    (b"identity;q=0, *;q=0", None),
    (b"identity, gzip;q=0.5", None),
    (b"identity;q=0.5, gzip;q=0.5", "gzip"),
    (b"identity", None),
    (b"deflate, compress", None),
    (b"", None),
    (b",, ;q=1, gzip;q=1.001, br;q=nan, zstd;q=-1", None),
    (b"gzip;foo=bar;q=0.2", "gzip"),
    (b"\xff\xfe, gzip", "gzip"),
]


@pytest.mark.parametrize(("accept", "coding"), CASES, ids=[repr(case[0]) for case in CASES])
def test_the_best_accepted_coding(accept: bytes, coding: Coding | None) -> None:
    assert chosen(accept) == coding
    assert asked({b"accept-encoding": accept}) == coding


def test_what_is_not_asked_for() -> None:
    assert asked({}) is None
    assert asked({b"accept-encoding": b"gzip," * 1000}) is None, "nobody's preferences are that long"


@given(st.binary(max_size=40))
def test_any_header_is_read(accept: bytes) -> None:
    assert chosen(accept) in (None, *CODINGS)


@pytest.mark.parametrize("coding", CODINGS)
@given(chunks=st.lists(st.binary(max_size=2000), min_size=1, max_size=8))
def test_every_chunk_can_be_decoded_to_its_last_byte(coding: Coding, chunks: list[bytes]) -> None:
    made, read = encoder(coding), decoder(coding)
    for chunk in chunks:
        assert read(made.chunk(chunk, last=False) or b"") == chunk
    assert read(made.chunk(b"the end", last=True)) == b"the end"


def test_a_compressor_is_lent_again_once_its_frame_has_ended() -> None:
    idle: compress.Idle = []
    one = encoder("zstd", idle)
    first = one.chunk(b"one", last=False)
    other = encoder("zstd", idle)
    assert idle == [], "both are in use"
    assert zstd.decompress(other.chunk(b"other", last=True)) == b"other"
    [lent] = idle
    again = encoder("zstd", idle)
    assert idle == []
    assert zstd.decompress(again.chunk(b"again" * 9, last=True)) == b"again" * 9, "nothing of the frame before"
    assert idle == [lent]
    assert zstd.decompress(first + one.chunk(b" more", last=True)) == b"one more"
    for each in [encoder("zstd") for _ in range(99)]:
        each.chunk(b"", last=True)
    for each in [encoder("zstd", idle) for _ in range(99)]:
        each.chunk(b"", last=True)
    assert len(idle) == compress._SPARE


@pytest.mark.parametrize(("coding", "size"), [*product(CODINGS, (0, 5, 5000, compress.LARGE + 1))])
async def test_whole_bodies(coding: Coding, size: int) -> None:
    body = b"a course " * (size // 9) + b"x"
    assert decoder(coding)(await fed(encoder(coding), body, last=True)) == body
    assert decoder(coding)(best(coding, body)) == body


def answer(body: bytes = b"a" * 5000, **headers: bytes) -> Answer:
    named: Fields = [(name.replace("_", "-").encode(), value) for name, value in headers.items()]
    return Answer(200, [(b"content-type", b"text/html"), (b"content-length", b"%d" % len(body)), *named], body)


async def test_a_whole_answer_is_relabelled() -> None:
    told = await encoded(answer(etag=b'"x"', vary=b"Accept"), "br")
    headers = dict(told.headers)
    assert headers == {
        b"content-type": b"text/html",
        b"etag": b'W/"x"',
        b"vary": b"Accept, Accept-Encoding",
        b"content-encoding": b"br",
        b"content-length": b"%d" % len(told.body),
    }
    assert len(headers) == len(told.headers)
    assert brotli.decompress(told.body) == b"a" * 5000


async def test_headers_that_are_right_already_stay() -> None:
    told = dict((await encoded(answer(etag=b'W/"x"', vary=b"accept-encoding, Origin"), "gzip")).headers)
    assert (told[b"etag"], told[b"vary"]) == (b'W/"x"', b"accept-encoding, Origin")
    assert dict((await encoded(answer(), "gzip")).headers)[b"vary"] == b"Accept-Encoding"


@pytest.mark.parametrize(
    "given",
    [
        answer(b"short"),
        answer(content_encoding=b"br"),
        answer(cache_control=b"private, No-Transform"),
        Answer(200, [(b"content-type", b"image/png")], b"x" * 5000),
        Answer(200, [], b"x" * 5000),
        Answer(204, []),
    ],
    ids=["tiny", "encoded already", "no-transform", "an image", "of no type", "empty"],
)
async def test_what_is_left_alone(given: Answer) -> None:
    assert await encoded(given, "zstd") is given


async def test_nothing_is_done_unasked() -> None:
    given = answer()
    assert await encoded(given, None) is given


@pytest.mark.parametrize(
    "kind",
    [
        b"text/css",
        b"application/json",
        b"application/problem+json",
        b"Application/LD+JSON; charset=utf-8",
        b"application/x-ndjson",
        b"application/javascript",
        b"application/manifest+json",
        b"image/svg+xml",
        b"application/xhtml+xml",
    ],
)
def test_text_is_compressible(kind: bytes) -> None:
    assert compressible([(b"content-type", kind)])


@pytest.mark.parametrize("kind", [b"image/webp", b"font/woff2", b"application/zip", b"video/mp4", b"application/pdf"])
def test_other_things_are_not(kind: bytes) -> None:
    assert not compressible([(b"content-type", kind)])
