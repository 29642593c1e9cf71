"""A new journal of lines (core/moved.py): with the ids, numbers and times of the engine that they come from.

It looks like a journal that its server has closed. A job that was running is begun again at the
start.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import apsw
from headway.core.errors import CopyError, JournalError, MoveError
from headway.core.ids import COUNT_BITS
from headway.core.job import TERMINAL, encode_terms
from headway.core.journal import schema
from headway.core.moved import Moved, MovedBatch, MovedJob, MovedKey, MovedQueue
from headway.core.past_attempt import encode_attempt

_JOB = "INSERT INTO job VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
_GONE = """INSERT INTO gone SELECT ?1, ?2 - failed, ?3 - cancelled FROM (SELECT coalesce(sum(state = ?4), 0) AS failed,
    coalesce(sum(state = ?5), 0) AS cancelled FROM job WHERE batch = ?1) WHERE ?2 > failed OR ?3 > cancelled"""
# The places of each outcome, in the order of the ends.
_PLACES = """UPDATE job SET place = found.number FROM (SELECT sequence,
    row_number() OVER (PARTITION BY state ORDER BY ended, sequence) AS number FROM job WHERE place = 0) AS found
    WHERE job.sequence = found.sequence;
UPDATE outcome SET place = coalesce((SELECT max(place) FROM job WHERE job.state = outcome.state), 0);
UPDATE outcome SET kept = place"""


def arrive(moved: Iterable[Moved], out: Path) -> int:
    """Make the journal ``out`` of lines. Return the number of jobs. Raises MoveError or JournalError.

    A line that cannot be read leaves no file called ``out``.
    """
    if out.exists():
        raise CopyError(f"{out}: exists. Name a file that does not exist")
    new = out.with_name(f"{out.name}-arriving")
    lines = iter(moved)
    queue = next(lines)
    assert isinstance(queue, MovedQueue)
    if queue.partitions != 1:
        raise MoveError(
            f"the lines come from {queue.partitions} partitions, and a journal has one: their ids would not be valid. "
            "Import them into an empty store with as many partitions"
        )
    try:
        new.unlink(missing_ok=True)
        schema.create(new, queue.secret, queue.high)
        connection = schema.connect(new, apsw.SQLITE_OPEN_READWRITE)
        try:
            jobs = _fill(connection, queue, lines)
        finally:
            connection.close()
        new.rename(out)
    except OSError as error:
        raise CopyError(f"{out}: cannot be written: {error.strerror}") from None
    except apsw.Error as error:
        raise JournalError(f"{out}: cannot be written: {' '.join(str(error).split())}") from None
    finally:
        for end in ("", "-wal", "-shm"):
            new.with_name(f"{new.name}{end}").unlink(missing_ok=True)
    return jobs


def _fill(connection: apsw.Connection, queue: MovedQueue, lines: Iterable[Moved]) -> int:
    jobs = 0
    batches: list[MovedBatch] = []
    connection.execute("PRAGMA synchronous = OFF; BEGIN").fetchall()
    connection.executemany("INSERT INTO run VALUES (?, ?)", queue.salts)
    connection.executemany("INSERT INTO tally VALUES (?, ?, ?, ?)", [(task, *of) for task, of in queue.ended.items()])
    holds = [(task, hold.dispatch, hold.intake, hold.until, hold.reason) for task, hold in queue.holds.items()]
    connection.executemany("INSERT INTO hold VALUES (?, ?, ?, ?, ?)", holds)
    for one in lines:
        if isinstance(one, MovedJob):
            _put_job(connection, one)
            jobs += 1
        elif isinstance(one, MovedKey):
            batch = one.sequence << COUNT_BITS | one.count if one.count else None
            row = (one.sequence, one.text, one.digest, one.submitted, batch)
            connection.execute("INSERT OR REPLACE INTO keyed VALUES (?, ?, ?, ?, ?)", row)
        elif isinstance(one, MovedBatch):
            batches.append(one)
    for one in batches:
        number = one.first << COUNT_BITS | one.count
        connection.execute(_GONE, (number, one.failed, one.cancelled, schema.FAILED, schema.CANCELLED))
    connection.execute(_PLACES).fetchall()
    connection.execute("COMMIT; PRAGMA synchronous = FULL").fetchall()
    connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
    return jobs


def _put_job(connection: apsw.Connection, job: MovedJob) -> None:
    over = job.state in TERMINAL
    size = (len(job.result[1]) if job.result else 0) if job.has_result else None
    connection.execute(
        _JOB,
        (
            *(job.sequence, job.state, job.attempt, job.reason, job.priority, job.task),
            *(job.submitted, job.started, job.due, job.ended),
            *(0 if over else None, size, encode_terms(job.terms), job.payload),
            *(None if job.batch is None else job.batch[0] << COUNT_BITS | job.batch[1], job.until),
        ),
    )
    if job.result is not None:
        connection.execute("INSERT INTO result VALUES (?, ?, ?)", (job.sequence, *job.result))
    for past in job.attempts:
        connection.execute("INSERT INTO attempt VALUES (?, ?, ?)", (job.sequence, past.number, encode_attempt(past)))
    if job.log is not None:
        pieces = [(0, job.log.head), (job.log.tail_begin, job.log.tail)]
        for place, text in pieces:
            if text:
                connection.execute("INSERT OR REPLACE INTO log VALUES (?, ?, ?)", (job.sequence, place, text))
