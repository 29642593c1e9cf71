"""Work that is too long for one turn of the loop, done in slices.

Whoever asks the server something meanwhile waits for a slice and not for all of it. What is done meanwhile is seen by
the slices that follow, so each step has to look at what there is then.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator

# Seconds of a slice.
SLICE_S = 0.001


def in_slices(work: Iterator[object]) -> None:
    """Do ``work``, a step for each item that it yields: a slice now, the others in the next turns of the loop."""
    until = time.monotonic() + SLICE_S
    for _ in work:
        if time.monotonic() >= until:
            asyncio.get_running_loop().call_soon(in_slices, work)
            return
