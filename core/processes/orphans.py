"""What a worker process leaves when it is killed: the programs that its tasks have started, dead but not reaped.

Who reaps orphans is the first process of the machine or the container. That may be us, who know nothing of them, or one
that takes its time. So while a worker process is being killed its orphans become our children, and are reaped by the
number of its process group. Where the system cannot be asked to, they go where orphans go.
"""

from __future__ import annotations

import os
import signal
import sys
from contextlib import suppress

_PR_SET_CHILD_SUBREAPER = 36

# Process groups of which orphans are to be ours.
_adopting: set[int] = set()


def kill(leader: int) -> None:
    """Kill the process ``leader``, which is ours and not reaped, and all that is in its process group."""
    if leader not in _adopting:
        _adopting.add(leader)
        _adopt(True)
    kill_group(leader)
    with suppress(ProcessLookupError):
        # It may have left its group.
        os.kill(leader, signal.SIGKILL)


def kill_group(leader: int) -> None:
    """Kill what is in the process group of ``leader``, which is not reaped: its number is nobody else's."""
    with suppress(OSError):
        os.killpg(leader, signal.SIGKILL)


def reap(leader: int) -> bool:
    """Reap what is left of a group that was killed; False where some of it has not died yet."""
    with suppress(ChildProcessError):
        while os.waitpid(-leader, os.WNOHANG)[0]:
            pass
        return False
    forget(leader)
    return True


def forget(leader: int) -> None:
    """Adopt what this group leaves no longer."""
    _adopting.discard(leader)
    if not _adopting:
        _adopt(False)


def _adopt(wanted: bool) -> None:
    # Not for good: what else is orphaned below us, by tasks in threads, nobody here would reap.
    if sys.platform == "linux":
        import ctypes  # 1 ms, and no process is killed while the server starts

        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, int(wanted))
