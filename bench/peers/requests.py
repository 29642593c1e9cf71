"""The requests that the servers get, and the few that prepare a job to poll."""

from __future__ import annotations

import contextlib
import http.client
import json
import time
from pathlib import Path

from bench.measure import HOST, BenchError

HERE = Path(__file__).parent
POST_SCRIPT = HERE / "post.lua"
HEAD_SCRIPT = HERE / "head.lua"
# Longer than any run.
LONG = {"task": "sleep", "payload": {"seconds": 36_000}, "timeout": 36_000}
NOOP = {"task": "noop", "payload": None}
HEADWAY_WORKERS = 32


def head_request(port: int, path: str) -> bytes:
    """Return a HEAD request with the head of a usual client, as in head.lua."""
    return (
        f"HEAD {path} HTTP/1.1\r\nHost: {HOST}:{port}\r\nUser-Agent: headway-bench/1.0 (loopback)\r\nAccept: */*\r\n"
        "Accept-Encoding: gzip, deflate\r\nConnection: keep-alive\r\n\r\n"
    ).encode()


def submit(port: int, job: object) -> str:
    """Submit a job and return its path."""
    with contextlib.closing(http.client.HTTPConnection(HOST, port, timeout=10)) as client:
        client.request("POST", "/jobs", json.dumps(job), {"Content-Type": "application/json"})
        answer = client.getresponse()
        path = answer.getheader("Location")
        if answer.status != 202 or path is None:
            raise BenchError(f"a job was answered with {answer.status}: {answer.read()[:100]!r}")
        return path


def wait_until_over(port: int, path: str, timeout_s: float = 30.0) -> None:
    """Return when the job is 200."""
    deadline = time.monotonic() + timeout_s
    with contextlib.closing(http.client.HTTPConnection(HOST, port, timeout=10)) as client:
        while time.monotonic() < deadline:
            client.request("HEAD", path)
            answer = client.getresponse()
            answer.read()
            if answer.status == 200:
                return
            if answer.status != 202:
                raise BenchError(f"HEAD {path} was answered with {answer.status}")
            time.sleep(0.005)
    raise BenchError(f"{path} is not over after {timeout_s:g} s")


def job_in(port: int, state: str) -> str:
    """Bring a job into ``state`` and return its path; for ``queued`` all workers have long jobs before it."""
    if state == "finished":
        path = submit(port, NOOP)
        wait_until_over(port, path)
        return path
    if state == "running":
        return submit(port, LONG)
    for _ in range(HEADWAY_WORKERS):
        path = submit(port, LONG)
    return path
