"""Batches on the wire."""

from __future__ import annotations

import json
import time

import pytest

from tests.conftest import Start
from tests.end_to_end.process import Gate, Server, settles, wait_until
from tests.protocol.wire import Answer, request, submission

COUNTS = {"batch-pending", "batch-failed"}
WAITING = COUNTS | {"retry-after", "retry-after-ms"}
BODY = {"content-type", "content-length"}
WAIT = "Prefer: wait=20"


def one(task: str, payload: object = None, **members: object) -> dict[str, object]:
    return {"task": task, "payload": payload, **members}


def batch(items: object, *lines: str) -> bytes:
    body = items if isinstance(items, bytes) else json.dumps(items).encode()
    return request("POST", "/batches", "Content-Type: application/json", *lines, body=body)


def submit(server: Server, *items: dict[str, object]) -> tuple[str, list[str]]:
    answer = server.ask(batch(items))
    assert answer.status == 202, answer
    jobs = [f"/jobs/{job_id}" for job_id in answer.json["jobs"]]
    server.posted += jobs
    return answer["location"], jobs


def over(server: Server, path: str) -> Answer:
    return wait_until(lambda: server.head(path), lambda answer: answer.status != 202)


def counts(answer: Answer) -> list[str | None]:
    return [answer.headers.get(f"batch-{name}") for name in ("pending", "failed", "cancelled", "expired")]


def test_accepted(server: Server) -> None:
    answer = server.ask(batch([one("nothing"), one("give", 7), one("nothing")]))
    assert answer.status == 202
    assert answer.names == WAITING | BODY | {"location", "job-durability"}
    assert answer["location"] == f"/batches/{answer.json['id']}"
    assert counts(answer) == ["3", "0", None, None]
    over(server, answer["location"])
    results = [server.get(f"/jobs/{job_id}/result").body for job_id in answer.json["jobs"]]
    assert results == [b"null", b"7", b"null"]


def test_accepted_without_a_body(server: Server) -> None:
    answer = server.ask(batch([one("nothing")], "Prefer: return=minimal"))
    assert (answer.status, answer["content-length"], answer["preference-applied"]) == (202, "0", "return=minimal")
    assert over(server, answer["location"]).status == 200


@pytest.mark.parametrize("count", [1, 1000])
def test_from_one_to_a_thousand(server: Server, count: int) -> None:
    path, jobs = submit(server, *[one("nothing")] * count)
    assert len(set(jobs)) == count
    head = over(server, path)
    assert (head.status, counts(head)) == (200, ["0", "0", None, None])
    assert head.names == {*COUNTS, "content-type"}


def test_a_batch_is_pending_until_its_last_job_is_over(server: Server, gate: Gate) -> None:
    path, jobs = submit(server, one("nothing"), one("until_file", gate.path), one("fail"))
    server.wait_for(jobs[0], "succeeded")
    server.wait_for(jobs[1], "running")
    server.wait_for(jobs[2], "failed")
    head = server.head(path)
    assert (head.status, counts(head), head.names) == (202, ["1", "1", None, None], {*WAITING, "content-type"})
    document = server.get(path)
    assert (document.status, document["content-type"]) == (202, "application/json")
    assert document.json["jobs"] == [
        {"id": job.removeprefix("/jobs/"), "state": state}
        for job, state in zip(jobs, ("succeeded", "running", "failed"), strict=True)
    ]
    assert [document.json[name] for name in ("pending", "succeeded", "failed", "cancelled", "expired")] == [
        1,
        1,
        1,
        0,
        0,
    ]
    gate.open()
    head = over(server, path)
    assert (head.status, counts(head), head.names) == (424, ["0", "1", None, None], {*COUNTS, "content-type"})
    document = server.get(path)
    assert (document.status, document["content-type"]) == (424, "application/problem+json")
    assert document.json["type"] == "urn:headway:problem:batch-failed"
    assert len(document.json["jobs"]) == 3


def test_failed_status_holds_for_batches(start: Start) -> None:
    server = start(http__failed_status=200)
    path, _ = submit(server, one("fail"))
    head = over(server, path)
    assert (head.status, head["batch-failed"]) == (200, "1")
    assert server.get(path).json["failed"] == 1


def test_delete_cancels_what_is_left(server: Server, gate: Gate) -> None:
    path, jobs = submit(server, one("nothing"), one("until_file", gate.path), one("nothing", delay=1000))
    server.wait_for(jobs[0], "succeeded")
    server.wait_for(jobs[1], "running")
    answer = server.delete(path)
    assert (answer.status, counts(answer)) == (202, ["0", "0", "2", None])
    head = server.head(path)
    assert (head.status, counts(head), head.names) == (
        410,
        ["0", "0", "2", None],
        {*COUNTS, "batch-cancelled", "content-type"},
    )
    assert server.get(path).json["type"] == "urn:headway:problem:batch-cancelled"
    assert [server.head(job).status for job in jobs] == [200, 410, 410]
    assert server.delete(path).status == 204
    assert server.get(f"{jobs[0]}/result").status == 200


def test_delete_of_jobs_that_only_wait(server: Server) -> None:
    path, _ = submit(server, one("nothing", delay=1000), one("nothing", delay=1000))
    assert server.delete(path).status == 204
    assert server.head(path).status == 410


def test_a_batch_that_failed_says_so_until_its_last_job_expires(start: Start) -> None:
    server = start(retention__jobs=2, workers=1)
    path, _ = submit(server, one("fail"), one("nothing"), one("nothing"))
    head = over(server, path)
    assert (head.status, counts(head)) == (424, ["0", "1", None, None])
    for _ in range(2):
        server.run("fail")
    assert (server.head(path).status, counts(server.head(path))) == (424, ["0", "1", None, "1"])
    for _ in range(2):
        server.run("nothing")
    assert (server.head(path).status, counts(server.head(path))) == (410, ["0", "0", None, "3"])


def test_a_batch_expires_as_its_jobs_do(start: Start) -> None:
    server = start(retention__jobs=2)
    path, _ = submit(server, one("nothing"), one("nothing"), one("nothing"))
    head = over(server, path)
    assert (head.status, counts(head), head.names) == (
        200,
        ["0", "0", None, "1"],
        {*COUNTS, "batch-expired", "content-type"},
    )
    assert len(server.get(path).json["jobs"]) == 2
    assert server.get(path).json["succeeded"] == 3
    server.run("nothing")
    assert server.head(path).status == 200
    server.run("nothing")
    assert counts(server.head(path)) == ["0", "0", None, "3"]
    gone = server.get(path)
    assert (gone.status, gone.json["type"], gone.json["jobs"]) == (410, "urn:headway:problem:batch-expired", [])
    assert server.delete(path).status == 410


@pytest.mark.parametrize("method", ["HEAD", "GET", "DELETE"])
def test_never_issued(server: Server, method: str) -> None:
    path, jobs = submit(server, one("nothing"))
    changed = path[:-1] + ("0" if path[-1] != "0" else "1")
    for target in (changed, path + "0", path + "/jobs", "/batches/", jobs[0].replace("jobs", "batches")):
        answer = server.ask(request(method, target))
        assert (answer.status, answer.names & COUNTS) == (404, set())
    assert server.head(path.replace("batches", "jobs")).status == 404


def test_other_methods(server: Server) -> None:
    assert server.ask(request("DELETE", "/batches"))["allow"] == "GET, HEAD, OPTIONS, POST"
    assert server.ask(batch([]).replace(b"/batches", b"/batches/" + b"0" * 36))["allow"] == "DELETE, GET, HEAD, OPTIONS"


@pytest.mark.parametrize("method", ["HEAD", "GET"])
def test_the_answer_comes_when_the_last_job_is_over(server: Server, gate: Gate, method: str) -> None:
    path, jobs = submit(server, one("until_file", gate.path), one("nothing"), one("until_file", gate.path))
    with server.wire() as wire:
        wire.send(request(method, path, WAIT))
        wait_until(lambda: server.stats()["waiting_clients"], lambda clients: clients == 1)
        server.delete(jobs[2])
        assert server.stats()["waiting_clients"] == 1
        opened = time.monotonic()
        gate.open()
        answer = wire.read(method)
        assert time.monotonic() - opened < 5
        assert (answer.status, answer["preference-applied"], counts(answer)) == (410, "wait=20", ["0", "0", "1", None])
        assert wire.still_serves()


def test_submission_that_waits(server: Server, gate: Gate) -> None:
    answer = server.ask(batch([one("nothing"), one("give", 1)], WAIT))
    assert (answer.status, answer["preference-applied"]) == (200, "wait=20")
    assert answer["content-location"] == f"/batches/{answer.json['id']}"
    assert answer.json["succeeded"] == 2
    answer = server.ask(batch([one("nothing"), one("until_file", gate.path)], "Prefer: wait=1"))
    assert (answer.status, answer["preference-applied"]) == (202, "wait=1")
    assert answer.names == WAITING | BODY | {"location", "job-durability", "preference-applied"}
    assert len(answer.json["jobs"]) == 2


@pytest.mark.parametrize("closes", [False, True])
def test_client_that_goes_away_frees_its_place(server: Server, gate: Gate, closes: bool) -> None:
    path, _ = submit(server, one("until_file", gate.path), one("until_file", gate.path))
    with server.wire() as wire:
        wire.send(request("HEAD", path, WAIT))
        wait_until(lambda: server.stats()["waiting_clients"], lambda clients: clients == 1)
        if closes:
            wire.socket.close()
        else:
            wire.finish()
            assert wire.read("HEAD")["batch-pending"] == "2"
        wait_until(lambda: server.stats()["waiting_clients"], lambda clients: clients == 0)


WRONG = [
    ([], 422, [("", "1 to 1000 submissions, got 0")]),
    ([one("nothing")] * 1001, 422, [("", "1 to 1000 submissions, got 1001")]),
    ({"jobs": [one("nothing")]}, 422, [("", "expected an array of submissions, got an object")]),
    ("nothing", 422, [("", "expected an array of submissions, got a text")]),
    ([one("nothing"), 5], 422, [("[1]", "expected an object, got a number")]),
    ([one("nothing"), {"payload": 1}], 422, [("[1].task", "is required")]),
    (
        [one("nothing")] * 17 + [one("nothing", priority=10)] + [one("nothing")] * 982,
        422,
        [("[17].priority", "0 to 9")],
    ),
    (
        [one("nothing", prio=1), one("nothing"), one("", delay=-1)],
        422,
        [("[0].prio", "unknown"), ("[2].task", "text"), ("[2].delay", "number")],
    ),
    ([one("nothing")] * 999 + [one("nobody")], 422, [("[999].task", "'nobody' is not one of")]),
    (b'[{"task": "nothing", "retries": -1, "retries": 1}]', 422, [("[0].retries", "Expected `int` >= 0")]),
    (b'[{"task": "nothing"}', 400, None),
    (b'[{"task": "nothing", "payload": "\xff"}]', 400, None),
]


@pytest.mark.parametrize(("items", "code", "faults"), WRONG)
def test_nothing_is_taken_of_a_batch_that_is_wrong(
    one_worker: Server, items: object, code: int, faults: list[tuple[str, str]] | None
) -> None:
    before = one_worker.stats()["jobs"]
    answer = one_worker.ask(batch(items))
    assert answer.status == code
    assert answer["content-type"] == "application/problem+json"
    if faults is not None:
        assert [fault["field"] for fault in answer.json["errors"]] == [field for field, _ in faults]
        for fault, (_, words) in zip(answer.json["errors"], faults, strict=True):
            assert words in fault["detail"]
    assert one_worker.stats()["jobs"] == before


def test_content_is_checked_as_for_any_post(server: Server) -> None:
    assert server.ask(request("POST", "/batches", body=b"[]")).status == 415
    assert server.ask(batch(b"[" + b" " * (1 << 20) + b"]")).status == 413


def test_a_batch_larger_than_the_room(one_worker: Server, gate: Gate) -> None:
    one_worker.wait_for(one_worker.submit("until_file", gate.path), "running")
    submit(one_worker, one("nothing"), one("nothing"))
    answer = one_worker.ask(batch([one("nothing")] * 5))
    assert answer.status == 429
    assert answer.json["type"] == "urn:headway:problem:queue-full"
    assert "room for 4 more jobs, not for 5" in answer.json["detail"]
    assert answer["ratelimit-policy"] == '"queue";q=6;qu="concurrent-requests"'
    assert answer["ratelimit"] == f'"queue";r=4;t={answer["retry-after"]}'
    assert one_worker.stats()["waiting"] == 2
    answer = one_worker.ask(batch([one("nothing")] * 7))
    assert (answer.status, "Send fewer at once" in answer.json["detail"]) == (429, True)
    submit(one_worker, *[one("nothing")] * 4)
    gate.open()


def test_jobs_of_a_batch_are_jobs_as_any(one_worker: Server, gate: Gate) -> None:
    one_worker.wait_for(one_worker.submit("until_file", gate.path), "running")
    _, jobs = submit(one_worker, one("nothing", priority=1), one("nothing", priority=9), one("nothing", delay=1000))
    heads = [one_worker.head(job) for job in jobs]
    assert [head["job-state"] for head in heads[:2]] == ["queued", "queued"]
    settles(lambda: [one_worker.head(job)["job-position"] for job in jobs[:2]], ["1", "0"])
    assert heads[2]["job-state"] == "scheduled"
    gate.open()


def test_submission_of_a_job_still_takes_an_object(server: Server) -> None:
    answer = server.ask(
        request("POST", "/jobs", "Content-Type: application/json", body=b"[" + submission("nothing") + b"]")
    )
    assert (answer.status, answer.json["errors"][0]["detail"]) == (422, "expected an object, got an array")
