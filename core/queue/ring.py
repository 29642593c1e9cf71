"""A bounded first-in-first-out line of sequence numbers: the ready ring.

``head`` and ``tail`` are counters that never wrap: slot = counter mod slots. An entry's *ticket* is
the value of ``tail`` when it came, so the entries ahead of it are a subtraction: ticket - head.
Taking one out of the middle (a cancelled job) leaves a hole, 0, that the head steps over once. The
tickets of holes are kept sorted, so that ``ahead`` can leave them out. When the ring runs out of
slots, the holes are closed (``compact``). With two slots for each entry that may stand in it, that
happens after as many removals as it costs moves.

There is one writer. After the start it allocates only the list of holes.
"""

from __future__ import annotations

import mmap
from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterator

HOLE = 0


class Ring:
    """Holds at most ``most`` entries, none of them 0."""

    def __init__(self, most: int) -> None:
        self.slots = 2 * most
        self.entries = memoryview(mmap.mmap(-1, self.slots * 8)).cast("Q")
        self.head = 0
        self.tail = 0
        # Tickets of the holes between head and tail, ascending.
        self.holes: list[int] = []

    def __len__(self) -> int:
        return self.tail - self.head - len(self.holes)

    def __repr__(self) -> str:
        return f"<Ring {len(self)} of {self.slots // 2}, head {self.head}, holes {len(self.holes)}>"

    def push(self, sequence: int) -> int:
        """Append ``sequence`` and return its ticket.

        Raises IndexError if ``compact`` has to make room first.
        """
        ticket = self.tail
        if ticket - self.head == self.slots:
            raise IndexError("the ring has no slot left")
        self.entries[ticket % self.slots] = sequence
        self.tail = ticket + 1
        return ticket

    def pop(self) -> int:
        """Take the first entry and return it, 0 if there is none."""
        if self.head == self.tail:
            return HOLE
        sequence = self.entries[self.head % self.slots]
        self.head += 1
        if self.holes:
            self._skip_holes()
        return sequence

    def first(self) -> int:
        """Return the first entry without taking it, 0 if there is none."""
        return HOLE if self.head == self.tail else self.entries[self.head % self.slots]

    def remove(self, ticket: int) -> None:
        """Take out the entry that has ``ticket``."""
        self.entries[ticket % self.slots] = HOLE
        insort(self.holes, ticket)
        # So the last entry is never a hole, and a ring with its head at its tail is empty.
        while self.holes and self.holes[-1] == self.tail - 1:
            self.tail = self.holes.pop()
        self._skip_holes()

    def at(self, ticket: int) -> int:
        """Return the entry that has ``ticket``, 0 if it was taken out."""
        return self.entries[ticket % self.slots]

    def ahead(self, ticket: int) -> int:
        """Return how many entries stand before the one that has, or had, ``ticket``."""
        ahead = ticket - self.head
        if self.holes:
            ahead -= bisect_left(self.holes, ticket)
        return ahead if ahead > 0 else 0

    def before(self, sequence: int) -> int:
        """Return how many entries are less than ``sequence``.

        It is right if they came in ascending order, as nearly all do.
        """
        low, high = self.head, self.tail
        while low < high:
            middle = (low + high) // 2
            ticket = self._behind_holes(middle)
            if self.entries[ticket % self.slots] < sequence:
                low = ticket + 1
            else:
                high = middle
        return self.ahead(low)

    def _behind_holes(self, ticket: int) -> int:
        """Return the first ticket from ``ticket`` on that is no hole. The last one never is."""
        holes = self.holes
        at = bisect_left(holes, ticket)
        if at == len(holes) or holes[at] != ticket:
            return ticket
        # For holes side by side, ticket - index is the same.
        run = bisect_right(range(len(holes)), ticket - at, lo=at, key=lambda index: holes[index] - index)
        return holes[run - 1] + 1

    def compact(self) -> Iterator[tuple[int, int]]:
        """Close the holes, and yield (sequence, new ticket) of each entry.

        Exhaust it before the next call.
        """
        tickets = list(self._tickets())
        self.tail = self.head
        self.holes.clear()
        for ticket in tickets:
            sequence = self.entries[ticket % self.slots]
            yield sequence, self.push(sequence)

    def _skip_holes(self) -> None:
        """Step over the holes at the head, once: after that the first entry is never a hole.

        Holes side by side are found by halves, since their tickets are sorted and differ.
        """
        holes, head = self.holes, self.head
        if holes and holes[0] == head:
            count = bisect_left(range(len(holes)), 1, key=lambda at: holes[at] - at > head)
            del holes[:count]
            self.head += count

    def _tickets(self) -> Iterator[int]:
        return (ticket for ticket in range(self.head, self.tail) if self.entries[ticket % self.slots])
