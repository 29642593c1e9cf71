"""Tasks that do what ends a program, or a loop: it ends their own attempt only."""

import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import Start
from tests.end_to_end.process import Gate, Server, launch, wait_until

# What the server logs as an error while it goes on.
LOGGED = ["a job stopped the event loop", "Exception in callback", "Task exception was never retrieved"]


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server on which a job with tasks of its own runs beside all others, to the end."""
    folder = tmp_path_factory.mktemp("hostile")
    gate = Gate(folder / "gate")
    with launch(folder, {"workers": 4, "jobs__backoff": 0.01, "jobs__backoff_max": 0.02}) as server:
        server.expected_errors += LOGGED
        innocent = server.submit("with_children", gate.path)
        yield server
        assert server.head(innocent)["job-state"] == "running"
        gate.open()
        assert server.wait_for(innocent, "succeeded", "failed")["job-state"] == "succeeded"


def goes_on(server: Server) -> None:
    """Another job is run, in each lane, and the process is the same."""
    assert server.head(server.run("give", 1))["job-state"] == "succeeded"
    assert server.process.poll() is None


@pytest.mark.parametrize(
    ("how", "ends", "said"),
    [
        ("wait_for", "failed", "SystemExit: 5"),
        ("gather", "failed", "SystemExit: 5"),
        # A task group passes on what ends a program as it is.
        ("group", "failed", "SystemExit: 5"),
        ("to_thread", "failed", "SystemExit: 5"),
        ("close generator", "failed", "GeneratorExit"),
        ("forgotten", "succeeded", ""),
        ("callback", "succeeded", ""),
        ("later", "succeeded", ""),
        ("done callback", "succeeded", ""),
    ],
)
def test_what_ends_a_program_ends_its_attempt_only(hostile: Server, how: str, ends: str, said: str) -> None:
    path = hostile.run("end_the_program", how)
    answer = hostile.get(path)
    assert answer["job-state"] == ends
    if ends == "failed":
        assert answer["job-reason"] == "error"
        assert said in answer.json["detail"]
    goes_on(hostile)


@pytest.mark.parametrize(
    "how",
    [
        "stop",
        "close",
        "run",
        "task factory",
        "exception handler",
        "executor",
        "end executor",
        "generators",
        "signal",
        "no signal",
    ],
)
def test_a_job_cannot_change_the_loop_for_others(hostile: Server, how: str) -> None:
    answer = hostile.get(hostile.run("touch_the_loop", how))
    assert (answer["job-state"], answer["job-reason"]) == ("failed", "error")
    assert "RuntimeError: " in answer.json["detail"]
    goes_on(hostile)


@pytest.mark.parametrize("task", ["stop_the_loop_of_old", "stop_the_loop_from_a_thread"])
def test_a_loop_that_was_stopped_goes_on(hostile: Server, task: str) -> None:
    assert hostile.head(hostile.run(task))["job-state"] == "succeeded"
    goes_on(hostile)


def test_who_cancels_all_tasks_finds_none(hostile: Server) -> None:
    assert hostile.get(hostile.run("cancel_all") + "/result").body == b"0"
    goes_on(hostile)


def test_a_job_that_signals_the_server_asks_for_what_the_signal_says(start: Start) -> None:
    server = start()
    server.told_to_end = True
    path = server.submit("signal_the_server", signal.SIGTERM.value)
    assert path
    assert server.wait() == 0
    server.wait_for_line("draining")
    server.wait_for_line("drained")


def test_a_long_error_is_cut_in_the_log_as_it_is_kept(start: Start) -> None:
    server = start(jobs__backoff=0.001, jobs__backoff_max=0.001)
    path = server.run("fail_at_length", 300_000, retries=20)
    assert server.head(path)["job-attempt"] == "21"
    wait_until(lambda: sum("attempt 21" in line for line in server.said), lambda found: found == 1)
    assert sum(map(len, server.said)) < 1_000_000


def test_an_error_with_a_lone_surrogate_has_its_line(hostile: Server) -> None:
    hostile.run("fail_with_surrogate")
    line = hostile.wait_for_line("RuntimeError: file . here")
    assert re.search(r"the \\+udcff cause", line)
    # ``launch`` sees that nothing is on stderr.


def test_the_journal_goes_on_beside_hostile_tasks(start: Start, tmp_path: Path) -> None:
    server = start(journal__path=str(tmp_path / "hostile.db"))
    server.expected_errors += LOGGED
    for how in ("wait_for", "forgotten", "callback"):
        server.run("end_the_program", how)
    assert server.get(server.run("cancel_all") + "/result").body == b"0"
    assert server.head(server.run("give", 1))["job-state"] == "succeeded"
    assert server.process.poll() is None


@pytest.mark.long
def test_who_keeps_all_threads_of_to_thread_keeps_none_of_the_server(start: Start, gate: Gate, tmp_path: Path) -> None:
    server = start(journal__path=str(tmp_path / "kept.db"))
    for _ in range(2):
        server.run("keep_all_threads", gate.path)
        assert "not deployed" not in server.deploy()
    server.run("keep_all_threads", gate.path)
    # ``launch`` sees that it ends.
