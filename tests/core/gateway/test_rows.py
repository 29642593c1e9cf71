"""The rows of an engine as a gateway reads them."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from types import FrameType

import pytest
from headway.core.board.board import Board
from headway.core.config import Config
from headway.core.gateway.rows import SeenRows
from headway.core.gateway.seen import Seen
from headway.core.gateway.standing import Hello
from headway.core.ids import Ids
from headway.core.job import State
from headway.core.memfile import nameless_file
from headway.core.retention import Retention
from headway.core.status import Status

from tests.lives.server import linux

IDS = Ids()
# The annex is far larger than what is used of it, as it mostly is.
ROWS, ANNEX = 8, 100_000


@pytest.fixture
def fd() -> Iterator[int]:
    """The file of an engine's rows."""
    made = nameless_file("rows")
    yield made
    os.close(made)


def board_in(fd: int) -> Board:
    """Return the board of an engine with its rows in a file."""
    return Board(Retention.same(ROWS, 60.0), ROWS, rows=ROWS, annex=ANNEX, fd=os.dup(fd))


def seen_in(fd: int) -> Seen:
    """Return what a gateway sees of that engine."""
    hello = Hello(
        program="",
        durability="memory",
        secret=IDS.secret,
        salts=IDS.salts,
        since=0,
        rows=ROWS,
        annex=ANNEX,
        kept_jobs=(ROWS,) * len(State),
        names=["task"],
        accepts={},
        tasks=1,
        own=0,
        workers=1,
        line_numbers=[0],
        usual=[0],
    )
    return Seen(Config(), hello, os.dup(fd))


def lap(board: Board) -> None:
    """Have the ring come round: the jobs of before that wait move to the annex."""
    for _ in range(ROWS):
        board.open(State.QUEUED, IDS.tag, 0, 5, 1.0)


def job_id(sequence: int) -> bytes:
    """Return the id of a job, whether it was submitted or not."""
    return IDS.write(sequence, IDS.tag(sequence))


def state_of(seen: Seen, sequence: int) -> State:
    """Return the state of a job as a gateway tells it."""
    found = seen.statuses.peek(job_id(sequence))
    assert isinstance(found, Status)
    return State(found.state)


def test_jobs_that_have_moved_to_the_annex_are_found(fd: int) -> None:
    board, seen = board_in(fd), seen_in(fd)
    for _ in range(4):
        lap(board)
        assert {state_of(seen, sequence) for sequence in range(1, board.next_sequence)} == {State.QUEUED}
    assert board.annex_used == 3 * ROWS


def test_jobs_in_the_annex_of_a_program_that_did_not_tell_its_end_are_found(fd: int) -> None:
    board = board_in(fd)
    lap(board)
    lap(board)
    board.annex_end[0] = 0
    board_in(fd).find_moved(board.annex_used)
    assert state_of(seen_in(fd), 1) == State.QUEUED


@linux
def test_a_poll_for_a_job_that_has_left_the_board_looks_at_no_row_that_was_never_used(fd: int) -> None:
    """Each page that is looked at is one that the file takes from then on."""
    board, seen = board_in(fd), seen_in(fd)
    lap(board)
    lap(board)
    assert state_of(seen, 1) == State.QUEUED
    before = os.fstat(fd).st_blocks
    assert state_of(seen, 5000) == State.EXPIRED
    assert os.fstat(fd).st_blocks == before


def searches(seen: Seen, job_id: bytes) -> int:
    """Return how often the annex is searched for a job."""
    found = 0

    def look(frame: FrameType, event: str, _: object) -> None:
        nonlocal found
        found += event == "call" and frame.f_code is SeenRows.row_in_annex.__code__

    sys.setprofile(look)
    try:
        seen.statuses.peek(job_id)
    finally:
        sys.setprofile(None)
    return found


def test_the_annex_is_not_searched_for_an_id_that_was_never_issued(fd: int) -> None:
    board, seen = board_in(fd), seen_in(fd)
    lap(board)
    lap(board)
    assert searches(seen, job_id(1)) > 0
    assert searches(seen, IDS.write(1, IDS.tag(1) ^ 1)) == 0
