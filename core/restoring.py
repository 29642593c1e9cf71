"""From a journal back to the board: what a start does before it serves.

A job that was running is queued again, its attempts counted. Times on the board are of time.monotonic and those of a
journal of time.time; ``Durable.wall`` is the difference.

Where retention.jobs, queue.size or workers were changed the board has another number of rows, and two sequence numbers
may share one. Jobs that are not over have one each in any case (``rows_for_all``); of two that are over the one that
ended first is given up, as if it had expired.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from itertools import chain
from math import inf
from typing import Any

from headway.core.board import Board
from headway.core.durable import Durable
from headway.core.errors import JournalError
from headway.core.job import Job, State
from headway.core.journal.journal import Journal
from headway.core.journal.replay import Saved
from headway.core.keys import Keyed
from headway.core.registry import Registry, Task
from headway.core.rows import Record


def restore(
    journal: Journal,
    board: Board,
    active: Durable,
    registry: Registry,
    tag: Callable[[int], int],
    progress: Callable[[int], object],
) -> list[str]:
    """Put the jobs of ``journal`` on ``board``, and those that are not over into ``active``.

    ``progress`` is told now and then how many were read. Returns the names of tasks by the index that the board has of
    them: those that are declared, then those that only jobs that are over know. Raises JournalError where a job is to
    be run whose task is not declared.
    """
    names = _Names(registry)
    waiting: list[Saved] = []
    wall, now = active.wall, time.time()
    board.ended_total = journal.found.last_place
    given_up, too_old = board.ended_total - board.kept_jobs, now - board.kept_seconds
    for chunk in journal.found.jobs(progress):
        over = []
        for saved in chunk:
            if saved.place is None:
                waiting.append(_counted(saved, active.attempts.attempt(saved.sequence)))
            elif saved.place > given_up and (saved.ended or 0.0) > too_old:
                over.append(saved)
        _restore_over(board, over, names, tag, wall)
    orphans = Counter(saved.task for saved in waiting if saved.task not in registry.by_name)
    if orphans:
        told = ", ".join(f"{count} of {name!r}" for name, count in orphans.most_common())
        raise JournalError(
            f"{journal.path}: jobs wait whose tasks are not declared: {told}; add their modules to tasks:"
        )
    for saved in waiting:
        board.restore(_record(saved, tag(saved.sequence), names[saved.task], wall))
        active.restore(_job(saved, registry.by_name[saved.task], wall), saved.state, (saved.due or 0.0) - wall)
    for sequence, key, digest, submitted in chain.from_iterable(journal.found.keyed()):
        active.keys.put(key, Keyed(sequence, digest, submitted - wall))
    board.next_sequence = journal.found.next_sequence
    active.attempts.begin(board.rows, [(saved.sequence, saved.attempt) for saved in waiting])
    return list(names)


class _Names(dict[str, int]):
    """Tasks by name to the index that the board has of them; one that is asked for and not there gets the next."""

    def __init__(self, registry: Registry) -> None:
        super().__init__((task.name, task.index) for task in registry.tasks)

    def __missing__(self, name: str) -> int:
        self[name] = len(self)
        return self[name]


def _restore_over(board: Board, over: list[Saved], names: _Names, tag: Callable[[int], int], wall: float) -> None:
    """Put jobs that are over on the board: at once if they lie side by side, as they mostly do."""
    if not over:
        return
    first, count = over[0].sequence, len(over)
    if over[-1].sequence - first != count - 1 or not board.is_free(first, count):
        for saved in over:
            board.restore(_record(saved, tag(saved.sequence), names[saved.task], wall))
        return
    # A Saved of columns: Any stands for the type that this would be.
    columns: Any = Saved._make(zip(*over, strict=True))
    board.restore_over(
        first,
        map(tag, columns.sequence),
        columns.state,
        columns.attempt,
        columns.place,
        [at - wall for at in columns.submitted],
        [at - wall if at else 0.0 for at in columns.started],
        [at - wall for at in columns.ended],
        map(names.__getitem__, columns.task),
        columns.priority,
        columns.reason,
        [size is not None for size in columns.size],
    )


def _counted(saved: Saved, begun: int) -> Saved:
    """Return the job as running if more attempts at it began than are written down: it was, or its end was not kept."""
    return saved if begun <= saved.attempt else saved._replace(state=State.RUNNING, attempt=begun)


def _job(saved: Saved, task: Task, wall: float) -> Job:
    deadline = inf if saved.deadline is None else saved.deadline - wall
    return Job(saved.sequence, task, saved.payload or b"null", saved.timeout, deadline, saved.retries)


def _record(saved: Saved, tag: int, task: int, wall: float) -> Record:
    return Record(
        saved.sequence,
        tag,
        State.QUEUED if saved.state == State.RUNNING else saved.state,
        task,
        saved.priority,
        saved.submitted - wall,
        saved.due - wall if saved.due else 0.0,
        saved.started - wall if saved.started else 0.0,
        saved.ended - wall if saved.ended else 0.0,
        saved.attempt,
        None,
        saved.place or 0,
        saved.reason,
        saved.size is not None,
    )
