"""Firefox, driven over WebDriver BiDi: the few commands that these tests need. Only importer of websockets.

W3C WebDriver BiDi (https://w3c.github.io/webdriver-bidi/): JSON commands with ids over one web socket.
"""

import asyncio
import base64
import itertools
import json
from pathlib import Path
from typing import Any, Self

from websockets.asyncio.client import ClientConnection, connect

from tests.e2e.browsers import WITNESS
from tests.fakes import until

PREFERENCES = {
    "browser.shell.checkDefaultBrowser": False,
    "browser.startup.homepage_override.mstone": "ignore",
    "browser.download.folderList": 2,
    "browser.download.alwaysOpenPanel": False,
    "browser.tabs.remote.warmup.enabled": False,
    "datareporting.policy.dataSubmissionEnabled": False,
    "app.update.disabledForTesting": True,
    "network.captive-portal-service.enabled": False,
    "network.connectivity-service.enabled": False,
    "services.settings.server": "data:,#remote-settings-dummy/v1",
    "toolkit.telemetry.enabled": False,
    "remote.prefs.recommended": True,
}


class Firefox:
    """A headless Firefox with a fresh profile in `folder`; what it downloads lies in `downloads`.

    `scripts`: whether pages may run any, as `javascript.enabled` says.
    """

    def __init__(self, program: Path, folder: Path, *, scripts: bool = True) -> None:
        self._program, self._folder = program, folder
        self.scripts = scripts
        self.downloads = folder / "downloads"
        self._ids = itertools.count(1)
        self._answers: dict[int, asyncio.Future[Any]] = {}

    async def __aenter__(self) -> Self:
        self.downloads.mkdir()
        wanted = PREFERENCES | {"javascript.enabled": self.scripts, "browser.download.dir": str(self.downloads)}
        preferences = (f"user_pref({json.dumps(name)}, {json.dumps(value)});\n" for name, value in wanted.items())
        (self._folder / "user.js").write_text("".join(preferences))
        with (self._folder / "firefox.log").open("wb") as log:
            self._process = await asyncio.create_subprocess_exec(
                str(self._program), "--headless", "--no-remote", "--remote-debugging-port=0", "--profile", str(self._folder),
                stdout=log, stderr=log, env={"HOME": str(self._folder), "PATH": "/usr/bin:/bin", "MOZ_CRASHREPORTER_DISABLE": "1"},
            )  # fmt: skip
        try:
            self._socket = await self._connect()
        except BaseException:
            await self._end()
            raise
        self._reading = asyncio.create_task(self._read())
        await self.command("session.new", capabilities={})
        if self.scripts:
            await self.command("script.addPreloadScript", functionDeclaration=f"() => {{ {WITNESS} }}")
        return self

    async def __aexit__(self, *failure: object) -> None:
        self._reading.cancel()
        await asyncio.gather(self._reading, return_exceptions=True)
        await self._socket.close()
        await self._end()

    async def _connect(self) -> ClientConnection:
        """Firefox writes where it listens into its profile; the file may be there before the port is."""
        place = self._folder / "WebDriverBiDiServer.json"
        await until(lambda: place.exists() and place.read_text().endswith("}"), "Firefox listens", within=60)
        where = json.loads(place.read_text())
        return await connect(f"ws://{where['ws_host']}:{where['ws_port']}/session", max_size=None)

    async def _end(self) -> None:
        if self._process.returncode is None:
            self._process.terminate()
        try:
            await asyncio.wait_for(self._process.wait(), 20)
        except TimeoutError:
            self._process.kill()
            await self._process.wait()

    async def _read(self) -> None:
        async for text in self._socket:
            message = json.loads(text)
            waiting = self._answers.pop(message.get("id"), None)
            if waiting is not None and not waiting.done():
                waiting.set_result(message)

    async def command(self, method: str, **params: Any) -> Any:
        """Run one command; gives its result, raises AssertionError with the browser's own words."""
        number = next(self._ids)
        answer = self._answers[number] = asyncio.get_running_loop().create_future()
        await self._socket.send(json.dumps({"id": number, "method": method, "params": params}))
        message = await asyncio.wait_for(answer, 30)
        assert message["type"] == "success", f"{method}: {message.get('error')}: {message.get('message')}"
        return message["result"]

    async def tab(self) -> "Tab":
        return Tab(self, (await self.command("browsingContext.create", type="tab"))["context"])


class Tab:
    """One tab."""

    def __init__(self, browser: Firefox, context: str) -> None:
        self._browser, self._context = browser, context

    async def goto(self, url: str) -> None:
        """Start to navigate; the page may stream for as long as it likes."""
        await self._browser.command("browsingContext.navigate", context=self._context, url=url, wait="none")

    async def evaluate(self, expression: str) -> Any:
        """The value of a JavaScript expression, by way of JSON; exceptions in the page fail the test.

        Where the page may run no scripts, only what needs no promise: those never resolve there.
        """
        waiting, plain = f"(async () => JSON.stringify(await ({expression})))()", f"JSON.stringify({expression})"
        result = await self._browser.command(
            "script.evaluate",
            expression=waiting if self._browser.scripts else plain,
            target={"context": self._context},
            awaitPromise=self._browser.scripts,
        )
        assert result["type"] == "success", result["exceptionDetails"]["text"]
        return json.loads(result["result"].get("value", "null"))

    async def accessible(self, role: str) -> list[str]:
        """The texts of what has a role to assistive technology, in the order of its tree."""
        found = await self._browser.command(
            "browsingContext.locateNodes",
            context=self._context,
            locator={"type": "accessibility", "value": {"role": role}},
            serializationOptions={"maxDomDepth": 1},
        )
        return [node["value"]["children"][0]["value"]["nodeValue"] for node in found["nodes"]]

    async def click(self, selector: str) -> None:
        """Press the middle of the one element that a CSS selector finds, as a mouse does."""
        locator = {"type": "css", "value": selector}
        found = await self._browser.command("browsingContext.locateNodes", context=self._context, locator=locator)
        (node,) = found["nodes"]
        await self.evaluate(f"document.querySelector({json.dumps(selector)}).scrollIntoView({{block: 'center'}}) ?? 0")
        origin = {"type": "element", "element": {"sharedId": node["sharedId"]}}
        await self._act(
            "pointer",
            {"type": "pointerMove", "x": 0, "y": 0, "origin": origin},
            {"type": "pointerDown", "button": 0},
            {"type": "pointerUp", "button": 0},
        )

    async def scroll(self, pixels: int) -> None:
        """Turn the wheel, as people scroll."""
        await self._act("wheel", {"type": "scroll", "x": 100, "y": 100, "deltaX": 0, "deltaY": pixels})

    async def _act(self, kind: str, *actions: dict[str, object]) -> None:
        source = {"type": kind, "id": kind, "actions": list(actions)}
        await self._browser.command("input.performActions", context=self._context, actions=[source])

    async def resize(self, width: int, height: int) -> None:
        size = {"width": width, "height": height}
        await self._browser.command("browsingContext.setViewport", context=self._context, viewport=size)

    async def screenshot(self) -> bytes:
        result = await self._browser.command("browsingContext.captureScreenshot", context=self._context)
        return base64.b64decode(result["data"])

    async def close(self) -> None:
        await self._browser.command("browsingContext.close", context=self._context)
