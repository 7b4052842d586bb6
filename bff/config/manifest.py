"""One registration: `context.yaml` read, with everything that is wrong with it.

Knows one folder at a time: what a registration says about other contexts is judged by the registry.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, Literal

from bff.config import yaml
from bff.config.check import check
from bff.config.remains import remains, untold
from bff.config.spec import Spec
from bff.config.validate import validate
from bff.config.yaml import Loc
from bff.errors import Finding

FILE: Final = "context.yaml"
UPSTREAM_PREFIX: Final = "BFF_UPSTREAM__"
_OWNER: Final = re.compile(rb"^owner:[ \t]+[\"']?([A-Za-z0-9][A-Za-z0-9_./@-]*)", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """One registration, read and checked. `spec.upstream` is the one that holds: the environment's, if it names one."""

    name: str
    folder: Path
    spec: Spec
    document: yaml.Document = field(repr=False)

    @property
    def owner(self) -> str:
        return self.spec.owner

    @property
    def file(self) -> str:
        return self.document.file

    def at(self, *loc: str | int) -> tuple[int, int]:
        """Line and column of the value at `loc`, such as `at("pages", "checkout", "path")`, or of what is nearest to it."""
        return self.document.at(*loc)

    def finding(
        self,
        loc: Loc,
        code: str,
        message: str,
        remedy: str = "",
        *,
        severity: Literal["error", "warning", "note"] = "error",
    ) -> Finding:
        """A finding of a later stage, at a value of this file."""
        line, column = self.document.at(*loc)
        return Finding(
            file=self.file, line=line, column=column, code=code, message=message, remedy=remedy,
            context=self.name, owner=self.owner, severity=severity,
        )  # fmt: skip


def read_context(
    folder: Path, *, env: Mapping[str, str], identity_header: str = ""
) -> tuple[Manifest | None, list[Finding]]:
    """The registration in `folder`, whose name is the context's, and all findings about it, sorted by place.

    No manifest where there is an error. `identity_header` may not be forwarded: the operator's, from `bff.yaml`.
    Never raises: a file that cannot be read is a finding.
    """
    manifest, found = read_partly(folder, env=env, identity_header=identity_header)
    return (None if any(f.severity == "error" for f in found) else manifest), found


def read_partly(
    folder: Path, *, env: Mapping[str, str], identity_header: str = ""
) -> tuple[Manifest | None, list[Finding]]:
    """As `read_context`; beside errors, the manifest is what they leave of it, for others to judge and not to use."""
    file = folder / FILE
    document, found = yaml.read(file)
    owner = _owner(document, file)
    manifest = None
    if document is not None:
        spec, wrong = validate(Spec, document.tree, document)
        found += untold(wrong, found)
        whole, spec = spec is not None, spec or remains(Spec, document.tree)
        if spec is not None:
            spec, variable = _override(spec.model_copy(update={"owner": owner}), folder.name, env)
            manifest = Manifest(name=folder.name, folder=folder, spec=spec, document=document)
            told = check(spec, document, folder=folder, upstream_from=variable, identity_header=identity_header)
            found += told if whole else [f for f in untold(told, found) if f.severity == "error"]
    return manifest, sorted({replace(f, context=folder.name, owner=owner) for f in found})


def upstream_variable(context: str) -> str:
    """The variable that overrides a context's upstream: discovery-api → BFF_UPSTREAM__DISCOVERY_API."""
    return UPSTREAM_PREFIX + context.upper().replace("-", "_")


def _override(spec: Spec, context: str, env: Mapping[str, str]) -> tuple[Spec, str]:
    variable = upstream_variable(context)
    if not env.get(variable):
        return spec, ""
    return spec.model_copy(update={"upstream": env[variable]}), variable


def _owner(document: yaml.Document | None, file: Path) -> str:
    """The owner as far as it can be read, for findings of a file that is otherwise broken."""
    if document is None:  # not YAML at all: the one line that says it most likely still does
        with suppress(OSError):
            found = _OWNER.search(file.read_bytes()[: yaml.MAX_BYTES])
            return found[1].decode() if found else ""
        return ""
    owner = document.tree.get("owner", "") if isinstance(document.tree, dict) else ""
    return owner if isinstance(owner, str) else ""
