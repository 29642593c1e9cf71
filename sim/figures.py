"""The figures of a run, counted as they come. Memory does not grow with the run."""

from __future__ import annotations

from dataclasses import dataclass, field

from headway.sim.durations import Durations

# Percentiles that a view shows.
SHOWN = (50.0, 95.0, 99.0)


class Latencies:
    """Durations of the whole run, and those since the last beat."""

    __slots__ = ("all", "recent", "record")

    def __init__(self) -> None:
        self.all = Durations()
        self.recent = Durations()
        # Recorded durations are part of ``all`` from the next beat on.
        self.record = self.recent.record

    def beat(self) -> None:
        """Move recent durations to the rest."""
        self.all.add(self.recent)
        self.recent.clear()


@dataclass(slots=True)
class Figures:
    """Counts of one run."""

    # Answers to POST that took a job.
    created: int = 0
    # Finished jobs, by their last state. "lost": the server did not know a job that it had taken.
    ended: dict[str, int] = field(default_factory=dict)
    # The polls of these jobs.
    polls_of_ended: int = 0
    # Answers that asked to come back later, by code: 429, 503.
    pushed_back: dict[int, int] = field(default_factory=dict)
    # Errors, by kind.
    errors: dict[str, int] = field(default_factory=dict)
    connects: int = 0
    # From writing a request to having its answer.
    create: Latencies = field(default_factory=Latencies)
    poll: Latencies = field(default_factory=Latencies)
    # How late the wheel turned: the delay that the simulator itself adds.
    lag: Latencies = field(default_factory=Latencies)

    def end(self, state: str, jobs: int = 1) -> None:
        """So many jobs have finished."""
        if jobs:
            self.ended[state] = self.ended.get(state, 0) + jobs

    def push_back(self, code: int) -> None:
        """The server asked to come back later."""
        self.pushed_back[code] = self.pushed_back.get(code, 0) + 1

    def error(self, kind: str) -> None:
        """Something went wrong."""
        self.errors[kind] = self.errors.get(kind, 0) + 1

    def beat(self) -> None:
        """Make ``all`` of each latency complete."""
        for latencies in (self.create, self.poll, self.lag):
            latencies.beat()

    @property
    def requests(self) -> int:
        """Answers of any kind."""
        return self.create.all.count + self.create.recent.count + self.poll.all.count + self.poll.recent.count

    @property
    def jobs(self) -> int:
        """Finished jobs."""
        return sum(self.ended.values())

    @property
    def failures(self) -> int:
        """Errors of all kinds."""
        return sum(self.errors.values())

    @property
    def polls_per_job(self) -> float:
        """Polls per finished job."""
        return self.polls_of_ended / self.jobs if self.jobs else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """The content of a view: the run so far, and rates and latencies since the moment before."""

    elapsed_s: float
    # 0.0: there is no end.
    duration_s: float
    clients: int
    connections: int
    jobs_per_s: float
    requests_per_s: float
    polls_per_job: float
    # p50, p95 and p99 in seconds.
    create: tuple[float, ...]
    poll: tuple[float, ...]
    lag_p99_s: float
    ended: dict[str, int]
    pushed_back: dict[int, int]
    errors: dict[str, int]


class Pulse:
    """Makes moments of figures."""

    def __init__(self, figures: Figures, now: float, duration_s: float) -> None:
        self._figures = figures
        self._began = self._last = now
        self._duration_s = duration_s
        self._jobs = self._requests = 0

    def beat(self, now: float, clients: int, connections: int) -> Moment:
        """Return the moment at ``now``, of time.monotonic. Recent durations join the rest."""
        figures, since = self._figures, max(now - self._last, 1e-9)
        jobs, requests = figures.jobs, figures.requests
        moment = Moment(
            elapsed_s=now - self._began,
            duration_s=self._duration_s,
            clients=clients,
            connections=connections,
            jobs_per_s=(jobs - self._jobs) / since,
            requests_per_s=(requests - self._requests) / since,
            polls_per_job=figures.polls_per_job,
            create=tuple(map(figures.create.recent.percentile_s, SHOWN)),
            poll=tuple(map(figures.poll.recent.percentile_s, SHOWN)),
            lag_p99_s=figures.lag.recent.percentile_s(99),
            ended=dict(figures.ended),
            pushed_back=dict(figures.pushed_back),
            errors=dict(figures.errors),
        )
        figures.beat()
        self._last, self._jobs, self._requests = now, jobs, requests
        return moment
