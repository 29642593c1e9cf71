"""A Headway server in a process of its own."""

from __future__ import annotations

import functools
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, TypeVar
from unittest.mock import patch

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.end_to_end.copies import WRITER, Copy, Original, read_at_start
from tests.protocol.wire import PATIENCE_S, Answer, Wire, post, request, submission

ROOT = Path(__file__).parents[2]
TASKS = ["examples.tasks", "tests.end_to_end.tasks_for_tests"]
POLL_S, POLL_MOST_S = 0.002, 0.02
SERVING = r"serving https?(\+unix)?://"
# Hundreds of processes are started. They compile the same files where bytecode is not kept.
BYTECODE = {"PYTHONDONTWRITEBYTECODE": ""}
# Our environment before any test: one that changes it must not be the first to make the original of all copies.
AT_START = dict(os.environ) | BYTECODE
# Every server of the suite can be given a journal: TEST_JOURNAL=1 make test.
WITH_JOURNAL = bool(os.environ.get("TEST_JOURNAL"))
# And so many gateways: TEST_GATEWAYS=2 make test.
GATEWAYS = int(os.environ.get("TEST_GATEWAYS", "0"))
# A test that looks at the one process of a server, or at its end.
ONE_PROCESS = pytest.mark.skipif(GATEWAYS > 0, reason="with gateways a server is several processes")
# The value of a setting that is left as it is by default.
AS_SHIPPED = ...
Seen = TypeVar("Seen")
Popen = subprocess.Popen
OVER = {"succeeded", "failed", "cancelled", "expired"}


def environment(settings: Mapping[str, object], ours: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return our environment with ``settings``, ``section__key``, and no other of Headway's.

    Jobs are in memory unless a setting says otherwise. AS_SHIPPED leaves a setting out.
    """
    own = {name: value for name, value in ours.items() if not name.startswith(("HEADWAY_", "STATE_DIRECTORY"))}
    chosen = {"journal__path": None} | dict(settings)
    theirs = {f"HEADWAY_{name.upper()}": json.dumps(value) for name, value in chosen.items() if value is not AS_SHIPPED}
    return own | theirs | {"PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "error"}


@functools.cache
def original() -> Original:
    """Return the Python of which servers are copies. It ends with ours."""
    return Original(environment({}, AT_START))


def start_process(command: Sequence[str], **given: Any) -> subprocess.Popen[bytes] | Copy:
    """Do as subprocess.Popen, but for a writer of the journal make a copy, if it could not tell it from one."""
    like_ours = {name: original().env[name] for name in ("PYTHONPATH", "PYTHONWARNINGS")}
    if f'"{WRITER}"' in command[-1] and original().env == read_at_start(os.environ) | like_ours:
        _, _, code, words = command
        return Copy.of_code(original().orders, code, [words], given["cwd"], given["pass_fds"])
    return Popen(command, **given)


@contextmanager
def copied_writers() -> Iterator[None]:
    """Have writers of journals begin as copies. They are given the sys.path of ours."""
    # Itself it is executed.
    original()
    with patch.object(subprocess, "Popen", start_process):
        yield


def headway(folder: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run the command line in ``folder`` until it ends, with the settings as shipped and ``variables``."""
    env = environment({"journal__path": AS_SHIPPED}) | variables
    if read_at_start(env) != original().env:
        # A copy would not read them.
        return subprocess.run(
            [sys.executable, "-m", "headway", *arguments],
            cwd=folder,
            env=env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=30,
        )
    command = Copy.of_command(original().orders, arguments, folder, env)
    assert command.stdout
    assert command.stderr
    try:
        with command.stdout, command.stderr, ThreadPoolExecutor(1) as pool:
            stderr = pool.submit(command.stderr.read)
            return subprocess.CompletedProcess(arguments, command.wait(30), command.stdout.read(), stderr.result())
    finally:
        command.kill()


@contextmanager
def launch(
    folder: Path, settings: Mapping[str, object], exit_code: int = 0, before: Sequence[str] = ()
) -> Iterator[Server]:
    """Serve until the end of the block, then see that the server drains and ends with ``exit_code``.

    ``before`` is a command that executes the server.
    """
    journal = {"journal__path": str(folder / "journal.db")} if WITH_JOURNAL else {}
    # A drain does not linger for clients that come back, and any Host will do, unless a test is about that.
    usual = {"server__port": 0, "server__gateways": GATEWAYS, "tasks": TASKS, "drain_linger": 0, "http__hosts": ["*"]}
    server = Server(folder, {**usual, **journal, **settings}, before=before)
    try:
        server.wait_until_serving()
        yield server
        if not server.told_to_end:
            server.signal(signal.SIGTERM)
        assert server.wait() == exit_code, server.said
        assert server.errors == [], "\n".join(server.errors)
        assert server.stderr == []
    finally:
        server.kill()


class Gate:
    """A file that jobs wait for."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def open(self) -> None:
        """Let them go on."""
        Path(self.path).touch()


class Server:
    """A running server, its log, and the jobs that were posted through ``submit``."""

    # Those of its log. None of a server that somebody else has started.
    _readers: Sequence[threading.Thread] = ()

    def __init__(
        self,
        folder: Path,
        settings: Mapping[str, object],
        *arguments: str,
        before: Sequence[str] = (),
        pass_fds: Sequence[int] = (),
        command: Sequence[str] | None = None,
        path: str = str(ROOT),
        does: str = "serve",
    ) -> None:
        env = environment(settings) | {"PYTHONPATH": path}
        self.process: subprocess.Popen[str] | Copy
        if not (before or command or pass_fds) and original().env == read_at_start(env):
            self.process = Copy.of_command(original().orders, [does, *arguments], folder, env)
        else:
            self.process = subprocess.Popen(
                [*before, *(command or [sys.executable, "-m", "headway"]), does, *arguments],
                cwd=folder,
                env=env,
                pass_fds=pass_fds,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        self.port = 0
        # Lines of stdout and stderr as they come.
        self.said: list[str] = []
        self.stderr: list[str] = []
        # Errors in the log that the test expects, as patterns.
        self.expected_errors: list[str] = []
        self.posted: list[str] = []
        self.told_to_end = False
        self._news = threading.Condition()
        assert self.process.stdout
        assert self.process.stderr
        self._readers = [
            threading.Thread(target=self._listen, args=(self.process.stdout, self.said), daemon=True),
            threading.Thread(target=self._listen, args=(self.process.stderr, self.stderr), daemon=True),
        ]
        for reader in self._readers:
            reader.start()

    @classmethod
    def of(cls, process: subprocess.Popen[bytes], port: int) -> Server:
        """Return a server that somebody else has started, whose log nobody reads."""
        server = cls.__new__(cls)
        server.process = process  # type: ignore[assignment]
        server.port = port
        server.posted = []
        return server

    # The process.

    @property
    def errors(self) -> list[str]:
        """Lines of the log at level error that no test expects."""
        lines = [line for line in self.said if '"level":"error"' in line or " ERROR " in line]
        return [line for line in lines if not any(re.search(pattern, line) for pattern in self.expected_errors)]

    @property
    def resident_bytes(self) -> int:
        """Memory that the process takes, as Linux counts it."""
        pages = Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")

    @property
    def cpu_s(self) -> float:
        """CPU time that the process has taken, as Linux counts it."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def wait_until_serving(self) -> None:
        """Wait for the log line that tells the port."""
        line = self.wait_for_line(SERVING)
        port = re.findall(r"serving https?://\S+:(\d+)", line)
        # A Unix socket has none.
        self.port = int(port[0]) if port else 0

    def wait_for_line(self, pattern: str, after: int = 0) -> str:
        """Wait for a line on stdout, not among the first ``after``, and return it."""
        found: list[str] = []

        def has_come() -> bool:
            found[:] = [line for line in self.said[after:] if re.search(pattern, line)]
            return bool(found) or self.process.poll() is not None

        with self._news:
            self._news.wait_for(has_come, PATIENCE_S)
        assert found, f"{pattern!r} is not in {self.said} {self.stderr}"
        return found[0]

    def signal(self, number: int) -> None:
        """Send a signal."""
        self.told_to_end = True
        self.process.send_signal(number)

    def deploy(self) -> str:
        """Send SIGHUP, and return the line that says what came of it."""
        said = len(self.said)
        self.process.send_signal(signal.SIGHUP)
        line = self.wait_for_line(r"deployed", after=said)
        if "not deployed" not in line:
            self.wait_for_line(SERVING, after=said)
        return line

    def repeat(self, number: int) -> bool:
        """Send a signal again; return whether the process has ended."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.poll() is not None

    def wait(self) -> int:
        """Wait for the end and return the exit code."""
        code = self.process.wait(PATIENCE_S)
        for reader in self._readers:
            reader.join(PATIENCE_S)
        return code

    def kill(self) -> None:
        """End the process if it still runs, and give back what it took."""
        if self.process.poll() is None:
            self.process.kill()
            self.wait()
        for stream, reader in zip((self.process.stdout, self.process.stderr), self._readers, strict=False):
            # Parts of a server whose supervisor was killed write until they have ended.
            reader.join(PATIENCE_S)
            if stream:
                stream.close()

    def _listen(self, stream: IO[str], lines: list[str]) -> None:
        for line in stream:
            with self._news:
                lines.append(line.rstrip("\n"))
                self._news.notify_all()
        with self._news:
            self._news.notify_all()

    # Requests, each on a connection of its own.

    def wire(self) -> Wire:
        """Connect."""
        return Wire(self.port)

    def ask(self, data: bytes) -> Answer:
        """Send one request and read its answer."""
        with self.wire() as wire:
            return wire.ask(data)

    def get(self, target: str, *lines: str) -> Answer:
        """GET."""
        return self.ask(request("GET", target, *lines))

    def head(self, target: str, *lines: str) -> Answer:
        """HEAD."""
        return self.ask(request("HEAD", target, *lines))

    def delete(self, target: str) -> Answer:
        """DELETE."""
        return self.ask(request("DELETE", target))

    def submit(self, task: str, payload: object = None, **members: object) -> str:
        """Submit a job and return its path."""
        answer = self.ask(post(submission(task, payload, **members)))
        assert answer.status == 202, answer
        self.posted.append(answer["location"])
        return answer["location"]

    def run(self, task: str, payload: object = None, **members: object) -> str:
        """Submit a job, wait until it is over, and return its path."""
        path = self.submit(task, payload, **members)
        self.wait_for(path, *OVER)
        return path

    def wait_for(self, path: str, *states: str) -> Answer:
        """Ask until the job is in one of ``states``."""
        with self.wire() as wire:
            return wait_until(lambda: wire.ask(request("HEAD", path)), lambda said: said["job-state"] in states)

    def stats(self) -> Any:
        """What /stats says."""
        return self.get("/stats").json

    def metrics(self) -> dict[tuple[str, ...], float]:
        """What /metrics says: (name, label values in the order of their names…) to value."""
        families = text_string_to_metric_families(self.get("/metrics").body.decode())
        samples = [sample for family in families for sample in family.samples]
        return {(s.name, *(value for _, value in sorted(s.labels.items()))): s.value for s in samples}

    def clear(self) -> None:
        """Cancel what tests have left, and wait until nothing is left."""
        while self.posted:
            self.delete(self.posted.pop())
        active = ("scheduled", "queued", "running", "retrying")
        wait_until(self.stats, lambda said: not any(said["jobs"][state] for state in active))


def settles(look: Callable[[], Seen], wanted: Seen) -> None:
    """See that ``wanted`` is seen: at once, or in a moment by a gateway, which hears of the queue by and by."""
    if GATEWAYS:
        wait_until(look, lambda seen: seen == wanted)
    assert look() == wanted


def wait_until(look: Callable[[], Seen], good: Callable[[Seen], bool]) -> Seen:
    """Look until what is seen is good, and return it."""
    began = time.monotonic()
    while not good(seen := look()):
        waited = time.monotonic() - began
        assert waited < PATIENCE_S, seen
        time.sleep(pause_s(waited))
    return seen


def pause_s(waited_s: float) -> float:
    """Return how long to pause between two looks: what has not come soon will not come in a moment."""
    return min(max(waited_s / 5, POLL_S), POLL_MOST_S)


def children(server: Server) -> list[int]:
    """The processes that the server has started and has not reaped."""
    return children_of(server.process.pid)


def writer_of(server: Server) -> int:
    """The process that writes the server's journal. Its worker processes are others."""
    (writer,) = [pid for pid in children(server) if b"journal" in Path(f"/proc/{pid}/cmdline").read_bytes()]
    return writer


def children_of(pid: int) -> list[int]:
    """The processes that a process has started and has not reaped."""
    folder = Path(f"/proc/{pid}/task")
    return [int(child) for task in folder.iterdir() for child in (task / "children").read_text().split()]
