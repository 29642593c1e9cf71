"""A real crowd on a real server: what each policy costs, and how late its clients know.

How it measures: the server and ``headway simulate`` run on a core each. The crowd writes down when each answer came;
when a job was over is the server's own stamp (``ended``, to a millisecond), read after the crowd has gone. Both are of
this machine's clock, so their difference is the delay, for every job and to a millisecond, with no request that a
client would not make. CPU is the server's, user and kernel, between two readings of /proc, for each job that ended in
between; it includes taking the job and running it, which no policy can save. The task is ``sleep`` of
examples/tasks.py, which reports its progress four times.

The queue: there are so many workers that a job waits some 20 s for one, and ``queue.size`` is twice what then waits.
"""

from __future__ import annotations

import http.client
import json
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from headway.core.config import Config

from bench.measure import HOST, BenchError, Load, Window
from bench.process import Process, free_port, running

JOBS = 3
JOB_SECONDS = (0.5, 5.0)
# The server's stamps are cut to this.
STAMP_S = 0.001
# For each client: 0.32 jobs run and 2.5 wait, of its three.
WORKERS = 0.32
PLACES = 5
SERVER_CORE, CROWD_CORE = 0, 1


@dataclass(frozen=True, slots=True)
class Answered:
    """A line of the trace."""

    # When the answer came, in seconds since the epoch, and how long it took.
    came: float
    took: float
    method: str
    target: str
    # A code, or a word for why there was no answer.
    outcome: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What a policy came to, over one window of time."""

    policy: str
    jobs: int
    polls_per_job: float
    # p50 and p99.
    delay_ms: tuple[float, float]
    cpu_us_per_job: float
    # Polls that were answered in the window, of whatever jobs, for each job that ended in it.
    polls_served_per_job: float
    # Shares: of a core, and of the places in the queue.
    utilisation: float
    queue: float
    # How many cores others kept busy meanwhile.
    noise: float


@dataclass(slots=True)
class Watched:
    """What was asked about one job or batch."""

    polls: int = 0
    # When its client knew; 0.0: not yet.
    known: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """How long a crowd is looked at: from ``warm_up`` for ``seconds``."""

    clients: int
    warm_up: float
    seconds: float
    spread: float = 1.0
    port: int = 0
    # A job takes between the two, in seconds.
    job_seconds: tuple[float, float] = JOB_SECONDS
    # The server is as config.yaml comes, not with workers and places for the crowd.
    shipped: bool = False

    @property
    def workers(self) -> int:
        """How many jobs run at once."""
        return Config().workers if self.shipped else max(round(self.clients * WORKERS), 1)

    @property
    def places(self) -> int:
        """How many jobs may wait."""
        return Config().queue.size if self.shipped else self.clients * PLACES


def half_full(warm_up: float, seconds: float, port: int) -> Run:
    """Return a run with so many clients that the queue of a server as it comes is half full."""
    config = Config()
    clients = (config.queue.size // 2 + config.workers) // JOBS
    return Run(clients=clients, warm_up=warm_up, seconds=seconds, port=port, shipped=True)


@dataclass(slots=True)
class Samples:
    """What /stats said once a second."""

    waiting: list[float] = field(default_factory=list)
    ended: list[int] = field(default_factory=list)


def measure(policy: str, run: Run, folder: Path) -> Measured:
    """Put a crowd on a server of its own; files it needs go to ``folder``. Raises BenchError."""
    port = run.port or free_port()
    trace = folder / f"{policy}.trace"
    with running(serve(port, run.workers, run.places)) as server:
        seconds, options = run.warm_up + run.seconds + 1, {"job-seconds": "{}-{}".format(*run.job_seconds)}
        crowd = simulate(
            port, policy, trace, clients=run.clients, jobs=JOBS, seconds=seconds, spread=run.spread, **options
        )
        try:
            began, load, samples = _watch(server, crowd, port, run)
            if crowd.wait_until_ended(30):
                raise BenchError(f"{crowd.name} had errors: {crowd.last_line()}")
            return _measured(policy, port, trace, began=began, load=load, samples=samples)
        finally:
            crowd.stop()
            trace.unlink(missing_ok=True)


def serve(port: int, workers: int, places: int, **settings: str) -> Process:
    """Start a server with a queue of ``places``."""
    environment = {
        "HEADWAY_SERVER__PORT": str(port),
        "HEADWAY_WORKERS": str(workers),
        "HEADWAY_QUEUE__SIZE": str(places),
        "HEADWAY_RETENTION__JOBS": "1000000",
        "HEADWAY_TASKS": "[examples.tasks]",
        "HEADWAY_DRAIN_TIMEOUT": "0.1",
        "HEADWAY_DRAIN_LINGER": "0.2",
        "HEADWAY_JOURNAL__PATH": "null",
        "HEADWAY_LOG__FORMAT": "plain",
        "HEADWAY_LOG__LEVEL": "warning",
        **settings,
    }
    return Process("headway", [sys.executable, "-m", "headway", "serve"], port, SERVER_CORE, environment)


def simulate(
    port: int, policy: str, trace: Path, *, clients: int, jobs: int, seconds: float, spread: float, **options: str
) -> Process:
    """Start a crowd that writes its answers to ``trace``."""
    given = {
        "url": f"http://{HOST}:{port}",
        "poll": policy,
        "clients": str(clients),
        "jobs": str(jobs),
        "duration": f"{seconds:.3f}s",
        "spread": f"{spread:.3f}s",
        "task": "sleep",
        "job-seconds": "{}-{}".format(*JOB_SECONDS),
        "connections": "0",
        "timeout": "30s",
        "trace": str(trace),
        **options,
    }
    arguments = [part for name, value in given.items() for part in (f"--{name}", value)]
    return Process(f"the crowd ({policy})", [sys.executable, "-m", "headway", "simulate", *arguments], core=CROWD_CORE)


def _watch(server: Process, crowd: Process, port: int, run: Run) -> tuple[float, Load, Samples]:
    """Look at the crowd; return when the window began, in seconds since the epoch, and what was seen in it."""
    end = time.monotonic() + run.warm_up
    while (left := end - time.monotonic()) > 0:
        _check(server, crowd, min(left, 1.0))
    samples = Samples()
    _sample(port, samples)
    began, window = time.time(), Window(server.pids)
    end = time.monotonic() + run.seconds
    while (left := end - time.monotonic()) > 0:
        _check(server, crowd, min(left, 1.0))
        _sample(port, samples)
    seconds = time.time() - began
    return began, window.load(max(samples.ended[-1] - samples.ended[0], 1), seconds), samples


def _check(server: Process, crowd: Process, patience_s: float) -> None:
    crowd.check(patience_s)
    server.check()


def _sample(port: int, samples: Samples) -> None:
    said = ask(port, "/stats")
    samples.waiting.append(said["waiting"] / said["queue_size"])
    samples.ended.append(said["jobs"]["succeeded"])


def ask(port: int, path: str) -> Any:
    """GET a JSON document."""
    with closing(http.client.HTTPConnection(HOST, port, timeout=30)) as client:
        client.request("GET", path)
        answer = client.getresponse()
        body = answer.read()
    if answer.status != 200:
        raise BenchError(f"GET {path} was answered with {answer.status}")
    return json.loads(body)


def _measured(policy: str, port: int, trace: Path, *, began: float, load: Load, samples: Samples) -> Measured:
    answers = [answer for answer in lines(trace) if answer.method == "HEAD"]
    end = began + load.seconds
    watched = watched_of(answers, began, end)
    if not watched:
        raise BenchError(f"no job of the crowd ({policy}) was over in {load.seconds:.0f} s: give it longer")
    ended = _ended(port)
    jobs_of = _jobs_of_batches(port, watched) if policy.startswith("batch") else {}
    delays, jobs = list[float](), 0
    for target, one in watched.items():
        names = jobs_of.get(target) or [target]
        delays.append(1000 * (one.known - max(ended[name] for name in names)))
        jobs += len(names)
    delays.sort()
    return Measured(
        policy=policy,
        jobs=jobs,
        polls_per_job=sum(one.polls for one in watched.values()) / jobs,
        delay_ms=(percentile(delays, 50), percentile(delays, 99)),
        cpu_us_per_job=load.cpu_us,
        polls_served_per_job=sum(began <= answer.came < end for answer in answers) / load.requests,
        utilisation=(load.cpu.user_s + load.cpu.kernel_s) / load.seconds,
        queue=sum(samples.waiting) / len(samples.waiting),
        noise=load.noise,
    )


def lines(trace: Path) -> Iterator[Answered]:
    """Yield what ``headway simulate --trace`` wrote."""
    with trace.open(encoding="latin-1") as file:
        for line in file:
            came, took, method, target, outcome = line.rstrip("\n").split(" ", 4)
            yield Answered(float(came), float(took), method, target, outcome)


def watched_of(answers: Iterable[Answered], begin: float, end: float) -> dict[str, Watched]:
    """Return what was asked for, and known to be over between ``begin`` and ``end``; by target."""
    found: dict[str, Watched] = {}
    for answer in answers:
        one = found.setdefault(answer.target, Watched())
        one.polls += 1
        if answer.outcome == "200":
            one.known = answer.came
    return {target: one for target, one in found.items() if begin <= one.known < end}


def _ended(port: int) -> dict[str, float]:
    """Return when each job was over, in seconds since the epoch, by target."""
    found: dict[str, float] = {}
    following: str | None = "/jobs?state=succeeded&limit=1000"
    while following:
        page = ask(port, following)
        for job in page["jobs"]:
            found[f"/jobs/{job['id']}"] = datetime.fromisoformat(job["ended"]).timestamp()
        following = page["next"]
    return found


def _jobs_of_batches(port: int, batches: dict[str, Watched]) -> dict[str, list[str]]:
    """Return the targets of the jobs of each batch."""
    return {target: [f"/jobs/{job['id']}" for job in ask(port, target)["jobs"]] for target in batches}


def percentile(values: list[float], percent: float) -> float:
    """Return the value that ``percent`` of ``values``, in order, do not exceed."""
    return values[min(int(len(values) * percent / 100), len(values) - 1)]
