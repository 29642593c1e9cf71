"""A person at a terminal, and a pipe: live displays, colours, Ctrl-C, a reader who goes."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.conftest import Start
from tests.end_to_end.process import Gate, Server, wait_until
from tests.headway.cli.conftest import Spawn, run
from tests.headway.client.answered import ID, answer
from tests.headway.client.test_logs import whole
from tests.protocol.wire import PATIENCE_S
from tests.sim.scripted import Scripted

pytestmark = pytest.mark.long

COLOUR = re.compile(rb"\x1b\[[0-9;]*3[0-9][0-9;]*m")
ALTERNATE_SCREEN = b"\x1b[?1049h"


class Screen:
    """The other side of a terminal."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.seen = b""

    def wait_for(self, pattern: bytes) -> None:
        """Read until ``pattern`` has been seen."""
        deadline = time.monotonic() + PATIENCE_S
        while not re.search(pattern, self.seen):
            assert time.monotonic() < deadline, self.seen
            if select.select([self.fd], [], [], 0.1)[0]:
                self.seen += os.read(self.fd, 65_536)


@contextmanager
def terminal() -> Iterator[tuple[Screen, int]]:
    """Make a terminal: its screen, and the descriptor for the program."""
    ours, theirs = pty.openpty()
    try:
        yield Screen(ours), theirs
    finally:
        os.close(ours)
        os.close(theirs)


@pytest.mark.parametrize("no_color", ["", "1"])
def test_top_is_live_until_ctrl_c(server: Server, spawn: Spawn, no_color: str) -> None:
    server.run("fail", {"message": "no"})
    with terminal() as (screen, fd):
        variables = {"NO_COLOR": no_color} if no_color else {}
        top = spawn(server.port, "top", "--interval", 0.1, stdout=fd, variables=variables)
        screen.wait_for(rb"jobs/s\S* +\S*0\.0 submitted")
        server.run("give", 1)
        screen.wait_for(rb"failing")
        top.send_signal(signal.SIGINT)
        assert top.wait(PATIENCE_S) == 130
        assert top.stderr is not None
        assert top.stderr.read() == b""
        assert ALTERNATE_SCREEN in screen.seen
        assert bool(COLOUR.search(screen.seen)) != bool(no_color)


def test_top_outlives_a_server_that_does_not_answer(start: Start, spawn: Spawn) -> None:
    server = start()
    with terminal() as (screen, fd):
        top = spawn(server.port, "top", "--interval", 0.1, "--patience", 0, stdout=fd)
        screen.wait_for(rb"0\.0 submitted")
        server.signal(signal.SIGTERM)
        screen.wait_for(rb"cannot reach|Server disconnected")
        assert top.poll() is None
        top.send_signal(signal.SIGINT)
        assert top.wait(PATIENCE_S) == 130


def test_top_without_a_terminal_has_no_colours(server: Server) -> None:
    server.run("fail", {"message": "no"})
    ran = run(server.port, "top", "--once", "--interval", 0.1)
    assert ran.code == 0
    assert "\x1b" not in ran.out
    for name in ("queue", "workers", "jobs/s", "ended", "run time", "clients", "results", "journal", "failing"):
        assert re.search(rf"^ *{name}  ", ran.out, re.MULTILINE), name
    (document,) = run(server.port, "top", "--once", "--interval", 0.1, "--json").documents
    assert document["rates"].keys() == {"submitted", "succeeded", "failed", "cancelled"}
    assert document["stats"]["workers"]["count"] == 32
    assert {"give", "fail"} <= {task["name"] for task in document["tasks"]}


def test_top_tells_rates(server: Server, spawn: Spawn) -> None:
    top = spawn(server.port, "top", "--interval", 0.2, "--json")
    assert top.stdout is not None
    json.loads(top.stdout.readline())
    for _ in range(5):
        server.run("give", 1)
    deadline = time.monotonic() + PATIENCE_S
    # The documents of several seconds: a job may be submitted in one and end in the next.
    seen = Counter[str]()
    while not {"submitted", "succeeded"} <= seen.keys():
        assert time.monotonic() < deadline
        seen += Counter(json.loads(top.stdout.readline())["rates"])
    top.send_signal(signal.SIGINT)
    assert top.wait(PATIENCE_S) == 130


def test_wait_has_a_bar_on_a_terminal_alone(server: Server, spawn: Spawn, gate: Gate) -> None:
    path = server.submit("report", {"percent": 42, "message": "[red]page 12", "path": gate.path})
    job_id = path.rpartition("/")[2]
    with terminal() as (screen, fd):
        wait = spawn(server.port, "wait", job_id, stderr=fd)
        screen.wait_for(rb"42/100\S* \S*running \[red\]page")
        gate.open()
        assert wait.wait(PATIENCE_S) == 0
        assert wait.stdout is not None
        assert wait.stdout.read().decode() == f"{job_id} succeeded\n"
    wait = spawn(server.port, "wait", job_id)
    assert wait.communicate(timeout=PATIENCE_S) == (f"{job_id} succeeded\n".encode(), b"")


def test_a_bar_counts_jobs(server: Server, spawn: Spawn, gate: Gate) -> None:
    ids = [server.submit("until_file", path).rpartition("/")[2] for path in ("/", gate.path)]
    with terminal() as (screen, fd):
        wait = spawn(server.port, "wait", *ids, stdout=fd, stderr=fd)
        screen.wait_for(rb"1/2")
        screen.wait_for(f"{ids[0]} succeeded".encode())
        gate.open()
        screen.wait_for(f"{ids[1]} succeeded".encode())
        assert wait.wait(PATIENCE_S) == 0


def test_lines_stand_above_a_bar(server: Server, spawn: Spawn) -> None:
    job_id = server.run("give", 1).rpartition("/")[2]
    with terminal() as (screen, fd):
        wait = spawn(server.port, "wait", job_id, "unknown", stdout=fd, stderr=fd)
        # Each begins where the bar was erased.
        screen.wait_for(rf"\x1b\[2K{job_id} succeeded\r\n".encode())
        screen.wait_for(rb"\x1b\[2Kheadway: job unknown: the server never issued this id[^\r]*\r\n")
        assert wait.wait(PATIENCE_S) == 4


def test_bytes_are_not_written_to_a_terminal(server: Server, spawn: Spawn) -> None:
    binary, document = (server.run(*job).rpartition("/")[2] for job in (("octets", 6), ("give", 1)))
    with terminal() as (screen, fd):
        result = spawn(server.port, "result", binary, stdout=fd)
        assert result.wait(PATIENCE_S) == 2
        assert result.stderr is not None
        assert result.stderr.read() == b"headway: the result is application/octet-stream: name a file with -o\n"
        assert spawn(server.port, "result", document, stdout=fd).wait(PATIENCE_S) == 0
        screen.wait_for(rb"1\r\n")


def test_a_log_reaches_a_terminal_without_what_it_would_obey(spawn: Spawn) -> None:
    text = b"a \x1b[31mred\x1b[0m\x07\n"
    with Scripted(lambda *_: whole(text, len(text))) as server, terminal() as (screen, fd):
        assert spawn(server.port, "log", ID, stdout=fd).wait(PATIENCE_S) == 0
        screen.wait_for(rb"a red \r\n")
        # A terminal without abilities is one.
        assert spawn(server.port, "log", ID, stdout=fd, variables={"TERM": "dumb"}).wait(PATIENCE_S) == 0
        screen.wait_for(rb"(a red \r\n){2}")
        assert spawn(server.port, "log", ID, "--raw", stdout=fd).wait(PATIENCE_S) == 0
        screen.wait_for(rb"a \x1b\[31mred\x1b\[0m\x07\r\n")


def test_a_result_reaches_a_terminal_without_what_it_would_obey(spawn: Spawn) -> None:
    said = answer(200, b"a \x1b[31mred\x07", "Job-State: succeeded", kind="text/plain")
    with Scripted(lambda *_: said) as server, terminal() as (screen, fd):
        assert spawn(server.port, "result", ID, stdout=fd).wait(PATIENCE_S) == 0
        screen.wait_for(rb"a red \r\n")
    with Scripted(lambda *_: said) as server:
        assert run(server.port, "result", ID).out == "a \x1b[31mred\x07"


@pytest.mark.parametrize("command", ["wait", "result", "submit"])
def test_ctrl_c_ends_quietly(server: Server, spawn: Spawn, gate: Gate, command: str) -> None:
    if command == "submit":
        arguments = ["until_file", json.dumps(gate.path), "--wait"]
    else:
        arguments = [server.submit("until_file", gate.path).rpartition("/")[2]]
    ran = spawn(server.port, command, *arguments)
    wait_until(server.stats, lambda stats: bool(stats["waiting_clients"]))
    ran.send_signal(signal.SIGINT)
    assert ran.communicate(timeout=PATIENCE_S) == (b"", b"")
    assert ran.returncode == 130
    gate.open()


@pytest.mark.parametrize(
    "arguments",
    [("list",), ("list", "--json"), ("tasks",), ("top", "--once", "--interval", 0.1), ("result",), ("wait",)],
)
def test_a_reader_may_go(server: Server, spawn: Spawn, arguments: tuple[object, ...]) -> None:
    path = server.run("octets", 200_000)
    if arguments in (("result",), ("wait",)):
        arguments = (*arguments, path)
    reading, writing = os.pipe()
    os.close(reading)
    ran = spawn(server.port, *arguments, stdout=writing)
    os.close(writing)
    assert ran.communicate(timeout=PATIENCE_S)[1] == b""
    assert ran.returncode == 141


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_shell_completes(spawn: Spawn, shell: str) -> None:
    script = spawn(1, variables={"_HEADWAY_COMPLETE": f"{shell}_source"})
    said, _ = script.communicate(timeout=PATIENCE_S)
    assert b"_HEADWAY_COMPLETE" in said
    words = {"_HEADWAY_COMPLETE": f"{shell}_complete", "COMP_WORDS": "headway li", "COMP_CWORD": "li"}
    if shell != "fish":
        words["COMP_CWORD"] = "1"
    said, _ = spawn(1, variables=words).communicate(timeout=PATIENCE_S)
    assert b"list" in said


def test_the_program_needs_no_terminal_type(server: Server, spawn: Spawn) -> None:
    with terminal() as (screen, fd):
        ran = spawn(server.port, "top", "--once", stdout=fd, variables={"TERM": "dumb"})
        assert ran.wait(PATIENCE_S) == 0
        screen.wait_for(rb"workers")
        assert b"\x1b" not in screen.seen


@pytest.mark.parametrize("arguments", [("list",), ("tasks", "--json"), ("top", "--once", "--interval", 0.1)])
def test_an_output_that_takes_nothing_is_told_in_a_line(
    server: Server, spawn: Spawn, arguments: tuple[object, ...]
) -> None:
    with open("/dev/full", "wb") as full:
        ran = spawn(server.port, *arguments, stdout=full)
    assert ran.communicate(timeout=PATIENCE_S)[1] == b"headway: [Errno 28] No space left on device\n"
    assert ran.returncode == 2


def close_outputs() -> None:
    """Close both outputs, as ``>&- 2>&-`` does."""
    os.close(1)
    os.close(2)


def test_the_outputs_may_be_closed(server: Server, spawn: Spawn) -> None:
    path = server.run("give", 1)
    for command in (("list",), ("wait", path), ("result", path), ("status", path), ("log", path)):
        closed = spawn(server.port, *command, preexec_fn=close_outputs)
        assert closed.wait(PATIENCE_S) == 0, command


@pytest.mark.parametrize("arguments", [("submit", "give", "-"), ("submit", "give", "-", "--content-type", "a/b")])
def test_an_input_that_is_closed_is_told(server: Server, spawn: Spawn, arguments: tuple[str, ...]) -> None:
    ran = spawn(server.port, *arguments, preexec_fn=lambda: os.close(0))
    assert ran.communicate(timeout=PATIENCE_S)[1] == b"headway: standard input is closed, and - reads it\n"
    assert ran.returncode == 2


def test_an_output_without_some_characters_has_others(server: Server, spawn: Spawn) -> None:
    path = server.run("fail", {"message": "\u20ac"})
    ran = spawn(server.port, "wait", path, variables={"PYTHONIOENCODING": "latin-1"})
    assert b"RuntimeError: \\u20ac" in ran.communicate(timeout=PATIENCE_S)[0]
    assert ran.returncode == 1
