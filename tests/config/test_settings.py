"""`bff.config.settings`: the contract's defaults, the environment over the file, and every error named by file or variable."""

from __future__ import annotations

from pathlib import Path

import pytest

from bff.config.settings import Settings, read_settings
from bff.errors import UnusableInput

DEFAULTS = """\
listen: 127.0.0.1:8000
workers: 1
fragments: fragments
watch: true
hosts: ["*"]
trusted_proxies: []
store: memory://
memory: 256MiB
secret: ""
locales: []
identity:
  header: {name: x-forwarded-user}
allow: {}
ceilings: {timeout.total: 10s, concurrency: 1024, max_body: 16MiB}
events: {bus: "", prefix: "", webhook_secret: ""}
cors: {origins: [], credentials: false}
csp: {mode: enforce, report_uri: "", add: {}}
policy: {}
overrides: {}
limits: {streams: 10000, head: 10s, header_bytes: 64KiB, url_bytes: 8KiB, keepalive: 75s, write: 30s, drain: 10s, render: 2s, upstream_idle: 4s}
logging: {format: json, access: true}
admin: {listen: "", token: "", tokens: {}}
"""


def written(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "bff.yaml"
    file.write_text(text)
    return file


def settings(tmp_path: Path, text: str = "", **env: str) -> Settings:
    return read_settings(written(tmp_path, text), env=env)[0]


def refused(tmp_path: Path, text: str = "", **env: str) -> list[str]:
    with pytest.raises(UnusableInput) as caught:
        read_settings(written(tmp_path, text), env=env)
    assert all(f.remedy for f in caught.value.findings)
    return [str(f).removeprefix(f"{tmp_path}/") for f in caught.value.findings]


def test_what_the_contract_writes_is_what_holds_anyway(tmp_path: Path) -> None:
    assert settings(tmp_path, DEFAULTS) == settings(tmp_path, "")
    assert read_settings(written(tmp_path, DEFAULTS), env={})[1] == []


def test_values_are_typed(tmp_path: Path) -> None:
    read = settings(tmp_path, "")
    assert (read.limits.head, read.limits.header_bytes, read.memory) == (10.0, 65536, 256 * 1024**2)
    assert read.ceilings == {"timeout.total": 10.0, "concurrency": 1024, "max_body": 16 * 1024**2}
    assert (read.identity.header.name, read.identity.jwt) == ("x-forwarded-user", None)


def test_every_key_can_be_written(tmp_path: Path) -> None:
    (tmp_path / "keys.pem").write_text("")
    read = settings(
        tmp_path,
        """\
listen: "[::1]:80"
hosts: ["WWW.example.org:8000", "[::1]:80"]
trusted_proxies: [10.0.0.1/8, "::1"]
early_hints: true
store: sqlite:///var/bff.sqlite
secret: new, old
locales: [en, pt-BR]
identity: {header: {name: ""}, jwt: {keys: keys.pem, issuer: a, audience: b, cookies: [t]}}
allow: {discovery: {routes: [/courses/*], trust: []}}
ceilings: {timeout.total: 5s}
csp: {mode: report, add: {img-src: ["data:"]}}
policy: {timeout: {total: 1s}}
overrides: {contexts: {a: {state: off}}, fragments: {a/b: {cache.fresh: 1s}}, pages: {a/c: {deadline: 1s}}}
admin: {tokens: {ops: {token: abcdefgh, scope: "*"}, team: {token: ijklmnop, scope: [discovery]}}}
""",
    )
    jwt = read.identity.jwt
    assert jwt is not None
    assert (read.hosts, read.trusted_proxies) == (("www.example.org", "[::1]"), ("10.0.0.0/8", "::1/128"))
    assert read.early_hints
    assert (read.store, jwt.keys) == (f"sqlite:///{tmp_path}/var/bff.sqlite", str(tmp_path / "keys.pem"))
    assert (read.secret, read.locales, read.identity.header.name) == (("new", "old"), ("en", "pt-BR"), "")
    assert (jwt.authorization, jwt.cookies, jwt.claim) == (("bearer", "jwt"), ("t",), "preferred_username")
    assert (read.allow["discovery"].routes, read.allow["discovery"].trust, read.allow["discovery"].csp) == (
        ("/courses/*",),
        (),
        None,
    )
    assert read.ceilings == {"timeout.total": 5.0, "concurrency": 1024, "max_body": 16 * 1024**2}
    assert (read.policy, read.overrides.contexts) == ({"timeout.total": 1.0}, {"a": {"state": "off"}})
    assert (read.overrides.fragments["a/b"], read.overrides.pages["a/c"].deadline) == ({"cache.fresh": 1.0}, 1.0)
    assert (read.admin.tokens["ops"].scope, read.admin.tokens["team"].scope) == (("*",), ("discovery",))
    assert read.csp.add == {"img-src": ("data:",)}


def test_secrets_are_not_in_a_repr(tmp_path: Path) -> None:
    read = settings(
        tmp_path,
        "secret: hush-1\nevents: {webhook_secret: hush-2}\nadmin: {token: hush-3-long, tokens: {a: {token: hush-4-long, scope: '*'}}}",
    )
    assert "hush" not in repr(read)
    assert read.admin.token == "hush-3-long"


def test_tokens_that_are_easily_guessed_are_noted(tmp_path: Path) -> None:
    file = tmp_path / "bff.yaml"
    file.write_text(
        "admin: {token: guessed, tokens: {a: {token: short, scope: '*'}, b: {token: long-enough, scope: '*'}}}\n"
    )
    read, found = read_settings(file, env={})
    assert (read.admin.token, read.admin.tokens["a"].token) == ("guessed", "short")
    assert [(each.code, each.severity, each.column) for each in found] == [
        ("weak-token", "note", 16),
        ("weak-token", "note", 45),
    ]


def test_keys_may_be_a_url(tmp_path: Path) -> None:
    jwt = settings(tmp_path, "identity: {jwt: {keys: https://id.example.org/jwks}}").identity.jwt
    assert jwt is not None
    assert jwt.keys == "https://id.example.org/jwks"


# --- files ------------------------------------------------------------------------------------------------------------


def test_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    assert settings(tmp_path, "fragments: here").fragments == tmp_path / "here"
    assert settings(tmp_path, "fragments: /there").fragments == Path("/there")
    assert settings(tmp_path, "store: sqlite:////var/b").store == "sqlite:////var/b"
    for url in ("redis://host", "redis://me:hush@host:6379/0", "rediss://[::1]:6379/1?ssl_cert_reqs=none"):
        assert settings(tmp_path, f"store: {url}").store == url


def test_without_a_file_the_defaults_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    read, found = read_settings(None, env={"BFF_WORKERS": "1"})
    assert (read.listen, read.fragments, found) == ("127.0.0.1:8000", tmp_path / "fragments", [])


def test_the_file_in_the_working_directory_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    written(tmp_path, "listen: 127.0.0.1:1")
    assert read_settings(None, env={})[0].listen == "127.0.0.1:1"


def test_a_named_file_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(UnusableInput, match="does not exist"):
        read_settings(tmp_path / "other.yaml", env={})


# --- the environment --------------------------------------------------------------------------------------------------


def test_the_environment_wins_key_by_key(tmp_path: Path) -> None:
    read = settings(
        tmp_path,
        "limits: {head: 9s, write: 9s}\nhosts: [a]\npolicy: {timeout: {total: 1s}}",
        BFF_LIMITS__HEAD="5s",
        BFF_HOSTS="b.example, c.example",
        BFF_SECRET="one,two",
        BFF_ADMIN__TOKEN="operators-own",
        BFF_POLICY__TIMEOUT__FIRST_BYTE="300ms",
        BFF_POLICY__MAX_BODY="1KiB",
        BFF_OVERRIDES__CONTEXTS__COURSE_API__CACHE__MAX_STALE="1h",
        BFF_ADMIN__TOKENS__OPS_TEAM="{token: abcdefgh, scope: [a]}",
        BFF_IDENTITY__JWT__KEYS="https://id.example.org/jwks",
        BFF_IDENTITY__JWT__COOKIES="one, two",
        BFF_CSP__ADD="{img-src: ['data:']}",
    )
    assert (read.limits.head, read.limits.write) == (5.0, 9.0)
    assert (read.hosts, read.secret, read.admin.token) == (("b.example", "c.example"), ("one", "two"), "operators-own")
    assert read.policy == {"timeout.total": 1.0, "timeout.first_byte": 0.3, "max_body": 1024}
    assert read.overrides.contexts == {"course-api": {"cache.max_stale": 3600.0}}
    assert read.admin.tokens["ops-team"].scope == ("a",)
    assert read.csp.add == {"img-src": ("data:",)}
    assert read.identity.jwt is not None
    assert (read.identity.jwt.keys, read.identity.jwt.cookies) == ("https://id.example.org/jwks", ("one", "two"))


def test_the_environment_wins_over_dotted_keys(tmp_path: Path) -> None:
    read = settings(
        tmp_path,
        "ceilings: {timeout.total: 5s, max_body: 1MiB}\npolicy: {cache.fresh: 1s, cache.negative: 1s, retry.extra: 2}\n"
        "overrides: {contexts: {shop: {cache.fresh: 1s, cache.negative: 2s}}}",
        BFF_CEILINGS__TIMEOUT__TOTAL="7s",
        BFF_POLICY__CACHE="{fresh: 3s}",
        BFF_OVERRIDES__CONTEXTS__SHOP__CACHE__FRESH="4s",
    )
    assert (read.ceilings["timeout.total"], read.ceilings["max_body"]) == (7.0, 1048576)
    assert read.policy == {"cache.fresh": 3.0, "retry.extra": 2}
    assert read.overrides.contexts == {"shop": {"cache.fresh": 4.0, "cache.negative": 2.0}}


def test_what_is_over_its_ceiling_is_told_where_it_is_written(tmp_path: Path) -> None:
    text = "policy: {timeout.total: 20s, max_body: 1MiB}\noverrides: {fragments: {shop/card: {timeout: {total: 30s}}}}"
    file = written(tmp_path, text)
    _, found = read_settings(file, env={"BFF_OVERRIDES__CONTEXTS__SHOP__CONCURRENCY": "5000"})
    assert sorted(str(each).replace(f"{tmp_path}/", "") for each in found) == [
        "BFF_OVERRIDES__CONTEXTS__SHOP__CONCURRENCY:1:1: warning: concurrency is 5000 — its ceiling is 1024, which holds instead",
        "bff.yaml:1:25: warning: timeout.total is 20s — its ceiling is 10s, which holds instead",
        "bff.yaml:2:54: warning: timeout.total is 30s — its ceiling is 10s, which holds instead",
    ]


def test_brackets_of_an_address_are_no_list(tmp_path: Path) -> None:
    assert settings(tmp_path, BFF_LISTEN="[::1]:80").listen == "[::1]:80"
    assert settings(tmp_path, BFF_SECRET="{not: yaml").secret == ("{not: yaml",)
    assert settings(tmp_path, BFF_HOSTS='["[::1]", b]').hosts == ("[::1]", "b")


def test_a_file_that_is_no_mapping_is_told_with_variables_too(tmp_path: Path) -> None:
    assert refused(tmp_path, "[]", BFF_WORKERS="1") == [
        "bff.yaml:1:1: error: must be a mapping — write its keys indented below it, or {key: value}"
    ]


def test_a_value_takes_the_place_of_a_section_that_is_none(tmp_path: Path) -> None:
    assert settings(tmp_path, "limits: x", BFF_LIMITS__HEAD="5s").limits.head == 5.0


@pytest.mark.parametrize(
    "name",
    [
        "BFF_LISEN",
        "BFF_LIMITS__HED",
        "BFF_POLICY__TIMEOT",
        "BFF_",
        "BFF_LIMITS__",
        "BFF_LISTEN__X",
        "BFF_LIMITS__HEAD__X",
    ],
)
def test_a_variable_that_means_nothing_is_a_warning(tmp_path: Path, name: str) -> None:
    _, (finding,) = read_settings(written(tmp_path, ""), env={name: "x", "PATH": "y"})
    assert (finding.file, finding.severity, finding.code) == (name, "warning", "unknown-variable")
    assert finding.remedy


@pytest.mark.parametrize(
    "name", ["BFF_UPSTREAM__DISCOVERY", "BFF_SERVICE_HOST", "BFF_SERVICE_PORT_HTTP", "BFF_PORT", "BFF_PORT_80_TCP_ADDR"]
)
def test_other_people_s_variables_are_left_alone(tmp_path: Path, name: str) -> None:
    assert read_settings(written(tmp_path, ""), env={name: "tcp://10.0.0.1:80"})[1] == []


def test_errors_name_the_variable(tmp_path: Path) -> None:
    found = refused(
        tmp_path,
        "watch: yes",
        BFF_LIMITS__HEAD="5",
        BFF_CEILINGS="{zzz: 1}",
        BFF_ALLOW="{a: &x {}}",
        BFF_CORS="{",
        BFF_ADMIN__TOKENS__A__TOKEN="abcdefgh",
    )
    assert {line.split(": ")[0] for line in found} == {
        "BFF_ADMIN__TOKENS__A__TOKEN:1:1",
        "BFF_ALLOW:1:5",
        "BFF_CEILINGS:1:1",
        "BFF_CORS:2:1",
        "BFF_LIMITS__HEAD:1:1",
        "bff.yaml:1:8",
    }
    assert len(found) == 6


# --- mistakes ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("lisen: x", "bff.yaml:1:1: error: unknown key 'lisen' — did you mean 'listen'?"),
        ("listen: '8000'", "bff.yaml:1:9: error: listen: '8000' is not an address"),
        ("listen: a:99999", "is not an address"),
        ("fragments: {a: b}", "bff.yaml:1:12: error: fragments: must be text — put quotes around"),
        ("workers: 0", "bff.yaml:1:10: error: workers: must be at least 1"),
        ("workers: two", "whole number"),
        ("hosts: ['http://a']", "bff.yaml:1:9: error: 'http://a' is not a host"),
        ("hosts: a", "must be a list"),
        ("hosts: []", "bff.yaml:1:8: error: hosts: without a host every request is 421 — name the hosts, or leave it"),
        ("hosts: ['a; b']", "'a; b' is not a host — write a name"),
        ("trusted_proxies: [proxy]", "neither an address nor a block"),
        ("early_hints: true", "through a proxy alone"),
        ("store: postgres://x", "is not a store"),
        ("store: redis://", "is not a store"),
        ("store: redis://host:70000/0", "is not a store"),
        ("store: redis://host/users", "is not a store"),
        ("store: sqlite:///var/", "is not a store"),
        ("store: redis://me:hush@", "'redis://…@' is not a store"),
        ("memory: 1KiB", "memory: must be at least 1MiB — change it"),
        ("limits: {head: 1ms}", "head: must be at least 100ms"),
        ("limits: {header_bytes: 1B}", "header_bytes: must be at least 1KiB"),
        ("memory: 256MB", "is not a size"),
        ("locales: [english_GB]", "language tag"),
        ("workers: 2", "bff.yaml:1:10: error: 2 workers cannot share memory://"),
        ("store: memory://\nworkers: 2", "bff.yaml:1:8: error: 2 workers cannot share memory://"),
        ("events: {bus: 'kafka://host'}", "nothing here reads kafka:// — write one of redis://, rediss://"),
        ("events: {bus: nonsense}", "nothing here reads nonsense://"),
        ("ceilings: {state: on}", "state has no ceiling"),
        ("cors: {origins: ['https://a.example/']}", "is not an origin as browsers send it"),
        ("cors: {origins: ['null']}", "is not an origin as browsers send it"),
        ("cors: {origins: ['*'], credentials: true}", "any origin could read what is somebody's own"),
        ("ceilings: {timeout: {ttl: 1s}}", "bff.yaml:1:22: error: unknown key 'timeout.ttl'"),
        ("identity: {jwt: {issuer: a}}", "bff.yaml:1:17: error: keys is missing"),
        ("identity: {jwt: {keys: none.pem}}", "bff.yaml:1:24: error: there is no file 'none.pem'"),
        ("identity: {jwt: {keys: 'https://a', cookies: [a, b, c]}}", "in one cookie, or in two"),
        ("identity: {header: {name: 'a b'}}", "is not a header name"),
        ("admin: {tokens: {a: {token: '', scope: '*'}}}", "of a length of at least 1"),
        ("admin: {listen: x}", "is not an address"),
        ("overrides: {fragments: {a: {}}}", "'a' is not a full name"),
        ("overrides: {pages: {a/b: {timeout: 1s}}}", "unknown key 'timeout'"),
        ("csp: {mode: off}", "is not one of enforce, report"),
        ("csp: {add: {img_src: [x]}}", "bff.yaml:1:13: error: 'img_src' cannot be added to — did you mean 'img-src'?"),
        (
            "csp: {add: {img-src: ['x; script-src *']}}",
            "is not a source of a policy",
        ),
        ("a: 1\na: 2", "duplicate key 'a'"),
        ("[]", "must be a mapping"),
        ("a: [", "not YAML"),
    ],
)
def test_a_mistake_is_told_where_it_is(tmp_path: Path, text: str, says: str) -> None:
    assert any(says in line for line in refused(tmp_path, text)), refused(tmp_path, text)


def test_what_is_wrong_among_keys_is_told_beside_what_is_wrong_with_one(tmp_path: Path) -> None:
    found = refused(tmp_path, "workers: 2\nlisen: x\nevents: {bus: 'kafka://x'}\nidentity: {jwt: {issuer: a}}")
    assert [line.split(": ")[0] for line in found] == [f"bff.yaml:{at}" for at in ("1:10", "2:1", "3:15", "4:17")]


def test_all_mistakes_are_told_at_once(tmp_path: Path) -> None:
    assert len(refused(tmp_path, "lisen: x\nworkers: 0\nlimits: {head: 1, hed: 2}\n")) == 4


def test_everything_has_an_effect(tmp_path: Path) -> None:
    text = "policy: {retry: {extra: 0}}\nallow: {a: {}}\noverrides: {contexts: {a: {hedge: {after: p95}}}}"
    assert read_settings(written(tmp_path, text), env={})[1] == []


def test_settings_can_be_made_in_code() -> None:
    assert Settings(listen="127.0.0.1:0").model_copy(update={"workers": 2}).workers == 2
