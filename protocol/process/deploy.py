"""Executes the new program in the same process: new code and settings on the same listening socket.

Three file descriptors go over: the socket, the file of the rows, and a file with the rest. VARIABLE
names them until the new program has taken them, before it runs any code of a task. The files have
no name that could be opened.
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Mapping, MutableMapping
from io import BytesIO
from typing import NamedTuple, NoReturn

import msgspec
from headway.core.apart import apart
from headway.core.config import DEFAULT_JOURNAL, Config
from headway.core.errors import ConfigError
from headway.core.handover import Handover
from headway.core.interface import Engine
from headway.core.memfile import nameless_file
from headway.protocol.process.listener import Listener
from msgspec.structs import replace

# Not HEADWAY_…, which would be a setting.
VARIABLE = "_HEADWAY_HANDOVER"
# Names the store of the running server, or its journal, to a program under check. Empty for none.
# Earlier versions know the variable by this name, too.
STORE_VARIABLE = "_HEADWAY_JOURNAL"
# The address of the open socket, empty for a Unix socket, and whether clients need a token now. A deploy changes
# neither by itself.
HOST_VARIABLE, ASKS_VARIABLE = "_HEADWAY_HOST", "_HEADWAY_ASKS"
# JSON: the names of the tasks that the program under check has to have, since jobs of them go over.
TASKS_VARIABLE = "_HEADWAY_TASKS"
# The line by which a check tells that it has found no fault.
GOOD = "the configuration is good"
# Seconds within which the new program must have read its settings and task modules.
CHECK_S = 60.0
# In a URL, behind its user.
_PASSWORD = re.compile(r"(://[^:/?#@\s]*):[^/?#\s]*@")


class Left(msgspec.Struct):
    """The handover: descriptors, -1 for none, and when answers stopped, of time.monotonic."""

    listener: int
    passed: bool
    state: int
    board: int
    since: float

    def descriptors(self) -> list[int]:
        """Return the descriptors that exist."""
        return [fd for fd in (self.listener, self.state, self.board) if fd >= 0]


class Taken(NamedTuple):
    """The handover, as the new program has it."""

    # None: clients do not reach it.
    listener: Listener | None
    # None if a journal or a store has everything.
    handover: Handover | None
    since: float


class Program:
    """The command of this process, to be run again."""

    def __init__(self, config: Config) -> None:
        self.store = _store(config)
        # What the check has to know of the socket that goes on, as variables.
        self.front: Callable[[], Mapping[str, str]] = dict
        self.command = [sys.executable, *sys.orig_argv[1:]]
        # By the name it was entered by. If that is a link to the current release, it is followed
        # again.
        self.directory = os.environ.get("PWD", "")
        with contextlib.suppress(OSError):
            if os.path.isabs(self.directory) and os.path.samefile(self.directory, "."):
                return
        self.directory = os.getcwd()

    def __str__(self) -> str:
        """Return the command as the log has it: without the password of a store."""
        return " ".join(_PASSWORD.sub(r"\1:***@", word) for word in self.command)

    async def check(self, tasks: Collection[str] = ()) -> str | None:
        """Return in a line why the program would not go on as it is now, None if it would.

        ``tasks`` are the names of those of which jobs go over.
        """
        names = msgspec.json.encode(sorted(tasks)).decode()
        try:
            process = subprocess.Popen(  # noqa: S603 ASYNC220 — our own command; vfork takes milliseconds
                [*self.command, "--check"],
                cwd=self.directory,
                env=os.environ | {STORE_VARIABLE: self.store, TASKS_VARIABLE: names, **self.front()},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            )
        except OSError as error:
            return f"{error.filename} cannot be run: {error.strerror}"
        try:
            return await apart(lambda: _verdict(process))
        finally:
            process.kill()

    def execute(self, left: Left, environment: dict[str, str]) -> NoReturn:
        """Become the new program. Raises OSError if that is impossible."""
        for fd in left.descriptors():
            os.set_inheritable(fd, True)
        os.chdir(self.directory)
        os.execve(  # noqa: S606 — our own command
            self.command[0], self.command, environment | {VARIABLE: msgspec.json.encode(left).decode()}
        )


def looked_at(environment: MutableMapping[str, str]) -> bool:
    """Whether a running server has this program checked for a deploy."""
    return STORE_VARIABLE in environment


def after_deploy(config: Config, environment: MutableMapping[str, str]) -> Config:
    """Return the settings with which a program under check would go on, after a deploy.

    Raises ConfigError if it would not go on with the present jobs.
    """
    before = environment.pop(STORE_VARIABLE, None)
    if before is None or before == _store(config):
        return config
    if not before and is_default(config):
        return in_memory(config)
    setting, what = ("engine", "store") if config.engine is not None else ("journal.path", "journal")
    raise ConfigError(f"{setting}: is another {what} now, with other jobs and ids: restart the server")


def check_tasks(known: Collection[str], environment: MutableMapping[str, str]) -> None:
    """Raise ConfigError if a program under check does not know the task of a job that goes over."""
    wanted = msgspec.json.decode(environment.pop(TASKS_VARIABLE, "[]"), type=list[str])
    lacking = ", ".join(repr(name) for name in wanted if name not in known)
    if lacking:
        raise ConfigError(
            f"tasks: no module declares {lacking} any more, and jobs of that name have not finished: declare it until "
            "they have, or cancel them"
        )


def goes_on_in_memory(config: Config, before: Taken | None) -> bool:
    """Whether jobs stay in memory after a deploy although the settings, by default, name a journal."""
    return before is not None and before.handover is not None and is_default(config)


def is_default(config: Config) -> bool:
    """Whether the journal is that of settings that name none."""
    return config.journal.path == DEFAULT_JOURNAL


def in_memory(config: Config) -> Config:
    """Return the settings without a journal."""
    return replace(config, journal=replace(config.journal, path=None))


def hand_over(listener: Listener | None, engine: Engine, since: float) -> Left:
    """Prepare the handover. Later changes are lost. Of jobs that outlive the process only the socket goes over."""
    bound, passed = (-1, False) if listener is None else (listener.socket.fileno(), listener.passed)
    state = nameless_file("headway-state")
    with open(state, "wb", closefd=False) as file:
        board = engine.hand_over(file)
    if board is None:
        os.close(state)
        return Left(bound, passed, -1, -1, since)
    os.lseek(state, 0, os.SEEK_SET)
    return Left(bound, passed, state, board, since)


def has_handover(environment: Mapping[str, str]) -> bool:
    """Whether a previous program hands over to this one."""
    return VARIABLE in environment


def take_left(rows_fd: int, left_fd: int) -> Taken:
    """Return what a crashed engine has left: its rows, and what they are read by. Its active jobs are lost."""
    # Not by its offset, which it shares with the supervisor's.
    kept = os.pread(left_fd, os.fstat(left_fd).st_size, 0)
    os.close(left_fd)
    return Taken(None, Handover(BytesIO(kept), rows_fd, is_crash=True), time.monotonic())


def take_over(environment: MutableMapping[str, str]) -> Taken | None:
    """Return the handover of the previous program, None if there was none."""
    text = environment.pop(VARIABLE, None)
    if text is None:
        return None
    left = msgspec.json.decode(text, type=Left)
    for fd in left.descriptors():
        os.set_inheritable(fd, False)
    listener = None if left.listener < 0 else Listener(socket.socket(fileno=left.listener), left.passed)
    if left.state < 0:
        return Taken(listener, None, left.since)
    return Taken(listener, Handover(open(left.state, "rb"), left.board), left.since)


def _store(config: Config) -> str:
    if config.engine is not None:
        # Without user and password, which may change.
        return config.engine.rpartition("@")[2]
    path = config.journal.file(os.environ)
    return "" if path is None else os.path.realpath(path)


def _verdict(process: subprocess.Popen[bytes]) -> str | None:
    try:
        verdict, said = process.communicate(timeout=CHECK_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        return f"the new program did not read its settings and task modules within {CHECK_S:g} s"
    if process.returncode == 0:
        # The exit code alone may be that of a task module.
        is_good = GOOD in verdict.decode(errors="replace").splitlines()
        return None if is_good else "--check ended with exit code 0 before its verdict: does a task module end it?"
    last = said.decode(errors="replace").strip().rpartition("\n")[2]
    return last.removeprefix("headway: ") or f"--check ended with exit code {process.returncode}"
