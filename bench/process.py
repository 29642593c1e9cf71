"""A server or a worker that a benchmark starts, on a core, watches and ends."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.measure import HOST, ROOT, BenchError, descendants, pin


class Process:
    """A server or worker under test: started on a core, in a process group of its own, which is ended with it.

    ``port`` is where it is going to listen; 0 where it does not. It runs in ``folder``.
    """

    def __init__(
        self,
        name: str,
        argv: Sequence[str],
        port: int = 0,
        core: int | None = None,
        env: Mapping[str, str] | None = None,
        *,
        folder: Path = ROOT,
    ) -> None:
        self.name = name
        self.port = port
        if port and not _is_free(port):
            raise BenchError(f"port {port} is in use, and {name} was to get it: end what listens there or take PORT=…")
        self._output = tempfile.TemporaryFile()  # noqa: SIM115 — closed in stop
        before = os.sched_getaffinity(0)
        pin(core)
        try:
            self._process = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=self._output,
                stderr=self._output,
                env={**os.environ, **(env or {})},
                cwd=folder,
                start_new_session=True,
            )
        except OSError as error:
            raise BenchError(f"{name} cannot be started: {error}") from None
        finally:
            os.sched_setaffinity(0, before)

    @property
    def pids(self) -> list[int]:
        """The process and its descendants."""
        return descendants(self._process.pid)

    def wait_until_up(self, timeout_s: float = 20.0) -> None:
        """Return when the port accepts; raises BenchError when the process ends first."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            self.check()
            if not self.port:
                return
            with contextlib.suppress(OSError), socket.create_connection((HOST, self.port), 1):
                return
            time.sleep(0.02)
        raise BenchError(f"{self.name} does not listen on port {self.port} after {timeout_s:g} s: {self.last_line()}")

    def check(self, patience_s: float = 0.0) -> None:
        """Raise BenchError where the process is no longer there, or ends within ``patience_s``."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            code = self._process.wait(patience_s)
            raise BenchError(f"{self.name} died (exit code {code}): {self.last_line()}")

    def wait_until_ended(self, timeout_s: float) -> int:
        """Return the exit code once the process has ended; raises BenchError where it does not."""
        try:
            return self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise BenchError(f"{self.name} has not ended after {timeout_s:g} s: {self.last_line()}") from None

    def signal(self, number: int) -> None:
        """Send a signal to the process itself."""
        self._process.send_signal(number)

    def said(self) -> str:
        """What the process has written to stdout and stderr."""
        self._output.seek(0)
        return self._output.read().decode(errors="replace")

    def last_line(self) -> str:
        """What the process said last."""
        lines = self.said().strip().splitlines()
        return lines[-1][:300] if lines else "it said nothing"

    def stop(self, timeout_s: float = 5.0) -> None:
        """End the process; by force after ``timeout_s``, and then whatever of its group is left."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(timeout_s)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._output.close()


def answer_of(argv: Sequence[str], env: Mapping[str, str], most_s: float) -> dict[str, Any]:
    """Return the JSON object that a command writes last. Raises BenchError if it fails, or takes over ``most_s``."""
    child = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env, cwd=ROOT)
    try:
        said, complaints = child.communicate(timeout=most_s)
    except BaseException as error:
        # It ends what it has started.
        child.send_signal(signal.SIGINT)
        child.communicate()
        if isinstance(error, subprocess.TimeoutExpired):
            raise BenchError(f"its turn was not over after {most_s:g} s") from None
        raise
    if child.returncode or not said.strip():
        raise BenchError((complaints.strip().splitlines() or ["it said nothing"])[-1])
    return dict(json.loads(said.strip().splitlines()[-1]))


@contextlib.contextmanager
def running(process: Process) -> Iterator[Process]:
    """Wait for ``process`` to listen; end it in the end."""
    try:
        process.wait_until_up()
        yield process
    finally:
        process.stop()


def free_port() -> int:
    """Return a port that the kernel has to spare now."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def end_cleanly() -> None:
    """Let SIGTERM, and SIGINT even in the background of a shell, end what was started, as Ctrl-C does."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
        return True
