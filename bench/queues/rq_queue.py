"""RQ: a pool of ten workers, each of which forks for each job (its default)."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import redis
import rq

from bench.queues import record
from bench.queues.interface import KEEP_S, WORKERS, Queue, url

TASKS = {"noop": record.noop, "nap": record.nap}


class Adapter(Queue[Any]):
    """``enqueue`` and ``get_status``."""

    workers = f"{WORKERS} processes, a fork for each job"
    blocks = True
    batches = True

    def worker_argv(self) -> Sequence[str]:
        """The command of its documentation."""
        options = ["-n", str(WORKERS), "--url", url(), "--logging-level", "ERROR", "--quiet"]
        return [sys.executable, "-m", "rq.cli", "worker-pool", "bench", *options]

    async def open(self) -> None:
        """Connect."""
        self._queue = rq.Queue("bench", connection=redis.Redis.from_url(url()))

    async def enqueue(self, task: str, sent: float) -> Any:
        """``enqueue``."""
        return self._queue.enqueue(TASKS[task], sent, result_ttl=KEEP_S)

    async def enqueue_many(self, task: str, sent: Sequence[float]) -> Sequence[Any]:
        """``enqueue_many``, one pipeline."""
        jobs = [rq.Queue.prepare_data(TASKS[task], args=(one,), result_ttl=KEEP_S) for one in sent]
        return list(self._queue.enqueue_many(jobs))

    async def is_over(self, handle: Any) -> bool:
        """``get_status``, one HGET."""
        return bool(handle.get_status() == "finished")
