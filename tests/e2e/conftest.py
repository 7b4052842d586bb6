"""Fixtures of the end-to-end tests: registrations on disk, a gateway as a process of its own, fake contexts, browsers."""

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path

import pytest
from playwright.async_api import Browser, async_playwright

from tests.e2e.browsers import ChromiumTab, View
from tests.e2e.firefox import Firefox
from tests.e2e.wire import Exchange, ask
from tests.fakes import FakeContext, free_port

BFF = Path(sys.executable).parent / "bff"
CHROMIUM = Path("/usr/bin/chromium")
FIREFOX = Path("/usr/bin/firefox-esr")
QUIET = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--no-first-run",
)

SHELL = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Shop</title></head>
<body><header>the top</header><main>SLOTS</main><footer>the end</footer></body></html>
"""


class Site:
    """The folder that a gateway serves, written by the test."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.fragments = root / "fragments"
        self.fragments.mkdir()
        self.settings({})

    def settings(self, settings: Mapping[str, object]) -> None:
        """Write bff.yaml (JSON is YAML)."""
        (self.root / "bff.yaml").write_text(json.dumps(settings))

    def context(
        self,
        name: str,
        registration: Mapping[str, object],
        *,
        upstream: str = "",
        files: Mapping[str, str] | None = None,
    ) -> None:
        """Write a context: its context.yaml (JSON is YAML) with an owner, an upstream where it has one, and its files."""
        head = {"owner": f"team-{name}"} | ({"upstream": upstream} if upstream else {})
        for path, text in (files or {}).items():
            self.write(f"{name}/{path}", text)
        self.write(f"{name}/context.yaml", json.dumps(head | dict(registration), indent=2))

    def page(
        self,
        slots: str,
        fragments: Mapping[str, object],
        *,
        upstream: str,
        page: Mapping[str, object] | None = None,
        files: Mapping[str, str] | None = None,
        **rest: object,
    ) -> None:
        """Write the context `shop` with one page at /page, whose shell holds `slots`; `rest` is more of its context.yaml."""
        entry = {"path": "/page", "template": "pages/page.html"} | dict(page or {})
        self.context(
            "shop",
            {"fragments": fragments, "pages": {"page": entry}} | rest,
            upstream=upstream,
            files={"pages/page.html": SHELL.replace("SLOTS", slots)} | dict(files or {}),
        )

    def write(self, path: str, text: str) -> None:
        """Write one file below `fragments/`, as an editor does: whole, in one step."""
        file = self.fragments / path
        file.parent.mkdir(parents=True, exist_ok=True)
        fresh = file.with_name(f".{file.name}.new")
        fresh.write_text(text)
        fresh.replace(file)


class Process:
    """A gateway running as `bff serve` or another command, with what it said."""

    def __init__(self, process: asyncio.subprocess.Process, origin: str, log: Path) -> None:
        self.process, self.origin, self.log = process, origin, log

    async def get(self, path: str, **headers: str) -> Exchange:
        return await self.ask(path, headers={name.replace("_", "-"): value for name, value in headers.items()})

    async def ask(
        self, path: str, *, method: str = "GET", headers: Mapping[str, str] | None = None, body: bytes = b""
    ) -> Exchange:
        return await ask(self.origin, path, method=method, headers=headers, body=body)

    async def status(self, path: str) -> int:
        """The status at `path`; 0 while nobody listens or answers."""
        try:
            async with await ask(self.origin, path) as answer:
                return answer.status
        except (OSError, AssertionError):
            return 0

    def logs(self) -> str:
        return self.log.read_text()

    async def ready(self, within: float = 20.0) -> None:
        """Wait until the probe says so, or fail at once when the process ends."""
        try:
            async with asyncio.timeout(within):
                while await self.status("/_bff/readyz") != 200:
                    if self.process.returncode is not None:
                        raise AssertionError(f"it ended with {self.process.returncode}; it said:\n{self.logs()}")
                    await asyncio.sleep(0.02)
        except TimeoutError:
            raise AssertionError(f"not ready within {within} s; it said:\n{self.logs()}") from None

    async def stop(self, within: float = 20.0) -> int:
        """Drain by SIGTERM; gives the exit code. One that will not end is killed, which is a failure."""
        if self.process.returncode is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return await asyncio.wait_for(self.process.wait(), within)
        except TimeoutError:
            self.process.kill()
            await self.process.wait()
            raise AssertionError(f"not ended within {within} s of SIGTERM; it said:\n{self.logs()}") from None


@contextlib.asynccontextmanager
async def running(
    *arguments: str, port: int, log: Path, env: Mapping[str, str] | None = None
) -> AsyncIterator[Process]:
    """Run `bff …` until the block ends, then drain it by SIGTERM and hold it to exit code 0.

    What it said goes to standard error, which pytest shows beside a failure only.
    """
    environment = {name: value for name, value in os.environ.items() if not name.startswith("BFF_")} | dict(env or {})
    with log.open("wb") as sink:
        process = await asyncio.create_subprocess_exec(str(BFF), *arguments, stdout=sink, stderr=sink, env=environment)
    gateway = Process(process, f"http://127.0.0.1:{port}", log)
    try:
        await gateway.ready()
        yield gateway
    finally:
        code = await gateway.stop()
        sys.stderr.write(f"── what `bff {arguments[0]}` said ──\n{gateway.logs()}\n")
    assert code == 0, f"bff {arguments[0]} ended with {code}"


def installed(program: Path) -> None:
    """A missing browser is a failure, never a test left out."""
    if not program.exists():
        pytest.fail(f"{program} is missing; install it: make browsers, or apt-get install {program.name}")


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


@pytest.fixture
async def context() -> AsyncIterator[FakeContext]:
    """A context's service; a test that needs two takes `other` too."""
    async with FakeContext() as fake:
        yield fake


@pytest.fixture
async def other() -> AsyncIterator[FakeContext]:
    async with FakeContext() as fake:
        yield fake


Serve = Callable[[], Awaitable[Process]]


@pytest.fixture
async def serve(site: Site, tmp_path: Path) -> AsyncIterator[Serve]:
    """Start `bff serve` on what the test has written into `site` by now."""
    async with contextlib.AsyncExitStack() as stack:

        async def start() -> Process:
            port = free_port()
            folders = ("--config", str(site.root / "bff.yaml"), "--fragments", str(site.fragments))
            where = ("--host", "127.0.0.1", "--port", str(port))
            return await stack.enter_async_context(
                running("serve", *folders, *where, port=port, log=tmp_path / "gateway.log")
            )

        yield start


@pytest.fixture(scope="session")
async def chromium() -> AsyncIterator[Browser]:
    """One Chromium for the session; every test opens contexts of its own."""
    installed(CHROMIUM)
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=str(CHROMIUM), args=list(QUIET))
        yield browser
        await browser.close()


@pytest.fixture(scope="session")
async def firefox(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Firefox]:
    """One Firefox for the session, with a profile of its own."""
    installed(FIREFOX)
    async with Firefox(FIREFOX, tmp_path_factory.mktemp("firefox")) as browser:
        yield browser


@pytest.fixture(params=["chromium", "firefox"])
async def any_browser(request: pytest.FixtureRequest, chromium: Browser, firefox: Firefox) -> AsyncIterator[View]:
    """A tab in each of the browsers, in turn."""
    view: View = await firefox.tab() if request.param == "firefox" else await ChromiumTab.open(chromium)
    yield view
    await view.close()
