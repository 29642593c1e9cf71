"""Changes with a journal: clients see only facts that are on disk.

A submitted job has a row that is EMPTY until its submission is committed. Then it waits for its
turn, and its client is answered. A job that has ended looks as before until its end is committed.
Changes between the two are *uncommitted*. An attempt that begins is counted first (``attempts``) and
not written down: until its end the job is queued on disk. That it is to be made again is written
down, and nobody waits for it. Clients see the failed attempt once that is committed.

An attempt that snoozed, or that the end of the server interrupted, is taken back: the job waits as
if it had not begun. First it goes from the file of attempts, then from the journal, so a kill in
between does not make it one of which the server died.

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
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from math import inf

from headway.core.audit import Act, encode
from headway.core.board.past_attempts import left_out
from headway.core.board.rows import ATTEMPT_MAX, ATTEMPT_SHIFT
from headway.core.history import KEPT, Minute, encode_minute
from headway.core.hold import NO_HOLD, TaskHold
from headway.core.job import Job, Reason, State, encode_terms
from headway.core.journal.attempts import Attempts
from headway.core.journal.journal import Journal
from headway.core.journal.notes import Kind
from headway.core.key import Key
from headway.core.local.active import LOOK_S, Active
from headway.core.local.uncommitted import Uncommitted
from headway.core.local.written_logs import WrittenLogs
from headway.core.past_attempt import PastAttempt, encode_attempt
from headway.core.slices import in_slices
from headway.core.tasks.result import Result
from headway.core.work.outcome import Outcome
from headway.core.work.verdict import DEATHS_MOST

# The error of an attempt that was running then.
DIED = "was running when the server died"


class Durable:
    """Writes the changes of ``active`` to ``journal``, and lets them take effect once committed."""

    unseen = True

    def __init__(self, active: Active, journal: Journal) -> None:
        self._active = active
        self._board = active.board
        self.journal = journal
        # It knows whether there is room, which is asked for each job.
        self._delivery = journal.delivery
        self.attempts = Attempts(journal.path)
        results = active.config.results
        self.logs = WrittenLogs(journal, results.log_bytes, results.log_max_bytes, active.log_grown)
        active.logs = self.logs
        active.holds.on_over = self._end_hold
        # The journal's clock when time.monotonic is 0.
        self._epoch = journal.found.epoch
        # By the number of the job or the name of the task, in the order of the changes.
        self._uncommitted: dict[int | str, Uncommitted] = {}
        # (change, job): the change by which an attempt of the job is in the journal.
        self._retried: deque[tuple[int, int]] = deque()
        # (change, job, attempt) of failed attempts that are not on disk yet.
        self._failed: deque[tuple[int, int, PastAttempt]] = deque()
        # The last change that is on disk, and whether changes are being shown.
        self._on_disk = 0
        self._is_showing = False
        # By the outcome of a job, the place of the one that ended so last. Its end may be uncommitted.
        self._ended = [0] * len(State)
        # Of jobs that are being cancelled, and of orders with an uncommitted step: the outcome of an
        # attempt that ended meanwhile, and its time.
        self._kept_back: dict[int, tuple[Outcome, float]] = {}
        # A worker got no job because the journal had no room.
        self._turned_away = False
        self._closing = False
        # Unfinished jobs, with their states and due times.
        self._restored: list[tuple[Job, int, float]] = []

    @property
    def full(self) -> bool:
        """Whether the journal has no room."""
        return self._delivery.full

    @property
    def may_claim(self) -> bool:
        """Whether the journal has room, and the server is not about to end."""
        if self._closing:
            return False
        if self._delivery.full or not self.attempts.free:
            self._turned_away = True
            return False
        return True

    def uncommitted(self, changed: int | str) -> Uncommitted | None:
        """Return the last change of a job, or of a task, while it is not on disk."""
        return self._uncommitted.get(changed)

    def last_uncommitted(self, sequences: Sequence[int]) -> Uncommitted | None:
        """Return the last of these jobs' changes to be committed, or None if all are."""
        changes = [self._uncommitted[sequence] for sequence in sequences if sequence in self._uncommitted]
        return max(changes, key=lambda change: change.number, default=None)

    # Of clients.

    def together(self) -> AbstractContextManager[None]:
        """Have all changes made within it committed, or refused, as one."""
        return self.journal.together()

    def begin(self, job: Job, delay: float, now: float, key: Key | None) -> None:
        """Write down a job. It waits for its turn once it is committed."""
        sequence, epoch = job.sequence, self._epoch
        change = self.journal.submit(
            sequence=sequence,
            state=State.SCHEDULED if delay else State.QUEUED,
            task=job.task.name,
            payload=job.payload,
            priority=self._board.priority[self._board.at(sequence)],
            due=now + delay + epoch if delay else None,
            terms=encode_terms(job.terms),
            submitted=now + epoch,
            key=None if key is None else key.text,
            digest=None if key is None else key.digest,
            batch=job.batch or None,
        )
        self._active.queue.reserved += 1
        self._uncommitted[sequence] = Uncommitted(change, self._show_begun, (job, delay, now, key), self._begin_never)
        if key is not None:
            self._active.keep_key(job, key, now)

    def _show_begun(self, job: Job, delay: float, now: float, _: Key | None) -> None:
        self._active.queue.reserved -= 1
        self._board.show(job.sequence, State.SCHEDULED if delay else State.QUEUED)
        self._active.let_wait(job, delay, now)

    def _begin_never(self, job: Job, _delay: float, _now: float, key: Key | None) -> None:
        """Undo a refused submission: its row stays EMPTY."""
        self._active.queue.reserved -= 1
        self._active.queue.payload_bytes -= len(job.payload)
        if key is not None:
            self._active.keys.forget(key.text)

    def cancel(self, sequence: int, now: float) -> None:
        """Cancel a job. It ends once that is committed. One that waits leaves the queue at once.

        A job with an uncommitted change is left alone.
        """
        if sequence in self._uncommitted:
            return
        board, active = self._board, self._active
        job, row, reason = active.jobs[sequence], board.at(sequence), Reason.INTERRUPTED
        if board.state(sequence) != State.RUNNING:
            reason = Reason.NONE
            active.queue.remove(sequence)
            active.deadlines.remove(sequence)
        active.end_log(sequence)
        place = self._ended[State.CANCELLED] = self._ended[State.CANCELLED] + 1
        started = board.started[row]
        change = self.journal.cancel(
            sequence=sequence,
            attempt=board.attempt(row),
            started=started + self._epoch if started else None,
            reason=reason,
            ended=now + self._epoch,
            place=place,
            until=now + self._epoch + board.seconds_kept(State.CANCELLED, job.terms.keep_s),
        )
        self._uncommitted[sequence] = Uncommitted(
            change, self._show_cancelled, (job, now, place, reason), self._cancel_never
        )

    def _show_cancelled(self, job: Job, now: float, place: int, reason: Reason) -> None:
        if self._board.state(job.sequence) == State.RUNNING:
            self._active.deadlines.remove(job.sequence)
            if self._kept_back.pop(job.sequence, None) is None:
                self._active.interrupt(job)
        self._show_end(place, (job, State.CANCELLED, now, None, reason))

    def _cancel_never(self, job: Job, _now: float, _place: int, _reason: Reason) -> None:
        """Undo a refused cancellation: the job goes on."""
        sequence, board, active = job.sequence, self._board, self._active
        state = board.state(sequence)
        if state == State.RUNNING:
            if sequence in self._kept_back:
                active.decide(job, *self._kept_back.pop(sequence))
            return
        self._wait_again(job)

    def _wait_again(self, job: Job) -> None:
        """Put a job back that was taken out of the queue. One that is ready goes to the end of its line."""
        active, board, sequence = self._active, self._board, job.sequence
        self._guard(job)
        if board.state(sequence) == State.QUEUED:
            active.queue.push(sequence)
            active.workers.wake()
        else:
            active.queue.delay(sequence, board.due[board.at(sequence)])
        active.set_timer()

    def _guard(self, job: Job) -> None:
        """Have a job that waits fail at its deadline."""
        if job.deadline < inf:
            self._active.deadlines.add(job.sequence, job.deadline)
            self._active.set_timer()

    def forget(self, sequence: int) -> None:
        """Forget the result of a finished job, once that is committed."""
        if sequence not in self._uncommitted:
            change = self.journal.forget_result(sequence)
            self._uncommitted[sequence] = Uncommitted(
                change, self._active.show_forgotten, (sequence,), self._forget_never
            )

    def _forget_never(self, _: int) -> None:
        """Do nothing: a deletion was refused, and the result is still there."""

    def hold(self, task: str, hold: TaskHold) -> None:
        """Set the switches of a task, once that is committed."""
        change = self.journal.note((Kind.HOLD, task, hold.dispatch, hold.intake, hold.until, hold.reason), soon=True)
        self._uncommitted[task] = Uncommitted(change, self._active.holds.show, (task, hold), self._hold_never)

    def _hold_never(self, _task: str, _hold: TaskHold) -> None:
        """Do nothing: the change was refused, and the switches are as before."""

    def _end_hold(self, task: str) -> None:
        """Write down that the switches of a task were returned at their time. A change that comes meanwhile says so."""
        if task not in self._uncommitted:
            self.hold(task, NO_HOLD)

    def revise(self, sequence: int, state: State, priority: int, due: float, now: float) -> None:
        """Change the terms of a job that waits, once that is committed. Until then it does not begin."""
        active = self._active
        job = active.jobs[sequence]
        active.queue.remove(sequence)
        active.deadlines.remove(sequence)
        # Its place in the queue, for which it comes back.
        active.queue.reserved += 1
        written = due + self._epoch if due else None
        change = self.journal.note((Kind.TERMS, sequence, int(state), priority, written), soon=True)
        self._uncommitted[sequence] = Uncommitted(
            change, self._show_revised, (job, state, priority, due, now), self._revise_never
        )

    def _show_revised(self, job: Job, state: State, priority: int, due: float, now: float) -> None:
        self._active.queue.reserved -= 1
        self._guard(job)
        self._active.wait_as(job.sequence, state, priority, due, now)

    def _revise_never(self, job: Job, _state: State, _priority: int, _due: float, _now: float) -> None:
        """Undo a refused change: the job waits as before."""
        self._active.queue.reserved -= 1
        self._wait_again(job)

    def keep_order(self, job: Job, payload: bytes) -> None:
        """Write down an order as far as it was carried out."""
        change = self.journal.note((Kind.ORDER, job.sequence, payload), soon=True)
        self._uncommitted[job.sequence] = Uncommitted(change, self._order_kept, (job,), self._order_kept)

    def _order_kept(self, job: Job) -> None:
        kept = self._kept_back.pop(job.sequence, None)
        if kept is not None:
            self._active.decide(job, *kept, learns=False)

    def note(self, act: Act, *, of_change: bool = True) -> None:
        """Write down an act, in the commit of its change."""
        kept = self._active.config.audit.kept
        if kept:
            self.journal.note((Kind.ACT, of_change, encode(time.time(), act), kept), soon=True)

    def keep_minute(self, minute: Minute) -> None:
        """Write down a minute of the history, and give up the one that is a day old."""
        self.journal.note((Kind.MINUTE, minute.number, encode_minute(minute), minute.number - KEPT))

    # Of attempts.

    def claimed(self, sequence: int, row: int) -> None:
        """Count an attempt that begins, in the file of attempts."""
        self.attempts.note(sequence, self._board.live[row] >> ATTEMPT_SHIFT & ATTEMPT_MAX)

    def keeps_back(self, job: Job, outcome: Outcome, now: float) -> bool:
        """Keep the outcome of an attempt while a change of its job is uncommitted. Return whether one is.

        If a cancellation is refused, or the step of an order is settled, the attempt ended so.
        """
        if job.sequence not in self._uncommitted:
            return False
        self._kept_back[job.sequence] = outcome, now
        return True

    def failed(self, sequence: int, past: PastAttempt) -> None:
        """Write down an attempt that failed. Clients see it when it is committed."""
        change = self.journal.note((Kind.ATTEMPT, sequence, past.number, encode_attempt(past)))
        if number := left_out(past.number):
            change = self.journal.note((Kind.LEFT_OUT, sequence, number))
        self._failed.append((change, sequence, past))

    def retry(self, sequence: int) -> None:
        """Write down that a job waits for another attempt."""
        self._write_waiting(sequence, State.RETRYING, self._board.attempt(self._board.at(sequence)))

    def snooze(self, sequence: int) -> None:
        """Write down that a job waits as if its last attempt had not begun."""
        self.attempts.take_back(sequence)
        self._write_waiting(sequence, State.SCHEDULED, self._board.attempt(self._board.at(sequence)))

    def _write_waiting(self, sequence: int, state: State, attempt: int) -> None:
        board, row = self._board, self._board.at(sequence)
        # The end that a running job predicts by its progress is no time at which it is due.
        due = None if state == State.QUEUED else board.due[row] + self._epoch
        started = board.started[row]
        change = self.journal.retry(sequence, state, attempt, due, started + self._epoch if started else None)
        self._retried.append((change, sequence))

    def end(self, job: Job, state: State, now: float, result: Result | None, reason: Reason) -> None:
        """Write down the end of a job. Clients see it when it is committed."""
        board, row = self._board, self._board.at(job.sequence)
        started = board.started[row]
        place = self._ended[state] = self._ended[state] + 1
        change = self.journal.end(
            sequence=job.sequence,
            state=state,
            attempt=board.attempt(row),
            started=started + self._epoch if started else None,
            reason=reason,
            ended=now + self._epoch,
            # Ends are committed, and so shown, in this order.
            place=place,
            until=now + self._epoch + board.seconds_kept(state, job.terms.keep_s),
            media_type=None if result is None else result.media_type,
            body=None if result is None else result.body,
        )
        self._uncommitted[job.sequence] = Uncommitted(
            change, self._show_end, (place, (job, state, now, result, reason))
        )

    def _show_end(self, place: int, end: tuple[Job, State, float, Result | None, Reason]) -> None:
        self.attempts.release(end[0].sequence)
        # A refused cancellation has left a gap.
        self._board.last_place[end[1]] = place - 1
        self._active.show_end(*end)

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
                while self._failed and self._failed[0][0] <= shown:
                    self._active.past.add(*self._failed.popleft()[1:])
                    yield
                yield from self.logs.committed(shown)
                for changed in self._committed_up_to(shown):
                    change = self._uncommitted.pop(changed)
                    change.show(*change.arguments)
                    if change.wakes:
                        change.wake()
                    yield
                # Only now, so that a job is answered for before it begins.
                if self._board.count[State.QUEUED]:
                    self._active.workers.wake()
                self._let_go(shown)
        finally:
            self._is_showing = False

    def _committed_up_to(self, changes: int) -> list[int | str]:
        """Return the jobs and tasks with an uncommitted change that is now on disk, in the order of the changes."""
        found: list[int | str] = []
        for sequence, change in self._uncommitted.items():
            if change.number > changes:
                break
            found.append(sequence)
        return found

    def _let_go(self, changes: int) -> None:
        """Forget attempts whose successors are written down, delete what is given up, and have jobs claimed again."""
        while self._retried and self._retried[0][0] <= changes:
            sequence = self._retried.popleft()[1]
            if self._board.state(sequence) != State.RUNNING:
                self.attempts.release(sequence)
        self.journal.give_up(self._board.given_up(), self._active.keys.given_up)
        if self._turned_away and not self.journal.full:
            self._turned_away = False
            self.attempts.make()
            self._active.wake()

    def _no_room(self, refused: list[int | str]) -> None:
        """Undo the requests of clients about the jobs and tasks in ``refused``: they were not committed."""
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

    def restore(self, job: Job, state: int, due: float) -> None:
        """Keep an unfinished job, in ``state``, for ``start``. Its row has been restored."""
        self._restored.append((job, state, due))
        if job.terms.tags:
            self._active.tags.put(job.sequence, job.terms.tags)
        self._active.queue.payload_bytes += len(job.payload)

    def start(self, on_fatal: Callable[[str], object]) -> None:
        """Start the journal, and go on with the jobs that were restored."""
        active, board = self._active, self._board
        self.journal.run(asyncio.get_running_loop(), self._committed, self._no_room, on_fatal)
        self._ended = board.last_place.tolist()
        now = time.monotonic()
        restored, self._restored = self._restored, []
        for job, state, due in restored:
            if state == State.RUNNING:
                with self.together():
                    self._begin_again(job, now)
            elif now >= job.deadline:
                active.take_up(job)
                active.fail_waiting(job, now)
            else:
                active.let_wait(job, 0.0 if state == State.QUEUED else max(due - now, 1e-6), now)
        active.workers.wake()

    def _begin_again(self, job: Job, now: float) -> None:
        """Queue a job that was running when the server died, unless it may be what the server dies of."""
        active, attempt = self._active, self._board.attempt(self._board.at(job.sequence))
        lane = job.task.lane or active.workers.default_lane
        outcome = Outcome(State.FAILED, Reason.CRASHED, error=DIED)
        outcome.log(active.id_of(job), job.task.name, attempt)
        self.failed(job.sequence, outcome.past(attempt, 0.0, time.time(), lane.value))
        if now >= job.deadline:
            active.take_up(job)
            active.fail_waiting(job, now)
        elif attempt > job.terms.retries + DEATHS_MOST:
            active.take_up(job)
            error = f"{DIED}, and {attempt} attempts were begun"
            active.end(job, State.FAILED, now, Result(error), Reason.CRASHED)
        else:
            # So that the next start does not find this death again.
            self._write_waiting(job.sequence, State.QUEUED, attempt)
            active.let_wait(job, 0.0, now)

    def expire(self, now: float) -> Iterable[object]:
        """Have the journal delete the facts that retention has given up, and keys that are too old."""
        board, keys, written = self._board, self._active.keys, now + self._epoch
        self.journal.expire(board.given_up(), written, keys.given_up, written - keys.seconds)
        return ()

    async def pause(self, timeout_s: float) -> int:
        """Claim no more jobs, and wait until none runs. Return how many still do."""
        self._closing = True
        return await self._active.rest(timeout_s)

    async def finish(self, timeout_s: float) -> int:
        """Claim no more jobs, and wait until none runs and nothing is uncommitted.

        Return how many still run.
        """
        self._closing = True
        deadline = time.monotonic() + timeout_s
        while (self._board.count[State.RUNNING] or self._uncommitted) and time.monotonic() < deadline:  # noqa: ASYNC110 — once
            await asyncio.sleep(LOOK_S)
        return self._board.count[State.RUNNING]

    def resume(self) -> None:
        """Claim jobs again."""
        self._closing = False
        self._active.wake()

    def put_back(self) -> None:
        """Write down that the jobs that still run wait: the next start begins them again, at the same attempt."""
        self.logs.write_all()
        for sequence in self._active.jobs:
            change = self._uncommitted.get(sequence)
            # The others are about to end. An order goes on after its last step.
            if self._board.state(sequence) == State.RUNNING and (change is None or change.show == self._order_kept):
                self.attempts.take_back(sequence)
                self._write_waiting(sequence, State.QUEUED, self._board.attempt(self._board.at(sequence)) - 1)

    async def close(self) -> None:
        """Commit all changes written down, and close the journal."""
        await self.journal.close()
