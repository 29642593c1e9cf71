"""Takes jobs from dead nodes: those without a heartbeat. Each node does so, all the time, without locks.

A heartbeat ends 8 s after its node was killed. It must be missing for MISSING_S then, since after an
outage, or a pause of the whole machine, all heartbeats are gone until their nodes are back. The
script that takes the jobs looks itself, so of many reapers each job goes to one. All of this is over
within 13 s of the death, so that a busy machine has two more.

A node that dies while it reaps leaves the rest to the others: the dead stay listed until the last of
their jobs is taken.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable, Mapping
from math import inf

from headway.core.job import Reason, State
from headway.core.link.calls import Calls
from headway.core.link.reply_error import StoreError
from headway.core.retention import Retention
from headway.core.store.changes import Reaped, read_reaped, reap_arguments
from headway.core.store.keys import Keyspace
from headway.core.store.scripts import REAP
from headway.core.work.outcome import Outcome

log = logging.getLogger(__name__)

# Seconds between two looks, less up to a fifth at random, and while a heartbeat is missing.
LOOK_S, SOON_S = 1.0, 0.5
# Seconds that a heartbeat must be missing.
MISSING_S = 2.5
# Of these, the part in which a reaper whose link is there again does not look yet: the links of the
# others may take two seconds more.
QUIET = 0.6
# The error of an attempt that its node did not survive, as the script has it.
DIED = "was running when its node died"


class Reaper:
    """Watches the nodes of one partition. ``marker`` is that of the ids, ``name`` makes the id of a job."""

    def __init__(
        self,
        keys: Keyspace,
        link: Calls,
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
        self._missing_ms = round(missing_s * 1000)
        self._is_late = False
        self._quiet_until = -inf
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to look."""
        self._task = asyncio.get_running_loop().create_task(self._look_on())

    async def stop(self) -> None:
        """Look no more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    def up(self) -> None:
        """Note that the link is there again."""
        if self._task is not None:
            self._quiet_until = time.monotonic() + QUIET * self._missing_ms / 1000

    async def _look_on(self) -> None:
        while True:
            try:
                if time.monotonic() >= self._quiet_until:
                    await self._look()
            except StoreError:
                # It looks again when the store is back.
                pass
            except Exception:
                log.exception("the reaper failed, it looks again in %g s", LOOK_S)
            pause = SOON_S if self._is_late else LOOK_S
            await asyncio.sleep(min(pause, self._missing_ms / 1000) * random.uniform(0.8, 1.0))  # noqa: S311

    async def _look(self) -> None:
        keys, link = self._keys, self._link
        self._is_late = False
        nodes, dead, late = await asyncio.gather(
            link.call(b"SMEMBERS", keys.nodes), link.call(b"SMEMBERS", keys.dead), link.call(b"HKEYS", keys.late)
        )
        names = [name.decode() for name in nodes]
        beats = await link.call(b"MGET", *map(keys.heartbeat, names)) if names else []
        missing = {name for name, beat in zip(names, beats, strict=True) if beat is None}
        back = [name for name in late if name.decode() not in missing]
        if back:
            await link.call(b"HDEL", keys.late, *back)
        for name in sorted({*missing, *(name.decode() for name in dead)}):
            await self.reap(name)

    async def reap(self, node: str, has_left: bool = False) -> None:
        """Take the jobs of a node that has no heartbeat, or that says itself that it is gone."""
        taken = 0
        while True:
            words = reap_arguments(
                self._marker(),
                node.encode(),
                kept=self._kept,
                lanes=self._lanes,
                missing_ms=self._missing_ms,
                has_left=has_left,
            )
            reply = read_reaped(await self._link.run(REAP, [self._keys.counts], *words))
            taken += len(reply.jobs)
            self.taken += len(reply.jobs)
            for job in reply.jobs:
                self._tell(job)
            if reply.how != "more":
                self._is_late = self._is_late or reply.how == "late"
                break
        if taken:
            log.warning("engine: node %s is dead: %d jobs were taken from it", node, taken)

    def _tell(self, job: Reaped) -> None:
        outcome = Outcome(State.FAILED, Reason.CRASHED, error=DIED)
        outcome.log(self._name(job.sequence), job.task, job.attempt)
