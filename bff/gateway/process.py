"""The process of `bff serve` and `bff dev`: the gateway made from settings, served until a signal ends it."""

from __future__ import annotations

import gc
import secrets
import socket
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from bff.config.settings import Settings
from bff.errors import Finding, UnusableInput
from bff.gateway.app import Gateway
from bff.gateway.identity import Identifier
from bff.gateway.logs import Log
from bff.gateway.peers import Peers
from bff.gateway.server import bind, opened, run, url
from bff.gateway.state import App, Drain
from bff.gateway.telemetry import Counters, Gauges
from bff.gateway.workers import Supervisor, reserve
from bff.model import Fetch
from bff.registry import Registry, World

if TYPE_CHECKING:
    from bff.gateway.tokens import Tokens


def serve(
    settings: Settings, *, env: Mapping[str, str], config: Path | None, dev: bool = False, log_format: str | None = None
) -> None:
    """Run the gateway until a signal ends it: `bff serve`, and with `dev` `bff dev`."""
    given, settings = settings, with_token(settings) if dev else settings
    made = settings is not given
    log = Log(
        form="console" if (log_format or settings.logging.format) == "console" else "json",
        access=settings.logging.access,
    )
    process = _Process(settings, env, config, log, dev=dev, made=made)
    if settings.workers == 1:
        process.serve()
        return
    listen, held = opened(settings.listen, reserve)
    with tempfile.TemporaryDirectory(prefix="bff-") as folder:

        def work(index: int, ready: Callable[[], None]) -> None:
            process.serve(bind(listen, shared=True), Peers(Path(folder), index, settings.workers), ready)

        def all_ready() -> None:
            log.event("ready", url=url(held), workers=settings.workers)
            if made:
                lead(settings, url(held))

        code = Supervisor(settings.workers, work, log=log, ready=all_ready).run()
    log.event("stopped")
    log.flush()
    if code:
        raise SystemExit(code)


def with_token(settings: Settings) -> Settings:
    """The same with a token for the admin API, told on standard error, where nobody has configured one."""
    if settings.admin.token or settings.admin.tokens:
        return settings
    token = secrets.token_urlsafe(18)
    sys.stderr.write(f"admin token, as long as this runs: {token}\n")
    return settings.model_copy(update={"admin": settings.admin.model_copy(update={"token": token})})


def lead(settings: Settings, url: str) -> None:
    """Tell where the dashboard is, with the token that was made for it behind the `#`: browsers keep that to themselves."""
    where = f"http://{settings.admin.listen}" if settings.admin.listen else url
    if where.startswith("http"):
        sys.stderr.write(f"dashboard: {where}/_bff/admin/#{settings.admin.token}\n")


class _Process:
    """One process that serves: the only one, or a worker. `made`: the admin token was made for this run."""

    def __init__(
        self, settings: Settings, env: Mapping[str, str], config: Path | None, log: Log, *, dev: bool, made: bool
    ) -> None:
        self._settings = settings
        self._registry = Registry(settings, env, config=config)
        self._log = log
        self._dev = dev
        self._made = made

    def serve(
        self,
        listener: socket.socket | None = None,
        peers: Peers | None = None,
        ready: Callable[[], None] | None = None,
    ) -> None:
        """Serve until a signal ends it; a worker is given its socket, its peers and whom to tell that it is ready."""
        log, registry = self._log, self._registry
        log.start()
        try:
            gateway = make(self._settings, registry, log=log, dev=self._dev, peers=peers)
            for finding in registry.load().findings:
                if peers is None or peers.first:
                    log.finding(finding)
            _settle_down()

            def told(url: str) -> None:
                if ready is not None:
                    ready()
                    return
                world = registry.world
                log.event("ready", url=url, pages=len(world.pages), fragments=len(world.fragments))
                if self._made:
                    lead(self._settings, url)

            run(
                gateway,
                settings=self._settings,
                drain=gateway.drain,
                telemetry=gateway.telemetry,
                on_reload=gateway.reload,
                ready=told,
                dev=self._dev,
                listener=listener,
                beside=self._beside(gateway),
            )
            if peers is None:
                log.event("stopped")
        finally:
            log.close()

    def _beside(self, gateway: Gateway) -> tuple[App, socket.socket] | None:
        """What operators ask for on a port of its own, where the settings name one; all workers share it."""
        listen = self._settings.admin.listen
        if not listen:
            return None
        return gateway.operations, opened(listen, partial(bind, shared=self._settings.workers > 1))


def _settle_down() -> None:
    """Take what lives as long as the process out of the garbage collector's sight, and let it look less often.

    Pages make no reference cycles; collecting after every 700 allocations was measured at a tenth of an uncached page.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)


def make(
    settings: Settings,
    registry: Registry,
    *,
    log: Log,
    dev: bool = False,
    fetch: Fetch | None = None,
    peers: Peers | None = None,
) -> Gateway:
    """The application with everything that the settings name."""
    drain = Drain()
    identifier = Identifier(
        header=settings.identity.header.name, trusted_proxies=settings.trusted_proxies, tokens=verifier(settings)
    )
    telemetry = Counters(log)
    gateway = Gateway(
        settings,
        registry,
        telemetry=telemetry,
        log=log,
        identifier=identifier,
        dev=dev,
        fetch=fetch,
        drain=drain,
        peers=peers,
    )
    telemetry.gauges = Gauges(
        streams=lambda: drain.streams,
        entries=lambda: gateway.running.store.entries if gateway.running else 0,
        bytes=lambda: gateway.running.store.bytes if gateway.running else 0,
        breakers=lambda: _breakers(gateway),
        limits=lambda: _limits(gateway),
        contexts=lambda: _contexts(registry.world),
    )
    return gateway


def verifier(settings: Settings) -> Tokens | None:
    """What verifies tokens, where there are any. Raises `UnusableInput` where their keys are in a file that cannot be used."""
    jwt = settings.identity.jwt
    if jwt is None:
        return None
    from bff.gateway.tokens import Rules, Tokens  # noqa: PLC0415 - only where it is used: a start waits for it

    rules = Rules(
        authorization=tuple(jwt.authorization),
        cookies=tuple(jwt.cookies),
        keys=jwt.keys,
        issuer=jwt.issuer,
        audience=jwt.audience,
        claim=jwt.claim,
    )
    try:
        return Tokens(rules)
    except (OSError, ValueError) as error:
        raise UnusableInput([_unusable(jwt.keys, error)]) from None


def _unusable(keys: str, error: OSError | ValueError) -> Finding:
    """A file of keys that is there, but cannot be used."""
    why = error.strerror if isinstance(error, OSError) else str(error).partition("; ")[0]
    message = f"identity.jwt.keys cannot be used: {why}"
    remedy = "write PEM or a JWK set with RSA, EC or Ed25519 keys, readable for the gateway"
    return Finding(file=keys, line=1, column=1, code="bad-keys", message=message, remedy=remedy)


def _breakers(gateway: Gateway) -> Iterable[tuple[str, int]]:
    """The state of each fragment's breaker; of a context's proxy routes, that of the worst."""
    found: dict[str, int] = {}
    for live in gateway.running.guarded.states() if gateway.running else ():
        name = live.name.partition(":")[0]
        found[name] = max(live.state.value, found.get(name, 0))
    return found.items()


def _limits(gateway: Gateway) -> Iterable[tuple[str, int]]:
    states = gateway.running.guarded.states() if gateway.running else ()
    return {live.context: live.limit for live in states if live.limit is not None}.items()


def _contexts(world: World) -> list[tuple[str, str, bool]]:
    """Each with its owner and whether it loaded; of one that is left out, the owner is known from what is wrong with it."""
    owners = {finding.context: finding.owner for finding in world.findings if finding.owner}
    owners |= {name: context.owner for name, context in world.contexts.items()}
    return [(name, owners.get(name, ""), good) for name, good in world.loaded.items()]
