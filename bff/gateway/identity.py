"""Who is asking: a principal from a trusted proxy's header or from a verified JWT; anybody else is anonymous.

Synchronous and without I/O per request; keys are read from a file, or refreshed in the background by whoever gives a
`Fetch`. Knows nothing of pages. The only importer of joserfc.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import json
import logging
import time
import warnings
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any, Final

from joserfc import jws, jwt
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, Key, OKPKey, RSAKey

from bff.rules.cookies import cookies

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
_NAME_LENGTH: Final = 256
_REMEMBERED: Final = 4096
_REFUSED_FOR: Final = 5.0  # seconds that a refusal is remembered, so that repeating one costs nothing


@dataclass(frozen=True, slots=True)
class Identity:
    """`unverified`: a credential came that the gateway could not verify, or that belongs to somebody else."""

    principal: str | None = None
    unverified: bool = False


ANONYMOUS: Final = Identity()
UNVERIFIED: Final = Identity(None, unverified=True)
GetJson = Callable[[str], Awaitable[Any]]


class Proxies:
    """The peers whose word is believed: addresses and CIDR blocks. A unix socket's peer has no address and is none."""

    def __init__(self, blocks: Sequence[str]) -> None:
        """Raise `ValueError` naming the first entry that is neither."""
        self._networks = [ipaddress.ip_network(block, strict=False) for block in blocks]
        self._known: dict[str, bool] = {}

    def __bool__(self) -> bool:
        return bool(self._networks)

    def trust(self, client: str) -> bool:
        if not self._networks:
            return False
        known = self._known.get(client)
        if known is None:
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            known = self._known[client] = self._judge(client)
        return known

    def _judge(self, client: str) -> bool:
        try:
            address = ipaddress.ip_address(client)
        except ValueError:
            return False
        mapped = getattr(address, "ipv4_mapped", None)  # an IPv4 peer of a dual-stack socket
        return any((mapped or address) in network for network in self._networks)


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
            return _name(claims.get(self.rules.claim)), int(claims["exp"]) + _LEEWAY  # an infinite one is an error
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


def _name(value: object) -> str | None:
    """A principal's name, if it can be one: short, printable, not empty."""
    if isinstance(value, str) and 0 < len(value) <= _NAME_LENGTH and value.isprintable():
        return value.strip() or None
    return None


class Identifier:
    """The principal of a request, in one look at its headers."""

    def __init__(self, *, header: str = "", trusted_proxies: Sequence[str] = (), tokens: Tokens | None = None) -> None:
        """`header` is believed from `trusted_proxies` only; `ValueError` names an entry that is no address."""
        self.proxies = Proxies(trusted_proxies)
        self.tokens = tokens
        self._header = header.lower().encode()
        self._wanted = frozenset({self._header, b"authorization", b"cookie"})
        rules = tokens.rules if tokens is not None else Rules(authorization=())
        self._schemes = frozenset(scheme.lower().encode() for scheme in rules.authorization)
        self._cookies = tuple(name.encode() for name in rules.cookies)
        self._task: asyncio.Task[None] | None = None

    def start(self, get: GetJson) -> None:
        """Begin to refresh keys that are behind a URL; `aclose` ends it."""
        if self.tokens is not None and self.tokens.remote:
            self._task = asyncio.get_running_loop().create_task(self.tokens.refresh(get))

    async def aclose(self) -> None:
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    def identify(self, headers: Sequence[tuple[bytes, bytes]], client: str) -> Identity:
        """Who asks. `client` is the address of the peer, "" where it has none. Names are lower-case."""
        found = [pair for pair in headers if pair[0] in self._wanted]
        return self._identify(found, client) if found else ANONYMOUS

    def _identify(self, found: Sequence[tuple[bytes, bytes]], client: str) -> Identity:
        vouched = [value for name, value in found if name == self._header]
        principals = [self._vouched(vouched)] if vouched and self.proxies.trust(client) else []
        credentials = [self._authorization(value) for name, value in found if name == b"authorization"]
        credentials += self._from_cookies([value for name, value in found if name == b"cookie"])
        said = [*filter(None, principals), *filter(None, credentials)]
        if not said:
            return UNVERIFIED if credentials else ANONYMOUS
        return Identity(said[0], unverified=any(credential != said[0] for credential in credentials))

    def _vouched(self, values: Sequence[bytes]) -> str | None:
        """The proxy's word; two of them are none, since one may be the client's own."""
        if len(values) != 1:
            return None
        try:
            return _name(values[0].decode())
        except UnicodeDecodeError:
            return None

    def _authorization(self, value: bytes) -> str | None:
        scheme, _, token = value.partition(b" ")
        if self.tokens is None or scheme.lower() not in self._schemes:
            return None
        return self.tokens.principal(token.strip())

    def _from_cookies(self, values: Sequence[bytes]) -> list[str | None]:
        """Of a token in two cookies, only one of which scripts can read; one that is incomplete is a bad credential."""
        if self.tokens is None or not self._cookies or not values:
            return []
        jar = cookies(values)
        parts = [jar.get(name, b"") for name in self._cookies]
        if not any(parts):
            return []
        return [self.tokens.principal(b".".join(parts)) if all(parts) else None]
