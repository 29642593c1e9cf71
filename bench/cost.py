"""What a server spends on each request and each job of a crowd, and for whom: user CPU by samples, kernel CPU apart.

The server runs under bench/sampled.py. Its CPU is read from /proc, and its own counts from /metrics, at both ends of a
window.
"""

from __future__ import annotations

import http.client
import signal
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from bench import samples
from bench.measure import HOST, ROOT, BenchError, Load, Window
from bench.process import Process
from bench.samples import PARTS, Samples

REQUESTS, JOBS = "headway_http_requests_total", "headway_job_run_seconds_count"
KERNEL = "kernel"
# For the server to write its samples.
PATIENCE_S = 10.0


@dataclass(frozen=True, slots=True)
class Cost:
    """What was spent in a window, in which so many jobs ended."""

    load: Load
    jobs: int
    samples: Samples

    @property
    def job_us(self) -> float:
        """CPU of the server, µs per job with all its requests."""
        return self.load.cpu_us * self.load.requests / max(self.jobs, 1)

    @property
    def by_part(self) -> dict[str, float]:
        """CPU in µs per request: user by part, and kernel."""
        shares = samples.parts(self.samples)
        return {**{part: self.load.user_us * shares[part] for part in PARTS}, KERNEL: self.load.kernel_us}

    @property
    def by_package(self) -> dict[str, float]:
        """User CPU in µs per request, by package."""
        return {name: self.load.user_us * share for name, share in samples.packages(self.samples).items()}


def sampled_server(port: int, core: int, environment: Mapping[str, str], *, folder: Path, found: Path) -> Process:
    """Start the server of the checkout in ``folder``, which writes its samples to ``found``."""
    argv = [sys.executable, str(ROOT / "bench" / "sampled.py"), str(found), "serve"]
    return Process("headway", argv, port, core, environment, folder=folder)


def cost(server: Process, found: Path, wait: Callable[[], object]) -> Cost:
    """Return what ``server`` spends while ``wait`` waits. Raises BenchError."""
    before = _counts(server.port)
    window, began = Window(server.pids), time.monotonic()
    server.signal(signal.SIGUSR2)
    wait()
    server.signal(signal.SIGUSR2)
    load = window.load(1, time.monotonic() - began)
    after = _counts(server.port)
    deadline = time.monotonic() + PATIENCE_S
    while not found.exists():
        server.check(0.05)
        if time.monotonic() > deadline:
            raise BenchError(f"{server.name} wrote no samples")
    requests = int(after[REQUESTS] - before[REQUESTS])
    if requests < 1:
        raise BenchError(f"{server.name} answered no requests")
    return Cost(
        Load(requests, load.seconds, load.cpu, load.others_s), int(after[JOBS] - before[JOBS]), samples.read(found)
    )


def _counts(port: int) -> dict[str, float]:
    """Return the sums of the metrics that are looked at."""
    with closing(http.client.HTTPConnection(HOST, port, timeout=30)) as client:
        client.request("GET", "/metrics")
        lines = client.getresponse().read().decode().splitlines()
    found = dict.fromkeys((REQUESTS, JOBS), 0.0)
    for line in lines:
        name = line.partition("{")[0].partition(" ")[0]
        if name in found:
            found[name] += float(line.rpartition(" ")[2])
    return found


def medians(costs: Sequence[Cost]) -> dict[str, float]:
    """Return the medians: CPU per request and job in µs, the parts of a request, and requests/s."""
    rows = [
        {
            "request": cost.load.cpu_us,
            "job": cost.job_us,
            **cost.by_part,
            "requests/s": cost.load.rate,
        }
        for cost in costs
    ]
    return {name: statistics.median(row[name] for row in rows) for name in rows[0]}


def ratio(before: Sequence[Cost], after: Sequence[Cost]) -> list[float]:
    """Return how many times the CPU per request of ``before`` that of ``after`` is, round by round."""
    return [new.load.cpu_us / old.load.cpu_us for old, new in zip(before, after, strict=True)]
