"""The queue as a whole at one moment: counts of all nodes, and the beginning of each line.

Positions, hints when to ask again, loads and metrics are estimates that go by it. It is at most
OLD_S old. After a change of this node it is read again before it is used, at most once in PACE_S.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from headway.core.errors import EngineAwayError
from headway.core.hold import TaskHold
from headway.core.interface import Soon
from headway.core.job import State
from headway.core.later import Read
from headway.core.task import OWN_PREFIX
from headway.core.valkey.reply_error import StoreError
from headway.core.valkey.scripts import script
from headway.core.valkey.store import Store

SNAPSHOT = script("snapshot")
# Seconds after which it is read again, and between two times at least.
OLD_S, PACE_S = 1.0, 0.02
decode_hold = msgspec.json.Decoder(TaskHold).decode


class LineView(msgspec.Struct, frozen=True, gc=False):
    """Ready jobs of one task and priority in one partition."""

    task: str
    priority: int
    count: int
    # When the first of them was ready, in ms of the store's clock.
    oldest_ms: int
    # The numbers of the first of them, in their order, and that of the last.
    heads: Sequence[int]
    last: int

    def before(self, sequence: int | None) -> int:
        """Return how many of these jobs are taken before another one; None: it comes now."""
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

    now_ms: int
    counts: Mapping[str, int]
    lines: Sequence[LineView]
    # Attempts under way, by task.
    busy: Mapping[str, int]
    # The switches of tasks that a person has changed.
    holds: Mapping[str, TaskHold]
    nodes: int

    @property
    def waiting(self) -> int:
        """Jobs that wait, in any way."""
        return max(self.counts.get("waiting", 0), 0)

    @property
    def payload_bytes(self) -> int:
        """The payloads of unfinished jobs."""
        return max(self.counts.get("bytes", 0), 0)

    @property
    def active(self) -> int:
        """Jobs that have not finished."""
        return sum(self.of_state(state) for state in range(State.SCHEDULED, State.SUCCEEDED))

    def of_state(self, state: int) -> int:
        """Return how many jobs are in a state, or have ever come into one that is an outcome."""
        return max(self.counts.get(f"s:{int(state)}", 0), 0)

    def hold(self, task: str, now: float) -> TaskHold | None:
        """Return the switches of a task if its jobs do not begin at ``now``, of time.time."""
        hold = self.holds.get(task)
        return hold if hold is not None and hold.at(now).dispatch == "hold" else None

    def ready(self, task: str) -> int:
        """Return how many jobs of a task are ready."""
        return sum(line.count for line in self.lines if line.task == task)

    def oldest_ms(self, task: str) -> int:
        """Return for how long the first ready job of a task has been ready, in ms."""
        since = [line.oldest_ms for line in self.lines if line.task == task and line.oldest_ms]
        return max(self.now_ms - min(since, default=self.now_ms), 0)

    def ahead(self, task: str, priority: int, sequence: int | None, now: float) -> int:
        """Return how many ready jobs are taken before one of ``task``; ``sequence`` is None if it is not ready.

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


EMPTY = Snapshot(0, {}, (), {}, {}, 0)


class Snapshots:
    """The last snapshot, and its renewal."""

    def __init__(self) -> None:
        # Set by ``use``.
        self._store: Store
        self.last = EMPTY
        # When it was asked for, of time.monotonic, and whether this node has changed something since.
        self._asked_at = -OLD_S
        self._is_dirty = True
        self._reading: asyncio.Task[Snapshot] | None = None

    def use(self, store: Store) -> None:
        """Read from ``store``."""
        self._store = store

    def changed(self) -> None:
        """Note that this node has changed something."""
        self._is_dirty = True

    @property
    def is_fresh(self) -> bool:
        """Whether the last one will do."""
        age = time.monotonic() - self._asked_at
        return age < (PACE_S if self._is_dirty else OLD_S)

    def get(self) -> Soon[Snapshot]:
        """Return a snapshot that will do. Raises EngineAwayError if there is none, and none can be read."""
        if self.is_fresh and self.last is not EMPTY:
            return self.last
        if not self._store.is_up:
            if self.last is EMPTY:
                raise EngineAwayError
            return self.last
        return Read(self._renewed())

    def renew(self) -> asyncio.Future[Snapshot]:
        """Read one, whatever the last one is."""
        self._is_dirty = True
        self._asked_at = -OLD_S
        return self._renewed()

    def _renewed(self) -> asyncio.Future[Snapshot]:
        if self._reading is None or self._is_dirty:
            self._is_dirty = False
            self._asked_at = time.monotonic()
            self._reading = asyncio.get_running_loop().create_task(self._read())
            self._reading.add_done_callback(_seen)
        # A caller that has gone does not end the reading for others.
        return asyncio.shield(self._reading)

    async def _read(self) -> Snapshot:
        this = asyncio.current_task()
        try:
            replies = await asyncio.gather(*(self._store.run(keys, SNAPSHOT) for keys in self._store.keys))
        except StoreError:
            if self.last is EMPTY:
                raise EngineAwayError from None
            return self.last
        finally:
            if self._reading is this:
                self._reading = None
        self.last = _together([_read(reply) for reply in replies])
        return self.last


def _seen(task: asyncio.Task[Snapshot]) -> None:
    # Nobody may wait for it any more.
    if not task.cancelled():
        task.exception()


def _read(reply: Any) -> Snapshot:
    now, counts, views, busy, holds, nodes, _ = reply
    return Snapshot(
        now_ms=int(now),
        counts={name: int(value) for name, value in _pairs(counts)},
        lines=[_view(view) for view in views],
        busy={name: int(value) for name, value in _pairs(busy)},
        holds={name: decode_hold(value) for name, value in _pairs(holds)},
        nodes=int(nodes),
    )


def _pairs(flat: list[bytes]) -> list[tuple[str, bytes]]:
    return [(name.decode(), value) for name, value in zip(flat[::2], flat[1::2], strict=True)]


def _view(view: Any) -> LineView:
    name, count, oldest, last, heads = view
    priority, _, task = name.decode().partition(":")
    return LineView(
        task=task,
        priority=int(priority),
        count=max(int(count), 0),
        oldest_ms=int(oldest or 0),
        heads=[int(head) for head in heads],
        last=int(bytes(last).partition(b":")[0] or 0),
    )


def _together(parts: list[Snapshot]) -> Snapshot:
    if len(parts) == 1:
        return parts[0]
    counts: dict[str, int] = {}
    busy: dict[str, int] = {}
    holds: dict[str, TaskHold] = {}
    for part in parts:
        for total, of_part in ((counts, part.counts), (busy, part.busy)):
            for name, value in of_part.items():
                total[name] = total.get(name, 0) + value
        holds |= part.holds
    lines = [line for part in parts for line in part.lines]
    return Snapshot(parts[0].now_ms, counts, lines, busy, holds, max(part.nodes for part in parts))
