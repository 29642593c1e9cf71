"""Every target, by its seeds and by what Hypothesis makes of them. ``make fuzz`` runs them under Atheris."""

from __future__ import annotations

import gc
import sys
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings

from tests.fuzz.inputs import TARGETS, inputs, seed_files, target_of

# Inputs of a target in the short suite, and of those that are slow the only seeds there.
SHORT = {"bodies": 60, "fields": 50, "http": 120, "ids": 60, "journals": 30, "repeated": 40, "replies": 60}
FEW = {"frames": ("broken", "progress-far", "ready")}
LONG = {name: 35 * count for name, count in SHORT.items()} | {"frames": 20}
# Rounds until all caches are filled, and those that are measured.
WARM, ROUNDS = 2, 4
GROWN_MOST = 32 * 1024


@pytest.mark.parametrize("target", TARGETS)
def test_seeds(target: str) -> None:
    for path in seed_files(target):
        if path.name in FEW.get(target, (path.name,)):
            try_seed(target, path)


@pytest.mark.long
@pytest.mark.parametrize("target", FEW)
def test_seeds_that_take_long(target: str) -> None:
    for path in seed_files(target):
        try_seed(target, path)


def try_seed(target: str, path: Path) -> None:
    """Try a seed, and name it if it fails."""
    skip_elsewhere(target)
    try:
        target_of(target).fuzz_one(path.read_bytes())
    except BaseException as error:
        error.add_note(f"the seed is {path}")
        raise


@pytest.mark.parametrize("target", SHORT)
def test_inputs_made_of_seeds(target: str) -> None:
    check(target, SHORT[target])


@pytest.mark.long
@pytest.mark.parametrize("target", LONG)
def test_many_inputs_made_of_seeds(target: str) -> None:
    check(target, LONG[target])


def skip_elsewhere(target: str) -> None:
    """Skip a target that is not for this platform."""
    if target == "frames" and sys.platform != "linux":
        pytest.skip("its task finds the pipes of its process in /proc")


def check(target: str, count: int) -> None:
    """Try ``count`` inputs."""
    skip_elsewhere(target)
    fuzz_one = target_of(target).fuzz_one

    @settings(max_examples=count, deadline=None, suppress_health_check=list(HealthCheck))
    @given(data=inputs(target))
    def try_all(data: bytes) -> None:
        fuzz_one(data)

    try_all()


def test_memory_does_not_grow_with_connections() -> None:
    fuzz_one, seeds = target_of("http").fuzz_one, [path.read_bytes() for path in seed_files("http")]

    def rounds(count: int) -> int:
        for _ in range(count):
            for seed in seeds:
                fuzz_one(seed)
        gc.collect()
        return tracemalloc.get_traced_memory()[0]

    tracemalloc.start()
    try:
        before = rounds(WARM)
        grown = rounds(ROUNDS) - before
    finally:
        tracemalloc.stop()
    assert grown < GROWN_MOST, f"{grown} bytes in {ROUNDS * len(seeds)} connections"
