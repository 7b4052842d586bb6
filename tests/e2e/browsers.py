"""What the tests do in any browser: go somewhere, look, wait until something is to be seen."""

import asyncio
from typing import Any, Protocol

from playwright.async_api import Browser, Page

from tests.fakes import PATIENCE


class View(Protocol):
    """One tab of a browser."""

    async def goto(self, url: str) -> None:
        """Start to navigate, without waiting for the page's end."""

    async def evaluate(self, expression: str) -> Any:
        """The value of a JavaScript expression."""

    async def close(self) -> None: ...


class ChromiumTab:
    """A tab with a context of its own: no cookies or cache shared with other tests."""

    def __init__(self, page: Page) -> None:
        self.page = page

    @classmethod
    async def open(cls, browser: Browser, **options: Any) -> "ChromiumTab":
        return cls(await (await browser.new_context(**options)).new_page())

    async def goto(self, url: str) -> None:
        await self.page.goto(url, wait_until="commit")

    async def evaluate(self, expression: str) -> Any:
        return await self.page.evaluate(expression)

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


LEFT_OVER = """[...(function* () {
  const walker = document.createTreeWalker(document, NodeFilter.SHOW_COMMENT | NodeFilter.SHOW_PROCESSING_INSTRUCTION);
  while (walker.nextNode()) yield walker.currentNode.nodeName + walker.currentNode.data;
  for (const template of document.querySelectorAll('template')) yield template.outerHTML;
  for (const busy of document.querySelectorAll('[aria-busy]')) yield busy.outerHTML;
})()]"""
"""What delivery must not leave behind: comments, instructions, templates, anything still said to be busy."""
