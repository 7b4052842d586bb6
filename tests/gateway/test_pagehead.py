"""Pages in a content coding: the same bytes, chunk by chunk, and nothing for who does not ask."""

from typing import Any

import pytest

from bff.gateway import compress
from bff.gateway.compress import CODINGS, Coding
from bff.gateway.identity import Identity
from bff.model import Forward, Page
from tests.build import World, document, fragment, page, slot
from tests.gateway.test_compress import decoder
from tests.gateway.test_pages import Asked, Site

pytestmark = pytest.mark.anyio

MAIN = fragment("shop/main", layer={"cache.fresh": "10s"})
SIDE = fragment("shop/side", layer={"cache.fresh": "10s"})
OWN = fragment("shop/own", forward=Forward(cookies=("session",)))
ALL = {each.name: each for each in (MAIN, SIDE, OWN)}
PROSE = b"<p>What stands in the shell itself.</p>" * 40
SHOP = page(document(PROSE, slot(1, "shop/main", kind="primary"), slot(2, "shop/side", placeholder=(b"wait",))))
MINE = page(document(PROSE, slot(1, "shop/own", key="own")), "/mine", name="shop/mine")
PLAIN = page(document(PROSE), "/plain", name="shop/plain")
SMALL = page(document(b"small"), "/small", name="shop/small")


class Shop(Site):
    def __init__(self, *pages: Page, identity: Identity | None = None) -> None:
        super().__init__(*pages)
        self.world = World(*pages, fragments=ALL)
        for name in ("planner", "resolver", "timer"):
            where = name if name == "planner" else f"_{name}"
            setattr(self.pages, where, getattr(self.world, name))
        self.pages._telemetry, self.pages._clock = self.world.seen, self.world.loop.time


def decoded(asked: Asked, coding: Coding) -> list[bytes]:
    """The body's chunks as a client reads them, each when it arrives."""
    read = decoder(coding)
    chunks = [asked.now[2]] if asked.now is not None else [message["body"] for message in asked.sent[1:]]
    return [read(chunk) if chunk else b"" for chunk in chunks]


@pytest.mark.parametrize("coding", CODINGS)
async def test_the_first_flush_is_readable_before_any_fragment_has_come(coding: Coding) -> None:
    site = Shop(SHOP)
    asked = site.ask(accept_encoding=coding)
    site.world.upstreams.to("/main").reply(b"<p>main</p>")
    await asked.settle()
    assert not asked.done
    assert asked.headers[b"content-encoding"] == coding.encode()
    assert b"Accept-Encoding" in asked.headers[b"vary"]
    assert b"content-length" not in asked.headers
    [first] = decoded(asked, coding)
    assert first.startswith(b"<!doctype html>")
    assert first.endswith(b"<?end>")
    site.world.upstreams.to("/side").reply(b"<p>side</p>")
    await asked.settle()
    assert asked.done
    last = decoded(asked, coding)[-1]
    assert b"<p>side</p></bff-fragment></template><wbr hidden>" in last
    assert last.endswith(b"</noscript></body></html>")


@pytest.mark.parametrize("coding", CODINGS)
async def test_a_page_from_the_store_has_its_encoded_length(coding: Coding) -> None:
    site = Shop(SHOP)
    first = site.ask()
    for target in ("/main", "/side"):
        site.world.upstreams.to(target).reply(b"<p>x</p>")
    await first.settle()
    asked = site.ask(accept_encoding=coding)
    assert asked.now is not None
    assert int(asked.headers[b"content-length"]) == len(asked.body) < len(first.body)
    [whole] = decoded(asked, coding)
    assert whole.endswith(b"</body></html>")


@pytest.mark.parametrize("accept", ["identity", "deflate", "gzip;q=0", ""])
async def test_who_asks_for_none_gets_none(accept: str) -> None:
    asked = Shop(PLAIN).ask("/plain", accept_encoding=accept)
    assert b"content-encoding" not in asked.headers
    assert PROSE in asked.body


async def test_a_tiny_page_is_left_alone() -> None:
    asked = Shop(SMALL).ask("/small", accept_encoding="zstd")
    assert b"content-encoding" not in asked.headers
    assert int(asked.headers[b"content-length"]) == len(asked.body)
    assert b"small" in asked.body


async def test_a_large_page_is_encoded_off_the_loop() -> None:
    large = page(document(b"<p>long</p>" * compress.LARGE), "/large", name="shop/large")
    asked = Shop(large).ask("/large", accept_encoding="br")
    assert asked.now is None, "the loop would have been held up"
    assert asked.task is not None
    await asked.task
    assert int(asked.headers[b"content-length"]) == len(asked.body)
    [whole] = decoded(asked, "br")
    assert whole.endswith(b"</body></html>")


@pytest.mark.parametrize(("path", "coding"), [("/p", b"gzip"), ("/small", None)])
async def test_head_says_what_get_would_where_that_is_certain(path: str, coding: bytes | None) -> None:
    site = Shop(SHOP, SMALL)
    asked = site.ask(path, "HEAD", accept_encoding="gzip")
    if asked.task is not None:
        site.world.upstreams.to("/main").reply(b"<p>main</p>")
        await asked.settle()
    assert asked.body == b""
    assert asked.headers.get(b"content-encoding") == coding


async def test_the_json_forms_are_encoded_too() -> None:
    for kind, end in (("application/x-ndjson", b'"done":true'), ("application/json", b'"slots":')):
        site = Shop(SHOP)
        asked = site.ask(accept=kind, accept_encoding="zstd")
        site.world.upstreams.to("/main").reply(b"<p>main</p>" * 200)
        site.world.upstreams.to("/side").reply(b"<p>side</p>")
        await asked.settle()
        assert asked.headers[b"content-encoding"] == b"zstd"
        assert end in b"".join(decoded(asked, "zstd"))


SITES: list[tuple[str, str | None, bool]] = [
    ("/mine", "cross-site", False),
    ("/mine", "same-site", False),
    ("/mine", "same-origin", True),
    ("/mine", "none", True),
    ("/mine", None, True),
    ("/p", "cross-site", True),
]


@pytest.mark.parametrize(("path", "site", "encoded"), SITES)
async def test_lengths_tell_no_other_site_of_anybodys_own(path: str, site: str | None, *, encoded: bool) -> None:
    shop = Shop(SHOP, MINE)
    headers: dict[str, Any] = {"accept_encoding": "gzip"} | ({"sec_fetch_site": site} if site else {})
    asked = shop.ask(path, **headers)
    if path == "/p":
        shop.world.upstreams.to("/main").reply(b"<p>main</p>")
    await asked.settle()
    assert (b"content-encoding" in asked.headers) is encoded
    assert asked.task is not None
    asked.task.cancel()
