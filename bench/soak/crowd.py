"""The crowd of a soak: members submit jobs of all kinds, and follow each acknowledged one to its end.

A member asks for a job until it has ended, compares state and result with those the job must have, and asks once more
a while later. A job that answers anything else is lost or in a wrong state, and that is never excused. A request
without a proper answer is a Trouble. The summary looks for the fault that explains it.
"""

from __future__ import annotations

import itertools
import random
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from tests.end_to_end.crash_count import CODES
from tests.protocol.events import EventWire
from tests.protocol.wire import PATIENCE_S, Answer, Wire, post, request, submission

JSON = "Content-Type: application/json"
BATCH = 3
LARGE_BYTES = 48_000
# Of a job that would wait for good, and is cancelled.
DELAY_S = 86_400
# Seconds until a job that has not ended is asked for again.
ASK_AGAIN_S = 0.5
# Jobs that a member asks for in a turn: more than it submits, so that it catches up after a fault.
ASKED_MOST = 6
# A job that has ended is asked for again after so many seconds, and not if its turn comes later than the second figure:
# retention keeps it for longer.
SEEN_AGAIN_S, SEEN_AGAIN_MOST_S = 15.0, 30.0
# Seconds after which a job that has not ended is stuck: longer than all faults in a row.
STUCK_S = 120.0
UNFINISHED = {"scheduled", "queued", "running", "retrying"}


@dataclass(frozen=True, slots=True)
class Trouble:
    """A request that was not answered as it should be, at times of ``time.monotonic``."""

    begun: float
    ended: float
    # The code and the type of the problem, or the end of the connection.
    what: str
    request: str


@dataclass(slots=True)
class Followed:
    """A job that was acknowledged, with the end that it must have."""

    path: str
    kind: str
    state: str
    # The result of a success, the detail of a failure.
    result: object = None
    since: float = field(default_factory=time.monotonic)
    ask_at: float = 0.0
    # Nobody answered its cancellation.
    cancel_again: bool = False


class RefusedError(Exception):
    """An answer that is a Trouble, and has been noted."""


class Member(threading.Thread):
    """Submits a job each ``pause_s`` until ``stop`` is set, then follows the rest to their ends."""

    numbers = itertools.count(1)

    def __init__(self, port: int, pause_s: float) -> None:
        super().__init__(daemon=True)
        self.port = port
        self.pause_s = pause_s
        self.stop = threading.Event()
        self.troubles: list[Trouble] = []
        # Jobs that are gone or stuck, and answers that are untrue: never excused.
        self.lost: list[str] = []
        self.wrong: list[str] = []
        # Jobs acknowledged and followed to the end, by kind.
        self.acknowledged: Counter[str] = Counter()
        self.finished: Counter[str] = Counter()
        self.requests = 0
        # Jobs that were asked for again after their end.
        self.seen_again = 0
        self._open: deque[Followed] = deque()
        self._over: deque[Followed] = deque()
        self._wire: Wire | None = None
        kinds: list[Callable[[int], None]] = [
            self._plain, self._thread, self._keyed, self._process, self._batch, self._failing, self._waits,
            self._plain, self._retried, self._cancelled, self._large, self._events, self._slow, self._lists,
        ]  # fmt: skip
        self._kinds = itertools.cycle(kinds)
        # So that not all members do the same at once.
        for _ in range(random.randrange(len(kinds))):
            next(self._kinds)

    def run(self) -> None:
        """Submit and follow."""
        while not self.stop.wait(self.pause_s * random.uniform(0.5, 1.5)):
            self._guarded(lambda: next(self._kinds)(next(self.numbers)))
            self._guarded(self._follow)
        patience = time.monotonic() + STUCK_S
        while self._open and time.monotonic() < patience:
            self._guarded(self._follow)
            time.sleep(0.05)
        self.lost += [f"{job.path} ({job.kind}) has not ended" for job in self._open]
        self._disconnect()

    def _guarded(self, act: Callable[[], None]) -> None:
        """Do something, of which a Trouble is noted already."""
        try:
            act()
        except RefusedError:
            # In short: a member that came back as late as it is told would see little of a fault.
            time.sleep(0.1)

    # Requests.

    def _ask(self, data: bytes, good: Sequence[int] = ()) -> Answer:
        """Send a request and return its answer. Raises RefusedError where it is none of ``good``; empty: below 500."""
        begun, line = time.monotonic(), data.partition(b" HTTP")[0].decode()
        self.requests += 1
        try:
            if self._wire is None:
                self._wire = Wire(self.port)
            answer = self._wire.ask(data)
        except TimeoutError:
            raise self._trouble(begun, f"no answer in {PATIENCE_S:g} s", line) from None
        except OSError as error:
            raise self._trouble(begun, f"{type(error).__name__}", line) from None
        except AssertionError as error:
            what = "closed" if str(error).startswith("the server closed after b''") else f"not HTTP: {error}"
            raise self._trouble(begun, what, line) from None
        if answer.headers.get("connection") == "close":
            self._disconnect()
        if answer.status not in good if good else answer.status >= 500 or answer.status == 429:
            raise self._trouble(begun, f"{answer.status} {_reason(answer)}", line)
        return answer

    def _trouble(self, begun: float, what: str, line: str) -> RefusedError:
        self.troubles.append(Trouble(begun, time.monotonic(), what, line))
        if not what[:3].isdigit():
            self._disconnect()
        return RefusedError()

    def _disconnect(self) -> None:
        if self._wire is not None:
            self._wire.close()
            self._wire = None

    # Kinds of jobs.

    def _submit(self, kind: str, body: bytes, state: str, result: object, *lines: str) -> Followed:
        answer = self._ask(post(body, *lines), (202,))
        return self._accept(answer["location"], kind, state, result)

    def _accept(self, path: str, kind: str, state: str, result: object) -> Followed:
        job = Followed(path, kind, state, result)
        self.acknowledged[kind] += 1
        self._open.append(job)
        return job

    def _plain(self, number: int) -> None:
        self._submit("coroutine", submission("effect", number), "succeeded", number)

    def _slow(self, number: int) -> None:
        self._submit("slow", submission("long_effect", number), "succeeded", number)

    def _thread(self, number: int) -> None:
        self._submit("thread", submission("in_thread", number), "succeeded", number)

    def _process(self, number: int) -> None:
        self._submit("process", submission("in_process", number), "succeeded", number)

    def _failing(self, number: int) -> None:
        self._submit("failing", submission("failing_effect", number), "failed", f"ValueError: no {number}")

    def _retried(self, number: int) -> None:
        self._submit("retried", submission("at_second_attempt", number), "succeeded", number)

    def _large(self, number: int) -> None:
        text = f"{number} " + "x" * LARGE_BYTES
        self._submit("large", submission("reverse", text), "succeeded", text[::-1])

    def _keyed(self, number: int) -> None:
        """Submit twice under one key, or until there is an answer: that is one job."""
        data = post(submission("effect", number), f"Idempotency-Key: soak-{number}")
        try:
            answer = self._ask(data, (202,))
        except RefusedError:
            time.sleep(1)
            answer = self._ask(data, (200, 202))
            self._accept(answer["location"], "keyed", "succeeded", number)
            return
        job = self._accept(answer["location"], "keyed", "succeeded", number)
        again = self._ask(data, (200, 202))
        if again["location"] != job.path or again.headers.get("idempotency-replayed") != "true":
            self.wrong.append(f"{job.path} was submitted under its key again, and is {again['location']}")

    def _cancelled(self, number: int) -> None:
        job = self._submit("cancelled", submission("effect", number, delay=DELAY_S), "cancelled", None)
        job.cancel_again = True
        self._ask(request("DELETE", job.path), (204,))
        job.cancel_again = False

    def _batch(self, number: int) -> None:
        numbers = [number, *itertools.islice(self.numbers, BATCH - 1)]
        body = b"[%b]" % b",".join(submission("effect", one) for one in numbers)
        answer = self._ask(request("POST", "/batches", JSON, body=body), (202,))
        ids = answer.json["jobs"]
        for job_id, one in zip(ids, numbers, strict=True):
            self._accept(f"/jobs/{job_id}", "batch", "succeeded", one)
        told = self._ask(request("GET", answer["location"]), (200, 202)).json["jobs"]
        if [job["id"] for job in told] != ids:
            self.wrong.append(f"{answer['location']} has other jobs than it was given")

    def _waits(self, number: int) -> None:
        job = self._submit("waited for", submission("long_effect", number), "succeeded", number)
        answer = self._ask(request("GET", f"{job.path}/result", "Prefer: wait=10"), (200, 202))
        if answer.status == 200 and answer.json != number:
            self.wrong.append(f"{job.path} has the result {answer.json}, not {number}")

    def _events(self, number: int) -> None:
        """Follow a job by its events. A deploy ends the stream early, and in order."""
        job = self._submit("by events", submission("long_effect", number), "succeeded", number)
        begun, line = time.monotonic(), f"GET {job.path}/events"
        self.requests += 1
        try:
            with EventWire(self.port, f"{job.path}/events") as stream:
                told = (
                    [event.data["state"] for event in stream.rest() if event.kind == "state"]
                    if stream.status == 200
                    else []
                )
                what = "" if stream.status == 200 else f"{stream.status}"
        except TimeoutError:
            told, what = [], f"no answer in {PATIENCE_S:g} s"
        except OSError as error:
            told, what = [], type(error).__name__
        except AssertionError as error:
            told, what = [], "closed" if str(error).startswith("the server closed") else f"not a stream: {error}"
        if what:
            raise self._trouble(begun, what, line)
        if told and told[-1] not in UNFINISHED | {"succeeded"}:
            self.wrong.append(f"{job.path} ended with the event {told[-1]}")
        elif not told or told[-1] != "succeeded":
            raise self._trouble(begun, "stream cut", line)

    def _lists(self, _: int) -> None:
        for state in ("failed", "running"):
            for job in self._ask(request("GET", f"/jobs?state={state}&limit=50"), (200,)).json["jobs"]:
                if job["state"] != state:
                    self.wrong.append(f"/jobs/{job['id']} is {job['state']} in the list of {state} jobs")
        self._ask(request("GET", "/stats"), (200,))

    # Following.

    def _follow(self) -> None:
        """Ask for some jobs that are due, and for those that have ended a while ago."""
        for _ in range(min(ASKED_MOST, len(self._open))):
            if self._open[0].ask_at > time.monotonic():
                self._open.rotate(-1)
                continue
            job = self._open[0]
            job.ask_at = time.monotonic() + ASK_AGAIN_S
            if self._has_ended(job):
                self._open.remove(job)
            elif time.monotonic() - job.since > STUCK_S:
                self.lost.append(f"{job.path} ({job.kind}) has not ended after {STUCK_S:g} s")
                self._open.remove(job)
            else:
                self._open.rotate(-1)
        while self._over and (late_s := time.monotonic() - self._over[0].ask_at - SEEN_AGAIN_S) > 0:
            if late_s < SEEN_AGAIN_MOST_S - SEEN_AGAIN_S:
                self._judge(self._ask(request("HEAD", self._over[0].path)), self._over[0])
                self.seen_again += 1
            self._over.popleft()

    def _has_ended(self, job: Followed) -> bool:
        """Whether a job is over, in whatever state."""
        answer = self._ask(request("HEAD", job.path))
        state = answer.headers.get("job-state", "")
        if state in UNFINISHED and answer.status == 202:
            if job.state == "cancelled":
                if not job.cancel_again:
                    self.wrong.append(f"{job.path} was cancelled, and is {state}")
                    return True
                self._ask(request("DELETE", job.path), (204,))
                job.cancel_again = False
            return False
        if self._judge(answer, job) and self._is_told(job):
            self.finished[job.kind] += 1
            self._over.append(job)
        return True

    def _judge(self, answer: Answer, job: Followed) -> bool:
        """Whether an answer about a job that has ended is right; note where it is not."""
        state = answer.headers.get("job-state", "")
        if (answer.status, state) == (CODES[job.state], job.state):
            return True
        told = f"{job.path} ({job.kind}) is {answer.status} {state}, not {job.state}"
        if state in ("", "expired"):
            self.lost.append(told)
        else:
            self.wrong.append(f"{told}: {answer.headers.get('job-reason', '')}")
        return False

    def _is_told(self, job: Followed) -> bool:
        """Whether the result of a job, or the detail of its failure, is right; note where it is not."""
        if job.state == "succeeded":
            answer = self._ask(request("GET", f"{job.path}/result"))
            right = answer.status == 200 and answer.json == job.result
        elif job.state == "failed":
            answer = self._ask(request("GET", job.path))
            right = answer.json.get("detail") == job.result
        else:
            return True
        if not right:
            self.wrong.append(f"{job.path} ({job.kind}) has {answer.body[:80]!r}, not {str(job.result)[:80]}")
        return bool(right)


def _reason(answer: Answer) -> str:
    """The last word of the type of a problem. An answer to HEAD has none."""
    return str(answer.json["type"]).rpartition(":")[2] if answer.body else "(HEAD)"
