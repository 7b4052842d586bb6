"""The commands that ask a running gateway: purge, override, and explain with --url."""

from __future__ import annotations

from typing import Annotated

import typer

from bff import explain as explanations
from bff import operate
from bff.arguments import ConfigFile, Folder, Token, Url, plainly
from bff.chosen import Unusable, choose
from bff.config.options import Settings


def add(app: typer.Typer) -> None:
    """Make them commands of `app`."""
    for command in (explain, purge, override):
        app.command()(command)


def explain(
    name: Annotated[str, typer.Argument(metavar="PAGE|FRAGMENT", help="A full name, such as ecommerce/checkout.")],
    url: Url = "",
    token: Token = "",
    config: ConfigFile = None,
    fragments: Folder = None,
) -> None:
    """Say where every value of a page or a fragment comes from, a line each; with --url as a running gateway has it now.

    Example: bff explain discovery/course-card
    """
    with plainly():
        if url:
            for line in _gateway(url, token, config, fragments).explain(name):
                typer.echo(line)
            return
        chosen = choose(config, fragments)
        world = chosen.registry().world
        lines = list(explanations.of(world, name, chosen.settings.ceilings))
        if not lines:
            near = explanations.names(world, name)
            raise Unusable(
                f"there is no page or fragment {name}; "
                + (f"nearest: {', '.join(near)}" if near else "see `bff check`")
            )
    for line in lines:
        typer.echo(line)


def purge(
    *,
    tag: Annotated[
        list[str] | None, typer.Option(metavar="TAG", help="Entries with this tag, such as course:1; may be repeated.")
    ] = None,
    fragment: Annotated[str, typer.Option(metavar="NAME", help="Entries of a fragment: discovery/course-card.")] = "",
    context: Annotated[str, typer.Option(metavar="NAME", help="Entries of a context.")] = "",
    all_: Annotated[bool, typer.Option("--all", help="Every entry.")] = False,
    soft: Annotated[bool, typer.Option("--soft", help="Mark them stale and fetch them again.")] = False,
    url: Url = "",
    token: Token = "",
    config: ConfigFile = None,
    fragments: Folder = None,
) -> None:
    """Make a running gateway forget what it keeps, or with --soft fetch it again.

    Reaches all of its workers and machines. Example: bff purge --tag course:1 --soft --url http://127.0.0.1:8000
    """
    tags = tag[0] if tag and len(tag) == 1 else tag  # one is told as gateways of every age understand it
    named = {"tag": tags, "fragment": fragment, "context": context, "all": all_}
    asked: dict[str, object] = {name: value for name, value in named.items() if value}
    with plainly():
        if len(asked) != 1:
            raise Unusable("say what to purge: one of --tag, --fragment, --context, --all")
        said = _gateway(url, token, config, fragments).purge(asked | {"soft": soft})
    typer.echo(said)


def override(
    target: Annotated[
        str, typer.Argument(metavar="[TARGET]", help="A context, fragment or page: discovery/course-card.")
    ] = "",
    values: Annotated[
        list[str] | None,
        typer.Argument(metavar="KEY=VALUE…", help="Policy keys, such as timeout.total=800ms; of a page: deadline."),
    ] = None,
    *,
    lasting: Annotated[str, typer.Option("--for", metavar="DURATION", help="How long it holds: 2h, at most 30d.")] = "",
    reason: Annotated[str, typer.Option(metavar="TEXT", help="Why, for whoever finds it.")] = "",
    list_: Annotated[bool, typer.Option("--list", help="Show what is overridden.")] = False,
    clear: Annotated[bool, typer.Option("--clear", help="End what is overridden of TARGET.")] = False,
    url: Url = "",
    token: Token = "",
    config: ConfigFile = None,
    fragments: Folder = None,
) -> None:
    """Change policies of a running gateway for a while: on all of its workers and machines, within the ceilings, on record.

    Example: bff override discovery/course-card timeout.total=800ms state=stored --for 2h --reason "slow since the release"
    """
    with plainly():
        gateway = _gateway(url, token, config, fragments)
        if list_:
            lines = gateway.overrides()
        elif not target:
            raise Unusable("say what to override: bff override TARGET KEY=VALUE… --for 2h --reason TEXT, or --list")
        elif clear:
            lines = [gateway.clear(target)]
        else:
            lines = [gateway.override(target, _pairs(values or []), lasting, reason)]
    for line in lines:
        typer.echo(line)


def _gateway(url: str, token: str, config: ConfigFile, fragments: Folder) -> operate.Gateway:
    settings = Settings() if url and token else choose(config, fragments).settings
    return operate.gateway(url, token, settings)


def _pairs(texts: list[str]) -> dict[str, str]:
    pairs = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise Unusable(f"{text!r} is no KEY=VALUE, such as timeout.total=800ms")
        pairs[key] = value
    return pairs
