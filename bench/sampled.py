"""A server that samples itself: ``python bench/sampled.py FILE serve`` runs the checkout in the current folder.

The first SIGUSR2 begins, the second ends, and writes to FILE how often each stack was seen, as JSON. A timer of the
kernel counts the time that the process spends outside the kernel, and a sample is taken each EVERY_S of it. Python
takes it between two of its instructions. So the time of a function in C is that of its caller, and the time in which
the loop looks at its sockets is that of the callback after it.

It imports nothing of this project, since the checkout may be an older one.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections import Counter
from types import FrameType

EVERY_S = 0.001
DEEPEST = 60


class Sampler:
    """Samples of the main thread, written to ``path`` at the end."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._samples: Counter[tuple[str, ...]] = Counter()
        self._runs = False

    def toggle(self, _number: int, _frame: FrameType | None) -> None:
        """Begin, or end and write."""
        self._runs = not self._runs
        if self._runs:
            signal.signal(signal.SIGVTALRM, self._sample)
            signal.setitimer(signal.ITIMER_VIRTUAL, EVERY_S, EVERY_S)
            return
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        samples = [[list(stack), count] for stack, count in self._samples.items()]
        with open(f"{self._path}.new", "w") as file:
            json.dump(samples, file)
        # At once whole: its reader waits for it.
        os.replace(f"{self._path}.new", self._path)

    def _sample(self, _number: int, frame: FrameType | None) -> None:
        stack: list[str] = []
        while frame is not None and len(stack) < DEEPEST:
            stack.append(f"{frame.f_globals.get('__name__', '?')}:{frame.f_code.co_name}")
            frame = frame.f_back
        self._samples[tuple(reversed(stack))] += 1


if __name__ == "__main__":
    path, *arguments = sys.argv[1:]
    # As with ``python -m``: the checkout comes before any that is installed.
    sys.path[0] = os.getcwd()
    signal.signal(signal.SIGUSR2, Sampler(path).toggle)
    from headway.cli.main import main

    main(arguments, prog_name="headway")
