"""What may be added to the pages' Content-Security-Policy (CSP Level 3), by a registration and by the operator. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Final, NamedTuple

from bff.config.yaml import Loc
from bff.rules.policy import suggestion

DIRECTIVES: Final = (
    "default-src", "script-src", "script-src-elem", "script-src-attr", "style-src", "style-src-elem", "style-src-attr", "img-src",
    "connect-src", "font-src", "media-src", "frame-src", "child-src", "worker-src", "manifest-src", "object-src", "form-action",
)  # fmt: skip
"""What a page may load and send to: a registration's to add to."""
OPERATORS: Final = (*DIRECTIVES, "base-uri", "frame-ancestors")


class Wrong(NamedTuple):
    """One thing wrong: where below the additions, and what; `key`: with the key there."""

    loc: Loc
    code: str
    message: str
    key: bool


def wrong(additions: Mapping[str, Sequence[str]], known: Sequence[str]) -> Iterator[Wrong]:
    """What cannot be added; a source must not be able to end its directive, or the header."""
    for directive, sources in additions.items():
        if directive not in known:
            message = f"{directive!r} cannot be added to; {suggestion(directive, known)}"
            yield Wrong((directive,), "unknown-key", message, key=True)
        for number, text in enumerate(sources):
            if not re.fullmatch(r"[!-~]+", text) or set(text) & set(";,"):
                message = f"{text!r} is not a source of a policy; write one such as https://cdn.example.org"
                yield Wrong((directive, number), "bad-value", message, key=False)
