"""Which entries have a tag, or are one principal's: what most purges ask for. Knows entries, not the store.

It holds the entries themselves, so that whoever marks them need not look them up. A name is there only as long as an
entry has it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from bff.model import Purge
from bff.store.entry import Entry
from bff.store.purges import owner, scope


class Index:
    """Entries by what purges name. Fragments and contexts are rarely purged: those are looked for among all entries."""

    def __init__(self) -> None:
        self._tags = _Named()
        self._principals = _Named()

    def add(self, entry: Entry) -> None:
        for tag in entry.tags:
            self._tags.add(tag, entry)
        if entry.principal is not None:
            self._principals.add(entry.principal, entry)

    def remove(self, entry: Entry) -> None:
        for tag in entry.tags:
            self._tags.remove(tag, entry)
        if entry.principal is not None:
            self._principals.remove(entry.principal, entry)

    def met(self, purge: Purge, everything: Mapping[str, Entry]) -> Iterable[Entry]:
        """The entries that a purge meets, each once; some of them may be gone already."""
        form = scope(purge)
        if isinstance(form, str):
            return self._tags.get(form)
        if form is None:
            return ()
        kind, value, context, principal = form
        if principal is not None:
            return [e for e in self._principals.get(principal) if _lies(e, kind, value, context)]
        match kind:
            case "all":
                return everything.values()
            case "context":
                prefix = f"{value}/"
                return [entry for entry in everything.values() if entry.fragment.startswith(prefix)]
            case "fragment":
                return [entry for entry in everything.values() if entry.fragment == value]
            case _:
                return [entry for entry in self._tags.get(value) if owner(entry.fragment) == context]

    @property
    def names(self) -> int:
        """How many names are known."""
        return sum(len(named.names) for named in (self._tags, self._principals))


def _lies(entry: Entry, kind: str, value: str, context: str) -> bool:
    match kind:
        case "tag":
            return value in entry.tags and context in {"", owner(entry.fragment)}
        case "fragment":
            return entry.fragment == value
        case "context":
            return owner(entry.fragment) == value
        case _:
            return True


_Many = dict[Entry, None]
"""A set in the order of adding, in which entries lie in memory: walking through many of them is three times as fast."""


class _Named:
    """Names and the entries that have them. Most tags have one: a set for each would cost as much as the entry."""

    def __init__(self) -> None:
        self.names: dict[str, Entry | _Many] = {}

    def add(self, name: str, entry: Entry) -> None:
        known = self.names.setdefault(name, entry)
        if isinstance(known, dict):
            known[entry] = None
        elif known is not entry:
            self.names[name] = {known: None, entry: None}

    def remove(self, name: str, entry: Entry) -> None:
        known = self.names.get(name)
        if isinstance(known, dict):
            known.pop(entry, None)
        if not known or known is entry:
            self.names.pop(name, None)

    def get(self, name: str) -> Collection[Entry]:
        known = self.names.get(name)
        if known is None:
            return ()
        return known if isinstance(known, dict) else (known,)
