"""``GET /audit``: who has changed what, as an operator reads it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from headway.protocol.access.tokens import make, read, write
from headway.protocol.api.operation import Audited
from headway.protocol.api.routes import ROUTES

from tests.conftest import Start
from tests.end_to_end.process import Server
from tests.protocol.api.described import Description
from tests.protocol.wire import Answer, post, request, submission

JSON = "Content-Type: application/json"
NOTHING: dict[str, Any] = {"target": None, "filter": None, "count": None, "job": None}


class AuditedServer(NamedTuple):
    """A server with tokens, and the lines that send them."""

    server: Server
    path: Path
    lines: dict[str, str]

    def ask(self, method: str, target: str, *lines: str, by: str = "boss", body: bytes | None = None) -> Answer:
        return self.server.ask(request(method, target, self.lines[by], *lines, body=body))

    def entries(self, by: str = "boss") -> list[dict[str, Any]]:
        return list(self.ask("GET", "/audit", by=by).json["entries"])


@pytest.fixture
def audited(start: Start, tmp_path: Path) -> AuditedServer:
    kinds = {"boss": ("submit", "read", "cancel", "admin"), "admin": ("admin",), "clerk": ("submit", "read", "cancel")}
    made = {name: make(name, scopes) for name, scopes in kinds.items()}
    path = tmp_path / "tokens.yaml"
    write(path, [token for _, token in made.values()])
    server = start(auth__tokens=str(path))
    return AuditedServer(server, path, {name: f"Authorization: Bearer {secret}" for name, (secret, _) in made.items()})


def submitted(audited: AuditedServer, task: str, *lines: str, **members: object) -> str:
    """Submit a job and return its id."""
    answer = audited.server.ask(post(submission(task, **members), audited.lines["clerk"], *lines))
    assert answer.status == 202
    return answer["location"].removeprefix("/jobs/")


def failed(audited: AuditedServer) -> str:
    """Return the id of a job that has failed."""
    job_id = submitted(audited, "fail")
    assert audited.ask("GET", f"/jobs/{job_id}", "Prefer: wait=5")["job-state"] == "failed"
    return job_id


def shown(entries: list[dict[str, Any]]) -> list[tuple[object, ...]]:
    """Return what there is to compare of entries, newest first."""
    return [tuple(entry[name] for name in ("who", "what", "target", "code")) for entry in entries]


def test_each_operation_that_changes_something_goes_to_the_audit_log() -> None:
    submissions = {"submitJob", "putJob", "submitBatch", "submitContent"}
    operations = [operation for route in ROUTES for operation in route.operations]
    changing = {operation.name for operation in operations if operation.method != "GET"}
    audited = [(operation, operation.answer) for operation in operations if isinstance(operation.answer, Audited)]
    assert {operation.name for operation, _ in audited} == changing - submissions
    assert all(answer.code in {said.code for said in operation.says} for operation, answer in audited)


def test_each_change_is_told_with_who_made_it(audited: AuditedServer) -> None:
    waiting = submitted(audited, "give", delay=1000)
    assert audited.ask("PATCH", f"/jobs/{waiting}", JSON, body=b'{"priority": 9}').status == 200
    assert audited.ask("DELETE", f"/jobs/{waiting}", by="clerk").status == 204
    keyed = submitted(audited, "give", 'Idempotency-Key: "order-4711"', delay=1000)
    assert audited.ask("DELETE", "/jobs/order-4711", by="clerk").status == 204
    assert audited.ask("PATCH", "/tasks/give", JSON, body=b'{"dispatch": "hold"}').status == 200
    lost = failed(audited)
    again = audited.ask("POST", f"/jobs/{lost}/retry", "Prefer: wait=5", by="clerk", body=b"")
    assert again["job-state"] == "failed"
    order = audited.ask("POST", "/jobs/delete?state=failed&tag=a%20b", body=b"")
    assert order.status == 202
    entries = audited.entries()
    assert shown(entries) == [
        ("boss", "deleteJobs", None, 202),
        ("clerk", "retryJob", lost, 202),
        ("boss", "switchTask", "give", 200),
        ("clerk", "cancelJob", "order-4711", 204),
        ("clerk", "cancelJob", waiting, 204),
        ("boss", "changeJob", waiting, 200),
    ]
    assert [entry["number"] for entry in entries] == [6, 5, 4, 3, 2, 1]
    assert [entry["address"] for entry in entries] == ["127.0.0.1"] * 6
    # An order names its job, which counts, and a retry the job that it has made.
    assert entries[0]["filter"] == "state=failed&tag=a%20b"
    assert entries[0]["job"] == order["location"].removeprefix("/jobs/")
    assert entries[1]["job"] == again["content-location"].removeprefix("/jobs/")
    assert audited.server.head(f"/jobs/{keyed}", audited.lines["boss"])["job-state"] == "cancelled"


def test_the_name_of_a_task_is_told_as_it_is(audited: AuditedServer) -> None:
    target = "/tasks/with%20%2F%20and%20%C3%A9"
    assert audited.ask("PATCH", target, JSON, body=b'{"dispatch": "hold"}').status == 200
    assert [entry["target"] for entry in audited.entries()] == ["with / and é"]


def test_the_end_of_a_batch_is_told_with_its_count(audited: AuditedServer) -> None:
    body = b"[%b]" % b",".join([submission("give", delay=1000)] * 3)
    batch = audited.ask("POST", "/batches", JSON, by="clerk", body=body)["location"]
    assert audited.ask("DELETE", batch, by="clerk").status == 204
    (entry,) = audited.entries()
    assert (entry["what"], entry["target"], entry["count"]) == ("cancelBatch", batch.removeprefix("/batches/"), 3)


def test_what_is_refused_or_only_counted_is_not_told(audited: AuditedServer) -> None:
    job_id = failed(audited)
    assert audited.ask("POST", "/jobs/retry?state=failed&dry-run=1", body=b"").status == 200
    assert audited.ask("PATCH", f"/jobs/{job_id}", JSON, body=b'{"priority": 9}').status == 409
    assert audited.ask("PATCH", "/tasks/give", JSON, by="clerk", body=b'{"dispatch": "hold"}').status == 403
    assert audited.ask("PATCH", "/tasks/give", JSON, body=b"{}").status == 422
    assert audited.ask("PATCH", "/tasks/none", JSON, body=b'{"dispatch": "hold"}').status == 404
    assert audited.ask("DELETE", "/jobs/nobody").status == 404
    assert audited.entries() == []


def test_a_page_names_the_next_one_and_is_as_described(audited: AuditedServer) -> None:
    described = Description(audited.server.get("/openapi.json").json)
    for dispatch in (b"hold", b"run", b"hold"):
        audited.ask("PATCH", "/tasks/give", JSON, body=b'{"dispatch": "%b"}' % dispatch)
    first = audited.ask("GET", "/audit?limit=2")
    assert described.faults("GET", "/audit", first) == []
    assert first["link"] == f'<{first.json["next"]}>; rel="next"'
    rest = audited.ask("GET", first.json["next"])
    assert described.faults("GET", "/audit", rest) == []
    assert [entry["number"] for page in (first, rest) for entry in page.json["entries"]] == [3, 2, 1]
    whole = audited.ask("GET", "/audit?limit=3")
    for last in (rest, whole):
        assert (last.json["next"], "link" in last.headers) == (None, False)
    head = audited.ask("HEAD", "/audit")
    assert (head.status, head["content-type"]) == (200, "application/json")
    for wrong in ("limit=0", "limit=1001", "after=-1", "since=1"):
        assert audited.ask("GET", f"/audit?{wrong}").status == 422


def test_a_request_that_the_server_knows_again_is_told_each_time(audited: AuditedServer) -> None:
    order = request("POST", "/jobs/delete?tag=none", audited.lines["boss"], body=b"")
    with audited.server.wire() as wire:
        jobs = [wire.ask(order)["location"].removeprefix("/jobs/") for _ in range(3)]
    assert [entry["job"] for entry in audited.entries()] == jobs[::-1]


def test_who_may_not_use_ids_does_not_learn_them(audited: AuditedServer) -> None:
    job_id = submitted(audited, "give", delay=1000)
    audited.ask("DELETE", f"/jobs/{job_id}")
    lost = failed(audited)
    audited.ask("POST", f"/jobs/{lost}/retry", body=b"")
    audited.ask("PATCH", "/tasks/give", JSON, body=b'{"dispatch": "hold"}')
    for entry, whole in zip(audited.entries(by="admin"), audited.entries(), strict=True):
        for name in ("target", "job"):
            is_id = whole[name] not in (None, "give")
            assert entry[name] == (whole[name][:-16] if is_id else whole[name])
    assert audited.ask("GET", "/audit", by="clerk").status == 403
    assert audited.server.get("/audit").status == 401


def test_who_may_not_read_errors_does_not_learn_their_text_from_a_filter(audited: AuditedServer) -> None:
    assert audited.ask("POST", "/jobs/retry?state=failed&error=hush&tag=error%3Dx", body=b"").status == 202
    [whole], [seen] = audited.entries(), audited.entries(by="admin")
    assert "error=hush" in whole["filter"]
    assert seen["filter"] == whole["filter"].replace("error=hush", "error=…")


def test_tokens_that_are_read_again_are_told(audited: AuditedServer) -> None:
    write(audited.path, [token for token in read(audited.path) if token.name != "clerk"])
    audited.server.wait_for_line("tokens read again")
    end = time.monotonic() + 5
    while not (entries := audited.entries()) and time.monotonic() < end:
        time.sleep(0.01)
    (entry,) = entries
    assert entry == NOTHING | {"who": None, "address": None, "what": "reloadTokens", "code": None} | {
        name: entry[name] for name in ("number", "time")
    }


def test_without_tokens_a_client_has_its_address(start: Start) -> None:
    server = start(http__trusted_proxies=["127.0.0.0/8"])
    switch = b'{"dispatch": "hold"}'
    assert server.ask(request("PATCH", "/tasks/give", JSON, body=switch)).status == 200
    assert server.ask(request("PATCH", "/tasks/give", JSON, "X-Forwarded-For: 192.0.2.7", body=switch)).status == 200
    entries = server.get("/audit").json["entries"]
    assert [(entry["who"], entry["address"]) for entry in entries] == [(None, "192.0.2.7"), (None, "127.0.0.1")]
    # It is about all jobs, so only a client on this machine may read it.
    assert server.get("/audit", "X-Forwarded-For: 192.0.2.7").status == 403
