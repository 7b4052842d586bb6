"""Takes docs/images/mid-stream.png: the demo's checkout while two of its contexts have not answered yet.

In one terminal, with time enough for a camera on a busy machine:

    BFF_OVERRIDES='{pages: {ecommerce/checkout: {deadline: 9s}}, contexts: {enterprise: {timeout: {first_byte: 8s, total: 8s}},
        recommendations: {timeout: {first_byte: 8s, total: 8s}}}}' make demo

In another, `.venv/bin/python docs/screenshot.py`. Needs Debian's chromium.
"""

from __future__ import annotations

import base64
import sys
import urllib.request
from pathlib import Path

from playwright.sync_api import sync_playwright

PICTURE = Path(__file__).parent / "images" / "mid-stream.png"
SLOW = (9204, 9205)  # where enterprise and recommendations take orders
LOADING = "bff-fragment[name^=enterprise][state=loading], bff-fragment[name^=recommendations][state=loading]"
LINES = "bff-fragment[name='discovery/course-line']:not([state=loading]) >> nth=2"
CALM = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]


def fault(mode: str) -> None:
    for port in SLOW:
        order = urllib.request.Request(f"http://127.0.0.1:{port}/_fault?{mode}", method="POST")
        urllib.request.urlopen(order, timeout=5).close()  # noqa: S310 - our own


def take(base: str) -> None:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=CALM)
        context = browser.new_context(viewport={"width": 1280, "height": 900}, color_scheme="light")
        fault("mode=silent")  # before the first page: what is in the store is not waited for
        context.request.post(f"{base}/login", form={"user": "ada", "next": "/"})
        page = context.new_page()
        session = context.new_cdp_session(page)
        for _ in range(5):  # a busy machine may be too late
            page.goto(f"{base}/checkout/1", wait_until="commit")
            page.locator("bff-fragment[name='ecommerce/basket']").wait_for(state="attached")
            page.locator(LINES).wait_for(state="attached")
            shot = session.send("Page.captureScreenshot", {"format": "png"})  # at once, whatever is still loading
            if page.locator(LOADING).count() == len(SLOW):
                PICTURE.write_bytes(base64.b64decode(shot["data"]))
                print(f"wrote {PICTURE}")
                break
        browser.close()


if __name__ == "__main__":
    try:
        take(sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:8000")
    finally:
        fault("mode=ok")
