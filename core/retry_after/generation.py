"""The first jobs that a server begins, as many as it has workers: what can be known before they are all over.

Those that end first are the short ones, so whoever learns from ends as they come takes all jobs for short, for as long
as the first generation runs. So it is learnt from as a whole, when all of it is over. Until then those that run count
with what they have reported, or with GUESS times what they have run so far; where nothing was known before, that is
what is told, from the moment when the run times of half of them are known.

They all begin at once, so none of them is about to end, as some always are later on. By how much that puts off the
start of a job that waits is the *lag*: with W workers the n-th start comes at n * mean / W and the mean rest of those
that run, less the rest that a job has that is met at any time, which is half the mean square over the mean (Cox,
Renewal Theory, 1962).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

# A job of which nothing is known but that it runs is about half over, for all that anybody can tell.
GUESS = 2.0
# Part of the generation of which run times must be known before anything is said of the others.
KNOWN = 0.5
# Of so many generations of other jobs that ended meanwhile, the last of this one are not waited for any more.
PATIENCE = 2
# More are not looked at.
MEMBERS_MOST = 256

Runs = list[tuple[int, float]]


class Generation:
    """The first ``workers`` jobs. Times in seconds; ``now`` is of time.monotonic."""

    __slots__ = ("_most", "_others", "_running", "ran")

    def __init__(self, workers: int) -> None:
        self._most = min(workers, MEMBERS_MOST)
        # By sequence number: the task, and when it began.
        self._running: dict[int, tuple[int, float]] = {}
        # (task, run time) of those that are over.
        self.ran: Runs = []
        # The same of others that ended meanwhile.
        self._others: Runs = []

    def begin(self, sequence: int, task: int, now: float) -> None:
        """A job has begun."""
        if not self._full:
            self._running[sequence] = task, now

    def end(self, sequence: int, task: int, seconds: float) -> None:
        """An attempt is over."""
        if self._running.pop(sequence, None) is not None:
            self.ran.append((task, seconds))
        elif self._full:
            self._others.append((task, seconds))

    def leave_out(self, runs: Callable[[int], bool]) -> None:
        """Forget the jobs that ``runs`` does not hold for: they were cancelled."""
        for sequence in [sequence for sequence in self._running if not runs(sequence)]:
            del self._running[sequence]

    @property
    def running(self) -> Sequence[int]:
        """The sequence numbers of those that run."""
        return list(self._running)

    @property
    def over(self) -> bool:
        """Whether there is nothing more to wait for."""
        return self._full and (not self._running or len(self._others) >= PATIENCE * self._most)

    @property
    def learnt(self) -> Runs:
        """What is known when it is over: of others only if not all of its own have ended."""
        return self.ran + self._others if self._running else self.ran

    @property
    def _full(self) -> bool:
        return len(self._running) + len(self.ran) >= self._most

    def guess(self, reported: Mapping[int, float], now: float) -> dict[int, list[float]]:
        """Return the run times of all members by task, ascending, as far as can be told; none where that is too little.

        ``reported`` has the run times of those that have reported how far they are.
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
        """Return by how many seconds the starts of jobs are later than with workers that end one after the other.

        ``rest`` returns the mean rest of a job of a task that has run for so long, and ``met`` is that of one that is
        met at any time. What the members report is of no use here: those that have not are longer than most.
        """
        if not (self._full and self._running):
            return 0.0
        left = sum(rest(task, now - began) for task, began in self._running.values())
        return (left - met * len(self._running)) / self._most
