"""The history of all nodes: what was done in each minute of the last day.

Each minute has a hash. Its first field has the counts that the store had at the end of the minute:
the first node that comes writes it, and what was done is the growth since the minute before. Each
node has a field besides, with the waits and the runs of its own attempts. It writes that every
SHARE_S, so the present minute is nearly whole at all nodes. A hash expires after a day.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from operator import sub

import msgspec
from headway.core.history import KEPT, MINUTE_S, TASKS_MOST, Minute, grown, together
from headway.core.interface import Later
from headway.core.job import State
from headway.core.later import Read
from headway.core.stats import Histogram, Stats
from headway.core.store.store import Store
from headway.core.valkey.snapshot import Snapshot

# The field of the counts. A node's name has a colon in it.
TOTALS = b"totals"
# Seconds between two writes of a node, and ms for which a minute is kept.
SHARE_S = 10.0
KEPT_MS = (KEPT + 60) * MINUTE_S * 1000
SUCCEEDED, FAILED, CANCELLED = int(State.SUCCEEDED), int(State.FAILED), int(State.CANCELLED)


class Totals(msgspec.Struct, array_like=True, frozen=True):
    """The counts at one moment. ``ended``: by task, the jobs that ever succeeded, failed, were cancelled."""

    ended: dict[str, tuple[int, int, int]]
    retries: int
    waiting: int
    running: int

    @classmethod
    def of(cls, snapshot: Snapshot) -> Totals:
        """Return the counts of a snapshot."""
        ended = {task: (by[SUCCEEDED], by[FAILED], by[CANCELLED]) for task, by in snapshot.ended.items()}
        return cls(ended, snapshot.retries, snapshot.waiting, snapshot.jobs[State.RUNNING])

    def since(self, before: Totals, number: int) -> Minute:
        """Return the minute in which the counts grew from ``before`` to these."""
        growth = {task: tuple(map(sub, ended, before.ended.get(task, (0, 0, 0)))) for task, ended in self.ended.items()}
        tasks = {task: (sum(ended), ended[1]) for task, ended in growth.items() if any(ended)}
        succeeded, failed, cancelled = (sum(column) for column in zip((0, 0, 0), *growth.values(), strict=True))
        return Minute(
            number=number,
            succeeded=succeeded,
            failed=failed,
            cancelled=cancelled,
            retries=self.retries - before.retries,
            waiting=self.waiting,
            running=self.running,
            tasks=dict(sorted(tasks.items(), key=lambda item: -item[1][0])[:TASKS_MOST]),
        )


class Times(msgspec.Struct, array_like=True, frozen=True):
    """The waits and runs of a node's attempts in one minute: how many fell under each of stats.SECONDS_BOUNDS."""

    wait: tuple[int, ...]
    run: tuple[int, ...]


class KeptMinute(msgspec.Struct, frozen=True):
    """A minute as the store has it."""

    totals: Totals | None
    times: Sequence[Times]


encode = msgspec.msgpack.Encoder().encode
decode_totals = msgspec.msgpack.Decoder(Totals).decode
decode_times = msgspec.msgpack.Decoder(Times).decode


class SharedHistory:
    """Writes this node's part, and reads all. ``snapshot`` returns the present counts, ``name`` that of the node."""

    def __init__(
        self,
        store: Store,
        stats: Stats,
        name: Callable[[], str],
        snapshot: Callable[[], Awaitable[Snapshot]],
    ) -> None:
        self._store = store
        self._keys = store.keys[0]
        self._stats = stats
        self._name = name
        self._snapshot = snapshot
        # The present minute, and the counters of this node at its beginning.
        self._number = self._now()
        self._before = self._counters()
        self._shared_at = 0.0
        # Minutes that do not change any more, by their numbers.
        self._known: dict[int, KeptMinute] = {}

    def _now(self) -> int:
        return self._store.server_ms() // (MINUTE_S * 1000)

    async def start(self) -> None:
        """Write the counts from which the present minute begins, unless another node has."""
        await self._end(self._now() - 1)

    async def tick(self) -> None:
        """Write what there is to write. Call it about once a second."""
        number = self._now()
        if number > self._number:
            ended, self._number = self._number, number
            await self._share(ended)
            self._before = self._counters()
            await self._end(number - 1)
        elif time.monotonic() > self._shared_at + SHARE_S:
            await self._share(number)

    async def stop(self) -> None:
        """Write this node's part of the present minute."""
        await self._share(self._number)

    async def _end(self, number: int) -> None:
        totals = Totals.of(await self._snapshot())
        await self._write(number, "HSETNX", TOTALS, encode(totals))

    async def _share(self, number: int) -> None:
        self._shared_at = time.monotonic()
        times = self._times()
        if times.run or times.wait:
            await self._write(number, "HSET", self._name().encode(), encode(times))

    async def _write(self, number: int, command: str, field: bytes, value: bytes) -> None:
        key = self._keys.minute(number)
        written = self._store.call(self._keys, command, key, field, value)
        await asyncio.gather(written, self._store.call(self._keys, "PEXPIRE", key, KEPT_MS, "NX"))

    def _counters(self) -> Times:
        stats = self._stats
        return Times(tuple(Histogram.together(stats.wait).buckets), tuple(Histogram.together(stats.run).buckets))

    def _times(self) -> Times:
        before, now = self._before, self._counters()
        return Times(grown(before.wait, now.wait), grown(before.run, now.run))

    # Reading.

    def minutes(self, count: int) -> Later[Sequence[Minute]]:
        """Return the last ``count`` minutes in their order, the present one at the end."""
        return Read(asyncio.ensure_future(self._read(count)))

    async def _read(self, count: int) -> list[Minute]:
        snapshot = await self._snapshot()
        last = self._now()
        # One more, from which the first one grew.
        first = last - min(count, KEPT)
        unknown = [number for number in range(first, last + 1) if number not in self._known]
        calls = [self._store.call(self._keys, "HGETALL", self._keys.minute(number)) for number in unknown]
        replies = await self._store.answer(asyncio.gather(*calls))
        # Of its own part of the present minute this node knows more.
        name = self._name().encode()
        found = {n: _kept(fields, name if n == last else b"") for n, fields in zip(unknown, replies, strict=True)}
        # A node may be late with its part.
        self._known = {n: kept for n, kept in (self._known | found).items() if last - KEPT <= n < last - 2}
        kept = self._known | found
        minutes, before = [], None
        for number in range(first, last + 1):
            at = kept[number]
            totals = Totals.of(snapshot) if number == last else at.totals
            if totals is not None and before is not None:
                minutes.append(totals.since(before, number))
            before = totals or before
            minutes += [Minute(number, wait=times.wait, run=times.run) for times in at.times]
        times = self._times()
        minutes.append(Minute(last, wait=times.wait, run=times.run))
        return [minute for minute in together(minutes) if minute.number > last - count]


def _kept(fields: Mapping[bytes, bytes], but: bytes) -> KeptMinute:
    totals = fields.get(TOTALS)
    times = [decode_times(value) for field, value in fields.items() if field not in (TOTALS, but)]
    return KeptMinute(None if totals is None else decode_totals(totals), times)
