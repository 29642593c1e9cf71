"""Changes in memory: each takes effect in the call that makes it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress

from headway.core.audit import Act
from headway.core.board.rows import STATE_MASK
from headway.core.history import Minute
from headway.core.hold import TaskHold
from headway.core.job import Job, Reason, State
from headway.core.key import Key
from headway.core.local.active import Active
from headway.core.local.uncommitted import Uncommitted
from headway.core.past_attempt import PastAttempt
from headway.core.tasks.result import Result
from headway.core.work.outcome import Outcome


class AtOnce:
    """Lets each change of ``active`` take effect in the same call."""

    unseen = False
    full = False

    def __init__(self, active: Active) -> None:
        self._active = active
        self.may_claim = True

    def together(self) -> AbstractContextManager[None]:
        """Do nothing: what is accepted in one turn of the loop is seen as one."""
        return nullcontext()

    def begin(self, job: Job, delay: float, now: float, key: Key | None) -> None:
        """Let the job wait for its turn."""
        active = self._active
        if key is not None:
            active.keep_key(job, key, now)
        active.let_wait(job, delay, now)
        active.workers.wake()

    def cancel(self, sequence: int, now: float) -> None:
        """End the job."""
        active = self._active
        job, reason = active.jobs[sequence], Reason.NONE
        if active.board.state(sequence) == State.RUNNING:
            reason = Reason.INTERRUPTED
            active.interrupt(job)
        else:
            active.queue.remove(sequence)
        active.end(job, State.CANCELLED, now, reason=reason)

    def forget(self, sequence: int) -> None:
        """Forget the result."""
        self._active.show_forgotten(sequence)

    def hold(self, task: str, hold: TaskHold) -> None:
        """Set the switches."""
        self._active.holds.show(task, hold)

    def revise(self, sequence: int, state: State, priority: int, due: float, now: float) -> None:
        """Change the terms."""
        self._active.queue.remove(sequence)
        self._active.wait_as(sequence, state, priority, due, now)

    def keep_order(self, job: Job, payload: bytes) -> None:
        """Do nothing: the order ends with the process."""

    def note(self, act: Act, *, of_change: bool = True) -> None:
        """Keep the act. A deploy hands it over."""
        self._active.trail.add(time.time(), act)

    def keep_minute(self, minute: Minute) -> None:
        """Do nothing: a deploy hands the history over."""

    def uncommitted(self, changed: int | str) -> Uncommitted | None:
        """Return None: no change waits."""
        return None

    def last_uncommitted(self, sequences: Sequence[int]) -> Uncommitted | None:
        """Return None: no change waits."""
        return None

    def claimed(self, sequence: int, row: int) -> None:
        """Do nothing: the row has the count of attempts."""

    def keeps_back(self, job: Job, outcome: Outcome, now: float) -> bool:
        """Return False: no change waits."""
        return False

    def failed(self, sequence: int, past: PastAttempt) -> None:
        """Let clients see the attempt."""
        self._active.past.add(sequence, past)

    def snooze(self, sequence: int) -> None:
        """Do nothing: the row says so."""

    def retry(self, sequence: int) -> None:
        """Do nothing: the row says so."""

    def end(self, job: Job, state: State, now: float, result: Result | None, reason: Reason) -> None:
        """Let clients see the end."""
        self._active.show_end(job, state, now, result, reason)

    def expire(self, now: float) -> Iterable[object]:
        """Do nothing: rows that retention has given up are used again."""
        return ()

    def start(self, on_fatal: Callable[[str], object]) -> None:
        """Go on with the jobs that waited in the process before."""
        active, board, now = self._active, self._active.board, time.monotonic()
        carried, active.carried = active.carried, []
        for job in carried:
            if now >= job.deadline:
                active.take_up(job)
                active.fail_waiting(job, now)
                continue
            row = board.at(job.sequence)
            is_ready = board.live[row] & STATE_MASK == State.QUEUED
            active.let_wait(job, 0.0 if is_ready else max(board.due[row] - now, 1e-6), now)
        active.workers.wake()

    def resume(self) -> None:
        """Claim jobs again, if they were not claimed for a while."""
        self.may_claim = True
        self._active.wake()

    def put_back(self) -> None:
        """Do nothing: the jobs end with the process."""

    async def pause(self, timeout_s: float) -> int:
        """Claim no more jobs, and wait until none runs. The others are handed over."""
        self.may_claim = False
        return await self._active.rest(timeout_s)

    async def finish(self, timeout_s: float) -> int:
        """Wait until no job is active, but for those of tasks that stay held."""
        # They were not claimed in a deploy, if that was given up for this.
        self.resume()
        active, until = self._active, time.time() + timeout_s
        with suppress(TimeoutError):
            await asyncio.wait_for(active.wait_for_none(until), timeout_s)
        return len(active)

    async def close(self) -> None:
        """Do nothing: there is no place to close."""
