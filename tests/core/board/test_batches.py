"""Batches: found again by their sequence numbers. test_board.py checks their counts by a model."""

import asyncio
import time

import msgspec
import pytest
from headway.core.board.batches import PENDING, Batches
from headway.core.board.board import Board
from headway.core.board.outcomes import Outcomes, word
from headway.core.errors import DrainingError, MisdirectedError, QueueFullError, UnknownTaskError
from headway.core.ids import BATCH_LENGTH, Ids
from headway.core.job import ACTIVE, State, Submission
from headway.core.local.engine import LocalEngine
from headway.core.tasks.context import Context

from tests.core.engines import broken, double, engine_with, forever, now, run, until


def submissions(*tasks: str) -> list[Submission]:
    return [Submission(task=task, payload=msgspec.Raw(b"1")) for task in tasks]


def test_tags_of_batches_depend_on_both_and_are_not_those_of_jobs() -> None:
    keys = Ids(b"a" * 32)
    assert keys.batch_tag(1, 2) == Ids(b"a" * 32).batch_tag(1, 2)
    assert len({keys.batch_tag(1, 2), keys.batch_tag(1, 3), keys.batch_tag(2, 2)}) == 3


def test_pending_is_what_is_active() -> None:
    assert set(PENDING) == ACTIVE


def test_a_changed_id_was_never_issued() -> None:
    async def test() -> None:
        async with engine_with(double) as engine:
            status = now(engine.submit_batch(submissions("double", "double"))).status
            assert now(engine.peek_batch(status.id)) is not None
            digits = {
                status.id[:at] + (b"1" if digit == 0x30 else b"0") + status.id[at + 1 :]
                for at, digit in enumerate(status.id)
            }
            assert len(digits) == BATCH_LENGTH
            for changed in digits:
                if changed.startswith(engine.ids.marker):
                    assert now(engine.peek_batch(changed)) is None
                else:
                    with pytest.raises(MisdirectedError):
                        now(engine.peek_batch(changed))
            assert now(engine.peek_batch(status.id.upper())) is None
            assert engine.peek_batch(now(engine.list_batch(status))[0][0]) is None
            assert engine.peek(status.id) is None

    run(test)


def test_jobs_of_a_batch_have_consecutive_numbers_and_are_told_in_order() -> None:
    async def test() -> None:
        async with engine_with(double, forever, workers=1) as engine:
            status = now(engine.submit_batch(submissions("forever", *["double"] * 999))).status
            assert (status.count, status.pending, status.state) == (1000, 1000, State.RUNNING)
            jobs = now(engine.list_batch(status))
            assert [engine.ids.read(job_id)[0] for job_id, _ in jobs] == list(range(1, 1001))
            await asyncio.sleep(0)
            assert now(engine.cancel_batch(status)).running
            assert [state for _, state in now(engine.list_batch(status))] == [State.CANCELLED] * 1000

    run(test)


def over(engine: LocalEngine, batch_id: bytes) -> State:
    status = now(engine.peek_batch(batch_id))
    assert status is not None
    return status.state


@pytest.mark.parametrize(
    ("tasks", "state"),
    [
        (["double", "double"], State.SUCCEEDED),
        (["double", "broken"], State.FAILED),
        (["broken", "double"], State.FAILED),
    ],
)
def test_a_batch_is_over_when_all_its_jobs_are(tasks: list[str], state: State) -> None:
    async def test() -> None:
        async with engine_with(double, broken) as engine:
            status = now(engine.submit_batch(submissions(*tasks))).status
            assert status.retry_after_ms > 0
            await until(lambda: over(engine, status.id) != State.RUNNING)
            ended = now(engine.peek_batch(status.id))
            assert ended is not None
            assert (ended.state, ended.failed, ended.retry_after_ms) == (state, tasks.count("broken"), 0)
            assert not now(engine.cancel_batch(ended)).running
            assert over(engine, status.id) == state

    run(test)


def test_what_is_known_of_a_batch_outlasts_what_is_not() -> None:
    async def test() -> None:
        async with engine_with(double, broken, forever, retention={"jobs": 3}) as engine:
            status = now(engine.submit_batch(submissions("broken", "double", "forever"))).status

            async def seen_after(ends: int) -> tuple[State, int, int]:
                await until(lambda: engine.board.ended_total == ends)
                seen = now(engine.peek_batch(status.id))
                assert seen is not None
                told = seen.pending, seen.succeeded, seen.failed, seen.cancelled
                assert told == (ends < 5, 1, 1, ends >= 5) if seen.expired < 3 else not any(told)
                assert len(now(engine.list_batch(seen))) == 3 - seen.expired
                return seen.state, seen.failed, seen.expired

            assert await seen_after(2) == (State.RUNNING, 1, 0)
            now(engine.submit(Submission(task="double", payload=msgspec.Raw(b"1"))))
            now(engine.submit(Submission(task="double", payload=msgspec.Raw(b"1"))))
            assert await seen_after(4) == (State.RUNNING, 1, 1)
            now(engine.cancel_batch(status))
            assert await seen_after(5) == (State.FAILED, 1, 2)
            now(engine.submit_batch(submissions("double", "double")))
            assert await seen_after(7) == (State.FAILED, 1, 2)
            now(engine.submit_batch(submissions("double")))
            assert await seen_after(8) == (State.EXPIRED, 0, 3)

    run(test)


def test_a_batch_is_asked_for_when_the_last_to_end_of_its_last_jobs_is_expected_to() -> None:
    async def reporting(payload: float, context: Context) -> None:
        await asyncio.sleep(0.1)
        context.progress(payload)
        await asyncio.Event().wait()

    async def test() -> None:
        async with engine_with(reporting, workers=3) as engine:
            payloads = [msgspec.Raw(str(percent).encode()) for percent in (5, 50, 10)]
            status = now(
                engine.submit_batch([Submission(task="reporting", payload=payload) for payload in payloads])
            ).status
            await asyncio.sleep(0.15)
            told = now(engine.peek_batch(status.id))
            assert told is not None
            assert 1700 < told.retry_after_ms < 2300

    run(test)


def test_nothing_is_taken_of_a_batch_that_is_refused() -> None:
    async def test() -> None:
        async with engine_with(forever, workers=1, queue={"size": 5}) as engine:
            now(engine.submit_batch(submissions("forever", "forever")))
            before = engine.board.next_sequence, len(engine.active)
            with pytest.raises(UnknownTaskError) as unknown:
                now(engine.submit_batch(submissions("forever", "nobody", "forever", "nothing")))
            assert [field for field, _ in unknown.value.faults] == ["[1].task", "[3].task"]
            with pytest.raises(QueueFullError, match=r"room for 3 more jobs, not for 4\. Retry in"):
                now(engine.submit_batch(submissions(*["forever"] * 4)))
            with pytest.raises(QueueFullError, match="6 jobs are more than"):
                now(engine.submit_batch(submissions(*["forever"] * 6)))
            assert (engine.board.next_sequence, len(engine.active)) == before
            now(engine.submit_batch(submissions(*["forever"] * 3)))
            engine.admission.draining = True
            with pytest.raises(DrainingError):
                now(engine.submit_batch(submissions("forever")))

    run(test)


def test_who_waits_is_woken_once_when_the_last_job_ends() -> None:
    async def test() -> None:
        async with engine_with(forever, workers=3) as engine:
            status = now(engine.submit_batch(submissions("forever", "forever", "forever"))).status
            woken: list[float] = []
            later = engine.wait_batch(status, 20.0)
            later.when_known(lambda: woken.append(time.monotonic()))
            for sequence in (status.first + 2, status.first):
                engine.active.cancel(sequence)
                assert (woken, len(engine.active.waiters)) == ([], 1)
            engine.active.cancel(status.first + 1)
            assert (len(woken), len(engine.active.waiters)) == (1, 0)
            assert later.value().pending == 0
            later.cancel()

    run(test)


def test_who_waits_is_woken_when_the_time_is_up_counted_from_the_beginning() -> None:
    async def test() -> None:
        async with engine_with(forever) as engine:
            status = now(engine.submit_batch(submissions("forever", "forever"))).status
            woken = asyncio.Event()
            begun = time.monotonic()
            engine.wait_batch(status, 0.3).when_known(woken.set)
            await asyncio.sleep(0.15)
            engine.active.cancel(status.first + 1)
            await woken.wait()
            assert 0.3 <= time.monotonic() - begun < 0.9
            assert len(engine.active.waiters) == 0

    run(test)


def test_a_drain_releases_who_waits_for_a_batch() -> None:
    async def test() -> None:
        async with engine_with(forever) as engine:
            status = now(engine.submit_batch(submissions("forever", "forever"))).status
            woken = asyncio.Event()
            engine.wait_batch(status, 20.0).when_known(woken.set)
            draining = asyncio.create_task(engine.drain(5.0))
            await asyncio.sleep(0)
            assert woken.is_set()
            now(engine.cancel_batch(status))
            assert await draining == 0

    run(test)


def on_board(kept_jobs: int, active_most: int, rows: int) -> tuple[Board, Outcomes, Batches]:
    board = Board(kept_jobs, 60.0, active_most, rows)
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
        outcomes.add(word(first, 4), State.CANCELLED, 3.0)
    status = batches.status(first, 4, 3.0)
    assert (status.pending, status.cancelled, status.succeeded, status.expired) == (1, 3, 0, 0)
    assert status.retry_after_ms == first
    if held:
        assert [board.state(sequence) for sequence in (1, 2, 3)] == [State.CANCELLED, State.QUEUED, State.QUEUED]


def test_a_batch_is_known_while_any_of_its_jobs_is_and_then_gone() -> None:
    board, outcomes, batches = on_board(2, 6, 20)
    members = opened(board, 3)
    batch = word(members[0], 3)
    for sequence, state in zip(members, (State.FAILED, State.CANCELLED, State.SUCCEEDED), strict=True):
        if state is not State.CANCELLED:
            board.move(sequence, State.RUNNING, 1.0)
        board.move(sequence, state, 1.0)
        outcomes.add(batch, state, 1.0)

    def seen() -> tuple[State, int, int, int, int]:
        status = batches.status(members[0], 3, 1.0)
        return status.state, status.failed, status.cancelled, status.succeeded, status.expired

    assert seen() == (State.FAILED, 1, 1, 1, 1)
    board.move(opened(board, 1)[0], State.CANCELLED, 1.0)
    assert seen() == (State.FAILED, 1, 1, 1, 2)
    board.move(opened(board, 1)[0], State.CANCELLED, 1.0)
    assert seen() == (State.EXPIRED, 0, 0, 0, 3)
    # Its entry goes when others come.
    assert len(outcomes) == 1
    outcomes.add(word(opened(board, 1)[0], 1), State.FAILED, 1.0)
    assert [batch for batch, _ in outcomes.items()] == [word(6, 1)]


def test_entries_of_batches_that_are_known_stay() -> None:
    board, outcomes, _ = on_board(100, 100, 300)
    batches = [word(opened(board, 1)[0], 1) for _ in range(50)]
    for batch in batches:
        outcomes.add(batch, State.FAILED, 1.0)
    assert sorted(batch for batch, _ in outcomes.items()) == batches
