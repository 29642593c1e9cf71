"""A client: creates its jobs, polls each until all have finished, and starts over.

An errand watches one URL. It sends a POST that creates the job, or the batch of all jobs, then a
HEAD after each delay of the policy. A client keeps its errands for the whole run. Between its
requests an errand is in the wheel and nowhere else, so a waiting client costs nothing.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Sequence

from headway.sim.answers import Answer
from headway.sim.link import CrowdLink
from headway.sim.policies import PolicyError
from headway.sim.run import Run

# Seconds after an error, or after an answer that asks to come back without a time, and up to half
# as much more at random.
# Seam: tests make it short.
RETRY_S = 1.0
ENDED = frozenset({200, 410, 424})
PUSHED_BACK = frozenset({429, 503})


class Client:
    """One client of the run. Its errands share ``links`` in turn."""

    __slots__ = ("_errands", "_pending")

    def __init__(self, run: Run, links: Sequence[CrowdLink]) -> None:
        jobs = run.settings.jobs
        errands, each = (1, jobs) if run.policy.batched else (jobs, 1)
        self._errands = [Errand(run, self, links[number % len(links)], each) for number in range(errands)]
        # Errands of this round that have not finished.
        self._pending = 0

    def due(self) -> None:
        """Begin a round."""
        self._pending = len(self._errands)
        for errand in self._errands:
            errand.begin()

    def over(self) -> None:
        """An errand has finished. After the last of them, the next round begins."""
        self._pending -= 1
        if not self._pending:
            self.due()


class Errand:
    """A job, or a batch of ``jobs``, to be created, then watched."""

    __slots__ = ("_client", "_jobs", "_link", "_polls", "_run", "bodiless", "request", "sent")

    def __init__(self, run: Run, client: Client, link: CrowdLink, jobs: int) -> None:
        self._run = run
        self._client = client
        self._link = link
        self._jobs = jobs
        self._polls = 0
        self.request = b""
        self.bodiless = False
        self.sent = 0.0

    def begin(self) -> None:
        """Send the request that creates the job or batch."""
        self.request = self._run.requests.submit()
        self.bodiless = False
        self._polls = 0
        self._link.send(self)

    def due(self) -> None:
        """Send the present request."""
        self._link.send(self)

    def answered(self, answer: Answer, now: float) -> None:
        """Learn from an answer and decide the next step."""
        run, code = self._run, answer.code
        run.heard = now
        (run.figures.poll if self.bodiless else run.figures.create).record(now - self.sent)
        if run.trace is not None:
            run.trace.line(now, self.sent, self.request, b"%d" % code)
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
        """No answer came. ``kind`` is empty if the error is counted already."""
        run, now = self._run, time.monotonic()
        if kind:
            run.failed(kind)
            if run.trace is not None:
                run.trace.line(now, self.sent, self.request, kind.encode())
        self._again(now, RETRY_S)

    def _accepted(self, answer: Answer, now: float) -> None:
        """The job has not finished."""
        run = self._run
        if self.bodiless:
            self._polls += 1
            try:
                delay_s = run.policy.delay_s(answer, now - self.sent)
            except PolicyError as error:
                run.stop(str(error))
                return
        else:
            location = answer.field(b"location")
            if location is None:
                run.stop(f"POST {run.requests.where} was answered with 202 but no Location: is this a Headway?")
                return
            run.figures.created += self._jobs
            run.recognised.set()
            self.request = run.requests.poll(location)
            self.bodiless = True
            delay_s = run.policy.first_s(answer)
        run.wheel.add(self, now + delay_s)

    def _polled(self, answer: Answer, now: float) -> None:
        """The job has finished, or the answer makes no sense."""
        run, code = self._run, answer.code
        if code in ENDED and answer.about_job:
            self._end(answer)
        elif code in (404, 421):
            # Never issued, or issued by a server that is gone.
            run.failed(f"code {code}")
            run.figures.end("lost", self._jobs)
        else:
            run.failed("no Job-State" if code in ENDED or code == 202 else f"code {code}")
            self._again(now, RETRY_S)
            return
        run.figures.polls_of_ended += self._polls + 1
        self._client.over()

    def _end(self, answer: Answer) -> None:
        """Count jobs by their end. For a batch the answer says how many did not succeed."""
        figures, state = self._run.figures, answer.field(b"job-state")
        if state is not None:
            figures.end(state.decode("latin-1"), self._jobs)
            return
        left = self._jobs
        for name in ("failed", "cancelled", "expired"):
            jobs = min(answer.number(b"batch-" + name.encode()), left)
            figures.end(name, jobs)
            left -= jobs
        figures.end("succeeded", left)

    def _refused(self, answer: Answer, now: float) -> None:
        """A job was not created. A server error may pass, other answers stay so for ever."""
        if answer.code >= 500 and answer.code != 501:
            self._run.failed(f"code {answer.code}")
            self._again(now, RETRY_S)
        else:
            self._run.stop(self._refusal(answer))

    def _again(self, now: float, delay_s: float) -> None:
        self._run.wheel.add(self, now + delay_s * random.uniform(1, 1.5))

    def _refusal(self, answer: Answer) -> str:
        """Return in one line why jobs cannot be created."""
        code, run = answer.code, self._run
        problem = (answer.field(b"content-type") or b"").startswith(b"application/problem+json")
        if problem and code not in (404, 405):
            return f"the server refuses the job: {code} {_detail(answer.body)}"
        if problem and run.policy.batched:
            return f"the server has no batches ({code} to POST {run.requests.where}): poll when-told or wait instead"
        said = f"{code}{' and no Job-State' * (code < 300)}"
        return f"POST {run.requests.where} was answered with {said}: is this a Headway?"


def _detail(body: bytes) -> str:
    try:
        document = json.loads(body)
        faults = [f"{fault['field']}: {fault['detail']}" for fault in document.get("errors", [])]
        text = "; ".join(faults) or str(document["detail"])
    except (ValueError, TypeError, KeyError, AttributeError):
        text = body.decode(errors="replace")
    return " ".join(text.split())[:500]
