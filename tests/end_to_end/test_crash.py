"""SIGKILL at random moments: nothing that was acknowledged is lost. ``make crash ROUNDS=100`` is the long one."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

from tests.core.journal.watched_writer import early
from tests.end_to_end.crash import CLIENTS, Client, free_port, kill_loop
from tests.end_to_end.process import environment, wait_until
from tests.protocol.wire import PATIENCE_S, Wire

ROUNDS = int(os.environ.get("ROUNDS", "5"))


def test_nothing_acknowledged_is_lost_when_the_server_is_killed(tmp_path: Path) -> None:
    counts = kill_loop(tmp_path, ROUNDS)
    ready = counts.seconds_to_ready
    print(
        f"{counts.rounds} kills, {counts.killed_while_recovering} of them at the start; "
        f"{len(counts.acknowledged)} jobs acknowledged, {len(counts.keyed)} by key, {len(counts.batches)} batches; "
        f"{len(counts.lost)} lost, {len(counts.stuck)} stuck, "
        f"{len(counts.twice)} ids given twice; ready after {median(ready):.2f} s (at most {max(ready):.2f})"
    )
    assert counts.acknowledged
    assert counts.keyed
    assert counts.batches
    assert (counts.lost, counts.stuck, counts.twice, counts.refusals) == ([], [], [], [])


def test_every_acknowledgement_leaves_after_its_own_sync(tmp_path: Path) -> None:
    """A kill cannot see a missing fsync: here the file system is watched."""
    port = free_port()
    program = [sys.executable, str(Path(__file__).parent / "watched_server.py"), str(tmp_path / "j"), str(port)]
    # A file, into which the server and its writer write in the order in which things happen.
    with (tmp_path / "said").open("wb") as said:
        server = subprocess.Popen(program, env=environment({}), stdout=said)
    try:
        wait_until(lambda: is_up(port), bool)
        clients = [Client(port, "<%d>") for _ in range(CLIENTS)]
        for client in clients:
            client.start()
        time.sleep(1)
        server.terminate()
        assert server.wait(PATIENCE_S) == 0
    finally:
        server.kill()
    acknowledged = sum(len(client.acknowledged) for client in clients)
    assert acknowledged > 20
    lines = [line for line in (tmp_path / "said").read_text().splitlines() if not line.startswith("{")]
    assert early(lines) == []
    assert sum(line.startswith("answered") for line in lines) >= acknowledged
    assert int(next(line for line in lines if line.startswith("syncs")).split()[1]) > 10


def is_up(port: int) -> bool:
    try:
        Wire(port).socket.close()
    except OSError:
        return False
    return True
