"""Durations, sizes, shares and CSS lengths as people write them (`250ms`, `64KiB`, `20%`, `8rem`), parsed and printed.

Standard library only. Every parser takes text and raises `ValueError` with a message that says what would be right.
"""

from __future__ import annotations

import re

_NUMBER = r"([0-9]{1,15}(?:\.[0-9]+)?)"  # digits enough for all of these, and too few to end in infinity
_DURATION = re.compile(_NUMBER + "(ms|s|m|h|d)")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_SIZE = re.compile(_NUMBER + "(B|KiB|MiB|GiB)")
_BYTES = {"B": 1, "KiB": 1024, "MiB": 1024**2, "GiB": 1024**3}
_SHARE = re.compile(_NUMBER + "%")
_LENGTH = re.compile(r"0|[0-9]{1,5}(\.[0-9]{1,3})?(px|r?em|r?lh|ch|ex|[sld]?v(h|w|min|max|b|i)|cm|mm|in|pt|pc)")


def duration(text: str) -> float:
    """Seconds in `250ms`, `1.5s`, `5m`, `24h`; at least 0."""
    match = _DURATION.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is not a duration; write a number and a unit, such as 250ms, 1.5s, 5m or 24h")
    return float(match[1]) * _SECONDS[match[2]]


def size(text: str) -> int:
    """Bytes in `64KiB`, `1MiB`; at least 0."""
    match = _SIZE.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is not a size; write a number and a unit, such as 512B, 64KiB or 1MiB")
    return int(float(match[1]) * _BYTES[match[2]])


def share(text: str) -> float:
    """The fraction in `20%`, from 0 to 1."""
    match = _SHARE.fullmatch(text)
    if match is None or float(match[1]) > 100:
        raise ValueError(f"{text!r} is not a share; write a percentage from 0% to 100%, such as 20%")
    return float(match[1]) / 100


def css_length(text: str) -> str:
    """A length of CSS for `min-height`, as it is: `120px`, `8rem`. It goes into a style rule."""
    if not _LENGTH.fullmatch(text):
        raise ValueError(f"{text!r} is not a CSS length; write a number and a unit, such as 120px or 8rem")
    return text


def show_duration(seconds: float) -> str:
    """The shortest exact form to the millisecond: 0.25 → `250ms`, 90 → `90s`, 3600 → `1h`."""
    milliseconds = round(seconds * 1000)
    if milliseconds == 0:
        return "0s"
    for unit in ("h", "m"):
        if milliseconds % round(_SECONDS[unit] * 1000) == 0:
            return f"{milliseconds // round(_SECONDS[unit] * 1000)}{unit}"
    return f"{milliseconds}ms" if milliseconds < 1000 else f"{milliseconds / 1000:.15g}s"


def show_size(count: int) -> str:
    """The shortest exact form: 65536 → `64KiB`."""
    for unit in ("GiB", "MiB", "KiB"):
        if count and count % _BYTES[unit] == 0:
            return f"{count // _BYTES[unit]}{unit}"
    return f"{count}B"
