"""Reading a journal: at start-up, one result at a time beside the writer, and for people.

Nothing here writes to a journal. ``jobs`` and ``keys`` use the writer's connection before its thread runs; all else
has a connection of its own, and in WAL neither side waits for the other. A read lasts for one row or one chunk, so
the log can always be started over.

``recover`` is for a file that was refused. It copies what can be read into a new journal: first the rows of pages
whose checksum is right, then, counted apart as doubtful, those that can be made out on the others. Pages that cannot
be read are stepped over.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, TypeVar

import apsw
import orjson
from headway.core.errors import JournalError
from headway.core.journal import mark, schema


class Saved(NamedTuple):
    """A job as it is in the file; what may be None is said in schema.TABLES."""

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
    timeout: float
    retries: int
    payload: bytes | None
    deadline: float | None


JOB = ", ".join(Saved._fields)
KEY = "sequence, key, digest, submitted"
RESULT = "sequence, media, body"
Key = tuple[int, str, bytes, float]
Read = TypeVar("Read")

# Rows read at once.
CHUNK = 10_000
# Numbers tried one by one past a page that cannot be read; then twice as far each time.
STEPS = 1000
SEQUENCE_LIMIT = 1 << 48


def jobs(connection: apsw.Connection, progress: Callable[[int], object] = lambda _: None) -> Iterator[list[Saved]]:
    """Return the jobs in the order of their numbers, in chunks; ``progress`` gets how many were read so far."""
    read = 0
    for chunk in _chunks(connection, "job", JOB):
        read += len(chunk)
        yield list(map(Saved._make, chunk))
        progress(read)


def waiting(connection: apsw.Connection) -> list[int]:
    """Return the sequence numbers of the jobs that are not over, ascending."""
    rows: list[Any] = connection.execute("SELECT sequence FROM job WHERE place IS NULL ORDER BY sequence").fetchall()
    return [row[0] for row in rows]


def last_place(connection: apsw.Connection) -> int:
    """Return the number of the job that ended last, 0 where none is kept."""
    return _one(connection, "SELECT coalesce(max(place), 0) FROM job WHERE place IS NOT NULL")


def keys(connection: apsw.Connection) -> Iterator[list[Key]]:
    """Return the idempotency keys, the oldest first, in chunks."""
    return _chunks(connection, "keyed", KEY)


def _chunks(connection: apsw.Connection, table: str, columns: str) -> Iterator[list[Any]]:
    sql = f"SELECT {columns} FROM {table} WHERE sequence > ? ORDER BY sequence LIMIT {CHUNK}"  # noqa: S608
    last = 0
    while rows := connection.execute(sql, (last,)).fetchall():
        last = int(str(rows[-1][0]))
        yield rows


class Reader:
    """Reads results in a thread of its own, so that the loop never waits for the disk."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._thread = ThreadPoolExecutor(1, "journal-reader")
        self._connection: apsw.Connection | None = None

    async def result(self, sequence: int) -> tuple[str, bytes] | None:
        """Return media type and body of what a job returned, or of its error; None where nothing is kept.

        Raises JournalError where the file is damaged there.
        """
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._read, _result, sequence)

    async def job(self, sequence: int) -> Saved | None:
        """Return all that is kept of a job; raises JournalError as ``result`` does."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._read, _job, sequence)

    def _read(self, what: Callable[[apsw.Connection, int], Read], sequence: int) -> Read:
        try:
            if self._connection is None:
                self._connection = schema.open_reader(self._path)
            return what(self._connection, sequence)
        except (apsw.Error, UnicodeDecodeError) as error:
            raise JournalError(f"{self._path}: job {sequence} cannot be read: {error}") from None

    def close(self) -> None:
        """Finish what was asked for and close."""
        self._thread.submit(self._close)
        self._thread.shutdown()

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()


def _result(connection: apsw.Connection, sequence: int) -> tuple[str, bytes] | None:
    rows: list[Any] = connection.execute("SELECT media, body FROM result WHERE sequence = ?", (sequence,)).fetchall()
    return rows[0] if rows else None


def _job(connection: apsw.Connection, sequence: int) -> Saved | None:
    rows: list[Any] = connection.execute(f"SELECT {JOB} FROM job WHERE sequence = ?", (sequence,)).fetchall()  # noqa: S608
    return Saved._make(rows[0]) if rows else None


def check(path: Path) -> list[str]:
    """Return what is wrong with a journal, one line each; it may be in use."""
    try:
        # Before the journal: whatever the mark says, the journal then has at least that.
        marked = mark.read(mark.beside(path))
        connection = schema.open_reader(path)
        try:
            meta = schema.verify(path, connection)
            missing = schema.compare(path, connection, meta, marked)
        finally:
            connection.close()
    except (JournalError, apsw.Error) as error:
        return [str(error)]
    return [f"{path}: the last {missing} acknowledged commits are missing"] if missing else []


def stats(path: Path) -> dict[str, object]:
    """Return counts and sizes; it may be in use."""
    connection = schema.open_reader(path)
    try:
        meta = schema.Meta(connection)
        states: dict[Any, Any] = dict(connection.execute("SELECT state, count(*) FROM job GROUP BY state"))
        results = connection.execute("SELECT count(*), coalesce(sum(length(body)), 0) FROM result").fetchall()[0]
        page, pages, free = (connection.pragma(name) for name in ("page_size", "page_count", "freelist_count"))
    finally:
        connection.close()
    log = path.with_name(f"{path.name}-wal")
    return {
        "jobs": sum(states.values()),
        "by_state": states,
        "results": results[0],
        "result_bytes": results[1],
        "file_bytes": page * pages,
        "free_bytes": page * free,
        "log_bytes": log.stat().st_size if log.exists() else 0,
        "commits": meta.commits,
        "highest_sequence": meta.high,
        "closed": meta.clean,
    }


def export(path: Path, out: BinaryIO) -> int:
    """Write each job as a line of JSON, its payload and result in it; return how many."""
    connection = schema.open_reader(path)
    count = 0
    try:
        for chunk in jobs(connection):
            for saved in chunk:
                line: dict[str, object] = saved._asdict()
                if saved.payload is not None:
                    line["payload"] = orjson.Fragment(saved.payload)
                if saved.size is not None:
                    line["result"] = _shown(connection, saved.sequence)
                out.write(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE))
                count += 1
    finally:
        connection.close()
    return count


def _shown(connection: apsw.Connection, sequence: int) -> dict[str, object] | None:
    found = _result(connection, sequence)
    if found is None:
        return None
    media, body = found
    if media == "application/json":
        return {"media_type": media, "json": orjson.Fragment(body)}
    try:
        return {"media_type": media, "text": body.decode()}
    except UnicodeDecodeError:
        return {"media_type": media, "hex": body.hex()}


@dataclass(frozen=True, slots=True)
class Recovered:
    """What ``recover`` saved: rows in all, and of them those from pages whose checksum is wrong."""

    jobs: int
    results: int
    keys: int
    doubtful: int
    # Whether the server's secret was read; if not, no id that was issued is known any more.
    ids_kept: bool


def recover(path: Path, out: Path) -> Recovered:
    """Save what can be read of a damaged journal into a new one at ``out``; the old one stays as it is."""
    if out.exists():
        raise JournalError(f"{out}: exists; name a file that does not")
    source = schema.connect(path, apsw.SQLITE_OPEN_READWRITE)
    source.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
    target: apsw.Connection | None = None
    try:
        meta = _meta(source)
        schema.create(out, meta.secret if meta else None)
        target = schema.connect(out, apsw.SQLITE_OPEN_READWRITE)
        _copy(source, target, checked=True)
        doubtful = _copy(source, target, checked=False)
        saved, results, keyed = (_one(target, f"SELECT count(*) FROM {name}") for name in ("job", "result", "keyed"))  # noqa: S608
        highest = _one(target, "SELECT coalesce(max(sequence), 0) FROM job")
        # Numbers that were given since are not known; no start has ever skipped as many.
        high = max(highest, meta.high if meta else 0) + 16 * schema.SKIP
        target.execute("UPDATE meta SET high = ? WHERE id = 1", (high,))
    except apsw.Error as error:
        raise JournalError(f"{path}: nothing can be read: {error}") from None
    finally:
        source.close()
        if target is not None:
            target.close()
    return Recovered(saved, results, keyed, doubtful, meta is not None)


def _one(connection: apsw.Connection, sql: str) -> int:
    return int(str(connection.execute(sql).get))


def _meta(source: apsw.Connection) -> schema.Meta | None:
    try:
        return schema.Meta(source)
    except (apsw.Error, UnicodeDecodeError):
        return None


def _copy(source: apsw.Connection, target: apsw.Connection, checked: bool) -> int:
    """Copy the rows that ``target`` does not have, and return how many."""
    source.execute(f"PRAGMA checksum_verification = {int(checked)}")
    before = target.total_changes()
    with target:
        for table, columns in (("job", JOB), ("result", RESULT), ("keyed", KEY)):
            places = ",".join("?" * (columns.count(",") + 1))
            sql = f"INSERT OR IGNORE INTO {table} ({columns}) VALUES ({places})"  # noqa: S608
            for row in _readable(source, f"SELECT {columns} FROM {table} WHERE sequence > ? ORDER BY sequence"):  # noqa: S608
                if checked or _plausible(table, row):
                    try:
                        target.execute(sql, row)
                    except apsw.Error:
                        continue
    return target.total_changes() - before


def _plausible(table: str, row: tuple[Any, ...]) -> bool:
    return 0 < row[0] < SEQUENCE_LIMIT and (table != "job" or row[1] in range(1, 8))


def _readable(source: apsw.Connection, sql: str) -> Iterator[tuple[Any, ...]]:
    """The rows that can be read, stepping over those that cannot."""
    last, missed = 0, 0
    while last < SEQUENCE_LIMIT:
        try:
            for row in source.execute(sql, (last,)):
                last, missed = row[0], 0
                yield row
        except (apsw.Error, UnicodeDecodeError):
            missed += 1
            last += 1 if missed < STEPS else 1 << min(missed - STEPS, 48)
        else:
            return
