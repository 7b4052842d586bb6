"""The command `bff`: what people type, what they are told, and with which exit code (contract §4).

Every command is a few lines over a module that does the work. Nothing ends in a traceback: what is wrong is told on
standard error. Exit codes: 0 well, 1 findings, 2 unusable input. What is asked of a running gateway is in `operations`.
"""

from __future__ import annotations

import json
import sys
from functools import partial
from importlib.metadata import version
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, Literal

import anyio
import typer
from rich.console import Console

from bff import demo as processes
from bff import findings as told
from bff import fitness, operations, scaffold, waterfall
from bff import verify as verification
from bff.arguments import (
    FOUND,
    UNUSABLE,
    WELL,
    ConfigFile,
    Folder,
    Host,
    LogFormat,
    Port,
    Workers,
    complain,
    plainly,
)
from bff.chosen import Chosen, Unusable, choose
from bff.config.schema import context_schema, settings_schema
from bff.config.settings import written
from bff.errors import UnusableInput
from bff.paths import demo_folder
from bff.registry import Registry, World

if TYPE_CHECKING:
    from bff.gateway.app import Rendered

ACCEPT: Final = {"html": "text/html", "json": "application/json", "ndjson": "application/x-ndjson"}

app = typer.Typer(
    help="Streams pages made of fragments, each from its own context's service, under one deadline.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
new = typer.Typer(help="Write a new context, fragment or page; nothing is ever overwritten.", no_args_is_help=True)
app.add_typer(new, name="new")


def main() -> None:
    """The console script. A defect is told in one line, too."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # whatever a terminal cannot show, what is wrong is told
            stream.reconfigure(errors="backslashreplace")
    try:
        app(prog_name="bff")
    except Exception as error:  # noqa: BLE001 - the last resort of a command
        complain(f"{type(error).__name__}: {error}")
        sys.exit(UNUSABLE)


@app.callback(invoke_without_command=True)
def root(*, shown: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False) -> None:
    if shown:
        typer.echo(f"bff {version('bff')}")
        raise typer.Exit


def run(
    *,
    config: Path | None,
    fragments: Path | None,
    host: str | None,
    port: int | None,
    workers: int | None,
    log_format: str | None,
    dev: bool,
) -> None:
    from bff.gateway import process as gateway  # noqa: PLC0415 - the other commands start without a server

    with plainly():
        chosen = choose(config, fragments).listening(host, port)
        chosen = chosen.working(workers)
        gateway.serve(chosen.settings, env=chosen.env, config=chosen.config, dev=dev, log_format=log_format)


# --- commands ---------------------------------------------------------------------------------------------------------


@app.command()
def serve(
    *,
    config: ConfigFile = None,
    fragments: Folder = None,
    host: Host = None,
    port: Port = None,
    workers: Workers = None,
    log_format: LogFormat = None,
) -> None:
    """Run the gateway in production: no overlay, JSON logs. SIGTERM drains, SIGHUP reloads.

    Example: bff serve --config /etc/bff/bff.yaml --port 8080
    """
    run(config=config, fragments=fragments, host=host, port=port, workers=workers, log_format=log_format, dev=False)


@app.command()
def dev(
    *,
    config: ConfigFile = None,
    fragments: Folder = None,
    host: Host = None,
    port: Port = None,
    workers: Workers = None,
    log_format: LogFormat = "console",
) -> None:
    """Run the gateway for developers: an overlay on each page, logs for people; what is saved shows at once.

    Example: bff dev --fragments fragments --port 8000
    """
    run(config=config, fragments=fragments, host=host, port=port, workers=workers, log_format=log_format, dev=True)


@app.command()
def check(
    config: ConfigFile = None,
    fragments: Folder = None,
    form: Annotated[told.Form, typer.Option("--format", help="For people, programs, or a change's review.")] = "text",
) -> None:
    """Read all registrations and say everything that is wrong with them, and whose it is.

    Exit code 0: well, notes at most; 1: findings; 2: bff.yaml cannot be used. Example: bff check --format github
    """
    with plainly():
        chosen = choose(config, fragments)
        world = chosen.registry().world
        if chosen.settings.identity.jwt is not None:
            from bff.gateway import process as gateway  # noqa: PLC0415 - as above

            gateway.verifier(chosen.settings)  # whose keys are in a file that serving could not do without
    outside = chosen.findings if chosen.config is None else []  # else they are among the world's
    strangers = fitness.strangers(world, chosen.settings, written(chosen.config, env=chosen.env))
    found = [*outside, *world.findings, *strangers, *fitness.rules(world, chosen.settings.ceilings)]
    findings = told.relative(found, Path.cwd())
    counts = {"contexts": len(world.loaded), "fragments": len(world.fragments), "pages": len(world.pages)}
    for line in told.lines(findings, counts, form):
        typer.echo(line)
    raise typer.Exit(FOUND if told.failing(findings) else WELL)


@app.command()
def render(
    path: Annotated[str, typer.Argument(metavar="PATH", help="A page's path, with its query string.")],
    *,
    config: ConfigFile = None,
    fragments: Folder = None,
    header: Annotated[
        list[str] | None, typer.Option(metavar="NAME:VALUE", help="Of the browser's request; repeat it.")
    ] = None,
    accept: Annotated[Literal["html", "json", "ndjson"], typer.Option(help="The form of the page.")] = "html",
    principal: Annotated[str, typer.Option(metavar="NAME", help="Who is signed in.")] = "",
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the page there instead.")] = None,
) -> None:
    """Make one page here and now: the page on standard output, where its time went on standard error.

    Example: bff render /checkout/1 --principal ada > page.html
    """
    with plainly():
        headers = [_header(text) for text in header or []]
        chosen = choose(config, fragments).having(watch=False)
        if principal:
            chosen = chosen.trusting_us()
            headers.append((chosen.settings.identity.header.name.encode(), principal.encode()))
        registry = chosen.registry()
        rendered = anyio.run(_rendered, chosen, registry, path, [(b"accept", ACCEPT[accept].encode()), *headers])
        if rendered.report is None and rendered.status == 400:
            raise Unusable(
                f"{path} asks wrongly: a query parameter is missing, repeated or not valid; see the page's `query`"
            )
        if rendered.report is None:
            routes = ", ".join(sorted(page.route for page in registry.world.pages.values())) or "none"
            raise Unusable(f"there is no page at {path}; routes are {routes}")
        _write(rendered.body, out)
    waterfall.draw(rendered.report, Console(stderr=True, highlight=False))
    raise typer.Exit(WELL if rendered.status < 400 else FOUND)


@app.command()
def simulate(
    path: Annotated[str, typer.Argument(metavar="PATH", help="A page's path, with its query string.")],
    *,
    slow: Annotated[
        list[str] | None, typer.Option(metavar="NAME=DURATION", help="Answers only then; repeat it, as the next two.")
    ] = None,
    down: Annotated[list[str] | None, typer.Option(metavar="NAME", help="Nobody listens there.")] = None,
    error: Annotated[list[str] | None, typer.Option(metavar="NAME=STATUS", help="Answers with this status.")] = None,
    stale: Annotated[bool, typer.Option("--stale", help="There are copies, a minute past their time.")] = False,
    principal: Annotated[str, typer.Option(metavar="NAME", help="Who is signed in.")] = "",
    config: ConfigFile = None,
    fragments: Folder = None,
) -> None:
    """Say what a page would be if a context or a fragment (NAME) were slow, down or broken, without asking anybody.

    All others answer within 20 ms; registered policies and fallbacks hold. Exit code 0: the page stands; 1: it is an error.
    Example: bff simulate /checkout/1 --slow discovery=3s --down recommendations --error enterprise/offers=500 --stale
    """
    from bff import simulate as scenes  # noqa: PLC0415 - the other commands start without a server

    with plainly():
        wrong = scenes.asked(slow or [], down or [], error or [], stale=stale)
        chosen = choose(config, fragments)
        made = scenes.simulate(chosen, chosen.registry(), path, wrong, principal=principal)
    waterfall.draw(made.report, Console(highlight=False))
    for line in made.lines:
        typer.echo(line)
    raise typer.Exit(WELL if made.report.status < 400 else FOUND)


@app.command()
def verify(
    context: Annotated[str, typer.Argument(metavar="CONTEXT", help="The context, such as discovery.")],
    *,
    config: ConfigFile = None,
    fragments: Folder = None,
    form: Annotated[told.Form, typer.Option("--format", help="For people, programs, or a change's review.")] = "text",
    header: Annotated[
        list[str] | None, typer.Option(metavar="NAME:VALUE", help="Of the browser's request; repeat it.")
    ] = None,
    principal: Annotated[str, typer.Option(metavar="NAME", help="Who is signed in.")] = "",
) -> None:
    """Ask a context's live service for each of its fragments, and say where it is not what is registered.

    Parameters have the values of their `example`. Exit codes as of `bff check`. Example: bff verify discovery
    """
    with plainly():
        headers = [_header(text) for text in header or []]
        chosen = choose(config, fragments)
        world = chosen.registry().world
        if context not in world.contexts:
            broken = [finding for finding in world.findings if finding.context == context]
            if broken:
                raise UnusableInput(broken)
            raise Unusable(f"there is no context {context}; there are {', '.join(world.contexts) or 'none'}")
        limits = chosen.settings.limits
        ask = partial(verification.verify, world, context, render=limits.render, header_bytes=limits.header_bytes)
        found = anyio.run(partial(ask, principal=principal or None, headers=headers))
    findings = told.relative(found, Path.cwd())
    for line in told.lines(findings, {"fragments": len(world.contexts[context].fragments)}, form):
        typer.echo(line)
    raise typer.Exit(FOUND if told.failing(findings) else WELL)


@app.command()
def schema(
    of: Annotated[Literal["context", "settings"], typer.Argument(help="context.yaml, or bff.yaml.")] = "context",
    config: ConfigFile = None,  # noqa: ARG001 - which all commands take: a schema is the same everywhere
    fragments: Folder = None,  # noqa: ARG001 - as above
) -> None:
    """Print the JSON Schema of context.yaml or bff.yaml, for editors.

    Example: bff schema context > .vscode/context.schema.json
    """
    made = context_schema() if of == "context" else settings_schema()
    typer.echo(json.dumps(made, indent=2, ensure_ascii=False))


@app.command()
def demo(
    port: Annotated[int, typer.Option(min=1, max=65535, metavar="PORT", help="The gateway's.")] = 8000,
    config: ConfigFile = None,
    fragments: Folder = None,
) -> None:
    """Start the demo: its contexts' services and the gateway, all ended again by Ctrl-C.

    Example: bff demo --port 8000
    """
    folder = (fragments or demo_folder()).resolve()
    beside = folder.parent / "bff.yaml"
    with plainly():
        chosen = choose(config or (beside if beside.is_file() else None), folder)
        world = chosen.registry().world
        _complete(world)
        events, settings = chosen.settings.events, chosen.config
        children = processes.family(world.contexts.values(), folder, port=port, config=settings, events=events)
        for child, taken in processes.busy(children):
            raise Unusable(processes.advice(child, taken))
    typer.echo(f"starting {len(children)} processes …")
    greeting = "\n".join(processes.welcome(world.contexts.values(), port))
    raise typer.Exit(anyio.run(partial(processes.run, children, started=lambda: typer.echo(greeting), tell=complain)))


# --- new --------------------------------------------------------------------------------------------------------------


@new.command("context")
def new_context(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The context, such as discovery.")],
    upstream: Annotated[str, typer.Option(metavar="URL", help="Where its service answers.")],
    owner: Annotated[str, typer.Option(metavar="TEAM", help="Who owns it.")],
    config: ConfigFile = None,
    fragments: Folder = None,
) -> None:
    """Write a context's folder.

    Example: bff new context discovery --upstream http://127.0.0.1:9102 --owner team-discovery
    """
    with plainly():
        chosen = choose(config, fragments)
        root = chosen.settings.fragments
        _wrote(scaffold.new_context(root, name, upstream=upstream, owner=owner, env=chosen.env, judge=chosen.judge()))


@new.command("fragment")
def new_fragment(
    name: Annotated[str, typer.Argument(metavar="CONTEXT/NAME", help="The fragment, such as discovery/course-card.")],
    config: ConfigFile = None,
    fragments: Folder = None,
) -> None:
    """Register a fragment with a static fallback.

    Example: bff new fragment discovery/course-card
    """
    with plainly():
        chosen = choose(config, fragments)
        _wrote(scaffold.new_fragment(chosen.settings.fragments, name, env=chosen.env, judge=chosen.judge()))


@new.command("page")
def new_page(
    name: Annotated[str, typer.Argument(metavar="CONTEXT/NAME", help="The page, such as discovery/courses.")],
    path: Annotated[str, typer.Option(metavar="ROUTE", help="Its route: /courses/{course_key}.")],
    config: ConfigFile = None,
    fragments: Folder = None,
) -> None:
    """Register a page with a shell that shows the context's own fragments.

    Example: bff new page discovery/courses --path /courses
    """
    with plainly():
        chosen = choose(config, fragments)
        _wrote(scaffold.new_page(chosen.settings.fragments, name, path=path, env=chosen.env, judge=chosen.judge()))


operations.add(app)  # last in the list, too: first what everybody needs


# --- what the commands say and do -------------------------------------------------------------------------------------


def _header(text: str) -> tuple[bytes, bytes]:
    name, colon, value = text.partition(":")
    if not colon or not name.strip():
        raise Unusable(f"{text!r} is no header; write NAME:VALUE, such as accept-language:es")
    return name.strip().lower().encode("latin-1"), value.strip().encode("latin-1")


async def _rendered(chosen: Chosen, registry: Registry, path: str, headers: list[tuple[bytes, bytes]]) -> Rendered:
    from bff.gateway import process as gateway  # noqa: PLC0415 - as above
    from bff.gateway.logs import Log  # noqa: PLC0415 - as above

    made = gateway.make(chosen.settings, registry, log=Log(access=False))  # never started: the waterfall tells it all
    async with made.started():
        return await made.render(path, headers=headers)


def _write(body: bytes, out: Path | None) -> None:
    if out is None:
        sys.stdout.buffer.write(body)
        sys.stdout.flush()
        return
    try:
        out.write_bytes(body)
    except OSError as error:
        raise Unusable(f"{out} cannot be written: {error.strerror}") from None


def _wrote(files: list[Path]) -> None:
    for file in files:
        typer.echo(f"wrote {file}")
    typer.echo("`bff check` reads it, `bff dev` shows it")


def _complete(world: World) -> None:
    """The demo needs all of its contexts."""
    broken = [name for name, good in world.loaded.items() if not good]
    if broken:
        raise UnusableInput([finding for finding in world.findings if finding.context in broken])
