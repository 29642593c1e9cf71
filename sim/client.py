"""A client: creates its jobs, polls each until all are over, and starts over.

An errand is one URL that is watched: a POST that creates the job, then a HEAD after each delay of the policy. A client
keeps its errands for the whole run; between its requests an errand is in the wheel and nowhere else, so a client that
waits costs nothing.
"""

from __future__ import annotations

import json
import random
import time

from headway.sim.answers import Answer
from headway.sim.link import Link
from headway.sim.run import Run

# After an error, and when told to come back but not when: this, and up to half as much at random.
RETRY_S = 1.0
ENDED = frozenset({200, 410, 424})
PUSHED_BACK = frozenset({429, 503})


class Client:
    """One of the run."""

    __slots__ = ("_errands", "_pending", "link")

    def __init__(self, run: Run, link: Link) -> None:
        self.link = link
        self._errands = [Errand(run, self) for _ in range(run.settings.jobs)]
        # Jobs of this round that are not over.
        self._pending = 0

    def due(self) -> None:
        """Begin a round."""
        self._pending = len(self._errands)
        for errand in self._errands:
            errand.begin()

    def over(self) -> None:
        """A job is over; after the last of them, the next round begins."""
        self._pending -= 1
        if not self._pending:
            self.due()


class Errand:
    """A job to be created, then watched."""

    __slots__ = ("_client", "_polls", "_run", "bodiless", "request", "sent")

    def __init__(self, run: Run, client: Client) -> None:
        self._run = run
        self._client = client
        self._polls = 0
        self.request = b""
        self.bodiless = False
        self.sent = 0.0

    def begin(self) -> None:
        """Ask for a job."""
        self.request = self._run.requests.submit()
        self.bodiless = False
        self._polls = 0
        self._client.link.send(self)

    def due(self) -> None:
        """Ask once more."""
        self._client.link.send(self)

    def answered(self, answer: Answer, now: float) -> None:
        """Learn from an answer and decide what is next."""
        run, code = self._run, answer.code
        run.heard = now
        (run.figures.poll if self.bodiless else run.figures.create).record(now - self.sent)
        if code == 202 and answer.about_job:
            self._accepted(answer, now)
        elif code in PUSHED_BACK:
            run.figures.push_back(code)
            run.recognised.set()
            told = answer.told_s(milliseconds=True)
            self._again(now, RETRY_S if told is None else told)
        elif self.bodiless:
            self._polled(answer, now)
        else:
            self._refused(answer, now)

    def failed(self, kind: str) -> None:
        """No answer came; ``kind`` is empty where the error is counted already."""
        if kind:
            self._run.failed(kind)
        self._again(time.monotonic(), RETRY_S)

    def _accepted(self, answer: Answer, now: float) -> None:
        """The job is not over."""
        run = self._run
        if self.bodiless:
            self._polls += 1
        else:
            location = answer.field(b"location")
            if location is None:
                run.stop("POST /jobs was answered with 202 but no Location: is this a Headway?")
                return
            run.figures.created += 1
            run.recognised.set()
            self.request = run.requests.poll(location)
            self.bodiless = True
        run.wheel.add(self, now + run.policy.delay_s(answer))

    def _polled(self, answer: Answer, now: float) -> None:
        """The job is over, or the answer makes no sense."""
        figures = self._run.figures
        if answer.code in ENDED and (state := answer.field(b"job-state")) is not None:
            figures.end(state.decode("latin-1"), self._polls + 1)
        elif answer.code == 404:
            self._run.failed("code 404")
            figures.end("lost", self._polls + 1)
        else:
            self._run.failed("no Job-State" if answer.code in ENDED or answer.code == 202 else f"code {answer.code}")
            self._again(now, RETRY_S)
            return
        self._client.over()

    def _refused(self, answer: Answer, now: float) -> None:
        """A job was not created: an error of the server's may pass, anything else will be so for ever."""
        if answer.code >= 500 and answer.code != 501:
            self._run.failed(f"code {answer.code}")
            self._again(now, RETRY_S)
        else:
            self._run.stop(_refusal(answer))

    def _again(self, now: float, delay_s: float) -> None:
        self._run.wheel.add(self, now + delay_s * random.uniform(1, 1.5))


def _refusal(answer: Answer) -> str:
    """Say in one line why jobs cannot be created."""
    problem = (answer.field(b"content-type") or b"").startswith(b"application/problem+json")
    if problem and answer.code not in (404, 405):
        return f"the server refuses the job: {answer.code} {_detail(answer.body)}"
    return f"POST /jobs was answered with {answer.code}{' and no Job-State' * (answer.code < 300)}: is this a Headway?"


def _detail(body: bytes) -> str:
    try:
        document = json.loads(body)
        faults = [f"{fault['field']}: {fault['detail']}" for fault in document.get("errors", [])]
        text = "; ".join(faults) or str(document["detail"])
    except (ValueError, TypeError, KeyError, AttributeError):
        text = body.decode(errors="replace")
    return " ".join(text.split())[:500]
