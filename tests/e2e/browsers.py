"""What the tests do in any browser: go somewhere, look, wait until something is to be seen."""

import asyncio
from typing import Any, Protocol

from playwright.async_api import Browser, Page

from tests.fakes import PATIENCE

WITNESS = """
  window.complaints = [];
  document.addEventListener("securitypolicyviolation", e => complaints.push(`${e.effectiveDirective} ${e.blockedURI} ${e.sample}`));
  addEventListener("error", e => complaints.push(String(e.message)));
  addEventListener("unhandledrejection", e => complaints.push(String(e.reason)));
"""
"""Runs in every document before anything of its own: what breaks the page's policy, and what its scripts throw."""


class View(Protocol):
    """One tab of a browser."""

    async def goto(self, url: str) -> None:
        """Start to navigate, without waiting for the page's end."""

    async def evaluate(self, expression: str) -> Any:
        """The value of a JavaScript expression."""

    async def scroll(self, pixels: int) -> None:
        """Turn the wheel, as people scroll."""

    async def screenshot(self) -> bytes:
        """What is to be seen, as PNG."""

    async def close(self) -> None: ...


class ChromiumTab:
    """A tab with a context of its own: no cookies or cache shared with other tests."""

    def __init__(self, page: Page) -> None:
        self.page = page

    @classmethod
    async def open(cls, browser: Browser, **options: Any) -> "ChromiumTab":
        context = await browser.new_context(**options)
        await context.add_init_script(WITNESS)
        return cls(await context.new_page())

    async def goto(self, url: str) -> None:
        await self.page.goto(url, wait_until="commit")

    async def evaluate(self, expression: str) -> Any:
        return await self.page.evaluate(expression)

    async def scroll(self, pixels: int) -> None:
        await self.page.mouse.move(100, 100)
        await self.page.mouse.wheel(0, pixels)

    async def screenshot(self) -> bytes:
        return await self.page.screenshot()

    async def close(self) -> None:
        await self.page.context.close()


async def seen(view: View, expression: str, within: float = PATIENCE) -> Any:
    """Wait until a JavaScript expression is truthy in the page; gives its value."""
    last: object = None
    try:
        async with asyncio.timeout(within):
            while True:
                try:
                    if last := await view.evaluate(expression):
                        return last
                except Exception as error:  # noqa: BLE001 - the document may be changing under the question
                    last = error
                await asyncio.sleep(0.02)
    except TimeoutError:
        body = await view.evaluate("document.documentElement.outerHTML.slice(0, 4000)")
        raise AssertionError(f"not within {within} s: {expression}; last {last!r}; the document:\n{body}") from None


async def shown(view: View, text: str) -> None:
    """Wait until `text` is to be seen: in the document and taking up room."""
    await seen(
        view,
        f"[...document.body.querySelectorAll('*')].some(e => e.checkVisibility() && e.innerText?.includes({text!r}))",
    )


async def complaints(view: View) -> list[str]:
    """What `WITNESS` has seen; nothing where no scripts run."""
    found: list[str] = await view.evaluate("window.complaints ?? []")
    return found


LEFT_OVER = """[...(function* () {
  const walker = document.createTreeWalker(document, NodeFilter.SHOW_COMMENT | NodeFilter.SHOW_PROCESSING_INSTRUCTION);
  while (walker.nextNode()) yield walker.currentNode.nodeName + walker.currentNode.data;
  for (const template of document.querySelectorAll('template')) yield template.outerHTML;
  for (const busy of document.querySelectorAll('[aria-busy]')) yield busy.outerHTML;
})()]"""
"""What delivery must not leave behind: comments, instructions, templates, anything still said to be busy."""

LOADED = "performance.getEntriesByType('navigation')[0].loadEventEnd > 0"
"""A page that is left before the end of its `load` is not kept for whoever goes back to it."""
