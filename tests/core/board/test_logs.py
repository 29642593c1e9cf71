"""Logs in memory: the budget, and their end with their jobs."""

from __future__ import annotations

from headway.core.board.board import Board
from headway.core.board.logs import ENTRY_BYTES, LENGTH_BYTES, Logs
from headway.core.job import State
from headway.core.job_log import JobLog
from headway.core.retention import Retention

LOG_BYTES = 1000


def ended(board: Board, logs: Logs, text: bytes) -> int:
    """Run a job that logs ``text``."""
    sequence = board.open(State.QUEUED, lambda _: 1, 0, 5, 1.0)
    board.move(sequence, State.RUNNING, 1.0)
    logs.add(sequence, 1, text)
    board.move(sequence, State.SUCCEEDED, 1.0)
    logs.ended(sequence)
    return sequence


def test_of_a_log_that_is_given_up_the_length_is_kept_and_counted() -> None:
    board = Board(Retention.same(100, 100.0), 10)
    logs = Logs(board, LOG_BYTES, 2 * (ENTRY_BYTES + 500) + 3 * LENGTH_BYTES, lambda _: None)
    jobs = [ended(board, logs, bytes([48 + number]) * 500) for number in range(5)]
    kept = [JobLog(total=500)] * 3 + [JobLog(b"3" * 500, b"", 500), JobLog(b"4" * 500, b"", 500)]
    assert [logs.read(job) for job in jobs] == kept
    assert [logs.total(job) for job in jobs] == [500] * 5
    assert logs.used_bytes == logs.max_bytes
    # The lengths of many cost something, too.
    for _ in range(12):
        ended(board, logs, b"x" * 500)
    assert logs.used_bytes <= logs.max_bytes


def test_logs_go_with_their_jobs_and_cost_nothing_then() -> None:
    board = Board(Retention.same(3, 100.0), 10)
    logs = Logs(board, LOG_BYTES, 100_000, lambda _: None)
    jobs = [ended(board, logs, b"x" * 500) for _ in range(8)]
    assert len(logs) == 8
    list(logs.trim(1.0))
    assert [logs.read(job).total for job in jobs] == [0] * 5 + [500] * 3
    assert (len(logs), logs.used_bytes) == (3, 3 * (ENTRY_BYTES + 500))
    logs.max_bytes = 0
    jobs.append(ended(board, logs, b"x"))
    assert [logs.read(job) for job in jobs[-2:]] == [JobLog(total=500), JobLog(total=1)]
    # The entry of the last one is given up for the next log.
    assert logs.used_bytes == 3 * LENGTH_BYTES + ENTRY_BYTES
    list(logs.trim(200.0))
    assert (len(logs), logs.used_bytes) == (0, 0)
