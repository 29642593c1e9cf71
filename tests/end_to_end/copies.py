"""Servers as copies of one Python that has imported all that they import: three quarters of the work of a start.

Headway's modules are imported before, too: their import looks at nothing of their process but its folder. A copy
looks at its own, and forgets that it was forked. A test compares all that the modules of a copy hold with what they
hold in ``python -m headway``. What a Python reads at its start, such as PYTHONPATH or TZ, is that of ours, so a server
with another environment is no copy.

The original waits for its copies, and tells the process id of each and how it ended. A copy ends as a fork of
multiprocessing does, without the tearing down of all modules: that takes a Python 12 ms, and a copy, whose memory is
copied for it, 28 ms.
"""

from __future__ import annotations

import atexit
import fcntl
import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import NoReturn, TextIO

# The command line, and what most servers import, or those with a journal.
IMPORTED = (
    "headway.cli.main",
    "headway.protocol.server",
    "headway.core.local.durable",
    "yaml",
    WRITER := "headway.core.journal.writer",
    # Of the standard library, what tasks and addresses need.
    "csv",
    "encodings.idna",
    "importlib.readers",
    "statistics",
)


# Descriptors that one order brings.
MOST_FDS = 16
# Above the numbers that a copy may want for its own.
FREE_FDS = 500


class Copy:
    """A process that is a copy, with the face of a Popen."""

    def __init__(self, orders: socket.socket, fds: Mapping[int, int], **order: object) -> None:
        """Order one. It has ``fds`` of ours, by its own numbers of them."""
        # umask has no call that reads it only.
        os.umask(umask := os.umask(0o077))
        signals = [*map(int, signal.pthread_sigmask(signal.SIG_BLOCK, []))]
        given, told = os.pipe(), os.pipe()
        socket.send_fds(orders, [b"\n"], [given[0], told[1], *fds.values()])
        os.close(given[0])
        os.close(told[1])
        with os.fdopen(given[1], "w") as stream:
            json.dump({**order, "numbers": [*fds], "umask": umask, "signals": signals}, stream)
        self.stdout: TextIO | None = None
        self.stderr: TextIO | None = None
        self.returncode: int | None = None
        self._told = os.fdopen(told[0])
        self.pid = int(self._told.readline())

    @classmethod
    def of_code(cls, orders: socket.socket, code: str, words: Sequence[str], folder: str, fds: Iterable[int]) -> Copy:
        """Start ``python -c`` with ``code``. It has our ``fds`` by the same numbers, and our output."""
        same = {fd: fd for fd in (1, 2, *fds)}
        return cls(orders, same, code=code, words=words, folder=folder, env=dict(os.environ))

    @classmethod
    def of_command(cls, orders: socket.socket, command: Sequence[str], folder: Path, env: Mapping[str, str]) -> Copy:
        """Start ``python -m headway`` with the words of ``command``. Its output can be read."""
        out, err = os.pipe(), os.pipe()
        copy = cls(orders, {1: out[1], 2: err[1]}, words=command, folder=str(folder), env=dict(env))
        os.close(out[1])
        os.close(err[1])
        copy.stdout, copy.stderr = os.fdopen(out[0]), os.fdopen(err[0])
        return copy

    def poll(self) -> int | None:
        """Return how the process ended, as Popen does, or None while it runs."""
        with suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end of the process."""
        if self.returncode is None:
            if not select.select([self._told], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired("copy", timeout or 0)
            self.returncode = int(self._told.read())
            self._told.close()
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send a signal, unless the process has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """Send SIGKILL."""
        self.send_signal(signal.SIGKILL)

    def terminate(self) -> None:
        """Send SIGTERM."""
        self.send_signal(signal.SIGTERM)


def read_at_start(env: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that a Python or a library may read at its start."""
    return {name: value for name, value in env.items() if not name.startswith(("HEADWAY_", "PYTEST_"))}


class Original:
    """The Python that is copied."""

    def __init__(self, env: Mapping[str, str]) -> None:
        self.env = read_at_start(env)
        self.orders, theirs = socket.socketpair()
        with theirs:
            self.process = subprocess.Popen(
                [sys.executable, "-P", __file__, str(theirs.fileno())],
                cwd="/",
                env=self.env,
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        atexit.register(self.close)

    def close(self) -> None:
        """End it, when the last copy has ended."""
        self.orders.close()
        said = self.process.communicate()
        assert (*said, self.process.returncode) == ("", "", 0)


class Children:
    """The copies that run, each with the pipe by which its end is told."""

    def __init__(self) -> None:
        self._told: dict[int, int] = {}
        self.news, self._wake = os.pipe()
        os.set_blocking(self._wake, False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(self._wake)

    def add(self, pid: int, told: int) -> None:
        """Tell the process id of one, and later its end."""
        os.write(told, b"%d\n" % pid)
        self._told[pid] = told

    def reap(self, options: int = os.WNOHANG) -> None:
        """Tell the end of those that have ended, or wait for all."""
        with suppress(ChildProcessError):
            while (ended := os.waitpid(-1, options))[0]:
                pid, status = ended
                with suppress(BrokenPipeError):
                    os.write(self._told[pid], b"%d" % os.waitstatus_to_exitcode(status))
                os.close(self._told.pop(pid))

    def forget(self) -> None:
        """In a copy: have nothing of this."""
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for fd in (self.news, self._wake, *self._told.values()):
            os.close(fd)


def main(orders: socket.socket) -> None:
    """Import the modules, then fork a copy for each order until there are none."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for name in IMPORTED:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()
    children = Children()
    while True:
        ready = select.select([orders.fileno(), children.news], [], [])[0]
        if children.news in ready:
            os.read(children.news, 1000)
            children.reap()
        if orders.fileno() not in ready:
            continue
        given_and_told = socket.recv_fds(orders, 1, MOST_FDS)[1]
        if not given_and_told:
            break
        given, told, *fds = given_and_told
        pid = os.fork()
        if pid == 0:
            orders.close()
            children.forget()
            os.close(told)
            with os.fdopen(given) as stream:
                order = json.load(stream)
            take(fds, order.pop("numbers"))
            end(exit_code(partial(begin, **order)))
        for fd in (given, *fds):
            os.close(fd)
        children.add(pid, told)
    children.reap(0)


def take(fds: Sequence[int], numbers: Sequence[int]) -> None:
    """Give the descriptors their numbers."""
    above = [fcntl.fcntl(fd, fcntl.F_DUPFD, FREE_FDS) for fd in fds]
    for fd in fds:
        os.close(fd)
    for fd, number in zip(above, numbers, strict=True):
        os.dup2(fd, number)
        os.close(fd)


def begin(
    words: list[str],
    folder: str,
    env: dict[str, str],
    umask: int,
    signals: list[int],
    code: str = "",
) -> None:
    """Do as ``python -m headway`` does, or ``python -c`` with ``code``."""
    from headway.core import forks

    os.umask(umask)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(env)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.pthread_sigmask(signal.SIG_SETMASK, signals)
    importlib.reload(sys.modules["headway.core.processes.spawn"])
    # To be executed again it would not do: it has its own called at each fork.
    forks.forked = False
    if code:
        sys.orig_argv[:] = [sys.executable, "-c", code, *words]
        sys.argv[:] = ["-c", *words]
        sys.path.insert(0, "")
        exec(code, {"__name__": "__main__"})
        return
    sys.orig_argv[:] = [sys.executable, "-m", "headway", *words]
    sys.argv[1:] = words
    sys.path.insert(0, os.getcwd())
    runpy.run_module("headway", run_name="__main__", alter_sys=True)


def exit_code(program: Callable[[], object]) -> int:
    """Run ``program``, and return the code with which Python would end after it."""
    try:
        program()
    except SystemExit as error:
        if error.code is None or isinstance(error.code, int):
            return error.code or 0
        print(error.code, file=sys.stderr)
        return 1
    return 0


def end(code: int) -> NoReturn:
    """End this process as a fork of multiprocessing ends."""
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    with socket.socket(fileno=int(sys.argv[1])) as socket_of_orders:
        main(socket_of_orders)
