"""The kill loop: submit from many connections, kill the server or its writer at a random moment, and go on.

From start to start ``retention.jobs``, ``queue.size`` and ``workers`` change, within what keeps everything. What was
acknowledged is counted by crash_count. Used by test_crash.py; ``make crash ROUNDS=100`` runs the long one,
``make crash WHAT=writer`` kills the writer, and ``make crash WHAT=engine`` the engine behind gateways.
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
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.end_to_end.crash_tasks import EFFECTS, LIFE
from tests.end_to_end.process import children_of, environment, wait_until
from tests.protocol.wire import PATIENCE_S, Answer, Wire, post, request, submission

CLIENTS = 8
# How jobs are to end.
KINDS = {"succeeded", "failed", "cancelled", "scheduled"}
# Jobs of a batch.
BATCH = 3
JSON = "Content-Type: application/json"
# So many may wait for a time that does not come: in a life with the smallest queue they fill it.
DELAYED_MOST, DELAY_S = 450, 86_400
# Of each life.
KEPT_JOBS = (400_000, 400_001, 700_000, 1_000_000)
QUEUE_SIZES = (400, 2000, 10_000, 100_000)
WORKERS = (1, 7, 32, 33, 100)


@dataclass
class Acknowledged:
    """A job that was acknowledged: what it was given, and how it ends."""

    path: str
    number: int
    # succeeded, failed, cancelled or scheduled.
    state: str = "succeeded"
    key: str = ""
    # Its cancellation was asked for and not answered: it may also be as it was.
    perhaps: bool = False
    # The life in which it was seen to be over; 0 for in none.
    seen_in: int = 0
    # When that was, where it matters; 0 for never.
    seen_at: float = 0.0
    # It ran when the server died so often that it was given up (docs/protocol.md).
    crashed: bool = False


@dataclass
class Counts:
    """What came of it."""

    rounds: int = 0
    killed_while_recovering: int = 0
    # By path; and the batches with their jobs, none where these were not told.
    jobs: dict[str, Acknowledged] = field(default_factory=dict)
    batches: dict[str, list[str]] = field(default_factory=dict)
    # Ids that were given to two jobs, and jobs that were begun anew when they came again under their key.
    twice: list[str] = field(default_factory=list)
    # What is not told any more, or wrongly: by statuses, results, keys, listed and batches.
    forgotten: dict[str, list[str]] = field(default_factory=dict)
    # Jobs that never ran; that ran twice in one life; that ran again after they were seen to be over.
    no_effect: list[int] = field(default_factory=list)
    effect_twice: list[int] = field(default_factory=list)
    # Jobs that ran in more than one life, as those may that ran at a kill.
    ran_again: int = 0
    stuck: list[str] = field(default_factory=list)
    # Codes other than 202, and how often.
    refusals: dict[int, int] = field(default_factory=dict)
    seconds_to_ready: list[float] = field(default_factory=list)
    # From the kill of a writer, or of an engine, to the next job that is acknowledged.
    seconds_to_heal: list[float] = field(default_factory=list)
    # When the engine was killed in the midst of a start, of time.monotonic in ns: its lives.
    killed_at: list[int] = field(default_factory=list)

    @property
    def lost(self) -> int:
        """How many things that a client relies on are gone."""
        return sum(map(len, self.forgotten.values()))

    def forget(self, what: str, path: str) -> None:
        """Note that ``what`` of a job is gone."""
        self.forgotten.setdefault(what, []).append(path)

    def gather(self, clients: list[Client]) -> None:
        """Take over what clients were told."""
        for client in clients:
            client.join(PATIENCE_S)
            for job in client.acknowledged:
                if job.path in self.jobs:
                    self.twice.append(job.path)
                self.jobs[job.path] = job
            self.batches |= client.batches
            for status in client.refusals:
                self.refusals[status] = self.refusals.get(status, 0) + 1


class Victim:
    """A server in a process group of its own; ``life`` is the number of its start."""

    def __init__(self, folder: Path, port: int, sync: str, life: int, **settings: object) -> None:
        fixed = {
            "server__port": port,
            "tasks": ["tests.end_to_end.crash_tasks"],
            "journal__path": str(folder / "journal.db"),
            "journal__sync": sync,
            "retention__jobs": KEPT_JOBS[-1],
            "retention__seconds": 86_400,
            "idempotency__keys": 1_000_000,
            "queue__size": QUEUE_SIZES[-1],
        }
        marked = {EFFECTS: str(folder / "effects"), LIFE: str(life)}
        self.port = port
        self.begun = time.monotonic()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "headway", "serve"],
            env=environment(fixed | settings) | marked,
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

    def writer(self) -> int:
        """The process that writes the journal; 0 where there is none just now."""
        return self._child("cmdline", b"journal.writer")

    def engine(self) -> int:
        """The engine behind gateways; 0 where there is none just now."""
        return self._child("environ", b'"what":"engine"')

    def _child(self, file: str, said: bytes) -> int:
        for pid in children_of(self.process.pid):
            try:
                if said in Path(f"/proc/{pid}/{file}").read_bytes():
                    return pid
            except OSError:
                continue
        return 0


class Client(threading.Thread):
    """Submits as fast as it is answered, until the server is gone or ``stop`` is set."""

    numbers = iter(range(1, 1 << 62))

    def __init__(self, port: int, payload: str = "", task: str = "echo") -> None:
        super().__init__(daemon=True)
        self.port = port
        self.task = task
        # What is made of a number before it is sent; empty for the number as it is.
        self.payload = payload
        self.acknowledged: list[Acknowledged] = []
        self.batches: dict[str, list[str]] = {}
        # Codes other than 202.
        self.refusals: list[int] = []
        self.stop = threading.Event()

    def run(self) -> None:
        """Submit."""
        try:
            with Wire(self.port) as wire:
                while not self.stop.is_set():
                    self.submit(wire, next(self.numbers))
        except (OSError, AssertionError):
            # The server was killed, perhaps in the middle of an answer.
            return

    def submit(self, wire: Wire, number: int) -> None:
        """Submit a job."""
        self.take(wire.ask(post(submission(self.task, self.payload % number if self.payload else number))), number)

    def take(self, answer: Answer, number: int, state: str = "succeeded", key: str = "") -> Acknowledged | None:
        """Note what a submission was answered; return the job where it was acknowledged."""
        if answer.status != 202:
            self.refusals.append(answer.status)
            # As one is told to, in short.
            self.stop.wait(0.005)
            return None
        self.acknowledged.append(Acknowledged(answer["location"], number, state, key))
        return self.acknowledged[-1]


class MixedClient(Client):
    """Submits jobs of all kinds in turn, and looks at what has become of some."""

    # Of those that wait for good, over all lives.
    delayed = 0

    def __init__(self, port: int, life: int) -> None:
        super().__init__(port, task="effect")
        self.life = life
        kinds = (self.one, self.keyed, self.batch, self.slow, self.look, self.failing, self.look, self.cancelled)
        self._kinds = itertools.cycle((*kinds, self.one, self.delay, self.look))

    def submit(self, wire: Wire, number: int) -> None:
        """Do what is next."""
        kind: Callable[[Wire, int], None] = next(self._kinds)
        kind(wire, number)

    def one(self, wire: Wire, number: int) -> None:
        """Submit a job."""
        self.take(wire.ask(post(submission("effect", number))), number)

    def slow(self, wire: Wire, number: int) -> None:
        """Submit one that takes a while."""
        self.take(wire.ask(post(submission("slow_effect", number))), number)

    def keyed(self, wire: Wire, number: int) -> None:
        """Submit one under a key."""
        self.take(wire.ask(keyed(number)), number, key=f"k-{number}")

    def failing(self, wire: Wire, number: int) -> None:
        """Submit one that fails."""
        self.take(wire.ask(post(submission("failing_effect", number))), number, "failed")

    def delay(self, wire: Wire, number: int) -> None:
        """Submit one that waits for good, until there are enough of them."""
        if MixedClient.delayed < DELAYED_MOST and self.take(
            wire.ask(post(submission("effect", number, delay=DELAY_S))), number, "scheduled"
        ):
            MixedClient.delayed += 1

    def cancelled(self, wire: Wire, number: int) -> None:
        """Submit one and cancel it."""
        job = self.take(wire.ask(post(submission("effect", number, delay=DELAY_S))), number, "scheduled")
        if job is not None:
            job.state, job.perhaps = "cancelled", True
            answer = wire.ask(request("DELETE", job.path))
            job.perhaps = answer.status != 204

    def batch(self, wire: Wire, number: int) -> None:
        """Submit a batch."""
        numbers = [number, *itertools.islice(self.numbers, BATCH - 1)]
        jobs = b",".join(submission("effect", one) for one in numbers)
        answer = wire.ask(request("POST", "/batches", JSON, body=b"[%b]" % jobs))
        if answer.status != 202:
            self.refusals.append(answer.status)
            return
        if not answer.body:
            # Its engine was killed in between: the jobs are told by GET.
            self.batches[answer["location"]] = []
            return
        paths = [f"/jobs/{job_id}" for job_id in answer.json["jobs"]]
        self.batches[answer["location"]] = paths
        self.acknowledged += [Acknowledged(path, one) for path, one in zip(paths, numbers, strict=True)]

    def look(self, wire: Wire, _: int) -> None:
        """Ask for some of what was submitted a while ago."""
        for job in self.acknowledged[-20:-10:3]:
            said = wire.ask(request("HEAD", job.path)).headers.get("job-state")
            if said in ("succeeded", "failed") and not job.seen_in:
                job.seen_in, job.seen_at = self.life, time.monotonic()


def keyed(number: int) -> bytes:
    """Return the submission of a number under a key made of it."""
    return post(submission("effect", number), f"Idempotency-Key: k-{number}")


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def kill_loop(folder: Path, rounds: int, look: Callable[[Path, int, Counts], None], sync: str = "full") -> Counts:
    """Kill the server so often; the last start is left to finish all jobs, and ``look`` counts."""
    counts, port = Counts(), free_port()
    MixedClient.delayed = 0
    for life in range(1, rounds + 1):
        victim = Victim(folder, port, sync, life, **some_settings())
        clients: list[Client] = []
        try:
            if life > 1 and random.random() < 0.25:
                # In mid-recovery, or before, or after.
                time.sleep(random.uniform(0.0, 0.6))
                counts.killed_while_recovering += 1
                continue
            counts.seconds_to_ready.append(victim.wait_until_ready())
            clients = [MixedClient(port, life) for _ in range(CLIENTS)]
            for client in clients:
                client.start()
            time.sleep(random.uniform(0.05, 0.6))
            if life == 1:
                # So that there are some of each kind, also where the machine is slow.
                wait_until(lambda: states(clients), lambda found: found >= KINDS)  # noqa: B023
        finally:
            victim.kill()
            counts.rounds += 1
            counts.gather(clients)
    victim = Victim(folder, port, sync, rounds + 1, **some_settings())
    try:
        counts.seconds_to_ready.append(victim.wait_until_ready())
        look(folder, port, counts)
    finally:
        victim.kill()
    return counts


def states(clients: list[Client]) -> set[str]:
    """Return how the jobs that were acknowledged are to end."""
    return {job.state for client in clients for job in list(client.acknowledged)}


def some_settings() -> dict[str, Any]:
    """Return settings of a life, under any of which all is kept."""
    return {
        "retention__jobs": random.choice(KEPT_JOBS),
        "queue__size": random.choice(QUEUE_SIZES),
        "workers": random.choice(WORKERS),
    }


def kill_writers(folder: Path, rounds: int, look: Callable[[Path, int, Counts], None]) -> Counts:
    """Kill the writer of one server so often, each time once the one before has healed, and count as below."""
    counts = Counts()

    def kill(victim: Victim) -> None:
        time.sleep(random.uniform(0.05, 0.4))
        os.kill(wait_for(victim, victim.writer), signal.SIGKILL)
        counts.seconds_to_heal.append(wait_until_healed(victim))

    return kill_parts(folder, rounds, look, counts, kill)


def kill_engines(folder: Path, rounds: int, look: Callable[[Path, int, Counts], None]) -> Counts:
    """Kill the engine behind the gateways of one server so often, some while they start again, and count as below."""
    counts = Counts()

    def kill(victim: Victim) -> None:
        time.sleep(random.uniform(0.05, 1.0))
        os.kill(wait_for(victim, victim.engine), signal.SIGKILL)
        counts.killed_at.append(time.monotonic_ns())
        if random.random() < 0.75:
            counts.seconds_to_heal.append(wait_until_healed(victim))

    return kill_parts(folder, rounds, look, counts, kill, server__gateways=2)


def kill_parts(
    folder: Path,
    rounds: int,
    look: Callable[[Path, int, Counts], None],
    counts: Counts,
    kill: Callable[[Victim], None],
    **settings: object,
) -> Counts:
    """Have ``kill`` called so often, and count; then end the server, start it again alone, and count once more."""
    port = free_port()
    MixedClient.delayed = 0
    victim = Victim(folder, port, "full", 1, **settings)
    try:
        counts.seconds_to_ready.append(victim.wait_until_ready())
        clients: list[Client] = [MixedClient(port, 1) for _ in range(CLIENTS)]
        for client in clients:
            client.start()
        for _ in range(rounds):
            kill(victim)
            counts.rounds += 1
        wait_until_healed(victim)
        for client in clients:
            client.stop.set()
        counts.gather(clients)
        look(folder, port, counts)
    finally:
        if victim.engine():
            # Its parts have groups of their own, and end with it.
            victim.process.terminate()
            assert victim.process.wait(PATIENCE_S) == 0
        else:
            victim.kill()
    victim = Victim(folder, port, "full", 2)
    try:
        counts.seconds_to_ready.append(victim.wait_until_ready())
        look(folder, port, counts)
    finally:
        victim.kill()
    return counts


def wait_for(victim: Victim, found: Callable[[], int]) -> int:
    """Return a process of the server, once there is one."""
    deadline = time.monotonic() + PATIENCE_S
    while not (pid := found()):
        assert victim.process.poll() is None, "the server has ended with it"
        assert time.monotonic() < deadline, "it has not come back"
        time.sleep(0.005)
    return pid


def wait_until_healed(victim: Victim) -> float:
    """Wait until a job is acknowledged again, and return how long that took."""
    begun = time.monotonic()
    while time.monotonic() - begun < PATIENCE_S:
        assert victim.process.poll() is None, "the server has ended with what was killed"
        with Wire(victim.port) as wire:
            status = wire.ask(request("GET", "/readyz")).status
            if status == 200 and wire.ask(request("PUT", f"/jobs/healed-{begun}", JSON, body=HEALED)).status in (
                200,
                202,
            ):
                return time.monotonic() - begun
        time.sleep(0.01)
    raise AssertionError("no job is taken any more")


HEALED = submission("effect", 0)


def each(paths: list[str], wire: Wire, target: str = "{}", method: str = "GET") -> Iterator[tuple[str, Answer]]:
    """Ask for each of ``paths``, PIPELINED at a time."""
    for at in range(0, len(paths), PIPELINED):
        some = paths[at : at + PIPELINED]
        wire.send(b"".join(request(method, target.format(path)) for path in some))
        for path in some:
            yield path, wire.read(method)


# How many are sent before their answers are read.
PIPELINED = 100
