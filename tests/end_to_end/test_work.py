"""``headway work``: a node without HTTP."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.end_to_end.process import TASKS, Gate, Server, environment, launch, wait_until
from tests.protocol.wire import post, submission

# Nodes and servers that begin, die and come back take their time.
pytestmark = pytest.mark.long


@pytest.mark.parametrize("options", [(), ("--check",)])
def test_a_node_without_a_store_is_refused_in_one_line(tmp_path: Path, options: tuple[str, ...]) -> None:
    command = [sys.executable, "-m", "headway", "work", *options]
    ended = subprocess.run(command, cwd=tmp_path, env=environment({}), capture_output=True, text=True)
    assert ended.returncode == 2
    (line,) = ended.stderr.splitlines()
    assert line.startswith("headway: engine: headway work needs a store that nodes share")


@contextmanager
def working(folder: Path, settings: Mapping[str, object]) -> Iterator[Server]:
    """Run a node without HTTP until the end of the block. It drains, and ends with 0."""
    worker = Server(folder, {"tasks": TASKS, **settings}, does="work")
    try:
        worker.wait_for_line("running jobs with")
        yield worker
        if not worker.told_to_end:
            worker.signal(signal.SIGTERM)
        assert worker.wait() == 0, worker.said
        assert (worker.errors, worker.stderr) == ([], [])
    finally:
        worker.kill()


def test_it_runs_jobs_of_tasks_that_the_server_does_not_know(tmp_path: Path, store_url: str) -> None:
    with launch(tmp_path, {"engine": store_url, "tasks": ["examples.tasks"]}) as server:
        assert "unknown-task" in server.ask(post(submission("give", 1))).body.decode()
        with working(tmp_path, {"engine": store_url}) as worker:
            assert re.search(
                "running jobs with 32 workers and .* durability process", worker.wait_for_line("durability")
            )
            assert server.get(f"{server.run('give', 5)}/result").json == 5
            assert "give" in [task["name"] for task in server.get("/tasks").json["tasks"]]
            worker.signal(signal.SIGTERM)
            worker.wait_for_line("drained")


def test_a_drain_leaves_its_jobs_to_others(tmp_path: Path, store_url: str) -> None:
    gate = Gate(tmp_path / "gate")
    with launch(tmp_path, {"engine": store_url, "tasks": ["examples.tasks"]}) as server:
        with working(tmp_path, {"engine": store_url, "drain_timeout": 0.2}) as worker:
            wait_until(lambda: server.get("/tasks/until_file").status, lambda status: status == 200)
            job = server.submit("until_file", gate.path)
            server.wait_for(job, "running")
            worker.signal(signal.SIGTERM)
            worker.wait_for_line("drained: 1 jobs that still run are left to other nodes")
        assert server.head(job)["job-state"] == "queued"
        gate.open()
        with working(tmp_path, {"engine": store_url}):
            server.wait_for(job, "succeeded")
            assert server.get(job).json["attempt"] == 1


def test_sighup_deploys(tmp_path: Path, store_url: str) -> None:
    with launch(tmp_path, {"engine": store_url}) as server, working(tmp_path, {"engine": store_url}) as worker:
        worker.process.send_signal(signal.SIGHUP)
        worker.wait_for_line("deployed: no job was begun here for")
        assert server.get(f"{server.run('give', 6)}/result").json == 6


def test_systemd_is_told(tmp_path: Path, store_url: str) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told:
        told.bind(str(tmp_path / "notify"))
        told.settimeout(20)
        os.environ["NOTIFY_SOCKET"] = str(tmp_path / "notify")
        try:
            with working(tmp_path, {"engine": store_url}):
                assert told.recv(1000) == b"READY=1\nSTATUS=running jobs"
        finally:
            del os.environ["NOTIFY_SOCKET"]
        assert told.recv(1000) == b"STOPPING=1\nSTATUS=draining"
