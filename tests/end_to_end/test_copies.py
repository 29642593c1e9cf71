"""A server that is a copy is as one that was executed."""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.end_to_end.copies import Copy
from tests.end_to_end.process import Server, headway

MODULE = """
import os
import random
import re
import signal
import sys
from collections import deque
from types import ModuleType

import headway


@headway.task
async def look(_):
    \"\"\"Tell what a program is given.\"\"\"
    os.umask(umask := os.umask(0))
    return {
        "arguments": [sys.argv, sys.orig_argv[1:]],
        "path": sys.path,
        "folder": os.getcwd(),
        "variables": {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")},
        "umask": umask,
        "files": sorted(os.listdir("/proc/self/fd"))[:3],
        "options": [*sys.warnoptions, sys.flags.dev_mode, sys.flags.no_site],
        "not ours": [name for name in sys.modules if name.startswith(("tests", "_pytest"))],
        "signals": [str(signal.getsignal(number)) for number in (signal.SIGPIPE, signal.SIGCHLD)],
    }


def seen(value):
    \"\"\"Return a value of a module as it is the same in two processes, and its number of parts where it is many.\"\"\"
    if isinstance(value, str | bytes | int | float | tuple | None):
        return re.sub(" at 0x[0-9a-f]+", "", repr(value))
    return f"{type(value).__name__} of {len(value)}" if isinstance(value, list | dict | set | deque) else "other"


@headway.task
async def hold(_):
    \"\"\"Return what all our modules hold.\"\"\"
    ours = {name: vars(module) for name, module in [*sys.modules.items()] if name.startswith("headway")}
    return {
        module: {name: seen(value) for name, value in held.items() if not isinstance(value, ModuleType)}
        for module, held in ours.items()
    }


@headway.task
async def draw(_):
    \"\"\"Return a number that no two programs have.\"\"\"
    return random.random()
"""


def asked(folder: Path, task: str, command: Sequence[str] | None = None) -> Any:
    server = Server(
        folder, {"server__port": 0, "tasks": ["looking"], "drain_linger": 0}, "--workers", "2", command=command
    )
    try:
        server.wait_until_serving()
        assert isinstance(server.process, Copy) == (command is None)
        found = server.get(server.run(task) + "/result").json
        server.signal(signal.SIGTERM)
        assert server.wait() == 0
        return found
    finally:
        server.kill()


def test_it_is_given_what_a_program_is_given(tmp_path: Path) -> None:
    (tmp_path / "looking.py").write_text(MODULE)
    executed = asked(tmp_path, "look", [sys.executable, "-m", "headway"])
    assert asked(tmp_path, "look") == executed


def test_its_modules_hold_what_those_of_a_program_do(tmp_path: Path) -> None:
    (tmp_path / "looking.py").write_text(MODULE)
    executed = asked(tmp_path, "hold", [sys.executable, "-m", "headway"])
    copied = asked(tmp_path, "hold")
    # More modules may be imported before their time.
    assert [name for name in executed if executed[name] != copied.get(name)] == []


def test_no_two_draw_the_same_numbers(tmp_path: Path) -> None:
    (tmp_path / "looking.py").write_text(MODULE)
    assert asked(tmp_path, "draw") != asked(tmp_path, "draw")


def test_its_end_is_told(tmp_path: Path) -> None:
    server = Server(tmp_path, {"server__port": 0})
    try:
        server.wait_until_serving()
        assert server.process.poll() is None
        server.signal(signal.SIGKILL)
        assert server.wait() == -signal.SIGKILL
    finally:
        server.kill()
    ended = headway(tmp_path, "serve", "--workers", "none")
    assert (ended.returncode, ended.stdout, ended.stderr.count("\n")) == (2, "", 1)


def test_with_another_environment_of_python_it_is_executed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    server = Server(tmp_path, {"server__port": 0})
    try:
        assert not isinstance(server.process, Copy)
    finally:
        server.kill()
