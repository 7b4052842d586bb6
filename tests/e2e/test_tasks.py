"""The demo's slow work over HTTP, end to end: a gateway process, the registrar's own service, and what a visitor does."""

import asyncio
import json
import re
import shutil
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.async_api import Browser
from selectolax.lexbor import LexborHTMLParser

from bff.paths import demo_folder
from tests.demo.demo import create
from tests.e2e.browsers import ChromiumTab, seen, shown
from tests.e2e.firefox import Firefox
from tests.e2e.gateway import Process, Serve, Site
from tests.e2e.stage import passing
from tests.fakes import serving, until

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

PAGE = "/programs/0fc08528-4ee1-54b4-9a63-c35ffb310a4b/enrolments"
ADA = {"x-forwarded-user": "ada"}
BEN = {"x-forwarded-user": "ben"}


@dataclass
class Office:
    """The registrar behind a gateway, its clock in the test's hand."""

    gateway: Process
    now: list[float] = field(default_factory=lambda: [0.0])

    async def get(self, path: str, **headers: str) -> tuple[int, dict[str, str], str]:
        async with await self.gateway.ask(path, headers={k.replace("_", "-"): v for k, v in headers.items()}) as answer:
            body = await answer.rest()
        return answer.status, answer.headers, body

    async def slot(self, name: str, **headers: str) -> dict[str, str | None]:
        """The attributes of a slot of the page."""
        status, _, body = await self.get(f"{PAGE}?_bff=ordered", **headers)
        assert status == 200
        (found,) = LexborHTMLParser(body).css(f'bff-fragment[name="registrar/{name}"]')
        return found.attributes


@pytest.fixture
async def office(site: Site, serve: Serve) -> AsyncIterator[Office]:
    now = [0.0]
    async with serving(create("registrar", writing=10.0, clock=lambda: now[0])) as origin:
        for name in ("registrar", "site"):
            shutil.copytree(demo_folder() / name, site.fragments / name, ignore=shutil.ignore_patterns("__pycache__"))
        file = site.fragments / "registrar/context.yaml"
        file.write_text(file.read_text().replace("http://127.0.0.1:9107", origin))
        site.settings({"trusted_proxies": ["127.0.0.1"], "secret": "kept", "watch": False})
        yield Office(await serve(), now)


async def test_a_program_is_exported_and_the_task_survives_a_reload(office: Office) -> None:
    before = await office.slot("export", **ADA)
    assert (before["state"], before["load"], before.get("task")) == ("pending", "click", None)
    src = before["src"] or ""
    status, head, body = await office.get(src, sec_fetch_site="same-origin", sec_fetch_mode="cors", **ADA)
    assert (status, head["bff-outcome"]) == (202, "pending")
    task = head["location"]
    assert json.loads(body)["state"] == "pending"
    for _ in range(2):
        reloaded = await office.slot("export", **ADA)
        assert reloaded["task"] == task
    assert (await office.get(src, **ADA))[1]["location"] == task  # a second click is the same task
    office.now[0] = 5.0
    status, head, body = await office.get(task, sec_fetch_mode="cors", **ADA)
    said = json.loads(body)
    assert (said["state"], said["progress"], said["result"]) == ("running", 0.5, None)
    assert int(head["retry-after"]) >= 1
    assert (await office.get(task + "/result", accept="*/*", **ADA))[0] == 409
    office.now[0] = 10.0
    said = json.loads((await office.get(task, sec_fetch_mode="cors", **ADA))[2])
    assert (said["state"], said["result"]) == ("succeeded", task + "/result")
    status, head, body = await office.get(said["result"], **ADA)
    assert (status, head["content-type"]) == (200, "text/csv; charset=utf-8")
    assert head["content-disposition"] == 'attachment; filename="enrolments-0fc08528.csv"'
    assert body.startswith("student_key,status,")
    assert (await office.slot("export", **ADA)).get("task") is None  # it is over: the page offers another


async def test_a_task_is_its_owners_alone(office: Office) -> None:
    src = (await office.slot("export", **ADA))["src"] or ""
    task = (await office.get(src, sec_fetch_mode="cors", **ADA))[1]["location"]
    assert (await office.get(task, **BEN))[0] == 404
    assert (await office.get(task))[0] == 404
    assert (await office.get(task + "/result", **BEN))[0] == 404
    assert (await office.get(task[:-3] + "AAA", **ADA))[0] == 404
    assert (await office.slot("export", **BEN)).get("task") is None
    assert (await office.get(src))[1]["bff-outcome"] == "fallback"  # nobody is signed in
    assert (await office.get(src, sec_fetch_site="cross-site", **ADA))[0] == 403


async def test_without_scripts_the_same_is_links_and_pages(office: Office) -> None:
    _, _, body = await office.get(f"{PAGE}?_bff=ordered", **ADA)
    (link,) = LexborHTMLParser(body).css('bff-fragment[name="registrar/export"] > a')
    assert link.text(strip=True) == "Write all of it into a file"
    status, head, _ = await office.get(
        link.attributes["href"] or "", accept="text/html", sec_fetch_mode="navigate", **ADA
    )
    assert status == 303
    office.now[0] = 5.0
    status, shown, body = await office.get(head["location"], accept="text/html", sec_fetch_mode="navigate", **ADA)
    assert (status, int(shown["refresh"]) >= 1) == (200, True)
    assert "<progress value=" in body
    office.now[0] = 10.0
    _, shown, body = await office.get(head["location"], accept="text/html", sec_fetch_mode="navigate", **ADA)
    assert "refresh" not in shown
    (result,) = re.findall(r'href="([^"]+)"', body)
    assert (await office.get(result, **ADA))[2].startswith("student_key,")


NAMES = "[...document.querySelectorAll('[name=\"registrar/learners\"] li b')].map(each => each.textContent)"


@pytest.mark.browser
async def test_chromium_without_scripts_exports_and_reads_on(office: Office, chromium: Browser) -> None:
    async with passing(office.gateway.origin, ADA) as origin:
        tab = await ChromiumTab.open(chromium, java_script_enabled=False)
        page = tab.page
        await page.goto(origin + PAGE)
        first = await seen(tab, f"({NAMES}).length == 10 && {NAMES}")
        await page.get_by_role("link", name="More").click()
        await page.wait_for_url("**?page=2")
        assert not set(await seen(tab, f"({NAMES}).length == 10 && {NAMES}")) & set(first)
        await page.get_by_role("link", name="Write all of it into a file").click()
        await page.wait_for_url("**/_bff/tasks/*")
        await page.get_by_role("progressbar").wait_for()
        office.now[0] = 10.0
        link = page.get_by_role("link", name="result")
        await link.wait_for()  # the page renews itself
        async with page.expect_download() as coming:
            await link.click()
        download = await coming.value
        assert download.suggested_filename == "enrolments-0fc08528.csv"
        assert (await download.path()).read_text().startswith("student_key,status,")
        await tab.close()


@pytest.mark.browser
async def test_firefox_without_scripts_exports_and_reads_on(office: Office, firefox_without_scripts: Firefox) -> None:
    """Where something comes late, it is told where the page is whole, and goes there."""
    async with passing(office.gateway.origin, ADA) as origin:
        tab = await firefox_without_scripts.tab()
        await tab.goto(origin + PAGE)
        await shown(tab, "Show all of it")
        await tab.click("noscript.bff-whole a")
        first = await seen(tab, f"{NAMES}.length == 10 && {NAMES}")
        await tab.click("a[rel=next]")
        await seen(tab, "location.search == '?page=2'")
        await shown(tab, "Show all of it")
        await tab.click("noscript.bff-whole a")
        assert not set(await seen(tab, f"{NAMES}.length == 10 && location.search.includes('page=2') && {NAMES}")) & set(
            first
        )
        await tab.click("bff-fragment[name='registrar/export'] a")
        await seen(tab, "location.pathname.startsWith('/_bff/tasks/') && !!document.querySelector('progress')")
        office.now[0] = 10.0
        await seen(tab, "document.querySelector('a[href$=\"/result\"]')?.href")
        await tab.click("a[href$='/result']")
        file = firefox_without_scripts.downloads / "enrolments-0fc08528.csv"
        await until(lambda: file.exists() and file.stat().st_size, "the file is there")
        assert file.read_text().startswith("student_key,status,")
        await tab.close()


async def test_the_list_goes_on_page_by_page(office: Office) -> None:
    path, seen = PAGE, list[str]()
    for number in (1, 2, 3):
        status, _, body = await office.get(path + ("&" if "?" in path else "?") + "_bff=ordered", **ADA)
        assert status == 200
        tree = LexborHTMLParser(body)
        (slot,) = tree.css('bff-fragment[name="registrar/learners"]')
        seen += [each.text() for each in slot.css("li b")]
        (link,) = slot.css("a[rel=next]")
        path = link.attributes["href"] or ""
        assert path == f"{PAGE}?page={number + 1}"
        onward = slot.attributes["next"] or ""
        assert parse_qs(urlsplit(onward).query)["page"] == [str(number + 1)]
    assert len(set(seen)) == 30
    status, head, body = await office.get(onward, **ADA)
    assert (status, body.count("<li")) == (200, 10)
    assert 'rel="next"' in head["link"]
    data = json.loads((await office.get(onward, accept="application/json", **ADA))[2])
    assert data["next"].startswith("/_bff/fragments/registrar/learners?")
    assert data["previous"].startswith("/_bff/fragments/registrar/learners?")
    assert (await office.get(onward + "&page_size=51", **ADA))[0] == 400


async def test_a_reload_on_another_gateway_shows_the_same_task_and_that_it_is_over(
    site: Site, serve: Serve, office: Office
) -> None:
    """Two processes share a file: one begins the work, the other is asked how far it is, then either is over it."""
    site.settings({"trusted_proxies": ["127.0.0.1"], "secret": "kept", "watch": False, "store": "sqlite:///bff.sqlite"})
    here, there = Office(await serve(), office.now), Office(await serve(), office.now)
    src = (await here.slot("export", **ADA))["src"] or ""
    task = (await here.get(src, sec_fetch_mode="cors", **ADA))[1]["location"]
    async with asyncio.timeout(20):
        while (await there.slot("export", **ADA)).get("task") != task:
            pass  # it is told in the background
    assert (await there.slot("export", **BEN)).get("task") is None
    assert (await there.get(src, sec_fetch_mode="cors", **ADA))[1]["location"] == task, "a click there is no second one"
    office.now[0] = 10.0
    assert json.loads((await there.get(task, sec_fetch_mode="cors", **ADA))[2])["state"] == "succeeded"
    async with asyncio.timeout(20):
        while (await here.slot("export", **ADA)).get("task") is not None:
            pass
