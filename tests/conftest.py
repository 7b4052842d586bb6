"""What every test shares. Owns the backend of async tests; knows nothing of the gateway.

respx intercepts httpx alone; under its alias `import httpx` is httpx2, so the alias comes before any other import.
"""

import httpx2

httpx2.alias_httpx()

import pytest  # noqa: E402 - the alias must stand before anything that might import httpx


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """The gateway runs on asyncio alone."""
    return "asyncio"
