"""What people type, what they are told, and the exit codes."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from bff import cli
from tests.folders import SHELL, context, shop, slot, write

COMMANDS = (
    "serve",
    "dev",
    "check",
    "explain",
    "render",
    "simulate",
    "schema",
    "demo",
    "verify",
    "purge",
    "override",
    "new context",
    "new fragment",
    "new page",
)


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def bff(*words: str, **env: str) -> Result:
    result = CliRunner(env={"NO_COLOR": "1", "COLUMNS": "100", **env}).invoke(cli.app, list(words))
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


# --- help -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", COMMANDS)
def test_every_commands_help_teaches_by_example(command: str) -> None:
    result = bff(*command.split(), "--help")
    assert result.exit_code == 0
    assert f"bff {command}" in result.stdout
    assert "Example: bff" in re.sub(r"\s+", " ", result.stdout)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_takes_settings_and_registrations(command: str) -> None:
    text = bff(*command.split(), "--help").stdout
    assert "--config" in text
    assert "--fragments" in text


@pytest.mark.parametrize("command", ["serve", "dev"])
def test_servers_take_an_address(command: str) -> None:
    text = bff(command, "--help").stdout
    assert all(option in text for option in ("--host", "--port", "--workers", "--log-format"))


def test_the_version_is_told() -> None:
    assert re.fullmatch(r"bff \d+\.\d+\.\d+\n", bff("--version").stdout)


def test_an_unknown_command_is_unusable() -> None:
    assert bff("chekc").exit_code == 2


# --- check ------------------------------------------------------------------------------------------------------------


def test_check_is_well_where_all_is(tmp_path: Path) -> None:
    shop(tmp_path / "fragments")
    result = bff("check")
    assert result.exit_code == 0
    assert result.stdout == "1 context, 1 fragment, 1 page: no errors, no warnings, no notes\n"


def test_check_tells_file_line_and_column_from_the_working_directory(tmp_path: Path) -> None:
    shop(tmp_path / "fragments", slot("shop/gone"))
    result = bff("check")
    assert result.exit_code == 1
    assert result.stdout.startswith("fragments/shop/pages/cart.html:3:7: error: there is no fragment shop/gone — ")


def test_dangling_references_are_findings_too(tmp_path: Path) -> None:
    shop(tmp_path / "fragments", slot("site/header"))
    result = bff("check")
    assert (result.exit_code, "warning: there is no fragment site/header" in result.stdout) == (1, True)


def test_notes_change_no_exit_code(tmp_path: Path) -> None:
    file = shop(tmp_path / "fragments") / "context.yaml"
    write(file, file.read_text() + "    deadline: 3s\n")
    result = bff("check")
    assert (result.exit_code, "note: shop/cart may take 3s" in result.stdout) == (0, True)


def test_verify_tells_what_a_service_is_not(tmp_path: Path) -> None:
    shop(tmp_path / "fragments")
    with closing(socket.socket()) as nobody:
        nobody.bind(("127.0.0.1", 0))
        origin = f"http://127.0.0.1:{nobody.getsockname()[1]}"
        result = bff("verify", "shop", BFF_UPSTREAM__SHOP=origin)
        assert result.exit_code == 1
        assert "error: shop/lines did not answer" in result.stdout
        assert "1 fragment: 1 error" in result.stdout
        result = bff("verify", "shop", "--format", "json", "--header", "x-a:1", BFF_UPSTREAM__SHOP=origin)
        assert json.loads(result.stdout)["findings"][0]["code"] == "unreachable"
    result = bff("verify", "shp")
    assert (result.exit_code, "there are shop" in result.stderr) == (2, True)
    write(tmp_path / "fragments/shop/context.yaml", "owner: x\nnope: 1\n")
    result = bff("verify", "shop")
    assert (result.exit_code, "nope" in result.stderr) == (2, True)


def test_fitness_rules_are_part_of_check(tmp_path: Path) -> None:
    shop(tmp_path / "fragments", slot("shop/lines", 'core timeout.total="3s"'))
    result = bff("check")
    assert (result.exit_code, "longer than the page's deadline" in result.stdout) == (1, True)


def test_what_the_settings_say_of_nobody_is_told(tmp_path: Path) -> None:
    shop(tmp_path / "fragments")
    write(tmp_path / "fragments/broken/context.yaml", "owner: x\nnope: 1\n")
    write(
        tmp_path / "bff.yaml",
        "allow: {shop: {}, shpo: {}, later: {}}\n"
        "overrides:\n"
        "  contexts: {broken: {state: off}, shop: {state: on}}\n"
        "  fragments: {shop/line: {state: off}, broken/x: {state: off}, shop/lines: {state: on}}\n"
        "  pages: {shop/crt: {deadline: 1s}, shop/cart: {deadline: 1s}}\n"
        "  trust: {shop: checked, shop/lines: checked, elsewhere: checked}\n",
    )
    told = bff("check", BFF_OVERRIDES__CONTEXTS__SHOOP__STATE="off").stdout
    assert [line for line in told.splitlines() if "there is no" in line] == [
        "BFF_OVERRIDES__CONTEXTS__SHOOP__STATE:1:1: warning: overrides.contexts: there is no shoop — did you mean 'shop'?",
        "bff.yaml:1:19: warning: allow: there is no shpo — did you mean 'shop'?",
        "bff.yaml:4:15: warning: overrides.fragments: there is no shop/line — did you mean 'shop/lines'?",
        "bff.yaml:5:11: warning: overrides.pages: there is no shop/crt — did you mean 'shop/cart'?",
        "bff.yaml:1:29: note: allow: there is no later — it holds once there is; else take it out",
        "bff.yaml:6:47: note: overrides.trust: there is no elsewhere — it holds once there is; else take it out",
    ]


def test_a_shell_without_a_charset_is_no_failure(tmp_path: Path) -> None:
    folder = shop(tmp_path / "fragments")
    file = folder / "pages/cart.html"
    write(file, file.read_text().replace("<meta charset=utf-8>", ""))
    result = bff("check")
    assert (result.exit_code, "note: the page has no <meta charset>" in result.stdout) == (0, True)


def test_simulate_shows_the_page_and_why_without_asking_anybody(tmp_path: Path) -> None:
    shop(tmp_path / "fragments", slot("shop/lines", "primary"))
    result = bff("simulate", "/cart")
    assert result.exit_code == 0
    assert "shop/cart  GET /cart  200 OK  first byte 20 ms" in result.stdout
    assert result.stdout.endswith("s1  lines: fresh, it answered in time\n")
    result = bff("simulate", "/cart", "--down", "shop")
    assert (result.exit_code, "502 Bad Gateway" in result.stdout) == (1, True)
    assert "s1  lines: omitted, nobody listens; on_error: " in result.stdout
    result = bff("simulate", "/cart", "--slow", "shop/line=3s")
    assert (result.exit_code, "did you mean 'shop/lines'?" in result.stderr) == (2, True)


@pytest.mark.parametrize("where", [(), ("--config", "bff.yaml")])
def test_an_unusable_settings_file_is_exit_code_2(tmp_path: Path, where: tuple[str, ...]) -> None:
    write(tmp_path / "bff.yaml", "workers: many\n")
    result = bff("check", *where)
    assert result.exit_code == 2
    assert result.stderr.startswith("bff.yaml:1:10: error: ")


def test_a_settings_file_that_is_not_there_is_exit_code_2() -> None:
    result = bff("check", "--config", "none.yaml")
    assert (result.exit_code, "none.yaml" in result.stderr) == (2, True)


@pytest.mark.parametrize("command", [("render", "/cart"), ("serve",), ("check",)])
def test_a_file_of_keys_without_one_is_named(tmp_path: Path, command: tuple[str, ...]) -> None:
    shop(tmp_path / "fragments")
    write(tmp_path / "keys.json", "nonsense")
    jwt = "identity: {jwt: {keys: keys.json, issuer: i, audience: a}}"
    write(tmp_path / "bff.yaml", f"store: sqlite:///var/bff.sqlite\nlisten: 127.0.0.1:{free_port()}\n{jwt}\n")
    result = bff(*command)
    assert result.exit_code == 2
    assert "keys.json:1:1: error: identity.jwt.keys cannot be used: Expecting value" in result.stderr
    assert "— write PEM or a JWK set" in result.stderr


def test_a_missing_folder_is_exit_code_2() -> None:
    result = bff("check", "--fragments", "nowhere")
    assert (result.exit_code, "there is no folder" in result.stderr) == (2, True)


def test_what_the_environment_gets_wrong_is_a_finding_without_a_settings_file(tmp_path: Path) -> None:
    shop(tmp_path / "fragments")
    assert bff("check", BFF_LISTEN="nonsense").exit_code == 2


def test_check_as_json(tmp_path: Path) -> None:
    shop(tmp_path / "fragments", slot("shop/gone"))
    result = bff("check", "--format", "json")
    document = json.loads(result.stdout)
    assert (result.exit_code, document["errors"], document["findings"][0]["line"]) == (1, 1, 3)


def test_check_as_annotations(tmp_path: Path) -> None:
    shop(tmp_path / "fragments", slot("shop/gone"))
    assert bff("check", "--format", "github").stdout.startswith("::error file=fragments/shop/pages/cart.html,line=3,")


# --- explain, schema --------------------------------------------------------------------------------------------------


def test_explain_tells_origins(tmp_path: Path) -> None:
    shop(tmp_path / "fragments", rest="    policy: {timeout: {total: 900ms}}\n")
    result = bff("explain", "shop/lines")
    assert result.exit_code == 0
    assert re.search(r"^timeout\.total +900ms +fragment \(shop/lines\)$", result.stdout, re.MULTILINE)
    assert "route /cart" in bff("explain", "shop/cart").stdout


def test_an_unknown_name_gets_the_nearest(tmp_path: Path) -> None:
    shop(tmp_path / "fragments")
    result = bff("explain", "shop/crat")
    assert result.exit_code == 2
    assert result.stderr == "error: there is no page or fragment shop/crat; nearest: shop/cart, shop/lines\n"
    assert bff("explain", "zzzz").stderr.endswith("zzzz; see `bff check`\n")


@pytest.mark.parametrize(("of", "key"), [("context", "fragments"), ("settings", "listen")])
def test_schemas_are_json(of: str, key: str) -> None:
    assert bff("schema", "--config", "no.yaml", "--fragments", "none").stdout == bff("schema", "context").stdout
    document = json.loads(bff("schema", of).stdout)
    assert document["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert key in document["properties"]


# --- render -----------------------------------------------------------------------------------------------------------


class Service(BaseHTTPRequestHandler):
    """A context's service: 500 at /broken, else who asks."""

    def do_GET(self) -> None:
        body = f"<p>for {self.headers.get('x-user', 'anybody')}, {self.headers.get('accept-language')}</p>".encode()
        self.send_response(500 if self.path == "/broken" else 200)
        self.send_header("content-type", "text/html")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Quietly."""


@pytest.fixture
def served(tmp_path: Path) -> Iterator[str]:
    """Registrations of a service that answers; gives its URL."""
    with HTTPServer(("127.0.0.1", 0), Service) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        shop(tmp_path / "fragments", slot("shop/lines", "primary"), rest="  broken:\n    path: /broken\n")
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_render_gives_the_page_and_its_waterfall(served: str) -> None:
    result = bff("render", "/cart", BFF_UPSTREAM__SHOP=served)
    assert result.exit_code == 0
    assert result.stdout.startswith("<!doctype html>")
    assert "for anybody" in result.stdout
    assert result.stderr.startswith("shop/cart  GET /cart  200 OK  first byte ")
    assert re.search(r"^s1  lines .* fresh ok", result.stderr, re.MULTILINE)
    assert "\x1b" not in result.stderr


def test_render_as_json(served: str) -> None:
    document = json.loads(bff("render", "/cart", "--accept", "json", BFF_UPSTREAM__SHOP=served).stdout)
    assert document["slots"]["lines"]["outcome"] == "fresh"


def test_render_for_somebody_with_headers_into_a_file(served: str, tmp_path: Path) -> None:
    file = tmp_path / "fragments/shop/context.yaml"
    write(file, file.read_text() + "forward: {principal: x-user, headers: [accept-language]}\n")
    words = ("--principal", "ada", "--header", "Accept-Language: es", "--out", "page.html")
    result = bff("render", "/cart", *words, BFF_UPSTREAM__SHOP=served)
    assert (result.exit_code, result.stdout) == (0, "")
    assert "for ada, es" in (tmp_path / "page.html").read_text()


def test_a_page_that_fails_is_exit_code_1(served: str, tmp_path: Path) -> None:
    write(tmp_path / "fragments/shop/pages/cart.html", SHELL.format(slot("shop/broken", "primary")))
    result = bff("render", "/cart", BFF_UPSTREAM__SHOP=served)
    assert result.exit_code == 1
    assert "502" in result.stderr.splitlines()[0]


def test_a_bad_query_is_told_as_one(tmp_path: Path) -> None:
    made = shop(tmp_path / "fragments") / "context.yaml"
    made.write_text(made.read_text() + "    query: {n: {type: int, default: 1}}\n")
    result = bff("render", "/cart?n=x")
    assert result.exit_code == 2
    assert "a query parameter is" in result.stderr


def test_no_page_there_is_exit_code_2_with_the_routes(tmp_path: Path) -> None:
    shop(tmp_path / "fragments")
    result = bff("render", "/nowhere")
    assert (result.exit_code, result.stderr) == (2, "error: there is no page at /nowhere; routes are /cart\n")


@pytest.mark.parametrize("header", ["nonsense", ": x"])
def test_a_bad_header_is_exit_code_2(header: str) -> None:
    result = bff("render", "/", "--header", header)
    assert (result.exit_code, "is no header; write NAME:VALUE" in result.stderr) == (2, True)


def test_a_file_that_cannot_be_written_is_exit_code_2(served: str) -> None:
    result = bff("render", "/cart", "--out", "no/such/folder.html", BFF_UPSTREAM__SHOP=served)
    assert (result.exit_code, "cannot be written: " in result.stderr) == (2, True)


# --- new --------------------------------------------------------------------------------------------------------------


def test_from_nothing_to_a_page_that_is_accepted_and_shown(tmp_path: Path) -> None:
    (tmp_path / "fragments").mkdir()
    assert bff("new", "context", "hello", "--upstream", "http://127.0.0.1:9", "--owner", "team-hello").exit_code == 0
    assert bff("new", "fragment", "hello/greeting").exit_code == 0
    result = bff("new", "page", "hello/home", "--path", "/")
    assert result.exit_code == 0
    assert "fragments/hello/pages/home.html" in result.stdout
    checked = bff("check")
    assert (checked.exit_code, checked.stdout) == (
        0,
        "1 context, 1 fragment, 1 page: no errors, no warnings, no notes\n",
    )
    assert "Greeting is not available just now" in bff("render", "/").stdout


@pytest.mark.parametrize(
    "words",
    [
        ("context", "Hello", "--upstream", "http://x", "--owner", "x"),
        ("fragment", "none/x"),
        ("page", "none/x", "--path", "/"),
    ],
)
def test_what_cannot_be_written_is_exit_code_2(words: tuple[str, ...], tmp_path: Path) -> None:
    result = bff("new", *words)
    assert result.exit_code == 2
    assert result.stderr.startswith("error: ")
    assert list(tmp_path.iterdir()) == []


def files(folder: Path) -> dict[Path, bytes]:
    return {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_a_page_whose_route_is_held_is_not_written(tmp_path: Path) -> None:
    """By `check` it would be the page that was there first which loses its route: names decide at a start."""
    for name, upstream in (("shop", "http://127.0.0.1:9"), ("blog", "http://127.0.0.1:8")):
        assert bff("new", "context", name, "--upstream", upstream, "--owner", f"team-{name}").exit_code == 0
    assert bff("new", "page", "shop/front", "--path", "/front/{id}").exit_code == 0
    before = files(tmp_path)
    result = bff("new", "page", "blog/front", "--path", "/front/{slug}")
    assert result.exit_code == 2
    assert "the route /front/{slug} is held by shop/front (team-shop)" in result.stderr
    assert files(tmp_path) == before
    assert bff("check").exit_code == 0


def test_what_the_operator_does_not_allow_is_not_written(tmp_path: Path) -> None:
    (tmp_path / "bff.yaml").write_text("allow: {shop: {routes: [/shop/*]}}")
    assert bff("new", "context", "shop", "--upstream", "http://127.0.0.1:9", "--owner", "team-shop").exit_code == 0
    before = files(tmp_path)
    assert bff("new", "page", "shop/front", "--path", "/front").exit_code == 2
    assert files(tmp_path) == before
    assert bff("new", "page", "shop/front", "--path", "/shop/front").exit_code == 0


def test_what_was_wrong_before_is_in_nobody_s_way(tmp_path: Path) -> None:
    broken = tmp_path / "fragments" / "other" / "context.yaml"
    broken.parent.mkdir(parents=True)
    broken.write_text("owner: x\nnonsense: 1\n")
    assert bff("new", "context", "shop", "--upstream", "http://127.0.0.1:9", "--owner", "team-shop").exit_code == 0
    assert bff("new", "page", "shop/front", "--path", "/front").exit_code == 0


@pytest.mark.parametrize("form", ["text", "json"])
def test_findings_are_told_where_the_terminal_cannot_show_every_character(tmp_path: Path, form: str) -> None:
    shop(tmp_path / "fragments")
    write(tmp_path / "fragments/other/context.yaml", "owner: équipe-日本\nnonsense: 1\n")
    words = [sys.executable, "-m", "bff", "check", "--format", form]
    env = {**os.environ, "PYTHONIOENCODING": "latin-1"}
    done = subprocess.run(words, cwd=tmp_path, env=env, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (1, b"")
    assert b"quipe-\\u65e5\\u672c" in done.stdout


# --- demo -------------------------------------------------------------------------------------------------------------

DEMO = """
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
print("cannot start", file=sys.stderr)
sys.exit(4)
"""


def free_port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def demo(root: Path, rest: str = "") -> int:
    """A context whose service cannot start; gives its port."""
    port = free_port()
    folder = context(root, "shop", rest, {"service.py": DEMO})
    file = folder / "context.yaml"
    write(file, re.sub(r"127\.0\.0\.1:\d+", f"127.0.0.1:{port}", file.read_text()))
    return port


def test_a_busy_port_is_told_before_anything_starts(tmp_path: Path) -> None:
    demo(tmp_path / "fragments")
    with closing(socket.socket()) as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        result = bff("demo", "--fragments", "fragments", "--port", port)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith(
        f"error: port {port}, which the gateway needs, is in use; choose another: `bff demo --port"
    )


def test_a_broken_context_keeps_the_demo_from_starting(tmp_path: Path) -> None:
    demo(tmp_path / "fragments", "nonsense: 1\n")
    result = bff("demo", "--fragments", "fragments", "--port", str(free_port()))
    assert (result.exit_code, "unknown key 'nonsense'" in result.stderr) == (2, True)


def test_a_service_that_dies_is_told_with_its_last_words(tmp_path: Path) -> None:
    demo(tmp_path / "fragments")
    write(tmp_path / "bff.yaml", "")
    result = bff("demo", "--fragments", "fragments", "--port", str(free_port()))
    assert result.exit_code == 1
    assert result.stderr == "error: the service of shop ended with exit code 4\n  cannot start\n"


# --- processes --------------------------------------------------------------------------------------------------------


def test_a_defect_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("out of luck")

    monkeypatch.setattr(cli, "choose", broken)
    monkeypatch.setattr(sys, "argv", ["bff", "check"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert (ended.value.code, capsys.readouterr().err) == (2, "error: RuntimeError: out of luck\n")


def test_the_console_script_is_the_command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["bff", "--version"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert (ended.value.code, capsys.readouterr().out[:4]) == (0, "bff ")


@pytest.mark.parametrize("command", ["serve", "dev"])
def test_an_address_that_cannot_be_had_is_exit_code_2(tmp_path: Path, command: str) -> None:
    shop(tmp_path / "fragments")
    with closing(socket.socket()) as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        result = bff(command, "--port", str(taken.getsockname()[1]), "--log-format", "json")
    assert (result.exit_code, "in use" in result.stderr) == (2, True)


@pytest.mark.parametrize(("command", "form"), [("serve", "json"), ("dev", "console")])
def test_serving_runs_until_a_signal_ends_it(tmp_path: Path, command: str, form: str) -> None:
    shop(tmp_path / "fragments")
    port = free_port()
    words = [sys.executable, "-m", "bff", command, "--port", str(port)]
    with subprocess.Popen(words, cwd=tmp_path, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        line = next(line for line in process.stdout if "ready" in line)
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    assert f":{port}" in line
    assert line.startswith("{") is (form == "json")


def test_an_unusable_settings_file_stops_a_server_before_it_starts(tmp_path: Path) -> None:
    write(tmp_path / "bff.yaml", "nonsense: 1\n")
    result = bff("serve")
    assert result.exit_code == 2
    assert result.stderr.startswith("bff.yaml:1:1: error: unknown key 'nonsense'")
