"""When a client asks again for a job, and the load of a task: estimates from what all nodes share.

Run times are learnt from the jobs that run here, and from those of other nodes that this one has
told the end of. How much waits, and how many workers there are, is of the snapshot.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from math import ceil

from headway.core.config import Config
from headway.core.hold import OPEN_END_S
from headway.core.job import State
from headway.core.load import Load
from headway.core.retry_after.estimate import MARGIN_S, Estimate
from headway.core.store.record import Facts
from headway.core.task import OWN_PREFIX
from headway.core.tasks.registry import Registry
from headway.core.valkey.cache import Known
from headway.core.valkey.snapshot import Snapshot

# A client that asks this much before its time gets the same answer again.
EARLY_S = 0.03


class Hints:
    """Estimates. ``limit`` returns the ``max_concurrent`` of a task, None for none."""

    def __init__(self, config: Config, registry: Registry, limit: Callable[[str], int | None]) -> None:
        self._index = {task.name: task.index for task in registry.tasks}
        self._limit = limit
        self._target_s = config.queue.target_wait
        # After the tasks of this node comes one for those of others.
        self._other = len(registry.tasks)
        polls_per_second = config.polling.share * config.polling.capacity
        self.estimate = Estimate(config.workers, self._other + 1, polls_per_second)

    def index(self, task: str) -> int:
        """Return the place of a task among those of the estimate."""
        return self._index.get(task, self._other)

    def saw(self, facts: Facts) -> None:
        """Learn from a job of another node that has ended."""
        if facts.started_ms and facts.ended_ms and facts.state != State.CANCELLED:
            ran = (facts.ended_ms - facts.started_ms) / 1000
            self.estimate.observe(self.index(facts.task), max(ran, 0.0), time.monotonic())

    def retry_after_s(self, seconds: float = 1.0) -> float:
        """Return in how many seconds there is room for a request: ``seconds``, or a little more."""
        return self.estimate.pace.promise(time.monotonic(), seconds)

    # Of a job.

    def retry_after_ms(self, known: Known, ahead: int, server_ms: int, snapshot: Snapshot) -> int:
        """Return the milliseconds until the client asks for an unfinished job, and promise that poll."""
        facts, now = known.facts, time.monotonic()
        if facts is None:
            return 0
        left = known.ask_at - now
        if left > EARLY_S:
            return int(left * 1000)
        seconds = self._until(known, ahead, now, server_ms=server_ms, snapshot=snapshot)
        if facts.deadline_ms:
            left = (facts.deadline_ms - server_ms) / 1000
            seconds = min(seconds, max(left, 0.0) + MARGIN_S)
        milliseconds = self.estimate.promised_ms(seconds, now)
        known.ask_at = now + milliseconds / 1000
        return milliseconds

    def _until(self, known: Known, ahead: int, now: float, *, server_ms: int, snapshot: Snapshot) -> float:
        facts = known.facts
        assert facts is not None
        task = self.index(facts.task)
        if facts.state == State.RUNNING:
            elapsed = max(server_ms - facts.started_ms, 0) / 1000
            ends_in = known.ends_at - now if known.ends_at else None
            return self.estimate.for_running(elapsed, ends_in, task)
        until_due = max(facts.due_ms - server_ms, 0) / 1000 if facts.state != State.QUEUED else 0.0
        server_s = server_ms / 1000
        hold = snapshot.hold(facts.task, server_s)
        if hold is not None:
            if hold.until is None:
                return max(self.estimate.for_delayed(until_due, task) if until_due else 0.0, OPEN_END_S)
            return self.estimate.for_delayed(max(until_due, hold.until - server_s), task)
        if facts.state != State.QUEUED:
            return self.estimate.for_delayed(until_due, task)
        waited = max(server_ms - facts.submitted_ms, 0) / 1000
        free = self._free(facts.task, snapshot)
        if ahead < free:
            return self.estimate.for_next(waited, task)
        return self.estimate.for_queued(ahead + 1 - free, self._at_once(facts.task), waited, task, now)

    def for_batch_ms(self, pending: int) -> int:
        """Return the milliseconds until a client asks whether ``pending`` jobs have all finished."""
        estimate, now = self.estimate, time.monotonic()
        before = max(pending - estimate.workers, 0)
        seconds = estimate.for_queued(before, estimate.workers, 0.0, self._other, now, together=pending)
        return estimate.promised_ms(seconds, now)

    def _free(self, task: str, snapshot: Snapshot) -> int:
        free = self.estimate.workers - snapshot.jobs[State.RUNNING]
        most = self._limit(task)
        return free if most is None else min(free, most - snapshot.busy.get(task, 0))

    def _at_once(self, task: str) -> int:
        most = self._limit(task)
        return self.estimate.workers if most is None else max(min(self.estimate.workers, most), 1)

    # Of a task.

    def load(self, task: str, snapshot: Snapshot) -> Load:
        """Return the load of a task."""
        length, busy = snapshot.ready(task), snapshot.busy.get(task, 0)
        seconds = length * self.estimate.mean_of_task(self.index(task))
        wanted, most = busy + min(length, ceil(seconds / self._target_s)), self._limit(task)
        return Load(
            queue_length=length,
            oldest_s=snapshot.waited_s(task),
            wait_s=self._wait_s(task, snapshot),
            workers_busy=busy,
            workers_wanted=wanted if most is None else min(wanted, max(most, busy)),
        )

    def together(self, tasks: list[str], snapshot: Snapshot) -> Load:
        """Return the load of all tasks: the sums, the oldest job, and the longest wait."""
        loads = [self.load(task, snapshot) for task in tasks]
        return Load(
            queue_length=sum(load.queue_length for load in loads),
            oldest_s=max((load.oldest_s for load in loads), default=0.0),
            wait_s=max((load.wait_s for load in loads), default=0.0),
            workers_busy=sum(count for task, count in snapshot.busy.items() if not task.startswith(OWN_PREFIX)),
            workers_wanted=sum(load.workers_wanted for load in loads),
        )

    def _wait_s(self, task: str, snapshot: Snapshot) -> float:
        """Return the wait of a job that comes now and is taken after all that are ready."""
        now = snapshot.now_ms / 1000
        own_run = self._run_s(task, snapshot)
        others, others_s = 0, 0.0
        for name in {line.task for line in snapshot.lines} - {task}:
            if (
                name.startswith(OWN_PREFIX)
                or snapshot.hold(name, now)
                or self._free(name, snapshot) <= 0 < (self._limit(name) or 0)
            ):
                continue
            others += snapshot.ready(name)
            others_s += snapshot.ready(name) * self._run_s(name, snapshot)
        own = snapshot.ready(task) + 1 - self._free(task, snapshot)
        if own + others <= 0:
            return 0.0
        own_s = max(own, 0) * own_run
        return max(own_s / self._at_once(task), (own_s + others_s) / self.estimate.workers)

    def _run_s(self, task: str, snapshot: Snapshot) -> float:
        return self.estimate.run_s(self.index(task), snapshot.waited_s(task), time.monotonic())
