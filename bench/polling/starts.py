"""The first seconds of a server: how often clients ask that are told when, before much is known, and after a restart.

The same crowd as in ``crowd`` comes to a server that has just started, and its polls are counted for the jobs of which
it learns within LOOK_S. It goes, the jobs that are left are waited for, the server is restarted with its journal, or
executes itself anew without one, and the crowd comes again: by then the server knows how long such jobs take.
"""

from __future__ import annotations

import signal
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bench.measure import HOST, BenchError
from bench.polling.crowd import JOBS, Run, ask, lines, serve, simulate, watched_of
from bench.process import Process, free_port, running

LOOK_S = 20.0
PATIENCE_S = 90.0
POLICY = "when-told"
FIRST, RESTART, DEPLOY = "a first start", "a restart with a journal", "a deploy"
# Polls per job that are allowed after each.
ALLOWED = {FIRST: 2.2, RESTART: 1.6, DEPLOY: 1.6}


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """What a crowd came to in the first seconds after ``name``."""

    name: str
    jobs: int
    polls_per_job: float


def measure(run: Run, folder: Path) -> Iterator[Start]:
    """Yield what is measured after each kind of start. Raises BenchError."""
    port = run.port or free_port()
    journal = {"HEADWAY_JOURNAL__PATH": str(folder / "starts.db"), "HEADWAY_JOURNAL__SYNC": "normal"}
    with running(serve(port, run.workers, run.places, **journal)) as first:
        yield _crowd(FIRST, run, port, folder)
        _wait_until_idle(port, first)
        first.signal(signal.SIGTERM)
        first.wait_until_ended(PATIENCE_S)
    with running(serve(port, run.workers, run.places, **journal)):
        yield _crowd(RESTART, run, port, folder)
    with running(serve(port, run.workers, run.places)) as server:
        _crowd(FIRST, run, port, folder)
        _wait_until_idle(port, server)
        _deploy(port, server)
        yield _crowd(DEPLOY, run, port, folder)


def _crowd(name: str, run: Run, port: int, folder: Path) -> Start:
    trace = folder / "starts.trace"
    crowd = simulate(port, POLICY, trace, clients=run.clients, jobs=JOBS, seconds=LOOK_S + 1, spread=run.spread)
    try:
        began = time.time()
        if crowd.wait_until_ended(LOOK_S + PATIENCE_S):
            raise BenchError(f"{crowd.name} had errors: {crowd.last_line()}")
        answers = [answer for answer in lines(trace) if answer.method == "HEAD"]
        first = min((answer.came for answer in answers), default=began)
        known = watched_of(answers, began, first + LOOK_S)
        if not known:
            raise BenchError(f"no job was over within {LOOK_S:g} s of {name}")
        return Start(name=name, jobs=len(known), polls_per_job=sum(one.polls for one in known.values()) / len(known))
    finally:
        crowd.stop()
        trace.unlink(missing_ok=True)


def _deploy(port: int, server: Process) -> None:
    """Have the server execute itself anew, and return when that is under way: it closes its connections."""
    with socket.create_connection((HOST, port), PATIENCE_S) as client:
        server.signal(signal.SIGHUP)
        if client.recv(1):
            raise BenchError("the server has sent something unasked")
    # Who comes now waits for the next image.
    ask(port, "/stats")


def _wait_until_idle(port: int, server: Process) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while any(ask(port, "/stats")["jobs"][state] for state in ("scheduled", "queued", "running", "retrying")):
        server.check(0.2)
        if time.monotonic() > deadline:
            raise BenchError(f"jobs were not over within {PATIENCE_S:g} s")
