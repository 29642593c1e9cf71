"""Nodes and their store are killed and parted at random moments: nothing that was acknowledged is lost.

``make crash-cluster ROUNDS=30`` does so often; WHAT=kill_node does nothing else.
"""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from statistics import median

import pytest

from tests.end_to_end.crash import KINDS, Acknowledged
from tests.end_to_end.crash_cluster import ALL, NO_LIFE, RECLAIMED_S, ClusterCounts, Fault, Trial, kill_cluster

ROUNDS = int(os.environ.get("ROUNDS", "0"))
WHAT = os.environ.get("WHAT", "").split()


def told(counts: ClusterCounts) -> str:
    """What ``make crash-cluster`` prints."""
    jobs = counts.jobs.values()
    done = ", ".join(f"{number} times {name}" for name, number in counts.done.items())
    kinds = Counter(job.state for job in jobs)
    refused = ", ".join(f"{number} times {status}" for status, number in counts.refusals.items()) or "nobody refused"
    reclaimed = counts.seconds_to_reclaim
    alone = f"{len(counts.overlapping)} of {len(counts.lone)} of the task that runs once at a time were not alone"
    return (
        f"{done}; {len(jobs)} jobs acknowledged ({dict(kinds)}), {sum(bool(job.key) for job in jobs)} by key, "
        f"{len(counts.batches)} batches; {refused}; {counts.lost} forgotten, {len(counts.stuck)} stuck, "
        f"{len(counts.twice)} ids given twice; {alone}; {len(counts.no_effect)} without their effect, "
        f"{counts.ran_again} began again after a death, {len(counts.wrongly_again)} without one, "
        f"{sum(job.crashed for job in jobs)} given up"
        + (f"; reclaimed after {median(reclaimed):.1f} s (at most {max(reclaimed):.1f})" if reclaimed else "")
    )


def check(counts: ClusterCounts) -> None:
    """See that nothing is missing."""
    print(told(counts))
    assert {job.state for job in counts.jobs.values()} == KINDS
    assert any(job.key for job in counts.jobs.values())
    assert counts.batches
    first = {what: paths[:3] for what, paths in counts.forgotten.items()}
    assert (first, counts.stuck[:3], counts.twice[:3]) == ({}, [], [])
    assert (counts.wrong_answers[:3], counts.overlapping[:3]) == ([], [])
    assert counts.lone
    assert (counts.no_effect[:3], counts.wrongly_again[:3]) == ([], [])
    assert max(counts.seconds_to_reclaim, default=0.0) < RECLAIMED_S
    assert set(counts.refusals) <= {429, 503}


@pytest.mark.long
@pytest.mark.skipif(bool(ROUNDS), reason="make crash-cluster asks for the other")
def test_nothing_acknowledged_is_lost_when_nodes_and_their_store_are_killed_and_parted(tmp_path: Path) -> None:
    check(kill_cluster(tmp_path, 5))


@pytest.mark.long
@pytest.mark.skipif(bool(ROUNDS), reason="make crash-cluster asks for the other")
def test_a_node_that_is_parted_from_the_store_for_half_a_minute_loses_and_spoils_nothing(tmp_path: Path) -> None:
    counts = kill_cluster(tmp_path, 1, (Trial.part_half_a_minute,))
    check(counts)
    # Those that it held ran elsewhere, or it would be no test of that.
    assert counts.ran_again


@pytest.mark.skipif(not ROUNDS, reason="make crash-cluster asks for it")
def test_nothing_is_lost_in_many_rounds(tmp_path: Path) -> None:
    check(kill_cluster(tmp_path, ROUNDS, tuple(act for act in ALL if not WHAT or act.__name__ in WHAT)))


def counted(effects: str, *faults: Fault, seen_at: float = 0.0, state: str = "succeeded") -> ClusterCounts:
    """What is found of one job, number 7, that left these lines behind."""
    counts = ClusterCounts(faults=list(faults))
    counts.jobs["/jobs/a"] = Acknowledged("/jobs/a", 7, state, seen_at=seen_at)
    counts.compare(effects)
    return counts


ONCE = "7 1 5000000000\n"
TWICE = f"{ONCE}7 2 16000000000\n"


def test_a_job_may_begin_again_after_the_death_of_its_node() -> None:
    counts = counted(TWICE, Fault(1, 5.5, 5.6, "killed"))
    assert (counts.wrongly_again, counts.ran_again, counts.seconds_to_reclaim) == ([], 1, [10.5])
    assert counted(TWICE, Fault(1, 5.5, 17.0, "parted")).wrongly_again == []
    store_away = Fault(NO_LIFE, 7.0, 8.0, "parted")
    assert counted(TWICE, Fault(1, 5.5, 5.6, "killed"), store_away).seconds_to_reclaim == []


@pytest.mark.parametrize(
    "fault",
    [
        # Of another node, before, after, and too short.
        Fault(2, 5.5, 5.6, "killed"),
        Fault(1, 4.0, 4.1, "killed"),
        Fault(1, 17.0, 17.1, "killed"),
        Fault(1, 5.5, 9.5, "parted"),
    ],
)
def test_a_job_that_began_again_for_no_reason_is_found(fault: Fault) -> None:
    assert len(counted(TWICE, fault).wrongly_again) == 1


def test_a_job_that_began_after_it_was_seen_to_be_over_is_found() -> None:
    killed = Fault(1, 5.5, 5.6, "killed")
    assert len(counted(TWICE, killed, seen_at=5.3).wrongly_again) == 1
    assert counted(ONCE, seen_at=5.3).wrongly_again == []


def test_a_job_without_its_effect_is_found() -> None:
    assert counted("").no_effect == [7]
    assert counted(ONCE, state="cancelled").no_effect == [7]
    assert counted("", state="scheduled").no_effect == []


@pytest.mark.parametrize(
    ("second", "faults", "found"),
    [
        # After it, in it, and in it where the first ended with its node.
        (5.3, [], 0),
        (5.1, [], 1),
        (5.1, [Fault(1, 5.05, 5.06, "killed")], 0),
        (5.1, [Fault(1, 5.05, 15.06, "stopped")], 0),
        (5.1, [Fault(1, 5.05, 15.06, "parted")], 1),
    ],
)
def test_two_at_once_are_found(second: float, faults: list[Fault], found: int) -> None:
    counts = ClusterCounts(faults=faults, lone={7, 8})
    ends = [] if faults and faults[0].what == "killed" else ["-7 1 5200000000"]
    counts.compare("\n".join(["7 1 5000000000", *ends, f"8 2 {second * 1e9:.0f}", "-8 2 6000000000"]))
    assert len(counts.overlapping) == found
