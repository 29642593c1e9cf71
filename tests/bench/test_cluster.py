"""The bench of Headway on Valkey beside other queues: its limits."""

from typing import Any

import pytest

from bench.cluster import soak, summary
from bench.cluster.soak import Look

TURN = {"submitters_us": 20.0, "workers_us": 60.0, "store_us": 30.0, "finished_per_s": 600.0, "told_per_s": 9000.0}
READ = {"heads": 50_000, "calls": 105, "calls_idle": 100}


def measured(**changes: float) -> tuple[dict[str, Any], dict[str, Any], list[Any]]:
    """What keeps all limits, but for the changes."""
    turns = {"headway": [TURN], "saq": [{"told_per_s": changes.get("best", 2500.0)}], "arq": [{"told_per_s": 200.0}]}
    nodes = {
        "noop on one": [TURN],
        "noop on two": [TURN | {"workers_us": changes.get("two_us", 65.0)}],
        "nap on one": [TURN],
        "nap on two": [TURN | {"finished_per_s": changes.get("two_per_s", 1190.0)}],
    }
    ended, waiting = (READ | {"calls": changes.get(name, 105)} for name in ("ended", "waiting"))
    return turns, nodes, [{"at_once": 1000, "of_ended": ended, "of_waiting": waiting}]


def test_what_holds_passes() -> None:
    assert summary.verdicts(*measured()) == (
        [
            "PASS: 3.60 times the jobs/s of the best other, saq; at least 3",
            "PASS: two nodes do 1.98 times the jobs/s of one; at least 1.9",
            "PASS: a job on two nodes takes 1.06 times the CPU of one; at most 1.15",
            "PASS: 50,000 HEADs of known jobs that have ended cost the store 5 calls",
            "PASS: 50,000 HEADs of known jobs that wait cost the store 5 calls, by the counts of each second",
        ],
        True,
    )


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"best": 3001.0}, "FAIL: 3.00 times the jobs/s of the best other, saq; at least 3"),
        ({"two_per_s": 1100.0}, "FAIL: two nodes do 1.83 times the jobs/s of one; at least 1.9"),
        ({"two_us": 80.0}, "FAIL: a job on two nodes takes 1.22 times the CPU of one; at most 1.15"),
        ({"ended": 121}, "FAIL: 50,000 HEADs of known jobs that have ended cost the store 21 calls"),
        (
            {"waiting": 1121},
            "FAIL: 50,000 HEADs of known jobs that wait cost the store 1021 calls, by the counts of each second",
        ),
    ],
)
def test_what_does_not_hold_fails(change: dict[str, float], said: str) -> None:
    lines, good = summary.verdicts(*measured(**change))
    assert not good
    assert [line for line in lines if line.startswith("FAIL")] == [said]


def test_what_was_not_measured_is_no_verdict() -> None:
    assert summary.verdicts({"saq": [TURN]}, {}, []) == ([], True)
    assert summary.verdicts({}, {}, []) == ([], True)


def look(jobs: int, store: int = 100 << 20, node: int = 50 << 20) -> Look:
    return Look(jobs=jobs, seconds=1.0, store_bytes=store, node_bytes=node, keys=7)


FLAT = [look(0, 1, 1), look(1_200_000), look(5_000_000, 102 << 20), look(10_000_000)]


def test_memory_that_stays_flat_passes() -> None:
    assert soak.verdicts(FLAT, 1_000_000, {"step": [1100, 1321, 9000]}) == (
        [
            "- PASS: the store takes 100.0 MiB after 1,200,000 jobs, and at most 102.0 until 10,000,000",
            "- PASS: the node takes 50.0 MiB after 1,200,000 jobs, and at most 50.0 until 10,000,000",
            "- PASS: of `step` 3 calls took more than a ms, their median 1.3 ms; 1 took more than 5, the longest 9.0",
        ],
        True,
    )


@pytest.mark.parametrize(
    ("looks", "noted", "said"),
    [
        ([*FLAT, look(11_000_000, 110 << 20)], {}, "- FAIL: the store takes 100.0 MiB"),
        ([*FLAT, look(11_000_000, node=60 << 20)], {}, "- FAIL: the node takes 50.0 MiB"),
        (FLAT, {"trim": [5100, 5200, 1000], "step": [2000]}, "- FAIL: of `trim` 3 calls"),
    ],
)
def test_memory_that_grows_and_long_scripts_fail(looks: list[Look], noted: dict[str, list[int]], said: str) -> None:
    lines, good = soak.verdicts(looks, 1_000_000, noted)
    assert not good
    assert [line for line in lines if line.startswith(said)]


@pytest.mark.long
def test_memory_stays_flat_over_a_few_thousand_jobs() -> None:
    jobs, kept = 24_000, 4_000
    looks, noted = soak.measure(jobs, kept)
    assert looks[-1].jobs == jobs
    # How long a script took depends on those who have the core besides.
    assert noted.keys() <= set(soak.NAMES.values())
    assert soak.verdicts(looks, kept, {})[1]
    # One for each that is kept, two for each that waits, and those of the engine.
    assert kept <= looks[-1].keys < kept + 2 * soak.QUEUE_SIZE + 500
