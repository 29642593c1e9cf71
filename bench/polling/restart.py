"""A server that is restarted while thousands wait: do they come back all at once?

Each of the clients holds a connection and waits for its job (``Prefer: wait``) when the server is told to end. It lets
go all whom it holds, with a 202 that says when to come back; another server takes its port as soon as it is free. What
is counted is each client's first request that is answered after that, by when it was sent: the time between the first
and the last hundredth of them is cut into BINS parts, of BIN_LEAST_S at least. Clients who find nobody there try again
after one second and up to half as much more.

This server keeps its queue in memory: the new one answers 421, and clients begin anew, after what is counted.
"""

from __future__ import annotations

import signal
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.measure import BenchError, allow_files
from bench.polling.crowd import ask, lines, serve, simulate
from bench.process import Process, free_port, running

BINS = 20
BIN_LEAST_S = 0.1
# Jobs that run meanwhile; none ends.
WORKERS = 10
JOB_S = 600.0
PAYLOAD = f'{{"seconds": {JOB_S:.0f}}}'
# Clients that come in a second, before.
PER_SECOND = 2000
# How long the server waits for its jobs, and stays after that.
DRAIN_S, LINGER_S = 0.1, 0.2
PATIENCE_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Return:
    """How clients came back: requests a second, at most and in the mean over the time in which they came."""

    clients: int
    seconds: float
    peak: float
    mean: float

    @property
    def ratio(self) -> float:
        """Peak to mean."""
        return self.peak / self.mean


def measure(clients: int, folder: Path, port: int = 0) -> Return:
    """Restart a server for which ``clients`` wait, and look at how they return. Raises BenchError."""
    allow_files(clients)
    port = port or free_port()
    trace = folder / "restart.trace"
    settings = {
        "HEADWAY_LIMITS__CONNECTIONS": str(clients + 100),
        "HEADWAY_DRAIN_TIMEOUT": f"{DRAIN_S:g}",
        "HEADWAY_DRAIN_LINGER": f"{LINGER_S:g}",
    }
    spread = max(clients / PER_SECOND, 0.5)
    with running(serve(port, WORKERS, 2 * clients, **settings)) as first:
        crowd = simulate(
            port, "wait", trace, clients=clients, jobs=1, seconds=4 * PATIENCE_S, spread=spread, payload=PAYLOAD
        )
        try:
            _wait_until(lambda: ask(port, "/stats")["waiting_clients"], clients, "wait", crowd)
            told = time.time()
            first.signal(signal.SIGTERM)
            first.wait_until_ended(PATIENCE_S)
            with running(serve(port, WORKERS, 2 * clients, **settings)):
                # Who has come back and found nothing of its job asks for another.
                _wait_until(lambda: _jobs(port), clients, "have come back", crowd)
                crowd.signal(signal.SIGINT)
                crowd.wait_until_ended(PATIENCE_S)
            return returns(_sent(trace, told), clients)
        finally:
            crowd.stop()
            trace.unlink(missing_ok=True)


def _jobs(port: int) -> int:
    """Return how many jobs the server has."""
    jobs = ask(port, "/stats")["jobs"]
    return int(jobs["queued"] + jobs["running"])


def _wait_until(count: Callable[[], int], clients: int, what: str, crowd: Process) -> None:
    """Return when ``count`` has come to ``clients``; raises BenchError where it does not."""
    deadline = time.monotonic() + PATIENCE_S
    while (counted := count()) < clients:
        crowd.check(0.2)
        if time.monotonic() > deadline:
            raise BenchError(f"only {counted} of {clients} clients {what} after {PATIENCE_S:g} s")


def _sent(trace: Path, told: float) -> list[float]:
    """Return when each client's first request after ``told`` that was answered was sent."""
    found: dict[str, float] = {}
    for answer in lines(trace):
        sent = answer.came - answer.took
        if answer.method == "HEAD" and sent > told and answer.outcome.isdigit():
            found.setdefault(answer.target, sent)
    return list(found.values())


def returns(sent: Sequence[float], clients: int) -> Return:
    """Return how those who came at ``sent``, in seconds, were spread over the time in which all but a few came."""
    if len(sent) < clients * 0.99:
        raise BenchError(f"only {len(sent)} of {clients} clients came back")
    sent = sorted(sent)
    few = len(sent) // 100
    within = sent[few : len(sent) - few]
    seconds = max(within[-1] - within[0], BIN_LEAST_S)
    width = max(seconds / BINS, BIN_LEAST_S)
    # The last bin may be cut short, and is no peak then.
    counts = Counter(int((moment - within[0]) / width) for moment in within)
    return Return(clients=len(sent), seconds=seconds, peak=max(counts.values()) / width, mean=len(within) / seconds)
