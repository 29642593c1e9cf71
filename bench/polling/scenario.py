"""What the model is given, and what it gives back. Times in seconds."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import inf

import numpy as np

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
    # The server goes away at the first, for so long as the second; it has kept its jobs.
    restart: tuple[float, float] = (inf, 0.0)
    step: float = TICK_S
    seed: int = 1


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
    # When those came who came back after a restart.
    returns: list[Times] = field(default_factory=list)
    # The mean number of jobs in the queue.
    waiting: float = 0.0

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
