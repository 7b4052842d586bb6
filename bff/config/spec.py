"""`context.yaml`: the whole grammar of a registration, with the help text of every key.

Shapes alone: what values must have to do with each other is `check`'s business. pydantic reads them from plain text, lists
and mappings; each default is the contract's.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from bff.config.fields import (
    Boolean,
    CookieName,
    Duration,
    FullName,
    Integer,
    Length,
    MaybeHeaderName,
    Name,
    Names,
    OneOrMany,
    ParamName,
    PolicyLayer,
    Section,
    StarOrHeaders,
    StarOrNames,
    Text,
)  # fmt: skip


class Forward(Section):
    headers: Annotated[
        StarOrHeaders,
        Field(
            description='Names of request headers that reach the context; `authorization` only when named; "*" on proxy routes only.'
        ),
    ] = ()
    cookies: Annotated[tuple[CookieName, ...], Field(description="Names of cookies that reach the context.")] = ()
    principal: Annotated[
        MaybeHeaderName, Field(description="Header under which the verified principal is sent; empty: it is not.")
    ] = ""  # fmt: skip


class Grant(Section):
    cookies: Annotated[
        tuple[CookieName, ...], Field(description="Cookies that the answer of a primary, a page POST or a proxy route may set.")
    ] = ()  # fmt: skip
    redirects: Annotated[Names, Field(description="Origins beyond the gateway's own that it may redirect to.")] = ()


class Param(Section):
    type: Annotated[
        Literal["str", "int", "float", "bool", "enum", "date"],
        Field(description="What a value is; bool is true or false, date is YYYY-MM-DD. A value has one spelling: 01 is no int."),
    ] = "str"  # fmt: skip
    pattern: Annotated[Text, Field(description="RE2 pattern of a str, matched whole, in linear time.")] = ""
    values: Annotated[Names, Field(description="What an enum may be.")] = ()
    ge: Annotated[Text, Field(description="Least int, float or date.")] = ""
    le: Annotated[Text, Field(description="Greatest int, float or date.")] = ""
    default: Annotated[
        OneOrMany | None, Field(description="Where none is given; without it, the parameter is required.")
    ] = None  # fmt: skip
    many: Annotated[Boolean, Field(description="Whether it may be given more than once.")] = False
    max: Annotated[Integer, Field(ge=1, le=1000, description="How many values `many` allows.")] = 100
    example: Annotated[Text, Field(description="A valid value, for `bff check` and for people.")] = ""
    source: Annotated[
        Literal["", "principal"], Field(alias="from", description="principal: filled by the gateway, never by a client.")
    ] = ""  # fmt: skip


class Paginate(Section):
    style: Annotated[
        Literal["", "drf", "link"], Field(description="drf: Django REST framework's; link: the Link header.")
    ] = ""
    items: Annotated[Text, Field(description="JSON field that holds the list.")] = ""
    next: Annotated[Text, Field(description="JSON field that holds the next page's URL.")] = ""


class Assets(Section):
    css: Annotated[Names, Field(description="Style sheets, as paths under upstream.")] = ()
    js: Annotated[Names, Field(description="ES modules, as paths under upstream.")] = ()
    vite: Annotated[Text, Field(description="Path of Vite's manifest under upstream, instead of css and js.")] = ""
    entry: Annotated[Text, Field(description="Entry of Vite's manifest.")] = ""


def _paginate(value: object) -> object:
    return {"style": value} if isinstance(value, str) else value


class Fragment(Section):
    path: Annotated[
        Text,
        Field(description="Path under upstream; {param} is percent-encoded as one segment. Of podium: /manifest.json unless written."),
    ] = ""  # fmt: skip
    query: Annotated[dict[str, Text], Field(description="Query parameters sent: name → text with {param}.")] = Field(
        default_factory=dict
    )
    params: Annotated[
        dict[ParamName, Param], Field(description="Declared parameters; nothing else can be asked for.")
    ] = Field(default_factory=dict)
    source: Annotated[
        Text, Field(description="How the context is spoken to; the context's `source` unless written.")
    ] = ""
    template: Annotated[Text, Field(description="Jinja2 file that makes HTML of JSON: `data`, `params`, `meta`.")] = ""
    as_of: Annotated[
        Text, Field(description="JSON field with the source's own timestamp; default Last-Modified, then Date.")
    ] = ""
    paginate: Annotated[
        Paginate | None,
        BeforeValidator(_paginate),
        Field(
            description="How lists go on: drf, link, or {items, next}.",
            json_schema_extra=lambda schema: schema.update(anyOf=[{"enum": ["drf", "link"]}, *schema["anyOf"]]),
        )
    ] = None  # fmt: skip
    embeds: Annotated[tuple[FullName, ...], Field(description="Fragments that may be embedded in its HTML.")] = ()
    tags: Annotated[Names, Field(description="Names, with {param}, under which answers are purged and refreshed.")] = ()
    fallback: Annotated[Names, Field(description="Static answers: one .html file, one .json file.")] = ()
    assets: Annotated[Assets, Field(description="Style sheets and scripts that it needs.")] = Assets()
    reserve: Annotated[Length, Field(description="Height held for it until it arrives, as a CSS length.")] = ""
    trust: Annotated[
        Literal["checked", "sanitized", "sandboxed"],
        Field(description="checked: as it is, if well-formed. sanitized: no scripts, forms, ids, styles. sandboxed: an iframe."),
    ] = "checked"  # fmt: skip
    starts_task: Annotated[Boolean, Field(description="Never retried, prefetched or streamed.")] = False
    policy: Annotated[PolicyLayer, Field(description="Timeouts, retries, breaker, concurrency and cache rules.")] = (
        Field(default_factory=dict)
    )


class Page(Section):
    path: Annotated[
        Text, Field(description="Route of the gateway: {name} is a segment, {name:path} the rest, which may be empty.")
    ]
    query: Annotated[dict[ParamName, Param], Field(description="Declared query parameters; others are ignored.")] = (
        Field(default_factory=dict)
    )
    template: Annotated[Text, Field(description="The shell: a Jinja2 file that is compiled when it is loaded.")]
    deadline: Annotated[Duration, Field(ge=0.1, le=60, description="Absolute, for the whole response.")] = 2.0
    error: Annotated[Text, Field(description="The shell shown when the primary fails.")] = ""
    cross_site: Annotated[Boolean, Field(description="Whether unsafe requests from other sites are let through.")] = (
        False
    )


class Proxy(Section):
    path: Annotated[Text, Field(description="Route of the gateway.")]
    to: Annotated[Text, Field(description="Path under upstream, with the route's parameters.")]
    forward: Annotated[Forward | None, Field(description="Replaces the context's.")] = None
    methods: Annotated[StarOrNames, Field(description='HTTP methods let through, or "*".')] = (
        "GET", "HEAD", "OPTIONS",
    )  # fmt: skip
    cross_site: Annotated[Boolean, Field(description="Whether unsafe requests from other sites are let through.")] = (
        False
    )
    policy: Annotated[PolicyLayer, Field(description="As for fragments.")] = Field(default_factory=dict)


class Event(Section):
    type: Annotated[Text, Field(description="CloudEvents type.")]
    topic: Annotated[Text, Field(description="Topic of the bus that carries it.")] = ""
    tags: Annotated[Names, Field(description="Tags it concerns, with {field.of.its.data}.")]
    action: Annotated[
        Literal["refresh", "expire", "purge"], Field(description="refresh: fetch again. expire: mark stale. purge: drop.")
    ] = "refresh"  # fmt: skip


class Spec(Section):
    """The keys of `context.yaml`."""

    owner: Annotated[Text, Field(min_length=1, description="The team that owns this context.")]
    contact: Annotated[Text, Field(description="Where to reach them.")] = ""
    upstream: Annotated[
        Text, Field(description="Origin and optional base path of the context's service; BFF_UPSTREAM__<CONTEXT> wins.")
    ] = ""  # fmt: skip
    source: Annotated[
        Text, Field(description="How it is spoken to: html, json, podium, web-fragment, or an installed source.")
    ] = "html"  # fmt: skip
    forward: Annotated[
        Forward, Field(description="What of the browser's request reaches the context; nothing else does.")
    ] = Forward()
    grant: Annotated[Grant, Field(description="What its answers may do beyond showing content.")] = Grant()
    csp: Annotated[
        dict[str, OneOrMany],
        Field(description="Additions to the Content-Security-Policy of pages that hold its slots, by directive."),
    ] = Field(default_factory=dict)  # fmt: skip
    policy: Annotated[PolicyLayer, Field(description="Defaults for all its fragments.")] = Field(default_factory=dict)
    fragments: Annotated[dict[Name, Fragment], Field(description="The pieces it can serve.")] = Field(
        default_factory=dict
    )
    pages: Annotated[dict[Name, Page], Field(description="The pages it owns.")] = Field(default_factory=dict)
    proxy: Annotated[
        tuple[Proxy, ...], Field(description="Its API, for its own client code, on the gateway's origin.")
    ] = ()
    events: Annotated[tuple[Event, ...], Field(description="Events that concern its answers.")] = ()
