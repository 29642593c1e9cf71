"""taskiq over a Valkey list: two processes of five coroutines, results in Valkey."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from taskiq_redis import ListQueueBroker, RedisAsyncResultBackend

from bench.queues import record
from bench.queues.interface import KEEP_S, WORKERS, Queue, url

results: Any = RedisAsyncResultBackend(url(), result_ex_time=KEEP_S)
broker = ListQueueBroker(url()).with_result_backend(results)
TASKS: dict[str, Any] = {
    "noop": broker.register_task(record.noop_async, task_name="noop"),
    "nap": broker.register_task(record.nap_async, task_name="nap"),
}
PROCESSES = 2


class Adapter(Queue[Any]):
    """``kiq`` and ``is_ready``."""

    workers = f"{PROCESSES} processes of {WORKERS // PROCESSES} coroutines"

    def worker_argv(self) -> Sequence[str]:
        """The command of its documentation."""
        options = ["--workers", str(PROCESSES), "--max-async-tasks", str(WORKERS // PROCESSES), "--log-level", "ERROR"]
        return [sys.executable, "-m", "taskiq", "worker", "bench.queues.taskiq_queue:broker", *options]

    async def open(self) -> None:
        """Connect."""
        await broker.startup()

    async def enqueue(self, task: str, sent: float) -> Any:
        """``kiq``."""
        return await TASKS[task].kiq(sent)

    async def is_over(self, handle: Any) -> bool:
        """``is_ready``, one EXISTS."""
        return bool(await handle.is_ready())

    async def close(self) -> None:
        """Disconnect."""
        await broker.shutdown()
