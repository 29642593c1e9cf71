"""When to ask again: as few polls as can be, as soon after the end as can be.

Learning. ``runs`` has the run times of each task, and the means of each line and of all together.
With all its workers busy, a line completes jobs at workers ÷ mean.

Answering. A waiting job is expected to begin when those ahead of it are done. Its next poll is
aimed at the run time that costs least, if one more poll is worth as much as a delay of PRICE times
the mean run time. A sharp end is waited for. A wide one is met by asking for about half of the jobs
after their end. The others are seen running. If the task reports its progress, the end is known
rather well then, and they are asked for just after it. If not, they are asked for when NEXT of
those that have run for so long are finished.

When nothing moves. A job that has outrun all known runs is asked for again after a part of its time
so far, so polls become rare. They become rare, too, for jobs that wait while none of their line
begins or ends. If jobs of higher priority keep coming, the time until a waiting job begins is
divided by the share of the workers' time that they leave. That adds at most LONGER times its wait
so far each time, since it is a guess that they keep coming.

Each answer is promised to the pace, which puts it off while too many polls are promised for the
same moment.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import inf

import msgspec
from headway.core.queue.queue import FAIR_EVERY
from headway.core.retry_after.generation import Generation
from headway.core.retry_after.pace import Pace
from headway.core.retry_after.runs import CLIP, KEEP_EVERY_S, LONGER, Flow, Runs, best_aim, mean_rest

# PRICE while nothing was known before: a poll was spent on that, and the start is more uncertain
# still.
FIRST_PRICE = 2.0
# Seconds between two looks at the first jobs.
FIRST_LOOK_S = 0.1
# The wait before anything is known.
UNKNOWN_S = 1.0
# How much later than the expected end a poll comes, and how much more as a part of the time until
# it.
MARGIN_S = 0.02
MARGIN = 0.03
# Reports are no longer believed if a job is later than they say by more than this part of its time.
BELIEF = 1 / 8
# Seconds after the end of a server until its successor may be there.
SUCCESSOR_S = 2.0
# A client that has to connect again first counts for so many polls.
CONNECTION = 3.0
# Of the workers' time at most so much goes to higher priorities: one claim of FAIR_EVERY does not
# (core/queue).
ABOVE_MOST = 1 - 1 / FAIR_EVERY
SHORTEST_S = 0.02
LONGEST_S = 600.0
PLACES_S = 60.0


class RunTimes(msgspec.Struct, array_like=True, gc=False):
    """What an estimate has learnt, for one in another process. Times in seconds."""

    # (task, kept run times, aim) of the tasks of which something is new.
    tasks: list[tuple[int, list[float], float]]
    # By line: the mean, and when a job last began or ended.
    lines: list[tuple[float, float]]
    mean: float
    lag: float
    # From when on no client may ask, infinity for never.
    gone_at: float


class Estimate:
    """Known run times, and the answers that follow. Times in seconds unless named otherwise.

    ``lines`` has the number of each task's line, by the task's index. Without it each task has a
    line of its own. After these come ``own`` tasks of the server, of which nothing is learnt.
    """

    def __init__(
        self, workers: int, tasks: int, polls_per_second: float, lines: Sequence[int] | None = None, own: int = 0
    ) -> None:
        self.workers = workers
        self.tasks = tasks
        self._polls_per_second = polls_per_second
        self.pace = Pace(polls_per_second)
        # Per task, by its index.
        self._runs = [Runs() for _ in range(tasks + own)]
        self._all = Flow()
        self._line_of = range(tasks) if lines is None else lines
        count = max(self._line_of, default=0) + 1
        # By line. If there is only one, it is that of all.
        self._flows = [Flow() for _ in range(count)] if count > 1 else [self._all]
        # The first jobs until they are finished, by how much they put off the others, and when they
        # were looked at last.
        self.first: Generation | None = None
        self._lag = 0.0
        self._looked_at = -inf
        # Until when places in the queue are promised, of time.monotonic.
        self._places_until = 0.0
        # From then on no client may ask this server, of time.monotonic.
        self._gone_at = inf

    def expect_end(self, gone_at: float) -> None:
        """From now on, move polls due after ``gone_at`` to when a successor should be up.

        Polls come on new connections then.
        """
        self._gone_at = gone_at
        self.pace = Pace(self._polls_per_second / CONNECTION)

    def expect_no_end(self) -> None:
        """The server goes on after all."""
        self._gone_at = inf
        self.pace = Pace(self._polls_per_second)

    @property
    def mean(self) -> float:
        """Mean run time over all tasks. 0.0: none has ended."""
        return self._all.mean

    @property
    def mean_so_far(self) -> float:
        """Mean run time of the jobs that ended, even if too few to go by. 0.0: none has ended."""
        if self._all.mean or self.first is None or not self.first.ran:
            return self._all.mean
        return sum(seconds for _, seconds in self.first.ran) / len(self.first.ran)

    @property
    def moved(self) -> float:
        """When a job last began or ended, of time.monotonic."""
        return max(flow.moved for flow in self._flows)

    def mean_of(self, line: int) -> float:
        """Return the mean run time of the tasks of a line, or of all if none of it has ended."""
        return self._flows[line].mean or self._all.mean

    def mean_of_task(self, task: int) -> float:
        """Return the mean of the kept run times of a task, of all if none is known, else UNKNOWN_S."""
        kept = self._runs[task].kept
        return sum(kept) / len(kept) if kept else self.mean_so_far or UNKNOWN_S

    def run_s(self, line: int, waited: float, now: float) -> float:
        """Return the mean run time of a line, for the wait of its jobs.

        It is at least half the time in which none of them began or ended, as far as the oldest has
        ``waited``. It is UNKNOWN_S if none is known.
        """
        still = min(now - self._flows[line].moved, waited)
        return max(self.mean_of(line) or self.mean_so_far or UNKNOWN_S, still / 2)

    def median(self, task: int) -> float:
        """Return the median of the kept run times of a task, or of the first jobs so far. 0.0 if none is known."""
        known = self._runs[task].kept
        if not known and self.first is not None:
            known = sorted(seconds for index, seconds in self.first.ran if index == task)
        return known[len(known) // 2] if known else 0.0

    def began(self, task: int, now: float, sequence: int = 0) -> None:
        """A job has begun."""
        self._flows[self._line_of[task]].moved = now
        if self.first is not None and sequence:
            self.first.begin(sequence, task, now)

    def observe(self, task: int, seconds: float, now: float, sequence: int = 0) -> None:
        """Learn from one attempt that ended: while the first jobs run, once they are finished."""
        if self.first is not None and sequence:
            self._flows[self._line_of[task]].moved = now
            self.first.end(sequence, task, seconds)
            if self.first.over:
                self._close(self.first, now)
            return
        runs = self._runs[task]
        counted = seconds if not runs.kept or seconds < CLIP * runs.kept[-1] else CLIP * runs.kept[-1]
        flow = self._flows[self._line_of[task]]
        flow.add(counted, now)
        if flow is not self._all:
            self._all.add(counted, now)
        runs.add(seconds, now)

    def learn(self, runs: Sequence[tuple[int, float]], now: float) -> None:
        """Begin with (task, run time) of an earlier server's jobs, or our first, in their order."""
        by_task: dict[int, list[float]] = {}
        for task, seconds in runs:
            by_task.setdefault(task, []).append(seconds)
        for task, all_of in by_task.items():
            # As when they come one by one, a run counts by the longest before it: here, by the
            # longest but one.
            most = CLIP * sorted(all_of)[-2:][0]
            by_task[task] = [min(seconds, most) for seconds in all_of]
            self._runs[task].begin(all_of)
        self._set_means(by_task, now)

    def _set_means(self, by_task: Mapping[int, Sequence[float]], now: float) -> None:
        """Set the means to those of the run times of each task."""
        by_flow: dict[Flow, list[float]] = {}
        for task, all_of in by_task.items():
            for flow in {self._flows[self._line_of[task]], self._all}:
                by_flow.setdefault(flow, []).extend(all_of)
        for flow, all_of in by_flow.items():
            flow.begin(all_of, now)

    def shown(self, before: dict[int, tuple[float, float, int]]) -> RunTimes:
        """Return what has been learnt. ``before`` says what is known of each task, and is brought up to date."""
        tasks = []
        for task, runs in enumerate(self._runs):
            known = runs.aim, runs.kept_at, len(runs.kept)
            if before.get(task, (0.0, 0.0, 0)) != known:
                before[task] = known
                tasks.append((task, runs.kept, runs.aim))
        lines = [(flow.mean, flow.moved) for flow in self._flows]
        return RunTimes(tasks, lines, self._all.mean, self._lag, self._gone_at)

    def see(self, learnt: RunTimes) -> None:
        """Go by what another estimate, of the same tasks and lines, has learnt."""
        for task, kept, aim in learnt.tasks:
            self._runs[task].kept, self._runs[task].aim = kept, aim
        for flow, (mean, moved) in zip(self._flows, learnt.lines, strict=True):
            flow.mean, flow.moved = mean, moved
        self._all.mean, self._lag, self._gone_at = learnt.mean, learnt.lag, learnt.gone_at

    def looks_at_first(self, now: float) -> bool:
        """Whether it is time to ``foresee`` the ends of the first jobs."""
        return self.first is not None and now - self._looked_at >= FIRST_LOOK_S

    def foresee(self, reported: Mapping[int, float], now: float) -> None:
        """Take the first jobs into account while they run.

        ``reported`` has their run times by sequence number, by their own reports.
        """
        first = self.first
        assert first is not None
        self._looked_at = now
        known = {task: runs.kept for task, runs in enumerate(self._runs) if runs.kept}
        if not self._all.ended:
            known = first.guess(reported, now)
            if not known:
                return
            self._set_means(known, now)
            # They are guesses, and give way to run times that are learnt.
            self._all.ended = 0
            for task, totals in known.items():
                self._runs[task].aim = best_aim(totals, FIRST_PRICE)
        total = sum(sum(runs) for runs in known.values())
        met = sum(seconds * seconds for runs in known.values() for seconds in runs) / (2 * total) if total else 0.0
        self._lag = first.lag(lambda task, elapsed: mean_rest(known.get(task, []), elapsed), met, now)

    def _close(self, first: Generation, now: float) -> None:
        """The first jobs are finished: learn from them."""
        self.first, self._lag = None, 0.0
        if not self._all.ended:
            self.learn(first.learnt, now)
            return
        for index, (task, seconds) in enumerate(first.learnt):
            self.observe(task, seconds, now + index * 2 * KEEP_EVERY_S)

    def for_next(self, waited: float, task: int, together: int = 1) -> float:
        """Return after how long to ask for a job that begins next, and has ``waited``.

        ``together``: how many such jobs all have to finish.
        """
        runs = self._runs[task]
        aim = (runs.aim if together == 1 else runs.aim_for(together)) or self._all.mean
        wait = aim + MARGIN_S if aim else UNKNOWN_S + waited * LONGER
        return wait if wait < LONGEST_S else LONGEST_S

    def for_queued(
        self,
        before: int,
        at_once: int,
        waited: float,
        task: int,
        now: float,
        *,
        together: int = 1,
        others: float = 0.0,
        above: float = 0.0,
    ) -> float:
        """Return after how long to ask for a job that has ``waited``.

        ``before``: how many jobs of its line end before it begins.
        ``at_once``: how many jobs of its line can run at once.
        ``together``: how many jobs all have to finish.
        ``others``: in how many seconds the workers get to it because of other lines.
        ``above``: the part of the workers' time that goes to new jobs of higher priorities.
        """
        soonest = self.for_next(waited, task, together)
        if before <= 0 or not (self._runs[task].aim or self._all.mean):
            return soonest
        flow = self._flows[self._line_of[task]]
        # Seconds in which no job of the line began or ended, as far as this job has seen.
        still = min(now - flow.moved, waited)
        start = max(before * max(flow.mean or self.mean, still / 2) / at_once, others)
        if self._lag and at_once == self.workers:
            start = max(start + self._lag * min(before / at_once, 1.0), 0.0)
        if above:
            start = min(start / (1 - min(above, ABOVE_MOST)), start + waited * LONGER)
        return min(start + soonest, LONGEST_S)

    def for_running(self, elapsed: float, ends_in: float | None, task: int) -> float:
        """Return after how long to ask for a job that has run for ``elapsed``.

        ``ends_in`` is when it ends if it goes on as it has reported, negative if it is late, None
        without a report.
        """
        if ends_in is not None:
            if ends_in > 0:
                return min(ends_in * (1 + MARGIN) + MARGIN_S, LONGEST_S)
            if -ends_in < (elapsed + ends_in) * BELIEF:
                return min(MARGIN_S - ends_in, LONGEST_S)
        runs = self._runs[task]
        rest = runs.rest(elapsed)
        if rest:
            return min(rest + MARGIN_S, LONGEST_S)
        # It is later than all known runs, or none is known.
        known = runs.aim or self.mean
        return min(max(elapsed, known) * LONGER if known else UNKNOWN_S + elapsed * LONGER, LONGEST_S)

    def for_delayed(self, until: float, task: int) -> float:
        """Return after how long to ask for a job that becomes ready in ``until``."""
        return max(until, 0.0) + (self._runs[task].aim or self.mean or UNKNOWN_S) + MARGIN_S

    def promised_ms(self, seconds: float, now: float) -> int:
        """Return in how many milliseconds a client has to ask, and promise it.

        It is ``seconds`` or a little later.
        """
        if now + seconds > self._gone_at:
            seconds = max(seconds, self._gone_at - now + SUCCESSOR_S)
        return int(1000 * self.pace.promise(now, seconds if seconds > SHORTEST_S else SHORTEST_S))

    def for_places(self, count: int, now: float) -> float:
        """Return seconds until ``count`` more places in the queue should be free, and promise them.

        Each place is promised once, so that clients turned away together do not come back for the
        same one. Since clients may not come, places are promised for no later than PLACES_S.
        """
        taken = max(self._places_until, now) + count * (self.mean_so_far or UNKNOWN_S) / self.workers
        self._places_until = min(taken, now + PLACES_S)
        return self.later(self._places_until - now, now)

    def later(self, seconds: float, now: float) -> float:
        """Return in how many seconds there is room for one more request.

        It is at least ``seconds``, and at least UNKNOWN_S.
        """
        return self.pace.promise(now, max(seconds, UNKNOWN_S))
