"""`bff dev` in Chromium: what it tells leads to the dashboard, and its overlay covers nothing."""

import re
from pathlib import Path

import pytest
from playwright.async_api import Browser, expect

from tests.e2e.browsers import ChromiumTab, complaints
from tests.e2e.gateway import Site, running
from tests.fakes import FakeContext, free_port, until

pytestmark = [pytest.mark.anyio, pytest.mark.browser]


@pytest.mark.parametrize("workers", ["1", "2"])
async def test_developers_need_only_follow_a_link(
    site: Site, context: FakeContext, chromium: Browser, tmp_path: Path, workers: str
) -> None:
    """It makes a token, and tells where that opens the dashboard; its store is one that workers can share."""
    port = free_port()
    site.settings({"store": f"sqlite:///{tmp_path}/bff.sqlite"})
    site.page('<bff-fragment name="shop/offers"></bff-fragment>', {"offers": {"path": "/o"}}, upstream=context.origin)
    folders = ("--config", str(site.root / "bff.yaml"), "--fragments", str(site.fragments))
    where = ("--host", "127.0.0.1", "--port", str(port), "--workers", workers)
    tab = await ChromiumTab.open(chromium)
    async with running("dev", *folders, *where, port=port, log=tmp_path / "gateway.log") as gateway:
        await until(lambda: "dashboard: " in gateway.logs(), "it tells where the dashboard is")
        (link,) = re.findall(r"dashboard: (\S+)", gateway.logs())
        assert link.startswith(f"{gateway.origin}/_bff/admin/#")
        await tab.goto(link)
        await expect(tab.page.get_by_text("operator, for all contexts")).to_be_visible()
        await expect(tab.page.get_by_role("row", name="offers", exact=False)).to_contain_text("not asked")
        assert tab.page.url == f"{gateway.origin}/_bff/admin/"
        assert await complaints(tab) == []
        await tab.close()
