"""A batch is written whole, whatever its size, and its changes one after the other."""

from __future__ import annotations

import apsw
import pytest
from headway.core.job import State
from headway.core.journal.schema import TABLES
from headway.core.journal.statement import (
    APPLY,
    ASKED,
    COLUMNS,
    SIZES,
    Change,
    apply_changes,
    count_ends,
    ends_of,
    is_recallable,
)

from tests.each import each


@pytest.fixture
def connection() -> apsw.Connection:
    return opened()


def opened() -> apsw.Connection:
    connection = apsw.Connection(":memory:")
    connection.execute(TABLES + "INSERT INTO meta VALUES (1, 7, x'00', 0, 0, 0, '', 0, 0, 0);" + APPLY)
    return connection


def change(sequence: int, **values: object) -> Change:
    assert values.keys() < set(COLUMNS)
    return (sequence, *(values.get(name) for name in COLUMNS[1:]))


def submission(sequence: int, key: str | None = None) -> Change:
    submitted = {"state": State.QUEUED, "payload_body": b"{}", "priority_reason": 5, "terms_place": b"{}"}
    times = {"attempt": 0, "submitted_started": 1000.0}
    return change(sequence, task="sleep", **submitted, **times, key_media=key, digest_forgotten=key and b"d")


def end(sequence: int, place: int, body: bytes) -> Change:
    ended = {"state": State.SUCCEEDED, "priority_reason": 0, "terms_place": place, "attempt": 1, "due_until": 4600.0}
    times = {"ended": 1002.0, "submitted_started": 1001.0}
    return change(sequence, **ended, **times, payload_body=body, key_media="text/plain")


@each("rows", sorted({size + more for size in SIZES for more in (-1, 0, 1)} | {1300}))
def test_a_batch_of_any_size_is_whole(rows: int) -> None:
    connection = opened()
    apply_changes(connection, [submission(sequence) for sequence in range(1, rows + 1)], rows, 77, 0.5)
    assert connection.execute("SELECT count(*), total(sequence) FROM job").fetchone() == (rows, rows * (rows + 1) / 2)
    # One seal however many statements it took.
    assert connection.execute("SELECT commits, high, changes, skew FROM meta").fetchone() == (1, rows, 77, 0.5)


def test_changes_of_one_job_act_in_their_order(connection: apsw.Connection) -> None:
    tried = change(1, state=State.RETRYING, due_until=1010.0, attempt=1, submitted_started=1000.5)
    apply_changes(connection, [submission(1, "k"), tried, end(1, 4, b"done"), submission(2)], 2, 4, 0.0)
    job = connection.execute(
        "SELECT state, attempt, submitted, started, due, until, ended, place, size, payload, terms FROM job"
    ).fetchone()
    assert job == (State.SUCCEEDED, 1, 1000.0, 1001.0, 1010.0, 4600.0, 1002.0, 4, 4, None, b"{}")
    assert connection.execute("SELECT * FROM result").fetchall() == [(1, "text/plain", b"done")]
    assert connection.execute("SELECT * FROM keyed").fetchall() == [(1, "k", b"d", 1000.0, None)]


def test_a_forgotten_result_is_gone_and_its_job_is_not(connection: apsw.Connection) -> None:
    apply_changes(connection, [submission(1), end(1, 1, b"done")], 1, 2, 0.0)
    apply_changes(connection, [change(1, digest_forgotten=1)], 1, 3, 0.0)
    assert connection.execute("SELECT count(*) FROM result").fetchone() == (0,)
    # It had one, so it is not told as null.
    assert connection.execute("SELECT state, size FROM job").fetchone() == (State.SUCCEEDED, 4)


def test_what_a_client_asks_for_can_be_refused_and_what_has_happened_cannot() -> None:
    forgotten, cancelled = change(1, digest_forgotten=1), change(1, state=State.CANCELLED, digest_forgotten=ASKED)
    tried = change(1, state=State.RETRYING, due_until=1010.0, attempt=1, submitted_started=1000.5)
    changes = [submission(1), submission(1, "k"), forgotten, cancelled, end(2, 1, b""), tried]
    assert [is_recallable(one) for one in changes] == [True] * 4 + [False] * 2


def test_a_job_that_is_cancelled_returned_nothing(connection: apsw.Connection) -> None:
    cancelled = change(1, state=State.CANCELLED, ended=1002.0, terms_place=1, digest_forgotten=ASKED)
    apply_changes(connection, [submission(1), cancelled], 1, 2, 0.0)
    assert connection.execute("SELECT state, size, payload FROM job").fetchone() == (State.CANCELLED, None, None)


def test_ends_are_counted_by_task_and_outcome_and_the_places_remembered(connection: apsw.Connection) -> None:
    failed = change(3, state=State.FAILED, ended=1.0, terms_place=1, due_until=9.0, payload_body=b"", key_media="")
    tried = change(4, state=State.RETRYING, due_until=1010.0, attempt=1, submitted_started=1000.5)
    cancelled = [
        change(number, state=State.CANCELLED, ended=1.0, terms_place=number - 5, digest_forgotten=ASKED)
        for number in (6, 7)
    ]
    for changes in (
        [*map(submission, range(1, 8)), end(1, 1, b""), tried],
        [end(2, 2, b""), failed, change(1, digest_forgotten=1)],
        [end(5, 3, b""), cancelled[0]],
        [cancelled[1]],
    ):
        apply_changes(connection, changes, 5, 1, 0.0)
        count_ends(connection, ends_of(changes))
    assert connection.execute("SELECT * FROM tally").fetchall() == [("sleep", 3, 1, 2)]
    places = connection.execute("SELECT state, place FROM outcome ORDER BY state").fetchall()
    assert places == [(State.SUCCEEDED, 3), (State.FAILED, 1), (State.CANCELLED, 2)]
