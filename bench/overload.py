"""More than the server can do: ``python -m bench.overload``.

The capacity of a server is that of its workers. It is measured first. Then three times as many jobs are submitted as it
can run, on a schedule that does not wait for the server, while a crowd looks at jobs each second. Before and after that
half the capacity is submitted, and at last the same beside clients that drip a byte a second.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from http.client import HTTPConnection
from pathlib import Path
from statistics import median
from typing import Any

import uvloop

from bench import report
from bench.measure import HOST, BenchError, allow_files, cores, machine, pin
from bench.offered import Answered, Crowd, Submitters, connected, p99_ms
from bench.process import Process, end_cleanly, free_port, running

SERVER_CORE, LOAD_CORE = 0, 1
TIMES = 3
# Of the capacity, before and after.
ORDINARY = 0.5
WORKERS = 64
JOB_S = 0.1
REFUSALS = {429, 503}
REFUSAL_LIMIT_MS = 50.0
BACK_LIMIT_S = 2.0
DRIPPING_LIMIT = 2.0
# Polls that the server promises to answer each second: polling.capacity by its share.
PACE = 5_000
# For jobs that were accepted to finish.
PATIENCE_S = 120.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What came of one run."""

    # Jobs a second that the workers run, and that were offered meanwhile.
    capacity: float
    offered: float
    seconds: float
    # Answers in the overload by code, and their 99th percentiles.
    codes: dict[int, int]
    accepted_p99_ms: float
    refused_p99_ms: float
    # p99 of a refusal in each second, in the median of the seconds: without the moments of other work.
    refused_usual_p99_ms: float
    # Of all jobs that were accepted in the run: those that did not succeed.
    accepted: int
    lost: int
    # p99 of an ordinary load before, and the seconds after the end until it was ordinary again.
    ordinary_p99_ms: float
    back_s: float
    # Of the crowd in the overload.
    clients: int
    polls_per_s: float
    poll_p99_ms: float
    poll_errors: dict[int, int]
    # Of the loop that made the load, which is in all times above.
    own_lag_p99_ms: float
    # In the overload, the shares of time that the server had on a core, and waited for one that others had.
    ran: float
    waited: float
    # p99 of an ordinary load by round, beside none and beside dripping clients.
    dripping: int
    without_ms: list[float]
    beside_ms: list[float]

    @property
    def dripping_ratio(self) -> float:
        """How many times longer an ordinary load takes beside dripping clients, in the medians of p99."""
        return median(self.beside_ms) / median(self.without_ms)


def back_s(answered: Sequence[Answered], end: float, seconds: int, limit_ms: float) -> float:
    """Return how many seconds after ``end`` the first second without a refusal begins, its p99 within the limit."""
    for second in range(seconds):
        of_it = [one for one in answered if end + second <= one.due < end + second + 1]
        if all(one.code == 202 for one in of_it) and p99_ms([one.took_s for one in of_it]) <= limit_ms:
            return float(second)
    return float(seconds)


class Core:
    """The time that a process has had on a core, and has waited for one, since this was made."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._began = time.monotonic()
        self._before = self._read()

    def shares(self) -> tuple[float, float]:
        """Return both as shares of the time since then."""
        seconds = time.monotonic() - self._began
        ran, waited = (now - before for now, before in zip(self._read(), self._before, strict=True))
        return ran / seconds, waited / seconds

    def _read(self) -> tuple[float, float]:
        # Nanoseconds of the main thread (proc(5)).
        ran, waited, _ = Path(f"/proc/{self._pid}/schedstat").read_text().split()
        return int(ran) / 1e9, int(waited) / 1e9


def by_second(answered: Sequence[Answered], began: float) -> list[float]:
    """Return p99 of the refusals in each second that has any, in ms."""
    seconds: dict[int, list[float]] = {}
    for one in answered:
        if one.code != 202:
            seconds.setdefault(int(one.due - began), []).append(one.took_s)
    return [p99_ms(took_s) for took_s in seconds.values()]


async def measure(port: int, pid: int, options: argparse.Namespace) -> Found:
    """Put the load on the server at ``port``, whose process is ``pid``."""
    body = json.dumps({"task": "sleep", "payload": {"seconds": JOB_S}}).encode()
    head = b"POST /jobs HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    sent = head % len(body) + body
    submitters = Submitters(await connected(port, options.submitters))
    answers: list[Answered] = []

    async def offer(rate: float, seconds: float) -> list[Answered]:
        answered = await submitters.offer(sent, rate, seconds)
        answers.extend(answered)
        return answered

    # More than the workers do, so that none of them is idle until all are done.
    began = time.monotonic()
    await offer(1.5 * WORKERS / JOB_S, options.warm_up)
    await _until_done(port)
    capacity = await _succeeded(port) / (time.monotonic() - began)
    before = p99_ms([one.took_s for one in await offer(ORDINARY * capacity, options.warm_up)])
    crowd = Crowd(await connected(port, options.clients), submitters.accepted)
    coming_s = options.clients / PACE
    crowd.begin(coming_s)
    await asyncio.sleep(coming_s)
    crowd.begin_counting()
    submitters.own_lag_s.clear()
    print(f"capacity {capacity:,.0f} jobs/s; now {TIMES} times that for {options.seconds:g} s", flush=True)
    began, core = time.monotonic(), Core(pid)
    over = await offer(TIMES * capacity, options.seconds)
    polls_per_s, polled_s = crowd.polls / (time.monotonic() - began), crowd.took_s
    ran, waited = core.shares()
    own_lag = p99_ms(submitters.own_lag_s)
    end = began + options.seconds
    after = await offer(ORDINARY * capacity, options.after)
    crowd.close()
    accepted_s = [one.took_s for one in over if one.code == 202]
    refused_s = [one.took_s for one in over if one.code != 202]
    await _until_done(port)
    without, beside = await _dripping(port, offer, capacity, options)
    await _until_done(port)
    submitters.close()
    accepted = sum(one.code == 202 for one in answers)
    return Found(
        capacity=capacity,
        offered=len(over) / options.seconds,
        seconds=options.seconds,
        codes=dict(Counter(one.code for one in over)),
        accepted_p99_ms=p99_ms(accepted_s),
        refused_p99_ms=p99_ms(refused_s),
        refused_usual_p99_ms=median(by_second(over, began) or [0.0]),
        accepted=accepted,
        lost=accepted - await _succeeded(port),
        ordinary_p99_ms=before,
        back_s=back_s(after, end, int(options.after), max(REFUSAL_LIMIT_MS, 2 * before)),
        clients=options.clients,
        polls_per_s=polls_per_s,
        poll_p99_ms=p99_ms(polled_s),
        poll_errors=crowd.errors,
        own_lag_p99_ms=own_lag,
        dripping=options.dripping,
        ran=ran,
        waited=waited,
        without_ms=without,
        beside_ms=beside,
    )


async def _dripping(
    port: int, offer: Callable[[float, float], Awaitable[list[Answered]]], capacity: float, options: argparse.Namespace
) -> tuple[list[float], list[float]]:
    """Return p99 of an ordinary load in some rounds, beside none and beside dripping clients."""
    without: list[float] = []
    beside: list[float] = []
    for _ in range(options.rounds):
        without.append(p99_ms([one.took_s for one in await offer(ORDINARY * capacity, options.round)]))
        argv = [sys.executable, "-m", "bench.dripping", str(port), str(options.dripping)]
        drippers = Process("the dripping clients", argv, core=LOAD_CORE)
        try:
            while (await _stats(port))["connections"] < options.dripping:
                drippers.check()
                await asyncio.sleep(0.1)
            beside.append(p99_ms([one.took_s for one in await offer(ORDINARY * capacity, options.round)]))
        finally:
            drippers.stop()
    return without, beside


async def _stats(port: int) -> Any:
    """Return what GET /stats says."""

    def ask() -> Any:
        with closing(HTTPConnection(HOST, port, timeout=30)) as connection:
            connection.request("GET", "/stats")
            return json.loads(connection.getresponse().read())

    return await asyncio.to_thread(ask)


async def _succeeded(port: int) -> int:
    return int((await _stats(port))["jobs"]["succeeded"])


async def _until_done(port: int) -> None:
    """Wait until no job waits or runs."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        jobs = (await _stats(port))["jobs"]
        if not (jobs["queued"] or jobs["running"]):
            return
        if time.monotonic() > deadline:
            raise BenchError(f"jobs that were accepted have not finished after {PATIENCE_S:g} s: {jobs}")
        await asyncio.sleep(0.1)


def measured(options: argparse.Namespace) -> Found:
    """Measure a server of its own, with a journal. Raises BenchError."""
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        environment = {
            "HEADWAY_SERVER__PORT": str(port),
            "HEADWAY_WORKERS": str(WORKERS),
            "HEADWAY_QUEUE__SIZE": str(options.queue),
            "HEADWAY_RETENTION__JOBS": "1000000",
            "HEADWAY_TASKS": "[examples.tasks]",
            "HEADWAY_DRAIN_TIMEOUT": "0.1",
            "HEADWAY_JOURNAL__PATH": f"{folder}/headway.db",
            "HEADWAY_LOG__LEVEL": "error",
        }
        server = Process("headway", [sys.executable, "-m", "headway", "serve"], port, SERVER_CORE, environment)
        with running(server):
            pin(LOAD_CORE)
            try:
                found = uvloop.run(measure(port, server.pids[0], options))
            finally:
                pin(None)
            server.check()
            return found


def options_of(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.overload", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0, help="of the overload")
    parser.add_argument("--clients", type=int, default=15_000, help="of the crowd that polls")
    parser.add_argument("--submitters", type=int, default=500, help="connections of those that submit")
    parser.add_argument("--queue", type=int, default=5_000, help="queue.size")
    parser.add_argument("--warm-up", type=float, default=6.0, help="seconds of the load that tells the capacity")
    parser.add_argument("--after", type=float, default=10.0, help="seconds of the load after the overload")
    parser.add_argument("--dripping", type=int, default=2_000, help="clients that drip")
    parser.add_argument("--rounds", type=int, default=5, help="without dripping clients, and beside them")
    parser.add_argument("--round", type=float, default=5.0, help="seconds of each")
    return parser.parse_args(argv)


def main() -> int:
    """Measure, print, write; return the exit code."""
    options = options_of()
    end_cleanly()
    how = machine("overload")
    try:
        cores(2)
        allow_files(options.clients + options.submitters + options.dripping)
        found = measured(options)
    except (BenchError, OSError) as failure:
        print(f"bench-overload: {failure}", file=sys.stderr)
        return 1
    how |= {"method": f"a server with a journal on core {SERVER_CORE}, the load on core {LOAD_CORE}"}
    return int(not _write(found, how))


def verdicts(found: Found) -> tuple[list[str], bool]:
    """Return what must hold and whether it does, a line each, and whether all of it does."""
    wrong = {code: count for code, count in found.codes.items() if code != 202 and code not in REFUSALS}
    held = [
        (not found.lost, f"all {found.accepted:,} accepted jobs succeeded, {found.lost:,} did not"),
        (not wrong, f"refusals are 429 and 503 alone: {wrong or 'no other'}"),
        (
            found.refused_p99_ms <= REFUSAL_LIMIT_MS,
            f"p99 of a refusal {found.refused_p99_ms:.1f} ms, at most {REFUSAL_LIMIT_MS:g}",
        ),
        (found.back_s <= BACK_LIMIT_S, f"ordinary service {found.back_s:g} s after the end, at most {BACK_LIMIT_S:g}"),
        (
            found.polls_per_s <= PACE * 1.1 and not found.poll_errors,
            f"{found.clients:,} clients ask {found.polls_per_s:,.0f} times a second, at most {PACE:,}; "
            f"errors {found.poll_errors or 0}",
        ),
        (
            found.dripping_ratio <= DRIPPING_LIMIT,
            f"p99 beside {found.dripping:,} dripping clients {found.dripping_ratio:.2f} times that without, at most "
            f"{DRIPPING_LIMIT:g}",
        ),
    ]
    return [f"{'PASS' if good else 'FAIL'}: {text}" for good, text in held], all(good for good, _ in held)


def _write(found: Found, how: dict[str, str]) -> bool:
    """Print and write what was found; return whether it is as it must be."""
    rows = [
        ["capacity", f"{found.capacity:,.0f} jobs/s"],
        ["offered", f"{found.offered:,.0f} jobs/s for {found.seconds:g} s"],
        ["answers", ", ".join(f"{code}: {count:,}" for code, count in sorted(found.codes.items()))],
        ["p99 of a POST before", f"{found.ordinary_p99_ms:.1f} ms"],
        ["p99 of a POST accepted in the overload", f"{found.accepted_p99_ms:.1f} ms"],
        ["p99 of one refused", f"{found.refused_p99_ms:.1f} ms"],
        ["p99 of one refused, in the median of the seconds", f"{found.refused_usual_p99_ms:.1f} ms"],
        ["p99 of a poll", f"{found.poll_p99_ms:.1f} ms"],
        ["p99 of the delay of the load itself, in all of these", f"{found.own_lag_p99_ms:.1f} ms"],
        ["time of the server on its core", f"{found.ran:.0%}"],
        ["time that it waited for its core, which others had", f"{found.waited:.0%}"],
        ["p99 without dripping clients", f"{report.spread(found.without_ms)} ms"],
        [f"p99 beside {found.dripping:,} of them", f"{report.spread(found.beside_ms)} ms"],
    ]
    lines, good = verdicts(found)
    listed = "\n".join(f"- {line}" for line in lines)
    text = "\n\n".join([report.table(["measured", "figure"], rows), listed, report.facts(how)])
    print(f"\n{text}")
    target = report.folder("overload")
    report.write(target, text, {"how": how, "verdicts": lines, "found": asdict(found)})
    print(f"written to {target}")
    return good


if __name__ == "__main__":
    sys.exit(main())
