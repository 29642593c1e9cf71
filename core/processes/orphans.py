"""The orphans of a killed worker process: programs started by its tasks, dead but not reaped.

The first process of the machine or the container reaps orphans. That may be the server, which knows
nothing of them, or a process that takes its time. So while a worker process is being killed, its
orphans become our children, and are reaped by the number of its process group. If the system cannot
do that, they go to the first process as all orphans do.
"""

from __future__ import annotations

import os
import signal
import sys
from contextlib import suppress

_PR_SET_CHILD_SUBREAPER = 36

# Process groups with orphans to adopt.
_adopting: set[int] = set()


def kill(leader: int) -> None:
    """Kill the process ``leader``, which is ours and not reaped, and all of its process group."""
    if leader not in _adopting:
        _adopting.add(leader)
        _adopt(True)
    kill_group(leader)
    with suppress(ProcessLookupError):
        # The leader may have left its group.
        os.kill(leader, signal.SIGKILL)


def kill_group(leader: int) -> None:
    """Kill the process group of ``leader``, which is not reaped: no other group has its number."""
    with suppress(OSError):
        os.killpg(leader, signal.SIGKILL)


def reap(leader: int) -> bool:
    """Reap the rest of a group that was killed. Return False if some of it has not died yet."""
    with suppress(ChildProcessError):
        while os.waitpid(-leader, os.WNOHANG)[0]:
            pass
        return False
    forget(leader)
    return True


def forget(leader: int) -> None:
    """Stop adopting the orphans of this group."""
    _adopting.discard(leader)
    if not _adopting:
        _adopt(False)


def _adopt(wanted: bool) -> None:
    # Only for a time: nobody here would reap other orphans below us, such as those of tasks in
    # threads.
    if sys.platform == "linux":
        import ctypes  # 1 ms, and no process is killed while the server starts

        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, int(wanted))
