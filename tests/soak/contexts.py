"""What the soak's gateway asks: one context that is well, and one for each fault, each misbehaving three times out of four.

Raw bytes over sockets; knows nothing of the gateway or of what is promised.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from typing import Final

from tests.e2e.gateway import Site
from tests.gateway.proxies import said
from tests.upstream.wire import Peer, Script, serving

HEAD: Final = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n"
JUNK: Final = (
    b"\x00\xff\x00 garbage\r\n\r\n",
    HEAD + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nxx",
    HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\nhello\r\n0\r\n\r\n",
    said(b"</body></html><plaintext>", content_type="text/html"),
    said(b"<div><table><tr><td>" * 400, content_type="text/html"),
    said(b"<p>\xff\xfe\xc3 <!-- ", content_type="text/html"),
)
POLICY: Final = {"timeout": {"first_byte": "200ms", "total": "400ms"}, "breaker": {"open": "1s"}}


def fine(head: bytes, dice: random.Random) -> bytes:
    """An answer that is kept for a while, or not at all."""
    path = head.split(b" ")[1]
    body = b"<section><h2>%b</h2>%b</section>" % (path, b"<p>words and words</p>" * dice.randrange(1, 200))
    return said(body, content_type="text/html", cache_control=dice.choice(["no-store", "max-age=1", "max-age=30"]))


async def slow(peer: Peer, dice: random.Random) -> bool:
    await asyncio.sleep(dice.uniform(0.05, 0.6))
    await peer.send(fine(b"GET /late HTTP/1.1", dice))
    return True


async def silent(peer: Peer, _: random.Random) -> bool:
    await peer.ended()
    return False


async def reset(peer: Peer, _: random.Random) -> bool:
    await peer.send(HEAD + b"Content-Length: 100\r\n\r\n<p>half")
    peer.reset()
    return False


async def torn(peer: Peer, _: random.Random) -> bool:
    await peer.send(HEAD + b"Content-Length: 100\r\n\r\n<p>half")
    return False


async def error(peer: Peer, dice: random.Random) -> bool:
    await peer.send(said(b"no", dice.choice(["500 No", "502 No", "503 No", "504 No"])))
    return True


async def huge(peer: Peer, dice: random.Random) -> bool:
    """Eight megabytes and more, of which the second is too much."""
    await peer.send(HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
    for _ in range(dice.choice([128, 256])):
        await peer.send(b"10000\r\n" + b"x" * 65536 + b"\r\n")
    return False


async def junk(peer: Peer, dice: random.Random) -> bool:
    await peer.send(dice.choice(JUNK))
    return False


FAULTS: Final = (slow, silent, reset, torn, error, huge, junk)
NAMES: Final = tuple(each.__name__ for each in FAULTS)


def failing(fault: Callable[[Peer, random.Random], Awaitable[bool]], dice: random.Random) -> Script:
    async def script(peer: Peer) -> None:
        while head := await peer.head():
            if dice.random() < 0.25:
                await peer.send(fine(head, dice))
            elif not await fault(peer, dice):
                return

    return script


def well(dice: random.Random) -> Script:
    async def script(peer: Peer) -> None:
        while head := await peer.head():
            if head.startswith(b"POST "):
                with suppress(asyncio.IncompleteReadError):  # whose client has left
                    await peer.send(said(b"%d" % await _body(peer, head), content_type="text/plain"))
            else:
                await peer.send(fine(head, dice))

    return script


async def _body(peer: Peer, head: bytes) -> int:
    """Reads it; how long it was."""
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return len(await peer.reader.readexactly(int(line[15:])))
    length = 0
    while size := int(await peer.reader.readuntil(b"\r\n"), 16):
        length += len((await peer.reader.readexactly(size + 2))[:-2])
    await peer.reader.readexactly(2)
    return length


async def serve(stack: AsyncExitStack, site: Site, dice: random.Random) -> None:
    """Start all contexts, and register them: a page whose primary is well (`/page/N`), one whose primary fails (`/frail/N`)."""
    fragment = {"path": "/{n}", "params": {"n": {"type": "int"}}, "tags": ["n:{n}"]}
    shells = {"page": "shop/main", "frail": "error/slot"}
    slots = "".join(f'<bff-fragment name="{name}/slot" n="{{path.n}}"></bff-fragment>' for name in NAMES)
    for name, fault in zip(NAMES, FAULTS, strict=True):
        fake = await stack.enter_async_context(serving(failing(fault, dice)))
        site.context(
            name, {"policy": POLICY, "fragments": {"slot": fragment}}, upstream=f"http://{fake.upstream.authority}"
        )
    fake = await stack.enter_async_context(serving(well(dice)))
    patient = {
        "timeout": {"connect": "5s", "first_byte": "5s", "total": "8s"}
    }  # a machine that stands still is no fault
    registration = {
        "policy": patient,
        "fragments": {"main": fragment, "side": fragment | {"path": "/side/{n}"}},
        "pages": {
            name: {"path": f"/{name}/{{n}}", "template": f"pages/{name}.html", "deadline": "9s"} for name in shells
        },
        "proxy": [{"path": "/upload", "to": "/upload", "methods": ["POST"], "cross_site": True}],
    }
    files = {f"pages/{name}.html": _shell(primary, slots) for name, primary in shells.items()}
    site.context("shop", registration, upstream=f"http://{fake.upstream.authority}", files=files)


def _shell(primary: str, slots: str) -> str:
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>Soak</title></head><body>'
        f'<bff-fragment name="{primary}" n="{{path.n}}" primary></bff-fragment>'
        f'<bff-fragment name="shop/side" n="{{path.n}}"></bff-fragment>{slots}<footer>the end</footer></body></html>\n'
    )


def settings() -> dict[str, object]:
    """A small store, so that it is full soon and what grows afterwards is something else."""
    return {"memory": "8MiB", "watch": False, "logging": {"access": False}, "limits": {"write": "5s"}}
