"""Orders of a person to a live server: tasks on hold, jobs that wait, and many jobs at once."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from headway.client import Client, Refused, TaskClosed
from tests.end_to_end.process import Server
from tests.headway.cli.conftest import run
from tests.headway.client.both import Ask, both


@pytest.fixture
def resumed(server: Server) -> Iterator[None]:
    """Let all tasks run after the test."""
    yield
    with Client(f"http://127.0.0.1:{server.port}") as client:
        for task in ("nothing", "fail"):
            client.resume(task)
            client.open_intake(task)


def failed(server: Server, ask: Ask, tag: str, count: int = 3) -> list[str]:
    """Return the ids of jobs that failed."""
    jobs = ask(server.port, lambda client: client.submit_many("fail", [{"message": "no"}] * count, tags=[tag]))
    for job in jobs:
        ask(server.port, lambda client, job=job: client.job(job.id).wait())
    return [job.id for job in jobs]


@pytest.mark.usefixtures("resumed")
@both
def test_a_task_is_held_and_resumed(server: Server, ask: Ask) -> None:
    until = datetime.now(UTC) + timedelta(hours=1)
    now = ask(server.port, lambda client: client.hold("nothing", until=until, reason="new printer, ü"))
    assert (now.task, now.dispatch, now.intake, now.reason) == ("nothing", "hold", "open", "new printer, ü")
    assert abs((now.until - until).total_seconds()) < 1
    job = ask(server.port, lambda client: client.submit("nothing"))
    status = ask(server.port, lambda client: client.job(job.id).status())
    assert (status.state, status.held) == ("queued", "new printer, ü")
    assert 3000 < status.retry_after < 4000
    now = ask(server.port, lambda client: client.resume("nothing"))
    assert (now.dispatch, now.until) == ("run", None)
    assert ask(server.port, lambda client: client.job(job.id).wait(10)).state == "succeeded"


@pytest.mark.usefixtures("resumed")
@both
def test_a_closed_task_refuses_jobs(server: Server, ask: Ask) -> None:
    now = ask(server.port, lambda client: client.close_intake("nothing", reason="stocktaking"))
    assert (now.dispatch, now.intake) == ("run", "closed")
    with pytest.raises(TaskClosed, match="stocktaking"):
        ask(server.port, lambda client: client.submit("nothing"))
    assert ask(server.port, lambda client: client.open_intake("nothing")).intake == "open"
    ask(server.port, lambda client: client.submit("nothing"))


@pytest.mark.parametrize(
    ("task", "until", "fault"), [("no_such_task", None, "404"), ("nothing", timedelta(days=-1), "a time to come")]
)
@both
def test_a_hold_of_nonsense_is_refused(server: Server, ask: Ask, task: str, until: timedelta, fault: str) -> None:
    with pytest.raises(Refused, match=fault) as raised:
        ask(server.port, lambda client: client.hold(task, until=until))
    assert "\n" not in str(raised.value)


@both
def test_a_job_that_waits_is_changed(server: Server, ask: Ask) -> None:
    job = ask(server.port, lambda client: client.submit("nothing", delay=600))
    assert ask(server.port, lambda client: client.job(job.id).change(priority=9, delay=900)).state == "scheduled"
    assert ask(server.port, lambda client: client.job(job.id).run_now()).state in ("queued", "running", "succeeded")
    assert ask(server.port, lambda client: client.job(job.id).wait(10)).state == "succeeded"
    with pytest.raises(Refused) as raised:
        ask(server.port, lambda client: client.job(job.id).run_now())
    assert raised.value.reason == "not-waiting"


@both
def test_many_jobs_are_retried_cancelled_and_deleted(server: Server, ask: Ask) -> None:
    tag = f"many by {ask.__name__}"
    failed(server, ask, tag)
    found = ask(server.port, lambda client: client.retry_all(tag=tag, dry_run=True))
    assert (found.matches, found.by_task) == (3, {"fail": 3})

    def done(order: str, **wanted: Any) -> Any:
        job = ask(server.port, lambda client: getattr(client, order)(**wanted))
        return ask(server.port, lambda client: client.job(job.id).result(10))

    assert done("retry_all", tag=tag, state="failed") == {"matched": 3, "done": 3, "skipped": 0}
    jobs = ask(server.port, lambda client: client.find(tag=tag))
    assert len(jobs) == 6
    for job in jobs:
        ask(server.port, lambda client, job=job: client.job(job.id).wait(10))
    later = ask(server.port, lambda client: client.submit("nothing", delay=600, tags=[tag]))
    assert done("cancel_all", tag=tag) == {"matched": 1, "done": 1, "skipped": 0}
    assert ask(server.port, lambda client: client.job(later.id).status()).state == "cancelled"
    assert done("delete_all", tag=tag, task="fail") == {"matched": 6, "done": 6, "skipped": 0}


@pytest.mark.usefixtures("resumed")
def test_the_command_line_tells_of_tasks_on_hold(server: Server) -> None:
    said = run(server.port, "hold", "fail", "--close", "--until", "2h", "--reason", "new printer").out
    assert said.startswith("fail is on hold and closed until 20")
    assert said.endswith(": new printer\n")
    assert [line for line in run(server.port, "tasks").lines if line.startswith("fail (on hold, closed)  ")]
    shown = run(server.port, "top", "--once", "--interval", 0.1).out
    assert "\non hold: fail\n" in shown
    assert "\nclosed: fail\n" in shown
    ran = run(server.port, "submit", "fail", "{}", "--patience", 0)
    assert ran.code == 6
    assert len(ran.err.splitlines()) == 1
    assert run(server.port, "resume", "fail").out == "fail runs\n"
    assert "on hold" not in run(server.port, "top", "--once", "--interval", 0.1).out


def test_the_command_line_retries_many(server: Server) -> None:
    with Client(f"http://127.0.0.1:{server.port}") as client:
        for job in client.submit_many("fail", [{"message": "no"}] * 2, tags=["shop:7"]):
            job.wait()
    wanted = ("--failed", "--tag", "shop:7", "--since", "1d")
    assert run(server.port, "retry", *wanted, "--dry-run").out == "2 jobs: 2 of fail\n"
    ran = run(server.port, "retry", *wanted)
    assert (ran.code, ran.out) == (2, "")
    assert ran.err == "headway: 2 jobs: 2 of fail: --yes is needed where nobody can be asked\n"
    ran = run(server.port, "retry", *wanted, "--yes")
    assert (ran.code, ran.out) == (0, "2 of 2 jobs resubmitted\n")
    assert len(run(server.port, "list", "--tag", "shop:7", "-q").lines) == 4
    ran = run(server.port, "cancel", "--state", "failed", "--yes")
    assert ran.code == 5
    assert "expected one or more of" in ran.err
