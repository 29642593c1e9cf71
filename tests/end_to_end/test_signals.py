"""SIGTERM and SIGINT drain; a second signal ends at once."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator

import pytest

from tests.conftest import Start
from tests.end_to_end.process import Gate, Server, launch, wait_until
from tests.protocol.wire import post, request, submission

BOTH = pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
NOTHING = submission("nothing")


def drain(server: Server, number: int = signal.SIGTERM) -> None:
    """Send the signal and wait until the server knows."""
    server.signal(number)
    server.wait_for_line("draining")


@BOTH
def test_server_with_nothing_to_do_ends_at_once(start: Start, number: int) -> None:
    server = start()
    server.run("nothing")
    with server.wire() as idle:
        assert idle.still_serves()
        begin = time.monotonic()
        server.signal(number)
        assert server.wait() == 0
        assert time.monotonic() - begin < 5
        idle.read_end()


def test_a_job_that_has_just_finished_can_be_read_for_drain_linger(start: Start) -> None:
    """Its client was told to come back, and does so after the signal."""
    server = start(drain_linger=2)
    path = server.run("give", 5)
    ended = time.monotonic()
    server.signal(signal.SIGTERM)
    server.wait_for_line("draining: 0 jobs")
    time.sleep(0.5)
    assert server.head(path)["job-state"] == "succeeded"
    assert server.get(f"{path}/result").json == 5
    assert server.wait() == 0
    assert time.monotonic() - ended > 1.8


def test_a_server_that_had_no_job_of_late_does_not_linger(start: Start) -> None:
    server = start(drain_linger=100)
    begin = time.monotonic()
    server.signal(signal.SIGTERM)
    assert server.wait() == 0
    assert time.monotonic() - begin < 50


@BOTH
def test_drain(start: Start, gate: Gate, number: int) -> None:
    server = start(workers=1, drain_linger=0.5, journal__path=None)
    running, waiting = server.submit("until_file", gate.path), server.submit("give", 5)
    scheduled, over = server.submit("nothing", delay=0.5), server.submit("nothing", delay=1000)
    server.delete(over)
    server.wait_for(running, "running")
    with server.wire() as kept:
        assert kept.still_serves()
        drain(server, number)
        assert kept.ask(request("GET", "/readyz")).status == 503
        assert kept.ask(request("GET", "/readyz")).body == b"draining\n"
        assert kept.ask(request("GET", "/healthz")).status == 200
        states = [kept.ask(request("HEAD", path))["job-state"] for path in (running, waiting, over)]
        assert states == ["running", "queued", "cancelled"]
        assert server.get(running).json["state"] == "running"
        assert server.stats()["draining"] is True
        gate.open()
        for path in (running, waiting, scheduled):
            server.wait_for(path, "succeeded")
        assert server.get(waiting + "/result").json == 5
        assert server.wait() == 0


@pytest.fixture(scope="module")
def draining(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that waits for a last job."""
    folder = tmp_path_factory.mktemp("draining")
    gate = Gate(folder / "gate")
    with launch(folder, {}) as server:
        server.submit("until_file", gate.path)
        drain(server)
        yield server
        gate.open()


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param(post(NOTHING), id="kept"),
        pytest.param(post(NOTHING, "Connection: close"), id="closing"),
        pytest.param(post(NOTHING, version="1.0"), id="1.0"),
        pytest.param(post(NOTHING, "Connection: keep-alive", version="1.0"), id="1.0-kept"),
        pytest.param(post(NOTHING) + post(NOTHING, "Expect: 100-continue"), id="pipelined"),
        pytest.param(post(NOTHING, "Prefer: return=minimal"), id="minimal"),
        pytest.param(post(NOTHING, "Expect: 100-continue").partition(b"{")[0], id="instead-of-100"),
    ],
)
def test_submission_while_draining_is_503_and_closes(draining: Server, sent: bytes) -> None:
    with draining.wire() as wire:
        answer = wire.ask(sent)
        assert (answer.status, answer["connection"]) == (503, "close")
        assert answer["content-type"] == "application/problem+json"
        assert "job-state" not in answer.headers
        wire.read_end()
    assert draining.stats()["rejections"]["draining"] >= 1


def test_cancel_of_the_last_job_ends_the_drain(start: Start, gate: Gate) -> None:
    server = start()
    path = server.submit("until_file", gate.path)
    drain(server)
    assert server.delete(path).status == 202
    assert server.wait() == 0


def test_jobs_are_lost_when_drain_timeout_is_over(start: Start, gate: Gate) -> None:
    server = start(exit_code=1, journal__path=None, drain_timeout=0.2, workers=1)
    for _ in range(3):
        server.submit("until_file", gate.path)
    server.expected_errors.append("3 jobs are lost")
    server.signal(signal.SIGTERM)
    assert server.wait() == 1
    assert server.wait_for_line("drain_timeout is over: 3 jobs are lost")


@pytest.mark.parametrize("task", ["thread_until_file", "never_cancelled"])
def test_task_that_does_not_stop_does_not_keep_the_process(start: Start, gate: Gate, task: str) -> None:
    server = start(exit_code=1, journal__path=None, drain_timeout=0.2)
    server.wait_for(server.submit(task, gate.path), "running")
    server.expected_errors.append("1 jobs are lost")
    server.signal(signal.SIGTERM)
    begin = time.monotonic()
    assert server.wait() == 1
    assert time.monotonic() - begin < 10


def test_tasks_that_were_given_up_do_not_keep_the_process(start: Start, gate: Gate) -> None:
    server = start()
    server.expected_errors.append("ignored its cancellation")
    for task in ("thread_until_file", "never_cancelled"):
        path = server.submit(task, gate.path, timeout=0.05)
        assert server.wait_for(path, "failed")["job-reason"] == "timeout"
    server.signal(signal.SIGTERM)
    assert server.wait() == 0


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (signal.SIGTERM, signal.SIGINT),
        (signal.SIGINT, signal.SIGTERM),
    ],
)
def test_second_signal_ends_at_once(start: Start, gate: Gate, first: int, second: int) -> None:
    server = start(exit_code=128 + second)
    server.wait_for(server.submit("thread_until_file", gate.path), "running")
    drain(server, first)
    wait_until(lambda: server.repeat(second), bool)
    assert server.wait() == 128 + second
    assert server.wait_for_line("second signal")


def test_signal_that_comes_twice_at_once_is_one(start: Start, gate: Gate) -> None:
    """As Ctrl-C does, where make or a shell passes on what the terminal has sent to all."""
    server = start()
    path = server.submit("until_file", gate.path)
    server.signal(signal.SIGINT)
    server.signal(signal.SIGINT)
    server.wait_for_line("draining")
    assert server.head(path).status == 202
    gate.open()
    assert server.wait() == 0
