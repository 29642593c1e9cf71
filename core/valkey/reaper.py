"""Takes jobs from dead nodes: those without a heartbeat. Each node does so, all the time, without locks.

A heartbeat ends 10 s after its node was killed. The reaper must have missed it for MISSING_S, since
after an outage, or a pause of the whole machine, all heartbeats are gone until their nodes are back.
Then the jobs are taken by a script that looks again, so of many reapers each job goes to one. All of
this is over within 15 s of the death.

A node that dies while it reaps leaves the rest to the others: the dead stay listed until the last of
their jobs is taken.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable, Mapping

from headway.core.job import Reason, State
from headway.core.retention import Retention
from headway.core.valkey.changes import Reaped, read_reaped, reap_arguments
from headway.core.valkey.keys import Keys
from headway.core.valkey.link import Link
from headway.core.valkey.reply_error import StoreError
from headway.core.valkey.scripts import REAP
from headway.core.work.outcome import Outcome

log = logging.getLogger(__name__)

# Seconds between two looks, less up to a fifth at random.
LOOK_S = 1.0
# Seconds that a heartbeat must be missing.
MISSING_S = 2.5
# The error of an attempt that its node did not survive, as the script has it.
DIED = "was running when its node died"


class Reaper:
    """Watches the nodes of one partition. ``marker`` is that of the ids, ``name`` makes the id of a job."""

    def __init__(
        self,
        keys: Keys,
        link: Link,
        kept: Retention,
        *,
        lanes: Mapping[str, str],
        marker: Callable[[], bytes],
        name: Callable[[int], str],
        missing_s: float = MISSING_S,
    ) -> None:
        # Jobs that were taken.
        self.taken = 0
        self._keys = keys
        self._link = link
        self._kept = kept
        self._lanes = lanes
        self._marker = marker
        self._name = name
        self._missing_s = missing_s
        # By node: since when its heartbeat is missing, of time.monotonic.
        self._missing: dict[str, float] = {}
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to look."""
        self._task = asyncio.get_running_loop().create_task(self._look_on())

    async def stop(self) -> None:
        """Look no more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _look_on(self) -> None:
        while True:
            try:
                await self._look()
            except StoreError:
                # After an outage all heartbeats may be missing for a moment.
                self._missing.clear()
            except Exception:
                log.exception("the reaper failed, it looks again in %g s", LOOK_S)
            await asyncio.sleep(self._pause_s())

    def _pause_s(self) -> float:
        """Return the seconds until the next look: at the latest when a missing node is taken for dead."""
        pause = LOOK_S * random.uniform(0.8, 1.0)  # noqa: S311
        soonest = min(self._missing.values(), default=None)
        if soonest is None:
            return pause
        return max(min(pause, soonest + self._missing_s - time.monotonic()), 0.01)

    async def _look(self) -> None:
        keys = self._keys
        nodes, dead = await asyncio.gather(
            self._link.call(b"SMEMBERS", keys.nodes), self._link.call(b"SMEMBERS", keys.dead)
        )
        names = sorted(name.decode() for name in nodes)
        beats = await self._link.call(b"MGET", *map(keys.heartbeat, names)) if names else []
        now = time.monotonic()
        absent = {name for name, beat in zip(names, beats, strict=True) if beat is None}
        self._missing = {name: self._missing.get(name, now) for name in absent}
        late = [name for name, since in self._missing.items() if now - since >= self._missing_s]
        for name in [*late, *(name.decode() for name in dead)]:
            await self.reap(name)
            self._missing.pop(name, None)

    async def reap(self, node: str, has_left: bool = False) -> None:
        """Take the jobs of a node that has no heartbeat, or that says itself that it is gone."""
        taken = 0
        while True:
            words = reap_arguments(self._marker(), node.encode(), kept=self._kept, lanes=self._lanes, has_left=has_left)
            reply = read_reaped(await self._link.run(REAP, [self._keys.counts], *words))
            taken += len(reply.jobs)
            self.taken += len(reply.jobs)
            for job in reply.jobs:
                self._tell(job)
            if reply.how != "more":
                break
        if taken:
            log.warning("engine: node %s is dead: %d jobs were taken from it", node, taken)

    def _tell(self, job: Reaped) -> None:
        outcome = Outcome(State.FAILED, Reason.CRASHED, error=DIED)
        outcome.log(self._name(job.sequence), job.task, job.attempt)
