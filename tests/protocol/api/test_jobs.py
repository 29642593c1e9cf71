"""What HEAD and GET say of a job in each state: the contract's table, row by row."""

from __future__ import annotations

import math
import re
import time
from calendar import timegm

import pytest
from headway.core.ids import MARKER_LENGTH

from tests.conftest import Start
from tests.end_to_end.process import GATEWAYS, WITH_JOURNAL, Gate, Server, settles
from tests.protocol.wire import Answer, post, request, submission

WAITING = {"job-state", "retry-after", "retry-after-ms", "job-position", "content-type"}
RUNNING = {"job-state", "retry-after", "retry-after-ms", "job-attempt", "content-type"}
ACCEPTED = {*WAITING, "location", "content-length", "job-durability"}


WEEK_S = 7 * 86_400


def seconds_until(date: str) -> float:
    """How far in the future an HTTP date is."""
    return timegm(time.strptime(date, "%a, %d %b %Y %H:%M:%S GMT")) - time.time()


def check_gone(answer: Answer, state: str) -> None:
    assert (answer.status, answer["job-state"]) == (410, state)
    until = {"expires", "sunset"} if state == "cancelled" else set()
    assert answer.names == {"job-state", "content-type", *until}


def test_accepted(server: Server) -> None:
    answer = server.ask(post(submission("nothing")))
    assert answer.status == 202
    assert answer.names == ACCEPTED
    assert answer["location"] == f"/jobs/{answer.json['id']}"
    assert answer["job-state"] == "queued"
    assert answer.json == {"id": answer.json["id"], "state": "queued"}


@pytest.mark.parametrize("prefer", ["return=minimal", "RETURN = minimal", "x=5, return=minimal", 'return="minimal"'])
def test_accepted_without_a_body(server: Server, prefer: str) -> None:
    answer = server.ask(post(submission("nothing"), f"Prefer: {prefer}"))
    assert answer.status == 202
    assert (answer["content-length"], answer["preference-applied"]) == ("0", "return=minimal")
    assert answer.names >= WAITING - {"content-type"} | {"location"}


@pytest.mark.parametrize("prefer", ["return=representation", "respond-async", "return=minimalist", "x-return=minimal"])
def test_other_preferences_are_ignored(server: Server, prefer: str) -> None:
    answer = server.ask(post(submission("nothing"), f"Prefer: {prefer}"))
    assert answer.json["state"] == "queued"
    assert "preference-applied" not in answer.headers


def test_scheduled(one_worker: Server) -> None:
    head = one_worker.head(one_worker.submit("nothing", delay=1000))
    assert (head.status, head["job-state"]) == (202, "scheduled")
    assert head.names == WAITING
    assert 990 < int(head["retry-after"]) < 1070


def test_queued(one_worker: Server, gate: Gate) -> None:
    one_worker.wait_for(one_worker.submit("until_file", gate.path), "running")
    paths = [one_worker.submit("nothing") for _ in range(3)]
    heads = [one_worker.head(path) for path in paths]
    assert [(head.status, head["job-state"], head.names) for head in heads] == [(202, "queued", WAITING)] * 3
    settles(lambda: [one_worker.head(path)["job-position"] for path in paths], ["0", "1", "2"])


def test_position_after_a_cancel_ahead_and_behind(one_worker: Server, gate: Gate) -> None:
    one_worker.wait_for(one_worker.submit("until_file", gate.path), "running")
    paths = [one_worker.submit("nothing") for _ in range(5)]
    for path in (paths[1], paths[4], paths[2]):
        assert one_worker.delete(path).status == 204
    settles(lambda: [one_worker.head(paths[at])["job-position"] for at in (0, 3)], ["0", "1"])
    last = one_worker.submit("nothing")
    settles(lambda: one_worker.head(last)["job-position"], "2")


def test_position_counts_higher_priorities(one_worker: Server, gate: Gate) -> None:
    one_worker.wait_for(one_worker.submit("until_file", gate.path), "running")
    paths = [one_worker.submit("nothing", priority=priority) for priority in (5, 9, 0, 5, 6)]
    settles(lambda: [one_worker.head(path)["job-position"] for path in paths], ["2", "0", "4", "3", "1"])
    one_worker.delete(paths[1])
    settles(lambda: [one_worker.head(paths[at])["job-position"] for at in (0, 2, 3, 4)], ["1", "3", "2", "0"])


def test_higher_priority_runs_first_and_equals_in_order(one_worker: Server, gate: Gate) -> None:
    one_worker.wait_for(one_worker.submit("until_file", gate.path), "running")
    paths = [one_worker.submit("count", priority=priority) for priority in (5, 9, 0, 5, 6)]
    gate.open()
    for path in paths:
        one_worker.wait_for(path, "succeeded")
    ran = [one_worker.get(path + "/result").json for path in paths]
    assert ran == [ran[0] + further for further in (0, -2, 2, 1, -1)]


def test_further_back_is_told_to_come_back_later(one_worker: Server, gate: Gate) -> None:
    one_worker.run("sleep", {"seconds": 0.2})
    one_worker.wait_for(one_worker.submit("until_file", gate.path), "running")
    if GATEWAYS:
        # They hear of run times five times a second.
        time.sleep(0.5)
    paths = [one_worker.submit("sleep", {"seconds": 0.2}) for _ in range(6)]
    settles(lambda: one_worker.head(paths[5])["job-position"], "5")
    hints = [int(one_worker.head(path)["retry-after-ms"]) for path in paths]
    assert hints[5] > hints[0]


def test_running(server: Server, gate: Gate) -> None:
    head = server.wait_for(server.submit("until_file", gate.path), "running")
    assert head.status == 202
    assert head.names == RUNNING
    assert head["job-attempt"] == "1"


@pytest.mark.parametrize(("percent", "told"), [(0, "0"), (42.9, "42"), (100, "100")])
def test_running_with_progress(server: Server, gate: Gate, percent: float, told: str) -> None:
    path = server.submit("report", {"percent": percent, "path": gate.path})
    with server.wire() as wire:
        while "job-progress" not in (head := wire.ask(request("HEAD", path))).headers:
            assert head.status == 202
    assert head["job-progress"] == told
    assert head.names == {*RUNNING, "job-progress"}


def test_retrying(one_worker: Server) -> None:
    head = one_worker.wait_for(one_worker.submit("stubborn_failure", "x"), "retrying")
    assert head.status == 202
    assert head.names == WAITING | {"job-attempt"}
    assert head["job-attempt"] == "1"
    assert 13 <= int(head["retry-after"]) <= 31


def test_succeeded(server: Server) -> None:
    head = server.head(server.run("nothing"))
    assert (head.status, head["job-state"]) == (200, "succeeded")
    assert head.names == {"job-state", "expires", "sunset", "server-timing", "content-type"}
    assert head["sunset"] == head["expires"]
    assert 3590 < seconds_until(head["expires"]) <= 3601


def test_server_timing_is_how_long_it_waited_and_ran(one_worker: Server, gate: Gate) -> None:
    begin = time.monotonic()
    first = one_worker.submit("until_file", gate.path)
    one_worker.wait_for(first, "running")
    second = one_worker.submit("nothing")
    gate.open()
    for path in (first, second):
        timing = one_worker.wait_for(path, "succeeded")["server-timing"]
        queue, run = (float(part.partition("dur=")[2]) for part in timing.split(", "))
        assert timing == f"queue;dur={queue:.1f}, run;dur={run:.1f}"
        assert 0 <= queue + run <= (time.monotonic() - begin) * 1000


@pytest.mark.parametrize(
    ("task", "members", "reason", "attempt"),
    [
        ("fail", {}, "error", "1"),
        ("stubborn_failure", {}, "error", "4"),
        ("stubborn_failure", {"retries": 0}, "error", "1"),
        ("stubborn_failure", {"retries": 1}, "error", "2"),
        ("fail", {"retries": 2}, "error", "3"),
        ("until_file", {"timeout": 0.05}, "timeout", "1"),
        ("until_file", {"timeout": 0.02, "retries": 1}, "timeout", "2"),
        ("thread_until_file", {"timeout": 0.05}, "timeout", "1"),
        ("not_json", {}, "error", "1"),
        ("system_exit", {}, "error", "1"),
        ("until_file", {"payload": 5}, "error", "1"),
    ],
)
def test_failed(server: Server, gate: Gate, task: str, members: dict[str, object], reason: str, attempt: str) -> None:
    payload = members.get("payload", gate.path if "file" in task else None)
    path = server.run(task, payload, **{name: value for name, value in members.items() if name != "payload"})
    head = server.head(path)
    assert (head.status, head["job-state"]) == (424, "failed")
    assert head.names == {"job-state", "job-reason", "job-attempt", "expires", "sunset", "content-type"}
    assert head["sunset"] == head["expires"]
    assert (head["job-reason"], head["job-attempt"]) == (reason, attempt)
    assert WEEK_S - 10 < seconds_until(head["expires"]) <= WEEK_S + 1


def test_attempts_end_with_the_first_success(server: Server) -> None:
    path = server.run("fail_until_attempt", 3, retries=5)
    assert server.get(path + "/result").json == 3


def test_task_is_told_of_its_attempt(server: Server) -> None:
    path = server.run("note_context")
    assert server.get(path + "/result").json == {"id": path[6:], "attempt": 1, "cancelled": False}


def test_failed_status_can_be_200(start: Start) -> None:
    server = start(http__failed_status=200)
    path = server.run("fail")
    for answer in (server.head(path), server.get(path)):
        assert (answer.status, answer["job-state"], answer["job-reason"]) == (200, "failed", "error")
    assert server.get(path).json["error"] == "RuntimeError: this task always fails"


def test_delay_is_waited_for(server: Server) -> None:
    begin = time.monotonic()
    server.run("nothing", delay=0.3)
    assert time.monotonic() - begin >= 0.3


@pytest.mark.parametrize("state", ["scheduled", "queued", "retrying"])
def test_delete_of_a_job_that_waits(one_worker: Server, gate: Gate, state: str) -> None:
    if state == "queued":
        one_worker.wait_for(one_worker.submit("until_file", gate.path), "running")
    task, delay = ("fail_until_attempt", 0) if state == "retrying" else ("nothing", 1000 * (state == "scheduled"))
    path = one_worker.submit(task, 9, delay=delay, retries=1)
    one_worker.wait_for(path, state)
    answer = one_worker.delete(path)
    assert (answer.status, answer.body) == (204, b"")
    check_gone(one_worker.head(path), "cancelled")
    assert one_worker.stats()["jobs"][state] == 0


@pytest.mark.parametrize("task", ["until_file", "thread_until_file"])
def test_delete_of_a_job_that_runs(server: Server, gate: Gate, task: str) -> None:
    path = server.submit(task, gate.path)
    server.wait_for(path, "running")
    answer = server.delete(path)
    assert (answer.status, answer["content-length"]) == (202, "0")
    check_gone(server.wait_for(path, "cancelled"), "cancelled")


@pytest.mark.parametrize("task", ["nothing", "give", "fail"])
def test_delete_of_a_job_that_is_over(server: Server, task: str) -> None:
    path = server.run(task, {})
    before = server.head(path)
    assert server.delete(path).status == 204
    assert server.head(path).status == before.status
    assert server.get(path + "/result").status == {200: 410, 424: 424}[before.status]
    assert server.delete(path).status == 204


def test_delete_of_a_job_that_was_cancelled(server: Server) -> None:
    path = server.submit("nothing", delay=1000)
    assert [server.delete(path).status for _ in range(3)] == [204, 410, 410]
    assert server.delete(path)["job-state"] == "cancelled"


def test_deleted_job_frees_its_worker(one_worker: Server, gate: Gate) -> None:
    path = one_worker.submit("until_file", gate.path)
    one_worker.wait_for(path, "running")
    one_worker.delete(path)
    assert one_worker.wait_for(one_worker.submit("nothing"), "succeeded").status == 200


def test_expired_by_count(start: Start) -> None:
    server = start(retention__jobs=2)
    paths = [server.run("give", number) for number in range(4)]
    assert [server.head(path).status for path in paths] == [410, 410, 200, 200]
    check_gone(server.head(paths[0]), "expired")
    assert [server.get(path + "/result").status for path in paths] == [410, 410, 200, 200]
    assert [server.delete(path).status for path in paths] == [410, 410, 204, 204]


def test_expired_long_ago_is_told_from_never_issued(start: Start) -> None:
    server = start(retention__jobs=1, queue__size=1, workers=1)
    first = server.run("nothing")
    for _ in range(20):
        server.run("nothing")
    check_gone(server.head(first), "expired")
    altered = first[:-1] + ("0" if first[-1] != "0" else "1")
    assert server.head(altered).status == 404


def test_expired_by_time(start: Start) -> None:
    server = start(retention__seconds=1, retention__failed__seconds=1)
    paths = [server.run(task) for task in ("nothing", "fail")]
    until = seconds_until(server.head(paths[0])["expires"])
    assert until <= math.ceil(1)
    for path in paths:
        check_gone(server.wait_for(path, "expired"), "expired")
        assert server.get(path + "/result").status == 410


def test_sunset_tells_until_when_by_outcome_by_task_and_by_the_wish_of_the_job(start: Start) -> None:
    server = start(retention__seconds=100, retention__failed__seconds=200, retention__cancelled__seconds=300)
    cancelled = server.submit("nothing", delay=100)
    server.delete(cancelled)
    asked = {
        server.run("nothing"): 100,
        server.run("fail"): 200,
        cancelled: 300,
        server.run("kept_short"): 50,
        server.run("kept_short", keep=400): 400,
        server.run("fail", keep=10): 10,
    }
    for path, seconds in asked.items():
        for answer in (server.head(path), server.get(path)):
            assert seconds - 10 < seconds_until(answer["sunset"]) <= seconds + 1, path
            assert answer["expires"] == answer["sunset"]


@pytest.mark.parametrize("keep", [0, -1, 31_536_001, "week", True])
def test_a_keep_that_is_not_allowed(server: Server, keep: object) -> None:
    answer = server.ask(post(submission("nothing", keep=keep)))
    assert (answer.status, answer.json["errors"][0]["field"]) == (422, "keep")
    assert "a number above 0 and up to 31536000" in answer.json["detail"]


def alterations(job_id: str) -> list[str]:
    """Every id that differs from this one in one digit, and some that are written otherwise."""
    digits = [job_id[:at] + f"{(int(job_id[at], 16) + 1) % 16:x}" + job_id[at + 1 :] for at in range(len(job_id))]
    rotated = [job_id[1:] + job_id[:1], job_id[:-1], job_id + "0", "0" + job_id, "0x" + job_id[2:], " " + job_id[1:]]
    odd = [job_id[:-1] + "g", f"{job_id[:12]}-{job_id[13:]}", "%" + job_id[1:], "0" * 28, "f" * 28]
    return [*digits, *rotated, *odd, "0" * 36, "f" * 36, job_id[:8] + "0" * 28]


def test_never_issued(server: Server) -> None:
    job_id = server.run("nothing")[6:]
    altered = [other for other in alterations(job_id) if " " not in other]
    with server.wire() as wire:
        for other in altered:
            for method, rest in (("HEAD", ""), ("GET", ""), ("DELETE", ""), ("GET", "/result")):
                answer = wire.ask(request(method, f"/jobs/{other}{rest}"))
                # Of one with the form of an id and another marker it cannot be known here.
                has_form = re.fullmatch("[0-9a-f]{36}", other)
                codes = {421 if has_form and other[:8] != job_id[:8] else 404}
                if WITH_JOURNAL and has_form and other[8:20] < job_id[8:20]:
                    # A number of before this start may be of an earlier run of another copy.
                    codes.add(421)
                assert (answer.status in codes, "job-state" in answer.headers) == (True, False), other


def test_an_id_of_an_earlier_run_is_misdirected(server: Server, start: Start) -> None:
    path = server.run("nothing")
    other = start()
    batch = other.ask(request("POST", "/batches", "Content-Type: application/json", body=b'[{"task": "nothing"}]'))
    for asked, paths in ((other, (path, path + "/result")), (server, (other.run("nothing"), batch["location"]))):
        for where in paths:
            for method in ("HEAD", "GET", "DELETE"):
                if method != "DELETE" or not where.endswith("result"):
                    assert asked.ask(request(method, where)).status == 421
    answer = other.get(path)
    assert answer.json["type"] == "urn:headway:problem:misdirected"
    assert "Another server or an earlier run issued this id" in answer.json["detail"]


def test_id_in_upper_case_was_never_issued(server: Server) -> None:
    paths = [server.run("nothing") for _ in range(3)]
    assert any(path != path.upper() for path in paths)
    assert {server.head("/jobs/" + path[6:].upper()).status for path in paths if path[6:] != path[6:].upper()} == {404}


def test_id_in_upper_case_behind_its_marker_was_never_issued(server: Server) -> None:
    """Nor on a connection that has polled the job, where a poll needs no parser."""
    with server.wire() as wire:
        for path in [server.run("nothing") for _ in range(3)]:
            marker = len("/jobs/") + MARKER_LENGTH
            upper = path[:marker] + path[marker:].upper()
            statuses = [wire.ask(request("HEAD", each)).status for each in (path, upper, path)]
            assert statuses == [200, 200 if upper == path else 404, 200]


@pytest.mark.parametrize("odd", [b"\xff" * 28, b"\xc3\xa9" * 14, b"%00" * 9 + b"a", b"+" * 28, b"_" * 28, b"1_" * 14])
def test_id_of_odd_bytes(server: Server, odd: bytes) -> None:
    with server.wire() as wire:
        assert wire.ask(request("HEAD", "/jobs/X").replace(b"X", odd)).status in {400, 404}


def test_ids_are_not_counted_on(server: Server) -> None:
    """Of two ids in a row, one does not give the other away."""
    one, other = (server.run("nothing")[6:] for _ in range(2))
    assert one[:8] == other[:8]
    assert int(other[8:20], 16) == int(one[8:20], 16) + 1
    assert one[20:] != other[20:]


def test_a_job_that_is_found_by_its_key_is_named_in_each_answer_about_it(start: Start) -> None:
    server = start(retention__jobs=1)
    key = request("PUT", "/jobs/order-9", "Content-Type: application/json", body=submission("give", 1))
    path = server.ask(key)["location"]
    server.wait_for(path, "succeeded")
    assert server.delete("/jobs/order-9")["content-location"] == path
    gone = server.ask(request("GET", "/jobs/order-9/result", "Prefer: wait=5"))
    assert (gone.status, gone["job-state"]) == (410, "succeeded")
    assert (gone["content-location"], gone["preference-applied"]) == (path, "wait=5")
    server.run("nothing")
    change = request("PATCH", "/jobs/order-9", "Content-Type: application/json", body=b'{"delay":0}')
    for data in (change, request("POST", "/jobs/order-9/retry", body=b""), request("DELETE", "/jobs/order-9")):
        answer = server.ask(data)
        assert (answer.status, answer["job-state"], answer["content-location"]) == (410, "expired", path)
