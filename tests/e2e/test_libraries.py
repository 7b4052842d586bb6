"""htmx, Turbo and Unpoly, as they come from npm, against pages and the fragment endpoint; in Chromium."""

import shutil
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from playwright.async_api import Browser, Route

from tests.e2e.browsers import LEFT_OVER, ChromiumTab, seen, shown
from tests.e2e.gateway import SHELL, Process, Serve, Site
from tests.fakes import FakeContext, Seen, until

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.browser,
    pytest.mark.skipif(shutil.which("npm") is None, reason="npm is not installed; libraries are tried where it is"),
]

PACKAGES = ("htmx.org@4.0.1", "htmx2@npm:htmx.org@2.0.11", "@hotwired/turbo@8.0.23", "unpoly@3.14.3")
HTMX = ("htmx.org/dist/htmx.js", "htmx2/dist/htmx.js")
TURBO = "@hotwired/turbo/dist/turbo.es2017-umd.js"
UNPOLY = "unpoly/unpoly.js"
# The page's policy forbids inline styles; htmx 2 has some.
CONFIG = """<meta name="htmx-config" content='{"includeIndicatorStyles":false}'>"""


@pytest.fixture(scope="module")
def modules() -> Path:
    """Where the libraries are, installed once for each set of versions."""
    tools = Path(sys.prefix) / "libraries"
    told = tools / "installed.txt"
    if not told.exists() or told.read_text() != str(PACKAGES):
        tools.mkdir(exist_ok=True)
        install = ["npm", "install", "--prefix", str(tools), "--no-audit", "--no-fund", "--ignore-scripts", "--silent"]
        subprocess.run([*install, *PACKAGES], check=True, timeout=100)
        told.write_text(str(PACKAGES))
    return tools / "node_modules"


class Lab:
    """A shop whose pages use a library, and a tab that sees it."""

    def __init__(self, site: Site, context: FakeContext, serve: Serve, tab: ChromiumTab, modules: Path) -> None:
        self.site, self.context, self.serve, self.tab, self.modules = site, context, serve, tab, modules
        self.complaints: list[str] = []
        self.gateway: Process

    async def open(self, library: str, main: str, other: str = "") -> None:
        """Serve `/page` with `main` in it, and `/other`; go to the first. Both hold a primary and a late fragment."""
        slots = '<bff-fragment name="shop/title" n="NUMBER" primary></bff-fragment>LATE'
        late = '<bff-fragment name="shop/late"><p>waiting</p></bff-fragment>'
        head = f'{CONFIG}<script defer src="/lib/{library}"></script></head>'
        shells = {
            "page": SHELL.replace("</head>", head).replace("SLOTS", slots.replace("NUMBER", "1").replace("LATE", main)),
            "other": SHELL.replace("</head>", head).replace(
                "SLOTS", slots.replace("NUMBER", "2").replace("LATE", late + other)
            ),
        }
        self.context.route("/title/1", "<h1>the first</h1>")
        self.context.route("/title/2", "<h1>the second</h1>")
        self.context.route("/late", "<p>late, and here</p>", gated=True)
        self.context.route("/card", self._card)
        off = {"cache": {"mode": "off"}}
        self.site.context(
            "shop",
            {
                "fragments": {
                    "title": {"path": "/title/{n}", "params": {"n": {"type": "int"}}, "policy": off},
                    "late": {"path": "/late", "policy": off},
                    "card": {"path": "/card", "query": {"n": "{n}"}, "params": {"n": {"type": "int"}}, "policy": off},
                },
                "pages": {name: {"path": f"/{name}", "template": f"pages/{name}.html"} for name in shells},
            },
            upstream=self.context.origin,
            files={f"pages/{name}.html": text for name, text in shells.items()},
        )
        self.gateway = await self.serve()
        self.tab.page.on("console", lambda message: self._heard(message.type, message.text))
        self.tab.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        await self.tab.page.route("**/lib/**", self._library)
        await self.tab.goto(f"{self.gateway.origin}/page")
        await shown(self.tab, "the end")
        await seen(self.tab, "document.readyState == 'complete'")

    def _heard(self, kind: str, text: str) -> None:
        if kind in ("error", "warning"):
            self.complaints.append(text)

    async def _library(self, route: Route) -> None:
        await route.fulfill(path=self.modules / route.request.url.partition("/lib/")[2], content_type="text/javascript")

    @staticmethod
    def _card(seen: Seen) -> str:
        return f'<section class="card" id="card">card {seen.query}</section>'

    async def main_is_in_order(self) -> None:
        """The other page's content is there, everything in its place, though a part of it came late."""
        title, late = self.context.routes["/title/2"], self.context.routes["/late"]
        await late.asked()
        await until(lambda: title.answered, "the primary's answer")
        late.open()
        await shown(self.tab, "the second")
        await shown(self.tab, "late, and here")
        assert await self.tab.evaluate(LEFT_OVER) == []
        assert "waiting" not in await self.tab.evaluate("document.body.innerText")


@pytest.fixture
async def lab(site: Site, context: FakeContext, serve: Serve, chromium: Browser, modules: Path) -> AsyncIterator[Lab]:
    tab = await ChromiumTab.open(chromium)
    yield Lab(site, context, serve, tab, modules)
    await tab.close()


@pytest.mark.parametrize("library", HTMX)
async def test_htmx_swaps_a_fragment(lab: Lab, library: str) -> None:
    await lab.open(
        library, '<button hx-get="/_bff/fragments/shop/card?n=7" hx-target="#place">go</button><i id="place"></i>'
    )
    await lab.tab.page.click("button")
    await shown(lab.tab, "card n=7")
    assert await lab.tab.evaluate("document.querySelector('#place').firstElementChild.id") == "card", "no wrapper"
    assert lab.complaints == []


@pytest.mark.parametrize("library", HTMX)
async def test_htmx_takes_a_part_of_a_page(lab: Lab, library: str) -> None:
    await lab.open(
        library, '<a href="/other" hx-get="/other" hx-select="main" hx-target="main" hx-swap="outerHTML">go</a>'
    )
    await lab.tab.page.click("a")
    await lab.main_is_in_order()
    assert lab.complaints == []


@pytest.mark.parametrize("library", HTMX)
async def test_htmx_posts_to_the_primary_s_own_service(lab: Lab, library: str) -> None:
    await lab.open(
        library,
        '<form hx-post="/page" hx-target="#place"><input name="a" value="1"><button>go</button></form><i id="place"></i>',
    )
    route = lab.context.route("/title/1", "<b>thank you</b>", headers={"hx-trigger": "saved"})
    await lab.tab.evaluate("document.addEventListener('saved', () => document.body.setAttribute('data-saved', ''))")
    await lab.tab.page.click("button")
    await shown(lab.tab, "thank you")
    await seen(lab.tab, "document.body.hasAttribute('data-saved')")
    [posted] = route.requests
    assert (posted.method, posted.body, posted.headers["hx-request"]) == ("POST", b"a=1", "true")


async def test_turbo_fills_a_frame_with_a_fragment(lab: Lab) -> None:
    await lab.open(
        TURBO,
        '<turbo-frame id="place" src="/_bff/fragments/shop/card?n=1">wait</turbo-frame>'
        '<a href="/_bff/fragments/shop/card?n=2" data-turbo-frame="place">go</a>',
    )
    await shown(lab.tab, "card n=1")
    await lab.tab.page.click("a")
    await shown(lab.tab, "card n=2")
    assert await lab.tab.evaluate("document.querySelectorAll('turbo-frame').length") == 1
    assert lab.tab.page.url.endswith("/page")


async def test_turbo_takes_a_frame_of_a_page(lab: Lab) -> None:
    frame = '<turbo-frame id="place">{}</turbo-frame>'
    await lab.open(
        TURBO,
        frame.format('<a href="/other">go</a>'),
        frame.format('<bff-fragment name="shop/card" n="5"></bff-fragment>'),
    )
    lab.context.routes["/late"].open()
    await lab.tab.page.click("a")
    await shown(lab.tab, "card n=5")
    assert await lab.tab.evaluate(LEFT_OVER) == []


async def test_turbo_visits_a_page(lab: Lab) -> None:
    await lab.open(TURBO, '<a href="/other">go</a>')
    await lab.tab.evaluate("window.same = true")
    await lab.tab.page.click("a")
    await lab.main_is_in_order()
    assert await lab.tab.evaluate("window.same"), "Turbo replaced the body, the document stayed"


async def test_unpoly_takes_a_part_of_a_page(lab: Lab) -> None:
    await lab.open(UNPOLY, '<a href="/other" up-target="main">go</a>')
    await lab.tab.evaluate("window.same = true")
    await lab.tab.page.click("a")
    await lab.main_is_in_order()
    assert await lab.tab.evaluate("window.same")
    assert lab.tab.page.url.endswith("/other")


async def test_unpoly_replaces_a_fragment(lab: Lab) -> None:
    await lab.open(
        UNPOLY,
        '<section id="card">before</section>'
        '<a href="/_bff/fragments/shop/card?n=3" up-target="#card" up-history="false">go</a>',
    )
    await lab.tab.page.click("a")
    await shown(lab.tab, "card n=3")
    assert await lab.tab.evaluate("document.querySelectorAll('#card').length") == 1
