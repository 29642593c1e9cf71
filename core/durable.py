"""The active jobs when there is a journal: what clients see is what is on disk.

A job that is submitted has a row that is EMPTY until its submission is committed; then it is begun and its client
answered. A job that has ended is seen as it was before until its end is committed. What is between the two is *owed*.
An attempt that begins is counted first (``attempts``) and not written down: until its end the job is queued on disk.
That it is to be made again is written down and nobody waits for it.

While the journal has no room no job is claimed, so what is owed does not grow; what runs then ends when there is room.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from contextlib import AbstractContextManager
from math import inf

from headway.core.active import PAST_DEADLINE, Active
from headway.core.board import Board
from headway.core.config import Config
from headway.core.ids import COUNT_MASK, Ids
from headway.core.job import Job, Reason, State
from headway.core.journal.attempts import Attempts
from headway.core.journal.journal import Journal
from headway.core.keys import Key, Keyed
from headway.core.outcome import Outcome
from headway.core.owed import Owed
from headway.core.registry import Registry
from headway.core.results import Result
from headway.core.rows import ATTEMPT_MAX, ATTEMPT_SHIFT

# A job that was running when the server died may be what it died of: it is not tried again when this many more
# attempts were begun than it may fail.
DEATHS_MOST = 2
# Seconds between two looks at what is owed, when the server ends.
LOOK_S = 0.005


def _show_nothing() -> None:
    """Of what is seen the same before and after."""


class Durable(Active):
    """Active jobs whose changes are written to ``journal``."""

    def __init__(
        self, config: Config, registry: Registry, keys: Ids, board: Board, journal: Journal, waiting: int
    ) -> None:
        super().__init__(config, registry, keys, board, waiting)
        self.journal = journal
        self.attempts = Attempts(journal.path)
        # What the journal's clock says when time.monotonic is 0.
        self._epoch = journal.found.epoch
        # Numbers of changes by which an attempt is in the journal, and whose it is.
        self._retried: deque[tuple[int, int]] = deque()
        # Jobs that ever ended, those included whose end is owed.
        self._ended = 0
        # Kept, because ``super()`` for each job is what ``make bench-journal`` shows.
        self._claim_now, self._begin_seen, self._show_end_now = super()._claim, super().begin, super()._show_end
        # A worker was told that there is no job because the journal had no room.
        self._turned_away = False
        self._closing = False
        # Jobs that were not over, with their states and when they are due.
        self._restored: list[tuple[Job, int, float]] = []

    def restore(self, job: Job, state: int, due: float) -> None:
        """Keep a job that was in ``state`` and not over for ``start``; its row has been restored."""
        self._restored.append((job, state, due))
        self.queue.payload_bytes += len(job.payload)

    def start(self, on_fatal: Callable[[str], object]) -> None:
        """Start the workers and the journal, and go on with the jobs that were restored."""
        super().start(on_fatal)
        self.journal.run(asyncio.get_running_loop(), self._committed, self._no_room, on_fatal)
        self._ended = self.board.ended_total
        now = time.monotonic()
        restored, self._restored = self._restored, []
        for job, state, due in restored:
            attempt = self.board.attempt(self.board.at(job.sequence))
            if now >= job.deadline:
                self.jobs[job.sequence] = job
                self._end(job, State.FAILED, now, Result(PAST_DEADLINE), Reason.DEADLINE)
            elif state in (State.SCHEDULED, State.RETRYING):
                super().begin(job, max(due - now, 1e-6), now)
            elif state == State.RUNNING and attempt > job.retries + DEATHS_MOST:
                text = f"was running when the server died, and {attempt} attempts were begun"
                self.jobs[job.sequence] = job
                self._end(job, State.FAILED, now, Result(text), Reason.CRASHED)
            else:
                super().begin(job, 0.0, now)

    @property
    def full(self) -> bool:
        """Whether the journal has no room."""
        return self.journal.full

    def together(self) -> AbstractContextManager[None]:
        """Have all that is begun within it committed, or rejected, as one."""
        return self.journal.together()

    def begin(self, job: Job, delay: float, now: float, key: Key | None = None) -> None:
        """Write down a job; it begins when it is committed."""
        sequence, epoch = job.sequence, self._epoch
        change = self.journal.submit(
            sequence,
            State.SCHEDULED if delay else State.QUEUED,
            job.task.name,
            job.payload,
            self.board.priority[self.board.at(sequence)],
            now + delay + epoch if delay else None,
            job.timeout_s,
            job.retries,
            job.deadline + epoch if job.deadline < inf else None,
            now + epoch,
            None if key is None else key.text,
            None if key is None else key.digest,
            job.batch or None,
        )
        self.queue.reserved += 1
        self._owed[sequence] = owed = Owed(change, self._begin_now, (job, delay, now))
        if key is not None:
            self.keys.put(key.text, Keyed(sequence, key.digest, now, job.batch & COUNT_MASK))
            owed.key = key.text

    def _begin_now(self, job: Job, delay: float, now: float) -> None:
        self.queue.reserved -= 1
        self.board.show(job.sequence, State.SCHEDULED if delay else State.QUEUED)
        self._begin_seen(job, delay, now)

    def cancel(self, sequence: int) -> None:
        """End a job that waits or runs; one whose end is owed is left alone."""
        if sequence not in self._owed:
            super().cancel(sequence)

    def forget(self, sequence: int) -> None:
        """Forget the result of a job that is over, on disk as well."""
        super().forget(sequence)
        if sequence not in self._owed:
            self._owed[sequence] = Owed(self.journal.forget_result(sequence), _show_nothing)

    def _claim(self, now: float) -> Job | None:
        if self._closing:
            return None
        if self.journal.full or self.attempts.full:
            self._turned_away = True
            return None
        job = self._claim_now(now)
        if job is not None:
            sequence, board = job.sequence, self.board
            self.attempts.note(sequence, board.live[board.at(sequence)] >> ATTEMPT_SHIFT & ATTEMPT_MAX)
        return job

    def _try_again_or_fail(self, job: Job, outcome: Outcome, now: float) -> None:
        super()._try_again_or_fail(job, outcome, now)
        if self.board.state(job.sequence) == State.RETRYING:
            self._write_waiting(job.sequence, State.RETRYING)

    def _write_waiting(self, sequence: int, state: State) -> None:
        board, row = self.board, self.board.at(sequence)
        # The end that a running job has foretold by its progress is no time at which it is due.
        due = board.due[row] + self._epoch if state == State.RETRYING else None
        change = self.journal.retry(sequence, state, board.attempt(row), due, board.started[row] + self._epoch)
        self._retried.append((change, sequence))

    def _show_end(self, job: Job, state: State, now: float, result: Result | None, reason: Reason) -> None:
        """Write down the end of a job; clients see it when it is committed."""
        board, row = self.board, self.board.at(job.sequence)
        started = board.started[row]
        self._ended += 1
        change = self.journal.end(
            job.sequence,
            state,
            board.attempt(row),
            started + self._epoch if started else None,
            reason,
            now + self._epoch,
            # They are committed, and so shown, in this order.
            self._ended,
            None if result is None else result.media_type,
            None if result is None else result.body,
        )
        self._owed[job.sequence] = Owed(change, self._show_end_later, (job, state, now, result, reason))

    def _show_end_later(self, job: Job, state: State, now: float, result: Result | None, reason: Reason) -> None:
        self.attempts.release(job.sequence)
        self._show_end_now(job, state, now, result, reason)

    # What the journal calls.

    def _committed(self, changes: int) -> None:
        """All up to change number ``changes`` is on disk."""
        all_owed = self._owed
        committed = []
        for sequence, owed in all_owed.items():
            if owed.change > changes:
                break
            committed.append(sequence)
        for sequence in committed:
            owed = all_owed.pop(sequence)
            owed.show(*owed.arguments)
            for wake in owed.wakes:
                wake()
        while self._retried and self._retried[0][0] <= changes:
            sequence = self._retried.popleft()[1]
            if self.board.state(sequence) != State.RUNNING:
                self.attempts.release(sequence)
        if self._turned_away:
            self._turned_away = False
            self.workers.wake()

    def _no_room(self, rejected: list[int]) -> None:
        """The submissions in ``rejected`` were not committed: their rows stay EMPTY."""
        for sequence in rejected:
            self.queue.reserved -= 1
            owed = self._owed.pop(sequence)
            self.queue.payload_bytes -= len(owed.arguments[0].payload)
            if owed.key is not None:
                self.keys.forget(owed.key)
            for wake in owed.wakes:
                wake()

    # Life.

    def expire(self, _: float) -> None:
        """Have the journal delete what retention has given up, and idempotency keys that are too old."""
        board, now = self.board, time.monotonic() + self._epoch
        self.journal.expire(board.ended_total - board.kept_jobs, now - board.kept_seconds, now - self.keys.seconds)

    async def finish(self, timeout_s: float) -> int:
        """Claim no more jobs; wait until none runs and nothing is owed; return how many still run."""
        self._closing = True
        deadline = time.monotonic() + timeout_s
        while (self.board.count[State.RUNNING] or self._owed) and time.monotonic() < deadline:  # noqa: ASYNC110 — once
            await asyncio.sleep(LOOK_S)
        return self.board.count[State.RUNNING]

    def resume(self) -> None:
        """Claim jobs again."""
        self._closing = False
        self.workers.wake()

    async def stop(self) -> None:
        """End the workers; what still runs is begun again by the next start."""
        await super().stop()
        for sequence in self.jobs:
            if self.board.state(sequence) == State.RUNNING and sequence not in self._owed:
                # With its attempt, or it would be taken for what the server died of.
                self._write_waiting(sequence, State.QUEUED)

    async def close(self) -> None:
        """Commit what was written down, and close the journal."""
        await self.journal.close()
