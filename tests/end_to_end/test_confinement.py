"""Worker processes that run as another user, or that may take so much of the machine and no more."""

from __future__ import annotations

import os
import pwd
import sys
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.conftest import Start
from tests.end_to_end.process import OVER, Server, wait_until
from tests.protocol.wire import Answer, post, request, submission

TASKS = ["tests.end_to_end.tasks_confined"]
MIB = 1 << 20
USER = "nobody"
root_only = pytest.mark.skipif(os.geteuid() != 0, reason="only root can run processes as another user")
linux_only = pytest.mark.skipif(sys.platform != "linux", reason="limits hold on Linux")


def confined(start: Start, **settings: object) -> Server:
    server = start(tasks=TASKS, jobs__run_in="process", processes=1, **settings)
    wait_until(lambda: server.get("/readyz").status, lambda status: status == 200)
    return server


def told(server: Server, path: str) -> tuple[str, str]:
    """Return the reason and the error of a failed job."""
    answer = server.get(path)
    return answer["job-reason"], answer.json["detail"]


def value(server: Server, task: str, payload: object = None) -> object:
    """Return the result of a job, which must succeed."""
    path = server.run(task, payload)
    answer: Answer = server.get(f"{path}/result")
    assert answer.status == 200, answer
    return answer.json


@root_only
def test_worker_processes_run_as_a_user_with_its_group_alone(start: Start, tmp_path: Path) -> None:
    entry = pwd.getpwnam(USER)
    kept = tmp_path / "journal.db"
    server = confined(start, processes_as__user=USER, journal__path=str(kept), workers=3)
    who = value(server, "who")
    assert isinstance(who, dict)
    assert (who["uids"], who["gids"]) == ([entry.pw_uid] * 3, [entry.pw_gid] * 3)
    assert who["groups"] in ([], [entry.pw_gid])
    assert who["environment"] == {
        "HOME": entry.pw_dir,
        "USER": USER,
        "LOGNAME": USER,
        "HEADWAY_ENGINE": None,
        "HEADWAY_WORKERS": "3",
    }
    for task, payload in (
        ("become_root", None),
        ("read", str(kept)),
        ("read", f"{kept}-wal"),
        ("read", f"/proc/{server.process.pid}/environ"),
        ("signal", server.process.pid),
    ):
        reason, detail = told(server, server.run(task, payload))
        assert reason == "error"
        assert "PermissionError" in detail
    # A process that dies is replaced by one of the same user.
    server.expected_errors += ["was killed by SIGKILL"]
    os.kill(who["pid"], 9)
    server.wait_for_line("replacing it")
    again = value(server, "who")
    assert isinstance(again, dict)
    assert again["pid"] != who["pid"]
    assert again["uids"] == who["uids"]


@pytest.mark.long
@root_only
@linux_only
def test_a_process_of_another_user_ends_with_the_server(start: Start) -> None:
    server = confined(start, processes_as__user=USER, exit_code=-9)
    who = value(server, "who")
    assert isinstance(who, dict)
    server.signal(9)
    server.wait()
    wait_until(lambda: Path(f"/proc/{who['pid']}/cmdline").exists(), lambda there: not there)


@pytest.mark.long
@root_only
def test_a_group_of_its_own(start: Start) -> None:
    server = confined(start, processes_as__user=USER, processes_as__group="daemon")
    who = value(server, "who")
    assert isinstance(who, dict)
    assert who["gids"] == [1] * 3


@pytest.mark.long
@root_only
def test_the_store_is_not_told_to_a_process_of_another_user(start: Start, store_url: str) -> None:
    server = confined(start, processes_as__user=USER, engine=store_url, journal__path=...)
    who = value(server, "who")
    assert isinstance(who, dict)
    assert who["environment"]["HEADWAY_ENGINE"] is None


@linux_only
def test_more_memory_than_a_process_may_have_fails_the_job_alone(start: Start) -> None:
    server = confined(start, process_limits__memory=700 * MIB)
    before = value(server, "who")
    path = server.run("take_memory", 4000)
    assert told(server, path) == ("error", "MemoryError: ")
    # One that found no memory is replaced.
    after = value(server, "who")
    assert isinstance(before, dict)
    assert isinstance(after, dict)
    assert before["pid"] != after["pid"]
    assert value(server, "take_memory", 1) == MIB


@linux_only
def test_content_that_a_process_has_no_memory_for_fails_its_job_once(start: Start) -> None:
    server = confined(start, process_limits__memory=700 * MIB)
    server.run("leave_memory", 20)
    data = request("POST", "/tasks/take_content/jobs", "Content-Type: a/b", body=bytes(50_000_000))
    path = server.ask(data)["location"]
    assert server.wait_for(path, *OVER)["job-attempt"] == "1"
    assert told(server, path) == ("error", "MemoryError: ")
    # The next process has room.
    assert server.wait_for(server.ask(data)["location"], *OVER)["job-state"] == "succeeded"


@pytest.mark.long
@linux_only
def test_cpu_time_is_counted_anew_for_each_job(start: Start) -> None:
    server = confined(start, process_limits__cpu=1)
    server.expected_errors += ["was killed by SIGXCPU"]
    pids = {value(server, "take_cpu", 0.6) for _ in range(4)}
    assert len(pids) == 1
    reason, detail = told(server, server.run("take_cpu", 60))
    assert (reason, detail) == (
        "crashed",
        "its worker process was killed by SIGXCPU (it took more CPU time than process_limits.cpu)",
    )
    assert value(server, "take_cpu", 0.01) not in pids


@pytest.mark.long
@linux_only
def test_a_process_is_replaced_before_its_cpu_time_is_over(start: Start) -> None:
    """So no job has less than its share, and a job that raises its limit ends with the life of its process."""
    server = confined(start, process_limits__cpu=1)
    # The kernel counts by the tick, so a job stays well below its share.
    pids = {value(server, "take_cpu", 0.4) for _ in range(30)}
    assert len(pids) == 2


@linux_only
def test_open_files_and_core_dumps_are_bounded(start: Start) -> None:
    server = confined(start, process_limits__files=64)
    reason, detail = told(server, server.run("open_files", 100))
    assert reason == "error"
    assert "Too many open files" in detail
    who = value(server, "who")
    assert isinstance(who, dict)
    assert who["core"] == [0, 0]


def test_a_submission_imports_no_module(start: Start, tmp_path: Path) -> None:
    (tmp_path / "planted.py").write_text(
        "import pathlib, headway\n"
        f"pathlib.Path({str(tmp_path / 'imported')!r}).touch()\n"
        "@headway.task\ndef work(_: object) -> None: pass\n"
    )
    server = start(tasks=TASKS, jobs__run_in="process", processes=1)
    payloads: list[object] = [
        {"py/object": "planted.work"},
        {"__class__": "planted.work"},
        "!!python/name:planted.work",
    ]
    for task in ("planted", "planted.work", "planted:work", "../planted", "tests.end_to_end.tasks_confined.who"):
        body = submission(task, payloads[0])
        assert server.ask(post(body)).status == 422
        assert server.ask(request("PUT", "/jobs/a-key", "Content-Type: application/json", body=body)).status == 422
        content = request("POST", f"/tasks/{quote(task, safe='')}/jobs", "Content-Type: a/b", body=b"x")
        assert server.ask(content).status == 404
    for payload in payloads:
        server.run("who", payload)
    for media_type in ("application/x-python-pickle", "application/x-yaml"):
        # Pickled, it would call ``planted.work``.
        data = b"cplanted\nwork\n(Ntr."
        content = request("POST", "/tasks/take_content/jobs", f"Content-Type: {media_type}", body=data)
        server.wait_for(server.ask(content)["location"], *OVER)
    assert not (tmp_path / "imported").exists()
    # The settings can name it.
    start(tasks=["planted"], journal__path=None)
    assert (tmp_path / "imported").exists()
