"""Clients that wait for the end of a job, each up to a time, without a task and a timer each.

A waiter stands in two places: in the list of its job, which is called when the job ends, and in the
slot of a wheel, which is called when its time is up. One timer turns the wheel, and only while
there are waiters. A waiter costs a small object, a place in a list and a place in a set.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from typing import ClassVar

from headway.core.slices import in_slices

# Seconds of a slot: an answer may be this late when its time is up.
SLOT_S = 0.1


def slot_of(seconds: float) -> int:
    """Return the slot of the wheel that is due in ``seconds``."""
    return int((time.monotonic() + seconds) / SLOT_S) + 1


class Waiter:
    """Waits for one job. ``wake`` is called once, unless the waiter is cancelled before."""

    __slots__ = ("_waiters", "sequence", "slot", "wake")

    # Whether it waits for more of the job's log, too.
    of_log: ClassVar[bool] = False

    def __init__(self, waiters: Waiters, sequence: int, slot: int, wake: Callable[[], object]) -> None:
        self._waiters = waiters
        self.sequence = sequence
        self.slot = slot
        self.wake = wake

    def is_due(self) -> bool:
        """Whether the waiter has something to be woken for when its job has logged."""
        return True

    def cancel(self) -> None:
        """Wait no more."""
        self._waiters.remove(self)

    def hurry(self) -> None:
        """Be woken now, unless that was done."""
        if self._waiters.remove(self):
            self.wake()


class Waiters:
    """All waiters."""

    def __init__(self) -> None:
        # By the number of their job: those that wait for its end alone, and those that wait for more of
        # its log, too.
        self._by_job: dict[int, list[Waiter]] = {}
        self._by_log: dict[int, list[Waiter]] = {}
        self._by_slot: dict[int, set[Waiter]] = {}
        # Of all waiters.
        self.count = 0
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return self.count

    def __contains__(self, sequence: int) -> bool:
        return sequence in self._by_job or sequence in self._by_log

    def jobs(self) -> set[int]:
        """Return the numbers of the jobs that are waited for."""
        return {*self._by_job, *self._by_log}

    def add(self, sequence: int, seconds: float, wake: Callable[[], object]) -> Waiter:
        """Have ``wake`` called when the job ends, or in ``seconds``."""
        waiter = Waiter(self, sequence, slot_of(seconds), wake)
        self.put(waiter)
        return waiter

    def put(self, waiter: Waiter) -> None:
        """Have ``waiter`` woken when its job ends, or when its slot is due."""
        self._beside(waiter).setdefault(waiter.sequence, []).append(waiter)
        self._by_slot.setdefault(waiter.slot, set()).add(waiter)
        self.count += 1
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(SLOT_S, self._turn_wheel)

    def ended(self, sequence: int) -> None:
        """Wake the waiters of a job, which has ended."""
        for by_job in (self._by_job, self._by_log):
            waiters = by_job.get(sequence, [])
            if len(waiters) == 1:
                self._wake(waiters[0])
            elif waiters:
                # The last first, so that taking one out moves no other.
                in_slices(map(self._wake_if_there, waiters[::-1]))

    def grown(self, sequence: int) -> None:
        """Wake those that wait for more of a job's log, and that have it now."""
        waiters = self._by_log.get(sequence)
        if waiters:
            in_slices(map(self._wake_if_due, waiters[::-1]))

    def release(self) -> None:
        """Wake all."""
        in_slices(self._wake_all(list(self._by_slot.values())))

    def remove(self, waiter: Waiter) -> bool:
        """Take out a waiter; False if it is not here any more."""
        in_slot = self._by_slot.get(waiter.slot)
        if in_slot is None or waiter not in in_slot:
            return False
        in_slot.remove(waiter)
        if not in_slot:
            del self._by_slot[waiter.slot]
        by_job = self._beside(waiter)
        of_job = by_job[waiter.sequence]
        if of_job[-1] is waiter:
            del of_job[-1]
        else:
            of_job.remove(waiter)
        if not of_job:
            del by_job[waiter.sequence]
        self.count -= 1
        return True

    def _beside(self, waiter: Waiter) -> dict[int, list[Waiter]]:
        """Return those that wait for the same as ``waiter``."""
        return self._by_log if waiter.of_log else self._by_job

    def _wake(self, waiter: Waiter) -> None:
        self.remove(waiter)
        waiter.wake()

    def _wake_all(self, slots: list[set[Waiter]]) -> Iterator[None]:
        """Wake the waiters of these slots, one a step."""
        for waiters in slots:
            for waiter in list(waiters):
                self._wake_if_there(waiter)
                yield

    def _wake_if_there(self, waiter: Waiter) -> None:
        """Wake one of many, unless it was woken or cancelled while those before it were."""
        if self.remove(waiter):
            waiter.wake()

    def _wake_if_due(self, waiter: Waiter) -> None:
        """Wake one of many, if there is something that it waits for."""
        if waiter.is_due():
            self._wake_if_there(waiter)

    def _turn_wheel(self) -> None:
        self._timer = None
        now = int(time.monotonic() / SLOT_S)
        in_slices(self._wake_all([waiters for slot, waiters in self._by_slot.items() if slot <= now]))
        if self._by_slot and self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(SLOT_S, self._turn_wheel)
