"""A new Python that runs ``main`` of a module of ours: a worker process, or the journal's writer.

It begins in the folder in which the server began, whatever folder a task has entered since.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterable

# The first code of a new Python. Not ``-m``, which would search the current directory before it
# knows our sys.path. Until our module is imported, no folder of the user's may hide a module: the
# current directory, which is first in sys.path for the sake of task modules, is last. The package
# is imported from HOME, so that it is the one that started the process.
BOOT = (
    "import sys; sys.path[:] = filter(None, sys.path); import importlib, json; "
    "home, ours, path, module, given = json.loads(sys.argv.pop()); "
    "sys.path[:] = [home, *ours]; import headway; sys.path[:] = ours; "
    "main = importlib.import_module(module).main; sys.path[:] = path; main(**given)"
)
HOME = os.path.dirname(os.path.dirname(os.path.abspath(str(sys.modules["headway"].__file__))))
# By the signal that has ended a process.
HINTS: dict[int, str] = {
    signal.SIGKILL: " (was memory short?)",
    signal.SIGXCPU: " (it took more CPU time than process_limits.cpu)",
}

# The folder in which the server began. Empty if it was gone already.
try:
    FOLDER = os.getcwd()
except OSError:
    FOLDER = ""


def start(
    module: str,
    given: dict[str, object],
    fds: Iterable[int],
    new_session: bool,
    *,
    environment: dict[str, str] | None = None,
    output: int | None = None,
) -> subprocess.Popen[bytes]:
    """Start a Python that calls ``main(**given)`` of ``module``. Raises OSError if none can start.

    It inherits ``fds``, the environment unless one is given, stdout and stderr unless there is an
    ``output`` for both, and nothing else of ours. It is started by ``subprocess``, which uses vfork,
    and not by the loop: uvloop forks, which stops a server of 500 MB for 30 to 60 ms.
    """
    ours = sorted(sys.path, key=lambda entry: entry in ("", FOLDER))
    return subprocess.Popen(  # noqa: S603 — our own Python
        [sys.executable, "-c", BOOT, json.dumps([HOME, ours, sys.path, module, given])],
        cwd=FOLDER if os.path.isdir(FOLDER) else "/",
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        pass_fds=tuple(fds),
        start_new_session=new_session,
        env=environment,
    )


def how_it_ended(returncode: int) -> str:
    """Describe the end of a process by its exit status."""
    if returncode >= 0:
        return f"ended with exit code {returncode}"
    try:
        name = signal.Signals(-returncode).name
    except ValueError:
        name = f"signal {-returncode}"
    return f"was killed by {name}{HINTS.get(-returncode, '')}"
