"""What is measured: this gateway, nginx with SSI and Varnish with ESI, each set up for the same page in a folder of its own."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from tests.bench import page


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """A way to serve the page; `path` holds `{mode}`. Servers with the same `command` are one process."""

    name: str
    program: str
    command: Callable[[Path, int, int], Sequence[str]]  # folder, own port, upstream's port
    path: str


def nginx(folder: Path, port: int, upstream: int) -> Sequence[str]:
    for mode in page.MODES:
        (folder / f"{mode}.html").write_bytes(page.ssi(mode))
    proxy = 'proxy_pass http://upstream; proxy_http_version 1.1; proxy_set_header Connection "";'
    temporary = "\n".join(f"  {kind}_temp_path tmp;" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    pages = "\n".join(f"    location = /page/{mode} {{ ssi on; alias {folder}/{mode}.html; }}" for mode in page.MODES)
    (folder / "nginx.conf").write_text(f"""
daemon off; worker_processes 1; pid nginx.pid; error_log error.log warn; {"user root;" if os.geteuid() == 0 else ""}
events {{ worker_connections 4096; }}
http {{
  access_log off; default_type text/html; keepalive_requests 100000000; tcp_nodelay on;
{temporary}
  open_file_cache max=100; open_file_cache_valid 600s;
  proxy_cache_path cache keys_zone=store:8m use_temp_path=off;
  upstream upstream {{ server 127.0.0.1:{upstream}; keepalive 512; keepalive_requests 100000000; }}
  server {{
    listen 127.0.0.1:{port} backlog=1024;
{pages}
    location /stored/ {{ {proxy} proxy_cache store; }}
    location / {{ {proxy} }}
  }}
}}
""")
    return ["nginx", "-p", str(folder), "-c", str(folder / "nginx.conf")]


def varnish(folder: Path, port: int, upstream: int) -> Sequence[str]:
    (folder / "bench.vcl").write_text(f"""
vcl 4.1;
backend upstream {{ .host = "127.0.0.1"; .port = "{upstream}"; }}
sub vcl_recv {{
  if (req.url ~ "^/page/") {{ set req.url = regsub(req.url, "^/page/", "/shell/"); }}
  if (req.url ~ "^/(uncached|slow)/") {{ return (pass); }}
  return (hash);
}}
sub vcl_backend_response {{ if (bereq.url ~ "^/shell/") {{ set beresp.do_esi = true; }} }}
""")
    options = ["-s", "malloc,64m", "-p", "thread_pools=1", "-p", "thread_pool_min=200"]
    work, vcl = str(folder / "varnish"), str(folder / "bench.vcl")
    return ["varnishd", "-F", "-j", "none", "-n", work, "-f", vcl, "-a", f"127.0.0.1:{port}", *options]


def gateway(folder: Path, port: int, upstream: int, settings: str = "") -> Sequence[str]:
    pages = folder / "fragments" / "bench" / "pages"
    pages.mkdir(parents=True)
    text = f"owner: bench\nupstream: http://127.0.0.1:{upstream}\n"
    text += "policy: {concurrency: 1024, timeout: {connect: 5s, first_byte: 5s, total: 10s}}\nfragments:\n"
    text += "".join(f'  {mode}: {{path: "/{mode}/{{n}}", params: {{n: {{type: int}}}}}}\n' for mode in page.MODES)
    text += "pages:\n"
    for mode in page.MODES:
        for kind in ("page", "late"):
            (pages / f"{kind}-{mode}.html").write_bytes(page.slots(mode, core=kind == "page"))
            text += f"  {kind}-{mode}: {{path: /{kind}/{mode}, template: pages/{kind}-{mode}.html, deadline: 10s}}\n"
    (pages / "mixed.html").write_bytes(page.mixed())
    text += "  mixed: {path: /page/mixed, template: pages/mixed.html, deadline: 10s}\n"
    (pages.parent / "context.yaml").write_text(text)
    (folder / "bff.yaml").write_text(f"logging: {{access: false}}\n{settings}")
    command = ["serve", "--config", str(folder / "bff.yaml"), "--fragments", str(folder / "fragments")]
    return [str(Path(sys.executable).with_name("bff")), *command, "--host", "127.0.0.1", "--port", str(port)]


SERVERS = (
    Server(name="nginx SSI", program="nginx", command=nginx, path="/page/{mode}"),
    Server(name="Varnish ESI", program="varnishd", command=varnish, path="/page/{mode}"),
    Server(name="bff, in order", program="bff", command=gateway, path="/page/{mode}"),
    Server(name="bff, as they finish", program="bff", command=gateway, path="/late/{mode}"),
)


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def start(stack: ExitStack, command: Sequence[str], port: int, core: int | None, log: Path) -> subprocess.Popen[bytes]:
    """Start a process on its core, wait until it accepts connections, end it when the stack does."""
    out = stack.enter_context(log.open("wb"))
    if core is not None and shutil.which("taskset"):
        command = ["taskset", "-c", str(core), *command]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT)
    stack.callback(end, process)
    for _ in range(100):
        with socket.socket() as probe:
            if process.poll() is None and probe.connect_ex(("127.0.0.1", port)) == 0:
                return process
        if process.poll() is not None:
            break
        time.sleep(0.1)
    raise RuntimeError(f"{command[-1 if core is None else 3]} did not start:\n{log.read_text()[-2000:]}")


def end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def cpu(pid: int) -> float:
    """CPU seconds that a process and all that it started have used."""
    ticks, todo = 0, [pid]
    while todo:
        process = Path(f"/proc/{todo.pop()}")
        try:
            fields = (process / "stat").read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
            for task in (process / "task").iterdir():
                todo += map(int, (task / "children").read_text().split())
        except OSError:  # it ended between two looks
            continue
    return ticks / os.sysconf("SC_CLK_TCK")
