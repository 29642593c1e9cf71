"""Writes the history: each minute from what the counters have grown by since the last one."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence

from headway.core.history import KEPT, MINUTE_S, TASKS_MOST, Minute, grown, together
from headway.core.job import State
from headway.core.local.active import Active
from headway.core.stats import Histogram

SUCCEEDED, FAILED, CANCELLED = int(State.SUCCEEDED), int(State.FAILED), int(State.CANCELLED)


class Historian:
    """Has the last minutes. ``keep`` gets each one that is over, to be kept elsewhere as well.

    ``names`` are those of the tasks by their index.
    """

    def __init__(
        self,
        active: Active,
        names: Sequence[str],
        keep: Callable[[Minute], object],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._active = active
        self._names = names
        self._keep = keep
        self._over: deque[Minute] = deque(maxlen=KEPT)
        # The present minute, and the counters at its beginning.
        self._clock = clock
        self._number = self._minute()
        self._before = self._counters()

    def restore(self, minutes: Iterable[Minute]) -> None:
        """Go on after ``minutes``, in their order."""
        self._over.extend(minutes)
        # What a restart has read is not counted as done now.
        self._before = self._counters()

    def tick(self, _: float) -> Iterable[object]:
        """Look whether a minute is over. Call it about once a second."""
        number = self._minute()
        # A clock that was set back makes a minute longer.
        if number > self._number:
            minute = self._present()
            self._over.append(minute)
            self._number, self._before = number, self._counters()
            self._keep(minute)
        return ()

    def minutes(self, count: int) -> list[Minute]:
        """Return the last ``count`` minutes in their order, the present one at the end."""
        since = self._number - count
        # Of the minute of a restart there may be two parts.
        return together([*(minute for minute in self._over if minute.number > since), self._present()])

    def stop(self) -> None:
        """Keep what there is of the present minute."""
        self._keep(self._present())

    def _minute(self) -> int:
        return int(self._clock() // MINUTE_S)

    def _counters(self) -> _Counters:
        stats = self._active.stats
        return _Counters(
            [ended[:] for ended in stats.ended],
            stats.retries,
            Histogram.together(stats.wait).buckets,
            Histogram.together(stats.run).buckets,
        )

    def _present(self) -> Minute:
        before, now, board = self._before, self._counters(), self._active.board
        ends = [
            [after - earlier for after, earlier in zip(ended, earlier_ended, strict=True)]
            for ended, earlier_ended in zip(now.ended, before.ended, strict=True)
        ]
        tasks = {
            name: (ended[SUCCEEDED] + ended[FAILED] + ended[CANCELLED], ended[FAILED])
            for name, ended in zip(self._names, ends, strict=False)
            if any(ended)
        }
        if len(tasks) > TASKS_MOST:
            tasks = dict(sorted(tasks.items(), key=lambda item: -item[1][0])[:TASKS_MOST])
        return Minute(
            number=self._number,
            succeeded=sum(ended[SUCCEEDED] for ended in ends),
            failed=sum(ended[FAILED] for ended in ends),
            cancelled=sum(ended[CANCELLED] for ended in ends),
            retries=now.retries - before.retries,
            waiting=len(self._active.queue),
            running=board.count[State.RUNNING],
            wait=grown(before.wait, now.wait),
            run=grown(before.run, now.run),
            tasks=tasks,
        )


class _Counters:
    """The counters at one moment."""

    __slots__ = ("ended", "retries", "run", "wait")

    def __init__(self, ended: list[list[int]], retries: int, wait: list[int], run: list[int]) -> None:
        self.ended = ended
        self.retries = retries
        self.wait = wait
        self.run = run
