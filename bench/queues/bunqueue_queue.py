"""bunqueue: its server and one worker, each a process of Bun, and its client for Python."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bunqueue import Queue

from bench.measure import HOST, ROOT
from bench.process import Process, free_port
from bench.queues.catalogue import BUN, BUNQUEUE_FOLDER
from bench.queues.interface import WORKERS, kept_in, port
from bench.queues.interface import Queue as Contract

PROGRAM = str(BUNQUEUE_FOLDER / BUN / "bin" / "bun")
PACKAGE = BUNQUEUE_FOLDER / "bunqueue"


class Adapter(Contract[str]):
    """``add`` and ``get_state``."""

    workers = f"1 process, {WORKERS} at a time"
    uses_valkey = False
    blocks = True
    batches = True

    def server(self, folder: Path) -> Process:
        """The command of its documentation: in memory, or in a file of SQLite."""
        argv = [PROGRAM, str(PACKAGE / "dist" / "cli" / "index.js"), "start", "--host", HOST]
        argv += ["--tcp-port", str(port()), "--http-port", str(free_port())]
        if kept := kept_in():
            argv += ["--data-path", str(kept / "jobs.db")]
        # By default a client has 10,000 requests a minute.
        return Process("bunqueue", argv, port(), env={"RATE_LIMIT_MAX_REQUESTS": "1000000000"})

    def worker_argv(self) -> Sequence[str]:
        """A program of ours: there is no command for workers."""
        worker = ROOT / "bench" / "queues" / "bunqueue_worker.mjs"
        return [PROGRAM, str(worker), str(PACKAGE / "dist" / "client" / "index.js"), HOST, str(port()), str(WORKERS)]

    async def open(self) -> None:
        """Connect."""
        self._queue: Any = Queue("bench", host=HOST, port=port(), command_timeout=60)
        self._durable = {"durable": True} if kept_in() else {}

    async def enqueue(self, task: str, sent: float) -> str:
        """``add``."""
        return str(self._queue.add(task, {"sent": sent}, **self._durable).id)

    async def enqueue_many(self, task: str, sent: Sequence[float]) -> Sequence[str]:
        """``add_bulk``."""
        jobs = [{"name": task, "data": {"sent": one}, **self._durable} for one in sent]
        return list(self._queue.add_bulk(jobs))

    async def is_over(self, handle: str) -> bool:
        """``get_state``."""
        return bool(self._queue.get_state(handle) == "completed")

    async def close(self) -> None:
        """Disconnect."""
        self._queue.connection.close()
