"""The queue as a whole at one moment: counts of all partitions, and the beginning of each line.

Positions, hints when to ask again, loads and metrics are estimates that go by it. It is at most
OLD_S old. After a change of this node it is read again before it is used, unless that has been done
often.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextvars import Context as Variables

import msgspec
from headway.core.errors import EngineAwayError
from headway.core.hold import TaskHold
from headway.core.interface import Soon
from headway.core.job import State
from headway.core.later import Read
from headway.core.link.reply_error import StoreError
from headway.core.store.changes import PartitionCounts, read_counts
from headway.core.store.keys import Keyspace
from headway.core.store.scripts import COUNTS
from headway.core.store.store import Store
from headway.core.task import OWN_PREFIX

# Seconds after which it is read again.
OLD_S = 1.0
# Readings in a row because this node has changed something, how many more a second, and the part of
# the time that these take at most.
READINGS, READINGS_PER_S, SHARE = 20.0, 50.0, 0.02


class ReadyLine(msgspec.Struct, frozen=True, gc=False):
    """Ready jobs of one task and priority in one partition."""

    task: str
    priority: int
    count: int
    # The numbers of the first of them, in their order, and that of the last.
    heads: Sequence[int]
    last: int

    def before(self, sequence: int | None) -> int:
        """Return how many of these jobs are taken before another one. None: it comes now."""
        if sequence is None or not self.heads:
            return self.count
        if sequence in self.heads:
            return self.heads.index(sequence)
        below = sum(head < sequence for head in self.heads)
        if below < len(self.heads) or self.count <= len(self.heads):
            return min(below, self.count)
        first, rest = self.heads[-1], self.count - len(self.heads)
        part = (sequence - first) / max(self.last - first, 1)
        return len(self.heads) + min(int(rest * part), rest)


class Snapshot(msgspec.Struct, frozen=True):
    """The queue at ``now_ms`` of the store's clock."""

    now_ms: int = 0
    # By State. Of the terminal states: all jobs that ever ended so.
    jobs: Sequence[int] = (0,) * len(State)
    # Jobs that count for the bound of the queue, and bytes of payload of unfinished jobs.
    waiting: int = 0
    payload_bytes: int = 0
    retries: int = 0
    lines: Sequence[ReadyLine] = ()
    # By task: attempts under way, unfinished jobs, jobs that ever ended, by State, the switches that a
    # person has changed, and since when its oldest ready job is ready, in ms.
    busy: Mapping[str, int] = {}
    unfinished: Mapping[str, int] = {}
    ended: Mapping[str, Sequence[int]] = {}
    holds: Mapping[str, TaskHold] = {}
    oldest_ms: Mapping[str, int] = {}
    # Jobs that succeeded or failed and are kept.
    kept: int = 0
    nodes: frozenset[str] = frozenset()

    @property
    def active(self) -> int:
        """Jobs that have not finished."""
        return sum(self.jobs[State.SCHEDULED : State.SUCCEEDED])

    def hold(self, task: str, now: float) -> TaskHold | None:
        """Return the switches of a task if its jobs do not begin at ``now``, in s of the store's clock."""
        hold = self.holds.get(task)
        return hold if hold is not None and hold.at(now).dispatch == "hold" else None

    def held(self, now: float) -> int:
        """Return how many jobs wait for their task, which is held at ``now``, in s of that clock."""
        tasks = [task for task in self.holds if self.hold(task, now) is not None]
        return sum(max(self.unfinished.get(task, 0) - self.busy.get(task, 0), 0) for task in tasks)

    def ready(self, task: str) -> int:
        """Return how many jobs of a task are ready, none of a task that is held."""
        if self.hold(task, self.now_ms / 1000) is not None:
            return 0
        return sum(line.count for line in self.lines if line.task == task)

    def waited_s(self, task: str) -> float:
        """Return for how long the oldest ready job of a task has been ready."""
        since = self.oldest_ms.get(task)
        return 0.0 if since is None or not self.ready(task) else max(self.now_ms - since, 0) / 1000

    def ahead(self, task: str, priority: int, sequence: int | None, now: float) -> int:
        """Return how many ready jobs are taken before one of ``task``. No ``sequence``: it is not ready.

        Jobs of held tasks do not count, but for those of the same task. The server's own jobs have
        workers of their own.
        """
        total = 0
        is_own = task.startswith(OWN_PREFIX)
        for line in self.lines:
            if line.task.startswith(OWN_PREFIX) != is_own or line.priority < priority:
                continue
            if line.task != task and self.hold(line.task, now) is not None:
                continue
            total += line.count if line.priority > priority else line.before(sequence)
        return total


EMPTY = Snapshot()


class Snapshots:
    """The last snapshot, and its renewal."""

    def __init__(self, store: Store, held: Callable[[], Mapping[str, TaskHold]]) -> None:
        self._store = store
        # Returns the tasks that are held now. That is known before the next snapshot.
        self._held = held
        self.last = EMPTY
        # When it was asked for, of time.monotonic, and whether this node has changed something since.
        self._asked_at = -OLD_S
        self._is_dirty = True
        self._reading: asyncio.Task[Snapshot] | None = None
        self._readings = READINGS
        self._readings_per_s = READINGS_PER_S
        # By partition: jobs of this node that were ever accepted, and bytes of their payloads. A partition
        # that a reading has counted may accept more before the others have answered: these are added to it.
        self._accepted = [(0, 0)] * store.partitions
        # Jobs, and bytes, of this node's submissions that the store has not answered.
        self.asked = self.asked_bytes = 0

    def changed(self) -> None:
        """Note that this node has changed something."""
        self._is_dirty = True

    def asking(self, jobs: int, payload_bytes: int) -> None:
        """Note that this node asks a store with several partitions to accept jobs. ``answered`` follows."""
        self.asked += jobs
        self.asked_bytes += payload_bytes

    def answered(self, partition: int, jobs: int, payload_bytes: int, is_accepted: bool) -> None:
        """Note the answer of such a store. Other nodes have their jobs accepted, too."""
        self.asked -= jobs
        self.asked_bytes -= payload_bytes
        if not is_accepted:
            return
        self._is_dirty = True
        before = self._accepted[partition]
        self._accepted[partition] = before[0] + jobs, before[1] + payload_bytes
        waiting, size_bytes = self.last.waiting + jobs, self.last.payload_bytes + payload_bytes
        self.last = msgspec.structs.replace(self.last, waiting=waiting, payload_bytes=size_bytes)
        if not self.is_fresh and self._reading is None and self._store.is_up:
            self._renewed()

    def claimed(self, count: int) -> None:
        """Note that a step of this node has changed something, and that so many jobs wait no more."""
        self._is_dirty = True
        if count:
            self.last = msgspec.structs.replace(self.last, waiting=max(self.last.waiting - count, 0))

    def held(self) -> None:
        """Take the tasks that are held."""
        self.last = msgspec.structs.replace(self.last, holds=self._held())

    def learn(self, waiting: int, payload_bytes: int) -> None:
        """Take counts of a store with one partition that came with another reply."""
        if self._store.partitions == 1:
            self.last = msgspec.structs.replace(self.last, waiting=waiting, payload_bytes=payload_bytes)

    @property
    def is_fresh(self) -> bool:
        """Whether the last one will do."""
        age = time.monotonic() - self._asked_at
        if not self._is_dirty or age > OLD_S:
            return age < OLD_S
        return self._readings + age * self._readings_per_s < 1

    def get(self) -> Soon[Snapshot]:
        """Return a snapshot that will do: while the store is away that is the last one."""
        if (self.is_fresh and self._reading is None) or not self._store.is_up:
            return self.last
        return Read(self._renewed())

    def renew(self) -> Soon[Snapshot]:
        """Return one that is read from now on. Raises EngineAwayError."""
        if not self._store.is_up:
            raise EngineAwayError
        self._is_dirty = True
        return Read(self._renewed())

    async def anew(self) -> Snapshot:
        """Return one that is read from now on, or the last one while the store is away."""
        self._is_dirty = True
        return await self._renewed()

    def _renewed(self) -> asyncio.Future[Snapshot]:
        if self._reading is None or self._is_dirty:
            self._is_dirty = False
            now = time.monotonic()
            self._readings = min(self._readings + (now - self._asked_at) * self._readings_per_s, READINGS) - 1
            self._asked_at = now
            # Not in the context of the one that asks first.
            self._reading = asyncio.get_running_loop().create_task(self._read(), context=Variables())
        # A caller that has gone does not end the reading for others.
        return asyncio.shield(self._reading)

    async def _read(self) -> Snapshot:
        this, began = asyncio.current_task(), time.monotonic()
        try:
            parts = await asyncio.gather(*map(self._count, self._store.keys))
        except StoreError:
            # It is away, or about to be repaired. The last one has to do.
            return self.last
        finally:
            if self._reading is this:
                self._reading = None
        last = together([counts for counts, _ in parts])
        since = [(now[0] - at[0], now[1] - at[1]) for now, (_, at) in zip(self._accepted, parts, strict=True)]
        self.last = msgspec.structs.replace(
            last,
            waiting=last.waiting + sum(jobs for jobs, _ in since),
            payload_bytes=last.payload_bytes + sum(size_bytes for _, size_bytes in since),
        )
        self.held()
        self._readings_per_s = min(READINGS_PER_S, SHARE / max(time.monotonic() - began, 1e-6))
        return self.last

    async def _count(self, keys: Keyspace) -> tuple[PartitionCounts, tuple[int, int]]:
        """Return the counts of a partition, and how much of this node it had accepted by then.

        Replies come in the order of the calls, so a submission that was answered before is counted.
        """
        reply = await self._store.run(keys, COUNTS)
        return read_counts(reply), self._accepted[keys.partition]


def together(parts: Sequence[PartitionCounts]) -> Snapshot:
    """Return the counts of all partitions as those of one queue."""
    return Snapshot(
        now_ms=max(part.now_ms for part in parts),
        jobs=[sum(counts) for counts in zip(*(part.jobs for part in parts), strict=True)],
        waiting=sum(part.waiting for part in parts),
        payload_bytes=sum(part.payload_bytes for part in parts),
        retries=sum(part.retries for part in parts),
        lines=[
            ReadyLine(task, priority, max(count, 0), *part.heads.get((priority, task), ((), 0)))
            for part in parts
            for (priority, task), count in part.ready.items()
        ],
        busy=_sums(part.busy for part in parts),
        unfinished=_sums(part.unfinished for part in parts),
        ended={
            task: [sum(part.ended[task][state] for part in parts if task in part.ended) for state in State]
            for task in {task for part in parts for task in part.ended}
        },
        holds={task: hold for part in parts for task, hold in part.holds.items()},
        oldest_ms={
            task: min(part.oldest_ms[task] for part in parts if task in part.oldest_ms)
            for task in {task for part in parts for task in part.oldest_ms}
        },
        kept=sum(part.kept[State.SUCCEEDED] + part.kept[State.FAILED] for part in parts),
        nodes=frozenset(node.decode() for part in parts for node in part.nodes),
    )


def _sums(parts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    total: dict[str, int] = {}
    for part in parts:
        for task, count in part.items():
            total[task] = total.get(task, 0) + count
    return total
