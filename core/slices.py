"""Work that is too long for one turn of the loop, or to keep the interpreter from it: done in slices.

Whoever asks the server something meanwhile waits for a slice and not for all of it. What is done meanwhile is seen by
the slices that follow, so each step has to look at what there is then.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator
from typing import TypeVar

# Seconds of a slice.
SLICE_S = 0.001
# Seconds of a slice of what is made of one job's payload or result, of which there may be many at once.
SHORT_SLICE_S = 0.0005
# Seconds of a pause in a thread: another one that waits for the interpreter would have it after
# sys.getswitchinterval() only.
PAUSE_S = 0.00005

Made = TypeVar("Made")


def in_slices(work: Iterator[object]) -> None:
    """Do ``work``, a step for each item that it yields: a slice now, the others in the next turns of the loop."""
    until = time.monotonic() + SLICE_S
    for _ in work:
        if time.monotonic() >= until:
            import asyncio  # 15 ms, and no task module or worker process gets here

            asyncio.get_running_loop().call_soon(in_slices, work)
            return


def make(work: Generator[None, None, Made]) -> Made:
    """Return what ``work`` makes, in a thread; the event loop may have the interpreter at each of its steps."""
    while True:
        try:
            next(work)
        except StopIteration as end:
            made: Made = end.value
            return made
        time.sleep(PAUSE_S)


async def make_on_loop(work: Generator[None, None, Made]) -> Made:
    """Return what ``work`` makes, on the event loop, which has a turn at each of its steps."""
    import asyncio  # 15 ms, as above

    while True:
        try:
            next(work)
        except StopIteration as end:
            made: Made = end.value
            return made
        await asyncio.sleep(0)
