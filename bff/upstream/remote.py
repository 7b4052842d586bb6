"""Rare documents from elsewhere (key sets), over httpx2: whatever is not the hot path. The only importer of httpx2.

No redirects, no cookies, no proxy from the environment, no content coding, a cap on the body, one wall-clock deadline: what
a client of its own would bound is bounded here too.
"""

from __future__ import annotations

import json
import ssl
from http.cookiejar import CookieJar, DefaultCookiePolicy
from types import TracebackType
from typing import Any, Final, Self

import anyio
import httpx2

MAX_BYTES: Final = 1024 * 1024  # a key set has a few KiB
TIMEOUT: Final = 5.0  # seconds; nobody waits for these documents


class RemoteFailed(Exception):
    """The document could not be had; the message says why."""


class Remote:
    """A client for rare documents; an async context manager."""

    def __init__(self) -> None:
        self._client = httpx2.AsyncClient(
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),  # a jar crosses users; this one stays empty
            follow_redirects=False,
            headers={"accept-encoding": "identity"},
            timeout=None,  # times of single reads bound nothing; `get_json` has a deadline
            trust_env=False,
            verify=ssl.create_default_context(),  # the system's authorities, as for contexts
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._client.aclose()

    async def get_json(self, url: str, *, timeout: float = TIMEOUT, max_bytes: int = MAX_BYTES) -> Any:
        """The JSON at `url`. Raises `RemoteFailed` for anything but a 200 with valid JSON of at most `max_bytes`."""
        try:
            with anyio.fail_after(timeout):
                return json.loads(await self._get(url, max_bytes))
        except TimeoutError as error:
            raise RemoteFailed(f"{url}: not complete within {timeout:g}s") from error
        except (httpx2.HTTPError, httpx2.InvalidURL, ValueError, RecursionError) as error:
            raise RemoteFailed(f"{url}: {error or type(error).__name__}") from error

    async def _get(self, url: str, max_bytes: int) -> bytes:
        async with self._client.stream("GET", url) as response:
            if response.status_code != 200:
                raise RemoteFailed(f"{url}: answered {response.status_code}")
            if response.headers.get("content-encoding", "identity") != "identity":
                raise RemoteFailed(f"{url}: a content coding was not asked for")
            parts: list[bytes] = []
            size = 0
            async for part in response.aiter_raw():
                size += len(part)
                if size > max_bytes:
                    raise RemoteFailed(f"{url}: more than {max_bytes} bytes")
                parts.append(part)
            return b"".join(parts)
