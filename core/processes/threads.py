"""The threads of a worker process, and the attempts that have started them.

A thread may go on after its attempt. Its text is not that of the next job. So each thread has the number of the
attempt that has started it, or of the attempt of the thread that has: a timer that sets the next one stays of its own.
The threads of an import have 0. One that is not started by ``threading`` is of the attempt in which it is first there.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Set as AbstractSet

from headway.core import forks

MARK = "_headway_attempt"


class JobThreads:
    """Tells threads of the attempt that runs from all others."""

    def __init__(self) -> None:
        # The attempt that runs, or ran last.
        self._number = 0
        self._main = threading.get_ident()
        # The threads at its beginning.
        self._before: AbstractSet[int] = frozenset()
        self._start = threading.Thread.start
        threads = self

        def start(self: threading.Thread) -> None:
            self.__dict__[MARK] = threads._number_here()
            threads._start(self)

        threading.Thread.start = start  # type: ignore[method-assign]
        forks.in_child(self._forked)

    def begin(self) -> None:
        """Begin the next attempt, in the main thread. No thread that is there is of it."""
        self._number += 1
        self._before = set(sys._current_frames())

    def is_foreign(self) -> bool:
        """Whether the thread that calls is of no attempt, or of one that has ended."""
        return threading.get_ident() != self._main and self._number_here() != self._number

    def _number_here(self) -> int:
        ident = threading.get_ident()
        if ident == self._main:
            return self._number
        number = threading.current_thread().__dict__.get(MARK)
        if isinstance(number, int):
            return number
        return 0 if ident in self._before else self._number

    def _forked(self) -> None:
        """Make the only thread of a forked child the main one."""
        self._main = threading.get_ident()
        self._before = frozenset()
