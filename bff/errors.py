"""Who erred: findings in what people wrote, and the few exceptions that cross module borders.

A finding is a value (all are reported at once); an exception is for what cannot go on. Standard library only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Finding:
    """Something wrong, or noteworthy, in a file that people wrote: where it is, whose it is, what to do.

    `error` leaves the registration out; `warning` is reported by `bff check` (exit code 1 all the same); `note` is
    information and changes no exit code.
    """

    file: str
    line: int
    column: int
    code: str  # stable, kebab-case: "unknown-key", "dangling", "not-allowed"…
    message: str
    remedy: str = ""
    context: str = ""
    owner: str = ""
    severity: Literal["error", "warning", "note"] = "error"

    def __str__(self) -> str:
        whose = f" [{self.context}{', ' + self.owner if self.owner else ''}]" if self.context else ""
        remedy = f" — {self.remedy}" if self.remedy else ""
        return f"{self.file}:{self.line}:{self.column}: {self.severity}: {self.message}{remedy}{whose}"


class UnusableInput(Exception):
    """The operator's input cannot be used at all (an unreadable `bff.yaml`); the command ends with exit code 2."""

    def __init__(self, findings: list[Finding]) -> None:
        super().__init__("\n".join(map(str, findings)))
        self.findings = findings


class TemplateFailed(Exception):
    """A context's JSON → HTML template could not render this answer; the slot goes down its `on_error` chain."""


class TemplateSlow(TemplateFailed):
    """It did not end within the time it was given."""
