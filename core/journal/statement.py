"""The changes of many jobs as one statement.

A change is a row of COLUMNS, NULL in those that it does not set. The rows go as bound values into a
view, and the view's trigger puts them in their tables, one after the other. A submission inserts,
all else updates. Results, keys and the seal (the count of commits and the highest sequence number)
follow in the same statement. A statement outside of a transaction is one, from the first row to the
synced commit. Values are bound as they are: bytes need no base64, floats no text.

A row costs 4 to 6 µs. More rows than the largest statement takes are several statements in one
transaction.
"""

from __future__ import annotations

from bisect import bisect_left
from itertools import chain
from typing import Any

import apsw
from headway.core.journal.schema import CANCELLED, FAILED, SUCCEEDED

# Every value costs time to send and to bind, so most columns have two meanings: the first in a row
# with a task, which is a submission, the second in all others.
COLUMNS = (
    *("sequence", "task", "state", "due_until", "payload_body", "priority_reason", "terms_place", "attempt"),
    *("ended", "submitted_started", "key_media", "digest_forgotten", "batch"),
)
TASK, STATE, BODY, PLACE, DIGEST = (
    COLUMNS.index(name) for name in ("task", "state", "payload_body", "terms_place", "digest_forgotten")
)
# In the digest of an end: a client asked for it, so it can be refused. To SQL that is nothing.
ASKED = 0
Change = tuple[Any, ...]
# Rows of one statement. A commit takes the smallest that holds it and leaves the rest NULL, which
# costs as much to bind. SQL longer than 16 KiB would not stay in apsw's cache of statements.
SIZES = (1, 2, 4, 6, 8, *range(12, 64, 4), *range(64, 128, 8), *range(128, 256, 16), *range(256, 576, 64), 576)
_TALLY = f"""INSERT INTO tally SELECT task, sum(state = {SUCCEEDED}), sum(state = {FAILED}), sum(state = {CANCELLED})
    FROM job WHERE sequence IN (SELECT value FROM json_each(?)) GROUP BY task
    ON CONFLICT DO UPDATE SET succeeded = succeeded + excluded.succeeded, failed = failed + excluded.failed,
    cancelled = cancelled + excluded.cancelled"""  # noqa: S608
_PLACE = "UPDATE outcome SET place = max(place, ?) WHERE state = ?"
# A failed job can be resubmitted, so its payload stays.
# The row that ends a commit has sequence 0. Its attempt is the highest sequence number so far, its
# start the skew, its due time the number of the last change.
APPLY = f"""
CREATE TEMP VIEW change AS SELECT {", ".join(f"NULL AS {name}" for name in COLUMNS)};
CREATE TEMP TRIGGER apply INSTEAD OF INSERT ON change BEGIN
    INSERT INTO job (sequence, task, state, due, payload, priority, terms, submitted, attempt, reason, batch)
        SELECT new.sequence, new.task, new.state, new.due_until, new.payload_body, new.priority_reason, new.terms_place,
        new.submitted_started, new.attempt, 0, new.batch WHERE new.task IS NOT NULL;
    INSERT INTO keyed SELECT new.sequence, new.key_media, new.digest_forgotten, new.submitted_started, new.batch
        WHERE new.task IS NOT NULL AND new.key_media IS NOT NULL;
    UPDATE job SET state = new.state, attempt = coalesce(new.attempt, attempt),
        reason = coalesce(new.priority_reason, reason), started = coalesce(new.submitted_started, started),
        due = CASE WHEN new.terms_place IS NULL THEN coalesce(new.due_until, due) ELSE due END,
        until = CASE WHEN new.terms_place IS NOT NULL THEN new.due_until END, ended = new.ended,
        place = new.terms_place, size = length(new.payload_body),
        payload = CASE WHEN new.terms_place IS NULL OR new.state = {FAILED} THEN payload END
        WHERE new.task IS NULL AND new.state IS NOT NULL AND sequence = new.sequence;
    INSERT OR REPLACE INTO result SELECT sequence, new.key_media, new.payload_body FROM job
        WHERE new.task IS NULL AND new.payload_body IS NOT NULL AND sequence = new.sequence;
    DELETE FROM result WHERE new.task IS NULL AND new.digest_forgotten AND sequence = new.sequence;
    DELETE FROM attempt WHERE new.task IS NULL AND new.digest_forgotten AND sequence = new.sequence;
    DELETE FROM log WHERE new.task IS NULL AND new.digest_forgotten AND sequence = new.sequence;
    UPDATE job SET size = coalesce(size, 0), payload = NULL
        WHERE new.task IS NULL AND new.digest_forgotten AND sequence = new.sequence;
    UPDATE meta SET commits = commits + 1, high = max(high, new.attempt), skew = new.submitted_started,
        changes = new.due_until
        WHERE new.sequence = 0 AND id = 1;
END;
"""  # noqa: S608
_INSERT = {
    size: "INSERT INTO change SELECT * FROM (VALUES "  # noqa: S608
    + ",".join(["(" + ",".join("?" * len(COLUMNS)) + ")"] * size)
    + ") WHERE column1 IS NOT NULL"
    for size in SIZES
}


def is_recallable(change: Change) -> bool:
    """Whether a change is a client's wish (a submission, a DELETE), which is refused without room."""
    return change[TASK] is not None or change[DIGEST] is not None


def apply_changes(connection: apsw.Connection, changes: list[Change], highest: int, last: int, skew: float) -> None:
    """Commit ``changes`` and the seal that counts the commit, or add both to the present transaction."""
    rows = [*changes, (0, None, None, last, None, None, None, highest, None, skew, *[None] * 3)]
    most = SIZES[-1]
    if len(rows) <= most:
        _insert(connection, rows)
        return
    alone = not connection.in_transaction
    if alone:
        connection.execute("BEGIN IMMEDIATE")
    for at in range(0, len(rows), most):
        _insert(connection, rows[at : at + most])
    if alone:
        connection.execute("COMMIT")


def ends_of(changes: list[Change]) -> list[Change]:
    """Return those of ``changes`` that end a job."""
    return [change for change in changes if change[PLACE] is not None and change[TASK] is None]


def count_ends(connection: apsw.Connection, ends: list[Change]) -> None:
    """Count ends that were just applied, by task and outcome, and note their places."""
    connection.execute(_TALLY, (f"[{','.join([str(end[0]) for end in ends])}]",))
    # The places of each outcome ascend.
    for state, place in {end[STATE]: end[PLACE] for end in ends}.items():
        connection.execute(_PLACE, (place, state))


def _insert(connection: apsw.Connection, rows: list[Change]) -> None:
    size = SIZES[bisect_left(SIZES, len(rows))]
    values = [*chain.from_iterable(rows), *[None] * (len(COLUMNS) * (size - len(rows)))]
    connection.execute(_INSERT[size], values)
