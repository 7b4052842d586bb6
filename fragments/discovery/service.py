"""The demo's discovery context: courses, runs, programs and subjects in the JSON of Open edX course-discovery.

A course's title can be changed, which is told as Open edX tells it. Knows nothing of pages, baskets or people. Start dates are
counted in weeks from today, so that the catalogue never ages.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import hashlib
import hmac
import json
import os
import signal
import socket
import sys
import time
import urllib.request
import uuid
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

JSON = dict[str, Any]
HERE = Path(__file__).parent
SPACE = uuid.UUID("8e6d9a0c-6f0b-4d53-9a4e-0a4f0f1c7b11")
TYPES = {"self_paced": "verified-audit", "instructor_paced": "credit-verified-audit"}
LANGUAGES = {"English": "English - United States", "Spanish": "Spanish - Spain (Modern)"}


# --- the catalogue, in the shapes of the real serializers


def identity(*parts: str) -> str:
    return str(uuid.uuid5(SPACE, "/".join(parts)))


def stamp(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


class Catalog:
    """All courses, runs and programs, built once from catalog.json."""

    def __init__(self, source: JSON, now: datetime) -> None:
        self.now = now
        self.organizations: Mapping[str, str] = source["organizations"]
        self.names: Mapping[str, str] = source["subjects"]
        self.modified = (now - timedelta(days=2)).replace(hour=5, minute=30, second=0, microsecond=0)
        self.written = {f"{c['org']}+{c['number']}": c for c in source["courses"]}
        self.sold_together: Sequence[JSON] = source["programs"]
        self.changed: dict[str, datetime] = {}
        self.build()

    def build(self) -> None:
        self.courses = {key: self.course(key, written) for key, written in self.written.items()}
        self.runs = {run["key"]: run for course in self.courses.values() for run in course["course_runs"]}
        self.programs = {p["uuid"]: p for p in map(self.program, self.sold_together)}

    def rename(self, key: str, title: str) -> None:
        """As an author in the publisher does; every answer that mentions the course is another one from now on."""
        self.written[key]["title"] = title
        self.changed[key] = datetime.now(UTC)
        self.build()

    @property
    def latest(self) -> datetime:
        return max([self.modified, *self.changed.values()])

    def organization(self, key: str) -> JSON:
        return {"uuid": identity("org", key), "key": key, "name": self.organizations[key], "logo_image_url": None,
                "certificate_logo_image_url": None, "description": None}  # fmt: skip

    def subject(self, slug: str) -> JSON:
        return {"name": self.names[slug], "subtitle": None, "description": None, "banner_image_url": None,
                "card_image_url": None, "slug": slug, "uuid": identity("subject", slug)}  # fmt: skip

    def course(self, key: str, c: JSON) -> JSON:
        runs = [self.run(key, c, 1, c["start"]), self.run(key, c, 2, c["start"] + 26)]
        return {
            "key": key,
            "uuid": identity("course", key),
            "title": c["title"],
            "course_runs": runs,
            "entitlements": [{"mode": "verified", "price": f"{c['price']:.2f}", "currency": "USD",
                              "sku": identity("entitlement", key)[:7].upper(), "expires": None}],
            "owners": [self.organization(c["org"])],
            "image": {"src": None, "description": None, "height": None, "width": None},  # covers are drawn from the subject
            "short_description": c["short"],
            "full_description": c["full"],
            "level_type": c["level"],
            "subjects": [self.subject(c["subject"])],
            "prerequisites": [],
            "prerequisites_raw": "",
            "expected_learning_items": [],
            "video": None,
            "sponsors": [],
            "modified": stamp(self.changed.get(key, self.modified)),
            "marketing_url": f"/courses/{key}",
            "syllabus_raw": "",
            "outcome": "\n".join(c["outcome"]),
            "original_image": None,
            "card_image_url": None,
            "canonical_course_run_key": runs[0]["key"],
            "additional_information": "",
            "faq": "",
            "learner_testimonials": "",
            "enrollment_count": c["enrolled"],
            "recent_enrollment_count": c["enrolled"] // 12,
            "topics": [],
            "partner": "halyard",
            "url_slug": key.lower().replace("+", "-"),
            "course_run_statuses": sorted({run["status"] for run in runs}),
            "editors": [],
            "collaborators": [],
            "skill_names": [],
            "skills": [],
            "product_source": None,
            "type": identity("type", TYPES[c["pacing"]]),
            "course_type": TYPES[c["pacing"]],
            "programs": [],
        }  # fmt: skip

    def run(self, course: str, c: JSON, number: int, weeks: int) -> JSON:
        key = f"course-v1:{course}+R{number}"
        monday = (self.now - timedelta(days=self.now.weekday())).replace(hour=8, minute=0, second=0, microsecond=0)
        start = monday + timedelta(weeks=weeks)
        end = start + timedelta(weeks=c["weeks"] if c["pacing"] == "instructor_paced" else 52)
        starts_soon = self.now < start < self.now + timedelta(days=60)
        return {
            "key": key,
            "uuid": identity("run", key),
            "title": c["title"],
            "course": course,
            "external_key": None,
            "image": {"src": None, "description": None, "height": None, "width": None},
            "short_description": c["short"],
            "full_description": c["full"],
            "marketing_url": f"/courses/{course}",
            "seats": self.seats(key, c["price"], end),
            "start": stamp(start),
            "end": stamp(end),
            "go_live_date": stamp(start - timedelta(weeks=8)),
            "enrollment_start": None,
            "enrollment_end": stamp(end - timedelta(days=7)),
            "weeks_to_complete": c["weeks"],
            "pacing_type": c["pacing"],
            "type": "verified",
            "run_type": identity("run-type", "verified-audit"),
            "restriction_type": None,
            "status": "published",
            "is_enrollable": True,
            "is_marketable": True,
            "availability": "Current" if start <= self.now < end else "Starting Soon" if starts_soon else "Upcoming",
            "content_language": LANGUAGES[c["language"]],
            "transcript_languages": [LANGUAGES[c["language"]]],
            "staff": [],
            "instructors": [],
            "min_effort": c["effort"][0],
            "max_effort": c["effort"][1],
            "level_type": c["level"],
            "mobile_available": True,
            "hidden": False,
            "license": "",
            "first_enrollable_paid_seat_price": c["price"],
            "enrollment_count": c["enrolled"] // number,
            "outcome": "\n".join(c["outcome"]),
            "modified": stamp(self.modified),
        }

    def seats(self, run: str, price: int, end: datetime) -> list[JSON]:
        nothing = {"credit_provider": None, "credit_hours": None, "upgrade_deadline_override": None, "bulk_sku": None}
        paid = {"type": "verified", "price": f"{price:.2f}", "currency": "USD", "sku": identity("seat", run)[:7].upper(),
                "upgrade_deadline": stamp(end - timedelta(days=14))}  # fmt: skip
        free = {"type": "audit", "price": "0.00", "currency": "USD", "sku": None, "upgrade_deadline": None}
        return [paid | nothing, free | nothing]

    def program(self, p: JSON) -> JSON:
        courses = [self.courses[key] for key in p["courses"]]
        written = [self.written[key] for key in p["courses"]]
        total = sum(c["price"] for c in written)
        low, high = min(c["effort"][0] for c in written), max(c["effort"][1] for c in written)
        program = {
            "uuid": identity("program", p["slug"]),
            "title": p["title"],
            "subtitle": p["subtitle"],
            "type": p["type"],
            "type_attrs": {"uuid": identity("program-type", p["type"]), "slug": p["type"].lower().replace(" ", "-"),
                           "coaching_supported": False},
            "status": "active",
            "marketing_slug": p["slug"],
            "marketing_url": f"/programs/{identity('program', p['slug'])}",
            "banner_image": {},
            "card_image_url": None,
            "hidden": False,
            "courses": [{k: c[k] for k in ("key", "uuid", "title", "image", "short_description", "owners", "course_runs",
                                           "subjects")} for c in courses],
            "authoring_organizations": [self.organization(key) for key in p["org"]],
            "overview": p["overview"],
            "is_program_eligible_for_one_click_purchase": True,
            "weeks_to_complete": None,
            "weeks_to_complete_min": min(c["weeks"] for c in written),
            "weeks_to_complete_max": max(c["weeks"] for c in written),
            "min_hours_effort_per_week": low,
            "max_hours_effort_per_week": high,
            "total_hours_of_effort": sum(c["weeks"] * c["effort"][1] for c in written),
            "languages": sorted({LANGUAGES[c["language"]] for c in written}),
            "subjects": [self.subject(slug) for slug in dict.fromkeys(c["subject"] for c in written)],
            "price_ranges": [{"currency": "USD", "min": min(c["price"] for c in written),
                              "max": max(c["price"] for c in written), "total": total}],
            "enrollment_count": sum(c["enrolled"] for c in written),
            "data_modified_timestamp": stamp(self.modified),
        }  # fmt: skip
        for course in courses:
            course["programs"].append(
                {k: program[k] for k in ("uuid", "title", "type", "marketing_slug", "marketing_url")}
            )
        return program


# --- answers: the envelope of DRF, validators and freshness as a good origin gives them


def number(request: Request, name: str, default: int, most: int) -> int:
    text = request.query_params.get(name, "")
    return min(int(text), most) if text.isascii() and text.isdigit() and int(text) else default


def envelope(request: Request, rows: Sequence[JSON]) -> JSON:
    """DRF's page with the additions of edx-drf-extensions; a page past the end is 404, as there."""
    page, size = number(request, "page", 1, 10**6), number(request, "page_size", 10, 100)
    pages = max(1, -(-len(rows) // size))
    start = (page - 1) * size

    def link(to: int) -> str | None:
        return str(request.url.include_query_params(page=to)) if 1 <= to <= pages else None

    return {"count": len(rows), "next": link(page + 1), "previous": link(page - 1), "num_pages": pages, "current_page": page,
            "start": start, "results": rows[start : start + size]}  # fmt: skip


def tags(data: object) -> Iterator[str]:
    """What an answer is made of: the courses and runs in it, as whoever keeps a copy knows them."""
    if isinstance(data, list):
        for each in data:
            yield from tags(each)
    elif isinstance(data, dict):
        if "course_runs" in data or "course" in data:
            yield f"course:{data['key']}"
        for name in ("results", "courses", "course_runs"):
            yield from tags(data.get(name))


def answer(request: Request, data: JSON | None, modified: datetime, *, control: str = "") -> Response:
    if data is None:
        return JSONResponse({"detail": "Not found."}, 404, {"cache-control": "public, max-age=5"})
    body = json.dumps(data, ensure_ascii=False, separators=(",", ":")).encode()
    etag = f'"{hashlib.blake2b(body, digest_size=12).hexdigest()}"'
    headers = {"etag": etag, "last-modified": format_datetime(modified, usegmt=True), "vary": "Accept",
               "cache-control": control or "public, max-age=10, stale-while-revalidate=60, stale-if-error=3600"}  # fmt: skip
    headers |= {"surrogate-key": " ".join(dict.fromkeys(tags(data)))} if not control else {}
    if request.headers.get("if-none-match") == etag:
        return Response(status_code=304, headers=headers)
    return Response(body, media_type="application/json", headers=headers)


# --- events: who keeps copies is told of changes, as Open edX tells them (OEP-41)


class Announcer:
    """Tells of changes: over the gateway's signed webhook, and on a bus of Redis Streams as edx-event-bus-redis writes them.

    Where: EVENTS_WEBHOOK and EVENTS_SECRET, EVENTS_BUS and EVENTS_PREFIX; what is not set is not told. Nobody who cannot be
    reached holds up a change: the copies have an age, too.
    """

    type = "org.openedx.content_authoring.course.catalog_info.changed.v1"
    topic = "course-catalog-info-changed"
    source = "openedx/course-discovery/web"

    def __init__(self, env: Mapping[str, str]) -> None:
        self.webhook, self.secret = env.get("EVENTS_WEBHOOK", ""), env.get("EVENTS_SECRET", "")
        self.bus, self.prefix = env.get("EVENTS_BUS", ""), env.get("EVENTS_PREFIX", "")

    async def changed(self, run: JSON) -> None:
        told = {
            "type": self.type,
            "id": str(uuid.uuid1()),
            "source": self.source,
            "time": datetime.now(UTC).isoformat(),
        }
        schedule = {"start": run["start"], "pacing": "self" if run["pacing_type"] == "self_paced" else "instructor",
                    "end": run["end"], "enrollment_start": None, "enrollment_end": None}  # fmt: skip
        info = {"course_key": run["key"], "name": run["title"], "schedule_data": schedule, "hidden": False,
                "invitation_only": False}  # fmt: skip
        for said in await asyncio.gather(self.post(told, info), self.add(told, info), return_exceptions=True):
            if isinstance(said, Exception):
                sys.stderr.write(f"a change could not be told: {said}\n")

    async def post(self, told: Mapping[str, str], info: JSON) -> None:
        if self.webhook:
            event = {
                "specversion": "1.0",
                **told,
                "datacontenttype": "application/json",
                "data": {"catalog_info": info},
            }
            body, now = json.dumps(event).encode(), int(time.time())
            signature = hmac.digest(self.secret.encode(), f"{now}.".encode() + body, "sha256").hex()
            headers = {"content-type": "application/cloudevents+json", "bff-signature": f"t={now},v1={signature}"}
            request = urllib.request.Request(self.webhook, body, headers)  # noqa: S310 - whoever starts this says where
            await asyncio.to_thread(lambda: urllib.request.urlopen(request, timeout=2).close())  # noqa: S310 - as above

    async def add(self, told: Mapping[str, str], info: JSON) -> None:
        if self.bus:
            from redis.asyncio import Redis  # noqa: PLC0415 - only where there is a bus

            stream = f"{self.prefix}-{self.topic}" if self.prefix else self.topic
            own = {"minorversion": "0", "sourcehost": socket.gethostname(), "sourcelib": "10.5.0"}
            fields: Any = {**told, **own, "event_data": self.avro(info)}
            async with Redis.from_url(self.bus) as redis:
                await redis.xadd(stream, fields, maxlen=10_000)

    def avro(self, value: object) -> bytes:
        """As the schema of `catalog_info` has it: records are their fields in order, what may be missing says whether it is."""
        match value:
            case dict():
                optional = ("end", "enrollment_start", "enrollment_end")
                return b"".join((b"\x02" if name in optional and each is not None else b"") + self.avro(each)
                                for name, each in value.items())  # fmt: skip
            case bool() | None:
                return b"\x01" if value else b"\x00"
            case _:
                text = str(value).encode()
                return self.length(len(text)) + text

    def length(self, number: int) -> bytes:
        """A zigzag number, seven bits a byte, the last ones first."""
        number, parts = number << 1, bytearray()
        while number > 127:
            parts.append(number & 127 | 128)
            number >>= 7
        return bytes([*parts, number])


class Api:
    def __init__(self, catalog: Catalog, announcer: Announcer) -> None:
        self.catalog = catalog
        self.announcer = announcer

    def reply(self, request: Request, data: JSON | None) -> Response:
        return answer(request, data, self.catalog.latest)

    async def courses(self, request: Request) -> Response:
        """`keys` (comma-separated), `subject` (a slug), `q` (words of the title or description), `page`, `page_size`."""
        rows = list(self.catalog.courses.values())
        if keys := request.query_params.get("keys"):
            rows = [self.catalog.courses[key] for key in keys.split(",") if key in self.catalog.courses]
        if subject := request.query_params.get("subject"):
            rows = [row for row in rows if row["subjects"][0]["slug"] == subject]
        for word in request.query_params.get("q", "").lower().split()[:8]:
            rows = [row for row in rows if word in f"{row['title']} {row['short_description']} {row['key']}".lower()]
        page = envelope(request, rows)
        return self.reply(request, page if page["results"] or page["current_page"] == 1 else None)

    async def course(self, request: Request) -> Response:
        key = request.path_params["key"]
        found = self.catalog.courses.get(key) or next(
            (c for c in self.catalog.courses.values() if c["uuid"] == key), None
        )
        return self.reply(request, found)

    async def change(self, request: Request) -> Response:
        """`PATCH {"title": …}`: change a course's title, and tell everybody before the author is answered."""
        key = request.path_params["key"]
        if key not in self.catalog.courses:
            return self.reply(request, None)
        try:
            title = json.loads(await request.body())["title"]
        except (ValueError, KeyError, TypeError):
            title = None
        if not isinstance(title, str) or not 0 < len(title.strip()) <= 200:
            return JSONResponse({"title": ["Write a title of at most 200 characters."]}, 400)
        self.catalog.rename(key, title.strip())
        course = self.catalog.courses[key]
        for run in course["course_runs"]:
            await self.announcer.changed(run)
        return JSONResponse(course)

    async def runs(self, request: Request) -> Response:
        return self.reply(request, envelope(request, list(self.catalog.runs.values())))

    async def run(self, request: Request) -> Response:
        return self.reply(request, self.catalog.runs.get(request.path_params["key"]))

    async def enrollment(self, request: Request) -> Response:
        """How full a run is, this second: what must never be copied."""
        run = self.catalog.runs.get(request.path_params["key"])
        if run is None:
            return self.reply(request, None)
        now = datetime.now(UTC)
        left = (sum(run["key"].encode()) + now.minute) % 24 + 3
        data = {"course_run": run["key"], "capacity": 400, "enrollment_count": 400 - left, "seats_left": left,
                "modified": stamp(now)}  # fmt: skip
        return answer(request, data, now, control="no-store")

    async def programs(self, request: Request) -> Response:
        return self.reply(request, envelope(request, list(self.catalog.programs.values())))

    async def program(self, request: Request) -> Response:
        return self.reply(request, self.catalog.programs.get(request.path_params["uuid"]))

    async def subjects(self, request: Request) -> Response:
        return self.reply(request, envelope(request, [self.catalog.subject(slug) for slug in self.catalog.names]))


def create(env: Mapping[str, str] = os.environ) -> Fault:
    catalog = Catalog(json.loads((HERE / "catalog.json").read_bytes()), datetime.now(UTC))
    api = Api(catalog, Announcer(env))
    paths = {"courses/": api.courses, "courses/{key}/": api.course, "course_runs/": api.runs, "course_runs/{key}/": api.run,
             "course_runs/{key}/enrollment/": api.enrollment, "programs/": api.programs, "programs/{uuid}/": api.program,
             "subjects/": api.subjects}  # fmt: skip
    changes = Route("/api/v1/courses/{key}/", api.change, methods=["PATCH"])
    return Fault(Starlette(routes=[*(Route(f"/api/v1/{path}", each) for path, each in paths.items()), changes]))


# --- faults: how this service is broken on purpose. The same lines stand in every demo service, so that none imports another.


class Fault:
    """ASGI before ASGI: misbehaves as told at `POST /_fault?mode=ok|slow|error|silent|down&delay=3&heal=0`.

    `delay`: seconds added in mode slow; `heal`: seconds until it is well again by itself, 0: never. The endpoint also
    answers on a control port (the service's own port + 100), which stays up when the service is down.
    """

    modes = ("ok", "slow", "error", "silent", "down")

    def __init__(self, app: ASGIApp, *, spared: str = "/_fault") -> None:
        self.app, self.spared = app, spared
        self.mode, self.delay = "ok", 3.0
        self.listen: Callable[[bool], Awaitable[None]] | None = None
        self.healing: asyncio.Task[None] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope.get("path") == "/_fault":
            await self.control(scope, receive, send)
            return
        mode = "ok" if scope.get("path") == self.spared else self.mode
        if mode in ("silent", "down"):
            while (await receive())["type"] != "http.disconnect":
                pass
            return
        if mode == "slow":
            await asyncio.sleep(self.delay)
        app = PlainTextResponse("broken on purpose\n", 500) if mode == "error" else self.app
        await app(scope, receive, send)

    async def control(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        told: dict[str, Any] = dict(request.query_params)
        if request.method == "POST" and request.headers.get("content-type", "").startswith("application/json"):
            told |= json.loads(await request.body())
        mode = told.get("mode", self.mode)
        if request.method == "POST" and mode in self.modes:
            if self.healing:
                self.healing.cancel()
            heal = float(told.get("heal", 0))
            self.healing = asyncio.create_task(self.set("ok", self.delay, after=heal)) if heal else None
            await self.set(mode, float(told.get("delay", self.delay)))
        status = 200 if mode in self.modes else 400
        await JSONResponse({"mode": self.mode, "delay": self.delay, "modes": self.modes}, status)(scope, receive, send)

    async def set(self, mode: str, delay: float, *, after: float = 0) -> None:
        await asyncio.sleep(after)
        self.mode, self.delay = mode, delay
        if self.listen:
            await self.listen(mode != "down")


class Server(uvicorn.Server):
    """uvicorn that leaves signals to `serve`, and that can be cut off: listener closed, connections reset."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.listening.set()

    async def start(self) -> asyncio.Task[None]:
        self.listening = asyncio.Event()
        bound = socket.create_server((self.config.host, self.config.port), backlog=1024)
        bound.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # accepted sockets inherit it; asyncio forgets them
        task = asyncio.create_task(self.serve([bound]))
        await self.listening.wait()
        return task

    async def cut(self, task: asyncio.Task[None]) -> None:
        self.should_exit = self.force_exit = True
        for listener in self.servers:
            listener.close()
        for connection in list(self.server_state.connections):
            connection.transport.abort()
        await task


async def serve(fault: Fault, *, host: str, port: int) -> None:
    """Listen until SIGINT or SIGTERM: on `port` while not down, and on `port` + 100 for `/_fault` always."""
    stop, up = asyncio.Event(), list[tuple[Server, asyncio.Task[None]]]()
    for name in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(name, stop.set)

    def server(app: ASGIApp, port: int) -> Server:
        # kept alive for longer than the gateway keeps an idle connection, so that it never sends on one being closed
        return Server(uvicorn.Config(app, host=host, port=port, log_level="warning", interface="asgi3", lifespan="off",
                                     timeout_keep_alive=30))  # fmt: skip

    async def listen(wanted: bool) -> None:
        if wanted and not up:
            main = server(fault, port)
            up.append((main, await main.start()))
        while up and not wanted:
            main, task = up.pop()
            await main.cut(task)

    fault.listen = listen
    await listen(True)
    control = server(fault.control, port + 100)
    task = await control.start()
    sys.stdout.write(f"http://{host}:{port}/ and, to break it, http://{host}:{port + 100}/_fault\n")
    sys.stdout.flush()
    await stop.wait()
    await listen(False)
    await control.cut(task)


def main(fault: Fault, *, port: int) -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument(
        "--port", type=int, default=int(os.environ.get("PORT", port)), help="%(default)s; control: + 100"
    )
    options = parser.parse_args()
    try:
        asyncio.run(serve(fault, host=options.host, port=options.port))
    except OSError as error:
        raise SystemExit(
            f"{parser.prog}: cannot listen on port {options.port} and {options.port + 100}: {error}"
        ) from error


# --- end of faults


if __name__ == "__main__":
    main(create(), port=9102)
