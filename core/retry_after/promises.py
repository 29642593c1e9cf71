"""The time at which a client asks for a job again: Retry-After, and the promise of that poll.

An estimate (``Estimate``) of the rest of the job's life becomes a time with room for a poll
(``Pace``). The time stands in the job's row, so a job has one promise at a time.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence

from headway.core.board.board import Board
from headway.core.board.rows import PROGRESS_MASK, STATE_MASK, Rows
from headway.core.board.search import Conditions, Search
from headway.core.board.tags import Tags
from headway.core.hold import OPEN_END_S, TaskHold
from headway.core.job import Job, State
from headway.core.queue.outlook import Outlook
from headway.core.queue.schedule import Schedule
from headway.core.retry_after.estimate import MARGIN_S, UNKNOWN_S, Estimate
from headway.core.slices import in_slices

# Plain ints for the road of a poll: a member of an enum costs twice as much to compare.
QUEUED, RUNNING, SUCCEEDED = int(State.QUEUED), int(State.RUNNING), int(State.SUCCEEDED)

# Jobs of previous processes from which run times are learnt.
LEARNT = 2000
# A client that asks this much before its time gets the same answer again.
EARLY_S = 0.03


class Promises:
    """Times of the next poll, for the unfinished ``jobs`` of ``board`` by number, with their ``deadlines``."""

    def __init__(
        self, board: Rows, queue: Outlook, estimate: Estimate, jobs: Mapping[int, Job], deadlines: Schedule
    ) -> None:
        self.board = board
        self._queue = queue
        self._estimate = estimate
        self._jobs = jobs
        self._deadlines = deadlines
        # The tasks that are held, by index.
        self.held: Mapping[int, TaskHold] = {}

    def expect_end(self, gone_at: float) -> None:
        """While draining, move polls due after shutdown to when a successor should be up.

        ``gone_at`` is the time of the shutdown.
        """
        self._estimate.expect_end(gone_at)
        in_slices(self.forget())

    def forget(self, task: int | None = None) -> Iterator[None]:
        """Forget the hints for all unfinished jobs, or for those of ``task``, a job a step."""
        for sequence in [*self._jobs]:
            row = self.board.row(sequence)
            if row >= 0 and (task is None or self.board.task[row] == task):
                self._forget_promise(row)
            yield

    def _forget_promise(self, row: int) -> None:
        if self.board.live[row] & STATE_MASK < SUCCEEDED:
            self.board.ask_at[row] = 0.0

    def expect_no_end(self) -> None:
        """The server goes on after all."""
        self._estimate.expect_no_end()

    def ahead(self, row: int) -> int:
        """Return how many jobs will be taken before the queued one in ``row``."""
        return self._queue.ahead(row)

    def retry_after_ms(self, row: int, word: int, ahead: int, now: float) -> int:
        """Return the milliseconds until the client asks for an unfinished job, and promise that poll.

        ``ahead`` is the queue's answer for a job that is ready.
        """
        left = self.board.ask_at[row] - now
        if left > EARLY_S:
            return int(left * 1000)
        return self._promise(row, self._until(row, word, ahead, now), now)

    def while_held_ms(self, row: int, word: int, now: float) -> int:
        """Return and promise the same for a job that waits and whose task is held: not before its hold ends."""
        hold = self.held[self.board.task[row]]
        left, least = self.board.ask_at[row] - now, 0.0 if hold.until is None else hold.until - time.time()
        if left > max(least, EARLY_S):
            return int(left * 1000)
        return self._promise(row, self._until(row, word, 0, now), now)

    def _promise(self, row: int, seconds: float, now: float) -> int:
        """Return the milliseconds until the client asks for a job, and promise that poll.

        They are ``seconds`` or a little more. A job has one promise at a time, until the poll comes
        or something new is known of the job. A client that ignores the hint and asks every second
        thus takes no room from those that follow theirs.
        """
        milliseconds = self._estimate.promised_ms(seconds, now)
        self.board.ask_at[row] = now + milliseconds / 1000
        return milliseconds

    def _until(self, row: int, word: int, ahead: int, now: float, together: int = 1) -> float:
        """Return the seconds until the client asks for an unfinished job.

        That is no later than its deadline, or the end of the time that its attempt may take.
        ``together`` is the number of jobs that all have to finish.
        """
        board, estimate = self.board, self._estimate
        if estimate.first is not None:
            self.look_at_first(now)
        state, task, begun = word & STATE_MASK, board.task[row], 0.0
        if self.held and task in self.held and state != RUNNING:
            seconds = self._until_held(row, state, task, now)
        elif state == QUEUED:
            seconds = self._until_queued(row, task, ahead, now, together)
        elif state == RUNNING:
            begun = board.started[row]
            due = 0.0 if word & PROGRESS_MASK == PROGRESS_MASK else board.expected_end[row]
            seconds = estimate.for_running(now - begun, due - now if due else None, task)
        else:
            seconds = estimate.for_delayed(board.due[row] - now, task)
        if not (begun or self._deadlines.when):
            return seconds
        job = self._jobs.get(board.sequence(row))
        if job is None:
            return seconds
        left = (min(job.deadline, begun + job.terms.timeout_s) if begun else job.deadline) - now
        if left > seconds:
            return seconds
        # With no time left, the change due then is under way.
        return min(seconds, UNKNOWN_S) if left <= 0 else min(seconds, left + MARGIN_S)

    def _until_held(self, row: int, state: int, task: int, now: float) -> float:
        """Return the seconds until the client asks for a job that waits, and whose task is held."""
        until = self.held[task].until
        due = 0.0 if state == QUEUED else self.board.due[row] - now
        if until is None:
            return max(self._estimate.for_delayed(due, task) if due > 0 else 0.0, OPEN_END_S)
        return self._estimate.for_delayed(max(due, until - time.time()), task)

    def look_at_first(self, now: float) -> None:
        """Tell the estimate the progress of the first jobs, while they run and if it is time."""
        board, estimate = self.board, self._estimate
        if not estimate.looks_at_first(now):
            return
        assert estimate.first is not None
        estimate.first.leave_out(lambda sequence: board.state(sequence) == RUNNING)
        rows = [(sequence, board.at(sequence)) for sequence in estimate.first.running]
        reported = {
            sequence: board.expected_end[row] - board.started[row]
            for sequence, row in rows
            if board.live[row] & PROGRESS_MASK != PROGRESS_MASK and board.expected_end[row]
        }
        estimate.foresee(reported, now)

    def learn(self, board: Board, now: float) -> None:
        """Learn run times from the jobs of previous processes on ``board``, the last LEARNT of them."""
        tasks = self._estimate.tasks
        ran_to_the_end = Conditions(states=frozenset({State.SUCCEEDED, State.FAILED}))
        search, found = Search(board, Tags(board), ran_to_the_end, board.next_sequence), list[int]()
        while search.end and len(found) < LEARNT:
            found += search.step(now)
        rows = [board.at(sequence) for sequence in reversed(found[:LEARNT])]
        ran = [(board.task[row], board.ended[row] - board.started[row]) for row in rows if board.started[row]]
        self._estimate.learn([(task, seconds) for task, seconds in ran if task < tasks and seconds >= 0], now)

    def _until_queued(self, row: int, task: int, ahead: int, now: float, together: int) -> float:
        board, estimate, queue = self.board, self._estimate, self._queue
        workers, waited = self._estimate.workers, now - board.submitted[row]
        free = queue.free(task, workers)
        if ahead < free:
            # It begins at once, as most jobs do.
            return estimate.for_next(waited, task, together)
        turns, work = ahead + 1 - free, 0.0
        at_once, shared = queue.at_once(task, workers)
        if not queue.is_alone(task):
            turns = queue.own(row) + 1 - free
            work = sum(count * estimate.mean_of(line) for line, count in queue.others(row))
            if work and turns > 0:
                work += turns * estimate.mean_of(queue.line_numbers[task])
        above = queue.rate_above(board.priority[row], now)
        if above:
            above *= estimate.mean / shared
        others = work / shared
        return estimate.for_queued(turns, at_once, waited, task, now, together=together, others=others, above=above)

    def when_all(self, some: Sequence[int], count: int, now: float) -> int:
        """Return the milliseconds until the client asks whether ``count`` jobs have all finished.

        ``some`` of them are looked at.
        """
        board = self.board
        first = board.at(some[0])
        left = board.ask_at[first] - now
        if left > EARLY_S:
            return int(left * 1000)
        longest = 0.0
        for sequence in some:
            row = board.at(sequence)
            word = board.live[row]
            ahead = self._queue.ahead(row) if word & STATE_MASK == QUEUED else 0
            longest = max(longest, self._until(row, word, ahead, now, count))
        return self._promise(first, longest, now)
