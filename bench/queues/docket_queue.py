"""docket: one process of coroutines, jobs in a stream."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from docket import Docket
from docket.execution import ExecutionState

from bench.queues import record
from bench.queues.interface import KEEP_S, WORKERS, Queue, url

NAME = "bench"
TASKS = {"noop": record.noop_async, "nap": record.nap_async}
# What ``docket worker --tasks`` reads.
tasks = list(TASKS.values())


class Adapter(Queue[Any]):
    """``add`` and ``sync``."""

    workers = f"1 process, {WORKERS} coroutines"
    batches = True

    def worker_argv(self) -> Sequence[str]:
        """The command of its documentation."""
        options = ["--docket", NAME, "--url", url(), "--concurrency", str(WORKERS), "--logging-level", "ERROR"]
        return [sys.executable, "-m", "docket", "worker", "--tasks", "bench.queues.docket_queue:tasks", *options]

    async def open(self) -> None:
        """Connect."""
        self._docket: Any = Docket(NAME, url(), execution_ttl=timedelta(seconds=KEEP_S))
        await self._docket.__aenter__()

    async def enqueue(self, task: str, sent: float) -> Any:
        """``add``."""
        return await self._docket.add(TASKS[task])(sent)

    async def enqueue_many(self, task: str, sent: Sequence[float]) -> Sequence[Any]:
        """``add_many``, one pipeline."""
        # Each with a call of its own: the key of the job is made there.
        return list(await self._docket.add_many([self._docket.call(TASKS[task])(one) for one in sent]))

    async def is_over(self, handle: Any) -> bool:
        """``sync``, one HGETALL with one of its progress."""
        await handle.sync()
        return bool(handle.state is ExecutionState.COMPLETED)

    async def close(self) -> None:
        """Disconnect."""
        await self._docket.__aexit__(None, None, None)
