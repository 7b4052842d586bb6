"""What the commands share: options that mean the same everywhere, exit codes, and how a mistake is told."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Literal

import typer

from bff import findings as told
from bff import scaffold
from bff.chosen import Unusable
from bff.errors import UnusableInput

WELL, FOUND, UNUSABLE = 0, 1, 2

ConfigFile = Annotated[
    Path | None, typer.Option("--config", metavar="FILE", help="Operator settings; bff.yaml where there is one.")
]
Folder = Annotated[
    Path | None, typer.Option("--fragments", metavar="DIR", help="Registrations, instead of the settings' folder.")
]
Host = Annotated[str | None, typer.Option(metavar="ADDRESS", help="Where to listen, instead of the settings' address.")]
Port = Annotated[int | None, typer.Option(min=1, max=65535, metavar="PORT", help="Instead of the settings' port.")]
Url = Annotated[
    str, typer.Option("--url", metavar="URL", help="The running gateway, instead of the settings' address.")
]
Token = Annotated[
    str, typer.Option("--token", metavar="TOKEN", help="Of its admin API, instead of the settings' (BFF_ADMIN__TOKEN).")
]
Workers = Annotated[int | None, typer.Option(min=1, metavar="N", help="Processes sharing the port.")]
LogFormat = Annotated[Literal["json", "console"] | None, typer.Option(help="JSON objects, or lines for people.")]


def complain(message: str) -> None:
    typer.echo(f"error: {message}", err=True)


@contextmanager
def plainly() -> Iterator[None]:
    """What a command cannot use ends it with exit code 2 and says so."""
    try:
        yield
    except UnusableInput as unusable:
        for finding in told.relative(unusable.findings, Path.cwd()):
            typer.echo(str(finding), err=True)
        raise typer.Exit(UNUSABLE) from None
    except (scaffold.Refused, Unusable) as refused:
        complain(str(refused))
        raise typer.Exit(UNUSABLE) from None
