"""From a journal back to the board: the work of a start before it serves.

A job that was running is queued again, and its attempts count. Times on the board are of
time.monotonic, those of a journal of its own clock. ``found.epoch`` is the difference.

Each job that is kept or unfinished comes back, under any settings at its submission: see rows.
"""

from __future__ import annotations

import time
from array import array
from collections import Counter
from collections.abc import Callable, Mapping
from itertools import chain

import msgspec
from headway.core.board.board import Board
from headway.core.board.idempotency import Keyed
from headway.core.board.rows import Record
from headway.core.errors import JournalError
from headway.core.hold import TaskHold
from headway.core.ids import COUNT_MASK, Ids
from headway.core.job import TERMINAL, Job, State, decode_terms
from headway.core.journal.reader import Ended, Saved
from headway.core.local.active import Active
from headway.core.local.durable import Durable
from headway.core.order import OWN_MOST
from headway.core.task import Task

# Jobs with an uncommitted attempt or end, besides those that run. With this many, no more are
# begun.
IN_HAND_MOST = 1 << 16


def restore(
    active: Active, durable: Durable, tasks: Mapping[str, Task], progress: Callable[[int], object]
) -> list[str]:
    """Put the jobs of the journal on the board, and the unfinished ones into ``active``.

    ``tasks`` are those that there are, by name. ``progress`` gets, now and then, the number of jobs
    read so far. Returns the names of tasks by the index that the board has of them: those of
    ``tasks``, then those that only finished jobs know. Raises JournalError if an unfinished job has
    an unknown task.
    """
    journal, board, ids = durable.journal, active.board, active.ids
    found, names, epoch = journal.found, _Names(tasks), journal.found.epoch
    waiting = [_counted(saved, durable.attempts.attempt(saved.sequence)) for saved in found.unfinished()]
    read = len(waiting)
    board.last_place[:] = memoryview(array("Q", found.last_place))
    # Jobs that were given up under earlier settings do not come back.
    after = list(map(max, board.given_up(), found.given_up))
    for over in found.ended(after, time.monotonic()):
        _restore_over(board, over, names, ids)
        _restore_tags(active, over)
        read += len(over.sequence)
        progress(read)
    durable.logs.before = found.log_ends()
    orphans = Counter(saved.task for saved in waiting if saved.task not in tasks)
    if orphans:
        told = ", ".join(f"{count} of {name!r}" for name, count in orphans.most_common())
        raise JournalError(
            f"{journal.path}: there are unfinished jobs of unknown tasks: {told}. Add their modules to tasks:, "
            "or declare tasks of these names that do nothing"
        )
    for saved in waiting:
        board.restore(_record(saved, ids.tag(saved.sequence), names[saved.task], epoch))
        durable.restore(_job(saved, tasks[saved.task], epoch), saved.state, (saved.due or 0.0) - epoch)
    board.begin_stretch(found.next_sequence)
    _restore_counts(active, tasks, found.tally())
    progress(read)
    active.keys.given_up = found.key_before(active.keys.most)
    kept_keys = found.keyed(active.keys.given_up, time.monotonic() - active.keys.seconds)
    for sequence, key, digest, submitted, batch in chain.from_iterable(kept_keys):
        active.keys.put(key, Keyed(sequence, digest, submitted - epoch, (batch or 0) & COUNT_MASK))
    for task, *columns in found.holds():
        switches = dict(zip(TaskHold.__struct_fields__, columns, strict=True))
        active.holds.restore({task: msgspec.convert(switches, TaskHold)})
    for batch, failed, cancelled in found.unsuccessful():
        active.outcomes.put(batch, failed, cancelled)
    in_hand = [(saved.sequence, saved.attempt) for saved in waiting if saved.state == State.RUNNING]
    # Orders have places besides, so however many wait for room, jobs begin and make some.
    places = min(active.queue.size, IN_HAND_MOST) + 2 * (active.workers.count + OWN_MOST)
    durable.attempts.begin(places, in_hand)
    return list(names)


class _Names(dict[str, int]):
    """Tasks by name to the index that the board has of them. An unknown name gets the next index."""

    def __init__(self, tasks: Mapping[str, Task]) -> None:
        super().__init__((task.name, task.index) for task in tasks.values())

    def __missing__(self, name: str) -> int:
        self[name] = len(self)
        return self[name]


def _restore_over(board: Board, over: Ended, names: _Names, ids: Ids) -> None:
    """Put finished jobs on the board: at once if they lie side by side, as they mostly do."""
    first, count = over.sequence[0], len(over.sequence)
    tasks = list(map(names.__getitem__, over.task))
    if over.sequence[-1] - first == count - 1 and board.is_free(first, count):
        board.restore_over(
            first,
            tags=ids.tags(first, count),
            states=over.state,
            attempts=over.attempt,
            places=over.place,
            submitted=over.submitted,
            started=over.started,
            ended=over.ended,
            kept_until=over.kept_until,
            tasks=tasks,
            priorities=over.priority,
            reasons=over.reason,
            has_result=over.has_result,
        )
        return
    for at, sequence in enumerate(over.sequence):
        record = Record(
            sequence, ids.tag(sequence), over.state[at], tasks[at], over.priority[at], submitted=over.submitted[at]
        )
        record.started, record.ended, record.place = over.started[at], over.ended[at], over.place[at]
        record.kept_until = over.kept_until[at]
        record.attempt, record.reason, record.has_result = over.attempt[at], over.reason[at], over.has_result[at]
        board.restore(record)


def _restore_tags(active: Active, over: Ended) -> None:
    for sequence, terms in zip(over.sequence, over.terms, strict=True):
        if terms is not None:
            active.tags.put(sequence, decode_terms(terms).tags)


def _restore_counts(active: Active, tasks: Mapping[str, Task], tally: Mapping[str, list[int]]) -> None:
    """Count all jobs that ever ended, those too that are not kept."""
    for state in TERMINAL:
        active.board.count[state] = sum(ended[state] for ended in tally.values())
    for name, ended in tally.items():
        if name in tasks:
            active.stats.ended[tasks[name].index] = ended


def _counted(saved: Saved, begun: int) -> Saved:
    """Return the job as running if more of its attempts began than are written down.

    Then it was running, or its end was not kept.
    """
    return saved if begun <= saved.attempt else saved._replace(state=State.RUNNING, attempt=begun)


def _job(saved: Saved, task: Task, epoch: float) -> Job:
    terms, payload = decode_terms(saved.terms), saved.payload or b"null"
    return Job(saved.sequence, task, payload, terms, terms.end(saved.submitted - epoch), batch=saved.batch or 0)


def _record(saved: Saved, tag: int, task: int, epoch: float) -> Record:
    return Record(
        saved.sequence,
        tag,
        state=State.QUEUED if saved.state == State.RUNNING else saved.state,
        task=task,
        priority=saved.priority,
        submitted=saved.submitted - epoch,
        due=saved.due - epoch if saved.due else 0.0,
        started=saved.started - epoch if saved.started else 0.0,
        attempt=saved.attempt,
    )
