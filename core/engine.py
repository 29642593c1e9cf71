"""The engine: what the protocol knows of core, but for errors and config.

``submit`` takes a job and ``submit_many`` a batch of them, ``peek``, ``peek_batch`` and ``list`` read, ``cancel`` ends
one early, ``drain`` waits for all. None but ``drain`` awaits, so each call sees and leaves the board whole.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from math import inf
from typing import BinaryIO

from headway.core import carried, ids
from headway.core.active import Active
from headway.core.batches import Batches, BatchStatus, BatchWaiter
from headway.core.board import (
    ATTEMPT_MAX,
    ATTEMPT_SHIFT,
    GENERATION_SHIFT,
    PROGRESS_MASK,
    PROGRESS_NONE,
    PROGRESS_SHIFT,
    STATE_MASK,
    Board,
    rows_for,
)
from headway.core.config import Config
from headway.core.durable import Durable
from headway.core.errors import (
    DrainingError,
    JournalFullError,
    KeyReusedError,
    NotFailedError,
    PayloadGoneError,
    QueueFullError,
    UnknownTaskError,
)
from headway.core.job import ACTIVE, Job, Reason, State, Status, Submission
from headway.core.journal.journal import Journal
from headway.core.journal.replay import Saved
from headway.core.keys import Key
from headway.core.memory import nameless_file
from headway.core.owed import Watcher
from headway.core.registry import Registry, Task
from headway.core.restoring import restore, rows_for_all
from headway.core.results import Result
from headway.core.waiters import Waiter
from headway.core.watchdog import Watchdog

log = logging.getLogger(__name__)

# Plain ints for the road of a poll: a member of an enum costs twice as much to compare.
QUEUED, RUNNING, SUCCEEDED = int(State.QUEUED), int(State.RUNNING), int(State.SUCCEEDED)

# Seconds between two rounds of the chores.
CHORES_S = 1.0
# Seconds after which a successor of a server that shuts down may be there.
SUCCESSOR_S = 2.0
# Rows that one call to ``list`` looks at, so that it does not hold the loop: a millisecond.
LISTED_ROWS = 1 << 18


class Engine:
    """Jobs in memory: the board and all that acts on it."""

    def __init__(
        self,
        config: Config,
        registry: Registry,
        journal: Journal | None = None,
        before: carried.Carried | None = None,
    ) -> None:
        self.config = config
        self.registry = registry
        self.journal = journal
        # By the index that the board has of them.
        self._task_names = [task.name for task in registry.tasks]
        self.active: Active
        kept, most = config.retention, config.queue.size + config.workers
        if journal is not None:
            waiting = journal.waiting()
            most = max(most, len(waiting) + config.workers)
            self.ids = ids.Ids(journal.secret)
            self.board = Board(kept.jobs, kept.seconds, most, rows_for_all(waiting, rows_for(kept.jobs, most)))
            self.active = Durable(config, registry, self.board, journal, len(waiting))
        elif before is not None:
            self.ids = ids.Ids(before.document.secret)
            self.board = before.board(kept.jobs, kept.seconds, most, self._task_names)
            self.active = Active(config, registry, self.board)
            before.give(self.active.results, self.active.keys, registry.by_name)
        else:
            self.ids = ids.Ids()
            self.board = Board(kept.jobs, kept.seconds, most, fd=nameless_file("headway-board"))
            self.active = Active(config, registry, self.board)
        # What a job begins as: with a journal nobody sees it until it is committed.
        self._unseen = journal is not None
        self.watchdog = Watchdog(config.watchdog.stall, self.active.workers.holder)
        self.batches = Batches(self.board, self.ids, self._when_all)
        # Done every CHORES_S, each with its name for the log.
        self.chores: list[tuple[str, Callable[[float], object]]] = [
            ("forget results", self.active.results.trim),
            ("forget keys", self.active.keys.trim),
            ("expire", self.active.expire),
        ]
        self.draining = False
        self._chores_timer: asyncio.TimerHandle | None = None

    @property
    def memory_bytes(self) -> int:
        """Bytes that rows and rings take once all were used, whatever the traffic."""
        return self.board.size_bytes + self.active.queue.size_bytes

    @property
    def not_ready(self) -> str | None:
        """Why no new jobs are wanted here, or None where they are."""
        if self.draining:
            return "draining"
        if self.journal is not None and self.journal.full:
            return "the journal has no room"
        lost = self.active.workers.lost_threads
        if lost > self.config.limits.lost_threads:
            return f"{lost} threads are lost to tasks that do not return; restart the server"
        processes = self.active.workers.processes
        if processes is not None and not processes.up:
            return "no worker process is up"
        return None

    @property
    def oldest_queued(self) -> float | None:
        """When the job that has been ready for longest was submitted, of time.monotonic."""
        sequence = self.active.queue.oldest()
        return self.board.submitted[sequence % self.board.rows] if sequence else None

    def restore(self, progress: Callable[[int], object]) -> None:
        """Read the journal, if there is one; to be done before ``start``, and in any thread.

        ``progress`` is told now and then how many jobs were read. Raises JournalError.
        """
        if isinstance(self.active, Durable):
            self._task_names = restore(
                self.active.journal, self.board, self.active, self.registry, self.ids.tag, progress
            )

    def start(self, on_fatal: Callable[[str], object] = log.critical) -> None:
        """Start the workers, the watchdog and the chores on the running loop.

        ``on_fatal`` gets a line when the journal cannot be written: from then on nothing is acknowledged.
        """
        self.active.start(on_fatal)
        self.watchdog.start()
        self._do_chores()

    def submit(self, submission: Submission, key: Key | None = None) -> Status:
        """Take a job; where it ``owes``, the job is taken once that is safe, and EMPTY until then.

        Raises UnknownTaskError, QueueFullError, JournalFullError or DrainingError, in which case nothing was changed.
        """
        task = self.registry.by_name.get(submission.task)
        if task is None:
            raise UnknownTaskError([("task", self._not_known(submission))])
        self.check_room()
        now = time.monotonic()
        sequence = self._begin(task, submission, now, key)
        return self._status(sequence % self.board.rows, sequence, now)

    def submit_many(self, submissions: Sequence[Submission]) -> BatchStatus:
        """Take 1 to 1,000 jobs as a batch, all of them or none.

        Raises UnknownTaskError, whose faults name each by its index, QueueFullError, NoRunError, JournalFullError or
        DrainingError, in which case nothing was changed. They are safe, as ``submit`` says, when the last of them is.
        """
        known = self.registry.by_name
        unknown = [(index, wanted) for index, wanted in enumerate(submissions) if wanted.task not in known]
        if unknown:
            raise UnknownTaskError([(f"[{index}].task", self._not_known(wanted)) for index, wanted in unknown])
        self.check_room(len(submissions))
        now = time.monotonic()
        first = self.batches.seek(len(submissions), now)
        with self.active.together():
            for submission in submissions:
                self._begin(known[submission.task], submission, now)
        return self.batches.newest(first, len(submissions), now)

    def _not_known(self, submission: Submission) -> str:
        return f"{submission.task!r} is not one of: {', '.join(sorted(self.registry.by_name)) or 'none'}"

    def _begin(self, task: Task, submission: Submission, now: float, key: Key | None = None) -> int:
        """Give a job its row and let it wait for its turn; return its sequence number."""
        state = State.EMPTY if self._unseen else State.SCHEDULED if submission.delay else State.QUEUED
        sequence = self.board.open(state, self.ids.tag, task.index, submission.priority, now)
        retries = task.retries if submission.retries is None else submission.retries
        deadline_s = submission.deadline or task.deadline_s
        job = Job(
            sequence,
            task,
            bytes(submission.payload),
            submission.timeout or task.timeout_s or self.config.jobs.timeout,
            now + deadline_s if deadline_s else inf,
            self.config.jobs.retries if retries is None else retries,
        )
        self.active.begin(job, submission.delay, now, key)
        return sequence

    def replayed(self, key: Key) -> Status | None:
        """Return the job that came under ``key``, EMPTY where that is not safe yet; None where none did.

        Raises KeyReusedError where it came with other content.
        """
        keyed = self.active.keys.get(key.text, time.monotonic())
        if keyed is None:
            return None
        if keyed.digest != key.digest:
            raise KeyReusedError
        return self._at(keyed.sequence)

    def peek_key(self, text: str) -> Status | None:
        """Return what is known of the job that came under a key; None where none did, or where that is not safe yet."""
        keyed = self.active.keys.get(text, time.monotonic())
        status = None if keyed is None else self._at(keyed.sequence)
        return status if status is not None and status.state else None

    def _at(self, sequence: int) -> Status | None:
        if self.active.owes(sequence) and self.board.row(sequence) < 0:
            return self._status(sequence % self.board.rows, sequence, 0.0)
        return self.peek(ids.write(sequence, self.ids.tag(sequence)))

    def owes(self, sequence: int) -> bool:
        """Whether what was last done about a job is not safe yet; nobody is to be told of it before it is."""
        return self.active.owes(sequence)

    def when_safe(self, sequence: int, wake: Callable[[], None]) -> Watcher:
        """Have ``wake`` called when it is, or was rejected: then the job was never taken, and is EXPIRED."""
        return self.active.when_safe(sequence, wake)

    def retry(self, status: Status, saved: Saved | None = None) -> Status:
        """Take a job that failed once more, under a new id, as it was submitted but for its delay.

        ``saved`` is what the journal has of it. Raises NotFailedError, PayloadGoneError, or as ``submit`` does; nothing
        was changed then.
        """
        if status.state != State.FAILED:
            raise NotFailedError
        old = self._failed(status, saved)
        if old is None:
            raise PayloadGoneError
        self.check_room()
        now, board = time.monotonic(), self.board
        priority = board.priority[status.sequence % board.rows]
        state = State.EMPTY if self._unseen else State.QUEUED
        sequence = board.open(state, self.ids.tag, old.task.index, priority, now)
        deadline = now + old.deadline - status.submitted
        self.active.begin(Job(sequence, old.task, old.payload, old.timeout_s, deadline, old.retries), 0.0, now)
        return self._status(sequence % board.rows, sequence, now)

    def _failed(self, status: Status, saved: Saved | None) -> Job | None:
        """Return a job that failed as it was submitted; None where that is not kept, or its task not declared."""
        kept = self.active.results.get(status.sequence)
        if kept is not None and kept.job is not None:
            return kept.job
        task = self.registry.by_name.get(status.task)
        if saved is None or saved.payload is None or task is None:
            return None
        deadline = inf if saved.deadline is None else status.submitted + saved.deadline - saved.submitted
        return Job(saved.sequence, task, saved.payload, saved.timeout, deadline, saved.retries)

    def check_room(self, count: int = 1) -> None:
        """Raise DrainingError, JournalFullError or QueueFullError where ``count`` jobs would not be taken now."""
        if self.draining:
            raise DrainingError(self.active.estimate.later(SUCCESSOR_S, time.monotonic()))
        if self.journal is not None and self.journal.full:
            raise JournalFullError
        room = self.active.queue.room
        if room < count:
            retry_after_s = self.active.estimate.for_places(min(count, self.active.queue.size) - room, time.monotonic())
            raise QueueFullError(self.active.queue.size, count, room, retry_after_s)

    def later(self) -> float:
        """Return seconds after which a client that could not be served now can be."""
        return self.active.estimate.later(0.0, time.monotonic())

    def again(self, status: Status) -> Status:
        """Return what is known now of a job of which ``status`` was known."""
        sequence, now = status.sequence, time.monotonic()
        row = self.board.row(sequence)
        if row < 0 or (self.board.live[row] & STATE_MASK >= SUCCEEDED and not self.board.kept(row, now)):
            return _bare(State.EXPIRED, sequence, status.tag)
        return self._status(row, sequence, now)

    def peek(self, job_id: bytes) -> Status | None:
        """Return what is known of a job at once; None where it was never issued.

        A job that has left the board, by count or by time, is EXPIRED.
        """
        number = ids.read(job_id)
        sequence, tag = number >> ids.TAG_BITS, number & ids.TAG_MASK
        board, now = self.board, time.monotonic()
        row = sequence % board.rows
        word = board.live[row]
        if word >> GENERATION_SHIFT != sequence // board.rows or board.tag[row] != tag or not word & STATE_MASK:
            return self._left_the_board(sequence, tag)
        if word & STATE_MASK >= SUCCEEDED and not board.kept(row, now):
            return self._left_the_board(sequence, tag)
        return self._status(row, sequence, now)

    def peek_batch(self, batch_id: bytes) -> BatchStatus | None:
        """Return what is known of a batch at once; None where it was never issued."""
        return self.batches.peek(batch_id, time.monotonic())

    def list_batch(self, batch: BatchStatus) -> Sequence[tuple[bytes, int]]:
        """Return (id, state) of each job of a batch that can still be read, in the order of their submission."""
        return self.batches.jobs(batch, time.monotonic())

    def list(self, state: State, before: int, limit: int) -> tuple[list[Status], int]:
        """Return up to ``limit`` jobs that are in ``state``, newest first, from those before sequence ``before``.

        Nothing is said of when to ask again.

        And the sequence number to go on from, 0 where there are no more. 0 for ``before`` begins with the newest. No
        more than LISTED_ROWS rows are looked at, so fewer than ``limit`` may come although there are more.
        """
        board, now = self.board, time.monotonic()
        end = min(before or board.next_sequence, board.next_sequence)
        oldest = max(end - LISTED_ROWS, board.next_sequence - board.rows, 1)
        found: list[Status] = []
        for sequence in board.in_state(state, oldest, end):
            if len(found) == limit:
                return found, sequence + 1
            row = sequence % board.rows
            if state in ACTIVE or board.kept(row, now):
                found.append(self._status(row, sequence, now, promise=False))
        return found, oldest if oldest > max(board.next_sequence - board.rows, 1) else 0

    def result(self, status: Status) -> Result | None:
        """Return the result of a job that is over, or what it said if it failed; None where that is not kept."""
        kept = self.active.results.get(status.sequence)
        return None if kept is None else kept.result

    async def read_result(self, status: Status) -> Result | None:
        """Return what ``result`` does, from the disk; None where it is not there either. Raises JournalError."""
        if self.journal is None:
            return None
        found = await self.journal.reader.result(status.sequence)
        return None if found is None else Result(found[1], found[0])

    async def read_job(self, status: Status) -> Saved | None:
        """Return all that the journal has of a job; None where that is nothing. Raises JournalError."""
        return None if self.journal is None else await self.journal.reader.job(status.sequence)

    def has_result(self, status: Status) -> bool:
        """Whether a job that succeeded returned something; it may have been given up since."""
        return bool(self.board.has_result[status.sequence % self.board.rows])

    def wait(self, status: Status, seconds: float, wake: Callable[[], None]) -> Waiter:
        """Have ``wake`` called when a job that is not over ends, in ``seconds``, or when a drain begins."""
        return self.active.waiters.add(status.sequence, 0.0 if self.draining else seconds, wake)

    def wait_batch(self, batch: BatchStatus, seconds: float, wake: Callable[[], None]) -> BatchWaiter:
        """Have ``wake`` called when the last job of a batch that has a pending one ends, or as ``wait`` does."""
        return BatchWaiter(self.batches, self.active.waiters, batch, 0.0 if self.draining else seconds, wake)

    def cancel(self, status: Status) -> None:
        """End a job that waits or runs; forget the result of one that is over."""
        if status.state >= State.SUCCEEDED:
            self.active.forget(status.sequence)
        else:
            self.active.cancel(status.sequence)

    def cancel_batch(self, batch: BatchStatus) -> tuple[bool, int]:
        """End the jobs of a batch that wait or run; return whether any was running, and the one that is safe last."""
        pending = self.batches.pending(batch)
        running = any(self.board.state(sequence) == RUNNING for sequence in pending)
        for sequence in pending:
            self.active.cancel(sequence)
        return running, self.active.last_owed(pending)

    async def drain(self, timeout_s: float) -> int:
        """Take no more jobs and wait for those there are; return how many are not over after ``timeout_s``.

        With a journal those that do not run are left to the next start, and only the others are waited for.
        """
        self.draining = True
        self.active.waiters.release()
        return await self.active.finish(timeout_s)

    def resume(self) -> None:
        """Take jobs again after a drain that came to nothing."""
        self.draining = False
        self.active.resume()

    def leave(self, file: BinaryIO) -> int:
        """Write to ``file`` what the next image of the program goes on from, and return the file of the rows.

        Call it last of all: what changes afterwards is lost. Raises RuntimeError where a job is not over.
        """
        if self.active:
            raise RuntimeError(f"{len(self.active)} jobs are not over")
        carried.write(file, self.ids.secret, self.board, self._task_names, self.active.results, self.active.keys)
        return self.board.fd

    async def stop(self) -> None:
        """End workers, timers and chores; what is known can still be read."""
        if self._chores_timer is not None:
            self._chores_timer.cancel()
        self.watchdog.stop()
        await self.active.stop()

    async def close(self) -> None:
        """Close the journal, if there is one."""
        await self.active.close()

    def _do_chores(self) -> None:
        now = time.monotonic()
        for name, chore in self.chores:
            try:
                chore(now)
            except Exception:
                log.exception("the chore %r failed; it is tried again in %g s", name, CHORES_S)
        self._chores_timer = asyncio.get_running_loop().call_later(CHORES_S, self._do_chores)

    def _left_the_board(self, sequence: int, tag: int) -> Status | None:
        if not sequence or self.ids.tag(sequence) != tag:
            return None
        return _bare(State.EXPIRED, sequence, tag)

    def _status(self, row: int, sequence: int, now: float, promise: bool = True) -> Status:
        """What is known of the job in ``row``; unless there is a ``promise``, not when to ask again."""
        board = self.board
        # Once: each reading of a column makes an int, and this is done for every poll.
        word, task, tag = board.live[row], board.task[row], board.tag[row]
        state = word & STATE_MASK
        if not state:
            return _bare(State.EMPTY, sequence, tag)
        progress = word >> PROGRESS_SHIFT & PROGRESS_NONE
        ahead = retry_after_ms = 0
        if state < SUCCEEDED:
            if state != RUNNING:
                ahead = self.active.queue.ahead(sequence)
            if promise:
                retry_after_ms = self.active.estimate.told(self._until(row, word, ahead, now), now)
        return Status(
            state,
            sequence,
            tag,
            self._task_names[task],
            word >> ATTEMPT_SHIFT & ATTEMPT_MAX,
            None if progress == PROGRESS_NONE else progress,
            ahead,
            retry_after_ms,
            board.submitted[row],
            board.started[row],
            board.ended[row],
            board.reason[row],
        )

    def _until(self, row: int, word: int, ahead: int, now: float, together: int = 1) -> float:
        """Seconds after which to ask for a job that is not over, with ``ahead`` jobs before it.

        ``together`` is how many jobs all have to be over.
        """
        board, estimate = self.board, self.active.estimate
        state, task = word & STATE_MASK, board.task[row]
        if state == RUNNING:
            due = 0.0 if word & PROGRESS_MASK == PROGRESS_MASK else board.due[row]
            return estimate.for_running(now - board.started[row], due - now if due else None, task)
        if state == QUEUED:
            at_once, free = self.active.queue.at_once(task, self.config.workers)
            return estimate.for_queued(ahead + 1 - free, at_once, now - board.submitted[row], task, now, together)
        return estimate.for_delayed(board.due[row] - now, task)

    def _when_all(self, some: Sequence[int], count: int, now: float) -> int:
        """Milliseconds after which to ask whether ``count`` jobs are all over, of which ``some`` are looked at."""
        board, queue = self.board, self.active.queue
        longest = 0.0
        for sequence in some:
            row = sequence % board.rows
            word = board.live[row]
            ahead = 0 if word & STATE_MASK == RUNNING else queue.ahead(sequence)
            longest = max(longest, self._until(row, word, ahead, now, count))
        return self.active.estimate.told(longest, now)


def _bare(state: State, sequence: int, tag: int) -> Status:
    """Return the status of a job of which nothing else is known."""
    return Status(state, sequence, tag, "", 0, None, 0, 0, 0.0, 0.0, 0.0, Reason.NONE)
