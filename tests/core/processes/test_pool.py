"""Worker processes: the tasks that run in them, how they die, and that nobody else notices."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import uvloop
from headway.core.errors import InvalidPayloadError
from headway.core.processes.pool import FailedError, Processes
from headway.core.processes.process import CrashedError
from headway.core.tasks.result import Result, ResultError

TASKS = "tests.core.processes.tasks_in_processes"
PATIENCE_S = 15.0
# Seconds within which a process has to be replaced.
REPLACED_S = 1.0
RESULT_BYTES = 100_000

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")


@asynccontextmanager
async def pool(count: int = 2, max_jobs: int = 0, max_memory_bytes: int = 0, **more: int) -> AsyncIterator[Processes]:
    processes = Processes(
        count,
        [TASKS],
        max_jobs=max_jobs,
        max_memory_bytes=max_memory_bytes,
        result_bytes=more.get("result_bytes", RESULT_BYTES),
    )
    processes.start()
    try:
        await full(processes, PATIENCE_S)
        yield processes
    finally:
        pids = processes.pids
        await processes.stop()
        assert [pid for pid in pids if alive(pid)] == []


async def until(condition: Callable[[], bool], patience_s: float = PATIENCE_S) -> None:
    async with asyncio.timeout(patience_s):
        while not condition():  # noqa: ASYNC110 — the condition is seen from outside, as by a client
            await asyncio.sleep(0.002)


async def full(processes: Processes, within_s: float = REPLACED_S) -> None:
    await until(lambda: processes.up == processes.count, within_s)


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    # A process that is dead, and not reaped by its parent yet, counts as gone.
    stat = Path(f"/proc/{pid}/stat")
    return not stat.exists() or stat.read_text().rpartition(") ")[2][0] != "Z"


def ignore(_percent: int, _message: str) -> None:
    pass


async def ask(
    processes: Processes, task: str, payload: object = None, report: Callable[[int, str], None] = ignore
) -> Any:
    result = await processes.run(task, json.dumps(payload).encode(), "job", 1, report=report)
    return None if result is None else json.loads(result.body)


async def outcome(processes: Processes, task: str, payload: object = None) -> str:
    """How a run ends, in a word."""
    try:
        await ask(processes, task, payload)
    except (CrashedError, FailedError) as error:
        return type(error).__name__
    return "ok"


def run(test: Callable[[], Coroutine[Any, Any, None]], loop: Callable[..., None] = uvloop.run) -> None:
    loop(asyncio.wait_for(test(), 30))


def on_asyncio(main: Coroutine[Any, Any, None]) -> None:
    asyncio.run(main)


# Calls and their answers.


@pytest.mark.parametrize("loop", [uvloop.run, on_asyncio], ids=["uvloop", "asyncio"])
def test_results_come_back_as_bytes(loop: Callable[..., None]) -> None:
    async def test() -> None:
        async with pool(result_bytes=2 << 20) as processes:
            assert await ask(processes, "give", {"a": [1, None]}) == {"a": [1, None]}
            assert await processes.run("give", b"null", "job", 1, report=ignore) is None
            picture = await processes.run("picture", b'"<svg/>"', "job", 1, report=ignore)
            assert isinstance(picture, Result)
            assert (picture.body, picture.media_type) == (b"<svg/>", "image/svg+xml")
            # More than a pipe holds, either way.
            assert await ask(processes, "give", "x" * 1_500_000) == "x" * 1_500_000
            note = await processes.run("note", b"null", "some id", 7, report=ignore)
            assert note is not None
            assert json.loads(note.body) == ["some id", 7, False]
            await asyncio.gather(outcome(processes, "die", "exit"), ask(processes, "nap", 0.01))
            await full(processes)
            assert await ask(processes, "give", 1) == 1

    run(test, loop)


def test_runs_wait_for_a_process_and_use_all() -> None:
    async def test() -> None:
        async with pool(3) as processes:
            pids = await asyncio.gather(*(ask(processes, "nap", 0.01) for _ in range(30)))
            assert set(pids) == set(processes.pids)
            assert os.getpid() not in pids

    run(test)


def test_progress_is_coalesced_and_the_last_is_not_lost(tmp_path: Path) -> None:
    async def test() -> None:
        async with pool(1) as processes:
            seen: list[int] = []
            began = time.monotonic()
            going = asyncio.create_task(
                ask(processes, "report", str(tmp_path / "gate"), lambda percent, _: seen.append(percent))
            )
            await until(lambda: seen[-1:] == [42])
            # 20,001 were reported. At most 20 a second are sent.
            assert len(seen) <= 3 + 25 * (time.monotonic() - began)
            (tmp_path / "gate").touch()
            await going
            count = len(seen)
            assert await ask(processes, "give", 1) == 1
            assert len(seen) == count

    run(test)


# The faults of a task are failures of its own.


RAISED = {
    "value": "ValueError: no such luck",
    "exit": "SystemExit: 3",
    "interrupt": "KeyboardInterrupt: ",
    "stop": "StopIteration: ",
    "base": "BaseException: base",
    "unprintable": "UnprintableError (its text cannot be read: RuntimeError)",
}


def test_whatever_is_raised_fails_the_job_and_the_process_lives() -> None:
    async def test() -> None:
        async with pool(1) as processes:
            before = processes.pids
            for how, text in RAISED.items():
                with pytest.raises(FailedError) as failed:
                    await ask(processes, "fail", how)
                assert str(failed.value) == text
                # The task is registered with retry_on=ValueError.
                assert failed.value.failure.may_retry == (how == "value")
                assert how == "unprintable" or "tasks_in_processes.py" in failed.value.failure.traceback
                assert "child.py" not in failed.value.failure.traceback
                assert await ask(processes, "pid") == before[0]

    run(test)


def test_what_is_no_result_what_is_to_be_tried_again_and_what_is_no_task() -> None:
    async def test() -> None:
        async with pool(1) as processes:
            with pytest.raises(ResultError, match="returned object, which is not JSON"):
                await ask(processes, "fail", "object")
            with pytest.raises(ResultError, match="returned 200000 bytes"):
                await ask(processes, "fail", "large")
            with pytest.raises(FailedError) as failed:
                await ask(processes, "fail", "retry")
            assert (failed.value.failure.may_retry, failed.value.failure.retry_delay) == (True, 2.5)
            with pytest.raises(FailedError) as failed:
                await ask(processes, "fail", "snooze")
            assert failed.value.failure.snooze_s == 2.5
            with pytest.raises(FailedError, match="has no task 'unheard of'"):
                await ask(processes, "unheard of")
            assert processes.restarts == 0

    run(test)


def test_a_payload_is_decoded_as_the_type_where_it_is_used() -> None:
    async def test() -> None:
        async with pool(1) as processes:
            assert await ask(processes, "typed", {"size": 3}) == {"size": 4}
            # It fitted when it was submitted: the task has changed.
            with pytest.raises(InvalidPayloadError, match=r"^payload\.size: Expected `int`, got `str`$"):
                await ask(processes, "typed", {"size": "x"})
            assert await ask(processes, "typed", {"size": 4}) == {"size": 5}
            assert processes.restarts == 0

    run(test)


WITHIN = "tests.core.processes.tasks_within"
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def within(count: int = 1) -> Processes:
    return Processes(count, [WITHIN], max_jobs=0, max_memory_bytes=0, result_bytes=RESULT_BYTES)


def test_a_lifespan_and_context_managers_are_around_the_tasks_of_a_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    notes = tmp_path / "notes"
    monkeypatch.setenv("HEADWAY_TEST_NOTES", str(notes))

    async def test() -> None:
        processes = within(2)
        processes.start()
        await until(lambda: processes.up == 2)
        pids = processes.pids
        for _ in range(2):
            answer = await processes.run("tell", b"null", "job", 1, report=ignore, traceparent=TRACE)
            assert answer is not None
            # Nothing is left of the first in the second.
            assert json.loads(answer.body) == ["outer inner", "tell", TRACE]
        with pytest.raises(FailedError, match=r"^LookupError: outer saw no$"):
            await ask(processes, "fail")
        first = await ask(processes, "turns", 0)
        assert await ask(processes, "turns", 0) > 0
        assert first > 0
        assert sorted(notes.read_text().split()[1::2]) == sorted(map(str, pids))
        await processes.stop()
        assert sorted(notes.read_text().split("\n")[2:-1]) == sorted(f"ends {pid}" for pid in pids)

    run(test)


def test_a_process_with_a_lifespan_that_raises_does_not_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("HEADWAY_TEST_NOTES", str(tmp_path / "notes"))
    (tmp_path / "notes.broken").touch()

    async def test() -> None:
        processes = within()
        processes.start()
        await until(lambda: "cannot start" in caplog.text)
        assert re.search(r"@lifespan: life \(.*\) raised ConnectionError: no database", caplog.text)
        (tmp_path / "notes.broken").unlink()
        assert await ask(processes, "turns", 0) > 0
        await processes.stop()

    run(test)


async def output(processes: Processes, task: str, payload: object = None) -> bytes:
    """Run a task, and return all that its process has printed meanwhile."""
    said = bytearray()
    await processes.run(task, json.dumps(payload).encode(), "job", 1, report=ignore, write=said.extend)
    return bytes(said)


@linux_only
def test_output_of_a_job_comes_before_its_end_and_is_of_no_other(capfd: pytest.CaptureFixture[str]) -> None:
    async def test() -> None:
        async with pool(1) as processes:
            for _ in range(20):
                # Part of a line, bytes that are no text, a program, ``context.log``, stderr, and C.
                assert await output(processes, "speak") == b"half\xff\x1b[0m program\nlogged\nerror in C"
                assert await output(processes, "give", 1) == b""
            assert await output(processes, "noise") == b"printed\nwritten\n"
            # It has closed its stdout.
            assert await output(processes, "mute") == b""
            assert await output(processes, "speak") == b"half\xff\x1b[0m program\nlogged\nerror in C"

    run(test)
    assert capfd.readouterr() == ("", "")


@linux_only
def test_output_of_a_task_that_dies_or_is_killed_is_kept() -> None:
    async def test() -> None:
        async with pool(1) as processes:
            said = bytearray()
            with pytest.raises(CrashedError):
                await processes.run("last_words", b'"die"', "job", 1, report=ignore, write=said.extend)
            assert said == b"last words\n"
            said.clear()
            going = asyncio.create_task(
                processes.run("last_words", b'"hang"', "job", 1, report=ignore, write=said.extend)
            )
            await until(lambda: said.endswith(b"\n"))
            going.cancel()
            await asyncio.wait([going])
            await asyncio.sleep(0.1)
            assert said == b"last words\n"

    run(test)


@linux_only
def test_a_task_that_prints_without_end_takes_a_share_of_the_loop() -> None:
    """And a program that goes on printing after its job disturbs nobody."""

    async def test() -> None:
        async with pool(1) as processes:
            count, longest = 0, 0.0

            def write(text: bytes) -> None:
                nonlocal count
                count += len(text)

            going = asyncio.create_task(processes.run("flood", b"200", "job", 1, report=ignore, write=write))
            while not going.done():
                began = time.monotonic()
                await asyncio.sleep(0.001)
                longest = max(longest, time.monotonic() - began)
            await going
            assert count == 200 << 20
            assert longest < 0.1
            assert await output(processes, "leave_a_program") == b""
            for _ in range(50):
                assert await ask(processes, "give", 1) == 1

    run(test)


# Processes die, and are replaced.


CRASHES = {
    "exit": "ended with exit code 3",
    "segfault": "was killed by SIGSEGV",
    "SIGKILL": "was killed by SIGKILL (was memory short?)",
    "SIGABRT": "was killed by SIGABRT",
    "closing": "has closed the server's pipe",
}
if sys.platform == "linux":
    CRASHES["garbage"] = "wrote no valid message to the server's pipe"


def test_a_crash_touches_its_own_job_only(tmp_path: Path) -> None:
    async def test() -> None:
        async with pool(2) as processes:
            for restarts, (how, text) in enumerate(CRASHES.items(), 1):
                before = processes.pids
                gate = tmp_path / how
                other = asyncio.create_task(ask(processes, "until_file", str(gate)))
                with pytest.raises(CrashedError) as crashed:
                    await ask(processes, "die", how)
                assert str(crashed.value).startswith(f"its worker process {text}")
                if how == "segfault":
                    assert "tasks_in_processes.py" in crashed.value.stack
                await full(processes)
                assert not other.done()
                gate.touch()
                await other
                assert processes.restarts == restarts
                assert len(set(before) & set(processes.pids)) == 1

    run(test)


@linux_only
def test_a_death_is_noticed_though_a_grandchild_holds_the_pipe(tmp_path: Path) -> None:
    async def test() -> None:
        async with pool(1) as processes:
            with pytest.raises(CrashedError, match="exit code 4"):
                await asyncio.wait_for(ask(processes, "orphan", str(tmp_path / "pid")), REPLACED_S)
            await full(processes)

    run(test)
    # It was in the process group of the one that died.
    assert not alive(int((tmp_path / "pid").read_text()))


def test_an_idle_process_that_dies_is_replaced() -> None:
    async def test() -> None:
        async with pool(2) as processes:
            victim = processes.pids[0]
            os.kill(victim, signal.SIGKILL)
            await until(lambda: victim not in processes.pids and processes.up == 2, REPLACED_S)
            assert processes.restarts == 1

    run(test)


def test_a_job_that_did_not_begin_does_not_pay_for_a_process_that_died_idle() -> None:
    async def test() -> None:
        async with pool(2) as processes:
            for _ in range(2):
                for pid in processes.pids:
                    os.kill(pid, signal.SIGKILL)
                # Sent to processes that are dead, which nobody has noticed yet.
                said = await asyncio.gather(*(outcome(processes, "give", "x" * size) for size in [9, 90_000] * 4))
                assert said == ["ok"] * 8
                await full(processes)
            assert processes.restarts == 4

    run(test)


def test_cancelling_kills_the_process_and_it_is_replaced(tmp_path: Path) -> None:
    async def test() -> None:
        async with pool(1) as processes:
            going = asyncio.create_task(ask(processes, "touch", str(tmp_path / "began")))
            await until(lambda: (tmp_path / "began").exists())
            waiting = asyncio.create_task(ask(processes, "give", 2))
            waits_in_vain = asyncio.create_task(ask(processes, "give", 3))
            await asyncio.sleep(0)
            # A run that only waits harms nobody.
            waits_in_vain.cancel()
            await asyncio.wait([waits_in_vain])
            assert not going.done()
            victim = processes.pids[0]
            going.cancel()
            await asyncio.wait([going])
            assert going.cancelled()
            assert await asyncio.wait_for(waiting, REPLACED_S) == 2
            await until(lambda: not alive(victim))
            assert (processes.killed, processes.restarts) == (1, 0)

    run(test)


def test_a_run_that_is_cancelled_as_it_gets_a_process_gives_it_back(tmp_path: Path) -> None:
    async def test() -> None:
        async with pool(1) as processes:
            before = processes.pids

            async def first() -> None:
                await ask(processes, "nap", 0.01)
                # By now the process was handed on, but the other has not come to take it.
                second.cancel()

            going = asyncio.create_task(first())
            await asyncio.sleep(0)
            second = asyncio.create_task(ask(processes, "touch", str(tmp_path / "began")))
            await asyncio.wait([going, second])
            assert second.cancelled()
            assert await ask(processes, "pid") == before[0]
            assert not (tmp_path / "began").exists()

    run(test)


@pytest.mark.long
@pytest.mark.parametrize("most", [50, 200])
def test_random_kills_under_load(most: int) -> None:
    async def test() -> None:
        dice = random.Random(4)
        async with pool(4) as processes:
            ends: Counter[str] = Counter()
            over = asyncio.Event()

            async def load() -> None:
                while not (over.is_set() or processes.stopping):
                    ends[await outcome(processes, "nap", 0.01)] += 1

            loads = [asyncio.create_task(load()) for _ in range(12)]
            kills = 0
            while kills < most:
                # Any that there is: idle, busy or starting.
                await until(lambda: processes.pids != [])
                os.kill(dice.choice(processes.pids), signal.SIGKILL)
                kills += 1
                await asyncio.sleep(dice.uniform(0, 0.04))
            await full(processes)
            before = ends["ok"]
            await until(lambda: ends["ok"] > before + 20)
            over.set()
            await asyncio.wait_for(asyncio.gather(*loads), PATIENCE_S)
            assert set(ends) == {"ok", "CrashedError"}
            assert 0 < ends["CrashedError"] <= kills
            assert len(processes.pids) == 4

    run(test)


@pytest.mark.parametrize("crashes", [5, pytest.param(50, marks=pytest.mark.long)])
def test_jobs_beside_jobs_that_segfault(crashes: int) -> None:
    async def test() -> None:
        async with pool(2) as processes:
            tasks = [("die", "segfault")] * crashes + [("give", "good")] * (100 * crashes)
            random.Random(4).shuffle(tasks)
            jobs = iter(tasks)
            ends: Counter[tuple[str, str]] = Counter()

            async def work() -> None:
                for task, payload in jobs:
                    ends[task, await outcome(processes, task, payload)] += 1

            await asyncio.gather(*(work() for _ in range(16)))
            assert ends == {("die", "CrashedError"): crashes, ("give", "ok"): 100 * crashes}
            await full(processes)
            assert processes.restarts == crashes

    run(test)


# Processes are recycled.


def test_a_process_does_max_jobs_and_no_more() -> None:
    async def test() -> None:
        async with pool(2, max_jobs=5) as processes:
            pids = Counter(await asyncio.gather(*(ask(processes, "nap", 0.01) for _ in range(30))))
            assert max(pids.values()) == 5
            assert len(pids) >= 6
            assert processes.recycled in {5, 6}
            assert processes.restarts == 0
            await full(processes)

    run(test)


def test_a_process_on_its_last_job_is_replaced_without_a_gap(tmp_path: Path) -> None:
    async def test() -> None:
        async with pool(1, max_jobs=1) as processes:
            going = asyncio.create_task(ask(processes, "until_file", str(tmp_path / "gate")))
            await until(lambda: "1 spare" in repr(processes))
            # It is ready, but has no place as long as the old one works.
            gate = tmp_path / "second gate"
            waiting = asyncio.create_task(ask(processes, "until_file", str(gate)))
            await asyncio.sleep(0.01)
            assert "0 idle, 1 spare; 1 runs wait" in repr(processes)
            (tmp_path / "gate").touch()
            await going
            assert "1 of 1 up, 0 idle, 0 spare; 0 runs wait" in repr(processes)
            gate.touch()
            await waiting

    run(test)


def test_a_process_that_has_grown_is_replaced_after_the_job() -> None:
    async def test() -> None:
        async with pool(1, max_memory_bytes=150 << 20) as processes:
            first = await ask(processes, "take", 1)
            assert await ask(processes, "take", 200) == first
            assert await ask(processes, "pid") != first
            assert (processes.recycled, processes.restarts) == (1, 0)
            await until(lambda: not alive(first))

    run(test)


@linux_only
def test_a_process_that_is_idle_keeps_nothing_of_its_last_job() -> None:
    """Neither payload nor result, nor an object that an error has kept in a cycle."""

    def megabytes(pid: int) -> int:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") >> 20

    async def test() -> None:
        async with pool(1, result_bytes=64 << 20) as processes:
            pid = await ask(processes, "pid")
            before = megabytes(pid)
            assert len(await ask(processes, "give", "x" * (40 << 20))) == 40 << 20
            assert await outcome(processes, "fail_with", 60) == "FailedError"
            await until(lambda: megabytes(pid) < before + 10, 3)

    run(test)


@pytest.mark.long
def test_a_flood_of_logs_is_read_as_fast_as_it_may_be_and_none_is_lost(caplog: pytest.LogCaptureFixture) -> None:
    async def test() -> None:
        async with pool(2) as processes:
            lags: list[float] = []

            async def watch() -> None:
                while True:
                    began = time.perf_counter()
                    await asyncio.sleep(0.001)
                    lags.append(time.perf_counter() - began)

            watching = asyncio.create_task(watch())
            await asyncio.gather(*(ask(processes, "log_lines", 5000) for _ in range(2)))
            watching.cancel()
            told = [record for record in caplog.records if record.name == "shop"]
            assert len(told) == 10_000
            assert {record.process for record in told} == set(processes.pids)
            assert {(record.job, record.task, record.attempt) for record in told} == {("job", "log_lines", 1)}  # type: ignore[attr-defined]
            # As a rule: others run beside this test.
            assert sorted(lags)[len(lags) // 2] < 0.01

    with caplog.at_level(logging.INFO):
        run(test)


def test_what_is_logged_below_the_level_is_not_sent(caplog: pytest.LogCaptureFixture) -> None:
    async def test() -> None:
        processes = Processes(1, [TASKS], max_jobs=0, max_memory_bytes=0, result_bytes=1000, log_level=logging.ERROR)
        processes.start()
        try:
            await ask(processes, "log_lines", 10)
        finally:
            await processes.stop()

    run(test)
    assert [record for record in caplog.records if record.name == "shop"] == []


# Things that processes share with us, and things that they do not.


@linux_only
def test_they_inherit_nothing_of_ours(tmp_path: Path) -> None:
    async def test() -> None:
        with (tmp_path / "journal").open("w") as journal:
            os.set_inheritable(journal.fileno(), True)
            async with pool(1) as processes:
                files = await ask(processes, "files")
                assert [name for name in files if "journal" in name] == []
                # The one by which it gets the pipes of its output.
                assert len([name for name in files if "socket" in name]) == 1
                assert os.getsid(processes.pids[0]) != os.getsid(0)

    run(test)


def test_signals_for_the_server_leave_them_alone(tmp_path: Path) -> None:
    async def test() -> None:
        async with pool(2) as processes:
            before = processes.pids
            going = asyncio.create_task(ask(processes, "until_file", str(tmp_path / "gate")))
            await asyncio.sleep(0.02)
            for pid in before:
                os.kill(pid, signal.SIGINT)
                os.kill(pid, signal.SIGTERM)
            (tmp_path / "gate").touch()
            assert await going is None
            assert processes.pids == before
            # A program that a task starts ends by SIGTERM as ever.
            assert await ask(processes, "fork") == signal.SIGTERM

    run(test)


PARENT = """
import asyncio, sys, uvloop
from headway.core.processes.pool import Processes

async def main():
    modules = ["tests.core.processes.tasks_in_processes"]
    processes = Processes(3, modules, max_jobs=0, max_memory_bytes=0, result_bytes=1000)
    processes.start()
    asyncio.get_running_loop().call_later(20, sys.exit)
    jobs = [processes.run(task, b'"' + sys.argv[i].encode() + b'"', "x", 1, report=print)
            for i, task in ((1, "touch"), (2, "hold_the_interpreter"))]
    while processes.up < 3:
        await asyncio.sleep(0.01)
    print(*processes.pids, flush=True)
    await asyncio.gather(*jobs)

uvloop.run(main())
"""


@linux_only
def test_they_end_with_the_server_however_it_ends(tmp_path: Path) -> None:
    marks = [tmp_path / "touch", tmp_path / "hold"]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[3])}
    command = [sys.executable, "-c", PARENT, *map(str, marks)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as server:
        assert server.stdout
        pids = [int(pid) for pid in server.stdout.readline().split()]
        assert len(pids) == 3

        async def test() -> None:
            await until(lambda: all(mark.exists() for mark in marks))
            server.kill()
            await until(lambda: not any(alive(pid) for pid in pids), 2.0)

        run(test)


@pytest.mark.long
def test_processes_that_cannot_start_are_told_of_once_and_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def test() -> None:
        broken = tmp_path / "broken"
        broken.touch()
        monkeypatch.setenv("HEADWAY_TEST_BROKEN", str(broken))
        processes = Processes(2, [TASKS], max_jobs=0, max_memory_bytes=0, result_bytes=1000)
        processes.start()
        try:
            await until(lambda: processes.restarts >= 3)
            # Twice at the start, and since then one at a time, ever later.
            assert (processes.up, processes.restarts) == (0, 3)
            errors = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
            assert len(errors) == 1
            assert "cannot start" in errors[0]
            assert "this module is broken on purpose" in errors[0]
            broken.unlink()
            await full(processes, PATIENCE_S)
            assert await ask(processes, "give", 1) == 1
        finally:
            await processes.stop()

    run(test)


def test_stop_ends_all_within_a_bound(tmp_path: Path) -> None:
    async def test() -> None:
        async with pool(2) as processes:
            runs = [asyncio.create_task(outcome(processes, "touch", str(tmp_path / f"{n}"))) for n in range(3)]
            await until(lambda: len(list(tmp_path.iterdir())) == 2)
            began = time.monotonic()
            await processes.stop()
            assert time.monotonic() - began < 1.0
            assert processes.pids == []
            assert await asyncio.gather(*runs) == ["CrashedError"] * 3
            assert await outcome(processes, "give", 1) == "CrashedError"

    run(test)
