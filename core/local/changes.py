"""The road of a change: from a decision to the effect that clients see.

``Active`` decides each change of an unfinished job, and hands it to a ``Changes``. ``AtOnce`` lets
it take effect in the same call: that is the engine in memory. ``Durable`` writes it down first, and
lets it take effect once it is on disk.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

from headway.core.audit import Act
from headway.core.history import Minute
from headway.core.hold import TaskHold
from headway.core.job import Job, Reason, State
from headway.core.key import Key
from headway.core.local.uncommitted import Uncommitted
from headway.core.past_attempt import PastAttempt
from headway.core.tasks.result import Result
from headway.core.work.outcome import Outcome


class Changes(Protocol):
    """Carries out changes. All calls come from one event loop, and none but the last three awaits."""

    # Whether a job is EMPTY, and so seen by no client, until its submission takes effect.
    unseen: bool

    @property
    def full(self) -> bool:
        """Whether there is no room for changes."""

    @property
    def may_claim(self) -> bool:
        """Whether a job may begin now. If not, the workers are woken once it may."""

    # Of clients.

    def together(self) -> AbstractContextManager[None]:
        """Have all changes made within it take effect, or none of them."""

    def begin(self, job: Job, delay: float, now: float, key: Key | None) -> None:
        """Accept a job that has its row. ``key`` is for clients that submit it again."""

    def cancel(self, sequence: int, now: float) -> None:
        """End a job that waits or runs, unless a change of it is uncommitted."""

    def forget(self, sequence: int) -> None:
        """Forget the result of a finished job."""

    def hold(self, task: str, hold: TaskHold) -> None:
        """Set the switches of a task, which has no uncommitted change."""

    def revise(self, sequence: int, state: State, priority: int, due: float, now: float) -> None:
        """Have a job that waits and has no uncommitted change wait in ``state`` from then on.

        ``due`` is the time at which it is ready, or was. 0.0: it never had a delay.
        """

    def keep_order(self, job: Job, payload: bytes) -> None:
        """Keep an order as far as it was carried out, in the commit of its last changes.

        ``job`` is the order, and runs.
        """

    def note(self, act: Act, *, of_change: bool = True) -> None:
        """Keep an act in the audit log.

        ``of_change``: call it ``together`` with the change that it tells of. The act is kept if the change is.
        """

    def keep_minute(self, minute: Minute) -> None:
        """Keep a minute of the history."""

    def uncommitted(self, changed: int | str) -> Uncommitted | None:
        """Return the last change of a job, or of a task, while it is not on disk. No client may hear of it before."""

    def last_uncommitted(self, sequences: Sequence[int]) -> Uncommitted | None:
        """Return the last of these jobs' changes to be committed, or None if all are."""

    # Of attempts.

    def claimed(self, sequence: int, row: int) -> None:
        """Count an attempt that begins."""

    def keeps_back(self, job: Job, outcome: Outcome, now: float) -> bool:
        """Whether the attempt's outcome waits, because a change of its job is uncommitted."""

    def failed(self, sequence: int, past: PastAttempt) -> None:
        """Keep an attempt that failed. Call it ``together`` with the change of its job that follows."""

    def snooze(self, sequence: int) -> None:
        """Keep that a job waits as if its last attempt had not begun: it is SCHEDULED."""

    def retry(self, sequence: int) -> None:
        """Keep that a job waits for another attempt: it is RETRYING."""

    def end(self, job: Job, state: State, now: float, result: Result | None, reason: Reason) -> None:
        """End a job for good."""

    # Life.

    def expire(self, now: float) -> Iterable[object]:
        """Delete the facts that retention has given up, a step at a time."""

    def start(self, on_fatal: Callable[[str], object]) -> None:
        """Go on with the jobs of before. ``on_fatal`` gets a line when no job can be kept any more."""

    def resume(self) -> None:
        """Have jobs claimed again, after a ``pause`` or a ``finish`` that did not lead to an end."""

    def put_back(self) -> None:
        """Keep that the jobs that still run, though the workers have ended, wait as if they had not begun."""

    async def pause(self, timeout_s: float) -> int:
        """Claim no more jobs, and wait until none runs. Return how many still do. Jobs are accepted all the time."""

    async def finish(self, timeout_s: float) -> int:
        """Wait until all jobs that would be lost have finished. Return how many have not."""

    async def close(self) -> None:
        """Commit all changes, and close the place where they are kept."""
