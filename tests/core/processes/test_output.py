"""The output of a worker process: of which job it is, and the place of what is of none."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

import pytest
from headway.core.processes.outputs import LEFT_MOST
from headway.core.processes.pool import Processes
from headway.core.processes.stray import GATHER_S, STRAY_BYTES

from tests.core.processes.test_pool import alive, ask, linux_only, output, pool, run, until

POOL = "headway.core.processes.pool"
OUTSIDE, DYING = "wrote outside of jobs: ", "wrote before it ended: "


def told(caplog: pytest.LogCaptureFixture, what: str) -> list[str]:
    """Return the texts of processes that are in the log."""
    return [text.partition(what)[2] for text in caplog.messages if what in text]


@linux_only
@pytest.mark.parametrize("how", ["print", "stderr", "bytes", "timer", "nameless"])
def test_text_of_a_thread_is_not_in_the_log_of_the_next_job(how: str, caplog: pytest.LogCaptureFixture) -> None:
    async def test() -> None:
        async with pool(1) as processes:
            for _ in range(3):
                assert await output(processes, "leave", how) == b""
                assert await output(processes, "hear") == b"mine\nof my thread\n"
            await until(lambda: "".join(told(caplog, OUTSIDE)).count("stray") == 3)

    with caplog.at_level(logging.INFO, POOL):
        run(test)


@linux_only
@pytest.mark.parametrize("how", ["program", "daemon"])
def test_text_of_a_program_is_not_in_the_log_of_the_next_job(how: str, capfd: pytest.CaptureFixture[str]) -> None:
    async def test() -> None:
        async with pool(1) as processes:
            (pid,) = processes.pids
            for _ in range(3):
                assert await output(processes, "leave", how) == b""
                assert await output(processes, "hear") == b"mine\nof my thread\n"
            assert processes.pids == [pid]

    run(test)
    assert capfd.readouterr() == ("", "")


@linux_only
def test_a_log_record_of_a_thread_is_not_of_the_next_job(caplog: pytest.LogCaptureFixture) -> None:
    async def test() -> None:
        async with pool(1) as processes:
            await ask(processes, "leave", "log")
            await ask(processes, "hear")

    run(test)
    (record,) = [record for record in caplog.records if record.name == "left"]
    assert not hasattr(record, "job")


@linux_only
def test_a_process_with_too_many_programs_left_behind_is_replaced() -> None:
    async def test() -> None:
        async with pool(1) as processes:
            (pid,) = processes.pids
            for _ in range(LEFT_MOST + 1):
                assert alive(pid)
                await ask(processes, "leave", "program")
            await until(lambda: not alive(pid))
            assert (processes.recycled, processes.restarts) == (1, 0)

    run(test)


@linux_only
def test_a_thread_that_writes_without_end_leaves_a_few_bounded_lines(
    capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    async def test() -> None:
        async with pool(1) as processes:
            await ask(processes, "leave_a_flood")
            await until(lambda: bool(told(caplog, OUTSIDE)), GATHER_S + 5)
            # The bound doubles, so one record at most comes in this time.
            await asyncio.sleep(GATHER_S)

    with caplog.at_level(logging.INFO, POOL):
        run(test)
    lines = told(caplog, OUTSIDE)
    assert 1 <= len(lines) <= 2
    assert all(len(line) < STRAY_BYTES + 100 and "bytes left out" in line for line in lines)
    assert capfd.readouterr() == ("", "")


async def started(condition: Callable[[], bool]) -> None:
    processes = Processes(
        1, ["tests.core.processes.tasks_that_print"], max_jobs=0, max_memory_bytes=0, result_bytes=1000
    )
    processes.start()
    try:
        await until(condition)
    finally:
        await processes.stop()


@linux_only
def test_text_of_an_import_is_in_the_log_of_the_server(
    capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, POOL):
        run(lambda: started(lambda: bool(told(caplog, OUTSIDE))))
    assert told(caplog, OUTSIDE) == ["imported\nby os.write"]
    assert capfd.readouterr() == ("", "")


@linux_only
def test_the_last_text_of_a_process_that_cannot_start_is_a_warning_once(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEADWAY_TEST_END", "1")
    starts = "cannot start: was killed by SIGABRT"

    async def test() -> None:
        await started(lambda: any(starts in text for text in caplog.messages))
        await asyncio.sleep(0.5)

    with caplog.at_level(logging.INFO, POOL):
        run(test)
    (text,) = told(caplog, DYING)
    assert text.endswith("by os.write")
