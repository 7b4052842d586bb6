"""What holds for one command: the settings file, the environment over it, the command line over both."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bff.config.options import Settings
from bff.config.settings import DEFAULT, read_settings
from bff.errors import Finding
from bff.registry import Registry


class Unusable(Exception):
    """What was typed cannot be used; the message says why, and what could."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """Settings, where they came from, and what is noteworthy about them."""

    settings: Settings
    config: Path | None
    env: Mapping[str, str]
    findings: tuple[Finding, ...] = ()

    def registry(self) -> Registry:
        """The registrations, loaded. Raises `Unusable` where their folder is missing."""
        folder = self.settings.fragments
        if not folder.is_dir():
            raise Unusable(f"there is no folder {folder}; name it with --fragments, or begin with `bff new context`")
        registry = Registry(self.settings, self.env, config=self.config)
        registry.load()
        return registry

    def judge(self) -> Callable[[], Iterable[Finding]]:
        """Reads all registrations whenever it is called, and gives what is wrong; who held a route before keeps it."""
        registry = Registry(self.settings, self.env, config=self.config)
        return lambda: registry.load().findings

    def having(self, **changes: Any) -> Chosen:
        """The same with other settings."""
        return replace(self, settings=self.settings.model_copy(update=changes))

    def listening(self, host: str | None, port: int | None) -> Chosen:
        """The same at another address, port, or both."""
        known_host, _, known_port = self.settings.listen.rpartition(":")
        bare = host.strip("[]") if host else ""
        address = (f"[{bare}]" if ":" in bare else bare) or known_host
        return self.having(listen=f"{address}:{port or known_port}")

    def working(self, workers: int | None) -> Chosen:
        """The same with this number of workers. Raises `Unusable` where they could share nothing."""
        if workers is not None and workers > 1 and self.settings.store == "memory://":
            raise Unusable(f"{workers} workers cannot share memory://; set store: sqlite:///var/bff.sqlite in bff.yaml")
        return self if workers is None else self.having(workers=workers)

    def trusting_us(self) -> Chosen:
        """The same believing identity headers of requests made in this process."""
        return self.having(trusted_proxies=(*self.settings.trusted_proxies, "127.0.0.1"))


def choose(config: Path | None, fragments: Path | None, env: Mapping[str, str] = os.environ) -> Chosen:
    """Read the settings: `config`, or `bff.yaml` where there is one. Raises `errors.UnusableInput`."""
    file = config or (DEFAULT if DEFAULT.is_file() else None)
    settings, findings = read_settings(file, env=env)
    made = Chosen(settings=settings, config=file.absolute() if file else None, env=env, findings=tuple(findings))
    return made if fragments is None else made.having(fragments=fragments.absolute())
