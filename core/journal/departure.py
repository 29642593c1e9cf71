"""A journal as lines for another engine (core/moved.py). No server may have it open meanwhile.

A job that was running is as it was, with each attempt that began. The engine that gets it begins it
again.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from math import inf
from pathlib import Path

import apsw
import msgspec
from headway.core.errors import JournalError
from headway.core.hold import TaskHold
from headway.core.ids import COUNT_BITS, COUNT_MASK
from headway.core.job import State, decode_terms
from headway.core.job_log import joined
from headway.core.journal import report, schema, watermark
from headway.core.journal.attempts import Attempts
from headway.core.journal.reader import (
    Saved,
    attempts_of,
    holds,
    jobs,
    keys,
    log_of,
    places,
    result,
    salts,
    tally,
    unsuccessful,
)
from headway.core.journal.schema import CANCELLED, FAILED, SUCCEEDED
from headway.core.moved import Moved, MovedBatch, MovedJob, MovedKey, MovedQueue

# Bytes of the end of a log: all that is there.
ALL = 1 << 40


def is_journal(path: Path) -> bool:
    """Whether a file looks like a journal, of whatever version."""
    with path.open("rb") as file:
        return file.read(len(schema.MAGIC)) == schema.MAGIC


def leaving(path: Path) -> Iterator[Moved]:
    """Yield all that a journal has. Raises JournalError if it is damaged or in use."""
    marked = watermark.beside(path)
    lock = watermark.Mark(marked) if marked.exists() else None
    try:
        if faults := report.check(path):
            raise JournalError(faults[0])
        connection = schema.open_reader(path)
        try:
            with schema.reading(path):
                yield from _all(path, connection)
        finally:
            connection.close()
    finally:
        if lock is not None:
            lock.close()


def _all(path: Path, connection: apsw.Connection) -> Iterator[Moved]:
    meta = schema.Meta(connection)
    begun, given_up = Attempts(path), places(connection)[1]
    yield MovedQueue(
        secret=meta.secret,
        salts=salts(connection),
        # Numbers that were given and not committed.
        high=meta.high + (0 if meta.clean else schema.SKIP),
        ended={task: (of[SUCCEEDED], of[FAILED], of[CANCELLED]) for task, of in tally(connection).items()},
        holds={
            task: msgspec.convert(dict(zip(TaskHold.__struct_fields__, columns, strict=True)), TaskHold)
            for task, *columns in holds(connection)
        },
    )
    batches = set()
    for saved in chain.from_iterable(jobs(connection)):
        if saved.place is not None and saved.place <= given_up[saved.state]:
            continue
        if saved.batch is not None:
            batches.add(saved.batch)
        yield _job(connection, saved, begun.attempt(saved.sequence), meta.skew)
    ended = {number: (failed, cancelled) for number, failed, cancelled in unsuccessful(connection)}
    for number in sorted(batches):
        failed, cancelled = ended.get(number, (0, 0))
        first, count = number >> COUNT_BITS, number & COUNT_MASK
        yield MovedBatch(first=first, count=count, failed=failed, cancelled=cancelled)
    for sequence, text, digest, submitted, batch in chain.from_iterable(keys(connection, 0, -inf)):
        yield MovedKey(
            text=text,
            sequence=sequence,
            digest=digest,
            submitted=submitted + meta.skew,
            count=(batch or 0) & COUNT_MASK,
        )


def _job(connection: apsw.Connection, saved: Saved, begun: int, skew: float) -> MovedJob:
    log = joined(log_of(connection, saved.sequence), ALL)

    def of_day(time: float | None) -> float | None:
        return None if time is None else time + skew

    # More attempts began than are written down: then it was running, or its end was not kept.
    was_begun = saved.place is None and begun > saved.attempt
    return MovedJob(
        sequence=saved.sequence,
        state=State.RUNNING if was_begun else State(saved.state),
        task=saved.task,
        priority=saved.priority,
        terms=decode_terms(saved.terms),
        submitted=saved.submitted + skew,
        attempt=begun if was_begun else saved.attempt,
        started=of_day(saved.started),
        due=of_day(saved.due),
        ended=of_day(saved.ended),
        until=of_day(saved.until),
        reason=saved.reason,
        batch=None if saved.batch is None else (saved.batch >> COUNT_BITS, saved.batch & COUNT_MASK),
        payload=saved.payload,
        has_result=saved.size is not None,
        result=result(connection, saved.sequence),
        attempts=attempts_of(connection, saved.sequence),
        log=log if log.total else None,
    )
