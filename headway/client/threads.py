"""``Client``: calls that block, for threads and scripts.

Threads may share a client. Make it after a fork: two processes cannot share connections.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from types import TracebackType
from typing import Literal, TypeVar, Unpack, overload

import httpx2

from headway.client import facts, finding, orders, stream
from headway.client.exchange import STREAM, Course, Lost, More, Pause, Response, Road, Send, Value
from headway.client.filters import Filter
from headway.client.jobs import Batch, Job
from headway.client.orders import Until
from headway.client.roads import MAP_PART, MAP_WINDOW, BatchHandle, Handle, Roads
from headway.client.settings import headers_of, lost, response, settings, timeout
from headway.client.status import BatchStatus, Change, History, JobEvent, Matches, ServerInfo, TaskSwitches
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
        self._http = http or self._settings.client()

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
        tags: Sequence[str] = (),
        keep: float | None = None,
        idempotency_key: str | None = None,
        patience: float | None = None,
    ) -> Job:
        """Submit a job. ``task``: a name, or a function that headway.task has declared.

        The payload is a JSON value. Bytes, and a str with a ``media_type``, are sent as they are.
        Times are in seconds. Each call makes one job, however often it has to be sent. Calls with
        the same ``idempotency_key`` and content make one job together.
        The job is found by its ``tags``, such as ``["customer:42"]``. It is kept for ``keep`` seconds
        when it has finished.
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
            tags=tags,
            keep=keep,
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
        tags: Sequence[str] = (),
        keep: float | None = None,
        idempotency_key: str | None = None,
        patience: float | None = None,
    ) -> list[Job]:
        """Submit a job for each payload, in batches of 1,000, and return the jobs in their order.

        A call that ended in an error may have submitted some batches. The same call with the same
        ``idempotency_key`` submits the others.
        """
        options = Options(
            priority=priority,
            delay=delay,
            timeout=timeout,
            deadline=deadline,
            retries=retries,
            durability=durability,
            tags=tags,
            keep=keep,
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
        tags: Sequence[str] = (),
        keep: float | None = None,
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
                    tags=tags,
                    keep=keep,
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

    def batches(self) -> list[BatchStatus]:
        """Return the last batches that the server keeps, newest first, without their jobs."""
        return self.run(self.roads.batches())

    def history(self, hours: float = 3.0) -> History:
        """Return what was done in the last ``hours``, 24 at most."""
        return self.run(self.roads.history(hours))

    def server(self) -> ServerInfo:
        """Ask the server who it is. Raises NotHeadway if it is none, or speaks another contract."""
        return self.run(self.roads.server())

    # Many jobs, and tasks.

    def find(self, **wanted: Unpack[Filter]) -> Iterator[Job]:
        """Yield the jobs that fit a filter, newest first: ``find(state="failed", ended_after="1d")``.

        Its members are those of ``Filter``. Without any, all jobs fit. Each job has its ``last``
        status, as of the list.
        """
        for entry in self.iterate(finding.entries(self.roads, wanted)):
            status = facts.status(entry)
            job = Job(self, Handle(status.id))
            job.last = status
            yield job

    def audit(self, limit: int | None = None) -> Iterator[Change]:
        """Yield the entries of the audit log, newest first, ``limit`` at most."""
        return map(facts.change, self.iterate(finding.changes(self.roads, limit)))

    @overload
    def retry_all(self, *, dry_run: Literal[True], **wanted: Unpack[Filter]) -> Matches: ...

    @overload
    def retry_all(self, *, dry_run: Literal[False] = False, **wanted: Unpack[Filter]) -> Job: ...

    def retry_all(self, *, dry_run: bool = False, **wanted: Unpack[Filter]) -> Job | Matches:
        """Resubmit the failed jobs that fit a filter, as that of ``find``, with at least one member.

        Return the job that does it. Its result has the counts ``matched``, ``done`` and
        ``skipped``. With ``dry_run`` nothing is done, and the number of jobs is returned.
        """
        return self._order("retry", wanted, dry_run)

    @overload
    def cancel_all(self, *, dry_run: Literal[True], **wanted: Unpack[Filter]) -> Matches: ...

    @overload
    def cancel_all(self, *, dry_run: Literal[False] = False, **wanted: Unpack[Filter]) -> Job: ...

    def cancel_all(self, *, dry_run: bool = False, **wanted: Unpack[Filter]) -> Job | Matches:
        """Cancel the unfinished jobs that fit a filter. Otherwise like ``retry_all``."""
        return self._order("cancel", wanted, dry_run)

    @overload
    def delete_all(self, *, dry_run: Literal[True], **wanted: Unpack[Filter]) -> Matches: ...

    @overload
    def delete_all(self, *, dry_run: Literal[False] = False, **wanted: Unpack[Filter]) -> Job: ...

    def delete_all(self, *, dry_run: bool = False, **wanted: Unpack[Filter]) -> Job | Matches:
        """Delete the results of the finished jobs that fit a filter. Otherwise like ``retry_all``."""
        return self._order("delete", wanted, dry_run)

    def _order(self, order: str, wanted: Filter, dry_run: bool) -> Job | Matches:
        if dry_run:
            return self.run(orders.dry_run(self.roads, order, wanted))
        return Job(self, self.run(orders.of_many(self.roads, order, wanted)))

    def hold(self, task: object, *, until: Until | None = None, reason: str | None = None) -> TaskSwitches:
        """Start no more jobs of a task until ``resume``, or ``until``. Jobs that run go on.

        ``until``: a datetime, a timedelta from now, or a text of RFC 3339.
        ``reason``: a text for those that wait.
        """
        return self.run(orders.switch(self.roads, task, dispatch="hold", until=until, reason=reason))

    def resume(self, task: object) -> TaskSwitches:
        """Start the jobs of a task again."""
        return self.run(orders.switch(self.roads, task, dispatch="run"))

    def close_intake(self, task: object, *, until: Until | None = None, reason: str | None = None) -> TaskSwitches:
        """Have new jobs of a task refused until ``open_intake``, or ``until``. Those that wait are run."""
        return self.run(orders.switch(self.roads, task, intake="closed", until=until, reason=reason))

    def open_intake(self, task: object) -> TaskSwitches:
        """Have jobs of a task accepted again."""
        return self.run(orders.switch(self.roads, task, intake="open"))

    def events(
        self,
        *,
        task: object = None,
        state: str | Iterable[str] | None = None,
        tag: str | None = None,
        after: str | None = None,
    ) -> Iterator[JobEvent]:
        """Yield the moves of all jobs that fit as they happen, for ever, through restarts of the server.

        An event of kind ``reset`` says that events were missed. ``after``: the ``event_id`` of an
        event, so that those behind it come first.
        """
        course = stream.of_all(self.roads, task=task, state=state, tag=tag, after=after)
        return self.iterate(course)

    # The driver.

    def run(self, road: Road[T]) -> T:
        """Carry out a road."""
        try:
            step = next(road)
            while True:
                try:
                    answer = self._done(step)
                except Lost as error:
                    step = road.throw(error)
                else:
                    step = road.send(answer)
        except StopIteration as end:
            value: T = end.value
            return value
        finally:
            road.close()

    def iterate(self, course: Course[T]) -> Iterator[T]:
        """Carry out a course, and yield its values."""
        opened = OpenStream()
        try:
            step = next(course)
            while True:
                if isinstance(step, Value):
                    yield step.value
                    step = course.send(None)
                    continue
                try:
                    answer = self._done(step, opened)
                except Lost as error:
                    step = course.throw(error)
                else:
                    step = course.send(answer)
        except StopIteration:
            return
        finally:
            course.close()
            opened.close()

    def _done(self, step: Send | Pause | More, opened: OpenStream | None = None) -> Response | None:
        """Carry out a step, and return the answer. Raises Lost."""
        if isinstance(step, Pause):
            _pause(step)
            return None
        try:
            if opened is None or (isinstance(step, Send) and not step.streams):
                assert isinstance(step, Send)
                return response(self._send(step))
            if isinstance(step, More):
                return opened.more()
            return opened.begin(self._send(step))
        except httpx2.RequestError as error:
            raise lost(error, self.url) from error

    def _send(self, send: Send) -> httpx2.Response:
        request = self._http.build_request(
            send.method,
            self._settings.sent_url + send.path,
            headers=self._settings.headers | dict(send.headers),
            content=send.content,
            timeout=timeout(send),
        )
        return self._http.send(request, stream=send.streams, follow_redirects=False)


class OpenStream:
    """The event stream of a course."""

    def __init__(self) -> None:
        self._answer: httpx2.Response | None = None

    def begin(self, answer: httpx2.Response) -> Response:
        """Take an answer whose content has not been read. Only an event stream stays open."""
        self.close()
        self._answer = answer
        if answer.headers.get("content-type", "").startswith(STREAM):
            self._parts = answer.iter_bytes()
            return Response(answer.status_code, headers_of(answer), b"")
        answer.read()
        return response(answer)

    def more(self) -> Response:
        """Read the next part, empty at the end."""
        part = next(self._parts, b"")
        return Response(200, {}, part)

    def close(self) -> None:
        """Leave the stream."""
        if self._answer is not None:
            self._answer.close()


def _pause(pause: Pause) -> None:
    if isinstance(pause.event, threading.Event):
        pause.event.wait(pause.seconds)
        pause.event.clear()
    else:
        time.sleep(max(pause.seconds, 0.0))
