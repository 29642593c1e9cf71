"""Sequence numbers in ascending order.

They are in blocks of a list each, so that no change moves more than one block.

Numbers mostly come in ascending order and go from the front, so the usual change is an append or a
removal at one end. A change costs a bisection over the blocks and one within a block: a few µs at
ten million numbers.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator

BLOCK_MOST = 1024


class Numbers:
    """A set of numbers that can be walked downwards from any of them."""

    def __init__(self) -> None:
        # No block is empty. The numbers of a block are below those of the next.
        self._blocks: list[list[int]] = []
        # The last number of each block.
        self._lasts: list[int] = []
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, number: int) -> None:
        """Add a number that is not here."""
        self._count += 1
        at = bisect_left(self._lasts, number)
        if at == len(self._blocks):
            if not at or len(self._blocks[-1]) >= BLOCK_MOST:
                self._blocks.append([number])
                self._lasts.append(number)
                return
            at -= 1
            self._lasts[at] = number
        block = self._blocks[at]
        insort(block, number)
        if len(block) > 2 * BLOCK_MOST:
            upper = block[BLOCK_MOST:]
            del block[BLOCK_MOST:]
            self._lasts[at] = block[-1]
            self._blocks.insert(at + 1, upper)
            self._lasts.insert(at + 1, upper[-1])

    def remove(self, number: int) -> None:
        """Remove a number that is here."""
        self._count -= 1
        at = bisect_left(self._lasts, number)
        block = self._blocks[at]
        del block[bisect_left(block, number)]
        if block:
            self._lasts[at] = block[-1]
        else:
            del self._blocks[at], self._lasts[at]

    def downwards(self, begin: int, end: int) -> Iterator[int]:
        """Yield the numbers from ``end``, not included, down to ``begin``. None may change then."""
        at = min(bisect_left(self._lasts, end), len(self._blocks) - 1)
        while at >= 0:
            block = self._blocks[at]
            for place in range(bisect_left(block, end) - 1, -1, -1):
                if block[place] < begin:
                    return
                yield block[place]
            at -= 1

    def below(self, end: int) -> bool:
        """Whether any number is below ``end``."""
        return bool(self._blocks) and self._blocks[0][0] < end

    def between(self, begin: int, end: int) -> bool:
        """Whether any number is from ``begin`` on and below ``end``."""
        at = bisect_left(self._lasts, begin)
        if at == len(self._blocks):
            return False
        block = self._blocks[at]
        return block[bisect_left(block, begin)] < end
