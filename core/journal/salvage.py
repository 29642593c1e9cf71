"""Saving the readable part of a journal that was refused.

It is copied into a new journal: first the rows of pages with a right checksum, then, counted apart
as doubtful, those that can be made out on the other pages. Unreadable pages are stepped over. A
file that was cut short lacks the pages at its end, and is read as any other.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import apsw
import msgspec
from headway.core.errors import CopyError, JournalError
from headway.core.ids import COUNT_BITS, SECRET_BYTES, SEQUENCE_LIMIT
from headway.core.journal import schema
from headway.core.journal.reader import ATTEMPT, GONE, JOB, KEY, LOG, RESULT, RUN, holds, one
from headway.core.past_attempt import decode_attempt

# The tables that are saved, with their columns.
TABLES = (
    *(("job", JOB), ("result", RESULT), ("keyed", KEY), ("gone", GONE), ("run", RUN)),
    *(("log", LOG), ("attempt", ATTEMPT)),
)
# The largest number of SQLite. No key of a table can reach it: the number of a batch is the longest.
WORD_LIMIT = (SEQUENCE_LIMIT << COUNT_BITS - 1) - 1
# Numbers tried one by one past an unreadable page. After that each step is twice as long (see
# ``_past``).
STEPS = 1000


@dataclass(frozen=True, slots=True)
class Recovered:
    """The rows that ``recover`` saved, and how many of them come from pages with a wrong checksum."""

    jobs: int
    results: int
    keys: int
    doubtful: int
    # Whether the server's secret was read, and salts. Without them, no id that was issued is known any more.
    ids_kept: bool
    # Whether all rows of the old journal could be read.
    whole: bool


def recover(path: Path, out: Path) -> Recovered:
    """Save the readable part of a damaged journal into a new one at ``out``. The old one stays as it is.

    Raises JournalError, with no new journal, if nothing can be read, and CopyError if ``out`` cannot
    be written.
    """
    if out.exists():
        raise CopyError(f"{out}: exists. Name a file that does not exist")
    with schema.reading(path):
        source = schema.connect(path, apsw.SQLITE_OPEN_READWRITE)
    try:
        source.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
        # Without it SQLite reads nothing of a file with fewer pages than its first page says, or with
        # a table that begins on a page that is gone. Nothing is written.
        source.config(apsw.SQLITE_DBCONFIG_WRITABLE_SCHEMA, 1)
        meta, sure = _meta(source)
        if meta is not None:
            schema.check_open(path, source)
        try:
            schema.create(out, meta.secret if meta else None)
            with closing(schema.connect(out, apsw.SQLITE_OPEN_READWRITE)) as target:
                saved = _save(source, target, meta, sure)
            if meta is None and not (saved.jobs or saved.results or saved.keys):
                raise JournalError(f"{path}: nothing can be read, so {out} was not made")
        except BaseException as error:
            _delete(out)
            if isinstance(error, (apsw.Error, OSError)):
                raise CopyError(f"{out}: cannot be written: {getattr(error, 'strerror', None) or error}") from None
            raise
    finally:
        source.close()
    return saved


def _save(source: apsw.Connection, target: apsw.Connection, meta: schema.Meta | None, sure: bool) -> Recovered:
    _copy(source, target, checked=True)
    doubtful, whole = _copy(source, target, checked=False)
    names = ("job", "result", "keyed", "run")
    saved, results, keyed, runs = (one(target, f"SELECT count(*) FROM {name}") for name in names)  # noqa: S608
    highest = one(target, "SELECT coalesce(max(sequence), 0) FROM job")
    _count(source, target)
    _hold(source, target)
    _recall(source, target)
    _audit(source, target)
    # The numbers given since are unknown. No start has ever skipped as many.
    high = max(highest, meta.high if meta else 0) + 16 * schema.SKIP
    target.execute("UPDATE meta SET high = ? WHERE id = 1", (high,))
    return Recovered(
        jobs=saved,
        results=results,
        keys=keyed,
        doubtful=doubtful + (not sure),
        ids_kept=meta is not None and bool(runs or not saved),
        whole=whole,
    )


def _delete(out: Path) -> None:
    for end in ("", "-wal", "-shm", "-new", "-new-wal", "-new-shm"):
        out.with_name(f"{out.name}{end}").unlink(missing_ok=True)


def _meta(source: apsw.Connection) -> tuple[schema.Meta | None, bool]:
    """Return the meta row, and whether the checksum of its page is right. If not, a secret can be made out there."""
    for checked in (True, False):
        source.execute(f"PRAGMA checksum_verification = {int(checked)}")
        with suppress(apsw.Error, UnicodeDecodeError):
            meta = schema.Meta(source)
            if checked or (len(meta.secret) == SECRET_BYTES and 0 <= meta.high < schema.NUMBERS_BY_CLOCK_MOST):
                return meta, checked
    return None, True


def _copy(source: apsw.Connection, target: apsw.Connection, checked: bool) -> tuple[int, bool]:
    """Copy the rows that ``target`` does not have. Return their number, and whether all could be read."""
    source.execute(f"PRAGMA checksum_verification = {int(checked)}")
    before = target.total_changes()
    steps: list[int] = []
    whole = True
    with target:
        for table, columns in TABLES:
            places = ",".join("?" * (columns.count(",") + 1))
            sql = f"INSERT OR IGNORE INTO {table} ({columns}) VALUES ({places})"  # noqa: S608
            first = columns.partition(",")[0]
            found = 0
            for row in _readable(source, f"SELECT {columns} FROM {table} WHERE {first} > ? ORDER BY {first}", steps):  # noqa: S608
                found += 1
                if checked or _plausible(table, row):
                    try:
                        target.execute(sql, row)
                    except (apsw.ConstraintError, apsw.MismatchError):
                        # A value of another type than the column's.
                        continue
            # A value may be NULL on a page of which the end is gone.
            whole = whole and found <= one(target, f"SELECT count(*) FROM {table}")  # noqa: S608
    return target.total_changes() - before, whole and not steps


def _count(source: apsw.Connection, target: apsw.Connection) -> None:
    """Take over the counts of jobs that ended. Count the saved jobs where those cannot be read."""
    with target, suppress(apsw.Error, UnicodeDecodeError):
        rows = source.execute("SELECT task, succeeded, failed, cancelled FROM tally").fetchall()
        target.executemany("INSERT OR REPLACE INTO tally VALUES (?, ?, ?, ?)", rows)
    with target:
        target.execute(schema.COUNT_ENDED).fetchall()
    with target, suppress(apsw.Error, UnicodeDecodeError):
        rows = source.execute("SELECT place, kept, given_up, state FROM outcome").fetchall()
        sql = "UPDATE outcome SET place = max(place, ?), kept = ?, given_up = ? WHERE state = ?"
        target.executemany(sql, rows)


def _recall(source: apsw.Connection, target: apsw.Connection) -> None:
    """Take over the history, as far as it can be read."""
    with target, suppress(apsw.Error, UnicodeDecodeError):
        target.executemany(
            "INSERT OR IGNORE INTO minute VALUES (?, ?)", source.execute("SELECT number, told FROM minute")
        )


def _audit(source: apsw.Connection, target: apsw.Connection) -> None:
    """Take over the audit log, as far as it can be read."""
    with target, suppress(apsw.Error, UnicodeDecodeError):
        target.executemany(
            "INSERT OR IGNORE INTO audit VALUES (?, ?)", source.execute("SELECT number, told FROM audit")
        )


def _hold(source: apsw.Connection, target: apsw.Connection) -> None:
    """Take over the switches of tasks: a held task does not begin to run by itself."""
    with target, suppress(apsw.Error, UnicodeDecodeError):
        target.executemany("INSERT OR IGNORE INTO hold VALUES (?, ?, ?, ?, ?)", holds(source))


def _plausible(table: str, row: tuple[Any, ...]) -> bool:
    if table == "gone":
        return True
    if table == "attempt":
        try:
            decode_attempt(row[2])
        except msgspec.DecodeError:
            return False
    return 0 < row[0] < SEQUENCE_LIMIT and (table != "job" or row[1] in range(1, 8))


def _readable(source: apsw.Connection, sql: str, steps: list[int]) -> Iterator[tuple[Any, ...]]:
    """Yield the readable rows, stepping over the others. ``steps`` gets the number after each of these."""
    last = 0
    while last < WORD_LIMIT:
        try:
            for row in source.execute(sql, (last,)):
                last = row[0]
                yield row
        except (apsw.Error, UnicodeDecodeError):
            last = _past(source, sql, last)
            steps.append(last)
        else:
            return


def _past(source: apsw.Connection, sql: str, last: int) -> int:
    """Return a number after ``last`` from which rows can be read, WORD_LIMIT if there is none.

    Between two runs many numbers have no row, so the steps grow. The last of them may be too long.
    So the way back from there is halved until the unreadable rows are found again.
    """
    unreadable, step, tries = last, 1, 0
    while not _can_read(source, sql, unreadable + step):
        unreadable += step
        if unreadable >= WORD_LIMIT:
            return WORD_LIMIT
        tries += 1
        step = 1 if tries < STEPS else 2 * step
    readable = unreadable + step
    while readable - unreadable > 1:
        middle = (unreadable + readable) // 2
        if _can_read(source, sql, middle):
            readable = middle
        else:
            unreadable = middle
    return readable


def _can_read(source: apsw.Connection, sql: str, after: int) -> bool:
    try:
        source.execute(sql, (min(after, WORD_LIMIT),)).fetchone()
    except (apsw.Error, UnicodeDecodeError):
        return False
    return True
