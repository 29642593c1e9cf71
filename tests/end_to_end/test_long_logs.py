"""A job that logs without end: it comes to its end, and takes neither the memory nor the time of the server."""

from __future__ import annotations

import time

import pytest

from tests.conftest import Start
from tests.end_to_end.process import wait_until
from tests.protocol.wire import request

# Logs of megabytes take their time.
pytestmark = pytest.mark.long

# Megabytes that the server may grow by: logs, notes under way, and what an allocator keeps.
GROWTH_MB = 24
HALF = 32 << 10
TASKS = ["print_megabytes", "log_megabytes_in_a_process", "log_megabytes_in_a_thread"]


def numbered(number: int) -> bytes:
    """Return the text that the tasks log for each megabyte."""
    return b"%9d" % number + b"x" * ((1 << 20) - 19) + b"%9d\n" % number


def check(start: Start, task: str, megabytes: int, journal: bool) -> None:
    server = start(tasks=["tests.end_to_end.tasks_that_print"], **({"journal__path": "jobs"} if journal else {}))
    wait_until(lambda: server.get("/readyz").status, lambda status: status == 200)
    server.run(task, 1)
    before, most, waits = server.resident_bytes, 0, []
    path = server.submit(task, megabytes)
    seen = 0
    with server.wire() as wire:
        while True:
            began = time.monotonic()
            state = wire.ask(request("HEAD", path))["job-state"]
            waits.append(time.monotonic() - began)
            most = max(most, server.resident_bytes)
            # No less than was shown before.
            length = int(wire.ask(request("HEAD", f"{path}/log"))["log-length"])
            assert length >= seen
            seen = length
            if state == "succeeded":
                break
            time.sleep(0.002)
    answer = server.get(f"{path}/log")
    assert answer["log-length"] == str(megabytes << 20)
    left_out = (megabytes << 20) - 2 * HALF
    assert (
        answer.body
        == numbered(0)[:HALF] + b"\n[... %d bytes left out ...]\n" % left_out + numbered(megabytes - 1)[-HALF:]
    )
    assert (most - before) >> 20 <= GROWTH_MB
    assert sorted(waits)[len(waits) // 2] < 0.05
    print(f"{task} {megabytes} MB: +{(most - before) >> 20} MB, polls {max(waits) * 1000:.1f} ms at most")


@pytest.mark.parametrize("journal", [False, True], ids=["memory", "journal"])
@pytest.mark.parametrize("task", TASKS)
def test_a_job_that_logs_20_megabytes(start: Start, task: str, journal: bool) -> None:
    check(start, task, 20, journal)


@pytest.mark.long
@pytest.mark.parametrize("journal", [False, True], ids=["memory", "journal"])
@pytest.mark.parametrize("task", TASKS)
def test_a_job_that_logs_a_gigabyte(start: Start, task: str, journal: bool) -> None:
    check(start, task, 1024, journal)
