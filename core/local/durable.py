"""The active jobs with a journal: clients see only facts that are on disk.

A submitted job has a row that is EMPTY until its submission is committed. Then it begins, and its
client is answered. A job that has ended looks as before until its end is committed. Changes between
the two are *uncommitted*. An attempt that begins is counted first (``attempts``) and not written
down: until its end the job is queued on disk. That it is to be made again is written down, and
nobody waits for it.

A client's request, a DELETE as well as a submission, acts when it is committed: a running job is
interrupted then, and a result forgotten. So with a full disk it can be refused, and has had no
effect, except that a job that waited goes to the end of its line.

While the journal has no room no job is claimed, so uncommitted changes do not grow. The end of a
job that runs then waits for room.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from math import inf

from headway.core.board.board import Board
from headway.core.board.idempotency import Key, Keyed
from headway.core.board.rows import ATTEMPT_MAX, ATTEMPT_SHIFT
from headway.core.config import Config
from headway.core.ids import COUNT_MASK, Ids
from headway.core.job import Job, Reason, State, encode_terms
from headway.core.journal.attempts import Attempts
from headway.core.journal.journal import Journal
from headway.core.local.active import PAST_DEADLINE, Active
from headway.core.local.uncommitted import Uncommitted
from headway.core.slices import in_slices
from headway.core.tasks.registry import Registry
from headway.core.tasks.result import Result
from headway.core.work.outcome import Outcome

# The server may have died of a job that was running then. Such a job is not tried again if this
# many more attempts were begun than it may fail.
DEATHS_MOST = 2
# Seconds between two looks at uncommitted changes, when the server ends.
LOOK_S = 0.005


class Durable(Active):
    """Active jobs whose changes are written to ``journal``."""

    def __init__(
        self, config: Config, registry: Registry, keys: Ids, board: Board, journal: Journal, waiting: int
    ) -> None:
        super().__init__(config, registry, keys, board, waiting)
        self.journal = journal
        self.attempts = Attempts(journal.path)
        # The journal's clock when time.monotonic is 0.
        self._epoch = journal.found.epoch
        # (change, job): the change by which an attempt of the job is in the journal.
        self._retried: deque[tuple[int, int]] = deque()
        # The last change that is on disk, and whether changes are being shown.
        self._on_disk = 0
        self._is_showing = False
        # The place of the job that ended last. Its end may be uncommitted.
        self._ended = 0
        # Kept, because ``make bench-journal`` shows the cost of ``super()`` for each job.
        self._claim_now, self._show_end_now = super()._claim, super()._show_end
        self._settle_now, self._forget_now = super()._settle, super().forget
        # For jobs that are being cancelled: the outcome of an attempt that ended meanwhile, and its
        # time.
        self._settled: dict[int, tuple[Outcome, float]] = {}
        # A worker got no job because the journal had no room.
        self._turned_away = False
        self._closing = False
        # Unfinished jobs, with their states and due times.
        self._restored: list[tuple[Job, int, float]] = []

    def restore(self, job: Job, state: int, due: float) -> None:
        """Keep an unfinished job, in ``state``, for ``start``. Its row has been restored."""
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
            elif state == State.RUNNING and attempt > job.terms.retries + DEATHS_MOST:
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
        """Have all jobs begun within it committed, or rejected, as one."""
        return self.journal.together()

    def begin(self, job: Job, delay: float, now: float, key: Key | None = None) -> None:
        """Write down a job. It begins when it is committed."""
        sequence, epoch = job.sequence, self._epoch
        change = self.journal.submit(
            sequence=sequence,
            state=State.SCHEDULED if delay else State.QUEUED,
            task=job.task.name,
            payload=job.payload,
            priority=self.board.priority[self.board.at(sequence)],
            due=now + delay + epoch if delay else None,
            terms=encode_terms(job.terms),
            submitted=now + epoch,
            key=None if key is None else key.text,
            digest=None if key is None else key.digest,
            batch=job.batch or None,
        )
        self.queue.reserved += 1
        self._uncommitted[sequence] = Uncommitted(change, self._begin_now, (job, delay, now, key), self._begin_never)
        if key is not None:
            self.keys.put(key.text, Keyed(sequence, key.digest, now, job.batch & COUNT_MASK))

    def _begin_now(self, job: Job, delay: float, now: float, _: Key | None) -> None:
        self.queue.reserved -= 1
        self.board.show(job.sequence, State.SCHEDULED if delay else State.QUEUED)
        self._let_wait(job, delay, now, None)

    def _begin_never(self, job: Job, _delay: float, _now: float, key: Key | None) -> None:
        """Undo a refused submission: its row stays EMPTY."""
        self.queue.reserved -= 1
        self.queue.payload_bytes -= len(job.payload)
        if key is not None:
            self.keys.forget(key.text)

    def cancel(self, sequence: int) -> None:
        """End a job that waits now, or one that runs once that is committed.

        A job with an uncommitted change is left alone.
        """
        if sequence in self._uncommitted:
            return
        job, board, row, now = self.jobs[sequence], self.board, self.board.at(sequence), time.monotonic()
        if board.state(sequence) != State.RUNNING:
            self.queue.remove(sequence)
            self.deadlines.remove(sequence)
        self._ended += 1
        started = board.started[row]
        change = self.journal.cancel(
            sequence, board.attempt(row), started + self._epoch if started else None, now + self._epoch, self._ended
        )
        self._uncommitted[sequence] = Uncommitted(change, self._cancel_now, (job, now, self._ended), self._cancel_never)

    def _cancel_now(self, job: Job, now: float, place: int) -> None:
        if self.board.state(job.sequence) == State.RUNNING:
            self.deadlines.remove(job.sequence)
            if self._settled.pop(job.sequence, None) is None:
                self.workers.cancel(job)
        self._end_now(place, job, State.CANCELLED, now, None, Reason.NONE)

    def _cancel_never(self, job: Job, _now: float, _place: int) -> None:
        """Undo a refused cancellation: the job goes on."""
        sequence, board = job.sequence, self.board
        state = board.state(sequence)
        if state == State.RUNNING:
            if sequence in self._settled:
                self._settle_now(job, *self._settled.pop(sequence))
            return
        if job.deadline < inf:
            self.deadlines.add(sequence, job.deadline)
        if state == State.QUEUED:
            self.queue.push(sequence)
            self.workers.wake()
        else:
            self.queue.delay(sequence, board.due[board.at(sequence)])
        self._set_timer()

    def _settle(self, job: Job, outcome: Outcome, now: float) -> None:
        if job.sequence in self._uncommitted:
            # Its cancellation is uncommitted. If it is refused, the attempt ended so.
            self._settled[job.sequence] = outcome, now
        else:
            self._settle_now(job, outcome, now)

    def forget(self, sequence: int) -> None:
        """Forget the result of a finished job, once that is committed."""
        if sequence not in self._uncommitted:
            change = self.journal.forget_result(sequence)
            self._uncommitted[sequence] = Uncommitted(change, self._forget_now, (sequence,), self._forget_never)

    def _forget_never(self, _: int) -> None:
        """Do nothing: a deletion was refused, and the result is still there."""

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
        # The end that a running job predicts by its progress is no time at which it is due.
        due = board.due[row] + self._epoch if state == State.RETRYING else None
        change = self.journal.retry(sequence, state, board.attempt(row), due, board.started[row] + self._epoch)
        self._retried.append((change, sequence))

    def _show_end(self, job: Job, state: State, now: float, result: Result | None, reason: Reason) -> None:
        """Write down the end of a job. Clients see it when it is committed."""
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
            # Ends are committed, and so shown, in this order.
            self._ended,
            None if result is None else result.media_type,
            None if result is None else result.body,
        )
        self._uncommitted[job.sequence] = Uncommitted(
            change, self._end_now, (self._ended, job, state, now, result, reason)
        )

    def _end_now(self, place: int, job: Job, state: State, now: float, result: Result | None, reason: Reason) -> None:
        self.attempts.release(job.sequence)
        # A refused cancellation has left a gap.
        self.board.ended_total = place - 1
        self._show_end_now(job, state, now, result, reason)

    # For the journal.

    def _committed(self, changes: int) -> None:
        """Note that all changes up to number ``changes`` are on disk."""
        self._on_disk = changes
        if not self._is_showing:
            self._is_showing = True
            in_slices(self._show_committed())

    def _show_committed(self) -> Iterator[None]:
        """Let clients see the facts on disk, a change a step, in the order of the changes."""
        try:
            shown = -1
            while shown < self._on_disk:
                shown = self._on_disk
                for sequence in self._committed_up_to(shown):
                    change = self._uncommitted.pop(sequence)
                    change.show(*change.arguments)
                    if change.wakes:
                        change.wake()
                    yield
                # Only now, so that a job is answered for before it begins.
                if self.board.count[State.QUEUED]:
                    self.workers.wake()
                self._let_go(shown)
        finally:
            self._is_showing = False

    def _committed_up_to(self, changes: int) -> list[int]:
        """Return the jobs with an uncommitted change that is now on disk, in the order of the changes."""
        found = []
        for sequence, change in self._uncommitted.items():
            if change.number > changes:
                break
            found.append(sequence)
        return found

    def _let_go(self, changes: int) -> None:
        """Forget attempts of jobs whose next attempt is written down, and have jobs claimed again."""
        while self._retried and self._retried[0][0] <= changes:
            sequence = self._retried.popleft()[1]
            if self.board.state(sequence) != State.RUNNING:
                self.attempts.release(sequence)
        self.journal.give_up(self.board.ended_total - self.board.kept_jobs, self.keys.given_up)
        if self._turned_away and not self.journal.full:
            self._turned_away = False
            self.attempts.make()
            self.workers.wake()

    def _no_room(self, refused: list[int]) -> None:
        """Undo the requests of clients about the jobs in ``refused``: they were not committed."""
        for sequence in refused:
            change = self._uncommitted.pop(sequence)
            assert change.undo is not None
            change.undo(*change.arguments)
            change.no_room = True
            change.wake()
        for change in list(self._uncommitted.values()):
            # Its end is uncommitted, and comes once there is room. Its waiting clients do not wait
            # for that. Changes on disk are being shown.
            if change.wakes and change.number > self._on_disk:
                change.no_room = True
                change.wake()

    # Life.

    def expire(self, _: float) -> Iterable[object]:
        """Have the journal delete what retention has given up, and idempotency keys that are too old."""
        board, now = self.board, time.monotonic() + self._epoch
        self.journal.expire(
            board.ended_total - board.kept_jobs, now - board.kept_seconds, self.keys.given_up, now - self.keys.seconds
        )
        return ()

    async def finish(self, timeout_s: float) -> int:
        """Claim no more jobs, and wait until none runs and nothing is uncommitted.

        Return how many still run.
        """
        self._closing = True
        deadline = time.monotonic() + timeout_s
        while (self.board.count[State.RUNNING] or self._uncommitted) and time.monotonic() < deadline:  # noqa: ASYNC110 — once
            await asyncio.sleep(LOOK_S)
        return self.board.count[State.RUNNING]

    def resume(self) -> None:
        """Claim jobs again."""
        self._closing = False
        self.workers.wake()

    async def stop(self) -> None:
        """End the workers. The next start begins again the jobs that still run."""
        await super().stop()
        for sequence in self.jobs:
            if self.board.state(sequence) == State.RUNNING and sequence not in self._uncommitted:
                # With its attempt. Otherwise it would count as the cause of the server's death.
                self._write_waiting(sequence, State.QUEUED)

    async def close(self) -> None:
        """Commit all changes written down, and close the journal."""
        await self.journal.close()
