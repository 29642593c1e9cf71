"""The catalogue: each declared task with its options and the counts of its jobs."""

from __future__ import annotations

import time

from headway.core.config import Config
from headway.core.job import State
from headway.core.local.active import Active
from headway.core.local.loads import Loads
from headway.core.status import TaskStatus
from headway.core.task import Lane, Task
from headway.core.tasks.registry import Registry


def catalogue(config: Config, registry: Registry, active: Active) -> list[TaskStatus]:
    """Return the tasks in the order of their declaration."""
    loads = Loads(active, config.queue.target_wait, time.monotonic())
    return [_status(config, task, active, loads) for task in registry.tasks]


def catalogued(config: Config, task: Task, active: Active) -> TaskStatus:
    """Return one of the tasks."""
    return _status(config, task, active, Loads(active, config.queue.target_wait, time.monotonic()))


def _status(config: Config, task: Task, active: Active, loads: Loads) -> TaskStatus:
    ended = active.stats.ended[task.index]
    return TaskStatus(
        name=task.name,
        description=task.description,
        schema={} if task.payload_type is None else task.payload_type.schema,
        timeout_s=task.timeout_s or config.jobs.timeout,
        deadline_s=task.deadline_s,
        retries=config.jobs.retries if task.retries is None else task.retries,
        keep_s=task.keep_s,
        max_concurrent=task.max_concurrent,
        run_in=(task.lane or Lane(config.jobs.run_in)).value,
        unfinished=active.stats.unfinished[task.index],
        running=loads.running(task),
        succeeded=ended[State.SUCCEEDED],
        failed=ended[State.FAILED],
        cancelled=ended[State.CANCELLED],
        run_median_s=active.estimate.median(task.index),
        load=loads.of(task),
        wait=active.stats.wait[task.index],
        run=active.stats.run[task.index],
        hold=active.holds.of(task.name),
    )
