"""What the workers of one gateway tell each other, so that any one of them can speak for all: numbers, and how they stand.

Each worker gives its own on a unix socket in a folder that only they know; who is asked reads the others'. One that does
not answer in time is left out. The only importer of Prometheus' parser.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import Metric

_WITHIN: Final = 0.25  # seconds for a worker to answer; a loop that lags for longer has other worries
_HIGHEST: Final = frozenset({"bff_build_info", "bff_context_info", "bff_breaker_state"})
_LOWEST: Final = frozenset({"bff_config_last_reload_successful", "process_start_time_seconds"})


class Peers:
    """Worker number `index` of `count`, whose sockets are in `folder`."""

    def __init__(self, folder: Path, index: int, count: int) -> None:
        self._folder = folder
        self._index = index
        self._count = count
        self._server: asyncio.Server | None = None

    @property
    def first(self) -> bool:
        """Whether it speaks for all where one is enough."""
        return self._index == 0

    async def start(self, answers: Mapping[str, Callable[[], bytes]]) -> None:
        """Give the other workers from now on what they ask for by name."""

        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with suppress(OSError, asyncio.LimitOverrunError):
                async with asyncio.timeout(_WITHIN):
                    told = answers.get((await reader.readline()).decode().strip())
                    writer.write(told() if told is not None else b"")
                    await writer.drain()
            writer.close()

        path = self._path(self._index)
        path.unlink(missing_ok=True)
        self._server = await asyncio.start_unix_server(answer, path)

    async def aclose(self) -> None:
        if self._server is not None:
            self._server.close()
            self._path(self._index).unlink(missing_ok=True)

    async def summed(self, own: bytes) -> bytes:
        """`own` exposition together with that of every other worker that answers."""
        return summed([own, *await self.others("metrics")])

    async def others(self, what: str) -> list[bytes]:
        """What every other worker that answers says when it is asked for this."""
        answers = await asyncio.gather(*(self._ask(i, what) for i in range(self._count) if i != self._index))
        return [text for text in answers if text]

    async def _ask(self, index: int, what: str) -> bytes:
        try:
            async with asyncio.timeout(_WITHIN):
                reader, writer = await asyncio.open_unix_connection(self._path(index))
                try:
                    writer.write(f"{what}\n".encode())
                    return await reader.read()
                finally:
                    writer.close()
        except OSError:  # TimeoutError included: it is starting, ending or busy
            return b""

    def _path(self, index: int) -> Path:
        return self._folder / f"{index}.sock"


def summed(texts: Iterable[bytes]) -> bytes:
    """Several expositions in Prometheus' text format as one: samples of one name and labels added up.

    States that do not add up are taken at their worst: the highest of infos and breakers, the lowest of successes.
    """
    from prometheus_client.parser import text_string_to_metric_families  # noqa: PLC0415 - a start waits for it

    families: dict[str, Metric] = {}
    samples: dict[str, dict[tuple[str, tuple[tuple[str, str], ...]], float]] = {}
    for text in texts:
        for family in text_string_to_metric_families(text.decode()):
            families.setdefault(family.name, family)
            found = samples.setdefault(family.name, {})
            for sample in family.samples:
                key = (sample.name, tuple(sample.labels.items()))
                found[key] = _joined(family.name, found[key], sample.value) if key in found else sample.value
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Summed(families, samples))
    return generate_latest(registry)


def _joined(family: str, one: float, other: float) -> float:
    if family in _HIGHEST:
        return max(one, other)
    return min(one, other) if family in _LOWEST else one + other


class _Summed:
    """A collector of what was added up."""

    def __init__(
        self,
        families: dict[str, Metric],
        samples: dict[str, dict[tuple[str, tuple[tuple[str, str], ...]], float]],
    ) -> None:
        self._families = families
        self._samples = samples

    def collect(self) -> Iterator[Metric]:
        for name, family in self._families.items():
            made = Metric(name, family.documentation, family.type)
            for (sample, labels), value in self._samples[name].items():
                made.add_sample(sample, dict(labels), value)
            yield made
