"""New contexts, fragments and pages: files that `bff check` accepts and `bff dev` shows at once.

Adds to files and never rewrites them: an entry is put as text into an existing `context.yaml`, so comments and order
stay; the result is read back, and when it does not hold what was meant, or all registrations together have a finding more
(a route that another page holds, what `allow` leaves out), the file is as it was and `Refused` says why.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from bff.config.manifest import Manifest, read_context
from bff.errors import Finding

Judge = Callable[[], Iterable[Finding]]
"""What is wrong with all registrations together, as they are when it is called."""

NAME: Final = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
_PLAIN: Final = re.compile(r"[A-Za-z0-9/]([A-Za-z0-9/._~{}:%@+-]*[A-Za-z0-9/}])?")
LAYOUT: Final = "site/layouts/default.html"


class Refused(Exception):
    """Nothing was written; the message says why and what to do."""


@dataclass(slots=True, kw_only=True)
class Change:
    """Files to create and one `context.yaml` to add to; written together or not at all."""

    create: dict[Path, str] = field(default_factory=dict)
    edit: tuple[Path, str, str] | None = None  # file, text before, text after

    def write(self, accept: Callable[[], str]) -> list[Path]:
        """Write everything; undo it and raise `Refused` with what `accept` says, if it says anything."""
        for file in self.create:
            if file.exists():
                raise Refused(f"{file} exists already and is not overwritten; choose another name, or remove it first")
        try:
            for file, text in self.create.items():
                file.parent.mkdir(parents=True, exist_ok=True)
                _replace(file, text)
            if self.edit is not None:
                _replace(self.edit[0], self.edit[2])
            complaint = accept()
        except OSError as error:
            complaint = f"{error.filename}: {error.strerror}"
        if complaint:
            self._undo()
            raise Refused(complaint)
        return [*self.create, *([self.edit[0]] if self.edit else [])]

    def _undo(self) -> None:
        for file in self.create:
            with suppress(OSError):
                file.unlink(missing_ok=True)
                file.parent.rmdir()  # which fails, as it should, where something else is in it
        if self.edit is not None:
            with suppress(OSError):  # what could not be written before is as it was
                _replace(self.edit[0], self.edit[1])


def _replace(file: Path, text: str) -> None:
    """Write atomically: whoever watches the folder sees the old text or the new one."""
    draft = file.with_name(f".{file.name}.new")
    draft.write_text(text, encoding="utf-8", newline="")
    draft.replace(file)


# --- what is written --------------------------------------------------------------------------------------------------

CONTEXT: Final = """\
owner: {owner}
upstream: {upstream}
# What this context serves and shows comes below: `bff new fragment {name}/NAME`, `bff new page {name}/NAME --path /PATH`.
"""

FRAGMENT: Final = ("{name}:", "  path: /{name}", "  fallback: [fallbacks/{name}.html]")
FALLBACK: Final = '<p class="{name}">{title} is not available just now.</p>\n'
PAGE: Final = ("{name}:", "  path: {path}", "  template: pages/{name}.html")
ALONE: Final = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>{title}</title>
</head>
<body>
<main>
<h1>{title}</h1>
{slots}
</main>
</body>
</html>
"""
EXTENDING: Final = """\
{{% extends "{layout}" %}}
{{% block title %}}{title}{{% endblock %}}
{{% block main %}}
<h1>{title}</h1>
{slots}
{{% endblock %}}
"""
SLOT: Final = '<bff-fragment name="{fragment}" reserve="80px"><p>Loading…</p></bff-fragment>'
NO_SLOT: Final = "<p>Put fragments here, each as an element: bff-fragment, with its name.</p>"


def new_context(
    root: Path, name: str, *, upstream: str, owner: str, env: Mapping[str, str], judge: Judge = tuple
) -> list[Path]:
    """Write `<root>/<name>/context.yaml`. `Refused` for a bad name or value, or a context that is there already."""
    _check_name(name, "a context")
    folder = root / name
    if folder.exists() and any(folder.iterdir()):
        raise Refused(f"{folder} exists already; add to it with `bff new fragment {name}/NAME`")
    change = Change()
    change.create[folder / "context.yaml"] = CONTEXT.format(name=name, upstream=_scalar(upstream), owner=_scalar(owner))
    more = _more(judge)
    return change.write(lambda: _complaint(folder, env, lambda _: True) or more())


def new_fragment(root: Path, name: str, *, env: Mapping[str, str], judge: Judge = tuple) -> list[Path]:
    """Register `<context>/<fragment>` with a path and a static fallback."""
    folder, short = _split(root, name, "a fragment")
    manifest = _readable(folder, env)
    if short in manifest.spec.fragments:
        raise Refused(f"{name} is registered already in {folder / 'context.yaml'}")
    change = Change()
    change.create[folder / "fallbacks" / f"{short}.html"] = FALLBACK.format(name=short, title=_title(short))
    change.edit = _edit(folder, "fragments", [line.format(name=short) for line in FRAGMENT])
    more = _more(judge)
    return change.write(
        lambda: _complaint(folder, env, lambda after: _grown(manifest, after, fragment=short)) or more()
    )


def new_page(root: Path, name: str, *, path: str, env: Mapping[str, str], judge: Judge = tuple) -> list[Path]:
    """Register the page `<context>/<page>` at `path` with a shell that shows the context's own simple fragments."""
    folder, short = _split(root, name, "a page")
    manifest = _readable(folder, env)
    if short in manifest.spec.pages:
        raise Refused(f"{name} is registered already in {folder / 'context.yaml'}")
    change = Change()
    change.create[folder / "pages" / f"{short}.html"] = _shell(root, folder.name, short, manifest)
    change.edit = _edit(folder, "pages", [line.format(name=short, path=_scalar(path)) for line in PAGE])
    more = _more(judge)
    return change.write(lambda: _complaint(folder, env, lambda after: _grown(manifest, after, page=short)) or more())


def _shell(root: Path, context: str, name: str, manifest: Manifest) -> str:
    slots = [SLOT.format(fragment=f"{context}/{fragment}") for fragment in _simple(manifest)]
    text = EXTENDING if (root / LAYOUT).is_file() else ALONE
    return text.format(title=_title(name), layout=LAYOUT, slots="\n".join(slots) or NO_SLOT)


def _simple(manifest: Manifest) -> list[str]:
    """Fragments that a slot can show without passing anything."""
    spec = manifest.spec
    return [
        name
        for name, fragment in spec.fragments.items()
        if all(param.default is not None or param.source for param in fragment.params.values())
        and ((fragment.source or spec.source) != "json" or fragment.template)
    ]


def _scalar(text: str) -> str:
    """`text` as one YAML scalar: plain where that cannot be misread, else quoted (JSON's strings are YAML's)."""
    return text if _PLAIN.fullmatch(text) else json.dumps(text, ensure_ascii=False)


def _title(name: str) -> str:
    return name.replace("-", " ").capitalize()


# --- names and files --------------------------------------------------------------------------------------------------


def _check_name(name: str, what: str) -> None:
    if not NAME.fullmatch(name):
        raise Refused(
            f"{name!r} is no name for {what}; write lower-case letters, digits and single hyphens: course-card"
        )


def _split(root: Path, name: str, what: str) -> tuple[Path, str]:
    context, slash, short = name.partition("/")
    if not slash:
        raise Refused(f"{name!r} names no context; write CONTEXT/NAME, such as discovery/course-card")
    _check_name(short, what)
    folder = root / context
    if not (folder / "context.yaml").is_file():
        raise Refused(
            f"there is no context {context!r} in {root}; `bff new context {context} --upstream URL --owner TEAM`"
        )
    return folder, short


def _readable(folder: Path, env: Mapping[str, str]) -> Manifest:
    manifest, findings = read_context(folder, env=env)
    if manifest is None:
        raise Refused("\n".join(["the context has findings already; repair them first:", *map(str, findings)]))
    return manifest


def _complaint(folder: Path, env: Mapping[str, str], holds: Callable[[Manifest], bool]) -> str:
    """Why the context as written is not what was meant; empty where it is."""
    manifest, findings = read_context(folder, env=env)
    errors = [str(finding) for finding in findings if finding.severity == "error"]
    if manifest is None or errors:
        return _unacceptable(errors)
    if not holds(manifest):
        return f"{folder / 'context.yaml'} is laid out in a way that cannot be added to; add the entry by hand"
    return ""


def _unacceptable(errors: Iterable[str]) -> str:
    return "\n".join(["nothing was written, because it would not be accepted:", *errors])


def _more(judge: Judge) -> Callable[[], str]:
    """Says later what `judge` finds then and does not find now: empty where that is nothing."""

    def found() -> dict[tuple[str, str, str], str]:  # by what stays when lines move
        return {(each.file, each.code, each.message): str(each) for each in judge() if each.severity != "note"}

    before = found()

    def more() -> str:
        added = [text for key, text in found().items() if key not in before]
        return _unacceptable(added) if added else ""

    return more


def _grown(before: Manifest, after: Manifest, *, fragment: str = "", page: str = "") -> bool:
    """Whether exactly the new entry was added."""
    fragments = [*before.spec.fragments, *([fragment] if fragment else [])]
    pages = [*before.spec.pages, *([page] if page else [])]
    return [*after.spec.fragments] == fragments and [*after.spec.pages] == pages


def _edit(folder: Path, section: str, entry: Sequence[str]) -> tuple[Path, str, str]:
    file = folder / "context.yaml"
    before = file.read_bytes().decode("utf-8")
    try:
        return file, before, insert(before, section, entry)
    except ValueError as error:
        raise Refused(f"{file}: {error}; add this under `{section}:` by hand:\n" + "\n".join(entry)) from None


def insert(text: str, section: str, entry: Sequence[str]) -> str:
    """`text` with `entry` as the last of the top-level mapping `section`, which is made where there is none.

    Comments, order, indentation and line ends stay. ValueError where the section is not written as an indented block.
    """
    end = "\r\n" if "\r\n" in text else "\n"
    lines = text.splitlines()
    head = next((n for n, line in enumerate(lines) if re.match(rf"{section}\s*:(\s|$)", line)), None)
    if head is None:
        return end.join([*lines, f"{section}:", *_indented(entry, "  ")]) + end
    match = re.fullmatch(rf"({section}\s*:)\s*(\{{\s*\}})?\s*(#.*)?", lines[head])
    if match is None:
        raise ValueError(f"`{section}` is not written as an indented block")
    last, indent = _block(lines, head)
    lines[head] = match[1] + (f"  {match[3]}" if match[3] else "") if match[2] else lines[head]
    lines[last + 1 : last + 1] = _indented(entry, indent)
    return end.join(lines) + end


def _block(lines: Sequence[str], head: int) -> tuple[int, str]:
    """The last line of the block under `head`, and the indentation of its keys. Comments after it belong to what follows."""
    last, indent = head, "  "
    for number in range(head + 1, len(lines)):
        line = lines[number]
        if not line.strip() or line.startswith("#"):
            continue
        if not line[0].isspace():
            break
        comment = line.lstrip().startswith("#")
        if last == head and not comment:
            indent = line[: len(line) - len(line.lstrip())]
        last = last if last == head and comment else number
    return last, indent


def _indented(entry: Sequence[str], indent: str) -> list[str]:
    """The entry one level in; its own levels are as wide as the file's."""
    made = []
    for line in entry:
        inner = line.lstrip(" ")
        made.append(indent * (1 + (len(line) - len(inner)) // 2) + inner)
    return made
