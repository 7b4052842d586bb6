"""The wheel alone, in an environment that holds nothing else: a team's first context, checked and served."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
import urllib.request
import venv
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

ROOT = Path(__file__).parents[1]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("dist")
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True)
    (built,) = out.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def bff(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The command, installed from the wheel with the pinned dependencies."""
    home = tmp_path_factory.mktemp("empty")
    venv.create(home, with_pip=True)
    install = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([home / "bin/python", *install, "-c", ROOT / "constraints.txt", wheel], check=True)
    return home / "bin" / "bff"


class Greeting(BaseHTTPRequestHandler):
    """The new context's service."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        body = f"<p>Hello from {self.path}</p>".encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Tests print what fails."""


@pytest.fixture
def upstream() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Greeting) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def fetch(url: str, process: subprocess.Popen[str]) -> tuple[int, str]:
    """The answer, asked again while nobody listens yet and the process lives."""
    for _ in range(200):
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                return answer.status, answer.read().decode()
        except ConnectionRefusedError:
            pass
        except urllib.error.URLError as error:
            if not isinstance(error.reason, ConnectionRefusedError):
                raise
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)  # nothing tells from outside when another process listens
    raise AssertionError(f"nobody listens at {url}")


def test_it_carries_what_is_not_python_and_nothing_that_is_not_needed(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    contexts = [path.parent.name for path in (ROOT / "fragments").glob("*/context.yaml")]
    assert contexts
    for needed in [
        "bff/static/bff.js",
        "bff/_demo/bff.yaml",
        "bff/events/schemas/org.openedx.content_authoring.course.catalog_info.changed.v1.avsc",
        *(f"bff/_demo/fragments/{name}/context.yaml" for name in contexts),
    ]:
        assert needed in names
    assert any(name.endswith("licenses/LICENSE") for name in names)
    tops = {name.split("/")[0] for name in names}
    assert {top.partition("-")[0] for top in tops} == {"bff"}
    assert not [name for name in names if "__pycache__" in name or "/tests/" in name or ".gitkeep" in name]


def test_a_new_contexts_page_is_checked_and_served(bff: Path, upstream: str, tmp_path: Path) -> None:
    def run(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([bff, *words], cwd=tmp_path, check=False, capture_output=True, text=True, timeout=60)

    for words in (
        ["context", "hello", "--upstream", upstream, "--owner", "team-hello"],
        ["fragment", "hello/greeting"],
        ["page", "hello/welcome", "--path", "/welcome"],
    ):
        made = run("new", *words)
        assert made.returncode == 0, made.stderr
    checked = run("check")
    assert checked.returncode == 0, checked.stdout + checked.stderr
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    serve = [str(bff), "serve", "--port", str(port)]
    with subprocess.Popen(serve, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        try:
            status, page = fetch(f"http://127.0.0.1:{port}/welcome", process)
            assert status == 200
            assert "<p>Hello from /greeting</p>" in page
            assert page.endswith("</html>\n")
            status, script = fetch(f"http://127.0.0.1:{port}/_bff/static/bff.js", process)
            assert script == (ROOT / "static" / "bff.js").read_text()
        finally:
            process.terminate()
        assert process.wait(20) == 0
