"""The kill loop: submit from many connections, kill the server at a random moment, start it again, count.

Used by test_crash.py; ``make crash ROUNDS=100`` runs the long one.
"""

from __future__ import annotations

import itertools
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.end_to_end.process import environment
from tests.protocol.wire import PATIENCE_S, Answer, Wire, post, request, submission

CLIENTS = 8
# Jobs of a batch.
BATCH = 3
JSON = "Content-Type: application/json"
# How many HEADs are sent before their answers are read.
PIPELINED = 100


@dataclass
class Counts:
    """What came of it."""

    rounds: int = 0
    killed_while_recovering: int = 0
    # Path of each job that was acknowledged, and what it was given.
    acknowledged: dict[str, int] = field(default_factory=dict)
    # Those of them that came under a key, and the batches.
    keyed: dict[str, int] = field(default_factory=dict)
    batches: list[str] = field(default_factory=list)
    # Ids that were given to two jobs, and jobs that were begun anew when they came again under their key.
    twice: list[str] = field(default_factory=list)
    # Those that are not there any more, or whose result is not what they were given.
    lost: list[str] = field(default_factory=list)
    stuck: list[str] = field(default_factory=list)
    refusals: list[int] = field(default_factory=list)
    seconds_to_ready: list[float] = field(default_factory=list)


class Victim:
    """A server in a process group of its own."""

    def __init__(self, folder: Path, port: int, sync: str) -> None:
        settings = {
            "server__port": port,
            "tasks": ["examples.tasks"],
            "journal__path": str(folder / "journal.db"),
            "journal__sync": sync,
            "retention__jobs": 1_000_000,
            "retention__seconds": 86_400,
            "queue__size": 100_000,
        }
        self.port = port
        self.begun = time.monotonic()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "headway", "serve"],
            env=environment(settings),
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        )

    def kill(self) -> None:
        """Kill the whole group."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def wait_until_ready(self) -> float:
        """Wait for /readyz and return how long it took from the start of the process."""
        while time.monotonic() - self.begun < PATIENCE_S:
            assert self.process.poll() is None, "the server does not start again"
            try:
                with Wire(self.port) as wire:
                    if wire.ask(request("GET", "/readyz")).status == 200:
                        return time.monotonic() - self.begun
            except OSError:
                pass
            time.sleep(0.005)
        raise AssertionError("the server does not become ready")


class Client(threading.Thread):
    """Submits as fast as it is answered, until the server is gone."""

    numbers = iter(range(1, 1 << 62))

    def __init__(self, port: int, payload: str = "") -> None:
        super().__init__(daemon=True)
        self.port = port
        # What is made of a number before it is sent; empty for the number as it is.
        self.payload = payload
        self.acknowledged: list[tuple[str, int]] = []
        # Codes other than 202.
        self.refusals: list[int] = []

    def run(self) -> None:
        """Submit."""
        try:
            with Wire(self.port) as wire:
                while True:
                    self.submit(wire, next(self.numbers))
        except (OSError, AssertionError):
            # The server was killed, perhaps in the middle of an answer.
            return

    def submit(self, wire: Wire, number: int) -> None:
        """Submit a job."""
        answer = wire.ask(post(submission("echo", self.payload % number if self.payload else number)))
        if self.is_taken(answer):
            self.acknowledged.append((answer["location"], number))

    def is_taken(self, answer: Answer) -> bool:
        """Whether a submission was acknowledged."""
        if answer.status != 202:
            self.refusals.append(answer.status)
        return answer.status == 202


class MixedClient(Client):
    """Submits a job, a job under a key and a batch, in turn."""

    def __init__(self, port: int) -> None:
        super().__init__(port)
        self.keyed: list[tuple[str, int]] = []
        self.batches: list[str] = []
        self._kinds = itertools.cycle(("job", "keyed", "batch"))

    def submit(self, wire: Wire, number: int) -> None:
        """Submit what is next."""
        kind = next(self._kinds)
        if kind == "job":
            super().submit(wire, number)
        elif kind == "keyed":
            answer = wire.ask(keyed(number))
            if self.is_taken(answer):
                self.keyed.append((answer["location"], number))
                self.acknowledged.append(self.keyed[-1])
        else:
            numbers = [number, *itertools.islice(self.numbers, BATCH - 1)]
            jobs = b",".join(submission("echo", one) for one in numbers)
            answer = wire.ask(request("POST", "/batches", JSON, body=b"[%b]" % jobs))
            if self.is_taken(answer):
                self.batches.append(answer["location"])
                paths = [f"/jobs/{job_id}" for job_id in answer.json["jobs"]]
                self.acknowledged += zip(paths, numbers, strict=True)


def keyed(number: int) -> bytes:
    """Return the submission of a number under a key made of it."""
    return post(submission("echo", number), f"Idempotency-Key: k-{number}")


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def kill_loop(folder: Path, rounds: int, sync: str = "full") -> Counts:
    """Run the loop in ``folder``; the last start is left to finish all jobs, and all is counted."""
    counts, port = Counts(), free_port()
    for _ in range(rounds):
        victim = Victim(folder, port, sync)
        try:
            if random.random() < 0.25:
                # In mid-recovery, or before, or after.
                time.sleep(random.uniform(0.0, 0.6))
                counts.killed_while_recovering += 1
                continue
            counts.seconds_to_ready.append(victim.wait_until_ready())
            clients = [MixedClient(port) for _ in range(CLIENTS)]
            for client in clients:
                client.start()
            time.sleep(random.uniform(0.05, 0.6))
        finally:
            victim.kill()
            counts.rounds += 1
        for client in clients:
            client.join(PATIENCE_S)
            counts.refusals += client.refusals
            counts.keyed |= dict(client.keyed)
            counts.batches += client.batches
            for path, number in client.acknowledged:
                if path in counts.acknowledged:
                    counts.twice.append(path)
                counts.acknowledged[path] = number
    victim = Victim(folder, port, sync)
    try:
        counts.seconds_to_ready.append(victim.wait_until_ready())
        _look(port, counts)
    finally:
        victim.kill()
    return counts


def _look(port: int, counts: Counts) -> None:
    """Ask for every job that was acknowledged, until all are over."""
    deadline = time.monotonic() + PATIENCE_S + len(counts.acknowledged) / 1000
    with Wire(port) as wire:
        while True:
            said = wire.ask(request("GET", "/stats")).json["jobs"]
            if not said["queued"] + said["running"] + said["scheduled"] + said["retrying"]:
                break
            assert time.monotonic() < deadline, said
            time.sleep(0.02)
        for path, answer in _ask(wire, list(counts.acknowledged)):
            if answer.status == 202:
                counts.stuck.append(path)
            elif answer.status != 200 or answer.json != counts.acknowledged[path]:
                counts.lost.append(path)
        for path, answer in _ask(wire, counts.batches, "{}"):
            if answer.status != 200 or answer.json["succeeded"] != BATCH:
                counts.lost.append(path)
        for path, number in counts.keyed.items():
            answer = wire.ask(keyed(number))
            if (answer["location"], answer.headers.get("idempotency-replayed")) != (path, "true"):
                counts.twice.append(path)


def _ask(wire: Wire, paths: list[str], target: str = "{}/result") -> Iterator[tuple[str, Answer]]:
    for at in range(0, len(paths), PIPELINED):
        some = paths[at : at + PIPELINED]
        wire.send(b"".join(request("GET", target.format(path)) for path in some))
        for path in some:
            yield path, wire.read("GET")
