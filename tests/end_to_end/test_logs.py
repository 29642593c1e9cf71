"""The log of a server: what tasks do to it, and what it costs when nobody reads it."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Start
from tests.end_to_end.process import Server, environment, wait_until

TASKS = ["examples.tasks", "tests.end_to_end.tasks_for_tests", "tests.end_to_end.tasks_that_fork"]


def lines(server: Server, text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in server.said if text in line]


def test_logs_of_worker_processes_are_those_of_the_server(start: Start) -> None:
    server = start(tasks=TASKS, processes=1, log__level="info", jobs__retries=0)
    path = server.run("logs_in_process", "told")
    server.expected_errors += ["told at ERROR", "caught"]
    server.wait_for_line("caught")
    told = lines(server, '"logger":"shop"')
    assert [(line["level"], line["message"]) for line in told] == [
        ("info", "told at INFO"),
        ("error", "told at ERROR"),
        ("error", "caught"),
    ]
    of = {"job": path.removeprefix("/jobs/"), "task": "logs_in_process", "attempt": 1}
    assert all(line.items() >= of.items() for line in told)
    assert told[2]["exception"].endswith("ValueError: caf\\udce9")


@pytest.mark.long
def test_a_flood_of_a_worker_process_holds_nobody(start: Start) -> None:
    server = start(tasks=TASKS, processes=2, jobs__run_in="process")
    paths = [server.submit("logs", 8000) for _ in range(2)]
    slowest = 0.0
    with server.wire() as wire:
        while True:
            began = time.perf_counter()
            assert wire.still_serves()
            slowest = max(slowest, time.perf_counter() - began)
            if all(server.head(path)["job-state"] == "succeeded" for path in paths):
                break
            time.sleep(0.01)
    assert slowest < 0.5
    # None of it was lost, since who logs waits.
    assert len(wait_until(lambda: lines(server, '"logger":"shop"'), lambda told: len(told) == 16_000)) == 16_000


def test_a_task_that_configures_logging_does_not_silence_the_server(start: Start) -> None:
    server = start(tasks=TASKS, processes=1)
    for how in ("dictConfig", "basicConfig", "disable", "shutdown", "close"):
        server.run("configures_logging", how)
        said = len(server.said)
        server.run("fail", {"message": f"after {how}"}, retries=0)
        server.wait_for_line(f"after {how}", said)
        server.run("crash", retries=0)
        server.wait_for_line("replacing it", said)
    server.signal(signal.SIGTERM)
    assert server.wait() == 0
    assert server.wait_for_line("drained")


def test_a_task_module_that_configures_logging_does_not_silence_the_server(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEST_DICT_CONFIG", "1")
    server = start(tasks=TASKS)
    server.run("fail", {"message": "after that"}, retries=0)
    assert '"level":"warning"' in server.wait_for_line("after that")


def test_what_nobody_can_catch_is_a_line_of_the_log(start: Start) -> None:
    server = start(tasks=TASKS)
    server.expected_errors.append("in a finalizer")
    server.run("warns")
    assert "RuntimeError: in a finalizer" in json.loads(server.wait_for_line("in a finalizer"))["exception"]


# Logs that nobody takes.


@contextmanager
def unread(folder: Path, command: str, **more: Any) -> Iterator[Server]:
    """Serve by a shell command whose log is not read; that it serves is heard from what systemd is told."""
    settings = {"server__port": 0, "tasks": TASKS, "log__access": True, "drain_linger": 0, "drain_timeout": 0.2}
    address = folder / "notify"
    own = environment(settings | more.pop("settings", {})) | {"NOTIFY_SOCKET": str(address)}
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(address))
        systemd.settimeout(15)
        with subprocess.Popen(["sh", "-c", command], cwd=folder, env=own, **more) as process:
            try:
                yield Server.of(process, int(systemd.recv(1000).decode().rpartition(":")[2]))
            finally:
                process.kill()


SERVE = f"exec {sys.executable} -m headway serve"


@pytest.mark.long
@pytest.mark.parametrize("task", ["logs", "prints"])
@pytest.mark.parametrize("journal", [False, True])
def test_a_stdout_that_nobody_reads_stops_nobody(tmp_path: Path, task: str, journal: bool) -> None:
    """Neither logs nor what a thread prints: 10 MB, and a pipe holds 64 KB."""
    settings = {"journal__path": str(tmp_path / "journal.db")} if journal else {"journal__path": None}
    pipe = subprocess.PIPE
    with unread(tmp_path, SERVE, settings=settings, stdout=pipe, stderr=subprocess.STDOUT) as server:
        path = server.submit(task, 10_000)
        for _ in range(500):
            assert server.get("/healthz").status == 200
        if task == "logs":
            server.wait_for(path, "succeeded")
        server.process.send_signal(signal.SIGTERM)
        # Who prints there waits, so its job is lost where there is no journal.
        assert server.process.wait(15) == (0 if task == "logs" or journal else 1)


@pytest.mark.parametrize(
    "command",
    [
        pytest.param(f"{SERVE} >&-", marks=pytest.mark.long),
        pytest.param(f"{SERVE} >&- 2>&-", marks=pytest.mark.long),
        f"{SERVE} <&- >&- 2>&-",
        f"{SERVE} >/dev/full",
    ],
)
def test_a_stdout_that_is_closed_or_full_stops_nobody(tmp_path: Path, command: str) -> None:
    with unread(tmp_path, command) as server:
        server.run("logs", 1000)
        server.run("fail", {"message": "nobody hears of it"}, retries=0)
        assert server.head(server.run("pid_in_process"))["job-state"] == "succeeded"
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(15) == 0


# What is registered with atexit.


def at_exit(folder: Path) -> list[int]:
    """The ids of the processes whose handlers have run."""
    return [int(path.name.partition("-")[2]) for path in folder.glob("flushed-*")]


def test_handlers_of_atexit_run_at_an_end_and_at_a_deploy(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEST_AT_EXIT", str(tmp_path / "flushed"))
    server = start(tasks=TASKS, processes=1)
    wait_until(lambda: server.get("/readyz").status, lambda status: status == 200)
    worker = server.get(server.run("pid_in_process") + "/result").json
    server.deploy()
    # And in the program that looked whether the new one would start.
    assert set(at_exit(tmp_path)) > {server.process.pid, worker}
    for pid in at_exit(tmp_path):
        (tmp_path / f"flushed-{pid}").unlink()
    server.signal(signal.SIGTERM)
    assert server.wait() == 0
    assert server.process.pid in at_exit(tmp_path)


@pytest.mark.long
def test_a_handler_of_atexit_that_hangs_is_given_up(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEST_AT_EXIT", str(tmp_path / "flushed"))
    monkeypatch.setenv("TEST_AT_EXIT_HANGS", "1")
    server = start(tasks=TASKS)
    server.deploy()
    began = time.monotonic()
    server.signal(signal.SIGTERM)
    assert server.wait() == 0
    assert 1 < time.monotonic() - began < 8
    # Those that were registered later have run.
    assert server.process.pid in at_exit(tmp_path)


def test_a_second_signal_does_not_wait_for_atexit(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEST_AT_EXIT", str(tmp_path / "flushed"))
    monkeypatch.setenv("TEST_AT_EXIT_HANGS", "1")
    server = start(tasks=TASKS, exit_code=128 + signal.SIGTERM)
    server.signal(signal.SIGTERM)
    wait_until(lambda: at_exit(tmp_path), bool)
    # Sooner it would be taken for the first, come by another way.
    time.sleep(0.1)
    began = time.monotonic()
    server.signal(signal.SIGTERM)
    assert server.wait() == 128 + signal.SIGTERM
    assert time.monotonic() - began < 2
