"""A gateway as a process of its own, and the registrations it serves, as the tests write them."""

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from pathlib import Path

from tests.e2e.wire import Exchange, ask

BFF = Path(sys.executable).parent / "bff"
SHELL = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Shop</title><link rel="icon" href="data:,"></head>
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
    *arguments: str, port: int, log: Path, ready: float = 20.0, command: Sequence[str] = (str(BFF),)
) -> AsyncIterator[Process]:
    """Run `bff …` until the block ends, then drain it by SIGTERM and hold it to exit code 0.

    What it said goes to standard error, which pytest shows beside a failure only.
    """
    environment = {name: value for name, value in os.environ.items() if not name.startswith("BFF_")}
    with log.open("wb") as sink:
        process = await asyncio.create_subprocess_exec(*command, *arguments, stdout=sink, stderr=sink, env=environment)
    gateway = Process(process, f"http://127.0.0.1:{port}", log)
    try:
        await gateway.ready(ready)
        yield gateway
    finally:
        code = await gateway.stop()
        sys.stderr.write(f"── what `bff {arguments[0]}` said ──\n{gateway.logs()}\n")
    assert code == 0, f"bff {arguments[0]} ended with {code}"


Serve = Callable[[], Awaitable[Process]]
"""Start `bff serve` on what the test has written by now."""
