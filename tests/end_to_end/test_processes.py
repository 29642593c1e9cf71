"""Jobs in worker processes, seen from outside: what dies takes nobody along."""

from __future__ import annotations

import os
import random
import signal
import time
from collections import Counter
from pathlib import Path

import pytest

from tests.conftest import Start
from tests.end_to_end.process import Server, children, wait_until
from tests.protocol.wire import Wire, post, request, submission

KILLS = 30
TASKS = ["tests.core.processes.tasks_in_processes"]


def pool(start: Start, **settings: object) -> Server:
    common: dict[str, object] = {
        "tasks": TASKS,
        "jobs__run_in": "process",
        "jobs__backoff": 0.01,
        "jobs__backoff_max": 0.02,
        "drain_linger": 0,
    }
    server = start(**(common | settings))
    wait_until(lambda: server.get("/readyz").status, lambda status: status == 200)
    return server


def ends(server: Server, paths: list[str]) -> Counter[str]:
    """Wait for all jobs; count them by how they ended."""
    found: Counter[str] = Counter()
    with server.wire() as wire:
        for path in paths:
            head = wait_until(lambda path=path: wire.ask(request("HEAD", path)), lambda head: head.status != 202)  # type: ignore[misc]
            found[head["job-state"]] += 1
    return found


def post_all(server: Server, task: str, payloads: list[object], **members: object) -> list[str]:
    with server.wire() as wire:
        wire.send(b"".join(post(submission(task, payload, **members)) for payload in payloads))
        return [wire.read()["location"] for _ in payloads]


@pytest.mark.long
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="finds the worker processes in /proc")
def test_random_kills_leave_no_job_stuck(start: Start) -> None:
    server = pool(start, processes=3, workers=8, queue__size=5000)
    chance = random.Random(7)
    paths = post_all(server, "nap", [0.02] * 250, retries=5)
    for _ in range(KILLS):
        alive = wait_until(lambda: children(server), bool)
        with_pid = chance.choice(alive)
        try:
            os.kill(with_pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
        time.sleep(chance.uniform(0, 0.02))
    began = time.monotonic()
    wait_until(lambda: server.metrics().get(("headway_processes",), 0), lambda up: up == 3)
    assert time.monotonic() - began < 1
    found = ends(server, paths)
    assert found.keys() <= {"succeeded", "failed"}
    assert found.total() == 250
    assert server.stats()["jobs"]["running"] == 0


def test_job_that_kills_its_process_ends_after_its_attempts(start: Start) -> None:
    server = pool(start)
    deadly = post_all(server, "die", ["segfault"] * 2, retries=1)
    good = post_all(server, "give", list(range(200)))
    assert ends(server, good) == {"succeeded": 200}
    assert ends(server, deadly) == {"failed": 2}
    head = server.head(deadly[0])
    assert (head.status, head["job-reason"], head["job-attempt"]) == (424, "crashed", "2")
    assert "SIGSEGV" in server.get(deadly[0]).json["detail"]


def test_timeout_and_delete_kill_and_the_next_job_runs(start: Start, tmp_path: Path) -> None:
    server = pool(start, processes=1)
    late = server.submit("until_file", str(tmp_path / "never"), timeout=0.3)
    head = server.wait_for(late, "failed")
    assert head["job-reason"] == "timeout"
    begun = tmp_path / "begun"
    running = server.submit("touch", str(begun))
    wait_until(begun.exists, bool)
    queued = server.submit("give", 5)
    server.wait_for(running, "running")
    assert server.head(queued)["job-state"] == "queued"
    assert server.delete(running).status == 202
    assert server.head(running).status == 410
    server.wait_for(queued, "succeeded")
    wait_until(lambda: server.metrics()["headway_process_ends_total", "killed"], lambda killed: killed == 2)


def test_result_and_error_come_from_the_process(start: Start) -> None:
    server = pool(start)
    answer = server.get(server.run("picture", "abc") + "/result")
    assert (answer.status, answer["content-type"]) == (200, "image/svg+xml")
    assert server.get(server.run("pid") + "/result").json != server.process.pid
    failed = server.get(server.run("fail", "value", retries=1))
    assert (failed.status, failed["job-attempt"]) == (424, "2")


@pytest.mark.long
def test_polls_are_answered_while_all_processes_compute(start: Start) -> None:
    """Nothing is pinned. The best of three windows counts, for other tests run beside this one."""
    server = pool(start, processes=2)
    paths = [server.submit("compute", 20) for _ in range(2)]
    for path in paths:
        server.wait_for(path, "running")
    found = []
    with server.wire() as wire:
        for _ in range(3):
            found.append(p99_ms([timed(wire, paths[number % 2]) for number in range(400)]))
            if found[-1] < 20:
                break
    for path in paths:
        server.delete(path)
    assert min(found) < 20, found


def timed(wire: Wire, path: str) -> float:
    began = time.monotonic()
    assert wire.ask(request("HEAD", path)).status == 202
    taken = time.monotonic() - began
    time.sleep(0.002)
    return taken


def p99_ms(seconds: list[float]) -> float:
    return 1000 * sorted(seconds)[len(seconds) * 99 // 100]
