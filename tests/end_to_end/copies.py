"""Servers as copies of one Python that has imported all that they import: three quarters of the work of a start.

Headway's modules are imported before, too: their import looks at nothing of their process but its folder. A copy
looks at its own, and forgets that it was forked. A test compares all that the modules of a copy hold with what they
hold in ``python -m headway``. What a Python reads at its start, such as PYTHONPATH or TZ, is that of ours, so a server
with another environment is no copy.

A copy has a keeper, which has forked it, tells its process id and waits for it. It tells how it ended.
"""

from __future__ import annotations

import atexit
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
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

# The command line, and what most servers import, or those with a journal.
IMPORTED = ("headway.cli.main", "headway.protocol.server", "headway.core.local.durable", "yaml")


class Copy:
    """A server's process, with the face of a Popen."""

    def __init__(self, orders: socket.socket, command: Sequence[str], folder: Path, env: Mapping[str, str]) -> None:
        # umask has no call that reads it only.
        os.umask(umask := os.umask(0o077))
        order = {"command": command, "folder": str(folder), "env": dict(env), "umask": umask}
        given, out, err, told = (os.pipe() for _ in range(4))
        socket.send_fds(orders, [b"\n"], [given[0], out[1], err[1], told[1]])
        for fd in (given[0], out[1], err[1], told[1]):
            os.close(fd)
        with os.fdopen(given[1], "w") as stream:
            json.dump(order, stream)
        self.stdout = os.fdopen(out[0])
        self.stderr = os.fdopen(err[0])
        self.returncode: int | None = None
        self._told = os.fdopen(told[0])
        self.pid = int(self._told.readline())

    def poll(self) -> int | None:
        """Return how the process ended, as Popen does, or None while it runs."""
        with suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end of the process."""
        if self.returncode is None:
            if not select.select([self._told], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired("server", timeout or 0)
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


def main(orders: socket.socket) -> None:
    """Import the modules, then fork a keeper for each order until there are none."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for name in IMPORTED:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()
    while fds := socket.recv_fds(orders, 1, 4)[1]:
        if os.fork() == 0:
            orders.close()
            keep(*fds)
            return
        for fd in fds:
            os.close(fd)
        # So that their CPU time is in ours.
        with suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
    with suppress(ChildProcessError):
        while os.wait():
            pass


def keep(given: int, out: int, err: int, told: int) -> None:
    """Fork the server and tell how it ends. Returns in the server alone, at its end."""
    with os.fdopen(given) as stream:
        order = json.load(stream)
    pid = os.fork()
    if pid == 0:
        os.close(told)
        serve(out, err, **order)
        return
    os.close(out)
    os.close(err)
    os.write(told, b"%d\n" % pid)
    os.write(told, b"%d" % os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
    os._exit(0)


def serve(out: int, err: int, command: list[str], folder: str, env: dict[str, str], umask: int) -> None:
    """Do as ``python -m headway`` does."""
    os.dup2(out, 1)
    os.dup2(err, 2)
    os.close(out)
    os.close(err)
    os.umask(umask)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(env)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.orig_argv[:] = [sys.executable, "-m", "headway", *command]
    sys.argv[1:] = command
    sys.path.insert(0, os.getcwd())
    importlib.reload(sys.modules["headway.core.processes.spawn"])
    # To be executed again it would not do: it has its own called at each fork.
    vars(sys.modules["headway.core.forks"])["forked"] = False
    runpy.run_module("headway", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    with socket.socket(fileno=int(sys.argv[1])) as socket_of_orders:
        main(socket_of_orders)
