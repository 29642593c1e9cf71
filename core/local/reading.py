"""The status of a job: its row on the board, and when to ask again."""

from __future__ import annotations

import time
from collections.abc import Sequence

from headway.core.board.board import Board
from headway.core.board.rows import (
    ATTEMPT_MAX,
    ATTEMPT_SHIFT,
    GENERATION_SHIFT,
    PROGRESS_MASK,
    PROGRESS_NONE,
    PROGRESS_SHIFT,
    STATE_MASK,
)
from headway.core.ids import Ids
from headway.core.job import State
from headway.core.local.active import Active
from headway.core.retry_after.estimate import MARGIN_S, UNKNOWN_S
from headway.core.slices import in_slices
from headway.core.status import Status, bare

# Plain ints for the road of a poll: a member of an enum costs twice as much to compare.
QUEUED, RUNNING, SUCCEEDED = int(State.QUEUED), int(State.RUNNING), int(State.SUCCEEDED)

# Jobs that one call to ``list`` looks at: a millisecond, so that it does not hold the loop.
LOOKS = 1000
# Jobs of previous processes from which run times are learnt.
LEARNT = 2000
# A client that asks this much before its time gets the same answer again.
EARLY_S = 0.03


class Reading:
    """Reads ``board``. ``names`` are those of tasks by the index that the board has of them."""

    def __init__(self, keys: Ids, board: Board, active: Active, names: list[str]) -> None:
        self._ids = keys
        self.board = board
        self._active = active
        self.names = names
        # The beginning of all ids of this engine.
        self.marker = keys.marker

    def expect_end(self, gone_at: float) -> None:
        """While draining, move polls due after shutdown to when a successor should be up.

        ``gone_at`` is the time of the shutdown.
        """
        self._active.estimate.expect_end(gone_at)
        in_slices(map(self._forget_promise, [*self._active.jobs]))

    def _forget_promise(self, sequence: int) -> None:
        """Forget the last hint for a job: it does not hold any more."""
        row = self.board.row(sequence)
        if row >= 0 and self.board.live[row] & STATE_MASK < SUCCEEDED:
            self.board.ask_at[row] = 0.0

    def expect_no_end(self) -> None:
        """The server goes on after all."""
        self._active.estimate.expect_no_end()

    def ahead(self, row: int) -> int:
        """Return how many jobs will be taken before the queued one in ``row``."""
        return self._active.queue.ahead(row)

    def at(self, sequence: int) -> Status:
        """Return the status of a job that was issued, and whose submission is committed."""
        row, now = self.board.row(sequence), time.monotonic()
        if row >= 0 and self.board.readable(row, now):
            return self.status(row, now)
        return bare(State.EXPIRED, sequence, self._ids.write(sequence, self._ids.tag(sequence)))

    def peek(self, job_id: bytes) -> Status | None:
        """Return the status of a job at once, or None if it was never issued.

        A job that has left the board, by count or by time, is EXPIRED. Raises MisdirectedError if
        another issuer made the id.
        """
        sequence, tag = self._ids.read(job_id)
        board, now = self.board, time.monotonic()
        row = board.row(sequence)
        if row >= 0 and board.tag[row] == tag and board.readable(row, now):
            return self.status(row, now)
        if not sequence or self._ids.tag(sequence) != tag:
            return None
        return bare(State.EXPIRED, sequence, job_id)

    def peek_key(self, text: str) -> Status | None:
        """Return the status of the job under a key; None if it has none, or none committed yet."""
        keyed = self._active.keys.get(text, time.monotonic())
        if keyed is None or keyed.batch:
            return None
        sequence = keyed.sequence
        if self.board.row(sequence) < 0 and self._active.uncommitted(sequence) is not None:
            return None
        return self.at(sequence)

    def list(self, state: State, before: int, limit: int) -> tuple[list[Status], int]:
        """Return up to ``limit`` jobs in ``state``, newest first, from those before sequence ``before``.

        And the sequence number to go on from, 0 if there are no more. 0 for ``before`` begins with
        the newest. At most LOOKS jobs are looked at, so fewer than ``limit`` may come although
        there are more. They have no hint when to ask again.
        """
        board, now = self.board, time.monotonic()
        end = min(before or board.next_sequence, board.next_sequence)
        found, after = board.page(state, end, limit, LOOKS, now)
        return [self.status(board.at(sequence), now, promise=False) for sequence in found], after

    def status(self, row: int, now: float, promise: bool = True) -> Status:
        """Return the status of the job in ``row``. Without a ``promise`` it has no hint when to ask again."""
        board = self.board
        # Once: each reading of a column makes an int.
        word, task = board.live[row], board.task[row]
        state = word & STATE_MASK
        sequence = (word >> GENERATION_SHIFT) * board.rows + row if row < board.rows else board.sequence(row)
        progress = word >> PROGRESS_SHIFT & PROGRESS_NONE
        ahead = 0 if state == RUNNING or state >= SUCCEEDED else self._active.queue.ahead(row, state != QUEUED)
        return Status(
            state,
            sequence,
            self._ids.write(sequence, board.tag[row]),
            self.names[task],
            word >> ATTEMPT_SHIFT & ATTEMPT_MAX,
            None if progress == PROGRESS_NONE else progress,
            ahead,
            self.retry_after_ms(row, word, ahead, now) if promise and state < SUCCEEDED else 0,
            board.submitted[row],
            board.started[row],
            board.ended[row] if state >= SUCCEEDED else 0.0,
            board.reason[row],
        )

    def retry_after_ms(self, row: int, word: int, ahead: int, now: float) -> int:
        """Return the milliseconds until the client asks for an unfinished job, and promise that poll.

        ``ahead`` is the queue's answer for a job that is ready.
        """
        left = self.board.ask_at[row] - now
        if left > EARLY_S:
            return int(left * 1000)
        return self._promise(row, self._until(row, word, ahead, now), now)

    def _promise(self, row: int, seconds: float, now: float) -> int:
        """Return the milliseconds until the client asks for a job, and promise that poll.

        They are ``seconds`` or a little more. A job has one promise at a time, until the poll comes
        or something new is known of the job. A client that ignores the hint and asks every second
        thus takes no room from those that follow theirs.
        """
        milliseconds = self._active.estimate.told(seconds, now)
        self.board.ask_at[row] = now + milliseconds / 1000
        return milliseconds

    def _until(self, row: int, word: int, ahead: int, now: float, together: int = 1) -> float:
        """Return the seconds until the client asks for an unfinished job.

        That is no later than its deadline, or the end of the time that its attempt may take.
        ``together`` is the number of jobs that all have to finish.
        """
        board, active = self.board, self._active
        estimate = active.estimate
        if estimate.first is not None and estimate.looks_at_first(now):
            self._look_at_first(now)
        state, task, begun = word & STATE_MASK, board.task[row], 0.0
        if state == QUEUED:
            seconds = self._until_queued(row, task, ahead, now, together)
        elif state == RUNNING:
            begun = board.started[row]
            due = 0.0 if word & PROGRESS_MASK == PROGRESS_MASK else board.expected_end[row]
            seconds = estimate.for_running(now - begun, due - now if due else None, task)
        else:
            seconds = estimate.for_delayed(board.due[row] - now, task)
        if not (begun or active.deadlines.when):
            return seconds
        job = active.jobs.get(board.sequence(row))
        if job is None:
            return seconds
        left = (min(job.deadline, begun + job.terms.timeout_s) if begun else job.deadline) - now
        if left > seconds:
            return seconds
        # With no time left, the change due then is under way.
        return min(seconds, UNKNOWN_S) if left <= 0 else min(seconds, left + MARGIN_S)

    def _look_at_first(self, now: float) -> None:
        """Tell the estimate the progress of the first jobs, while they run."""
        board, estimate = self.board, self._active.estimate
        assert estimate.first is not None
        estimate.first.leave_out(lambda sequence: board.state(sequence) == RUNNING)
        rows = [(sequence, board.at(sequence)) for sequence in estimate.first.running]
        reported = {
            sequence: board.expected_end[row] - board.started[row]
            for sequence, row in rows
            if board.live[row] & PROGRESS_MASK != PROGRESS_MASK and board.expected_end[row]
        }
        estimate.foresee(reported, now)

    def learn(self, now: float) -> None:
        """Learn run times from the jobs of previous processes on the board, the last LEARNT of them."""
        board, tasks = self.board, self._active.estimate.tasks
        found, after = board.page(State.SUCCEEDED, board.next_sequence, LEARNT, LEARNT, now)
        failed, _ = board.page(State.FAILED, board.next_sequence, LEARNT, LEARNT, now)
        found += [sequence for sequence in failed if sequence >= after]
        rows = [board.at(sequence) for sequence in sorted(found)]
        ran = [(board.task[row], board.ended[row] - board.started[row]) for row in rows if board.started[row]]
        self._active.estimate.learn([(task, seconds) for task, seconds in ran if task < tasks and seconds >= 0], now)

    def _until_queued(self, row: int, task: int, ahead: int, now: float, together: int) -> float:
        board, estimate, queue = self.board, self._active.estimate, self._active.queue
        workers, waited = self._active.workers.count, now - board.submitted[row]
        free = queue.free(task, workers)
        if ahead < free:
            # It begins at once, as most jobs do.
            return estimate.for_queued(0, 1, waited, task, now, together=together)
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
            ahead = self._active.queue.ahead(row) if word & STATE_MASK == QUEUED else 0
            longest = max(longest, self._until(row, word, ahead, now, count))
        return self._promise(first, longest, now)
