"""Celery: processes (its default kind), ten at most: more do no more on few cores; results in Valkey."""

from __future__ import annotations

import gc
import sys
from collections.abc import Sequence
from typing import Any

from celery import Celery

from bench.queues import record
from bench.queues.interface import KEEP_S, WORKERS, Queue, url

app = Celery("bench", broker=url(), backend=url())
app.conf.update(result_expires=KEEP_S, broker_connection_retry_on_startup=True)
PROCESSES = min(WORKERS, 10)
TASKS = {"noop": app.task(name="noop")(record.noop), "nap": app.task(name="nap")(record.nap)}


class Adapter(Queue[Any]):
    """``delay`` and ``state``."""

    workers = f"{PROCESSES} processes"
    blocks = True

    def worker_argv(self) -> Sequence[str]:
        """The command of its documentation."""
        options = ["-c", str(PROCESSES), "--loglevel", "ERROR"]
        return [sys.executable, "-m", "celery", "-A", "bench.queues.celery_queue", "worker", *options]

    async def enqueue(self, task: str, sent: float) -> Any:
        """``delay``."""
        return TASKS[task].delay(sent)

    async def is_over(self, handle: Any) -> bool:
        """``state``, one GET."""
        return bool(handle.state == "SUCCESS")

    async def close(self) -> None:
        """Drop the handles while Valkey is there: later each would try for minutes to reach it."""
        gc.collect()
