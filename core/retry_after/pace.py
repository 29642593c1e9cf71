"""How many polls are promised for which time: the server's account of clients to come back.

Time is cut into slots, SLOTS_PER_S at least unless a slot would take less than one poll. Each takes
as many polls as their share of the server's capacity allows. A poll that finds its slot full is
promised for the next one with room, and the polls of one slot come evenly over it. So a thousand
clients answered at once come back one after the other, and no more polls are promised than can be
served.

A promise costs the same however many slots are full: a full slot knows one further on that may have
room, and each search along that way makes it shorter (path halving, as in union-find: Tarjan and
van Leeuwen, 1984). Under steady overload all searches go the same way, so its end is remembered.

A client that does not come leaves its place empty, and one that comes unasked is not counted. Past
the last slot no account is kept: such promises are spread by a little chance.
"""

from __future__ import annotations

import random
from array import array

SLOTS_PER_S = 20.0
# A power of two. Together the slots reach further than any wait but for a scheduled job, or half as
# far.
SLOTS = 1 << 14
MASK = SLOTS - 1
# How far the slots reach if there are SLOTS_PER_S.
FAR_S = (SLOTS - 2) / SLOTS_PER_S
# A promise past the last slot is put off by up to this part of its wait, and at most so many
# seconds.
FAR_SPREAD = 1 / 64
FAR_SPREAD_S = 50.0
# An entry is slot * WIDTH + polls promised.
WIDTH = 1 << 24


class Pace:
    """Promises of up to ``per_second`` polls. Times are of time.monotonic, in seconds."""

    def __init__(self, per_second: float) -> None:
        # Polls in one slot.
        self.most = max(int(per_second / SLOTS_PER_S), 1)
        self._slots_per_s = per_second / self.most
        self._step = 1 / per_second
        # A longer wait reaches past the last slot.
        self.far_s = (SLOTS - 2) / self._slots_per_s
        # By slot mod SLOTS: its entry, which is an earlier slot's until it has a promise, and where
        # to look if it is full. Not lists, whose numbers would take four times as much, slot by slot
        # in the first minutes.
        self._entries = array("q", bytes(8 * SLOTS))
        self._next = array("q", bytes(8 * SLOTS))
        # Slots that were found full: from the one up to the other.
        self._full_from = self._full_to = 0

    def promise(self, now: float, wait: float) -> float:
        """Return in how many seconds there is room for one more poll, and take it.

        It is ``wait`` or a little later.
        """
        if wait > self.far_s:
            return wait + min(wait * FAR_SPREAD, FAR_SPREAD_S) * random.random()  # noqa: S311
        at = (now + wait) * self._slots_per_s
        slot = int(at)
        if self._full_from <= slot < self._full_to:
            at = slot = self._full_to
            wait = slot / self._slots_per_s - now
        entries, base = self._entries, slot * WIDTH
        entry = entries[slot & MASK]
        if entry <= base:
            entries[slot & MASK] = base + 1
            return wait
        promised = entry - base
        if promised < self.most:
            entries[slot & MASK] = entry + 1
            return wait + (slot + 1 - at) * promised * self._step
        if not self._full_from <= slot <= self._full_to:
            self._full_from = slot
        slot = self._full_to = self._with_room(slot, int(now * self._slots_per_s) + SLOTS - 1)
        promised = max(entries[slot & MASK] - slot * WIDTH, 0)
        entries[slot & MASK] = slot * WIDTH + promised + 1
        return slot / self._slots_per_s + promised * self._step - now

    def _with_room(self, slot: int, last: int) -> int:
        """Return the first slot from ``slot`` on with room, or ``last``, which takes any number."""
        while slot < last and self._full(slot):
            onward = self._next[slot & MASK]
            if onward <= slot:
                # Of an earlier slot.
                onward = slot + 1
            self._next[slot & MASK] = self._next[onward & MASK] if self._full(onward) else onward
            slot = onward
        return slot

    def _full(self, slot: int) -> bool:
        return self._entries[slot & MASK] - slot * WIDTH >= self.most
