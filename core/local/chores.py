"""What the engine does each second, so that nothing is kept for longer than it should be."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence

from headway.core.slices import in_slices

log = logging.getLogger(__name__)

# Seconds between two rounds.
CHORES_S = 1.0


class Chores:
    """Does ``chores``, each by itself: one that fails does not keep the others. Their names are for the log."""

    def __init__(self, chores: Sequence[tuple[str, Callable[[float], Iterable[object]]]]) -> None:
        self._chores = chores
        self._timer: asyncio.TimerHandle | None = None
        self._stopped = False

    def start(self) -> None:
        """Do a round now, and one every CHORES_S."""
        in_slices(self._round(time.monotonic()))

    def stop(self) -> None:
        """Do no more."""
        self._stopped = True
        if self._timer is not None:
            self._timer.cancel()

    def _round(self, now: float) -> Iterator[object]:
        for name, chore in self._chores:
            try:
                yield from chore(now)
            except Exception:
                log.exception("the chore %r failed, it is tried again in %g s", name, CHORES_S)
        if not self._stopped:
            self._timer = asyncio.get_running_loop().call_later(CHORES_S, self.start)
