"""Memory per finished job: ``python -m bench.memory``.

One Headway server that keeps a million jobs gets a million no-op jobs through HTTP, then another million. What its
resident memory grows by in the first, divided by the jobs, is the price of a job that is kept; in the second, every new
job takes the place of one that is no longer kept, and memory must stay as it is.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import re
import socket
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass

from bench import report
from bench.measure import HOST, ROOT, BenchError, cores, machine, rss_bytes
from bench.process import Process, end_cleanly, running

CONNECTIONS = 4
# Requests of one write; with the workers' share of the loop this keeps the queue short.
PIPELINED = 32
BYTES_MOST = 1 << 16
BODY = b'{"task":"noop"}'
# Most that a kept job may cost.
BYTES_PER_JOB_LIMIT = 100.0
# Most that memory may grow by once as many jobs are kept as may be: the board's spare rows, 1.2 MiB, and noise.
GROWTH_LIMIT_MIB = 4.0


@dataclass(frozen=True, slots=True)
class Reading:
    """Resident memory once ``jobs`` had ended, ``seconds`` after the first was sent."""

    jobs: int
    rss_bytes: int
    seconds: float


@dataclass(slots=True)
class Findings:
    """All that a run finds; filled in as it goes, so that what there is can be kept."""

    readings: list[Reading]
    # Answers to HEAD, by what was asked for.
    answers: dict[str, int]
    refused: int = 0


class Submitter:
    """A few connections over which jobs are submitted, many in one write."""

    def __init__(self, port: int) -> None:
        request = (
            b"POST /jobs HTTP/1.1\r\nHost: %b:%d\r\nContent-Type: application/json\r\nPrefer: return=minimal\r\n"
            b"Content-Length: %d\r\n\r\n%b" % (HOST.encode(), port, len(BODY), BODY)
        )
        self._request = request
        self._sockets = [socket.create_connection((HOST, port), 30) for _ in range(CONNECTIONS)]
        # Jobs that were answered with 429, and so sent again.
        self.refused = 0
        self.first = self.last = ""

    def submit(self, jobs: int) -> None:
        """Submit ``jobs``; those that find the queue full again and again."""
        while jobs > 0:
            sent: list[int] = []
            for opened in self._sockets:
                batch = min(PIPELINED, jobs - sum(sent))
                if batch:
                    opened.sendall(self._request * batch)
                sent.append(batch)
            refused = sum(self._read(opened, batch) for opened, batch in zip(self._sockets, sent, strict=True) if batch)
            jobs -= sum(sent) - refused
            if refused:
                self.refused += refused
                time.sleep(0.05)

    def close(self) -> None:
        """Disconnect."""
        for opened in self._sockets:
            opened.close()

    def _read(self, opened: socket.socket, answers: int) -> int:
        """Read ``answers`` answers; return how many of them were 429."""
        data = b""
        while data.count(b"HTTP/1.1 ") < answers or not data.endswith((b"\r\n\r\n", b"}")):
            piece = opened.recv(BYTES_MOST)
            if not piece:
                raise BenchError("the server closed a connection")
            data += piece
        accepted, refused = data.count(b"HTTP/1.1 202"), data.count(b"HTTP/1.1 429")
        if accepted + refused != answers:
            raise BenchError(f"a job was answered with {data[:60]!r}")
        if accepted:
            ids = re.findall(rb"Location: (\S+)", data)
            self.first = self.first or ids[0].decode()
            self.last = ids[-1].decode()
        return refused


def main() -> int:
    """Measure, print, write; return the exit code."""
    options = _options()
    end_cleanly()
    findings, before, error = Findings([], {}), machine("memory"), ""
    began = time.monotonic()
    try:
        cores(1)
        _measure(options.jobs, options.port, findings)
    except (BenchError, OSError) as failure:
        error = f"bench-memory: {failure}"
        print(error, file=sys.stderr)
    except KeyboardInterrupt:
        error = "bench-memory: interrupted"
    if findings.readings:
        how = before | {
            "took": f"{time.monotonic() - began:.0f} s",
        }
        good = _write(findings, options.jobs, how, error)
        return int(bool(error) or not good)
    return 1


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.memory", description=__doc__)
    parser.add_argument(
        "--jobs", type=int, default=1_000_000, help="jobs that are kept, and jobs of each of the two rounds"
    )
    parser.add_argument("--port", type=int, default=9200)
    return parser.parse_args()


def _measure(jobs: int, port: int, findings: Findings) -> None:
    env = {
        "HEADWAY_SERVER__PORT": str(port),
        "HEADWAY_RETENTION__JOBS": str(jobs),
        "HEADWAY_RETENTION__SECONDS": "86400",
        "HEADWAY_TASKS": "[examples.tasks]",
        "HEADWAY_JOURNAL__PATH": "null",
    }
    argv = [sys.executable, "-m", "headway", "serve", "--config", str(ROOT / "config.yaml")]
    with (
        running(Process("Headway", argv, port, env=env)) as server,
        contextlib.closing(Submitter(port)) as submitter,
    ):
        try:
            _fill(jobs, port, server, submitter, findings)
        except (OSError, BenchError):
            # That it died is the better message.
            server.check(0.5)
            raise


def _fill(jobs: int, port: int, server: Process, submitter: Submitter, findings: Findings) -> None:
    # The first jobs bring in what is loaded lazily; they are not counted.
    submitter.submit(1000)
    first, submitter.first = submitter.first, ""
    _wait_until_over(port, submitter.last)
    began = time.monotonic()
    findings.readings.append(_say(Reading(0, rss_bytes(server.pids), 0.0)))
    for done in _steps(jobs):
        submitter.submit(done - findings.readings[-1].jobs)
        _wait_until_over(port, submitter.last)
        findings.readings.append(_say(Reading(done, rss_bytes(server.pids), time.monotonic() - began)))
        findings.refused = submitter.refused
        if done == jobs:
            findings.answers |= {
                f"job 1 after {jobs:,}": _head(port, submitter.first),
                f"job {jobs:,} after {jobs:,}": _head(port, submitter.last),
            }
    findings.answers |= {
        f"job 1 after {2 * jobs:,}": _head(port, submitter.first),
        f"job {2 * jobs:,} after {2 * jobs:,}": _head(port, submitter.last),
        "a job before the first": _head(port, first),
        "an id that was never issued": _head(
            port, submitter.last[:-4] + ("0000" if submitter.last[-4:] != "0000" else "1111")
        ),
    }


def _steps(jobs: int) -> Iterator[int]:
    step = max(1, jobs // 10)
    for round_begin in (0, jobs):
        yield from range(round_begin + step, round_begin + jobs, step)
        yield round_begin + jobs


def _say(reading: Reading) -> Reading:
    print(f"{reading.jobs:>11,} jobs over: {reading.rss_bytes / 2**20:7.1f} MiB, {reading.seconds:.0f} s", flush=True)
    return reading


def _head(port: int, path: str) -> int:
    with contextlib.closing(http.client.HTTPConnection(HOST, port, timeout=10)) as client:
        client.request("HEAD", path)
        return client.getresponse().status


def _wait_until_over(port: int, path: str, timeout_s: float = 60.0) -> None:
    """Return when the job is over; jobs of one priority are run in order, so all before it are about to be."""
    deadline = time.monotonic() + timeout_s
    while _head(port, path) == 202:
        if time.monotonic() > deadline:
            raise BenchError(f"{path} is not over after {timeout_s:g} s")
        time.sleep(0.01)


def _write(findings: Findings, jobs: int, how: dict[str, str], error: str) -> bool:
    """Print and write what was found; return whether it is within the limits."""
    begin, *rest = findings.readings
    rows = [["0", f"{begin.rss_bytes / 2**20:.1f}", "-", "-"]]
    for reading in rest:
        price = (reading.rss_bytes - begin.rss_bytes) / min(reading.jobs, jobs)
        rate = reading.jobs / reading.seconds
        rows.append([f"{reading.jobs:,}", f"{reading.rss_bytes / 2**20:.1f}", f"{price:.1f}", f"{rate:,.0f}"])
    verdicts, good = _verdicts(findings, jobs)
    how["method"] = (
        f"one server; {CONNECTIONS} connections, {PIPELINED} requests a write; all jobs are over at each reading of "
        f"/proc/pid/statm; {findings.refused:,} submissions found the queue full and were repeated"
    )
    parts = [
        report.table(["jobs over", "RSS, MiB", "bytes of growth for each job kept", "jobs/s so far"], rows),
        "\n".join(f"- {line}" for line in [*verdicts, *([error] if error else [])]),
        report.facts(how),
    ]
    text = "\n\n".join(parts)
    print(text)
    target = report.folder("memory")
    data = {"how": how, "error": error, "limits met": good, **asdict(findings), "verdicts": verdicts}
    report.write(target, text, data)
    print(f"written to {target}")
    return good


def _verdicts(findings: Findings, jobs: int) -> tuple[list[str], bool]:
    rss = {reading.jobs: reading.rss_bytes for reading in findings.readings}
    found = []
    if jobs in rss:
        price = (rss[jobs] - rss[0]) / jobs
        found.append(
            (
                price <= BYTES_PER_JOB_LIMIT,
                f"{price:.1f} bytes of RSS per finished job kept, at most {BYTES_PER_JOB_LIMIT:g}",
            )
        )
    if 2 * jobs in rss:
        growth = (rss[2 * jobs] - rss[jobs]) / 2**20
        found.append(
            (
                growth <= GROWTH_LIMIT_MIB,
                f"{growth:.1f} MiB more after the second {jobs:,}, at most {GROWTH_LIMIT_MIB:g}",
            )
        )
    expected = [200, 200, 410, 200, 410, 404]
    answers = list(findings.answers.values())
    told = "; ".join(f"{what}: {code}" for what, code in findings.answers.items())
    found.append((answers == expected[: len(answers)], f"HEAD of {told}"))
    return [f"{'PASS' if good else 'FAIL'}: {line}" for good, line in found], all(good for good, _ in found)


if __name__ == "__main__":
    sys.exit(main())
