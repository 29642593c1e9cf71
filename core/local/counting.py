"""The counts of the engine, as the metrics and the statistics have them."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from headway.core.board.rows import ROW_BYTES
from headway.core.local.active import Active
from headway.core.local.loads import Loads
from headway.core.local.recorder import Recorder
from headway.core.stats import Counts, JournalCounts, ProcessCounts, WorkerCounts
from headway.core.task import Task
from headway.core.work.watchdog import Watchdog

if TYPE_CHECKING:
    from headway.core.journal.journal import Journal


class Counting:
    """Counts what the parts of the engine have."""

    def __init__(
        self, active: Active, tasks: list[Task], recorder: Recorder, watchdog: Watchdog, journal: Journal | None
    ) -> None:
        self._active = active
        self._tasks = tasks
        self._recorder = recorder
        self._watchdog = watchdog
        self._journal = journal

    def counts(self, waiting_clients: int, *, draining: bool) -> Counts:
        """Return all counts."""
        active, board = self._active, self._active.board
        queue, results, workers, stats = active.queue, active.results, active.workers, active.stats
        pool, loads = workers.processes, Loads(active, active.config.queue.target_wait, time.monotonic())
        return Counts(
            jobs=board.count,
            active=len(active),
            load=loads.together(self._tasks),
            waiting=len(queue),
            held=active.held(time.time()),
            queue_size=queue.size,
            payload_bytes=queue.payload_bytes,
            retries=stats.retries,
            run_mean_s=active.estimate.mean_so_far,
            results_kept=len(results),
            results_bytes=results.used_bytes,
            results_max_bytes=results.max_bytes,
            results_evicted=results.evicted,
            rows=board.rows,
            row_bytes=ROW_BYTES,
            memory_bytes=board.size_bytes + queue.size_bytes,
            workers=WorkerCounts(workers.count, workers.idle, workers.replacements, workers.threads.lost),
            processes=None
            if pool is None
            else ProcessCounts(pool.up, pool.pids, pool.restarts, pool.killed, pool.recycled),
            loop_lag=self._watchdog.lag,
            loop_stalls=self._watchdog.stalls,
            journal=None if self._journal is None else _counts_of(self._journal),
            waiting_clients=waiting_clients,
            readers=len(self._recorder),
            draining=draining,
            last_end=stats.last_end,
        )


def _counts_of(journal: Journal) -> JournalCounts:
    return JournalCounts(
        commits=journal.commits,
        pending=journal.appended - journal.committed,
        expired=journal.expired,
        size_bytes=journal.size_bytes,
        full=journal.full,
        writer_restarts=journal.writer_restarts,
        commit_seconds=journal.commit_seconds,
    )
