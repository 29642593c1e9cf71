"""What retention has given up is deleted, that and no more."""

from __future__ import annotations

from collections.abc import Iterator

import apsw
import pytest
from headway.core.job import State
from headway.core.journal import schema
from headway.core.journal.expiry import Expiry

PLACES = range(1, 10)


@pytest.fixture
def connection() -> Iterator[apsw.Connection]:
    """Jobs 101 to 109, each with a key, that succeeded as the first to the ninth, kept for as many seconds."""
    connection = apsw.Connection(":memory:")
    connection.execute(schema.TABLES)
    for place in PLACES:
        connection.execute(
            "INSERT INTO job (sequence, state, attempt, reason, priority, task, submitted, until, place, terms)"
            " VALUES (?1 + 100, ?2, 1, 0, 5, 'task', 0, ?1, ?1, x'')",
            (place, State.SUCCEEDED),
        )
        connection.execute("INSERT INTO keyed VALUES (?1 + 100, ?1, x'00', ?1, NULL)", (place,))
    yield connection
    connection.close()


def left(connection: apsw.Connection) -> tuple[list[int], list[int]]:
    """The places of the jobs and the numbers of the keys that are there, less 100."""
    jobs = [place for (place,) in connection.execute("SELECT place FROM job ORDER BY place")]
    keys = [number - 100 for (number,) in connection.execute("SELECT sequence FROM keyed ORDER BY sequence")]
    return jobs, keys


def upto(place: int) -> list[int]:
    """Places by State: jobs that succeeded up to ``place``."""
    return [place if state is State.SUCCEEDED else 0 for state in State]


def test_by_number_all_up_to_it_goes_and_what_was_given_up_before_stays_so(connection: apsw.Connection) -> None:
    expiry = Expiry(connection)
    expiry.give_up(upto(3), 0)
    expiry.give_up(upto(2), 104)
    assert expiry.left
    assert expiry.delete(100) == (3, 7)
    assert left(connection) == ([4, 5, 6, 7, 8, 9], [5, 6, 7, 8, 9])
    assert not expiry.left
    expiry.give_up(upto(3), 104)
    assert not expiry.left


def test_by_time_all_before_it_goes(connection: apsw.Connection) -> None:
    expiry = Expiry(connection)
    expiry.give_up_before(3.0, 2.0)
    assert expiry.delete(100) == (3, 4)
    assert left(connection) == ([4, 5, 6, 7, 8, 9], [2, 3, 4, 5, 6, 7, 8, 9])
    assert not expiry.left


def test_a_slice_is_as_large_as_was_said_and_the_rest_comes_later(connection: apsw.Connection) -> None:
    expiry = Expiry(connection)
    expiry.give_up(upto(5), 0)
    assert expiry.delete(2) == (2, 2)
    assert expiry.left
    assert left(connection)[0] == [3, 4, 5, 6, 7, 8, 9]
    while expiry.left:
        expiry.delete(2)
    assert left(connection)[0] == [6, 7, 8, 9]


def test_a_flood_of_successes_deletes_no_failure(connection: apsw.Connection) -> None:
    connection.execute("UPDATE job SET state = ? WHERE place < 4", (State.FAILED,))
    expiry = Expiry(connection)
    expiry.give_up(upto(9), 0)
    assert expiry.delete(100) == (6, 6)
    assert left(connection)[0] == [1, 2, 3]
    expiry.give_up([2] * len(State), 0)
    expiry.delete(100)
    assert left(connection)[0] == [3]


def test_the_order_of_times_is_not_that_of_places(connection: apsw.Connection) -> None:
    connection.execute("UPDATE job SET until = 20 - until")
    expiry = Expiry(connection)
    expiry.give_up_before(13.0, 0.0)
    while expiry.left:
        expiry.delete(2)
    assert left(connection)[0] == [1, 2, 3, 4, 5, 6]


def test_a_larger_number_than_before_brings_nothing_back(connection: apsw.Connection) -> None:
    """The run before kept 2 of them, and could not delete the rest."""
    connection.execute("UPDATE outcome SET place = 9, kept = 2 WHERE state = ?", (State.SUCCEEDED,))
    expiry = Expiry(connection)
    assert expiry.left
    expiry.give_up(upto(0), 0)
    assert expiry.delete(100) == (7, 7)
    assert left(connection)[0] == [8, 9]
