"""What the model is given, and what it gives back. Times in seconds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from math import inf

import numpy as np
from headway.core.config import Config

from bench.polling.agenda import Times

# As in sim: the tick of its wheel.
TICK_S = 0.005


@dataclass(frozen=True, slots=True, kw_only=True)
class Costs:
    """CPU seconds of the server: to take a job, to answer a poll, to hold an answer and give it, to run a job."""

    post: float
    poll: float
    held: float
    job: float

    def times(self, factor: float) -> Costs:
        """Return what ``factor`` of each cost together."""
        return Costs(post=self.post * factor, poll=self.poll * factor, held=self.held * factor, job=self.job * factor)


@dataclass(frozen=True, slots=True, kw_only=True)
class Restart:
    """A server is told to end, and another takes its place; as they come, each with a journal."""

    at: float
    # How long none is there.
    gone: float
    # How long the first waits for its jobs at most, and stays after that.
    drain_timeout: float = Config().drain_timeout
    linger: float = Config().drain_linger
    # Whether jobs that do not run are left to the next.
    keeps: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """A crowd and what befalls it."""

    policy: str
    clients: int
    workers: int
    costs: Costs
    jobs: int = 3
    job_seconds: tuple[float, float] = (0.5, 5.0)
    # Within what time the clients come.
    spread: float = 1.0
    # Until when it is looked at; a run also ends when all jobs are over and clients do not begin again.
    until: float = inf
    # From when on jobs and answers count.
    since: float = 0.0
    # Whether clients begin again when their jobs are over.
    again: bool = False
    # The consumer is slow: jobs that start between the two take so many times as long.
    slow: tuple[float, float, float] = (inf, inf, 1.0)
    restart: Restart | None = None
    # Stamps of when jobs were over are cut to this.
    stamp: float = 0.0
    step: float = TICK_S
    seed: int = 1
    # Polls a second that the server promises to answer.
    pace: float = Config().polling.capacity * Config().polling.share
    # How many alike each of the clients stands for.
    each: int = 1

    def sampled(self, each: int) -> Scenario:
        """Return this crowd with one client for ``each`` alike, on a server that is so many times smaller.

        Such a client's requests cost what those of all whom it stands for do, and there are fewer workers and promises
        by the same factor. So whatever is a share or a rate in the mean stays as it is; what comes of chance is wider
        by the root of ``each``, and no delay is told apart that is shorter than ``each`` requests take.
        """
        return replace(
            self,
            clients=max(round(self.clients / each), 1),
            workers=max(round(self.workers / each), 1),
            costs=self.costs.times(each),
            pace=self.pace / each,
            each=self.each * each,
        )


@dataclass(slots=True, kw_only=True)
class Outcome:
    """What became of it; of jobs that ended, and requests that came, after ``Scenario.since``."""

    jobs: int = 0
    # Jobs that clients have learnt to be over, and what they asked for them.
    known: int = 0
    polls: int = 0
    # Seconds from the end of a job, or of a batch, to the client's knowing.
    delays: list[Times] = field(default_factory=list)
    busy_s: float = 0.0
    seconds: float = 0.0
    # Seconds that the server worked, by the second in which it was done.
    work: dict[int, float] = field(default_factory=dict)
    # When those first asked the next server whom the one before had sent away.
    returns: list[Times] = field(default_factory=list)
    # The mean number of jobs in the queue.
    waiting: float = 0.0

    @classmethod
    def pooled(cls, outcomes: Sequence[Outcome]) -> Outcome:
        """Return what became of several runs of one scenario, under other seeds, as of one long run."""
        return cls(
            jobs=sum(one.jobs for one in outcomes),
            known=sum(one.known for one in outcomes),
            polls=sum(one.polls for one in outcomes),
            delays=[delays for one in outcomes for delays in one.delays],
            busy_s=sum(one.busy_s for one in outcomes),
            seconds=sum(one.seconds for one in outcomes),
            waiting=sum(one.waiting for one in outcomes) / len(outcomes),
        )

    @property
    def polls_per_job(self) -> float:
        """Requests that asked for a state, for each job that is known to be over."""
        return self.polls / max(self.known, 1)

    @property
    def utilisation(self) -> float:
        """Share of its time that the server worked."""
        return self.busy_s / self.seconds if self.seconds else 0.0

    @property
    def cpu_per_job_s(self) -> float:
        """CPU of the server for each job that ended."""
        return self.busy_s / max(self.jobs, 1)

    def delay_s(self, *percents: float) -> list[float]:
        """Return percentiles of the delay."""
        delays = np.concatenate(self.delays) if self.delays else np.zeros(1)
        return [float(value) for value in np.percentile(delays, percents)]
