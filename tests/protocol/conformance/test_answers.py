"""Each kind of answer passes httplint, and a HEAD has the fields of its GET.

The answers are those of one server to a visit of all routes. The description of the API says which kinds there are, so
a kind that is missing here is seen.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import closing

from tests.conftest import Start
from tests.end_to_end.process import Gate, Server, wait_until
from tests.protocol.conformance.edits import ID
from tests.protocol.conformance.linted import ACCEPTED, notes
from tests.protocol.conformance.refused import REFUSED
from tests.protocol.wire import Answer, parse_head, post, request, submission

JSON = "Content-Type: application/json"
# Codes that any route may have. Each is seen once, at any route, but for those in UNSEEN.
ANYWHERE = {"400", "401", "403", "408", "411", "412", "413", "414", "417", "429", "431", "500", "501", "503", "505"}
# A head that does not come, a defect, and a token, which this server has none of.
UNSEEN = {"401", "408", "500"}
QUEUE_SIZE = 20
# Described, and not seen here: HEAD has no ranges (RFC 9110, 14.2), an order of which a job failed or is cancelled, and
# answers that need a job to end in the middle of a request.
RARE = {
    *(("head", "/jobs/{id}/log", status) for status in ("206", "416")),
    *(("post", f"/jobs/{action}", status) for action in ("retry", "cancel", "delete") for status in ("410", "424")),
    *(("post", "/jobs/{id}/retry", status) for status in ("200", "422")),
    ("patch", "/jobs/{id}", "424"),
}
# Fields that differ from one moment to the next. Some documents have counts, so their length is one of them.
OF_THE_MOMENT = {"date", "retry-after", "retry-after-ms", "cache-control", "content-length"}


class Visit:
    """Asks a server on one connection as long as it lasts, and keeps the answers."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self._wire = server.wire()
        self.paths: list[str] = sorted(server.get("/openapi.json").json["paths"], key=lambda path: "{" in path)
        self.faults: set[tuple[str, int, str]] = set()
        self.seen: set[tuple[str, str, str]] = set()

    def ask(self, sent: bytes) -> Answer:
        """Return the answer to a request. That to a GET is compared with that to HEAD."""
        answer = self._ask(sent)
        if answer.status == 202 and "location" in answer.headers:
            self.server.posted.append(answer["location"])
        if sent.startswith(b"GET ") and b"\r\nRange: " not in sent:
            assert differing(answer, self._ask(sent.replace(b"GET ", b"HEAD ", 1))) == set(), sent
        return answer

    def _ask(self, sent: bytes) -> Answer:
        answer = self._wire.ask(sent)
        self.keep(sent, answer)
        if answer.headers.get("connection") == "close":
            self.end()
        return answer

    def end(self) -> None:
        """Begin another connection. A byte too much in an answer is seen by the next one, or here."""
        self.close()
        self._wire = self.server.wire()

    def close(self) -> None:
        """See the end of the connection."""
        with self._wire as wire:
            wire.finish()
            wire.read_end()

    def keep(self, sent: bytes, answer: Answer, *, whole: bool = True) -> None:
        """Note the faults of an answer."""
        self.faults |= notes(sent, answer, whole=whole)
        method, target = sent.split(b" ", 2)[:2]
        path = target.decode().partition("?")[0]
        template = next((each for each in self.paths if re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", each), path)), "")
        self.seen.add((method.decode().lower(), template, str(answer.status)))

    def look(self, path: str, *lines: str) -> None:
        """Read all that there is of a job."""
        for part in ("", "/result", "/payload", "/log"):
            self.ask(request("GET", path + part, *lines))


def differing(get: Answer, head: Answer) -> set[tuple[str, str]]:
    """Return the fields of a HEAD that its GET has not, but for those of the moment. A HEAD may have no length."""
    assert (head.status, head.body) == (get.status, b"")
    assert get.headers.keys() - head.headers.keys() <= {"content-length"}
    return {(name, text) for name, text in head.headers.items() - get.headers.items() if name not in OF_THE_MOMENT}


def visit_jobs(visit: Visit, gate: Gate) -> None:
    """See jobs in each state, read and changed in all ways."""
    for name, job, state in (
        ("waits", submission("nothing", delay=1000), "scheduled"),
        ("runs", submission("log_texts", {"texts": ["a"], "path": gate.path, "more": []}), "running"),
        ("bytes", submission("octets", 10), "succeeded"),
        ("text", submission("text", {"text": "é", "media_type": "text/csv; charset=utf-8"}), "succeeded"),
        ("logs", submission("log_texts", {"texts": ["one", "two"]}), "succeeded"),
        ("fails", submission("fail", retries=0), "failed"),
    ):
        path = f"/jobs/linted-{name}"
        put = request("PUT", path, JSON, body=job)
        visit.ask(put)
        visit.server.wait_for(path, state)
        visit.ask(put)
        visit.look(path)
        visit.look(path, "Prefer: wait=0")
        visit.look(path, "If-None-Match: *")
        for asked in ("0-1", "-1", "100-"):
            visit.ask(request("GET", path + "/log", f"Range: bytes={asked}"))
        visit.ask(request("PATCH", path, JSON, body=b'{"priority": 3}'))
        visit.ask(request("PATCH", path, JSON, body=b'{"priority": 30}'))
        visit.ask(request("PATCH", path, "Content-Type: text/plain", body=b"?"))
        visit.ask(request("POST", path + "/retry", body=b""))
        visit.ask(request("DELETE", path))
        if state != "running":
            visit.look(path)
            visit.ask(request("DELETE", path))
            visit.ask(request("PATCH", path, JSON, body=b'{"priority": 3}'))
            visit.ask(request("POST", path + "/retry", body=b""))
            visit.ask(put)


def visit_submissions(visit: Visit) -> None:
    """See a submission that is new, repeated, waited for, cancelled, refused, and one of many."""
    for target, sent in (
        ("/jobs", (submission("give", 1), submission("fail", retries=0), submission("nothing", delay=1000))),
        ("/tasks/give/jobs", (b"1",)),
        ("/tasks/fail/jobs?retries=0", (b"1",)),
        ("/tasks/nothing/jobs?delay=1000", (b"1",)),
        ("/batches", tuple(b"[%b]" % job for job in (submission("give"), submission("fail", retries=0)))),
        ("/batches", (b"[%b]" % submission("nothing", delay=1000),)),
    ):
        for body in sent:
            key = f"Idempotency-Key: linted-{len(visit.seen)}-{len(body)}"
            wait = "Prefer: wait=0" if b"delay" in target.encode() + body else "Prefer: wait=5"
            for lines in ((key,), (key, wait), (key,)):
                path = visit.ask(request("POST", target, JSON, *lines, body=body))["location"]
            visit.ask(request("POST", target, JSON, key, "Prefer: return=minimal", body=body))
            for _ in range(2):
                visit.ask(request("GET", path))
                visit.ask(request("DELETE", path))
            visit.ask(request("POST", target, JSON, key, body=body))
        for body in (b"{", b"{}"):
            visit.ask(request("POST", target, JSON, body=body))
        visit.ask(request("POST", target, JSON, "Sec-Fetch-Site: cross-site", body=b"{}"))
        visit.ask(request("POST", target, "Content-Encoding: br", JSON, body=b"1"))
    visit.ask(request("PUT", "/jobs/linted", "Content-Type: text/plain", body=b"?"))
    visit.ask(request("PUT", "/jobs/linted", JSON, body=b"{}"))
    visit.ask(request("POST", "/tasks/scan/jobs", JSON, body=b"1"))
    visit.ask(request("POST", "/tasks/none/jobs", JSON, body=b"1"))
    for action in ("retry", "cancel", "delete"):
        key = f"Idempotency-Key: linted-{action}"
        for target in (f"/jobs/{action}?tag=none", f"/jobs/{action}"):
            visit.ask(request("POST", target, body=b""))
        for wait in ("Prefer: wait=5", "Prefer: wait=0"):
            visit.ask(request("POST", f"/jobs/{action}?tag=none", key, wait, body=b""))


def visit_ends(visit: Visit, gate: Gate) -> None:
    """See a job that is no longer kept, a batch that is interrupted, a job that is retried twice, and no room."""
    path = visit.server.run("give", 1, keep=0.01)
    visit.server.wait_for(path, "expired")
    visit.look(path)
    visit.ask(request("GET", path + "/events"))
    visit.ask(request("DELETE", path))
    visit.ask(request("PATCH", path, JSON, body=b"{}"))
    path = visit.ask(request("POST", "/batches", JSON, body=b"[%b]" % submission("give", 1, keep=0.01)))["location"]
    wait_until(lambda: visit.server.head(path).status, lambda status: status == 410)
    visit.ask(request("DELETE", path))
    batch = b"[%b]" % submission("until_file", gate.path)
    path = visit.ask(request("POST", "/batches", JSON, body=batch))["location"]
    wait_until(lambda: visit.server.stats()["jobs"]["running"], bool)
    for _ in range(2):
        visit.ask(request("GET", path))
        visit.ask(request("DELETE", path))
    failed = visit.server.run("fail", retries=0)
    retry = request("POST", failed + "/retry", "Idempotency-Key: linted-retry-of-a-job", body=b"")
    visit.server.wait_for(visit.ask(retry)["location"], "failed")
    visit.ask(retry)
    visit.ask(request("PATCH", "/tasks/nothing", JSON, body=b'{"intake": "closed"}'))
    visit.ask(post(submission("nothing")))
    visit.ask(request("PATCH", "/tasks/nothing", JSON, body=b'{"intake": "open"}'))
    many = b"[" + b",".join([submission("nothing")] * (QUEUE_SIZE + 1)) + b"]"
    visit.ask(request("POST", "/batches", JSON, body=many))


def visit_others(visit: Visit) -> None:
    """See the routes that are about no job, and targets that are none."""
    html, gzip, known = "Accept: text/html", "Accept-Encoding: gzip", "If-None-Match: *"
    for target in (path.replace("{name}", "give") for path in visit.paths):
        visit.ask(request("OPTIONS", target))
        if "events" not in target:
            for lines in ((), (gzip,), (html,), (known,), (html, known)):
                visit.ask(request("GET", target, *lines))
            visit.ask(request("TRACE", target))
    for target in (
        "/nowhere",
        "/jobs?limit=0",
        "/history?points=0",
        "/audit?limit=0",
        "/jobs/none",
        "/batches/none",
        "/tasks/none",
    ):
        visit.ask(request("GET", target))
    for name in ("app.js", "none"):
        for lines in ((), (gzip,), (known,)):
            visit.ask(request("GET", f"/dashboard/{name}", *lines))
    for body in (b'{"dispatch": "run"}', b'{"dispatch": "walk"}', b"{"):
        for task in ("nothing", "none"):
            visit.ask(request("PATCH", f"/tasks/{task}", JSON, body=body))
    visit.ask(request("PATCH", "/tasks/nothing", "Content-Type: text/plain", body=b"?"))
    visit.ask(request("OPTIONS", "*"))


def visit_unknown(visit: Visit) -> None:
    """See ids that were never issued."""
    for path in ("/jobs/none", "/jobs/" + "0" * 36):
        visit.look(path)
        visit.ask(request("GET", path + "/events"))
        visit.ask(request("PATCH", path, JSON, body=b"{}"))
        visit.ask(request("POST", path + "/retry", body=b""))
    for path in ("/jobs/none", "/jobs/" + "0" * 36, "/batches/none", "/batches/" + "0" * 40):
        visit.ask(request("GET", path))
        visit.ask(request("DELETE", path))


def visit_streams(visit: Visit) -> None:
    """See the heads of streams, and the answer to a client that knows the last event."""
    path = visit.server.run("nothing")
    with visit.server.wire() as wire:
        wire.send(request("GET", path + "/events"))
        last = re.findall(rb"id: (\S+)", wire.read_all())[-1].decode()
    visit.ask(request("GET", path + "/events", f"Last-Event-ID: {last}"))
    for target in ("/events", path + "/events"):
        for method in ("GET", "HEAD"):
            sent = request(method, target)
            with visit.server.wire() as wire:
                wire.send(sent)
                raw = wire.read_some()
                while b"\r\n\r\n" not in raw:
                    raw += wire.read_some()
            status, headers = parse_head(raw.partition(b"\r\n\r\n")[0])
            visit.keep(sent, Answer(status, headers, b"", raw), whole=False)
        visit.ask(request("GET", target + "?state=none"))


def visit_refusals(visit: Visit) -> None:
    """See each refusal of a message, and a 100."""
    for case in {case.status: case for case in REFUSED}.values():
        visit.ask(case.sent.replace(ID, b"0" * 36))
    for sent in (
        request("DELETE", "/jobs/none", 'If-Match: "x"'),
        request("GET", "/" + "x" * 9000),
        request("GET", "/healthz", *["X: y"] * 200),
        request("POST", "/jobs", JSON, "Expect: 100-continue", "Content-Length: 1"),
    ):
        visit.ask(sent)
    visit.end()


def described(
    document: dict[str, dict[str, dict[str, dict[str, dict[str, object]]]]],
) -> Iterator[tuple[str, str, str]]:
    """Yield method, path and code of each answer that the API describes."""
    for path, operations in document["paths"].items():
        for method in operations.keys() & {"get", "head", "post", "put", "patch", "delete", "options"}:
            for status in operations[method]["responses"]:
                yield method, path, status


def test_each_kind_of_answer_passes_and_head_is_as_get(start: Start, gate: Gate) -> None:
    with closing(Visit(start(queue__size=QUEUE_SIZE))) as visit:
        visit_jobs(visit, gate)
        visit_submissions(visit)
        visit_ends(visit, gate)
        visit_others(visit)
        visit_unknown(visit)
        visit_refusals(visit)
        visit_streams(visit)
        visit.server.clear()
    kinds = set(described(visit.server.get("/openapi.json").json))
    assert {kind for kind in kinds - visit.seen - RARE if kind[2] not in ANYWHERE} == set()
    assert visit.seen & RARE == set()
    assert ANYWHERE - {status for _, _, status in visit.seen} == UNSEEN
    accepted = {fault for fault in visit.faults if fault[1] in ACCEPTED.get(fault[0], ())}
    assert visit.faults - accepted == set()
    # No note is accepted that there is none of.
    assert {(name, status) for name, status, _ in accepted} == {
        (name, code) for name in ACCEPTED for code in ACCEPTED[name]
    }
