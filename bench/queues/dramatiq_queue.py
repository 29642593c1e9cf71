"""Dramatiq: two processes of five threads, results in Valkey."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import dramatiq
from dramatiq.brokers.redis import RedisBroker
from dramatiq.results import Results
from dramatiq.results.backends import RedisBackend
from dramatiq.results.errors import ResultMissing

from bench.queues import record
from bench.queues.interface import KEEP_S, WORKERS, Queue, url

broker = RedisBroker(url=url())
broker.add_middleware(Results(backend=RedisBackend(url=url()), store_results=True, result_ttl=KEEP_S * 1000))
dramatiq.set_broker(broker)
TASKS = {
    "noop": dramatiq.actor(record.noop, actor_name="noop", broker=broker),
    "nap": dramatiq.actor(record.nap, actor_name="nap", broker=broker),
}
PROCESSES = 2


class Adapter(Queue[Any]):
    """``send`` and ``get_result``."""

    workers = f"{PROCESSES} processes of {WORKERS // PROCESSES} threads"
    blocks = True

    def worker_argv(self) -> Sequence[str]:
        """The command of its documentation."""
        options = ["-p", str(PROCESSES), "-t", str(WORKERS // PROCESSES)]
        return [sys.executable, "-m", "dramatiq", "bench.queues.dramatiq_queue", *options]

    async def enqueue(self, task: str, sent: float) -> Any:
        """``send``."""
        return TASKS[task].send(sent)

    async def is_over(self, handle: Any) -> bool:
        """``get_result``: there is no other way to ask."""
        try:
            handle.get_result()
        except ResultMissing:
            return False
        return True
