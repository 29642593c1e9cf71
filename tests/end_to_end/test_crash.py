"""SIGKILL at random moments: nothing that was acknowledged is lost.

``make crash ROUNDS=100`` kills the server so often, ``make crash WHAT=writer`` the process that writes its journal,
and ``make crash WHAT=engine`` the engine behind gateways.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

import pytest

from tests.core.journal.watched_writer import early
from tests.end_to_end.crash import (
    CLIENTS,
    KINDS,
    Acknowledged,
    Client,
    Counts,
    free_port,
    kill_engines,
    kill_loop,
    kill_writers,
)
from tests.end_to_end.crash_count import look
from tests.end_to_end.process import environment, wait_until
from tests.protocol.wire import PATIENCE_S, Answer, Wire

pytestmark = pytest.mark.long

ROUNDS = int(os.environ.get("ROUNDS", "3"))
# The one thing that ``make crash`` kills. Without it each is killed a few times.
WHAT = os.environ.get("WHAT", "")


def told(counts: Counts) -> str:
    """What ``make crash`` prints."""
    jobs, ready, healed = counts.jobs.values(), counts.seconds_to_ready, counts.seconds_to_heal
    refused = ", ".join(f"{number} times {status}" for status, number in counts.refusals.items()) or "nobody refused"
    forgotten = {what: len(paths) for what, paths in counts.forgotten.items()} or "nothing forgotten"
    return (
        f"{counts.rounds} kills, {counts.killed_while_recovering} of them at the start; {len(jobs)} jobs acknowledged, "
        f"{sum(bool(job.key) for job in jobs)} by key, {len(counts.batches)} batches; {refused}; {forgotten}, "
        f"{len(counts.stuck)} stuck, {len(counts.twice)} ids given twice; {len(counts.no_effect)} jobs without their "
        f"effect, {counts.ran_again} ran again after a kill, {len(counts.effect_twice)} without one, "
        f"{sum(job.crashed for job in jobs)} failed after three; ready after "
        f"{median(ready):.2f} s (at most {max(ready):.2f})"
        + (f"; healed after {median(healed):.2f} s (at most {max(healed):.2f})" if healed else "")
    )


def check(counts: Counts) -> None:
    """See that nothing is missing."""
    print(told(counts))
    assert {job.state for job in counts.jobs.values()} == KINDS
    assert any(job.key for job in counts.jobs.values())
    assert counts.batches
    first = {what: paths[:3] for what, paths in counts.forgotten.items()}
    assert (first, counts.stuck[:3], counts.twice[:3]) == ({}, [], [])
    assert (counts.no_effect[:3], counts.effect_twice[:3]) == ([], [])


def kills(what: str) -> pytest.MarkDecorator:
    """Skip a test if something else is asked for."""
    return pytest.mark.skipif(WHAT not in ("", what), reason=f"WHAT={WHAT} asks for another")


@kills("server")
def test_nothing_acknowledged_is_lost_when_the_server_is_killed(tmp_path: Path) -> None:
    counts = kill_loop(tmp_path, ROUNDS, look)
    check(counts)
    assert set(counts.refusals) <= {429}


@kills("writer")
def test_nothing_acknowledged_is_lost_when_the_writer_is_killed_and_the_server_goes_on(tmp_path: Path) -> None:
    counts = kill_writers(tmp_path, ROUNDS, look)
    check(counts)
    assert counts.ran_again == 0
    assert set(counts.refusals) <= {429, 503}


@kills("engine")
def test_nothing_acknowledged_is_lost_when_the_engine_behind_gateways_is_killed(tmp_path: Path) -> None:
    counts = kill_engines(tmp_path, ROUNDS, look)
    check(counts)
    # 503: nobody knows whether it was accepted.
    assert set(counts.refusals) <= {429, 503}


class Witness(Client):
    """Says ``answered N`` when job N is acknowledged, into the file of the server and its writer."""

    def __init__(self, port: int, said_fd: int) -> None:
        super().__init__(port, "<%d>")
        self.said_fd = said_fd

    def take(self, answer: Answer, number: int, state: str = "succeeded", key: str = "") -> Acknowledged | None:
        """Say that the answer has come."""
        job = super().take(answer, number, state, key)
        if job is not None:
            os.write(self.said_fd, b"answered %d\n" % number)
        return job


@kills("writer")
def test_every_acknowledgement_leaves_after_its_own_sync(tmp_path: Path) -> None:
    """A kill cannot see a missing fsync: here the file system is watched.

    A sync takes longer than an answer to a client, so an answer that leaves before its sync comes before it.
    """
    port = free_port()
    program = [sys.executable, str(Path(__file__).parent / "watched_server.py"), str(tmp_path / "j"), str(port)]
    # A file, into which the writer and the clients write in the order in which things happen.
    with (tmp_path / "said").open("wb") as said:
        server = subprocess.Popen(program, env=environment({}) | {"WATCH_SLEEP": "0.005"}, stdout=said)
        try:
            wait_until(lambda: is_up(port), bool)
            clients = [Witness(port, said.fileno()) for _ in range(CLIENTS)]
            for client in clients:
                client.start()
            time.sleep(1)
            server.terminate()
            assert server.wait(PATIENCE_S) == 0
        finally:
            server.kill()
        for client in clients:
            client.join(PATIENCE_S)
    acknowledged = sum(len(client.acknowledged) for client in clients)
    assert acknowledged > 20
    lines = [line for line in (tmp_path / "said").read_text().splitlines() if not line.startswith("{")]
    assert early(lines) == []
    assert sum(line.startswith("answered") for line in lines) == acknowledged
    assert int(next(line for line in lines if line.startswith("syncs")).split()[1]) > 10


def is_up(port: int) -> bool:
    try:
        Wire(port).socket.close()
    except OSError:
        return False
    return True
