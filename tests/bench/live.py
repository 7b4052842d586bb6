"""What open live connections cost a gateway: memory for each, and processor time for telling all of them something.

`python -m tests.bench.live [connections]` starts a gateway of its own and prints one line per figure.
"""

import asyncio
import os
import sys
import tempfile
from pathlib import Path

from tests.e2e.gateway import Process, Site, running
from tests.fakes import FakeContext, free_port

TOKEN = "of-the-bench"
EVENTS = 20


def memory(pid: int) -> int:
    """Resident bytes."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def spent(pid: int) -> float:
    """Seconds of processor time, user and system."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Listeners:
    """Clients that count what they are told, and do nothing else."""

    def __init__(self) -> None:
        self.events = 0
        self._tasks: list[asyncio.Task[None]] = []
        self._writers: list[asyncio.StreamWriter] = []  # a forgotten one closes its connection

    async def open(self, port: int, target: str) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(f"GET {target} HTTP/1.1\r\nhost: bench\r\n\r\n".encode())
        self._writers.append(writer)
        await reader.readuntil(b"id: ")
        self._tasks.append(asyncio.create_task(self._read(reader)))

    async def _read(self, reader: asyncio.StreamReader) -> None:
        while data := await reader.read(65536):
            self.events += data.count(b"event: refresh")

    async def heard(self, events: int) -> None:
        while self.events < events:  # noqa: ASYNC110 - one look now and then costs less than a wake-up for each
            await asyncio.sleep(0.005)


async def purge(gateway: Process, tag: str) -> None:
    headers = {"authorization": f"Bearer {TOKEN}", "content-type": "application/json"}
    body = f'{{"tag": "{tag}"}}'.encode()
    async with await gateway.ask("/_bff/admin/purge", method="POST", headers=headers, body=body) as answer:
        await answer.rest()


async def measured(connections: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        site = Site(Path(folder))
        fragment = {"path": "/p/{n}", "params": {"n": {"type": "int"}}, "tags": ["p:{n}", "every"]}
        async with FakeContext() as context:
            site.page("", {"price": fragment}, upstream=context.origin)
            site.settings({"admin": {"token": TOKEN}, "logging": {"access": False}})
            port = free_port()
            where = ("--config", f"{folder}/bff.yaml", "--fragments", f"{folder}/fragments", "--port", str(port))
            async with running("serve", *where, port=port, log=Path(folder) / "log") as gateway:
                await report(gateway, port, connections)


async def report(gateway: Process, port: int, connections: int) -> None:
    pid, clients = gateway.process.pid, Listeners()
    query = "&".join(f"fragment=shop/price?n={n}" for n in range(3))  # a page's three slots
    for _ in range(20):
        await clients.open(port, f"/_bff/live?{query}")
    before, began = memory(pid), spent(pid)
    for _ in range(connections):
        await clients.open(port, f"/_bff/live?{query}")
    print(f"{connections} connections: {(memory(pid) - before) / connections / 1024:.1f} KiB each")
    print(f"opening: {(spent(pid) - began) / connections * 1e6:.0f} µs of processor time each")
    began = spent(pid)
    await asyncio.sleep(15)
    print(f"at rest: {(spent(pid) - began) / 15 * 100:.1f} % of a processor")
    began = spent(pid)
    for number in range(1, EVENTS + 1):
        await purge(gateway, "p:1")
        await clients.heard(number * (connections + 20))
    print(f"an event to all: {(spent(pid) - began) / EVENTS / (connections + 20) * 1e6:.1f} µs each")
    began = spent(pid)
    for _ in range(200):
        await purge(gateway, "nobody:1")
    print(f"a purge that concerns nobody: {(spent(pid) - began) / 200 * 1e6:.0f} µs")


if __name__ == "__main__":
    asyncio.run(measured(int(sys.argv[1]) if len(sys.argv) > 1 else 2000))
