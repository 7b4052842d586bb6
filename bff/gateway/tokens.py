"""Tokens: verified by keys that are read from a file, or refreshed in the background by whoever gives a `Fetch`.

Synchronous and without I/O per request. The only importer of joserfc, which is loaded where tokens are configured.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any, Final

from joserfc import jws, jwt
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, Key, OKPKey, RSAKey

from bff.gateway.identity import GetJson, named

_LOG: Final = logging.getLogger("bff.identity")
_TYPES: Final[Mapping[str, type[RSAKey | ECKey | OKPKey]]] = {"RSA": RSAKey, "EC": ECKey, "OKP": OKPKey}
_ALGORITHMS: Final[Mapping[str, tuple[str, ...]]] = {
    "RSA": ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"),
    "EC": ("ES256", "ES384", "ES512"),
    "OKP": ("EdDSA", "Ed25519"),
}
"""By type of key, so that a token cannot choose how its key is used; no `none`, no shared secrets (RFC 8725 §3.1)."""
_LEEWAY: Final = 5.0  # seconds of difference between clocks
_TOKEN_BYTES: Final = 8192
_REMEMBERED: Final = 4096
_REFUSED_FOR: Final = 5.0  # seconds that a refusal is remembered, so that repeating one costs nothing


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """`identity.jwt` as written: where tokens come, and what a good one says."""

    authorization: tuple[str, ...] = ("bearer", "jwt")  # schemes
    cookies: tuple[str, ...] = ()  # one whole token, or header-and-payload and signature in two
    keys: str = ""  # a file of PEM or JWK, or an http(s) URL of a JWK set
    issuer: str = ""
    audience: str = ""
    claim: str = "preferred_username"


def read_keys(text: str | Mapping[str, Any]) -> list[Key]:
    """Public keys of a JWK set, one JWK, or PEM blocks; what is not asymmetric is left out.

    Raise `ValueError` where nothing is left.
    """
    if isinstance(text, str) and "-----BEGIN" in text:
        keys = [_pem("-----BEGIN" + block) for block in text.split("-----BEGIN")[1:]]
    else:
        data = _json(text)
        members = data.get("keys", [data])
        keys = [_jwk(one) for one in members if isinstance(one, dict) and one.get("use", "sig") == "sig"]
    found = [key for key in keys if key is not None]
    if not found:
        raise ValueError("there is no public key in it; write PEM or a JWK set with RSA, EC or Ed25519 keys")
    return found


def _json(text: str | Mapping[str, Any]) -> Mapping[str, Any]:
    data = text
    if isinstance(text, str):
        data = json.loads(text)
    if not isinstance(data, Mapping):
        raise ValueError("a JWK set is a JSON object")  # noqa: TRY004 - the file is wrong, not the program
    return data


def _jwk(data: dict[str, Any]) -> Key | None:
    kind = _TYPES.get(str(data.get("kty")))
    with contextlib.suppress(JoseError, ValueError, TypeError, KeyError):
        return kind.import_key(data) if kind is not None else None
    return None


def _pem(block: str) -> Key | None:
    for kind in _TYPES.values():
        with contextlib.suppress(JoseError, ValueError, TypeError, AttributeError):
            key = kind.import_key(block)
            key.as_dict(private=False)  # joserfc 1.4 notices only here that it is of another type
            return key
    return None


class Tokens:
    """Verifies tokens, remembers verdicts by digest until the token expires (RFC 7519, RFC 8725)."""

    def __init__(
        self,
        rules: Rules,
        *,
        keys: Sequence[Key] | None = None,
        wall: Callable[[], float] = time.time,
        refresh: float = 600.0,
        retry: float = 10.0,
    ) -> None:
        """Raise `OSError` or `ValueError` where the file of keys cannot be used; a URL is fetched by `refresh`.

        `refresh`: seconds between fetches; `retry`: after a failed one, and the least before a token that names an
        unknown key makes for another.
        """
        self._pauses = (refresh, retry)
        self.rules = rules
        self._wall = wall
        self._keys: list[Key] = list(keys or ())
        self._known: dict[bytes, tuple[str | None, float]] = {}
        self._unknown_key = asyncio.Event()
        if keys is None and not self.remote:
            self._keys = read_keys(Path(rules.keys).read_text(encoding="utf-8"))
        options: dict[str, Any] = {"exp": {"essential": True}}
        if rules.issuer:
            options["iss"] = {"essential": True, "value": rules.issuer}
        if rules.audience:
            options["aud"] = {"essential": True, "value": rules.audience}
        self._claims = jwt.JWTClaimsRegistry(now=lambda: int(wall()), leeway=int(_LEEWAY), **options)

    @property
    def remote(self) -> bool:
        return self.rules.keys.startswith(("http://", "https://"))

    def principal(self, token: bytes) -> str | None:
        """Whose token this is; None where it cannot be believed now."""
        if len(token) > _TOKEN_BYTES:
            return None
        now = self._wall()
        digest = blake2b(token, digest_size=16).digest()
        known = self._known.get(digest)
        if known is not None and now < known[1]:
            return known[0]
        verdict = self._verify(token, now)
        if len(self._known) >= _REMEMBERED:
            del self._known[next(iter(self._known))]
        self._known[digest] = verdict
        return verdict[0]

    def _verify(self, token: bytes, now: float) -> tuple[str | None, float]:
        try:
            header = jws.extract_compact(token).headers()
            claims = self._decode(token, header).claims
            self._claims.validate(claims)
            return named(claims.get(self.rules.claim)), int(claims["exp"]) + _LEEWAY  # an infinite one is an error
        except (JoseError, ValueError, TypeError, OverflowError):
            return None, now + _REFUSED_FOR

    def _decode(self, token: bytes, header: Mapping[str, Any]) -> jwt.Token:
        """By the key that the token names, or by any that fits its algorithm."""
        algorithm, kid = header.get("alg"), header.get("kid")
        fitting = [key for key in self._keys if algorithm in _ALGORITHMS[key.key_type] and key.alg in (None, algorithm)]
        named = [key for key in fitting if key.kid == kid or key.kid is None] if kid is not None else fitting
        if not named:
            self._unknown_key.set()
        registry = jws.JWSRegistry(algorithms=[str(algorithm)], strict_check_header=False)
        failure: JoseError = JoseError("no key fits")
        for key in named[:8]:
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # of the name EdDSA, which issuers go on to use
                    return jwt.decode(token, key, registry=registry)
            except JoseError as error:
                failure = error
        raise failure

    async def refresh(self, get: GetJson) -> None:
        """Fetch the keys, again and again; the last good ones stay where that fails. Ends when cancelled."""
        refresh, retry = self._pauses
        while True:
            try:
                self._keys = read_keys(await get(self.rules.keys))
                self._known.clear()
                pause = refresh
            except Exception as error:  # noqa: BLE001 - the issuer's failure, whatever it is, leaves the old keys
                _LOG.warning("the keys at %s cannot be had: %s", self.rules.keys, error)
                pause = retry
            await asyncio.sleep(retry)
            self._unknown_key.clear()
            if pause > retry:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._unknown_key.wait(), pause - retry)
