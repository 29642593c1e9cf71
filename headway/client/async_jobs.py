"""``AsyncJob`` and ``AsyncBatch``: a job and a batch on the server of an ``AsyncClient``."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING, Any

from headway.client import logs, orders, stream
from headway.client.exchange import Response
from headway.client.roads import BatchHandle, Handle, media_type_of, value_of
from headway.client.status import BatchStatus, JobEvent, LogText, Status

if TYPE_CHECKING:
    from headway.client.coroutines import AsyncClient


class AsyncJob:
    """A job on the server of a client."""

    def __init__(self, client: AsyncClient, handle: Handle, payload: object = None) -> None:
        self._client = client
        self.handle = handle
        # The payload, of a job of ``submit_many`` and ``map``.
        self.payload = payload
        # The last status that was asked for.
        self.last: Status | None = None

    def __repr__(self) -> str:
        return f"<AsyncJob {self.id}{f' {self.last.state}' if self.last else ''}>"

    @property
    def id(self) -> str:
        """The id, or the key that it was found by."""
        return self.handle.job_id

    @property
    def url(self) -> str:
        """The URL, for instance for ``curl -I``."""
        return f"{self._client.url}/jobs/{self.id}"

    @property
    def progress(self) -> int | None:
        """The progress in per cent as of the last ``status()``, None if it is not known."""
        return self.last.progress if self.last else None

    async def status(self) -> Status:
        """Ask for the present state."""
        self.last = await self._client.run(self._client.roads.status(self.id))
        return self.last

    async def wait(self, timeout: float | None = None) -> Status:
        """Wait for the end and return the status, also of a job that failed or was cancelled.

        Raises TimedOut after ``timeout`` seconds.
        """
        self.last = await self._client.run(self._client.roads.wait(self.handle, asyncio.Event(), timeout))
        return self.last

    async def result(self, timeout: float | None = None) -> Any:
        """Wait for the end and return the result: a value if it is JSON, else bytes.

        Raises JobFailed, JobCancelled or JobExpired, and TimedOut after ``timeout`` seconds.
        """
        return value_of(await self._result(timeout))

    async def raw_result(self, timeout: float | None = None) -> tuple[bytes, str]:
        """Return the result as it was sent, and its media type. Otherwise like ``result``."""
        answer = await self._result(timeout)
        return answer.content, media_type_of(answer)

    async def _result(self, timeout: float | None) -> Response:
        return await self._client.run(self._client.roads.result(self.handle, asyncio.Event(), timeout))

    async def read_payload(self) -> Any:
        """Return the kept payload: a value if it is JSON, else bytes. Raises JobExpired without one."""
        return value_of(await self._client.run(self._client.roads.payload(self.id)))

    async def raw_payload(self) -> tuple[bytes, str]:
        """Return the payload as it was sent, and its media type. Otherwise like ``read_payload``."""
        answer = await self._client.run(self._client.roads.payload(self.id))
        return answer.content, media_type_of(answer)

    async def cancel(self) -> Status:
        """Cancel the job, or have the result of a finished one forgotten."""
        self.last = await self._client.run(self._client.roads.cancel(self.id))
        return self.last

    async def log(self, start: int = 0) -> LogText:
        """Return the log: text, with a line in place of a part that was left out.

        ``start``: the first byte of the whole log, or below 0 how many bytes of its end.
        """
        return await self._client.run(logs.read(self._client.roads, self.id, start))

    def follow_log(self, start: int = 0) -> AsyncGenerator[LogText, None]:
        """Yield the log from ``start`` on as it grows, until the job has ended, through restarts of the server."""
        return self._client.iterate(logs.follow(self._client.roads, self.id, start))

    def events(self, *, after: str | None = None) -> AsyncGenerator[JobEvent, None]:
        """Yield the moves of the job as they happen, until it has ended. Otherwise like the events of a client."""
        return self._client.iterate(stream.of_job(self._client.roads, self.id, after))

    async def change(self, *, priority: int | None = None, delay: float | None = None) -> Status:
        """Change the priority of a job that waits, or begin it in ``delay`` seconds from now.

        Raises Refused with the reason ``not-waiting`` if it does not wait.
        """
        road = orders.change(self._client.roads, self.id, priority=priority, delay=delay)
        self.last = await self._client.run(road)
        return self.last

    async def run_now(self) -> Status:
        """Have a job that is scheduled or between two attempts begin now. Otherwise like ``change``."""
        return await self.change(delay=0)

    async def retry(self, *, idempotency_key: str | None = None) -> AsyncJob:
        """Resubmit a failed job as a new one."""
        return AsyncJob(
            self._client, await self._client.run(self._client.roads.retry(self.id, idempotency_key)), self.payload
        )


class AsyncBatch:
    """A batch on the server of a client."""

    def __init__(self, client: AsyncClient, handle: BatchHandle) -> None:
        self._client = client
        self.id = handle.batch_id
        # The jobs in their order, none if the batch was found by its id.
        self.jobs = [AsyncJob(client, job) for job in handle.jobs]

    def __repr__(self) -> str:
        return f"<AsyncBatch {self.id}>"

    @property
    def url(self) -> str:
        """The URL."""
        return f"{self._client.url}/batches/{self.id}"

    async def status(self) -> BatchStatus:
        """Ask for the present state."""
        return await self._client.run(self._client.roads.batch_status(self.id))

    async def wait(self, timeout: float | None = None) -> BatchStatus:
        """Wait until no job is pending. Raises TimedOut after ``timeout`` seconds."""
        return await self._client.run(self._client.roads.wait_batch(self.id, asyncio.Event(), timeout))

    async def cancel(self) -> None:
        """Cancel the jobs that have not finished."""
        await self._client.run(self._client.roads.cancel_batch(self.id))
