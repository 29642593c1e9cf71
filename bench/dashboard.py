"""CPU of a server for people who look at it: ``python -m bench.dashboard``.

100 pages of the dashboard ask, each on a connection of its own, what a screen asks at each beat of
2.5 seconds. The CPU is that of the server as /proc counts it, less the CPU of a server at which
nobody looks. The server has jobs in all states, 3,000 of them failed, and keeps them in memory.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import http.client
import json
import os
import random
import time
from collections.abc import Sequence
from pathlib import Path

from bench import report
from bench.measure import HOST, BenchError, machine
from bench.process import Process, free_port, running

BEAT_S = 2.5
SETTLE_S = 4.0
# By screen: what it asks, and at every how many beats. ``{job}`` runs, ``{ended}`` has failed.
SCREENS: dict[str, Sequence[tuple[str, int]]] = {
    "overview": [("/stats", 1), ("/history?hours=3", 8)],
    "jobs": [("/jobs?limit=37", 1)],
    "a job that runs": [("/jobs/{job}", 1), ("/jobs/{job}/log", 1)],
    "a job that has ended": [("/jobs/{ended}", 4)],
    "errors": [("/jobs?state=failed&limit=1", 1), *[("/jobs?state=failed&limit=250", 48)] * 4],
    "tasks": [("/tasks", 1), ("/history?hours=1", 8)],
    "workers": [("/stats", 2), ("/jobs?state=running&limit=250", 2)],
    "batches": [("/batches", 1)],
}


class Page:
    """A page on one screen, on a connection of its own."""

    def __init__(self, port: int, asks: Sequence[tuple[str, int]]) -> None:
        self._port = port
        self._asks = asks
        # So that rare requests of many pages do not come together.
        self._beat = random.randrange(600)
        self.answers = 0

    async def look(self, end: float) -> None:
        """Ask at each beat until ``end``."""
        reader, writer = await asyncio.open_connection(HOST, self._port)
        await asyncio.sleep(random.uniform(0, BEAT_S))
        while time.monotonic() < end:
            for path, every in self._asks:
                if self._beat % every == 0:
                    await self._ask(reader, writer, path)
            self._beat += 1
            await asyncio.sleep(BEAT_S * random.uniform(0.9, 1.1))
        writer.close()

    async def _ask(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, path: str) -> None:
        writer.write(f"GET {path} HTTP/1.1\r\nHost: {HOST}\r\nAccept: application/json\r\n\r\n".encode())
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        length = int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0])
        await reader.readexactly(length)
        self.answers += 1


def cpu_s(pid: int) -> float:
    """Return the seconds of CPU that a process has taken."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def share(pid: int, port: int, asks: Sequence[tuple[str, int]], pages: int, seconds: float) -> tuple[float, float]:
    """Return the server's part of a core, in per cent, and its answers per second."""
    looking = [Page(port, asks) for _ in range(pages)]

    async def measured() -> float:
        end = time.monotonic() + SETTLE_S + seconds
        tasks = [asyncio.ensure_future(page.look(end)) for page in looking]
        await asyncio.sleep(SETTLE_S)
        before, answers = cpu_s(pid), sum(page.answers for page in looking)
        await asyncio.sleep(seconds)
        used = (cpu_s(pid) - before) / seconds * 100
        rates.append((sum(page.answers for page in looking) - answers) / seconds)
        await asyncio.gather(*tasks)
        return used

    rates: list[float] = []
    return asyncio.run(measured()), rates[0]


def prepare(port: int) -> dict[str, str]:
    """Submit jobs, and return the id of one that runs and of one that failed."""
    with contextlib.closing(http.client.HTTPConnection(HOST, port, timeout=30)) as client:

        def ask(path: str, value: object) -> dict[str, str]:
            while True:
                client.request("POST", path, json.dumps(value), {"Content-Type": "application/json"})
                answer = client.getresponse()
                found: dict[str, str] = json.loads(answer.read())
                if answer.status == 202:
                    return found
                if answer.status not in (429, 503):
                    raise BenchError(f"POST {path} was answered with {answer.status}: {found}")
                time.sleep(0.1)

        failing = {"task": "fail", "payload": {"message": "order 17 has no lines"}, "tags": ["customer:42"]}
        for _ in range(30):
            ask("/batches", [{**failing, "payload": {"message": f"order {n} has no lines"}} for n in range(100)])
        ended = ask("/jobs", failing)["id"]
        time.sleep(3)
        for _ in range(8):
            job = ask("/jobs", {"task": "sleep", "payload": {"seconds": 3600}, "timeout": 3600})["id"]
        return {"job": job, "ended": ended}


def main() -> None:
    """Measure each screen, then all of them together."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--pages", type=int, default=100)
    options.add_argument("--seconds", type=float, default=10.0)
    given = options.parse_args()
    port = free_port()
    environment = {
        "HEADWAY_JOURNAL__PATH": "null",
        "HEADWAY_SERVER__PORT": str(port),
        "HEADWAY_WORKERS": "8",
        "HEADWAY_DRAIN_TIMEOUT": "1",
    }
    server = Process("headway", [".venv/bin/headway", "serve"], port, env=environment)
    with running(server):
        ids = prepare(port)
        pid = server.pids[0]
        idle, _ = share(pid, port, [], 0, given.seconds)
        print(report.facts(machine("dashboard")))
        print(f"nobody looks: {idle:.1f}% of a core")
        print(f"\n{given.pages} pages of a screen | % of a core | answers/s\n---|---:|---:")
        screens = {name: [(path.format(**ids), every) for path, every in asks] for name, asks in SCREENS.items()}
        for name, asks in screens.items():
            used, rate = share(pid, port, asks, given.pages, given.seconds)
            print(f"{name} | {used - idle:.1f} | {rate:.0f}", flush=True)


if __name__ == "__main__":
    main()
