"""Acting on tasks and on jobs: the switches of a task, the terms of a job that waits, the end of one.

An act goes by facts that are committed. If a change of the same job or task is uncommitted, the act
is done after that. On a full disk it is refused.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from headway.core.audit import Act
from headway.core.board.batches import Batches
from headway.core.errors import JournalFullError, NotWaitingError
from headway.core.hold import Switches
from headway.core.interface import Cancel, Cancelled, CancelledBatch, Soon
from headway.core.job import WAITING, Revision, State
from headway.core.later import Then
from headway.core.local.active import Active
from headway.core.local.catalogue import catalogued
from headway.core.local.reading import Reading
from headway.core.local.uncommitted import Committed
from headway.core.status import BatchStatus, Status, TaskStatus
from headway.core.tasks.registry import Registry
from msgspec import UnsetType
from msgspec.structs import replace


class Acting:
    """Carries out what a person or a client wants of tasks and jobs that are there."""

    def __init__(self, active: Active, registry: Registry, reading: Reading, batches: Batches) -> None:
        self.active = active
        self.board = active.board
        self.changes = active.changes
        self.registry = registry
        self.reading = reading
        self.batches = batches

    def switch(self, task: str, switches: Switches, act: Act | None) -> Soon[TaskStatus | None]:
        """Change the switches of a task, as Engine says."""
        known = self.registry.by_name.get(task)
        if known is None:
            return None
        change = self.changes.uncommitted(task)
        self._check_disk()
        if change is not None:
            # It goes by the switches after that change.
            return Then(Committed(change, lambda: None), lambda _: self.switch(task, switches, act))
        holds = self.active.holds
        with self.noted(act):
            self.changes.hold(task, switches.over(holds.of(task), time.time()))
        change = self.changes.uncommitted(task)
        then: Callable[[], TaskStatus | None] = lambda: catalogued(self.active.config, known, self.active)  # noqa: E731
        return then() if change is None else Committed(change, then)

    def revise(self, status: Status, revision: Revision, act: Act | None) -> Soon[Status]:
        """Change a job that waits, as Engine says."""
        revision.check()
        sequence = status.sequence
        change = self.changes.uncommitted(sequence)
        if change is not None:
            # It goes by the state after that change.
            self._check_disk()
            return Then(
                Committed(change, lambda: None), lambda _: self.revise(self.reading.at(sequence), revision, act)
            )
        if status.state not in WAITING:
            raise NotWaitingError(State(status.state).name.lower())
        self._check_disk()
        board, now = self.board, time.monotonic()
        row = board.at(sequence)
        state, due = State(status.state), board.due[row]
        priority = board.priority[row] if isinstance(revision.priority, UnsetType) else revision.priority
        if not isinstance(revision.delay, UnsetType):
            if revision.delay:
                due = now + revision.delay
                state = State.SCHEDULED if state == State.QUEUED else state
            elif state != State.QUEUED:
                state, due = State.QUEUED, now
        if (state, due, priority) == (status.state, board.due[row], board.priority[row]):
            return status
        with self.noted(act):
            self.changes.revise(sequence, state, priority, due, now)
        change = self.changes.uncommitted(sequence)
        if change is None:
            return self.reading.at(sequence)
        return Committed(change, lambda: self.reading.at(sequence))

    def cancel(self, status: Status, act: Act | None) -> Soon[Cancelled]:
        """End an active job, or forget the result of a finished one, as Engine says."""
        change = self.changes.uncommitted(status.sequence)
        if change is not None:
            # A change, such as its end, is being committed. The cancellation goes by the state
            # after that.
            self._check_disk()
            return Then(Committed(change, lambda: None), lambda _: self.cancel(self.reading.at(status.sequence), act))
        if status.state in (State.CANCELLED, State.EXPIRED):
            return Cancelled(status, Cancel.NOTHING)
        self._check_disk()
        running = status.state == State.RUNNING
        with self.noted(act, goes_on=running):
            if status.state >= State.SUCCEEDED:
                how = Cancel.FORGOTTEN
                self.changes.forget(status.sequence)
            else:
                how = Cancel.ASKED if running else Cancel.DROPPED
                self.changes.cancel(status.sequence, time.monotonic())
        change = self.changes.uncommitted(status.sequence)
        then: Callable[[], Cancelled] = lambda: Cancelled(self.reading.at(status.sequence), how)  # noqa: E731
        return then() if change is None else Committed(change, then)

    def cancel_batch(self, batch: BatchStatus, act: Act | None) -> Soon[CancelledBatch]:
        """End the active jobs of a batch, as Engine says."""
        self._check_disk()
        pending = self.batches.pending(batch)
        # Those that a client is changing are cancelled after that.
        changing = [sequence for sequence in pending if self.board.state(sequence) in WAITING]
        revised = self.changes.last_uncommitted(changing)
        if revised is not None:
            return Then(Committed(revised, lambda: None), lambda _: self.cancel_batch(self.batches.again(batch), act))
        running = any(self.board.state(sequence) == State.RUNNING for sequence in pending)
        now = time.monotonic()
        # One that ends meanwhile is left alone.
        ours = [sequence for sequence in pending if self.changes.uncommitted(sequence) is None]
        with self.noted(act if ours else None, goes_on=running, count=len(ours)):
            for sequence in ours:
                self.changes.cancel(sequence, now)
        change = self.changes.last_uncommitted(pending)
        then: Callable[[], CancelledBatch] = lambda: CancelledBatch(self.batches.again(batch), running)  # noqa: E731
        if change is None:
            return then()
        self._check_disk()
        return Committed(change, then)

    @contextmanager
    def noted(self, act: Act | None, *, goes_on: bool = False, count: int | None = None) -> Iterator[None]:
        """Keep ``act`` in the audit log if the change within is made, and not without it."""
        with self.changes.together():
            yield
            if act is not None:
                self.changes.note(replace(act, goes_on=goes_on, count=count))

    def _check_disk(self) -> None:
        """Raise JournalFullError if the journal has no room, so nothing can be changed."""
        if self.changes.full:
            raise JournalFullError
