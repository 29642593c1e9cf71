"""The writer of the journal is killed at random moments under load: the server goes on, and what it said is so."""

from __future__ import annotations

import itertools
import os
import random
import signal
import threading
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

import pytest

from tests.end_to_end.process import TASKS, Server, children, wait_until
from tests.protocol.wire import Answer, Wire, post, request, submission

pytestmark = pytest.mark.long

KILLS = int(os.environ.get("ROUNDS", "3"))
CLIENTS = 6
LATER_S = 100_000


class Client(threading.Thread):
    """Submits jobs, some under a key, some to be cancelled at once, until it is told to stop."""

    numbers = itertools.count(1)

    def __init__(self, port: int, notes: Path) -> None:
        super().__init__(daemon=True)
        self.port = port
        self.notes = notes
        self.stop = False
        # Path of each job that was acknowledged to the number that it was given.
        self.taken: dict[str, int] = {}
        # Path of each job that was to be cancelled to the code of the answer.
        self.cancelled: dict[str, int] = {}
        self.codes: Counter[int] = Counter()
        self.longest_s = 0.0

    def run(self) -> None:
        """Submit."""
        with Wire(self.port) as wire:
            while not self.stop:
                number = next(self.numbers)
                if number % 3:
                    self.submit(wire, number)
                else:
                    self.cancel(wire, number)

    def submit(self, wire: Wire, number: int) -> None:
        """Submit a job that notes its number, under a key or not."""
        line = (f"Idempotency-Key: k-{number}",) if number % 2 else ()
        answer = self.ask(wire, post(submission("note", {"path": str(self.notes), "number": number}), *line))
        if answer.status == 202:
            self.taken[answer["location"]] = number

    def cancel(self, wire: Wire, number: int) -> None:
        """Submit a job for later, and cancel it."""
        answer = self.ask(wire, post(submission("note", {"path": str(self.notes), "number": number}, delay=LATER_S)))
        if answer.status == 202:
            self.cancelled[answer["location"]] = self.ask(wire, request("DELETE", answer["location"])).status

    def ask(self, wire: Wire, data: bytes) -> Answer:
        """Ask, and note what came and how long it took."""
        begun = time.monotonic()
        answer = wire.ask(data)
        self.longest_s = max(self.longest_s, time.monotonic() - begun)
        self.codes[answer.status] += 1
        return answer


def serve(folder: Path) -> Server:
    settings: dict[str, object] = {
        "server__port": 0,
        "tasks": TASKS,
        "journal__path": str(folder / "journal.db"),
        "queue__size": 1_000_000,
        "retention__jobs": 1_000_000,
        "drain_linger": 0,
    }
    server = Server(folder, settings)
    server.wait_until_serving()
    return server


def test_no_kill_of_the_writer_loses_a_job_or_does_it_twice(tmp_path: Path) -> None:
    server = serve(tmp_path)
    try:
        clients = [Client(server.port, tmp_path / "notes") for _ in range(CLIENTS)]
        for client in clients:
            client.start()
        for _ in range(KILLS):
            time.sleep(random.uniform(0.0, 0.8))
            for writer in children(server):
                with suppress(ProcessLookupError):
                    os.kill(writer, signal.SIGKILL)
            # Reads go on.
            begun = time.monotonic()
            assert server.get("/healthz").status == 200
            for path in list(clients[0].taken)[:3]:
                assert server.head(path).status in (200, 202)
            assert time.monotonic() - begun < 2
            # Now and then the next one is killed as well before it has done anything.
            if random.random() < 0.7:
                wait_for_answers(clients)
        for client in clients:
            client.stop = True
        for client in clients:
            client.join()
        assert server.process.poll() is None
        look(server, clients, tmp_path / "notes")
        server.signal(signal.SIGTERM)
        assert server.wait() == 0
        server.kill()
        server = serve(tmp_path)
        look(server, clients, tmp_path / "notes")
    finally:
        server.kill()


def wait_for_answers(clients: list[Client]) -> None:
    def answers() -> int:
        return sum(sum(client.codes.values()) for client in clients)

    before = answers()
    wait_until(answers, lambda now: now > before + CLIENTS)


def look(server: Server, clients: list[Client], notes: Path) -> None:
    """See that all is as clients were told, and nothing else."""
    taken = {path: number for client in clients for path, number in client.taken.items()}
    cancelled = {path: code for client in clients for path, code in client.cancelled.items()}
    codes = sum((client.codes for client in clients), Counter[int]())
    print(f"{codes}; {len(taken)} jobs, {len(cancelled)} cancelled; longest {max(c.longest_s for c in clients):.2f} s")
    assert set(codes) <= {202, 204}
    assert len(taken) > 10 * KILLS
    server.clear()
    with server.wire() as wire:
        for path, number in taken.items():
            server.wait_for(path, "succeeded")
            assert wire.ask(request("GET", f"{path}/result")).json == number
        for path, code in cancelled.items():
            assert (code, wire.ask(request("HEAD", path))["job-state"]) == (204, "cancelled")
    done = Counter(map(int, notes.read_text().split()))
    assert done == Counter(taken.values())
    jobs = server.stats()["jobs"]
    assert (jobs["succeeded"], jobs["cancelled"]) == (len(taken), len(cancelled))
