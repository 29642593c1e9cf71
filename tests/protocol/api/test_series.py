"""The metrics by task, as a parser of Prometheus reads them."""

from __future__ import annotations

import msgspec
import pytest
from headway.core.hold import NO_HOLD, TaskHold
from headway.core.load import Load
from headway.core.stats import SECONDS_BOUNDS, Histogram
from headway.core.status import TaskStatus
from headway.protocol.api.series import by_task
from prometheus_client.parser import text_string_to_metric_families


def task(name: str, *seconds: float) -> TaskStatus:
    """Return a task with attempts that waited and ran for so long."""
    histogram = Histogram()
    for value in seconds:
        histogram.add(value)
    return TaskStatus(
        name=name,
        description="",
        schema={},
        timeout_s=1.0,
        deadline_s=None,
        retries=0,
        keep_s=None,
        max_concurrent=None,
        run_in="loop",
        unfinished=0,
        running=2,
        succeeded=3,
        failed=4,
        cancelled=5,
        run_median_s=0.0,
        load=Load(6, 7.5, 0.0, 0, 8),
        wait=histogram,
        run=histogram,
    )


def read(*tasks: TaskStatus) -> dict[tuple[str, str, str], float]:
    """Return the value of each sample by its name, its task, and its other label."""
    found: dict[tuple[str, str, str], float] = {}
    for family in text_string_to_metric_families(by_task(tasks)):
        for sample in family.samples:
            labels = dict(sample.labels)
            key = sample.name, labels.pop("task"), "".join(labels.values())
            assert key not in found
            found[key] = sample.value
    return found


@pytest.mark.parametrize("name", ["nap", 'a "b" c', "back\\slash\\n", "two\nlines", "é, {x}=1 # y"])
def test_a_name_of_any_characters_is_read_back(name: str) -> None:
    found = read(task(name), task("other"))
    assert {task for _, task, _ in found} == {name, "other"}
    assert found["headway_jobs_total", name, "failed"] == 4
    assert found["headway_oldest_queued_seconds", name, ""] == 7.5


def test_each_count_has_its_place() -> None:
    found = read(task("nap"))
    outcomes = [found["headway_jobs_total", "nap", outcome] for outcome in ("succeeded", "failed", "cancelled")]
    assert outcomes == [3, 4, 5]
    gauges = ("headway_jobs_running", "headway_jobs_queued", "headway_workers_wanted")
    assert [found[name, "nap", ""] for name in gauges] == [2, 6, 8]


def test_a_task_on_hold_is_told() -> None:
    """Not one that is only closed: its jobs begin."""
    for hold, held in ((NO_HOLD, 0), (TaskHold(intake="closed"), 0), (TaskHold(dispatch="hold"), 1)):
        assert read(msgspec.structs.replace(task("nap"), hold=hold))["headway_task_held", "nap", ""] == held


def test_the_buckets_of_a_histogram_add_up() -> None:
    found = read(task("nap", 0.0005, 0.02, 0.02, 1000.0))
    for name in ("headway_job_wait_seconds", "headway_job_run_seconds"):
        buckets = [found[f"{name}_bucket", "nap", str(bound)] for bound in SECONDS_BOUNDS]
        assert buckets == [1, 1, 1, 1, *[3] * 12]
        assert found[f"{name}_bucket", "nap", "+Inf"] == found[f"{name}_count", "nap", ""] == 4
        assert found[f"{name}_sum", "nap", ""] == pytest.approx(1000.0405)


def test_without_tasks_there_are_no_samples() -> None:
    assert read() == {}
