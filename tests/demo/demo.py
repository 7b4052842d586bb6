"""The demo's services, loaded as files: each is a script beside its registration, not a module of a package."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx2

FRAGMENTS = Path(__file__).parents[2] / "fragments"
NAMES = ("credentials", "discovery", "ecommerce", "enterprise", "recommendations", "registrar", "site")
ANSWERED = {  # a path of each service that answers 200 to anybody
    "credentials": "/api/v2/grades/",
    "discovery": "/api/v1/subjects/",
    "ecommerce": "/baskets/1/",
    "enterprise": "/api/v2/enterprise/offers/",
    "recommendations": "/for-you",
    "registrar": "/api/v1/programs/0fc08528-4ee1-54b4-9a63-c35ffb310a4b/",
    "site": "/account",
}


def load(name: str) -> ModuleType:
    """The service's module, executed anew: no state is shared between tests."""
    spec = importlib.util.spec_from_file_location(f"demo_{name}", FRAGMENTS / name / "service.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where dataclasses look their annotations up
    spec.loader.exec_module(module)
    return module


def create(name: str, **options: Any) -> Any:
    if name == "recommendations":
        options.setdefault("thinking", (0.0, 0.0))
    return load(name).create(**options)


def client(app: Any, *, user: str | None = None, headers: Iterable[tuple[str, str]] = ()) -> httpx2.AsyncClient:
    """A client of an app in this process, as `user` where the gateway would have verified one."""
    own = [("x-user", user)] if user else []
    transport = httpx2.ASGITransport(app=app)
    return httpx2.AsyncClient(transport=transport, base_url="http://service", headers=[*own, *headers])
