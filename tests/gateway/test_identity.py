"""Who is believed: proxies' headers, tokens by header and by cookies, and nobody else."""

import asyncio
import json
import warnings
from base64 import urlsafe_b64encode
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from joserfc import jwt
from joserfc.jwk import ECKey, OctKey, OKPKey, RSAKey

from bff.gateway.identity import ANONYMOUS, UNVERIFIED, Identifier, Identity, Proxies
from bff.gateway.tokens import Rules, Tokens, read_keys

RSA = RSAKey.generate_key(2048, {"kid": "one"})
OTHER = RSAKey.generate_key(2048, {"kid": "one"})
EC = ECKey.generate_key("P-256", {"kid": "two"})
ED = OKPKey.generate_key("Ed25519")
SECRET = OctKey.import_key("0" * 64)
NOW = 1_700_000_000.0
PAIR = ("edx-jwt-cookie-header-payload", "edx-jwt-cookie-signature")
GOOD = {"preferred_username": "ada", "exp": NOW + 60}


class Wall:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return self.now


def token(key: Any = RSA, alg: str = "RS256", kid: str | None = None, **claims: Any) -> bytes:
    header: dict[str, Any] = {"alg": alg, **({"kid": kid} if kid is not None else {})}
    said = {name: value for name, value in {**GOOD, **claims}.items() if value is not None}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of algorithms that are old, or bad, or both
        return jwt.encode(header, said, key, algorithms=[alg]).encode()


def unsigned() -> bytes:
    head, said = (urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=") for part in ({"alg": "none"}, GOOD))
    return head + b"." + said + b"."


def tokens(*keys: Any, wall: Any = None, **rules: Any) -> Tokens:
    return Tokens(Rules(**rules), keys=keys or (RSA, EC, ED), wall=wall or Wall())


def bearer(value: bytes) -> list[tuple[bytes, bytes]]:
    return [(b"authorization", b"Bearer " + value)]


def cookie(value: bytes) -> list[tuple[bytes, bytes]]:
    top, _, signature = value.rpartition(b".")
    pair = b"; ".join(name.encode() + b"=" + part for name, part in zip(PAIR, (top, signature), strict=True))
    return [(b"cookie", b"a=b; " + pair)]


# --- a proxy's word ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("client", "principal"),
    [
        ("10.1.2.3", "ada"),
        ("::ffff:10.1.2.3", "ada"),
        ("127.0.0.1", "ada"),
        ("::1", "ada"),
        ("11.0.0.1", None),
        ("", None),
        ("nonsense", None),
    ],
)
def test_a_header_is_believed_from_trusted_proxies_only(client: str, principal: str | None) -> None:
    identifier = Identifier(header="X-Forwarded-User", trusted_proxies=["10.0.0.0/8", "127.0.0.1", "::1"])
    for _ in range(2):
        assert identifier.identify([(b"x-forwarded-user", b"ada")], client) == Identity(principal)


def test_without_trusted_proxies_nobody_is_believed() -> None:
    identifier = Identifier(header="x-forwarded-user")
    assert identifier.identify([(b"x-forwarded-user", b"ada")], "127.0.0.1") == ANONYMOUS
    assert not identifier.proxies


def test_an_entry_that_is_no_address_is_named() -> None:
    with pytest.raises(ValueError, match=r"proxy\.local"):
        Proxies(["proxy.local"])
    assert Proxies(["10.0.0.1/8"])


@pytest.mark.parametrize("value", [b"", b"  ", b"a\tb", b"\xff", b"x" * 257])
def test_what_cannot_be_a_name_is_nobody(value: bytes) -> None:
    identifier = Identifier(header="x-user", trusted_proxies=["127.0.0.1"])
    assert identifier.identify([(b"x-user", value)], "127.0.0.1") == ANONYMOUS


def test_a_name_may_be_any_text_but_only_one() -> None:
    identifier = Identifier(header="x-user", trusted_proxies=["127.0.0.1"])
    assert identifier.identify([(b"x-user", "zoë".encode())], "127.0.0.1") == Identity("zoë")
    assert identifier.identify([(b"x-user", b"ada"), (b"x-user", b"bob")], "127.0.0.1") == ANONYMOUS


def test_addresses_without_end_are_not_remembered() -> None:
    proxies = Proxies(["10.0.0.0/8"])
    for number in range(5000):
        proxies.trust(f"10.0.{number // 256}.{number % 256}")
    assert len(proxies._known) < 4097


# --- tokens -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "alg"),
    [(RSA, "RS256"), (RSA, "RS512"), (RSA, "PS256"), (EC, "ES256"), (ED, "EdDSA")],
)
def test_a_token_of_an_asymmetric_key_is_believed(key: Any, alg: str) -> None:
    identifier = Identifier(tokens=tokens())
    assert identifier.identify(bearer(token(key, alg)), "") == Identity("ada")


@pytest.mark.parametrize(
    "made",
    [
        token(OTHER),
        token(OTHER, kid="one"),
        token(exp=NOW - 10),
        token(exp=None),
        token(exp="soon"),
        token(exp=float("inf")),
        token(nbf=NOW + 60),
        token(preferred_username=None),
        token(preferred_username=7),
        token(preferred_username=""),
        token(kid="nine"),
        token(SECRET, "HS256"),
        unsigned(),
        token()[:-8] + b"AAAAAAAA",
        b"x.y.z",
        b"nonsense",
        b"",
        b"\xff.\xff.\xff",
        b"a" * 9000,
    ],
)
def test_anything_else_is_an_anonymous_credential(made: bytes) -> None:
    identifier = Identifier(tokens=tokens(cookies=PAIR))
    for _ in range(2):
        assert identifier.identify(bearer(made), "") == UNVERIFIED


def test_issuer_and_audience_must_be_the_expected_ones() -> None:
    identifier = Identifier(tokens=tokens(issuer="https://sso", audience="shop"))
    believed: dict[str, Any] = {"iss": "https://sso", "aud": ["other", "shop"]}
    assert identifier.identify(bearer(token(**believed)), "") == Identity("ada")
    changes: list[dict[str, Any]] = [{"iss": "https://evil"}, {"aud": "other"}, {"iss": None}, {"aud": None}]
    for changed in changes:
        assert identifier.identify(bearer(token(**{**believed, **changed})), "") == UNVERIFIED


def test_the_claim_and_the_schemes_are_the_operators() -> None:
    identifier = Identifier(tokens=tokens(claim="sub", authorization=("jwt",)))
    made = token(sub="bob")
    assert identifier.identify([(b"authorization", b"JWT  " + made)], "") == Identity("bob")
    assert identifier.identify(bearer(made), "") == UNVERIFIED


def test_a_token_is_verified_once_and_forgotten_when_it_expires() -> None:
    wall = Wall()
    verifier = tokens(wall=wall)
    made = token()
    assert verifier.principal(made) == "ada"
    verifier._keys.clear()
    assert verifier.principal(made) == "ada"
    wall.now += 66
    assert verifier.principal(made) is None


def test_a_refusal_is_remembered_for_a_moment() -> None:
    wall = Wall()
    verifier = tokens(OTHER, wall=wall)
    made = token()
    assert verifier.principal(made) is None
    verifier._keys[:] = [RSA]
    assert verifier.principal(made) is None
    wall.now += 6
    assert verifier.principal(made) == "ada"


def test_verdicts_without_end_are_not_remembered() -> None:
    verifier = tokens()
    for number in range(4200):
        verifier.principal(b"%d" % number)
    assert len(verifier._known) == 4096


def test_a_token_may_come_in_two_cookies() -> None:
    identifier = Identifier(tokens=tokens(cookies=PAIR))
    assert identifier.identify(cookie(token()), "") == Identity("ada")
    assert identifier.identify(cookie(token(OTHER)), "") == UNVERIFIED
    assert identifier.identify([(b"cookie", PAIR[0].encode() + b"=a.b")], "") == UNVERIFIED
    assert identifier.identify([(b"cookie", b"csrftoken=a")], "") == ANONYMOUS
    assert Identifier(tokens=tokens()).identify(cookie(token()), "") == ANONYMOUS


def test_nobody_speaks_for_somebody_else() -> None:
    identifier = Identifier(header="x-user", trusted_proxies=["127.0.0.1"], tokens=tokens(cookies=PAIR))
    ada, vouched = bearer(token()), [(b"x-user", b"ada")]
    assert identifier.identify(vouched + ada, "127.0.0.1") == Identity("ada")
    assert identifier.identify([(b"x-user", b"bob"), *ada], "127.0.0.1") == Identity("bob", unverified=True)
    assert identifier.identify([(b"x-user", b"bob"), *ada], "8.8.8.8") == Identity("ada")
    assert identifier.identify(vouched + bearer(b"junk"), "127.0.0.1") == Identity("ada", unverified=True)
    assert identifier.identify(ada + cookie(token(preferred_username="bob")), "") == Identity("ada", unverified=True)


def test_a_credential_that_nobody_can_verify_is_unverified() -> None:
    identifier = Identifier(header="x-user")
    assert identifier.identify([(b"authorization", b"Basic abc")], "") == UNVERIFIED
    assert identifier.identify([(b"cookie", b"a=b")], "") == ANONYMOUS
    assert identifier.identify([(b"accept", b"*/*")], "") is ANONYMOUS


# --- keys -------------------------------------------------------------------------------------------------------------


def jwks(*keys: Any) -> dict[str, Any]:
    return {"keys": [key.as_dict(private=False) for key in keys]}


def test_keys_come_from_pem_a_set_or_a_single_key() -> None:
    pem = (
        RSA.as_pem(private=False).decode()
        + "\n"
        + EC.as_pem(private=False).decode()
        + ED.as_pem(private=False).decode()
    )
    assert [key.key_type for key in read_keys(pem)] == ["RSA", "EC", "OKP"]
    assert [key.kid for key in read_keys(json.dumps(jwks(RSA, EC)))] == ["one", "two"]
    assert len(read_keys(EC.as_dict(private=False))) == 1


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"keys": [1, {"kty": "RSA"}, {"kty": "XYZ"}]}',
        json.dumps({"keys": [{"kty": "oct", "k": "c2VjcmV0"}]}),
        json.dumps({"keys": [{**RSA.as_dict(private=False), "use": "enc"}]}),
        "-----BEGIN PUBLIC KEY-----\nbroken\n-----END PUBLIC KEY-----\n",
    ],
)
def test_a_text_without_public_keys_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        read_keys(text)


def test_keys_are_read_from_a_file_at_once(tmp_path: Path) -> None:
    file = tmp_path / "keys.pem"
    file.write_bytes(RSA.as_pem(private=False))
    verifier = Tokens(Rules(keys=str(file)), wall=Wall())
    assert verifier.principal(token(kid="any")) == "ada"
    with pytest.raises(OSError, match="missing"):
        Tokens(Rules(keys=str(tmp_path / "missing.pem")))


class Issuer:
    """Keys behind a URL: what it gives next, and how often it was asked."""

    def __init__(self, *answers: Any) -> None:
        self._answers = list(answers)
        self.asked: asyncio.Queue[str] = asyncio.Queue()

    async def get(self, url: str) -> Any:
        self.asked.put_nowait(url)
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer


@pytest.mark.anyio
async def test_keys_behind_a_url_are_fetched_and_kept_when_that_fails(caplog: pytest.LogCaptureFixture) -> None:
    issuer = Issuer(OSError("down"), jwks(RSA), {"keys": []}, jwks(RSA))
    verifier = Tokens(Rules(keys="https://sso/jwks"), wall=Wall(), refresh=0.0, retry=0.0)
    identifier = Identifier(tokens=verifier)
    assert verifier.principal(token()) is None
    identifier.start(issuer.get)
    for _ in range(5):
        assert await issuer.asked.get() == "https://sso/jwks"
    assert verifier.principal(token()) == "ada"
    await identifier.aclose()
    await identifier.aclose()
    assert "the keys at https://sso/jwks cannot be had: down" in caplog.text


@pytest.mark.anyio
async def test_an_unknown_key_makes_for_a_fetch() -> None:
    issuer = Issuer(jwks(EC), jwks(EC, RSA))
    verifier = Tokens(Rules(keys="https://sso/jwks"), wall=Wall(), refresh=1000.0, retry=0.0)
    identifier = Identifier(tokens=verifier)
    identifier.start(issuer.get)
    await issuer.asked.get()
    attempts = count()
    while not issuer.asked.qsize():  # each with a token of its own: a refusal is remembered
        verifier.principal(token(kid="one", jti=next(attempts)))
        await asyncio.sleep(0)
    await identifier.aclose()


@pytest.mark.anyio
async def test_keys_in_a_file_need_no_refreshing() -> None:
    identifier = Identifier(tokens=tokens())
    identifier.start(Issuer({}).get)
    assert identifier._task is None
    await identifier.aclose()
