"""``Client``: calls that block, for threads and scripts.

Threads may share a client. Make it after a fork: two processes cannot share connections.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from types import TracebackType
from typing import Any, TypeVar

import httpx2

from headway.client.exchange import Lost, Pause, Response, Road, Send
from headway.client.roads import MAP_PART, MAP_WINDOW, BatchHandle, Handle, Roads, media_type_of, value_of
from headway.client.settings import lost, response, settings, timeout
from headway.client.status import BatchStatus, ServerInfo, Status
from headway.client.submissions import BATCH_MOST, Durability, Options, Submission, id_in, keys_of_many, parts

T = TypeVar("T")


class Client:
    """A client of one server.

    ``url``: its address, HEADWAY_URL by default, and else http://127.0.0.1:8080.
    ``token``: sent as a bearer token, HEADWAY_TOKEN by default.
    ``patience``: seconds in which a request is repeated without a useful answer, 0 for never.
    ``connections``: the most at once.
    ``http``: an httpx2.Client of your own, for proxies, certificates and sockets.
    """

    def __init__(
        self,
        url: str | None = None,
        token: str | None = None,
        *,
        patience: float = 30.0,
        connections: int = 50,
        http: httpx2.Client | None = None,
    ) -> None:
        self._settings = settings(url, token, patience, connections)
        self.roads = Roads(self._settings.url, patience, connections)
        self._own = http is None
        self._http = http or httpx2.Client(limits=self._settings.limits, verify=self._settings.verify)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.url!r})"

    def __enter__(self) -> Client:
        return self

    def __exit__(self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None) -> None:
        self.close()

    @property
    def url(self) -> str:
        """The address of the server."""
        return self._settings.url

    def close(self) -> None:
        """Close the connections. Jobs go on."""
        if self._own:
            self._http.close()

    def submit(
        self,
        task: object,
        payload: object = None,
        *,
        media_type: str | None = None,
        priority: int | None = None,
        delay: float | None = None,
        timeout: float | None = None,
        deadline: float | None = None,
        retries: int | None = None,
        durability: Durability | None = None,
        idempotency_key: str | None = None,
        patience: float | None = None,
    ) -> Job:
        """Submit a job. ``task``: a name, or a function that headway.task has declared.

        The payload is a JSON value. Bytes, and a str with a ``media_type``, are sent as they are.
        Times are in seconds. Each call makes one job, however often it has to be sent. Calls with
        the same ``idempotency_key`` and content make one job together.
        """
        submission = Submission(
            task,
            payload,
            priority=priority,
            delay=delay,
            timeout=timeout,
            deadline=deadline,
            retries=retries,
            durability=durability,
        )
        return Job(self, self.run(self.roads.submit(submission, media_type, idempotency_key, patience)))

    def submit_many(
        self,
        task: object,
        payloads: Iterable[object],
        *,
        priority: int | None = None,
        delay: float | None = None,
        timeout: float | None = None,
        deadline: float | None = None,
        retries: int | None = None,
        durability: Durability | None = None,
        idempotency_key: str | None = None,
        patience: float | None = None,
    ) -> list[Job]:
        """Submit a job for each payload, in batches of 1,000, and return the jobs in their order.

        A call that ended in an error may have submitted some batches. The same call with the same
        ``idempotency_key`` submits the others.
        """
        options = Options(
            priority=priority, delay=delay, timeout=timeout, deadline=deadline, retries=retries, durability=durability
        )
        jobs: list[Job] = []
        keys = keys_of_many(idempotency_key)
        for key, part in zip(keys, parts(payloads, BATCH_MOST), strict=False):
            submissions = [Submission(task, payload, **options) for payload in part]
            batch = self.submit_batch(submissions, idempotency_key=key, patience=patience)
            for job, payload in zip(batch.jobs, part, strict=True):
                job.payload = payload
            jobs += batch.jobs
        return jobs

    def submit_batch(
        self,
        submissions: Sequence[Submission],
        *,
        idempotency_key: str | None = None,
        patience: float | None = None,
    ) -> Batch:
        """Submit up to 1,000 jobs, all or none."""
        return Batch(self, self.run(self.roads.submit_batch(submissions, idempotency_key, patience)))

    def map(
        self,
        task: object,
        payloads: Iterable[object],
        *,
        priority: int | None = None,
        timeout: float | None = None,
        deadline: float | None = None,
        retries: int | None = None,
        durability: Durability | None = None,
        window: int = MAP_WINDOW,
    ) -> Iterator[Job]:
        """Submit a job for each payload, and yield the jobs in the order of their completion.

        A job has its ``payload``, and ``result()`` returns its value or raises its error. At most
        ``window`` jobs are unfinished at once: payloads are taken as room comes.
        """
        left = iter(payloads)
        size = max(min(MAP_PART, window // 4), 1)
        pending: dict[str, Job] = {}
        more = True
        while more or pending:
            while more and len(pending) + size <= max(window, size):
                part = list(islice(left, size))
                more = len(part) == size
                jobs = self.submit_many(
                    task,
                    part,
                    priority=priority,
                    timeout=timeout,
                    deadline=deadline,
                    retries=retries,
                    durability=durability,
                )
                pending.update((job.id, job) for job in jobs)
            if not pending:
                return
            handles = {job.id: job.handle for job in pending.values()}
            for status in self.run(self.roads.first_ended(handles, threading.Event())):
                job = pending.pop(status.id)
                job.last = status
                yield job

    def job(self, id_or_url: str) -> Job:
        """Return a job by its id, its URL, or the key of its submission by PUT. Nothing is asked."""
        return Job(self, Handle(id_in(id_or_url, "jobs", self.url)))

    def batch(self, id_or_url: str) -> Batch:
        """Return a batch by its id or its URL. Nothing is asked."""
        return Batch(self, BatchHandle(id_in(id_or_url, "batches", self.url), []))

    def server(self) -> ServerInfo:
        """Ask the server who it is. Raises NotHeadway if it is none, or speaks another contract."""
        return self.run(self.roads.server())

    # The driver.

    def run(self, road: Road[T]) -> T:
        """Carry out a road."""
        try:
            step = next(road)
            while True:
                if isinstance(step, Pause):
                    _pause(step)
                    step = road.send(None)
                    continue
                try:
                    answer = self._send(step)
                except Lost as error:
                    step = road.throw(error)
                else:
                    step = road.send(answer)
        except StopIteration as end:
            value: T = end.value
            return value
        finally:
            road.close()

    def _send(self, send: Send) -> Response:
        try:
            return response(
                self._http.request(
                    send.method,
                    self.url + send.path,
                    headers=self._settings.headers | dict(send.headers),
                    content=send.content,
                    timeout=timeout(send),
                    follow_redirects=False,
                )
            )
        except httpx2.RequestError as error:
            raise lost(error, self.url) from error


def _pause(pause: Pause) -> None:
    if isinstance(pause.event, threading.Event):
        pause.event.wait(pause.seconds)
        pause.event.clear()
    else:
        time.sleep(max(pause.seconds, 0.0))


class Job:
    """A job on the server of a client."""

    def __init__(self, client: Client, handle: Handle, payload: object = None) -> None:
        self._client = client
        self.handle = handle
        # The payload, of a job of ``submit_many`` and ``map``.
        self.payload = payload
        # The last status that was asked for.
        self.last: Status | None = None

    def __repr__(self) -> str:
        return f"<Job {self.id}{f' {self.last.state}' if self.last else ''}>"

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

    def status(self) -> Status:
        """Ask for the present state."""
        self.last = self._client.run(self._client.roads.status(self.id))
        return self.last

    def wait(self, timeout: float | None = None) -> Status:
        """Wait for the end and return the status, also of a job that failed or was cancelled.

        Raises TimedOut after ``timeout`` seconds.
        """
        self.last = self._client.run(self._client.roads.wait(self.handle, threading.Event(), timeout))
        return self.last

    def result(self, timeout: float | None = None) -> Any:
        """Wait for the end and return the result: a value if it is JSON, else bytes.

        Raises JobFailed, JobCancelled or JobExpired, and TimedOut after ``timeout`` seconds.
        """
        return value_of(self._result(timeout))

    def raw_result(self, timeout: float | None = None) -> tuple[bytes, str]:
        """Return the result as it was sent, and its media type. Otherwise like ``result``."""
        answer = self._result(timeout)
        return answer.content, media_type_of(answer)

    def _result(self, timeout: float | None) -> Response:
        return self._client.run(self._client.roads.result(self.handle, threading.Event(), timeout))

    def cancel(self) -> Status:
        """Cancel the job, or have the result of a finished one forgotten."""
        self.last = self._client.run(self._client.roads.cancel(self.id))
        return self.last

    def retry(self, *, idempotency_key: str | None = None) -> Job:
        """Resubmit a failed job as a new one."""
        return Job(self._client, self._client.run(self._client.roads.retry(self.id, idempotency_key)), self.payload)


class Batch:
    """A batch on the server of a client."""

    def __init__(self, client: Client, handle: BatchHandle) -> None:
        self._client = client
        self.id = handle.batch_id
        # The jobs in their order, none if the batch was found by its id.
        self.jobs = [Job(client, job) for job in handle.jobs]

    def __repr__(self) -> str:
        return f"<Batch {self.id}>"

    @property
    def url(self) -> str:
        """The URL."""
        return f"{self._client.url}/batches/{self.id}"

    def status(self) -> BatchStatus:
        """Ask for the present state."""
        return self._client.run(self._client.roads.batch_status(self.id))

    def wait(self, timeout: float | None = None) -> BatchStatus:
        """Wait until no job is pending. Raises TimedOut after ``timeout`` seconds."""
        return self._client.run(self._client.roads.wait_batch(self.id, threading.Event(), timeout))

    def cancel(self) -> None:
        """Cancel the jobs that have not finished."""
        self._client.run(self._client.roads.cancel_batch(self.id))
