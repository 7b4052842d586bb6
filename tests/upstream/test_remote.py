"""Rare documents: what is asked, and everything that is not one."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import httpx  # httpx2, by the alias of conftest: what respx knows
import pytest
import respx

from bff.upstream.remote import Remote, RemoteFailed
from tests.upstream.wire import MovableClock, Peer, advance, serving

pytestmark = pytest.mark.anyio
URL = "https://issuer.example/keys.json"


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    return "asyncio", {"loop_factory": MovableClock}


@pytest.fixture
def router() -> Iterator[respx.MockRouter]:
    with respx.mock() as router:
        yield router


async def test_a_document_is_asked_for_plainly(router: respx.MockRouter) -> None:
    route = router.get(URL).respond(json={"keys": []})
    async with Remote() as remote:
        assert await remote.get_json(URL) == {"keys": []}
    request = route.calls.last.request
    assert request.headers["accept-encoding"] == "identity"
    assert "cookie" not in request.headers


async def test_a_cookie_is_never_sent_back(router: respx.MockRouter) -> None:
    route = router.get(URL).respond(json={}, headers={"set-cookie": "a=b; Path=/"})
    async with Remote() as remote:
        await remote.get_json(URL)
        await remote.get_json(URL)
    assert "cookie" not in route.calls.last.request.headers


@pytest.mark.parametrize(
    ("response", "why"),
    [
        (httpx.Response(302, headers={"location": "http://169.254.169.254/"}), "answered 302"),
        (httpx.Response(500), "answered 500"),
        (httpx.Response(204), "answered 204"),
        (httpx.Response(200, text="{"), "Expecting"),
        (httpx.Response(200, content=b"\xff\xfe\xfd"), "decode"),
        (httpx.Response(200, content=b"[" * 900_000), "recursion"),
        (httpx.Response(200, content=b" " * 1025 * 1024), "more than 1048576 bytes"),
        (httpx.Response(200, content=b"{}", headers={"content-encoding": "sdch"}), "content coding"),
    ],
)
async def test_anything_else_is_a_failure(router: respx.MockRouter, response: httpx.Response, why: str) -> None:
    router.get(URL).mock(return_value=response)
    async with Remote() as remote:
        with pytest.raises(RemoteFailed, match=why) as failed:
            await remote.get_json(URL)
    assert str(failed.value).startswith(URL)
    assert len(router.calls) == 1


@pytest.mark.parametrize("url", ["ftp://a/", "keys.json", "http://[", "http://127.0.0.1:1/"])
async def test_where_nothing_can_be_asked(url: str) -> None:
    async with Remote() as remote:
        with pytest.raises(RemoteFailed):
            await remote.get_json(url)


async def test_proxies_of_the_environment_are_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")

    async def script(peer: Peer) -> None:
        await peer.head()
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")

    async with serving(script) as fake, Remote() as remote:
        assert await remote.get_json(f"http://{fake.upstream.authority}/") == {}


async def test_a_body_that_trickles_ends_at_the_deadline() -> None:
    asked = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.head()
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{")
        asked.set()
        await peer.ended()

    async with serving(script) as fake, Remote() as remote:
        asking = asyncio.create_task(remote.get_json(f"http://{fake.upstream.authority}/", timeout=5.0))
        await asked.wait()
        await advance(5.1)
        with pytest.raises(RemoteFailed, match="not complete within 5s"):
            await asking
