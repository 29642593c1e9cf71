"""``headway retry``, ``cancel``, ``delete``, ``change``, ``run-now``, ``hold``, ``close`` and ``resume``."""

from __future__ import annotations

import json
import os
import signal

import pytest

from headway.cli.exits import EXIT_REFUSED
from tests.headway.cli.conftest import Spawn, run
from tests.headway.cli.test_terminal import terminal
from tests.headway.client.answered import ID, OTHER, answer, content, field, problem, target
from tests.protocol.wire import PATIENCE_S
from tests.sim.scripted import Scripted

MATCHES = answer(200, {"matches": 1234, "by_task": {f"task{number}": number for number in range(1, 7)}})
ACCEPTED = answer(202, {}, f"Location: /jobs/{ID}", "Job-State: queued")
DONE = answer(200, {"matched": 1234, "done": 1230, "skipped": 4}, "Job-State: succeeded")


class Orders(Scripted):
    """A server that carries out orders about many jobs."""

    def __init__(self, ended: bytes = DONE, matches: bytes = MATCHES) -> None:
        super().__init__(lambda method, _: self._answer(method, ended, matches))

    def _answer(self, method: bytes, ended: bytes, matches: bytes) -> bytes:
        if method == b"POST":
            return matches if "dry-run=1" in target(self.seen[-1]) else ACCEPTED
        return ended


@pytest.mark.parametrize(
    ("order", "done"), [("retry", "jobs resubmitted"), ("cancel", "jobs cancelled"), ("delete", "results deleted")]
)
def test_an_order_about_many_is_waited_for(order: str, done: str) -> None:
    with Orders() as server:
        ran = run(server.port, order, "--failed", "--task", "a", "--since", "1d", "--yes")
        assert (ran.code, ran.out, ran.err) == (0, f"1,230 of 1,234 {done}, 4 skipped\n", "")
        assert target(server.seen[0]) == f"POST /jobs/{order}?state=failed&task=a&ended_after=1d"
        assert field(server.seen[0], "idempotency-key")
        (document,) = run(server.port, order, "--tag", "a", "--yes", "--json").documents
        assert document == {"id": ID, "matched": 1234, "done": 1230, "skipped": 4}


def test_a_dry_run_does_nothing() -> None:
    with Orders() as server:
        ran = run(server.port, "retry", "--failed", "--dry-run")
        assert ran.out == ("1,234 jobs: 6 of task6, 5 of task5, 4 of task4, 3 of task3, 2 of task2, 1 of other tasks\n")
        (document,) = run(server.port, "retry", "--failed", "--dry-run", "--yes", "--json").documents
        assert document["matches"] == 1234
        assert {target(request) for request in server.seen} == {"POST /jobs/retry?state=failed&dry-run=1"}


def test_nothing_is_done_where_nobody_can_be_asked() -> None:
    with Orders() as server:
        ran = run(server.port, "delete", "--failed")
        assert (ran.code, ran.out) == (2, "")
        assert ran.err.endswith("1 of other tasks: --yes is needed where nobody can be asked\n")
        assert len(server.seen) == 1


def test_no_job_that_fits_is_no_question() -> None:
    with Orders(matches=answer(200, {"matches": 0, "by_task": {}})) as server:
        ran = run(server.port, "cancel", "--task", "a")
        assert (ran.code, ran.out) == (0, "no job fits\n")
        assert len(server.seen) == 1


def test_an_order_that_failed_is_told() -> None:
    failed = problem(424, "job-failed", "Job-State: failed", "Job-Reason: error", "Job-Attempt: 1")
    with Orders(failed) as server:
        ran = run(server.port, "cancel", "--task", "a", "--yes")
        assert (ran.code, ran.out, ran.err) == (1, "", f"headway: job {ID} failed: because\n")


@pytest.mark.long
@pytest.mark.parametrize(("said", "code", "requests"), [(b"y\n", 0, 3), (b"n\n", 130, 1), (b"\n", 130, 1)])
def test_a_person_is_asked(spawn: Spawn, said: bytes, code: int, requests: int) -> None:
    with Orders() as server, terminal() as (screen, fd):
        retry = spawn(server.port, "retry", "--failed", stdin=fd, stderr=fd)
        screen.wait_for(rb"1,234 jobs: .* of other tasks\. Retry them\? \[y/N\]")
        os.write(screen.fd, said)
        assert retry.wait(PATIENCE_S) == code
        assert len(server.seen) >= requests
        assert any("dry-run" not in target(request) for request in server.seen) == (code == 0)


@pytest.mark.long
def test_an_order_outlives_the_person(spawn: Spawn) -> None:
    running = answer(202, {}, "Job-State: running", "Retry-After-Ms: 100")
    with Orders(running) as server, terminal() as (screen, fd):
        retry = spawn(server.port, "retry", "--failed", "--yes", stderr=fd)
        screen.wait_for(f"job {ID}".encode())
        retry.send_signal(signal.SIGINT)
        assert retry.wait(PATIENCE_S) == 130
        assert not any(request.startswith(b"DELETE") for request in server.seen)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["retry"], "expected an id, or a filter such as --failed or --task: see headway retry --help"),
        (["delete", "1", "--failed"], "expected ids or a filter, not both: see headway delete --help"),
        (["cancel", "1", "--dry-run"], "--dry-run and --yes need a filter"),
        (["cancel", "1", "--yes"], "--dry-run and --yes need a filter"),
        (["cancel", "--task", "a", "--forget"], "--forget needs ids"),
        (["change", "1"], "nothing to change: expected --priority or --delay"),
        (["change", "1", "--priority", "10"], "'--priority'"),
    ],
)
def test_wrong_usage_asks_no_server(arguments: list[str], said: str) -> None:
    ran = run(1, *arguments, "--patience", 0)
    assert (ran.code, ran.out) == (2, "")
    (line,) = ran.err.splitlines()
    assert said in line


# By id.


def test_delete_leaves_jobs_that_have_not_finished() -> None:
    running = answer(202, {}, "Job-State: running")
    failed = problem(424, "job-failed", "Job-State: failed")
    with Scripted(lambda *_: running if ID.encode() in server.seen[-1] else failed) as server:
        ran = run(server.port, "delete", ID, OTHER)
        assert (ran.code, ran.out) == (EXIT_REFUSED, f"{OTHER} failed\n")
        assert ran.err == f"headway: job {ID} is running. headway cancel {ID} ends it\n"
        assert [target(request).split()[0] for request in server.seen] == ["GET", "GET", "DELETE"]


def test_jobs_that_wait_are_changed() -> None:
    queued, refused = answer(200, {}, "Job-State: queued"), problem(409, "not-waiting")
    with Scripted(lambda *_: queued if ID.encode() in server.seen[-1] else refused) as server:
        ran = run(server.port, "change", ID, OTHER, "--priority", 8, "--delay", "10m")
        assert (ran.code, ran.out) == (EXIT_REFUSED, f"{ID} queued\n")
        assert ran.err == f"headway: job {OTHER}: the server refuses the request: 409 not-waiting: because\n"
        assert run(server.port, "run-now", ID, "--json").documents == [{"id": ID, "state": "queued"}]
        sent = [json.loads(content(request)) for request in server.seen]
        assert sent == [{"priority": 8, "delay": 600.0}] * 2 + [{"delay": 0}]


# Tasks.


def test_tasks_are_held_closed_and_resumed() -> None:
    def script(*_: object) -> bytes:
        given = {"dispatch": "run", "intake": "open", "until": None, "reason": None} | json.loads(
            content(server.seen[-1])
        )
        return answer(200, {"name": "report", **given})

    with Scripted(script) as server:

        def said(*arguments: str) -> str:
            ran = run(server.port, *arguments)
            assert (ran.code, ran.err) == (0, "")
            return ran.out

        assert said("hold", "report") == "report is on hold\n"
        until = "2026-11-29T10:00:00+00:00"
        shown = "report is on hold and closed until 2026-11-29T10:00:00.000Z: new printer\n"
        assert said("hold", "report", "--until", until, "--reason", "new\nprinter", "--close") == shown
        assert said("close", "report", "--until", "2h").startswith("report is closed until 20")
        assert said("resume", "report") == "report runs\n"
        assert json.loads(said("hold", "report", "--json"))["dispatch"] == "hold"
        assert json.loads(content(server.seen[3])) == {"dispatch": "run", "intake": "open"}
    with Scripted(lambda *_: problem(404, "not-found")) as server:
        ran = run(server.port, "hold", "nothing")
        assert (ran.code, len(ran.err.splitlines())) == (EXIT_REFUSED, 1)
