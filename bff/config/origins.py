"""Where the pieces of a text that was put together come from: marks in it, and the text without them.

Knows nothing of templates: a mark is written when a piece is made, and read when all is one text.
"""

from __future__ import annotations

import bisect
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_MARK: Final = re.compile("\0([^\0]*)\0")  # no template may hold a NUL


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A shell's expanded text, and where its pieces were written."""

    text: str
    file: str
    origins: tuple[tuple[int, int, str, int, int], ...] = ()  # sorted: line, column of `text`; file, line, column there

    def at(self, line: int, column: int) -> tuple[str, int, int]:
        """File, line and column of what is at this line and column of `text`."""
        index = bisect.bisect_right(self.origins, (line, column), key=lambda origin: origin[:2]) - 1
        if index < 0:
            return self.file, line, column
        start, begin, file, original, first = self.origins[index]
        return file, original + line - start, first + column - begin if line == start else column


def marked(text: str, name: str, line: int, column: int) -> str:
    """`text`, each line marked with where it was written: `text` begins at this line and column of the file `name`."""
    first, *further = text.split("\n")
    lines = (f"\0{name}:{line + number}:1\0{piece}" for number, piece in enumerate(further, 1))
    return "\n".join([f"\0{name}:{line}:{column}\0{first}", *lines])


def unmarked(text: str, *, root: Path, file: str) -> Source:
    """A marked text as it is shown; names in marks are relative to `root`, what has no mark is of `file`."""
    pieces = _MARK.split(text)
    line, column = _after(pieces[0], 1, 1)
    origins = []
    files: dict[str, str] = {}
    for mark, piece in zip(pieces[1::2], pieces[2::2], strict=True):
        name, original, first = mark.rsplit(":", 2)
        if name not in files:
            files[name] = str(root / name)
        origins.append((line, column, files[name], int(original), int(first)))
        line, column = _after(piece, line, column)
    return Source(text="".join(pieces[::2]), file=file, origins=tuple(origins))


def _after(text: str, line: int, column: int) -> tuple[int, int]:
    """Where one is after this text."""
    lines = text.count("\n")
    return (line + lines, len(text) - text.rfind("\n")) if lines else (line, column + len(text))
