"""`bff.yaml`: the whole grammar of the operator's settings, with the help text of every key and the contract's defaults.

Shapes alone; `settings` reads them. Durations are seconds, sizes bytes.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema

from bff.config.fields import (
    Boolean,
    CookieName,
    Duration,
    FullName,
    Integer,
    MaybeHeaderName,
    Name,
    Names,
    PolicyLayer,
    Section,
    Size,
    StarOrNames,
    Target,
    Text,
    read_by,
)
from bff.model import Trust

# --- values -----------------------------------------------------------------------------------------------------------


def _listen(text: str) -> str:
    match = re.fullmatch(r"(?P<host>[0-9A-Za-z._-]+|\[[0-9A-Fa-f:.]+\]):(?P<port>[0-9]{1,5})", text)
    if not match or int(match["port"]) > 65535:
        raise ValueError(f"{text!r} is not an address; write host:port, such as 127.0.0.1:8000 or [::]:8000")
    return text


def _maybe_listen(text: str) -> str:
    return text and _listen(text)


def _host(text: str) -> str:
    """A host without its port: those are ignored on both sides."""
    match = re.fullmatch(r"(\*|[0-9A-Za-z._-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?", text)
    if not match:
        raise ValueError(f"{text!r} is not a host; write a name without scheme and port, such as www.example.org")
    return match[1].lower()


def _some(hosts: tuple[str, ...]) -> tuple[str, ...]:
    if not hosts:
        raise ValueError("without a host every request is 421; name the hosts, or leave it out for any")
    return hosts


def _block(text: str) -> str:
    try:
        return str(ipaddress.ip_network(text, strict=False))
    except ValueError:
        raise ValueError(f"{text!r} is neither an address nor a block; write one such as 10.0.0.0/8") from None


def _store(text: str) -> str:
    server = r"rediss?://(?:[^@/?#]*@)?(?:[0-9A-Za-z._-]+|\[[0-9A-Fa-f:.]+\])(?::(?P<port>[0-9]{1,5}))?(?:/[0-9]{0,4})?(?:\?[!-~]*)?"
    match = re.fullmatch(rf"memory://|sqlite:///[!-~]*[^/]|{server}", text, re.ASCII)
    if not match or int(match["port"] or 1) > 65535:
        shown = re.sub("//.*@", "//…@", text)  # a password is nobody's to read
        raise ValueError(f"{shown!r} is not a store; write memory://, sqlite:///var/bff.sqlite or redis://host:6379/0")
    return text


def _locale(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8})*", text):
        raise ValueError(f"{text!r} is not a locale; write a language tag such as en or pt-BR")
    return text


def _origin(text: str) -> str:
    if not re.fullmatch(r"\*|https?://(?:[a-z0-9._-]+|\[[0-9a-f:.]+\])(?::[0-9]{1,5})?", text):
        raise ValueError(
            f"{text!r} is not an origin as browsers send it; write https://app.example, in lower case, without a slash"
        )
    return text


def _secrets(value: object) -> object:
    return [part for part in (piece.strip() for piece in value.split(",")) if part] if isinstance(value, str) else value


_CEILINGS: Final[Mapping[str, object]] = MappingProxyType(
    {"timeout.total": 10.0, "concurrency": 1024, "max_body": 16777216}
)

SECRET: Final = 8
"""Characters that a token of the admin API should have at least."""
Secret = Annotated[str, Field(repr=False, json_schema_extra={"writeOnly": True})]
Host = Annotated[str, read_by(_host)]
Block = Annotated[str, read_by(_block)]
Locale = Annotated[str, read_by(_locale)]
Origin = Annotated[str, read_by(_origin)]


# --- sections ---------------------------------------------------------------------------------------------------------


class IdentityHeader(Section):
    name: Annotated[
        MaybeHeaderName, Field(description="Header with the principal's name, believed from trusted_proxies only; empty: none.")
    ] = "x-forwarded-user"  # fmt: skip


class Jwt(Section):
    authorization: Annotated[Names, Field(description="Schemes of the Authorization header that carry a token.")] = (
        "bearer",
        "jwt",
    )
    cookies: Annotated[
        tuple[CookieName, ...], Field(description="One cookie with a whole token, or two: header and payload, signature.")
    ] = ("edx-jwt-cookie-header-payload", "edx-jwt-cookie-signature")  # fmt: skip
    keys: Annotated[
        Text, Field(min_length=1, description="Public keys: a file of PEM or JWK beside this one, or a JWK set's URL.")
    ]
    issuer: Annotated[Text, Field(description="What `iss` must be; empty: anything.")] = ""
    audience: Annotated[Text, Field(description="What `aud` must hold; empty: anything.")] = ""
    claim: Annotated[Text, Field(min_length=1, description="The claim that names the principal.")] = (
        "preferred_username"
    )


class Identity(Section):
    header: Annotated[IdentityHeader, Field(description="A header that a proxy in front sets.")] = IdentityHeader()
    jwt: Annotated[
        Jwt | None, Field(description="Tokens that the gateway verifies; invalid or expired is anonymous.")
    ] = None


class Allowed(Section):
    upstreams: Annotated[Names | None, Field(description="Upstream URLs.")] = None
    routes: Annotated[Names | None, Field(description="Routes of pages and proxies; * matches anything.")] = None
    cookies: Annotated[Names | None, Field(description="Cookies that may be forwarded or set.")] = None
    headers: Annotated[Names | None, Field(description="Headers that may be forwarded.")] = None
    redirects: Annotated[Names | None, Field(description="Origins that may be redirected to.")] = None
    csp: Annotated[Names | None, Field(description="Sources that may be added to the policy.")] = None
    trust: Annotated[Names | None, Field(description="Levels of trust that may be registered.")] = None


class Events(Section):
    bus: Annotated[Text, Field(description="redis://… with Open edX events; empty: none.")] = ""
    prefix: Annotated[Text, Field(description="Streams are named <prefix>-<topic>.")] = ""
    webhook_secret: Annotated[
        Secret, Field(description="Key of BFF-Signature on POST /_bff/events; empty: there is none.")
    ] = ""


class Cors(Section):
    origins: Annotated[
        tuple[Origin, ...],
        Field(
            description='Origins that may read JSON forms, fragments, tasks and proxy routes; "*" is any, without credentials.'
        ),
    ] = ()
    credentials: Annotated[Boolean, Field(description="Whether they may send cookies.")] = False


class Csp(Section):
    mode: Annotated[Literal["enforce", "report"], Field(description="enforce it, or only report violations.")] = (
        "enforce"
    )
    report_uri: Annotated[Text, Field(description="Where browsers report violations; empty: nowhere.")] = ""
    add: Annotated[
        dict[str, Names], Field(description="Additions to every page's policy, by directive.")
    ] = Field(default_factory=dict)  # fmt: skip


class PageOverride(Section):
    deadline: Annotated[Duration, Field(ge=0.1, le=60, description="The page's deadline.")]


class Overriding(Section):
    contexts: Annotated[dict[Name, PolicyLayer], Field(description="Policy by context.")] = Field(default_factory=dict)
    fragments: Annotated[dict[FullName, PolicyLayer], Field(description="Policy by fragment.")] = Field(
        default_factory=dict
    )
    pages: Annotated[dict[FullName, PageOverride], Field(description="Deadlines by page.")] = Field(
        default_factory=dict
    )
    trust: Annotated[dict[Target, Trust], Field(description="Levels of trust by context or fragment.")] = Field(
        default_factory=dict
    )

    def layer_of(self, fragment: str) -> Mapping[str, object]:
        """The policy that is overridden of a fragment: its context's, then its own."""
        return {**self.contexts.get(fragment.partition("/")[0], {}), **self.fragments.get(fragment, {})}

    def trust_of(self, fragment: str) -> Trust | None:
        """The level of trust that wins over what is registered; None: there is none."""
        return self.trust.get(fragment) or self.trust.get(fragment.partition("/")[0])


class Limits(Section):
    streams: Annotated[Integer, Field(ge=1, description="Responses under way, per worker.")] = 10000
    head: Annotated[Duration, Field(ge=0.1, description="Time for a request's head to arrive.")] = 10.0
    header_bytes: Annotated[
        Size, Field(ge=1024, description="All header fields of a request, or of an upstream's answer.")
    ] = 65536
    url_bytes: Annotated[Size, Field(ge=256, description="A request's URL.")] = 8192
    keepalive: Annotated[Duration, Field(description="How long an idle connection stays open.")] = 75.0
    write: Annotated[Duration, Field(ge=0.1, description="How long a client may take nothing of what is sent.")] = 30.0
    drain: Annotated[Duration, Field(description="How long responses may go on after SIGTERM.")] = 10.0
    render: Annotated[Duration, Field(ge=0.1, description="How long a template or a repair may take.")] = 2.0
    upstream_idle: Annotated[Duration, Field(description="How long an idle upstream connection is kept.")] = 4.0


class Logging(Section):
    format: Annotated[Literal["json", "console"], Field(description="json: an object a line; console: for people.")] = (
        "json"
    )
    access: Annotated[Boolean, Field(description="Whether each page is a line.")] = True


class AdminToken(Section):
    token: Annotated[Secret, Field(min_length=1, description="What the bearer shows.")]
    scope: Annotated[StarOrNames, Field(description='Contexts it is for, or "*".')]


class Admin(Section):
    listen: Annotated[
        Text,
        read_by(_maybe_listen),
        Field(description="A port of its own for admin, metrics and probes; empty: the main one."),
    ] = ""
    token: Annotated[
        Secret,
        Field(description="The operator's token, for everything; without any token there is no admin."),
    ] = ""
    tokens: Annotated[dict[Name, AdminToken], Field(description="Further tokens by name.")] = Field(
        default_factory=dict
    )


class Settings(Section):
    """The keys of `bff.yaml`."""

    listen: Annotated[Text, read_by(_listen), Field(description="Address and port.")] = "127.0.0.1:8000"
    workers: Annotated[
        Integer, Field(ge=1, le=256, description="Processes sharing the port; more than one refuses memory://.")
    ] = 1
    fragments: Annotated[Path, Field(description="The folder of registrations, beside this file unless absolute.")] = (
        Path("fragments")
    )
    watch: Annotated[Boolean, Field(description="Reload registrations and this file when they change.")] = True
    hosts: Annotated[
        tuple[Host, ...],
        AfterValidator(_some),
        Field(description="Accepted Host values, ports ignored; anything else is 421."),
    ] = ("*",)
    trusted_proxies: Annotated[
        tuple[Block, ...], Field(description="Addresses or CIDR blocks whose X-Forwarded-* and identity headers are believed.")
    ] = ()  # fmt: skip
    early_hints: Annotated[
        Boolean, Field(description="Send 103 Early Hints of pages that wait for their primary, through trusted_proxies; each must understand them.")
    ] = False  # fmt: skip
    store: Annotated[
        Text, read_by(_store), Field(description="Where answers are kept: memory://, sqlite:///… or redis://….")
    ] = "memory://"
    memory: Annotated[Size, Field(ge=1024**2, description="The first tier, per worker.")] = 268435456
    secret: Annotated[
        tuple[str, ...], BeforeValidator(_secrets), WithJsonSchema({"type": "string"}),
        Field(repr=False, json_schema_extra={"default": ""}, description="Signs task ids; comma-separated to rotate, the first signs. Generated where empty."),
    ] = ()  # fmt: skip
    locales: Annotated[tuple[Locale, ...], Field(description="Negotiated languages, the first is the default.")] = ()
    identity: Annotated[Identity, Field(description="Who is signed in.")] = Identity()
    allow: Annotated[
        dict[Name, Allowed], Field(description="What a registration may claim, by context; absent: anything.")
    ] = Field(default_factory=dict)
    ceilings: Annotated[
        PolicyLayer,
        AfterValidator(lambda given: {**_CEILINGS, **given}),
        Field(description="Upper bounds of policies, by dotted key."),
    ] = Field(default_factory=lambda: dict(_CEILINGS))
    events: Annotated[Events, Field(description="Where events come from.")] = Events()
    cors: Annotated[Cors, Field(description="Other origins.")] = Cors()
    csp: Annotated[Csp, Field(description="The pages' Content-Security-Policy.")] = Csp()
    policy: Annotated[PolicyLayer, Field(description="Defaults of all contexts.")] = Field(default_factory=dict)
    overrides: Annotated[Overriding, Field(description="What wins over registrations.")] = Overriding()
    limits: Annotated[Limits, Field(description="What clients may take, per worker.")] = Limits()
    logging: Annotated[Logging, Field(description="Lines on standard output.")] = Logging()
    admin: Annotated[Admin, Field(description="The operators' API.")] = Admin()
