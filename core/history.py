"""The history of the last hours: what was done in each minute, for people who look back.

A minute is numbered since 1970 by the time of day. It may come in parts: before and after a restart,
or from the nodes that share a queue.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from operator import add, sub

import msgspec
from headway.core.stats import SECONDS_BOUNDS

MINUTE_S = 60
# Minutes that are kept: a day.
KEPT = 24 * 60
# The most tasks that a minute names. The others count in its sums alone.
TASKS_MOST = 100


class Minute(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """One minute, or a part of one. ``waiting`` and ``running`` are the counts of jobs at its end."""

    number: int
    # Jobs that ended in it.
    succeeded: int = 0
    failed: int = 0
    cancelled: int = 0
    retries: int = 0
    waiting: int = 0
    running: int = 0
    # Attempts that began, by how long their jobs had been ready, and that ended, by how long they
    # ran: how many fell under each of stats.SECONDS_BOUNDS. Empty: none.
    wait: tuple[int, ...] = ()
    run: tuple[int, ...] = ()
    # By task: its jobs that ended, and those of them that failed.
    tasks: dict[str, tuple[int, int]] = {}


encode_minute = msgspec.msgpack.Encoder().encode
decode_minute = msgspec.msgpack.Decoder(Minute).decode


def together(minutes: Iterable[Minute]) -> list[Minute]:
    """Return the minutes in the order of their numbers, each one made of its parts.

    What was done is added. Of the counts of jobs the greatest is taken.
    """
    by_number: dict[int, Minute] = {}
    for minute in minutes:
        before = by_number.get(minute.number)
        by_number[minute.number] = minute if before is None else _sum(before, minute)
    return [by_number[number] for number in sorted(by_number)]


def _sum(one: Minute, other: Minute) -> Minute:
    tasks = dict(one.tasks)
    for name, (ended, failed) in other.tasks.items():
        before = tasks.get(name, (0, 0))
        tasks[name] = (before[0] + ended, before[1] + failed)
    return Minute(
        number=one.number,
        succeeded=one.succeeded + other.succeeded,
        failed=one.failed + other.failed,
        cancelled=one.cancelled + other.cancelled,
        retries=one.retries + other.retries,
        waiting=max(one.waiting, other.waiting),
        running=max(one.running, other.running),
        wait=_added(one.wait, other.wait),
        run=_added(one.run, other.run),
        tasks=tasks,
    )


def _added(one: tuple[int, ...], other: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(map(add, one, other)) if one and other else one or other


def grown(before: Sequence[int], now: Sequence[int]) -> tuple[int, ...]:
    """Return by how much each bucket of a histogram has grown, nothing if none has."""
    found = tuple(map(sub, now, before))
    return found if any(found) else ()


def quantile(buckets: Sequence[int], part: float) -> float | None:
    """Return the seconds below which ``part`` of the values lie, None if there are none.

    Within a bucket values are taken to lie evenly, as Prometheus' histogram_quantile does. Those
    above the last bound count as that.
    """
    total = sum(buckets)
    if not total:
        return None
    wanted, below, lower = part * total, 0, 0.0
    for count, upper in zip(buckets, SECONDS_BOUNDS, strict=False):
        if count and below + count >= wanted:
            return lower + (upper - lower) * (wanted - below) / count
        below, lower = below + count, upper
    return SECONDS_BOUNDS[-1]
