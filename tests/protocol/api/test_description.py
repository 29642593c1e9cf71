"""The API describes itself, and all that it says of itself is so."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from html.parser import HTMLParser
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import pydantic
import pytest
from headway.core.config import Config
from headway.core.errors import EngineAwayError
from headway.core.later import Read
from headway.core.load import Load
from headway.core.payload_type import payload_type
from headway.core.recovering import Recovering
from headway.core.stats import Histogram
from headway.core.status import TaskStatus
from headway.protocol.access.scopes import ANYONE
from headway.protocol.api import openapi, pages
from headway.protocol.api.app import Api
from headway.protocol.api.description import docs, prefers_html
from headway.protocol.api.description import openapi as openapi_page
from headway.protocol.api.fields import ASKED, SENT
from headway.protocol.api.operation import Operation, Route
from headway.protocol.api.page import CachedPage, CachedPages
from headway.protocol.api.routes import ROUTES, Places
from headway.protocol.api.schemas import CONTENTS
from headway.protocol.api.service import Service
from headway.protocol.http.connection import Connection
from headway.protocol.http.request import Request
from headway.protocol.http.responses import Answer as Given
from headway.protocol.http.responses import Awaited, Long
from openapi_spec_validator import OpenAPIV31SpecValidator

from tests.conftest import Start
from tests.each import each
from tests.end_to_end.process import Gate, Server
from tests.protocol.api.described import Description
from tests.protocol.wire import Answer, Wire, post, request, submission

PROTOCOL = (Path(__file__).parents[3] / "docs/protocol.md").read_text()
NESTED: dict[str, Any] = {
    "$ref": "#/$defs/Photo",
    "$defs": {"Photo": {"type": "object", "properties": {"width": {"type": "integer"}}, "required": ["width"]}},
}
PAYLOADS: dict[str, dict[str, Any]] = {"resize": NESTED, "a task": {"type": "string"}, "<script>": {}}


def service(**settings: object) -> Service:
    config = msgspec.convert(settings, Config)
    return Service(config, Recovering(config))


HTTP: list[dict[str, object]] = [{}, {"base_path": "/a/b/"}, {"failed_status": 200}]
TOGETHER = {name: value for one in HTTP for name, value in one.items()}
# To look at one takes half a second.
EACH_ALONE = [pytest.param(http, payloads, marks=pytest.mark.long) for http in HTTP for payloads in ({}, PAYLOADS)]


@pytest.mark.parametrize(("http", "payloads"), [({}, {}), (TOGETHER, PAYLOADS), *EACH_ALONE])
def test_the_document_is_valid(http: dict[str, object], payloads: dict[str, dict[str, object]]) -> None:
    document = json.loads(json.dumps(openapi.document(ROUTES, service(http=http), payloads)))
    assert [str(error) for error in OpenAPIV31SpecValidator(document).iter_errors()] == []


def test_the_document_has_each_method_of_each_route() -> None:
    paths = openapi.document(ROUTES, service(), {})["paths"]
    described = {path: {method.upper() for method in methods} for path, methods in paths.items()}
    assert described == {route.path: {method.decode() for method in route.answers} for route in ROUTES}


def test_each_operation_has_a_name_of_its_own() -> None:
    paths = openapi.document(ROUTES, service(), {})["paths"].values()
    names = [operation["operationId"] for path in paths for operation in path.values()]
    assert len(set(names)) == len(names) > 30
    assert all(re.fullmatch("[a-zA-Z]+", name) for name in names)


def test_the_header_fields_are_those_of_the_protocol() -> None:
    """Of the page, so that a field is described in both or in neither."""
    words = set(re.findall(r"`([A-Z][A-Za-z]*(?:-[A-Z][A-Za-z]*)*)(?=[:`])", PROTOCOL))
    words = {word for word in words if not word.isupper()}
    # No fields of ours: those of messages and of CORS.
    of_http = {"Content-Length", "Content-Type", "Expect", "Forwarded", "Host", "Transfer-Encoding", "Upgrade"}
    of_http |= {"Origin", "Sec-Fetch-Site", "Authorization"}
    of_http |= {"X-Forwarded-For", "Access-Control-Allow-Origin", "Access-Control-Expose-Headers"}
    assert words - of_http - SENT.keys() - ASKED.keys() == set()
    assert {name for name in {**SENT, **ASKED} if f"`{name}" not in PROTOCOL} == set()


@pytest.mark.parametrize(
    ("payload", "fits"), [({"width": 3}, True), ({"width": "3"}, False), ({}, False)], ids=["fits", "type", "missing"]
)
def test_payloads_of_tasks_are_described(payload: object, fits: bool) -> None:
    document = openapi.document(ROUTES, service(), PAYLOADS)
    description = Description(json.loads(json.dumps(document)))
    schema = {"$ref": "#/components/schemas/Submission"}
    assert (description.validated(schema, {"task": "resize", "payload": payload}) == []) is fits
    assert description.validated(schema, {"task": "a task", "payload": "text"}) == []
    assert description.validated(schema, {"task": "no-such-task", "payload": "text"}) != []
    # A payload that is left out is null.
    assert description.validated(schema, {"task": "<script>"}) == []
    assert description.validated(schema, {"task": "resize"}) != []


class Cat(pydantic.BaseModel):
    """A model with a tag."""

    kind: Literal["cat"]


class Dog(pydantic.BaseModel):
    """A model that refers to itself."""

    kind: Literal["dog"]
    puppies: list[Dog] = []


def references(part: object) -> Iterator[str]:
    """Yield what a part of a document refers to."""
    if isinstance(part, list):
        for item in part:
            yield from references(item)
    elif isinstance(part, dict):
        for name, item in part.items():
            if name == "$ref" and isinstance(item, str):
                yield item
            elif name == "mapping":
                yield from item.values()
            else:
                yield from references(item)


def test_references_of_a_payload_lead_to_where_it_stands() -> None:
    pet: Any = Annotated[Cat | Dog, pydantic.Field(discriminator="kind")]
    found = payload_type(pet)
    assert found is not None
    odd: dict[str, object] = {"type": "object", "properties": {"$ref": {"type": "string"}}}
    document = json.loads(json.dumps(openapi.document(ROUTES, service(), {"pet": found.schema, "odd": odd})))
    assert [str(error) for error in OpenAPIV31SpecValidator(document).iter_errors()] == []
    named = set(references(document["components"]["schemas"]["task.pet"]))
    assert named == {f"#/components/schemas/task.pet/$defs/{name}" for name in ("Cat", "Dog")}
    assert document["components"]["schemas"]["task.odd"] == odd


# All kinds of answers, to the letter of the document.


@pytest.fixture(scope="module")
def described(server: Server) -> Description:
    return Description(server.get("/openapi.json").json)


JOB, RESULT, CONTENT = "/jobs/{id}", "/jobs/{id}/result", "/tasks/{name}/jobs"
JSON = "Content-Type: application/json"


def look(server: Server, described: Description, path: str) -> list[str]:
    """Read a job and its result in all ways; return what the document does not say."""
    found = []
    for method in ("GET", "HEAD"):
        answer = server.ask(request(method, path))
        found += described.faults(method, JOB, answer)
        if answer.status != 202 or method == "GET":
            found += described.faults(method, JOB, server.ask(request(method, path, "Prefer: wait=1")))
        answer = server.ask(request(method, f"{path}/result"))
        found += described.faults(method, RESULT, answer)
        if "etag" in answer.headers:
            known = f"If-None-Match: {answer['etag']}"
            again = server.ask(request(method, f"{path}/result", known))
            assert again.status == 304
            found += described.faults(method, RESULT, again)
    return found


@pytest.mark.long
def test_answers_about_jobs_are_as_described(server: Server, described: Description, gate: Gate) -> None:
    submitted = []
    for path, job, state in (
        ("scheduled", ("nothing", None, {"delay": 1000}), "scheduled"),
        ("running", ("until_file", gate.path, {}), "running"),
        ("succeeded", ("give", {"a": 1}, {}), "succeeded"),
        ("failed", ("fail", None, {}), "failed"),
        ("cancelled", ("nothing", None, {"delay": 1000}), "cancelled"),
    ):
        name, payload, members = job
        sent = request("PUT", f"/jobs/described-{path}", JSON, body=submission(name, payload, **members))
        answer = server.ask(sent)
        server.posted.append(answer["location"])
        found = described.faults("PUT", JOB, answer)
        if state == "cancelled":
            found += described.faults("DELETE", JOB, server.delete(answer["location"]))
        server.wait_for(answer["location"], state)
        found += look(server, described, answer["location"])
        found += look(server, described, f"/jobs/described-{path}")
        # The same again, which was accepted before.
        for more in ((), ("Prefer: wait=0",), ("Prefer: return=minimal",)):
            again = server.ask(
                sent.replace(b"\r\n\r\n", "".join(f"\r\n{line}" for line in more).encode() + b"\r\n\r\n", 1)
            )
            assert again["idempotency-replayed"] == "true"
            found += described.faults("PUT", JOB, again)
        retried = server.ask(request("POST", f"{answer['location']}/retry", body=b""))
        assert retried.status == (202 if state == "failed" else 409)
        found += described.faults("POST", "/jobs/{id}/retry", retried)
        found += described.faults("DELETE", JOB, server.delete(answer["location"]))
        submitted.append(path)
        assert found == []
    assert len(submitted) == 5


@pytest.mark.long
def test_jobs_that_wait_or_retry_are_as_described(one_worker: Server, gate: Gate) -> None:
    described = Description(one_worker.get("/openapi.json").json)
    retrying = one_worker.submit("fail", None, retries=3)
    one_worker.wait_for(retrying, "retrying")
    one_worker.submit("until_file", gate.path)
    queued = one_worker.submit("nothing")
    assert one_worker.head(queued)["job-state"] == "queued"
    assert look(one_worker, described, queued) + look(one_worker, described, retrying) == []


def test_expired_jobs_and_gone_results_are_as_described(start: Start) -> None:
    server = start(retention__jobs=1)
    described = Description(server.get("/openapi.json").json)
    first, last = server.run("give", 1), server.run("give", 2)
    assert server.head(first)["job-state"] == "expired"
    assert described.faults("DELETE", JOB, server.delete(last)) == []
    gone = server.get(f"{last}/result")
    assert gone.status == 410
    assert described.faults("GET", RESULT, gone) == []
    found = look(server, described, first) + look(server, described, last)
    found += described.faults("DELETE", JOB, server.delete(first))
    assert found + described.faults("POST", "/jobs/{id}/retry", retry(server, first)) == []


def retry(server: Server, path: str) -> Answer:
    return server.ask(request("POST", f"{path}/retry", body=b""))


@pytest.mark.long
def test_answers_about_batches_are_as_described(server: Server, described: Description, gate: Gate) -> None:
    found = []
    for jobs, end in (
        ([("give", 1), ("give", 2)], 200),
        ([("give", 1), ("fail", None)], 424),
        ([("until_file", gate.path)], 202),
    ):
        body = json.dumps([{"task": task, "payload": payload} for task, payload in jobs]).encode()
        for more in ((), ("Prefer: wait=1",), ("Prefer: return=minimal",), (f"Idempotency-Key: batch-{end}",)) * 2:
            answer = server.ask(request("POST", "/batches", JSON, *more, body=body))
            found += described.faults("POST", "/batches", answer)
        path = answer["location"]
        if end != 202:
            server.ask(request("GET", path, "Prefer: wait=5"))
        for method in ("GET", "HEAD"):
            answer = server.ask(request(method, path))
            assert answer.status == end
            found += described.faults(method, "/batches/{id}", answer)
        found += described.faults("DELETE", "/batches/{id}", server.delete(path))
        found += described.faults("GET", "/batches/{id}", server.ask(request("GET", path, "Prefer: wait=1")))
    assert found == []


REFUSALS = [
    ("/jobs", post(b"{")),
    ("/jobs", post(b"{}")),
    ("/jobs", post(submission("no-such-task"))),
    ("/jobs", post(submission("scan", {"pages": 1}))),
    *(("/tasks", request(method, "/tasks")) for method in ("GET", "HEAD")),
    *(("/tasks/{name}", request(method, "/tasks/scan")) for method in ("GET", "HEAD")),
    ("/tasks/{name}", request("GET", "/tasks/none")),
    ("/jobs", post(submission("nothing"), "Idempotency-Key: ?")),
    ("/jobs", request("POST", "/jobs", "Content-Type: text/plain", body=b"{}")),
    ("/jobs", request("POST", "/jobs")),
    ("/jobs", request("GET", "/jobs")),
    ("/jobs", request("GET", "/jobs?state=failed")),
    ("/jobs", request("HEAD", "/jobs?state=failed")),
    ("/batches", request("POST", "/batches", JSON, body=b"[]")),
    (CONTENT, request("POST", "/tasks/give/jobs?priority=7", "Content-Type: image/jpeg", body=b"?")),
    (CONTENT, request("POST", "/tasks/give/jobs?timeout=5e-1&deadline=1E+2&delay=0.0", JSON, body=b"1")),
    (CONTENT, request("POST", "/tasks/give/jobs", JSON, "Prefer: wait=5", body=b"[1]")),
    (CONTENT, request("POST", "/tasks/give/jobs?priority=10", JSON, body=b"1")),
    (CONTENT, request("POST", "/tasks/give/jobs", JSON, body=b"{")),
    (CONTENT, request("POST", "/tasks/none/jobs", JSON, body=b"1")),
    (CONTENT, request("POST", "/tasks/scan/jobs", JSON, body=b"1")),
    (CONTENT, request("POST", "/tasks/scan/jobs", "Content-Type: image/jpeg", body=b"1")),
    (JOB, request("GET", "/jobs/none")),
    (JOB, request("GET", "/jobs/" + "0" * 36)),
    (JOB, request("DELETE", "/jobs/none")),
    (RESULT, request("HEAD", "/jobs/none/result")),
    ("/batches/{id}", request("GET", "/batches/none")),
    ("/batches/{id}", request("DELETE", "/batches/" + "0" * 40)),
    ("/jobs/{id}/retry", request("POST", "/jobs/none/retry", body=b"")),
    *((path, request("GET", path)) for path in ("/", "/healthz", "/readyz", "/stats", "/metrics", "/docs")),
    *((path, request("HEAD", path)) for path in ("/", "/healthz", "/readyz", "/stats", "/metrics", "/openapi.json")),
    *((route.path, request("OPTIONS", route.path)) for route in ROUTES),
    ("/", request("GET", "/", "Accept: text/html")),
]


@each("path, sent", REFUSALS, ids=lambda value: value[:30] if isinstance(value, bytes) else "")
def test_other_answers_are_as_described(server: Server, described: Description, path: str, sent: bytes) -> None:
    assert described.faults(sent.partition(b" ")[0].decode(), path, server.ask(sent)) == []


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda raw: raw.replace(b"Job-State: succeeded\r\n", b""), "has no job-state"),
        (lambda raw: raw.replace(b"Job-State", b"Job-Mood"), "has job-mood"),
        (lambda raw: raw.replace(b"Cache-Control", b"Retry-After: soon\r\nCache-Control"), "has retry-after"),
        (lambda raw: raw.replace(b'"attempt":1', b'"attempt":"1"'), "'1' is not of type 'integer'"),
        (lambda raw: raw.replace(b'"attempt":1', b'"at_tempt":1'), "'attempt' is a required property"),
        (lambda raw: raw.partition(b"\r\n\r\n")[0], "has no content"),
        (lambda raw: raw.replace(b"200 OK", b"201 Created"), "not among"),
    ],
)
def test_a_wrong_answer_is_seen(
    server: Server, described: Description, change: Callable[[bytes], bytes], fault: str
) -> None:
    good = server.get(server.run("nothing"))
    assert described.faults("GET", JOB, good) == []
    head, _, body = change(good.raw).partition(b"\r\n\r\n")
    line, *lines = head.decode().split("\r\n")
    headers = dict(pair.split(": ", 1) for pair in lines)
    wrong = Answer(int(line[9:12]), {name.lower(): value for name, value in headers.items()}, body, b"")
    assert fault in "\n".join(described.faults("GET", JOB, wrong))


def test_a_failed_job_is_described_with_the_code_of_the_settings(start: Start) -> None:
    server = start(http__failed_status=200)
    described = Description(server.get("/openapi.json").json)
    assert look(server, described, server.run("fail", None)) == []
    assert "424" not in described.document["paths"][JOB]["get"]["responses"]


# Pages.


class Seen(HTMLParser):
    """What a page has: its elements, its links, its text, and where its attributes lead."""

    def __init__(self, page: bytes) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.names: set[str] = set()
        self.links: list[str] = []
        self.text = ""
        self.feed(page.decode())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """An element begins."""
        self.tags.add(tag)
        self.names |= {name for name, _ in attrs}
        self.links += [value or "" for name, value in attrs if name == "href"]

    def handle_data(self, data: str) -> None:
        """Some text."""
        self.text += data


@pytest.mark.parametrize("target", ["/docs"])
def test_a_page_needs_nothing_from_elsewhere(server: Server, target: str) -> None:
    answer = server.get(target, "Accept: text/html,application/xhtml+xml,*/*;q=0.8")
    seen = Seen(answer.body)
    assert answer["content-type"] == "text/html; charset=utf-8"
    assert answer["x-content-type-options"] == "nosniff"
    assert seen.tags.isdisjoint({"script", "link", "img", "iframe", "form", "object", "base"})
    assert seen.names <= {"lang", "charset", "name", "content", "href", "id"}
    assert seen.links
    assert [link for link in seen.links if not link.startswith(("/", "#")) or link.startswith("//")] == []
    (style,) = re.findall(r"<style>(.*?)</style>", answer.body.decode(), re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = answer["content-security-policy"]
    assert policy.startswith("default-src 'none'; ")
    assert f"style-src 'sha256-{digest}'" in policy
    assert "unsafe" not in policy
    assert "url(" not in style
    assert "@import" not in style


def test_each_link_of_a_page_leads_somewhere(server: Server) -> None:
    for target in ("/docs",):
        page = server.get(target, "Accept: text/html").body
        for link in Seen(page).links:
            if link.startswith("#"):
                assert f'id="{link[1:]}"'.encode() in page
            else:
                assert server.head(link).status == 200, link


def test_the_page_of_routes_has_each_of_them(server: Server) -> None:
    text = Seen(server.get("/docs").body).text
    named = [f"{operation.method} {route.path}" for route in ROUTES for operation in route.operations]
    assert [name for name in named if name not in text] == []
    assert [name for name in {**SENT, **ASKED} if name not in text] == []


@each("route,operation", [(route, one) for route in ROUTES for one in route.operations if one.sends in CONTENTS])
def test_the_page_of_routes_has_the_members_that_each_of_them_takes(
    server: Server, route: Route, operation: Operation
) -> None:
    section = server.get("/docs").body.decode().partition(f'<h2 id="{operation.name}">')[2].partition("<h2")[0]
    table = section.partition("<th>member</th>")[2].partition("</table>")[0]
    fields = [field.encode_name for field in msgspec.structs.fields(CONTENTS[operation.sends])]
    assert re.findall(r"<tr><td>(?:<code>)?([a-z_]+)", table) == fields


def described_task(name: str) -> TaskStatus:
    return TaskStatus(
        name=name,
        description=f"{name} <b>is</b> a task",
        schema={"title": name},
        timeout_s=1.0,
        deadline_s=None,
        retries=0,
        keep_s=None,
        max_concurrent=None,
        run_in="loop",
        unfinished=0,
        running=0,
        succeeded=0,
        failed=0,
        cancelled=0,
        run_median_s=0.0,
        load=Load(0, 0.0, 0.0, 0, 0),
        wait=Histogram(),
        run=Histogram(),
    )


def test_a_refusal_by_rate_is_described_where_requests_are_counted() -> None:
    places, config = Places(b""), Config()
    asked = Request(config.limits, lambda request: request.limit, lambda _: None, lambda _: None)
    asked.method = b"GET"
    for route in ROUTES:
        asked.target = re.sub(r"\{\w+\}", "x", route.path).encode()
        assert places.limited(asked) == route.limited, route


class Joined(Recovering):
    """An engine whose tasks change, as when another node of its queue comes with one, and that may be away."""

    names: Sequence[str] | None = ()
    # Whether they are known later.
    is_slow = False

    def tasks(self) -> Any:
        if self.is_slow:
            return Read(asyncio.ensure_future(self._told()))
        return self._found()

    async def _told(self) -> list[TaskStatus]:
        return self._found()

    def _found(self) -> list[TaskStatus]:
        if self.names is None:
            raise EngineAwayError
        return [described_task(name) for name in self.names]


async def given(answer: Given | Awaited) -> bytes:
    while isinstance(answer, Awaited):
        woken = asyncio.Event()
        answer.unknown.when_known(woken.set)
        await asyncio.wait_for(woken.wait(), 20)
        answer = answer.then()
    assert isinstance(answer, bytes | Long)
    return answer if isinstance(answer, bytes) else answer.head + bytes(answer.body)


@pytest.mark.parametrize("is_slow", [False, True], ids=["now", "later"])
@pytest.mark.parametrize("page", [openapi_page, docs])
def test_a_page_names_the_tasks_of_now_and_of_before_while_nobody_can_tell(
    page: Callable[..., Given | Awaited], is_slow: bool
) -> None:
    async def test() -> None:
        config = Config()
        engine = Joined(config)
        engine.is_slow = is_slow
        served = Service(config, engine)
        asked = Request(config.limits, lambda request: request.limit, lambda _: None, lambda _: None)
        asked.method, asked.caller = b"GET", ANYONE
        engine.names = None
        with pytest.raises(EngineAwayError):
            await given(page(served, asked, ROUTES))
        engine.names = ["a-report"]
        before = await given(page(served, asked, ROUTES))
        assert b"a-report" in before
        assert b"another" not in before
        asked.headers = {b"if-none-match": re.findall(rb"ETag: (.+)\r\n", before)[0]}
        assert (await given(page(served, asked, ROUTES))).startswith(b"HTTP/1.1 304 ")
        engine.names = ["a-report", "another"]
        after = await given(page(served, asked, ROUTES))
        assert after.startswith(b"HTTP/1.1 200 ")
        assert b"another" in after
        engine.names = None
        asked.headers = {}
        assert await given(page(served, asked, ROUTES)) == after

    asyncio.run(test())


def test_names_of_tasks_are_text_in_a_page() -> None:
    tasks = [described_task(name) for name in ("it's <b>", "<script>", "&amp;")]
    seen = Seen(pages.docs(ROUTES, service(), tasks))
    assert seen.tags.isdisjoint({"script", "b"})
    assert all(task.name in seen.text and task.description in seen.text for task in tasks)


@pytest.mark.parametrize("target", ["/openapi.json", "/docs"])
def test_the_description_is_not_sent_twice(server: Server, target: str) -> None:
    answer = server.get(target)
    known = f"If-None-Match: {answer['etag']}"
    assert answer["cache-control"] == "no-cache"
    assert server.get(target, known).status == 304
    assert server.get(target, 'If-None-Match: "other"').status == 200
    assert server.head(target, known).status == 304
    head = server.head(target)
    assert head.headers | {"date": ""} == answer.headers | {"date": ""}


@each(
    "accept, html",
    [
        ("", False),
        ("*/*", False),
        ("text/html", True),
        ("TEXT/HTML ; q=0.5", True),
        ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", True),
        ("application/json", False),
        ("application/json, text/html;q=0.9", False),
        ("application/json;q=0.9, text/html", True),
        ("application/json, text/html", False),
        ("text/html;q=0", False),
        ("text/html;q=x", False),
        (",;=;,q=,", False),
        ("text/html;q=nan, */*", False),
    ],
)
def test_the_root_is_a_page_for_those_who_prefer_it(server: Server, accept: str, html: bool) -> None:
    assert prefers_html(accept) is html
    answer = server.get("/", *([f"Accept: {accept}"] if accept else []))
    assert answer["content-type"] == ("text/html; charset=utf-8" if html else "application/json")
    assert answer["cache-control"] == ("no-cache" if html else "no-store")
    head = server.head("/", *([f"Accept: {accept}"] if accept else []))
    assert head["content-length"] == answer["content-length"]


def test_a_program_recognises_the_server(server: Server) -> None:
    said = server.get("/").json
    assert said["server"] == "headway"
    assert said["contract"] == 1
    assert re.fullmatch(r"\d+\.\d+\.\d+.*", said["version"])
    assert said["routes"] == {route.path: sorted(method.decode() for method in route.answers) for route in ROUTES}


@pytest.mark.parametrize("target", ["/openapi.json", "/docs", "/", "/metrics"])
def test_the_next_request_changes_nothing_of_an_answer_that_is_being_made(start: Start, target: str) -> None:
    with start().wire() as wire:
        wire.send(request("GET", target) + request("HEAD", "/healthz") + request("GET", "/readyz", "Connection: close"))
        first = wire.read("GET")
        assert len(first.body) > 100
        assert "connection" not in first.headers
        assert wire.read("HEAD").status == 200
        assert wire.read("GET")["connection"] == "close"


@pytest.mark.parametrize("target", ["/openapi.json", "/docs", "/"])
def test_a_page_is_made_once_for_a_crowd(start: Start, target: str) -> None:
    server = start()
    with ExitStack() as stack:
        wires = [stack.enter_context(server.wire()) for _ in range(50)]
        for wire in wires:
            wire.send(request("GET", target))
        assert len({wire.read().body for wire in wires}) == 1


def test_a_page_that_could_not_be_made_is_tried_again() -> None:
    async def test() -> None:
        cached = CachedPages()

        def fail() -> CachedPage:
            raise OSError("no")

        for make, good in ((fail, False), (lambda: CachedPage(b"text/plain", b"page"), True)):
            held = cached.once_made("page", make, lambda page: page.body)
            made = asyncio.Event()
            held.unknown.when_known(made.set)
            await asyncio.wait_for(made.wait(), 5)
            if good:
                assert held.then() == b"page"
            else:
                with pytest.raises(OSError, match="no"):
                    held.then()

    asyncio.run(test())


def test_a_crowd_shares_one_making() -> None:
    async def test() -> None:
        cached, calls, made = CachedPages(), [], asyncio.Event()

        def make() -> CachedPage:
            calls.append(1)
            return CachedPage(b"text/plain", b"page")

        held = [cached.once_made("page", make, lambda page: page.body) for _ in range(20)]
        for one in held:
            one.unknown.when_known(made.set)
        await asyncio.wait_for(made.wait(), 5)
        assert [one.then() for one in held] == [b"page"] * 20
        assert len(calls) == 1
        assert cached.get("page") is not None

    asyncio.run(test())


def test_while_the_journal_is_read_a_program_learns_what_this_is(tmp_path: Path) -> None:
    """And a person gets the dashboard. A page that names the tasks is 503."""

    async def test() -> None:
        config = msgspec.convert({"journal": {"path": str(tmp_path / "none.db")}}, Config)
        api = Api(config, Recovering(config))
        listening = await asyncio.get_running_loop().create_server(lambda: Connection(api.connections), "127.0.0.1", 0)
        port = listening.sockets[0].getsockname()[1]

        def ask(target: str, *lines: str) -> Answer:
            with Wire(port) as wire:
                return wire.ask(request("GET", target, *lines))

        assert (await asyncio.to_thread(ask, "/")).json["server"] == "headway"
        assert (await asyncio.to_thread(ask, "/", "Accept: text/html")).status == 200
        for target in ("/docs", "/openapi.json"):
            answer = await asyncio.to_thread(ask, target)
            assert (answer.status, answer.json["type"]) == (503, "urn:headway:problem:recovering")
        listening.close()
        await api.connections.close()

    asyncio.run(test())
