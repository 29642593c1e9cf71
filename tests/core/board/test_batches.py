"""Batches: found again by their sequence numbers.

tests/core/board/test_board.py holds their counts against a model, tests/core/contract/test_batches.py what clients see.
"""

import pytest
from headway.core.board.batches import PENDING, Batches
from headway.core.board.board import Board
from headway.core.board.outcomes import Outcomes, batch_number
from headway.core.ids import Ids
from headway.core.job import ACTIVE, State
from headway.core.retention import Retention


def test_tags_of_batches_depend_on_both_and_are_not_those_of_jobs() -> None:
    keys = Ids(b"a" * 32)
    assert keys.batch_tag(1, 2) == Ids(b"a" * 32).batch_tag(1, 2)
    assert len({keys.batch_tag(1, 2), keys.batch_tag(1, 3), keys.batch_tag(2, 2)}) == 3


def test_pending_is_what_is_active() -> None:
    assert set(PENDING) == ACTIVE


def on_board(kept_jobs: int, active_most: int, rows: int) -> tuple[Board, Outcomes, Batches]:
    board = Board(Retention.same(kept_jobs, 60.0), active_most, rows=rows)
    outcomes = Outcomes(board)
    return board, outcomes, Batches(board, outcomes, Ids(), lambda some, count, _: some[0])


def opened(board: Board, count: int) -> list[int]:
    return [board.open(State.QUEUED, lambda sequence: sequence, 0, 5, 1.0) for _ in range(count)]


@pytest.mark.parametrize("held", [False, True])
def test_a_batch_has_numbers_side_by_side_whatever_is_in_their_rows(held: bool) -> None:
    board, outcomes, batches = on_board(200, 6, 300)
    if held:
        opened(board, 3)
        board.move(1, State.CANCELLED, 1.0)
    board.next_sequence = board.rows - 2
    members = opened(board, 4)
    first = members[0]
    assert members == list(range(first, first + 4))
    for sequence in members[1:]:
        board.move(sequence, State.CANCELLED, 3.0)
        outcomes.add(batch_number(first, 4), State.CANCELLED, 3.0)
    status = batches.status(first, 4, 3.0)
    assert (status.pending, status.cancelled, status.succeeded, status.expired) == (1, 3, 0, 0)
    assert status.retry_after_ms == first
    if held:
        assert [board.state(sequence) for sequence in (1, 2, 3)] == [State.CANCELLED, State.QUEUED, State.QUEUED]


def test_a_batch_is_known_while_any_of_its_jobs_is_and_then_gone() -> None:
    board, outcomes, batches = on_board(2, 6, 20)
    members = opened(board, 3)
    batch = batch_number(members[0], 3)
    for sequence, state in zip(members, (State.FAILED, State.CANCELLED, State.SUCCEEDED), strict=True):
        if state is not State.CANCELLED:
            board.move(sequence, State.RUNNING, 1.0)
        board.move(sequence, state, 1.0)
        outcomes.add(batch, state, 1.0)

    def seen() -> tuple[State, int, int, int, int]:
        status = batches.status(members[0], 3, 1.0)
        return status.state, status.failed, status.cancelled, status.succeeded, status.expired

    def end_two_more(state: State) -> None:
        for sequence in opened(board, 2):
            board.move(sequence, State.RUNNING, 1.0)
            board.move(sequence, state, 1.0)

    # The jobs of an outcome are gone by others of that outcome alone.
    assert seen() == (State.FAILED, 1, 1, 1, 0)
    end_two_more(State.FAILED)
    assert seen() == (State.FAILED, 1, 1, 1, 1)
    end_two_more(State.SUCCEEDED)
    assert seen() == (State.FAILED, 1, 1, 1, 2)
    end_two_more(State.CANCELLED)
    assert seen() == (State.EXPIRED, 0, 0, 0, 3)
    # Its entry goes when others come.
    assert len(outcomes) == 1
    outcomes.add(batch_number(opened(board, 1)[0], 1), State.FAILED, 1.0)
    assert [batch for batch, _ in outcomes.items()] == [batch_number(10, 1)]


def test_entries_of_batches_that_are_known_stay() -> None:
    board, outcomes, _ = on_board(100, 100, 300)
    batches = [batch_number(opened(board, 1)[0], 1) for _ in range(50)]
    for batch in batches:
        outcomes.add(batch, State.FAILED, 1.0)
    assert sorted(batch for batch, _ in outcomes.items()) == batches
