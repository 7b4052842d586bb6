"""Early Hints as Chromium heeds them: through an edge that speaks HTTP/2 to it, and HTTP/1.1 to the gateway."""

import asyncio
import shutil
from base64 import b64encode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from playwright.async_api import async_playwright

from tests.e2e.browsers import ChromiumTab, seen, shown
from tests.e2e.conftest import CHROMIUM, QUIET
from tests.e2e.gateway import Serve, Site
from tests.fakes import PATIENCE, FakeContext, free_port

pytestmark = [pytest.mark.anyio, pytest.mark.browser]

EDGE = """
const http = require("node:http"), http2 = require("node:http2"), fs = require("node:fs");
const [port, upstream] = process.argv.slice(1);
const server = http2.createSecureServer({ key: fs.readFileSync("key.pem"), cert: fs.readFileSync("cert.pem") });
server.on("stream", (stream, headers) => {
  console.log(headers[":path"]);
  const sent = Object.fromEntries(Object.entries(headers).filter(([name]) => !name.startsWith(":")));
  const asked = http.request({ host: "127.0.0.1", port: upstream, method: headers[":method"], path: headers[":path"],
    headers: { ...sent, host: "localhost" } });
  asked.on("information", ({ statusCode, headers }) => stream.additionalHeaders({ ":status": statusCode, ...headers }));
  asked.on("response", (answer) => {
    const { connection, "keep-alive": alive, "transfer-encoding": coding, ...kept } = answer.headers;
    stream.respond({ ":status": answer.statusCode, ...kept });
    answer.pipe(stream);
  });
  asked.on("error", () => stream.close());
  asked.end();
});
server.listen(Number(port), "127.0.0.1", () => console.log("ready"));
"""
CSS = ".card { border-top: 7px solid; }" + "/* of some length */" * 100
JS = "document.body.dataset.module = 'ran';" + "// long\n" * 200


def certificate(folder: Path) -> str:
    """Write a key and a certificate for localhost; gives the digest by which a browser can be told to believe it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=9))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem, plain = serialization.Encoding.PEM, serialization.NoEncryption()
    (folder / "cert.pem").write_bytes(made.public_bytes(pem))
    (folder / "key.pem").write_bytes(key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain))
    kind = serialization.PublicFormat.SubjectPublicKeyInfo
    return b64encode(sha256(key.public_key().public_bytes(serialization.Encoding.DER, kind)).digest()).decode()


class Edge:
    """What browsers connect to; it tells of each request as it comes."""

    def __init__(self, port: int, lines: asyncio.StreamReader) -> None:
        self.origin = f"https://localhost:{port}"
        self.paths: list[str] = []
        self._lines = lines

    async def next(self) -> str:
        async with asyncio.timeout(PATIENCE):
            self.paths.append((await self._lines.readline()).decode().strip())
        return self.paths[-1]


@asynccontextmanager
async def edge(folder: Path, upstream: str) -> AsyncIterator[Edge]:
    node, port = shutil.which("node"), free_port()
    assert node, "node is missing; install it: apt-get install nodejs"
    process = await asyncio.create_subprocess_exec(
        node, "-e", EDGE, "--", str(port), upstream.rpartition(":")[2], cwd=folder, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    made = Edge(port, process.stdout)
    try:
        assert await made.next() == "ready"
        made.paths.clear()
        yield made
    finally:
        process.terminate()
        await process.wait()


async def test_sheets_and_modules_come_while_the_primary_is_waited_for(
    site: Site, context: FakeContext, serve: Serve, tmp_path: Path
) -> None:
    context.route("/card.css", CSS, type="text/css")
    context.route("/card.js", JS, type="text/javascript")
    main = context.route("/main", '<div class="card">the main part</div>', gated=True)
    site.settings({"early_hints": True, "trusted_proxies": ["127.0.0.1"]})
    assets = {"css": ["/card.css"], "js": ["/card.js"]}
    timeout = {"first_byte": "9s", "total": "9s"}
    fragments = {"main": {"path": "/main", "assets": assets, "policy": {"timeout": timeout}}}
    site.page(
        '<bff-fragment name="shop/main" primary></bff-fragment>',
        fragments,
        upstream=context.origin,
        page={"deadline": "20s"},
    )
    gateway = await serve()
    digest = certificate(tmp_path)
    async with edge(tmp_path, gateway.origin) as front, async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=str(CHROMIUM), args=[*QUIET, f"--ignore-certificate-errors-spki-list={digest}"]
        )
        tab = await ChromiumTab.open(browser)
        complaints: list[str] = []
        tab.page.on("console", lambda message: complaints.append(message.text))
        going = asyncio.ensure_future(tab.goto(f"{front.origin}/page"))
        assert await front.next() == "/page"
        early = sorted([await front.next(), await front.next()])
        assert [path.rpartition(".")[2] for path in early] == ["css", "js"]
        assert all(path.startswith("/_bff/assets/shop/card.") for path in early)
        await main.asked()
        assert not going.done()
        main.open()
        await going
        await shown(tab, "the main part")
        await seen(tab, "document.body.dataset.module == 'ran'")
        assert await tab.evaluate("getComputedStyle(document.querySelector('.card')).borderTopWidth") == "7px"
        assert complaints == [], "integrity and policy hold"
        assert (
            await tab.evaluate(
                "performance.getEntriesByType('resource').filter(e => e.name.includes('/_bff/assets/')).map(e => [e.initiatorType, e.transferSize])"
            )
            == [["early-hints", 0]] * 2
        ), "and no second time"
        await browser.close()
