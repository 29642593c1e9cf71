"""Huey: one process of ten threads."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from huey import RedisHuey

from bench.queues import record
from bench.queues.interface import WORKERS, Queue, url

huey = RedisHuey("bench", url=url(), store_none=True)
TASKS = {"noop": huey.task(name="noop")(record.noop), "nap": huey.task(name="nap")(record.nap)}


class Adapter(Queue[Any]):
    """A call and a look for the result."""

    workers = f"1 process of {WORKERS} threads"
    blocks = True

    def worker_argv(self) -> Sequence[str]:
        """The command of its documentation."""
        consumer = [sys.executable, "-m", "huey.bin.huey_consumer", "bench.queues.huey_queue.huey"]
        return [*consumer, "-w", str(WORKERS), "-k", "thread", "--quiet"]

    async def enqueue(self, task: str, sent: float) -> Any:
        """A call enqueues."""
        return TASKS[task](sent)

    async def is_over(self, handle: Any) -> bool:
        """One HEXISTS; None is a result as good as others, so asking for it does not tell."""
        return bool(huey.storage.has_data_for_key(handle.id))
