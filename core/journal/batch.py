"""A batch: the changes of many jobs as one statement.

The changes of one job are joined into one row of COLUMNS, what is unchanged being NULL. The rows go as bound values
into a view, and the view's trigger puts them where they belong: a submission inserts, all else updates; results,
keys and the seal (the count of commits and the highest sequence number) follow in the same statement. A statement
outside of a transaction is one: it is one ``sqlite3_step`` from the first row to the synced commit, so the GIL is
given up, and waited for, once. Values are bound as they are: bytes need no base64, floats no text.

Joining is Python under the GIL, 0.5 µs a change; binding and inserting cost 5 µs a row, of which all but binding
leaves the loop alone. More rows than the largest statement takes are several statements in one transaction.
"""

from __future__ import annotations

import apsw
from headway.core.job import State

Change = tuple[int, int, tuple[object, ...]]
Row = list[object]

# A row of a batch. A change is (sequence, column of its first value, values): each kind of change has its columns
# side by side, so that joining the changes of one job is a slice assignment.
COLUMNS = (
    *("sequence", "task", "payload", "priority", "timeout", "retries", "deadline", "submitted", "key", "digest"),
    *("due", "state", "attempt", "started", "reason", "ended", "place", "media", "body", "forgotten"),
)
TASK, DUE, STATE, ATTEMPT, FORGOTTEN = map(COLUMNS.index, ("task", "due", "state", "attempt", "forgotten"))
_EMPTY: Row = [None] * len(COLUMNS)
# Rows of one statement. A batch takes the smallest that holds it and leaves the rest NULL, which costs as much to bind;
# SQL longer than 16 KiB would not stay in apsw's cache of statements.
SIZES = (1, 2, 4, 8, 16, 24, 32, 48, 64, 96, 128, 192, 256, 380)
# What failed can be sent again, so its payload stays.
FAILED = int(State.FAILED)
# The row that ends a batch has sequence 0, and the highest sequence number so far as its attempt.
APPLY = f"""
CREATE TEMP VIEW change AS SELECT {", ".join(f"NULL AS {name}" for name in COLUMNS)};
CREATE TEMP TRIGGER apply INSTEAD OF INSERT ON change BEGIN
    INSERT INTO job SELECT new.sequence, new.state, coalesce(new.attempt, 0), coalesce(new.reason, 0), new.priority,
        new.task, new.submitted, new.started, new.due, new.ended, new.place, length(new.body), new.timeout, new.retries,
        CASE WHEN new.place IS NULL OR new.state = {FAILED} THEN new.payload END, new.deadline
        WHERE new.task IS NOT NULL;
    INSERT INTO keyed SELECT new.sequence, new.key, new.digest, new.submitted WHERE new.key IS NOT NULL;
    UPDATE job SET state = new.state, attempt = coalesce(new.attempt, attempt), reason = coalesce(new.reason, reason),
        started = coalesce(new.started, started), due = coalesce(new.due, due), ended = new.ended, place = new.place,
        size = length(new.body),
        payload = CASE WHEN new.place IS NULL OR new.state = {FAILED} THEN payload END
        WHERE new.task IS NULL AND new.state IS NOT NULL AND sequence = new.sequence;
    INSERT OR REPLACE INTO result SELECT sequence, new.media, new.body FROM job
        WHERE new.body IS NOT NULL AND sequence = new.sequence;
    DELETE FROM result WHERE new.forgotten AND sequence = new.sequence;
    UPDATE job SET size = coalesce(size, 0), payload = NULL WHERE new.forgotten AND sequence = new.sequence;
    UPDATE meta SET commits = commits + 1, high = max(high, new.attempt) WHERE new.sequence = 0 AND id = 1;
END;
"""  # noqa: S608
_INSERT = {
    size: "INSERT INTO change SELECT * FROM (VALUES "  # noqa: S608
    + ",".join(["(" + ",".join("?" * len(COLUMNS)) + ")"] * size)
    + ") WHERE column1 IS NOT NULL"
    for size in SIZES
}


def join(rows: dict[int, Row], changes: list[Change]) -> int:
    """Lay ``changes``, in their order, over ``rows``, by sequence number; return the highest that was submitted."""
    highest = 0
    for sequence, column, values in changes:
        row = rows.get(sequence)
        if row is None:
            row = rows[sequence] = _EMPTY.copy()
            row[0] = sequence
        row[column : column + len(values)] = values
        if column == TASK and sequence > highest:
            highest = sequence
    return highest


def divide(rows: dict[int, Row]) -> tuple[dict[int, Row], list[int]]:
    """Part a batch that could not be committed into what has to be kept and the submissions, which are rejected."""
    rejected = [sequence for sequence, row in rows.items() if row[TASK] is not None]
    return {sequence: row for sequence, row in rows.items() if row[TASK] is None}, rejected


def put(connection: apsw.Connection, rows: dict[int, Row], highest: int) -> None:
    """Commit ``rows`` and the seal that counts the commit."""
    seal = _EMPTY.copy()
    seal[0], seal[ATTEMPT] = 0, highest
    all_rows = [*rows.values(), seal]
    most = SIZES[-1]
    if len(all_rows) <= most:
        _insert(connection, all_rows)
        return
    connection.execute("BEGIN IMMEDIATE")
    for at in range(0, len(all_rows), most):
        _insert(connection, all_rows[at : at + most])
    connection.execute("COMMIT")


def _insert(connection: apsw.Connection, rows: list[Row]) -> None:
    size = next(size for size in SIZES if size >= len(rows))
    values = [value for row in rows for value in row]
    values += _EMPTY * (size - len(rows))
    connection.execute(_INSERT[size], values)
