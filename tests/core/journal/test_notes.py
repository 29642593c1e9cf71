"""Notes are committed with the changes around them, and go with their job."""

from __future__ import annotations

import apsw
import pytest
from headway.core.job import State
from headway.core.journal.notes import Kind, Note, body_bytes, is_recallable_note, put, wished
from headway.core.journal.schema import TABLES
from headway.core.journal.statement import APPLY


@pytest.fixture
def connection() -> apsw.Connection:
    connection = apsw.Connection(":memory:")
    connection.execute(TABLES + APPLY)
    for sequence in (1, 2):
        connection.execute(
            "INSERT INTO job (sequence, state, attempt, reason, priority, task, submitted, terms) "
            "VALUES (?, ?, 0, 0, 5, 'sleep', 1.0, x'')",
            (sequence, State.QUEUED),
        )
    return connection


def test_a_note_of_a_job_goes_with_it(connection: apsw.Connection) -> None:
    put(connection, [(Kind.ATTEMPT, 1, 1, b"told"), (Kind.LOG, 1, 0, b"text", 8), (Kind.ATTEMPT, 2, 1, b"other")])
    connection.execute("DELETE FROM job WHERE sequence = 1")
    assert connection.execute("SELECT * FROM attempt").fetchall() == [(2, 1, b"other")]
    assert connection.execute("SELECT * FROM log").fetchall() == []


def test_a_note_of_a_job_that_is_gone_is_nothing(connection: apsw.Connection) -> None:
    put(connection, [(Kind.ATTEMPT, 9, 1, b"told"), (Kind.LOG, 9, 0, b"text", 8)])
    counts = connection.execute("SELECT (SELECT count(*) FROM attempt), (SELECT count(*) FROM log)").fetchone()
    assert counts == (0, 0)


def test_the_last_note_counts(connection: apsw.Connection) -> None:
    notes: list[Note] = [(Kind.HOLD, "mail", "hold", "open", until, "") for until in (None, 7.0)]
    put(connection, notes)
    assert connection.execute("SELECT * FROM hold").fetchall() == [("mail", "hold", "open", 7.0, "")]


def test_the_terms_of_a_finished_job_stay(connection: apsw.Connection) -> None:
    connection.execute("UPDATE job SET place = 1, state = ? WHERE sequence = 2", (State.SUCCEEDED,))
    put(connection, [(Kind.TERMS, sequence, State.SCHEDULED, 9, 5.0) for sequence in (1, 2)])
    rows = connection.execute("SELECT state, priority, due FROM job ORDER BY sequence").fetchall()
    assert rows == [(State.SCHEDULED, 9, 5.0), (State.SUCCEEDED, 5, None)]


def test_wishes_can_be_refused_and_facts_not() -> None:
    refused = [kind for kind in Kind if is_recallable_note((kind, 1, b"xyz"))]
    assert refused == [Kind.HOLD, Kind.TERMS, Kind.ORDER, Kind.ACT]


def test_an_entry_is_refused_with_the_change_that_it_tells_of() -> None:
    of_change, alone = (Kind.ACT, True, b"told", 9), (Kind.ACT, False, b"told", 9)
    assert [is_recallable_note(note) for note in (of_change, alone)] == [True, False]
    # It is no change of its own, for which a client waits.
    assert [*wished([of_change, (Kind.HOLD, "mail", "hold", "open", None, ""), alone])] == ["mail"]


def test_of_the_audit_log_the_last_entries_are_kept(connection: apsw.Connection) -> None:
    for number in range(1, 8):
        put(connection, [(Kind.ACT, True, b"%d" % number, 3)])
    entries = "SELECT number, told FROM audit ORDER BY number"
    assert connection.execute(entries).fetchall() == [(5, b"5"), (6, b"6"), (7, b"7")]
    # Under a setting that keeps fewer.
    put(connection, [(Kind.ACT, True, b"8", 1)])
    assert connection.execute(entries).fetchall() == [(8, b"8")]


def test_the_bytes_of_a_note_are_those_of_its_content() -> None:
    assert body_bytes((Kind.LOG, 1, 1000, b"text", 800)) == 4


def test_of_a_log_the_pieces_at_both_ends_are_kept(connection: apsw.Connection) -> None:
    for place in range(0, 100, 5):
        put(connection, [(Kind.LOG, 1, place, b"%05d" % place, 10)])
        put(connection, [(Kind.LOG, 2, place, b"%05d" % place, 1000)])
    rows = connection.execute("SELECT place, text FROM log WHERE sequence = 1 ORDER BY place").fetchall()
    assert rows == [(place, b"%05d" % place) for place in (0, 5, 90, 95)]
    assert connection.execute("SELECT count(*) FROM log WHERE sequence = 2").fetchone() == (20,)
