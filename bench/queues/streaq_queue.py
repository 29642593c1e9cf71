"""streaQ: one process of coroutines, jobs in a stream."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from streaq import Worker
from streaq.task import TaskStatus

from bench.queues import record
from bench.queues.interface import KEEP_S, WORKERS, Queue, url

worker: Any = Worker(redis_url=url(), concurrency=WORKERS)
TASKS = {
    "noop": worker.task(name="noop", ttl=KEEP_S, silent=True)(record.noop_async),
    "nap": worker.task(name="nap", ttl=KEEP_S, silent=True)(record.nap_async),
}


class Adapter(Queue[Any]):
    """``enqueue`` and ``status``."""

    workers = f"1 process, {WORKERS} coroutines"
    batches = True

    def worker_argv(self) -> Sequence[str]:
        """The command of its documentation."""
        return [sys.executable, "-m", "streaq", "run", "bench.queues.streaq_queue:worker"]

    async def open(self) -> None:
        """Connect."""
        await worker.__aenter__()

    async def enqueue(self, task: str, sent: float) -> Any:
        """``enqueue``, awaited."""
        return await TASKS[task].enqueue(sent)

    async def enqueue_many(self, task: str, sent: Sequence[float]) -> Sequence[Any]:
        """``enqueue_many``, one pipeline."""
        tasks = [TASKS[task].enqueue(one) for one in sent]
        await worker.enqueue_many(tasks)
        return tasks

    async def is_over(self, handle: Any) -> bool:
        """``status``, five commands in a transaction."""
        return bool(await handle.status() is TaskStatus.DONE)

    async def close(self) -> None:
        """Disconnect."""
        await worker.__aexit__(None, None, None)
