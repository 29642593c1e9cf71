"""SIGKILL at random moments: nothing that was acknowledged is lost. ``make crash ROUNDS=100`` is the long one."""

from __future__ import annotations

import os
from pathlib import Path
from statistics import median

from tests.end_to_end.crash import kill_loop

ROUNDS = int(os.environ.get("ROUNDS", "6"))


def test_nothing_acknowledged_is_lost_when_the_server_is_killed(tmp_path: Path) -> None:
    counts = kill_loop(tmp_path, ROUNDS)
    ready = counts.seconds_to_ready
    print(
        f"{counts.rounds} kills, {counts.killed_while_recovering} of them at the start; "
        f"{len(counts.acknowledged)} jobs acknowledged, {len(counts.lost)} lost, {len(counts.stuck)} stuck, "
        f"{len(counts.twice)} ids given twice; ready after {median(ready):.2f} s (at most {max(ready):.2f})"
    )
    assert counts.acknowledged
    assert (counts.lost, counts.stuck, counts.twice, counts.refusals) == ([], [], [], [])
