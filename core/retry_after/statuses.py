"""The status of a job as its row has it, and when to ask again."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Protocol

from headway.core.board.rows import (
    ATTEMPT_MAX,
    ATTEMPT_SHIFT,
    GENERATION_SHIFT,
    PROGRESS_NONE,
    PROGRESS_SHIFT,
    STATE_MASK,
    Rows,
)
from headway.core.hold import TaskHold
from headway.core.ids import Ids
from headway.core.job import State
from headway.core.queue.outlook import Outlook
from headway.core.retry_after.promises import Promises
from headway.core.status import Status
from headway.core.wall import wall

# Plain ints for the road of a poll: a member of an enum costs twice as much to compare.
QUEUED, RUNNING, SUCCEEDED = int(State.QUEUED), int(State.RUNNING), int(State.SUCCEEDED)


class KnownTags(Protocol):
    """The tags of jobs."""

    @property
    def segments(self) -> Mapping[int, object]:
        """Nothing while no job has a tag."""

    def of(self, sequence: int) -> tuple[str, ...]:
        """Return the tags of a job."""


class RowStatuses:
    """Reads the rows of ``board``. ``names`` are those of tasks by the index that the board has of them.

    ``held`` has the tasks that are held, by index, and ``messages`` those beside the progress of running jobs.
    """

    def __init__(
        self,
        ids: Ids,
        board: Rows,
        outlook: Outlook,
        promises: Promises,
        *,
        names: list[str],
        tags: KnownTags,
        held: Mapping[int, TaskHold],
        messages: Mapping[int, str],
    ) -> None:
        self._ids = ids
        self._rows = board
        self._outlook = outlook
        self._tags = tags
        self.held = held
        self.promises = promises
        self.names = names
        self.messages = messages
        # The beginning of all ids of this engine.
        self.marker = ids.marker
        # Wall clock minus monotonic clock, in seconds, as of the last ``tick``.
        self.wall = wall.read()

    def tick(self, _: float) -> Iterable[object]:
        """Read the wall clock. Ticks come once a second."""
        self.wall = wall.read()
        return ()

    def status(self, row: int, now: float, promise: bool = True) -> Status:
        """Return the status of the job in ``row``. Without a ``promise`` it has no hint when to ask again."""
        board = self._rows
        # Once: each reading of a column makes an object.
        word, task, started, offset = board.live[row], board.task[row], board.started[row], self.wall
        state = word & STATE_MASK
        sequence = (word >> GENERATION_SHIFT) * board.rows + row if row < board.rows else board.sequence(row)
        progress = word >> PROGRESS_SHIFT & PROGRESS_NONE
        ahead, wait, held = 0, 0, None
        if state < SUCCEEDED:
            if state != RUNNING:
                ahead, held = self._outlook.ahead(row, state != QUEUED), self.held.get(task)
            if promise and held is None:
                wait = self.promises.retry_after_ms(row, word, ahead, now)
            elif promise:
                wait = self.promises.while_held_ms(row, word, now)
        status = Status(
            state=state,
            sequence=sequence,
            id=self._ids.write(sequence, board.tag[row]),
            task=self.names[task],
            attempt=word >> ATTEMPT_SHIFT & ATTEMPT_MAX,
            progress=None if progress == PROGRESS_NONE else progress,
            position=ahead,
            retry_after_ms=wait,
            submitted=board.submitted[row] + offset,
            started=started + offset if started else 0.0,
            ended=0.0,
            reason=board.reason[row],
        )
        # Few jobs have these, and CPython passes more than 15 keywords in a dict, which takes 0.4 µs.
        if state >= SUCCEEDED:
            status.ended, status.kept_until = board.ended[row] + offset, board.kept_until[row] + offset
        if held is not None:
            status.held = held.reason
        if self._tags.segments:
            status.tags = self._tags.of(sequence)
        if self.messages:
            status.message = self.messages.get(sequence, "")
        return status
