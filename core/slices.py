"""Work that would hold the loop, or the interpreter, for too long: done in slices.

A request that comes meanwhile waits for a slice, not for all of the work. The slices that follow
see its effects, so each step must look at the present state.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator
from typing import TypeVar

# Seconds of a slice.
SLICE_S = 0.001
# Seconds of a slice of work on one job's payload or result. There may be many of these at once.
SHORT_SLICE_S = 0.0005
# Seconds of a pause in a thread. Without it, another thread that waits for the interpreter would
# get it only after sys.getswitchinterval().
PAUSE_S = 0.00005

Made = TypeVar("Made")


def in_slices(work: Iterator[object]) -> None:
    """Do ``work``, a step for each item that it yields.

    A slice is done now, the others in the next turns of the loop.
    """
    until = time.monotonic() + SLICE_S
    for _ in work:
        if time.monotonic() >= until:
            import asyncio  # 15 ms, and no task module or worker process gets here

            asyncio.get_running_loop().call_soon(in_slices, work)
            return


def make(work: Generator[None, None, Made]) -> Made:
    """Return the value of ``work``, in a thread. The event loop can have the interpreter at each step."""
    while True:
        try:
            next(work)
        except StopIteration as end:
            made: Made = end.value
            return made
        time.sleep(PAUSE_S)


async def make_on_loop(work: Generator[None, None, Made]) -> Made:
    """Return the value of ``work``, on the event loop, which has a turn at each step."""
    import asyncio  # 15 ms, as above

    while True:
        try:
            next(work)
        except StopIteration as end:
            made: Made = end.value
            return made
        await asyncio.sleep(0)
