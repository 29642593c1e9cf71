"""Hands all facts from the previous process to the next in a deploy: docs/adr/0009.

The rows stay in place, in a file that both map. The rest is written to another file, a document and
then one frame for each result. The two processes need to agree only on LAYOUT and on the names of
the document's members: a member unknown to one of them is passed over, or has its default.

A job whose row is not read answers 410, since the secret and the next sequence number always go
over. Jobs that wait go over, too, each with its payload. No job may run.
"""

from __future__ import annotations

import logging
import os
import time
from array import array
from collections import Counter
from collections.abc import Mapping
from math import inf
from struct import Struct
from typing import BinaryIO

import msgspec
from headway.core.audit import AuditEntry
from headway.core.board.board import Board
from headway.core.board.idempotency import Keyed
from headway.core.board.logs import Logs
from headway.core.board.rows import LAYOUT, annex_for, rows_for
from headway.core.history import Minute
from headway.core.hold import TaskHold
from headway.core.ids import Ids
from headway.core.job import ACTIVE, WAITING, Job, Reason, State, Terms
from headway.core.job_log import JobLog
from headway.core.local.active import Active
from headway.core.memfile import nameless_file
from headway.core.past_attempt import PastAttempt
from headway.core.retention import Retention
from headway.core.task import Task
from headway.core.tasks.result import Result, ResultError

log = logging.getLogger(__name__)

LENGTH = Struct("=Q")


class Document(msgspec.Struct):
    """The facts of the board besides its rows. ``task_names`` are by the index that rows keep."""

    secret: bytes
    next_sequence: int
    ended_total: int
    count: list[int]
    layout: int
    rows: int
    kept_jobs: int
    kept_seconds: float
    active_most: int
    unchanged_from: int
    task_names: list[str]
    keys: dict[str, Keyed] = {}
    salts: list[tuple[int, bytes]] = []
    # Rows of the annex, and those of them that were ever used.
    annex: int = 0
    annex_used: int = 0
    stretches: list[tuple[int, int]] = []
    # [failed, cancelled] by batch.
    outcomes: dict[int, list[int]] = {}
    # Of the jobs that have any, by number.
    tags: dict[int, tuple[str, ...]] = {}
    # Failed attempts by the number of their job.
    attempts: dict[int, list[PastAttempt]] = {}
    # Of the finished jobs that have any, the oldest first.
    logs: dict[int, JobLog] = {}
    # Of the jobs that wait and have any.
    open_logs: dict[int, JobLog] = {}
    # The switches of tasks, by name.
    holds: dict[str, TaskHold] = {}
    # By State: see Board. ``ended_total`` and ``kept_*`` above are for versions that know no outcomes.
    last_place: list[int] = []
    kept: Retention = Retention((), ())
    shortest_s: list[float] = []
    # By task, its jobs that ever ended, by State.
    ended: dict[str, list[int]] = {}
    # The minutes of the history.
    history: list[Minute] = []
    # The audit log, oldest first.
    audit: list[AuditEntry] = []


class KeptFrame(msgspec.Struct):
    """A ``Kept`` and its job's number. ``task`` is empty if there is no job to resubmit.

    ``keep_s`` is the job's own wish how long it is kept. A job that ``waits`` has no result.
    """

    sequence: int
    body: bytes
    media_type: str
    task: str = ""
    payload: bytes = b""
    terms: Terms | None = None
    keep_s: float | None = None
    is_error: bool = False
    waits: bool = False
    # Of a job that waits: its deadline, of time.monotonic, and its batch.
    deadline: float | None = None
    batch: int = 0


def write(file: BinaryIO, ids: Ids, task_names: list[str], active: Active, history: list[Minute]) -> None:
    """Write to ``file`` all that goes over besides the rows. Later changes are lost."""
    board = active.board
    document = Document(
        secret=ids.secret,
        next_sequence=board.next_sequence,
        ended_total=sum(board.last_place),
        count=board.count,
        layout=LAYOUT,
        rows=board.rows,
        kept_jobs=max(board.kept_jobs),
        kept_seconds=max(board.kept_seconds),
        active_most=board.active_most,
        unchanged_from=board.unchanged_from,
        task_names=task_names,
        keys=dict(active.keys.items()),
        salts=ids.salts,
        annex=board.annex,
        annex_used=board.annex_used,
        stretches=board.stretches,
        outcomes=dict(active.outcomes.items()),
        tags=dict(active.tags.items()),
        attempts={sequence: list(kept) for sequence, kept in active.past.all().items()},
        logs=dict(active.logs.items()) if isinstance(active.logs, Logs) else {},
        open_logs={sequence: text.read() for sequence, text in active.logs.open.items()}
        if isinstance(active.logs, Logs)
        else {},
        holds=active.holds.kept(),
        last_place=board.last_place.tolist(),
        kept=Retention(board.kept_jobs, board.kept_seconds),
        shortest_s=board.shortest_s,
        ended=dict(zip(task_names, active.stats.ended, strict=False)),
        history=history,
        audit=active.trail.all(),
    )
    put(file, document)
    results = active.results
    for share in (results.results, results.errors):
        for sequence, kept, keep_s in share.items():
            frame = KeptFrame(sequence, kept.result.body, kept.result.media_type, keep_s=keep_s)
            frame.is_error = share is results.errors
            if kept.job is not None:
                job = kept.job
                frame.task, frame.payload, frame.terms = job.task.name, job.payload, job.terms
            put(file, frame)
    # In their order in the lines. Behind them those that this process was handed, if it could not begin.
    waiting = sorted(active.jobs.values(), key=lambda job: board.ticket[board.at(job.sequence)])
    for job in [*waiting, *active.carried]:
        frame = KeptFrame(job.sequence, b"", "", job.task.name, waits=True, batch=job.batch)
        frame.payload, frame.terms = job.payload, job.terms
        frame.deadline = None if job.deadline == inf else job.deadline
        put(file, frame)


class Carried:
    """The facts that came over.

    ``file`` is the one that ``write`` has written, ``board_fd`` the file of the rows.
    """

    def __init__(self, file: BinaryIO, board_fd: int, *, salvaged: bool = False) -> None:
        self._file = file
        self._board_fd = board_fd
        # Whether nobody has handed this over: the engine of before has crashed.
        self._salvaged = salvaged
        self.document = msgspec.msgpack.decode(_get(file), type=Document)

    @property
    def _is_read(self) -> bool:
        """Whether this process knows how the rows are read."""
        return self.document.layout == LAYOUT

    @property
    def waiting(self) -> int:
        """How many jobs wait. They may be more than the settings allow now."""
        return sum(self.document.count[state] for state in WAITING) if self._is_read else 0

    def board(self, retention: Retention, active_most: int, task_names: list[str]) -> Board:
        """Return the board that goes on where the previous one ended.

        ``task_names`` are the present ones. Names of unknown tasks are appended, for their jobs.
        """
        left = self.document
        if not self._is_read:
            log.warning(
                "cannot read the previous version's board (layout %d, expected %d): its jobs now answer 410",
                left.layout,
                LAYOUT,
            )
            os.close(self._board_fd)
            board = self._counting(Board(retention, active_most, fd=nameless_file("headway-board")))
            for state in ACTIVE:
                board.count[state] = 0
            return board
        before = left.kept, left.active_most
        board = self._counting(Board(*before, rows=left.rows, annex=left.annex, fd=self._board_fd))
        board.last_place[:], board.shortest_s = memoryview(array("Q", left.last_place)), left.shortest_s
        board.find_moved(left.annex_used)
        board.unchanged_from, board.stretches = left.unchanged_from, left.stretches
        _rename(board, left.task_names, task_names)
        if before == (retention, active_most):
            return board
        # Jobs that have expired stay so under a longer retention. Those that expire by a shorter
        # one need no row.
        board.forget_expired(time.monotonic())
        board.keep(retention, active_most)
        board.forget_expired(time.monotonic())
        jobs = retention.jobs
        if (rows_for(jobs, active_most), annex_for(jobs, active_most)) == (board.rows, board.annex):
            board.begin_stretch(left.next_sequence)
            return board
        other = Board(retention, active_most, fd=nameless_file("headway-board"))
        other.copy(board)
        return other

    def _counting(self, board: Board) -> Board:
        """Return ``board`` with the counts that came over."""
        left = self.document
        board.next_sequence, board.count = left.next_sequence, left.count
        board.unchanged_from = left.next_sequence
        return board

    def give(self, active: Active, tasks: Mapping[str, Task]) -> None:
        """Put the facts that came over besides the rows into ``active``, the oldest first.

        ``tasks`` are the present ones by name.
        """
        for text, keyed in self.document.keys.items():
            active.keys.put(text, keyed)
        for batch, (failed, cancelled) in self.document.outcomes.items():
            active.outcomes.put(batch, failed, cancelled)
        for sequence, tags in self.document.tags.items():
            active.tags.put(sequence, tags)
        active.past.put(self.document.attempts)
        if isinstance(active.logs, Logs):
            for sequence, written in self.document.logs.items():
                active.logs.put(sequence, written)
            for sequence, written in self.document.open_logs.items() if self._is_read else ():
                active.logs.put_open(sequence, written)
        active.holds.restore(self.document.holds)
        active.trail.restore(self.document.audit)
        for name, ended in self.document.ended.items():
            if name in tasks:
                active.stats.ended[tasks[name].index] = ended
        if self._salvaged:
            active.outcomes.known_from = self.document.next_sequence
        self._give_jobs(active, tasks)

    def _give_jobs(self, active: Active, tasks: Mapping[str, Task]) -> None:
        """Put results, and jobs that wait, into ``active``."""
        lost: Counter[str] = Counter()
        try:
            while frame := _get(self._file):
                kept = msgspec.msgpack.decode(frame, type=KeptFrame)
                task = tasks.get(kept.task)
                if kept.waits and kept.terms is not None:
                    if not self._is_read:
                        continue
                    if task is None:
                        lost[kept.task] += 1
                        _lose(active, kept.sequence, kept.batch, kept.terms.keep_s)
                        continue
                    deadline = inf if kept.deadline is None else kept.deadline
                    active.queue.payload_bytes += len(kept.payload)
                    active.carried.append(
                        Job(kept.sequence, task, kept.payload, kept.terms, deadline, batch=kept.batch)
                    )
                    continue
                job = None
                if task is not None and kept.terms is not None:
                    job = Job(kept.sequence, task, kept.payload, kept.terms, inf)
                result = Result(kept.body, kept.media_type)
                if kept.is_error:
                    active.results.put_error(kept.sequence, result, job, kept.keep_s)
                else:
                    active.results.put(kept.sequence, result, kept.keep_s)
        except (msgspec.DecodeError, ResultError) as error:
            log.warning("cannot read the previous process's results, which now answer 410: %s", error)
        self._file.close()
        if lost:
            told = ", ".join(f"{count} of {name!r}" for name, count in lost.most_common())
            log.error("jobs that waited are lost, since their tasks are gone: %s", told)


def _lose(active: Active, sequence: int, batch: int, keep_s: float | None) -> None:
    """Tell of a job that it is lost."""
    now = time.monotonic()
    active.board.move(sequence, State.CANCELLED, now, Reason.LOST, keep_s)
    active.logs.ended(sequence)
    if batch:
        active.outcomes.add(batch, State.CANCELLED, now)


def _rename(board: Board, before: list[str], now: list[str]) -> None:
    """Give each row the present index of its task.

    Append to ``now`` the other names that rows still have.
    """
    index_of = {name: index for index, name in enumerate(now)}
    task = board.task[: board.rows + board.annex_used]
    used = sorted(index for index in set(task) if index < len(before))
    indexes = {index: index_of.setdefault(before[index], len(index_of)) for index in used}
    if any(old != new for old, new in indexes.items()):
        task[:] = memoryview(array("H", [indexes.get(index, 0) for index in task]))
    now.extend(list(index_of)[len(now) :])


def put(file: BinaryIO, message: Document | KeptFrame) -> None:
    """Write a message to ``file``."""
    data = msgspec.msgpack.encode(message)
    file.write(LENGTH.pack(len(data)))
    file.write(data)


def _get(file: BinaryIO) -> bytes:
    """Return the next message, or nothing if there are no more."""
    head = file.read(LENGTH.size)
    return file.read(*LENGTH.unpack(head)) if head else b""
