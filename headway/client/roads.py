"""The roads: what each call does, as generators without I/O.

A request is repeated until it has an answer that is about it: through a restart or a deploy, while
the queue is full, while the client is over its rate. That ends after ``patience`` seconds without
such an answer, or at the timeout of the call. Each submission has one idempotency key, which all
its repetitions bear, so none makes a second job.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from math import ceil, inf
from typing import Any, NamedTuple

from headway.client import answers
from headway.client.answers import PUBLIC_ID
from headway.client.errors import JobExpired, NotHeadway, TimedOut, Unavailable
from headway.client.exchange import Event, Lost, Pause, Response, Road, Send, answer_to, within
from headway.client.patience import Patience
from headway.client.places import GROWTH, HOLD_S, LOOK_S, PAGES_MOST, WITHOUT_LISTS_S, Kind, Place, Places
from headway.client.status import BatchStatus, History, ServerInfo, Status
from headway.client.submissions import BYTES, JSON, Submission, batch_content, checked_key, content, new_key

# An answer may be so much earlier than the server's wait, in seconds, and yet be in time.
EARLY_S = 0.5
# Seconds for an answer beyond the time that the server waits.
READ_MARGIN_S = 10.0
# Seconds before asking again if an answer does not say.
UNTOLD_S = 1.0
PAGE = 1000
# ``map`` has so many jobs unfinished at once, and submits so many together.
MAP_WINDOW = 1000
MAP_PART = 250
# The first pause of a thread that waits for many jobs, in seconds.
FIRST_PAUSE_S = 0.1
# The longest rest of a place, in seconds.
REST_MOST_S = 1.0


class Handle(NamedTuple):
    """A job as its submission tells it."""

    job_id: str
    batch_id: str | None = None
    # When to ask for it, of time.monotonic. At once by default.
    due: float = 0.0


class BatchHandle(NamedTuple):
    """A batch as its submission tells it."""

    batch_id: str
    jobs: list[Handle]


class Roads:
    """The roads of one client."""

    def __init__(self, url: str, patience_s: float, connections: int) -> None:
        self.url = url
        self.patience_s = patience_s
        # A tenth of the connections is left to all other requests.
        self.places = Places(max(connections * 9 // 10, 1))

    # Requests.

    def exchange(
        self, send: Send, deadline: float = inf, *, patience_s: float | None = None, late: str = "no answer yet"
    ) -> Road[Response]:
        """Send until there is an answer about the request, and return it.

        Raises Unavailable, QueueFull, TaskClosed and NotHeadway, and TimedOut at ``deadline``: with the text
        ``late`` if the server was there and still held its answer back.
        """
        patience = Patience(self.patience_s if patience_s is None else patience_s, deadline)
        while True:
            try:
                response = yield from answer_to(within(send, deadline - time.monotonic()))
            except Lost as error:
                if error.lasting is not None:
                    raise error.lasting(str(error)) from None
                if error.late and time.monotonic() >= deadline:
                    raise TimedOut(late) from None
                yield from patience.pause(str(error))
            else:
                if not answers.passes(response):
                    return response
                yield from patience.pause(answers.fault(response), response)

    # Submitting.

    def submit(
        self, submission: Submission, media_type: str | None, key: str | None, patience_s: float | None
    ) -> Road[Handle]:
        """Submit a job."""
        path, kind, data = content(submission, media_type)
        response = yield from self.post(path, kind, data, key, patience_s)
        return handle(response, f"POST {path.partition('?')[0]}")

    def submit_batch(
        self, submissions: Sequence[Submission], key: str | None, patience_s: float | None
    ) -> Road[BatchHandle]:
        """Submit a batch: all of its jobs or none."""
        data, key = batch_content(submissions), new_key() if key is None else key
        patience = Patience(self.patience_s if patience_s is None else patience_s, inf)
        response = yield from self.post("/batches", JSON, data, key, patience_s)
        while not response.content and "batch-pending" in response.headers:
            # It was taken, and its jobs could not be listed. Under the same key it is not taken again.
            yield from patience.pause("the batch was taken, and its jobs cannot be listed")
            response = yield from self.post("/batches", JSON, data, key, patience_s)
        members = answers.document(response)
        batch_id, jobs = members.get("id"), members.get("jobs")
        if "batch-pending" not in response.headers or not isinstance(batch_id, str) or not isinstance(jobs, list):
            raise answers.error(response, "POST /batches")
        ids = [str(job["id"]) if isinstance(job, dict) else str(job) for job in jobs]
        if len(ids) != len(submissions):
            # It came before, under the same key.
            raise JobExpired(f"batch {batch_id} has finished, and some of its jobs are no longer kept (retention)")
        now = time.monotonic()
        return BatchHandle(batch_id, [Handle(job_id, batch_id, now) for job_id in ids])

    def retry(self, job_id: str, key: str | None) -> Road[Handle]:
        """Resubmit a failed job as a new one."""
        response = yield from self.post(f"/jobs/{job_id}/retry", None, b"", key, None)
        if response.code == 410 and response.headers.get("job-state") == "expired":
            raise answers.failure(answers.status(response, job_id))
        return handle(response, f"job {job_id}")

    def post(
        self, path: str, media_type: str | None, data: bytes, key: str | None, patience_s: float | None
    ) -> Road[Response]:
        """Send content once, however often it has to be sent: under a key, a new one by default."""
        headers = {"Idempotency-Key": f'"{new_key() if key is None else checked_key(key)}"'}
        if media_type is not None:
            headers["Content-Type"] = media_type
        return (yield from self.exchange(Send("POST", path, headers, data), patience_s=patience_s))

    # Asking.

    def status(self, job_id: str) -> Road[Status]:
        """Ask for the state of a job."""
        response = yield from self.exchange(Send("GET", f"/jobs/{job_id}"))
        return answers.status(response, job_id)

    def batch_status(self, batch_id: str) -> Road[BatchStatus]:
        """Ask for the state of a batch."""
        response = yield from self.exchange(Send("GET", f"/batches/{batch_id}"))
        return answers.batch(response, batch_id)

    def payload(self, job_id: str) -> Road[Response]:
        """Ask for the payload of a job. Raises JobExpired if it is not kept."""
        response = yield from self.exchange(Send("GET", f"/jobs/{job_id}/payload"))
        if response.code == 200 and "job-state" in response.headers:
            return response
        if answers.reason_of(response) == "payload-gone" or response.headers.get("job-state") == "expired":
            raise JobExpired(f"the payload of job {job_id} is no longer kept")
        raise answers.error(response, f"job {job_id}")

    def batches(self) -> Road[list[BatchStatus]]:
        """Ask for the last batches."""
        response = yield from self.exchange(Send("GET", "/batches"))
        return answers.batches(response)

    def history(self, hours: float) -> Road[History]:
        """Ask for the counts of the last hours."""
        response = yield from self.exchange(Send("GET", f"/history?hours={hours:g}"))
        return answers.history(response)

    def cancel(self, job_id: str) -> Road[Status]:
        """Cancel a job, or forget the result of a finished one. Return its state after that."""
        response = yield from self.exchange(Send("DELETE", f"/jobs/{job_id}"))
        status = answers.status(response, job_id)
        self.places.seen({job_id: status.state}, time.monotonic())
        return status

    def cancel_batch(self, batch_id: str) -> Road[None]:
        """Cancel the jobs of a batch that have not finished."""
        response = yield from self.exchange(Send("DELETE", f"/batches/{batch_id}"))
        if "batch-pending" not in response.headers:
            raise answers.error(response, f"batch {batch_id}")

    def server(self) -> Road[ServerInfo]:
        """Ask the server who it is."""
        response = yield from self.exchange(Send("GET", "/", {"Accept": JSON}))
        return answers.server(response)

    # Waiting.

    def wait(self, job: Handle, event: Event, timeout: float | None) -> Road[Status]:
        """Wait for the end of a job, and return its status."""
        path, deadline = f"/jobs/{job.job_id}", _deadline(timeout)
        status, _ = yield from self._ended(job, event, timeout, path, deadline)
        if status.state == "failed" and status.detail is None:
            # A look or a HEAD told it, without the reason.
            response = yield from self.exchange(Send("GET", path), deadline)
            return answers.status(response, job.job_id)
        return status

    def result(self, job: Handle, event: Event, timeout: float | None) -> Road[Response]:
        """Wait for the end of a job, and return its result. Raises the error of a job without one."""
        path, deadline = f"/jobs/{job.job_id}/result", _deadline(timeout)
        status, response = yield from self._ended(job, event, timeout, path, deadline)
        if response is None or not response.content:
            response = yield from self.exchange(Send("GET", path), deadline)
            status = answers.status(response, job.job_id, of_result=True)
        if response.code != 200 or status.state != "succeeded":
            raise answers.failure(status)
        return response

    def _ended(
        self, job: Handle, event: Event, timeout: float | None, path: str, deadline: float
    ) -> Road[tuple[Status, Response | None]]:
        """Wait for the end of a job. Return its status, and the answer to GET if that told it."""
        if timeout is not None and timeout <= 0:
            response = yield from self.exchange(Send("GET", path), deadline)
            status = answers.status(response, job.job_id, of_result=_is_result(path))
            if status.finished:
                return status, response
            raise _timed_out(job, timeout)
        now = time.monotonic()
        place = Place(job.job_id, job.batch_id, job.due or now, event)
        self.places.enter(place, now)
        try:
            while place.ended is None:
                if place.error is not None:
                    raise place.error
                now = time.monotonic()
                if now >= deadline:
                    raise _timed_out(job, timeout)
                kind, seconds = self.places.step(place, now)
                if kind is Kind.REST:
                    yield Pause(min(seconds, deadline - now, REST_MOST_S), event)
                elif kind is Kind.LOOK:
                    yield from self._look(deadline)
                else:
                    hold_s = min(int(seconds), ceil(deadline - now)) if deadline < inf else int(seconds)
                    late = str(_timed_out(job, timeout))
                    status, told = yield from self._ask(place, path, hold_s=hold_s, deadline=deadline, late=late)
                    if status.finished:
                        self.places.news(time.monotonic())
                        return status, told
            return place.ended, None
        finally:
            self.places.leave(place)

    def _ask(
        self, place: Place, path: str, *, hold_s: int, deadline: float, late: str
    ) -> Road[tuple[Status, Response | None]]:
        """Ask for one job, and have the server wait for ``hold_s`` if that is not 0."""
        began = time.monotonic()
        send = _holding(path, hold_s) if hold_s else Send("HEAD", f"/jobs/{place.job_id}")
        response = yield from self.exchange(send, deadline, late=late)
        status = answers.status(response, place.job_id, of_result=_is_result(path))
        if status.finished:
            return status, response if hold_s else None
        now, hint_s = time.monotonic(), UNTOLD_S if status.retry_after is None else status.retry_after
        if hold_s and now - began < (answers.waited_s(response) or HOLD_S) - EARLY_S:
            # The server drains, or does not wait at all. It has said when to come back.
            self.places.away(place)
            yield Pause(min(hint_s, max(deadline - now, 0.0)))
            now, hint_s = time.monotonic(), 0.0
        self.places.told(place, now, hint_s, queued=status.state == "queued")
        return status, None

    # Looking at many.

    def _look(self, deadline: float) -> Road[None]:
        """Ask for all jobs in the line at once."""
        found = requests = 0
        try:
            for batch_id in self.places.batches():
                response = yield from self.exchange(Send("GET", f"/batches/{batch_id}"), deadline)
                requests += 1
                states = answers.states(answers.document(response))
                if not states:
                    self.places.gone(batch_id)
                found += self.places.seen(states, time.monotonic())
            oldest = self.places.oldest(time.monotonic())
            if oldest is not None:
                for state in ("succeeded", "failed", "cancelled"):
                    if self.places.oldest(time.monotonic()) is None:
                        break
                    seen, pages = yield from self._list(state, oldest, deadline)
                    found += seen
                    requests += pages
        except Unavailable as error:
            # The others in the line would find the same, one after the other.
            self.places.give_up(error)
            raise
        finally:
            self.places.looked(time.monotonic(), found, requests)

    def _list(self, state: str, oldest: str, deadline: float) -> Road[tuple[int, int]]:
        """Read the list of a state down to ``oldest``: the ids of a server ascend.

        Return how many places are over by that, and the number of pages.
        """
        found, path = 0, f"/jobs?state={state}&limit={PAGE}"
        for page in range(1, PAGES_MOST + 1):
            response = yield from self.exchange(Send("GET", path), deadline)
            members = answers.document(response)
            if response.code != 200 or "jobs" not in members:
                self.places.without_lists(inf)
                return found, page
            states = answers.states(members)
            if any(map(PUBLIC_ID.fullmatch, states)):
                # A token that may view has ids that nobody waits for.
                self.places.without_lists(inf)
                return found, page
            found += self.places.seen(states, time.monotonic())
            following = answers.next_page(members)
            if following is None or min(states, default=oldest) < oldest:
                return found, page
            path = following
        if found < PAGES_MOST:
            # The list is mostly other clients' jobs.
            self.places.without_lists(time.monotonic() + WITHOUT_LISTS_S)
        return found, PAGES_MOST

    def wait_batch(self, batch_id: str, event: Event, timeout: float | None) -> Road[BatchStatus]:
        """Wait until no job of a batch is pending."""
        deadline = _deadline(timeout)
        while True:
            began = time.monotonic()
            hold_s = max(min(HOLD_S, ceil(deadline - began)), 0) if deadline < inf else HOLD_S
            send = _holding(f"/batches/{batch_id}", hold_s)
            late = f"batch {batch_id} has jobs pending after {timeout} s"
            response = yield from self.exchange(send, deadline, late=late)
            status = answers.batch(response, batch_id)
            if status.finished:
                return status
            now = time.monotonic()
            if now >= deadline:
                raise TimedOut(late)
            if now - began < (answers.waited_s(response) or HOLD_S) - EARLY_S:
                yield Pause(min(answers.told_s(response) or UNTOLD_S, deadline - now), event)

    def first_ended(self, pending: Mapping[str, Handle], event: Event) -> Road[list[Status]]:
        """Wait until at least one of the jobs of some batches has ended, and return all that have.

        It is for one thread that waits for many jobs.
        """
        pause = FIRST_PAUSE_S
        while True:
            if len(pending) == 1:
                return [(yield from self.wait(next(iter(pending.values())), event, None))]
            ended = []
            for batch_id in dict.fromkeys(job.batch_id for job in pending.values()):
                response = yield from self.exchange(Send("GET", f"/batches/{batch_id}"))
                states = answers.batch(response, str(batch_id)).jobs
                own = [job for job in pending.values() if job.batch_id == batch_id]
                # A job that the document does not have any longer has expired.
                found = [Status(job.job_id, states.get(job.job_id, "expired")) for job in own]
                ended += [status for status in found if status.finished]
            if ended:
                return ended
            yield Pause(pause)
            pause = min(pause * GROWTH, LOOK_S)


def _holding(path: str, hold_s: int) -> Send:
    """Return a request that the server answers after ``hold_s`` at the latest."""
    return Send("GET", path, {"Prefer": f"wait={hold_s}"}, read_timeout_s=hold_s + READ_MARGIN_S)


def _deadline(timeout: float | None) -> float:
    """Return the end of a timeout that begins now, of time.monotonic. Infinity for none."""
    return inf if timeout is None else time.monotonic() + timeout


def _is_result(path: str) -> bool:
    return path.endswith("/result")


def value_of(response: Response) -> Any:
    """Return the value in an answer: decoded if it is JSON, else bytes. Raises NotHeadway for broken JSON."""
    if media_type_of(response).partition(";")[0].strip().lower() == JSON:
        try:
            return json.loads(response.content)
        except (ValueError, RecursionError) as error:
            fault = f"the value is sent as JSON and cannot be read as such ({error})"
            raise NotHeadway(f"{fault}: raw_result() and raw_payload() return its bytes") from None
    return response.content


def media_type_of(response: Response) -> str:
    """Return the media type of the result in an answer."""
    return response.headers.get("content-type", BYTES)


def handle(response: Response, about: str) -> Handle:
    """Return the job that a submission made, or made before under the same key."""
    where = response.headers.get("location") or response.headers.get("content-location") or ""
    _, slash, job_id = where.rpartition("/jobs/")
    if not slash or not job_id or "job-state" not in response.headers:
        raise answers.error(response, about)
    return Handle(job_id, None, time.monotonic() + (answers.told_s(response) or 0.0))


def _timed_out(job: Handle, timeout: float | None) -> TimedOut:
    return TimedOut(f"job {job.job_id} has not finished after {timeout} s, and goes on")
