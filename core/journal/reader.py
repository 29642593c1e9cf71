"""Reading a journal: all of it at start-up, and a fact at a time beside the writer.

Nothing here writes to a journal. A start reads over the connection that has checked the file,
before the file is handed over. All others have a connection of their own, and in WAL neither side
waits for the other. A read lasts for one row or one chunk, so the log can always start over.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import apsw
import msgspec
from headway.core.audit import AuditEntry, decode
from headway.core.errors import JournalError
from headway.core.history import Minute, decode_minute
from headway.core.job import State
from headway.core.job_filter import mentions
from headway.core.job_log import JobLog, joined
from headway.core.journal import schema
from headway.core.journal.schema import CANCELLED, FAILED, SUCCEEDED
from headway.core.past_attempt import PastAttempt, decode_attempt


class Saved(NamedTuple):
    """A job as it is in the file. schema.TABLES says which may be None."""

    sequence: int
    state: int
    attempt: int
    reason: int
    priority: int
    task: str
    submitted: float
    started: float | None
    due: float | None
    ended: float | None
    place: int | None
    size: int | None
    # As core.job.decode_terms reads them.
    terms: bytes
    payload: bytes | None
    batch: int | None
    until: float | None


class Ended(NamedTuple):
    """Finished jobs, as columns in the order of their numbers.

    Times are of another clock than the file's. 0.0: not started.
    """

    sequence: tuple[int, ...]
    state: tuple[int, ...]
    attempt: tuple[int, ...]
    reason: tuple[int, ...]
    priority: tuple[int, ...]
    task: tuple[str, ...]
    submitted: tuple[float, ...]
    started: tuple[float, ...]
    ended: tuple[float, ...]
    kept_until: tuple[float, ...]
    place: tuple[int, ...]
    has_result: tuple[int, ...]
    # None: the job has no tags.
    terms: tuple[bytes | None, ...]


JOB = ", ".join(Saved._fields)
KEY = "sequence, key, digest, submitted, batch"
RESULT = "sequence, media, body"
GONE = "batch, failed, cancelled"
RUN = "first, salt"
LOG = "sequence, place, text"
ATTEMPT = "sequence, number, told"
# The columns of KEY.
KeyRow = tuple[int, str, bytes, float, int | None]
Value = TypeVar("Value")

# Rows read at once. With payloads, which may be large, fewer: no log can start over meanwhile.
CHUNK = 10_000
FEW = 100


def jobs(connection: apsw.Connection) -> Iterator[list[Saved]]:
    """Return the jobs in the order of their numbers, in chunks."""
    sql = f"SELECT {JOB} FROM job WHERE sequence > ? ORDER BY sequence LIMIT {FEW}"  # noqa: S608
    last = 0
    while rows := connection.execute(sql, (last,)).fetchall():
        chunk = list(map(Saved._make, rows))
        last = chunk[-1].sequence
        yield chunk


def ended(connection: apsw.Connection, after: Sequence[int], now: float, wall: float) -> Iterator[Ended]:
    """Return jobs after the place of their outcome, by State, that are still kept ``now``, in chunks.

    ``wall`` is subtracted from their times.
    """
    # JSON has this where there are tags, and within a text its quotes would be escaped. Terms are
    # looked through in place, so that a job without tags costs no copy of them.
    # The + keeps SQLite from the indexes: another order is wanted.
    after_place = " ".join(f"WHEN {state} THEN {after[state]:d}" for state in (SUCCEEDED, FAILED, CANCELLED))
    sql = f"""SELECT sequence, state, attempt, reason, priority, task, submitted - ?2, coalesce(started - ?2, 0.0),
        ended - ?2, until - ?2, place, size IS NOT NULL,
        iif(instr(terms, CAST('"tags":' AS BLOB)), terms, NULL) FROM job
        WHERE sequence > ?3 AND +place > CASE state {after_place} END AND +until > ?1
        ORDER BY sequence LIMIT {CHUNK}"""  # noqa: S608
    last = 0
    while rows := connection.execute(sql, (now, wall, last)).fetchall():
        columns: Any = zip(*rows, strict=True)
        chunk = Ended._make(columns)
        last = chunk.sequence[-1]
        yield chunk


def unfinished(connection: apsw.Connection) -> list[Saved]:
    """Return the jobs that have not finished, in the order of their numbers."""
    sql = f"SELECT {JOB} FROM job WHERE place IS NULL ORDER BY sequence"  # noqa: S608
    return [Saved._make(row) for row in connection.execute(sql)]


def waiting(connection: apsw.Connection) -> int:
    """Return how many jobs have not finished."""
    return one(connection, "SELECT count(*) FROM job WHERE place IS NULL")


def places(connection: apsw.Connection) -> tuple[list[int], list[int]]:
    """Return, by State, the place of the job that ended last, and that up to which all were given up."""
    last, given_up = [0] * len(State), [0] * len(State)
    for state, place, gone in connection.execute("SELECT state, place, max(given_up, place - kept) FROM outcome"):
        last[int(str(state))], given_up[int(str(state))] = int(str(place)), int(str(gone))
    return last, given_up


def tally(connection: apsw.Connection) -> dict[str, list[int]]:
    """Return, by task, its jobs that ever ended, by State."""
    counts: dict[str, list[int]] = {}
    rows: Any = connection.execute("SELECT task, succeeded, failed, cancelled FROM tally")
    for task, *ended in rows:
        counts[task] = [0] * len(State)
        for state, count in zip((SUCCEEDED, FAILED, CANCELLED), ended, strict=True):
            counts[task][state] = count
    return counts


def latest(connection: apsw.Connection) -> float:
    """Return the latest time at which anything happened, or 0.0 if nothing did."""
    # Both are in the order of time.
    submitted = "SELECT submitted FROM job ORDER BY sequence DESC LIMIT 1"
    ended = [
        f"SELECT ended FROM job WHERE state = {state} AND place IS NOT NULL ORDER BY place DESC LIMIT 1"  # noqa: S608
        for state in (SUCCEEDED, FAILED, CANCELLED)
    ]
    latest = ", ".join(f"coalesce(({sql}), 0.0)" for sql in (submitted, *ended))
    found: list[Any] = connection.execute(f"SELECT max({latest})").fetchall()
    return float(found[0][0])


def holds(connection: apsw.Connection) -> list[tuple[str, str, str, float | None, str]]:
    """Return (task, dispatch, intake, until, reason) of each task whose switches were ever changed."""
    rows: list[Any] = connection.execute("SELECT task, dispatch, intake, until, reason FROM hold").fetchall()
    return rows


def minutes(connection: apsw.Connection) -> list[Minute]:
    """Return the minutes of the history, oldest first."""
    rows: Any = connection.execute("SELECT told FROM minute ORDER BY number")
    return [decode_minute(told) for (told,) in rows]


def audit(connection: apsw.Connection, before: int, limit: int) -> list[AuditEntry]:
    """Return up to ``limit`` entries of the audit log with lower numbers than ``before``, newest first.

    0: from the newest on.
    """
    sql = "SELECT number, told FROM audit WHERE number < ? OR NOT ? ORDER BY number DESC LIMIT ?"
    rows: Any = connection.execute(sql, (before, before, limit))
    return [decode(number, told) for number, told in rows]


def salts(connection: apsw.Connection) -> list[tuple[int, bytes]]:
    """Return the salt of each start, and the number from which it holds."""
    rows: list[Any] = connection.execute("SELECT first, salt FROM run ORDER BY first").fetchall()
    return rows


def unsuccessful(connection: apsw.Connection) -> list[tuple[int, int, int]]:
    """Return (batch, failed, cancelled) of each batch with such jobs, deleted ones included."""
    rows: list[Any] = connection.execute(
        f"SELECT batch, sum(failed), sum(cancelled) FROM (SELECT batch, state = {FAILED} AS failed, "  # noqa: S608
        f"state = {CANCELLED} AS cancelled FROM job WHERE batch IS NOT NULL AND state IN ({FAILED}, {CANCELLED}) "
        "UNION ALL SELECT batch, failed, cancelled FROM gone) GROUP BY batch"
    ).fetchall()
    return rows


def keys(connection: apsw.Connection, after: int, since: float) -> Iterator[list[KeyRow]]:
    """Return the idempotency keys first used since a time by jobs after number ``after``, oldest first."""
    sql = f"SELECT {KEY} FROM keyed WHERE sequence > ? AND submitted >= ? ORDER BY sequence LIMIT {CHUNK}"  # noqa: S608
    while rows := connection.execute(sql, (after, since)).fetchall():
        found: list[Any] = rows
        after = found[-1][0]
        yield found


def key_before(connection: apsw.Connection, most: int) -> int:
    """Return the number of the last job whose key is not among the last ``most`` keys; 0 if there is none."""
    sql = f"SELECT coalesce((SELECT sequence FROM keyed ORDER BY sequence DESC LIMIT 1 OFFSET {most:d}), 0)"  # noqa: S608
    return one(connection, sql)


def log_ends(connection: apsw.Connection) -> dict[int, tuple[int, bool]]:
    """Return of each unfinished job that has logged the length of its log, and whether that ends a line."""
    sql = """SELECT sequence, max(place + length(text)), substr(text, -1) IN (x'0a', x'') FROM log
        WHERE sequence IN (SELECT sequence FROM job WHERE place IS NULL) GROUP BY sequence"""
    rows: Any = connection.execute(sql)
    return {sequence: (end, bool(ends_line)) for sequence, end, ends_line in rows}


class Reader:
    """Reads what is not on the board in a thread of its own: the loop never waits for the disk. Raises JournalError."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._connection = schema.open_reader(path)
        self._thread = ThreadPoolExecutor(1, "journal-reader")

    async def result(self, sequence: int) -> tuple[str, bytes] | None:
        """Return media type and body of a job's result, or of its error; None if nothing is kept.

        Raises JournalError if the file is damaged there.
        """
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._read, result, sequence)

    async def attempts(self, sequence: int) -> list[PastAttempt]:
        """Return the failed attempts at a job that are kept, in their order. Raises JournalError as ``result`` does."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._read, attempts_of, sequence)

    async def log(self, sequence: int, kept: int) -> JobLog:
        """Return the log of a job, and of its end at most ``kept`` bytes. Raises JournalError as ``result`` does."""
        return await asyncio.get_running_loop().run_in_executor(
            self._thread, self._read, lambda connection, sequence: joined(log_of(connection, sequence), kept), sequence
        )

    async def job(self, sequence: int) -> Saved | None:
        """Return all that is kept of a job. Raises JournalError as ``result`` does."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._read, _job, sequence)

    async def errors(self, sequences: Sequence[int]) -> dict[int, bytes]:
        """Return the errors of some failed jobs, at most FEW at a time. Raises JournalError as ``result`` does."""
        return await asyncio.get_running_loop().run_in_executor(
            self._thread, partial(self._read, partial(_errors, sequences), sequences[0])
        )

    async def mentioning(self, sequences: Sequence[int], text: str) -> set[int]:
        """Return those of some failed jobs whose error has ``text`` within it. At most FEW at a time.

        ``text`` is casefolded. Raises JournalError as ``result`` does.
        """
        return await asyncio.get_running_loop().run_in_executor(
            self._thread, partial(self._read, partial(_mentioning, sequences, text), sequences[0])
        )

    async def audit(self, before: int, limit: int) -> list[AuditEntry]:
        """Return entries of the audit log, as ``audit`` does. Raises JournalError as ``result`` does."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._entries, before, limit)

    def _entries(self, before: int, limit: int) -> list[AuditEntry]:
        try:
            return audit(self._connection, before, limit)
        except (apsw.Error, msgspec.DecodeError) as error:
            raise JournalError(f"{self._path}: the audit log cannot be read: {error}") from None

    def _read(self, what: Callable[[apsw.Connection, int], Value], sequence: int) -> Value:
        try:
            return what(self._connection, sequence)
        except (apsw.Error, UnicodeDecodeError, msgspec.DecodeError) as error:
            raise JournalError(f"{self._path}: job {sequence} cannot be read: {error}") from None

    def close(self) -> None:
        """Finish the reads that were asked for, and close."""
        self._thread.submit(self._connection.close)
        self._thread.shutdown()


def result(connection: apsw.Connection, sequence: int) -> tuple[str, bytes] | None:
    rows: list[Any] = connection.execute("SELECT media, body FROM result WHERE sequence = ?", (sequence,)).fetchall()
    return rows[0] if rows else None


def _errors(sequences: Sequence[int], connection: apsw.Connection, _: int) -> dict[int, bytes]:
    wanted = ", ".join("?" * len(sequences))
    sql = f"SELECT sequence, body FROM result WHERE sequence IN ({wanted})"  # noqa: S608
    rows: Any = connection.execute(sql, tuple(sequences))
    return dict(rows)


def _mentioning(sequences: Sequence[int], text: str, connection: apsw.Connection, _: int) -> set[int]:
    return {sequence for sequence, error in _errors(sequences, connection, _).items() if mentions(error, text)}


def attempts_of(connection: apsw.Connection, sequence: int) -> list[PastAttempt]:
    sql = "SELECT told FROM attempt WHERE sequence = ? ORDER BY number"
    rows: list[Any] = connection.execute(sql, (sequence,)).fetchall()
    return [decode_attempt(told) for (told,) in rows]


def log_of(connection: apsw.Connection, sequence: int) -> list[tuple[int, bytes]]:
    sql = "SELECT place, text FROM log WHERE sequence = ? ORDER BY place"
    rows: list[Any] = connection.execute(sql, (sequence,)).fetchall()
    return rows


def _job(connection: apsw.Connection, sequence: int) -> Saved | None:
    rows: list[Any] = connection.execute(f"SELECT {JOB} FROM job WHERE sequence = ?", (sequence,)).fetchall()  # noqa: S608
    return Saved._make(rows[0]) if rows else None


def one(connection: apsw.Connection, sql: str) -> int:
    return int(str(connection.execute(sql).get))
