"""Reading the operator's settings: `bff.yaml`, and `BFF_*` in the environment, which wins key by key.

Knows files and variables; the keys themselves are in `options`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib.metadata import entry_points
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from bff.config import csp, yaml
from bff.config.environment import Environment, overlay
from bff.config.options import SECRET, Settings
from bff.config.remains import remains, untold
from bff.config.validate import finding, validate
from bff.config.yaml import Loc
from bff.errors import Finding, UnusableInput
from bff.rules.policy import CLAMPED_KINDS, KEYS, clamped, show

__all__ = ["DEFAULT", "Settings", "read_settings", "written"]

DEFAULT: Final = Path("bff.yaml")
BUSES: Final = "bff.events"  # the group of entry points that read event buses, named by their URLs' schemes


def read_settings(path: Path | None, *, env: Mapping[str, str]) -> tuple[Settings, list[Finding]]:
    """The settings in `path` under those in `env`, with warnings and notes. Raises `UnusableInput` with every error at once.

    None: `bff.yaml` in the working directory if it is there, else the defaults. A named file must be there.
    """
    file = path or DEFAULT
    document, found = (None, []) if path is None and not file.exists() else yaml.read(file)
    if document is None and found:
        raise UnusableInput(found)
    environment = overlay(Settings, document, env)
    found += environment.findings
    settings, wrong = validate(Settings, environment.tree, environment)
    found += untold(wrong, found)
    left = settings or remains(Settings, environment.tree)
    if left is not None:
        found += untold(_check(left, environment, file.parent), found)
    if settings is None or any(f.severity == "error" for f in found):
        raise UnusableInput(sorted(found))
    return _placed(settings, file.parent), sorted(found)


def written(path: Path | None, *, env: Mapping[str, str]) -> Environment:
    """Where the settings that were read so are written."""
    return overlay(Settings, None if path is None else yaml.read(path)[0], env)


def _check(settings: Settings, places: Environment, folder: Path) -> list[Finding]:
    found = []
    if settings.workers > 1 and settings.store == "memory://":
        message = (
            f"{settings.workers} workers cannot share memory://; write store: sqlite:///var/bff.sqlite, or workers: 1"
        )
        said = "store" if "store" in places.tree else "workers"
        found.append(finding(places, (said,), "store-not-shared", message))
    for key in settings.ceilings:
        if KEYS[key].kind not in CLAMPED_KINDS:
            message = f"{key} has no ceiling; leave it out, or write it under policy or overrides"
            found.append(finding(places, ("ceilings", key), "bad-value", message))
    found += _over(settings, places)
    bus = settings.events.bus
    if bus and urlsplit(bus).scheme not in entry_points(group=BUSES).names:
        known = ", ".join(f"{name}://" for name in sorted(entry_points(group=BUSES).names))
        message = f"nothing here reads {urlsplit(bus).scheme or bus}://; write one of {known}"
        found.append(finding(places, ("events", "bus"), "unknown-bus", message))
    if settings.cors.credentials and "*" in settings.cors.origins:
        message = "any origin could read what is somebody's own; name the origins, or leave out credentials"
        found.append(finding(places, ("cors", "origins"), "bad-value", message))
    if settings.early_hints and not settings.trusted_proxies:
        message = (
            "browsers heed early hints through a proxy alone; name it in trusted_proxies, or leave early_hints out"
        )
        found.append(finding(places, ("early_hints",), "bad-value", message))
    for each in csp.wrong(settings.csp.add, csp.OPERATORS):
        found.append(finding(places, ("csp", "add", *each.loc), each.code, each.message, key=each.key))
    found += _tokens(settings, places, folder)
    return found


def _tokens(settings: Settings, places: Environment, folder: Path) -> Iterator[Finding]:
    """What is wrong with who is let in by a token."""
    given: list[tuple[Loc, str]] = [(("admin", "token"), settings.admin.token)]
    given += [(("admin", "tokens", name, "token"), each.token) for name, each in settings.admin.tokens.items()]
    for loc, token in given:
        if 0 < len(token) < SECRET:
            message = f"whoever tries could guess it; write at least {SECRET} characters, at random"
            yield finding(places, loc, "weak-token", message, severity="note")
    jwt = settings.identity.jwt
    if jwt and not _is_url(jwt.keys) and not (folder / jwt.keys).is_file():
        message = f"there is no file {jwt.keys!r}; name one of PEM or JWK, or a URL"
        yield finding(places, ("identity", "jwt", "keys"), "missing-file", message)
    if jwt and len(jwt.cookies) > 2:
        message = "a token is in one cookie, or in two; name those"
        yield finding(places, ("identity", "jwt", "cookies"), "bad-value", message)


def _over(settings: Settings, places: Environment) -> Iterator[Finding]:
    """What the operator writes beyond their own ceilings, which hold for it too."""
    overrides = settings.overrides
    layers: list[tuple[Loc, Mapping[str, object]]] = [(("policy",), settings.policy)]
    layers += [(("overrides", "contexts", name), layer) for name, layer in overrides.contexts.items()]
    layers += [(("overrides", "fragments", name), layer) for name, layer in overrides.fragments.items()]
    for loc, layer in layers:
        ceilings = {key: ceiling for key, ceiling in settings.ceilings.items() if key in layer}
        for clamp in clamped([("bff.yaml", layer)], ceilings=ceilings):
            value, ceiling = show(clamp.key, clamp.value), show(clamp.key, clamp.ceiling)
            message = f"{clamp.key} is {value}; its ceiling is {ceiling}, which holds instead"
            yield finding(places, (*loc, clamp.key), "over-ceiling", message, severity="warning")


def _placed(settings: Settings, folder: Path) -> Settings:
    """Paths made absolute: they are relative to the file that says them."""
    base = folder.absolute()  # not resolved: a link on the way may lead elsewhere at the next look
    changes: dict[str, object] = {"fragments": base / settings.fragments}
    if settings.store.startswith("sqlite:///"):
        changes["store"] = f"sqlite:///{base / settings.store.removeprefix('sqlite:///')}"
    jwt = settings.identity.jwt
    if jwt and not _is_url(jwt.keys):
        jwt = jwt.model_copy(update={"keys": str(base / jwt.keys)})
        changes["identity"] = settings.identity.model_copy(update={"jwt": jwt})
    return settings.model_copy(update=changes)


def _is_url(text: str) -> bool:
    return urlsplit(text).scheme in {"http", "https"}
