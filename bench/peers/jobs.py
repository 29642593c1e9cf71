"""The jobs behind every Python peer: a dict, a bounded asyncio.Queue and worker tasks, as one writes them by hand."""

from __future__ import annotations

import asyncio
import secrets
from collections import deque

WORKERS = 32
QUEUE_SIZE = 10_000
KEPT_JOBS = 100_000
TASKS = {"noop"}


async def noop(_: object) -> None:
    """Do nothing."""


class Jobs:
    """Submits, runs and remembers; the workers begin with the first job."""

    def __init__(self) -> None:
        self._states: dict[str, str] = {}
        self._over: deque[str] = deque()
        self._queue: asyncio.Queue[tuple[str, object]] = asyncio.Queue(QUEUE_SIZE)
        self._workers: list[asyncio.Task[None]] = []

    def submit(self, task: str, payload: object) -> str | None:
        """Enqueue a job and return its id; None for a task that is not known. Raises asyncio.QueueFull."""
        if task not in TASKS:
            return None
        if not self._workers:
            self._workers = [asyncio.ensure_future(self._work()) for _ in range(WORKERS)]
        job_id = secrets.token_hex(16)
        self._queue.put_nowait((job_id, payload))
        self._states[job_id] = "queued"
        return job_id

    def headers(self, job_id: str) -> tuple[int, dict[str, str]]:
        """Return the status code and the headers that tell the state of a job."""
        state = self._states.get(job_id)
        if state is None:
            return 404, {}
        if state == "succeeded":
            return 200, {"Job-State": state, "Cache-Control": "no-store"}
        return 202, {"Job-State": state, "Cache-Control": "no-store", "Retry-After": "1"}

    async def _work(self) -> None:
        while True:
            job_id, payload = await self._queue.get()
            self._states[job_id] = "running"
            await noop(payload)
            self._states[job_id] = "succeeded"
            self._over.append(job_id)
            if len(self._over) > KEPT_JOBS:
                del self._states[self._over.popleft()]
            # As in Headway: the sockets have their turn between two jobs.
            await asyncio.sleep(0)


def accepted(job_id: str) -> dict[str, str]:
    """Return the headers of the answer to a job that was taken."""
    return {"Location": f"/jobs/{job_id}", "Job-State": "queued"}
