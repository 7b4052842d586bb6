"""Signatures: right, late, tampered with, absent."""

import pytest

from bff.events.signature import sign, valid

BODY = b'{"id": "1"}'
NOW = 1_796_117_500


def header(time: int | str = NOW, secret: str = "hush", body: bytes = BODY) -> str:
    return f"t={time},v1={sign(str(time), body, secret)}"


def test_the_scheme() -> None:
    """By hand: printf '1796117500.{"id": "1"}' | openssl dgst -sha256 -hmac hush."""
    assert sign("1796117500", BODY, "hush") == "3ac54e2f2c4dd2786a081fd6a6e337612dd0a2733c0570ca45bfc660a6bd2650"
    assert valid(header(), BODY, "hush", wall=NOW)


@pytest.mark.parametrize("away", [-300, -299, 0, 299, 300])
def test_within_five_minutes(away: int) -> None:
    assert valid(header(NOW + away), BODY, "hush", wall=NOW)


@pytest.mark.parametrize(
    "given",
    [
        "",
        "nonsense",
        header(NOW - 301),
        header(NOW + 301),
        header(secret="other"),
        header(body=BODY + b" "),
        header().replace(f"t={NOW}", f"t={NOW + 1}"),
        header().replace("v1=", "v0="),
        header().removeprefix(f"t={NOW},"),
        f"t={NOW}",
        f"t={NOW},t={NOW},v1={sign(str(NOW), BODY, 'hush')}",
        f"t={NOW}.0,v1={sign(f'{NOW}.0', BODY, 'hush')}",
        f"t=-1,v1={sign('-1', BODY, 'hush')}",
        header().upper(),
        header()[:-1],
        f"t={NOW},v1=é",
    ],
)
def test_what_signs_nothing(given: str) -> None:
    assert not valid(given, BODY, "hush", wall=NOW)


def test_two_keys_while_one_is_replaced() -> None:
    both = f"t={NOW},v1={sign(str(NOW), BODY, 'old')}, v1={sign(str(NOW), BODY, 'new')}"
    assert valid(both, BODY, "new", wall=NOW)
    assert valid(both, BODY, "old", wall=NOW)
    assert not valid(both, BODY, "third", wall=NOW)
