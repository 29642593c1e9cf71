"""Executing the program anew, in the same process: new code and new settings behind the same listening socket.

Three file descriptors go over: the socket, the file of the rows, and one with the rest. VARIABLE names them until the
new image has taken them, which it does before it runs any code of a task. The files have no name that could be opened.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
from collections.abc import MutableMapping
from typing import NamedTuple, NoReturn

import msgspec
from headway.core.apart import apart
from headway.core.board.memfile import nameless_file
from headway.core.config import Config
from headway.core.errors import ConfigError
from headway.core.local.deploy import Carried
from headway.core.local.engine import LocalEngine
from headway.protocol.process.listener import Listener

# Not HEADWAY_…, which would be a setting.
VARIABLE = "_HEADWAY_HANDOVER"
# Tells a program that is looked at where the journal of the one that serves is; empty for none.
JOURNAL_VARIABLE = "_HEADWAY_JOURNAL"
# Seconds in which the new program must have read its settings and task modules.
CHECK_S = 60.0


class Left(msgspec.Struct):
    """The descriptors that go over, -1 for none; and since when nobody is answered, of time.monotonic."""

    listener: int
    passed: bool
    state: int
    board: int
    since: float

    def descriptors(self) -> list[int]:
        """Return those that there are."""
        return [fd for fd in (self.listener, self.state, self.board) if fd >= 0]


class Taken(NamedTuple):
    """What came over."""

    listener: Listener
    # None where the journal has all.
    carried: Carried | None
    since: float


class Program:
    """The command that we are, to be run again."""

    def __init__(self, config: Config) -> None:
        self.journal = _journal(config)
        self.command = [sys.executable, *sys.orig_argv[1:]]
        # By the name it was entered by: where that is a link to the current release, the link is followed anew.
        self.directory = os.environ.get("PWD", "")
        with contextlib.suppress(OSError):
            if os.path.isabs(self.directory) and os.path.samefile(self.directory, "."):
                return
        self.directory = os.getcwd()

    async def check(self) -> str | None:
        """Return in a line why the program would not start as it is now, None where it would."""
        try:
            process = subprocess.Popen(  # noqa: S603 ASYNC220 — our own command; vfork takes milliseconds
                [*self.command, "--check"],
                cwd=self.directory,
                env=os.environ | {JOURNAL_VARIABLE: self.journal},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
            )
        except OSError as error:
            return f"{error.filename} cannot be run: {error.strerror}"
        try:
            return await apart(lambda: _verdict(process))
        finally:
            process.kill()

    def execute(self, left: Left, environment: dict[str, str]) -> NoReturn:
        """Be the new image; raises OSError where that cannot be."""
        for fd in left.descriptors():
            os.set_inheritable(fd, True)
        os.chdir(self.directory)
        os.execve(  # noqa: S606 — our own command
            self.command[0], self.command, environment | {VARIABLE: msgspec.json.encode(left).decode()}
        )


def looked_at(environment: MutableMapping[str, str]) -> bool:
    """Whether a server that runs has us look at the program for a deploy."""
    return JOURNAL_VARIABLE in environment


def compare_journals(config: Config, environment: MutableMapping[str, str]) -> None:
    """Raise ConfigError where a program is looked at for a deploy that would not go on with the jobs that there are."""
    before = environment.pop(JOURNAL_VARIABLE, None)
    if before is not None and before != _journal(config):
        raise ConfigError("journal.path: is another one now, with other jobs and ids: restart the server")


def leave(listener: Listener, engine: LocalEngine, since: float) -> Left:
    """Make ready what goes over; what changes afterwards is lost. Where the journal has all, only the socket does."""
    if engine.durable:
        return Left(listener.socket.fileno(), listener.passed, -1, -1, since)
    state = nameless_file("headway-state")
    with open(state, "wb", closefd=False) as file:
        board = engine.leave(file)
    os.lseek(state, 0, os.SEEK_SET)
    return Left(listener.socket.fileno(), listener.passed, state, board, since)


def take(environment: MutableMapping[str, str]) -> Taken | None:
    """Return what the image before has left; None where there was none."""
    text = environment.pop(VARIABLE, None)
    if text is None:
        return None
    left = msgspec.json.decode(text, type=Left)
    for fd in left.descriptors():
        os.set_inheritable(fd, False)
    listener = Listener(socket.socket(fileno=left.listener), left.passed)
    if left.state < 0:
        return Taken(listener, None, left.since)
    return Taken(listener, Carried(open(left.state, "rb"), left.board), left.since)


def _journal(config: Config) -> str:
    return "" if config.journal.path is None else os.path.realpath(config.journal.path)


def _verdict(process: subprocess.Popen[bytes]) -> str | None:
    try:
        said = process.communicate(timeout=CHECK_S)[1]
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        return f"it has not read its settings and task modules within {CHECK_S:g} s"
    if process.returncode == 0:
        return None
    last = said.decode(errors="replace").strip().rpartition("\n")[2]
    return last.removeprefix("headway: ") or f"--check ended with {process.returncode}"
