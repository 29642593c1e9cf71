"""The first jobs that a server begins, as many as it has workers, and learning before they finish.

The first ones to end are the short ones. Learning from ends as they come would take all jobs for
short for as long as the first generation runs. So the server learns from it as a whole, once all of
it is finished. Until then the running jobs count with the run time that they have reported, or with
GUESS times their time so far. If nothing was known before, answers follow from that, from the
moment when the run times of half of them are known.

They all begin at once, so none of them is about to end, as some always are later on. The *lag* is
the delay that this adds to the start of a waiting job: with W workers the n-th start comes at n *
mean / W plus the mean rest of the running jobs, less the rest of a job met at any time, which is
half the mean square over the mean (Cox, Renewal Theory, 1962).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

# The best guess for a job of which nothing is known but that it runs: it is half done.
GUESS = 2.0
# The part of the generation with known run times from which on the others are guessed.
KNOWN = 0.5
# Once so many generations of other jobs have ended, the last of this one are not waited for.
PATIENCE = 2
# At most so many first jobs are looked at.
MEMBERS_MOST = 256

Ran = list[tuple[int, float]]


class Generation:
    """The first ``workers`` jobs. Times in seconds. ``now`` is of time.monotonic."""

    __slots__ = ("_most", "_others", "_running", "ran")

    def __init__(self, workers: int) -> None:
        self._most = min(workers, MEMBERS_MOST)
        # By sequence number: the task, and when it began.
        self._running: dict[int, tuple[int, float]] = {}
        # (task, run time) of the finished ones.
        self.ran: Ran = []
        # The same of other jobs that ended meanwhile.
        self._others: Ran = []

    def begin(self, sequence: int, task: int, now: float) -> None:
        """A job has begun."""
        if not self._full:
            self._running[sequence] = task, now

    def end(self, sequence: int, task: int, seconds: float) -> None:
        """An attempt has ended."""
        if self._running.pop(sequence, None) is not None:
            self.ran.append((task, seconds))
        elif self._full:
            self._others.append((task, seconds))

    def leave_out(self, runs: Callable[[int], bool]) -> None:
        """Forget the jobs that do not run by ``runs``: they were cancelled."""
        for sequence in [sequence for sequence in self._running if not runs(sequence)]:
            del self._running[sequence]

    @property
    def running(self) -> Sequence[int]:
        """The sequence numbers of the running jobs."""
        return list(self._running)

    @property
    def over(self) -> bool:
        """Whether there is nothing more to wait for."""
        return self._full and (not self._running or len(self._others) >= PATIENCE * self._most)

    @property
    def learnt(self) -> Ran:
        """The run times known at its end: those of others only if not all of its own have ended."""
        return self.ran + self._others if self._running else self.ran

    @property
    def _full(self) -> bool:
        return len(self._running) + len(self.ran) >= self._most

    def guess(self, reported: Mapping[int, float], now: float) -> dict[int, list[float]]:
        """Return the known and guessed run times of all members by task, ascending.

        Return none if too few are known. ``reported`` has the run times of members that have
        reported their progress.
        """
        if len(self.ran) + len(reported) < KNOWN * (len(self.ran) + len(self._running)):
            return {}
        totals: dict[int, list[float]] = {}
        for task, seconds in self.ran:
            totals.setdefault(task, []).append(seconds)
        for sequence, (task, began) in self._running.items():
            totals.setdefault(task, []).append(reported.get(sequence, GUESS * (now - began)))
        return {task: sorted(runs) for task, runs in totals.items()}

    def lag(self, rest: Callable[[int, float], float], met: float, now: float) -> float:
        """Return the lag: seconds that starts are later than with jobs that end one after another.

        ``rest`` returns the mean rest of a job of a task after a run time. ``met`` is the rest of a
        job met at any time. Reports of the members are of no use here: those that have not reported
        are longer than most.
        """
        if not (self._full and self._running):
            return 0.0
        left = sum(rest(task, now - began) for task, began in self._running.values())
        return (left - met * len(self._running)) / self._most
