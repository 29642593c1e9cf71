"""Processes that tasks fork: they have nothing of the server's, and what they do is theirs alone."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Start
from tests.end_to_end.process import Server, children, launch, wait_until
from tests.protocol.wire import request

TASKS = ["tests.end_to_end.tasks_for_tests", "tests.end_to_end.tasks_that_fork"]

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(sys.version_info >= (3, 12), reason="a fork beside threads warns, which is an error here"),
]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server whose tasks fork, that the tests here share."""
    settings = {"tasks": TASKS, "processes": 1, "drain_linger": 0, "jobs__backoff": 0.01}
    with launch(tmp_path_factory.mktemp("forks"), settings) as server:
        wait_until(lambda: server.get("/readyz").status, lambda status: status == 200)
        yield server


def result(server: Server, task: str, payload: object = None) -> Any:
    answer = server.get(server.run(task, payload) + "/result")
    assert answer.status == 200, (answer, server.said)
    return answer.json


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] != "Z"
    except FileNotFoundError:
        return False


def test_a_signal_to_a_child_is_not_told_to_the_server(server: Server) -> None:
    for _ in range(5):
        assert result(server, "terminated") == -signal.SIGTERM
        assert result(server, "hung_up") == [-signal.SIGTERM, -signal.SIGINT, -signal.SIGHUP]
    assert server.get("/readyz").status == 200
    assert [line for line in server.said if "drain" in line or "deploy" in line] == []


@pytest.mark.parametrize("task", ["pooled", "executed"])
def test_pools_of_children_work_and_end(server: Server, task: str) -> None:
    for _ in range(5):
        assert result(server, task, [1, 2, 3]) == [1, 4, 9]
    assert server.get("/readyz").status == 200


def test_a_pool_of_new_pythons_works(server: Server) -> None:
    assert result(server, "spawned", [-1, 2]) == [1, 2]


@pytest.mark.parametrize("task", ["thread_comes_back", "loop_comes_back", "process_comes_back"])
@pytest.mark.parametrize(("how", "code"), [("returns", "0"), ("raises", "1"), ("exits", "7"), ("pty", "0")])
def test_a_child_that_comes_back_from_the_task_ends_there(server: Server, task: str, how: str, code: str) -> None:
    assert result(server, task, how) == code
    # Its answer is nobody's.
    assert result(server, "give_in_process", 5) == result(server, "give", 5) == 5
    assert server.metrics()["headway_process_ends_total", "crashed"] == 0


def test_a_child_that_waits_for_the_loop_ends_there(server: Server) -> None:
    assert result(server, "child_awaits") is True
    assert result(server, "give", 5) == 5


def test_a_second_answer_is_not_that_of_the_next_job(server: Server, tmp_path: Path) -> None:
    assert result(server, "answers_late", str(tmp_path / "gate")) == "first"
    following = server.submit("wait_in_process", 0.3)
    server.wait_for(following, "running")
    (tmp_path / "gate").touch()
    server.wait_for(following, "succeeded")
    assert server.get(following + "/result").json == "its own"


def test_a_child_has_no_part_in_the_progress_of_the_job(server: Server) -> None:
    path = server.run("child_reports")
    assert "77" not in server.head(path).headers.get("job-progress", "")


@linux_only
@pytest.mark.parametrize("journal", [False, True])
def test_children_hold_nothing_of_a_server_that_was_killed(start: Start, tmp_path: Path, journal: bool) -> None:
    settings = {"journal__path": str(tmp_path / "journal.db")} if journal else {}
    server = start(tasks=TASKS, **settings, exit_code=-signal.SIGKILL)
    with server.wire() as kept:
        assert kept.still_serves()
        child = server.get(server.run("leave_behind") + "/result").json
        try:
            server.signal(signal.SIGKILL)
            server.wait()
            # Its clients hear of it, its port is free, and so is its journal.
            kept.read_end()
            again = start(tasks=TASKS, **settings, server__port=server.port)
            assert again.get("/healthz").status == 200
            assert alive(child)
        finally:
            os.kill(child, signal.SIGKILL)


@linux_only
@pytest.mark.parametrize("how", ["timeout", "cancel", "drain"])
def test_what_a_task_has_started_ends_with_its_worker_process(start: Start, tmp_path: Path, how: str) -> None:
    server = start(tasks=TASKS, processes=1, drain_timeout=0.1, exit_code=how == "drain", journal__path=None)
    note = tmp_path / "pid"
    path = server.submit("starts_program", str(note), timeout=1 if how == "timeout" else 60)
    pid = int(wait_until(lambda: note.exists() and note.read_text(), bool))
    assert alive(pid)
    if how == "cancel":
        server.delete(path)
    elif how == "drain":
        server.expected_errors.append("1 jobs are lost")
        server.signal(signal.SIGTERM)
    # Not only dead but reaped: who is the first process of a container has nobody else to do it.
    wait_until(lambda: Path(f"/proc/{pid}").exists(), lambda there: not there)
    if how != "drain":
        assert pid not in children(server)


def test_another_directory_harms_nobody(start: Start, tmp_path: Path) -> None:
    """Worker processes, tasks read from the first directory, the journal, and a deploy."""
    (tmp_path / "here.py").write_text("import headway\n@headway.task(run_in='process')\ndef local(_): return 1\n")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    settings = {"journal__path": "kept.db", "results__max_bytes": 1000, "results__max_result_bytes": 100_000}
    server = start(tasks=[*TASKS, "here"], processes=1, **settings)
    wait_until(lambda: server.get("/readyz").status, lambda status: status == 200)
    large = server.run("give", "x" * 50_000)
    server.run("chdir", str(elsewhere))
    elsewhere.rmdir()
    server.run("crash")
    assert result(server, "local") == 1
    assert server.get(large + "/result").json == "x" * 50_000
    assert "deployed" in server.deploy()
    assert result(server, "local") == 1
    assert server.get(large + "/result").json == "x" * 50_000


def test_the_server_goes_on_answering_on_one_connection_beside_forks(server: Server) -> None:
    """What closes the copies of our sockets in the child closes nothing here."""
    with server.wire() as wire:
        for _ in range(10):
            server.submit("thread_comes_back", "returns")
            assert wire.ask(request("GET", "/healthz")).status == 200
