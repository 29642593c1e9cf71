"""The ends of attempts that the store has not confirmed yet, in the order in which they came.

They are sent with the next step, and again after a lost reply. While the store is away they wait
here. A node whose outboxes are full together asks for no jobs, so no more gathers than the bounds
and the results of the attempts that run.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from itertools import islice

from headway.core.store.steps import Finish, FinishEnd

# Ends of a node that wait, and bytes of their results, above which it claims no jobs.
# Seam: tests make it small.
FINISHES_MOST = 10_000
# Seam: tests make it small.
BYTES_MOST = 64 * 1024 * 1024
# Ends that go with one step, and the bytes above which no more are added to it.
STEP_MOST = 64
STEP_BYTES = 4 * 1024 * 1024


class Outbox:
    """The ends of one partition."""

    def __init__(self) -> None:
        self._waiting: deque[Finish] = deque()
        # How many of them, from the first on, are with the store now.
        self._sent = 0
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, finish: Finish) -> None:
        """Add the end of an attempt."""
        self._waiting.append(finish)
        self.bytes += size_of(finish)

    def send(self) -> list[Finish]:
        """Return the ends that go with the next step. They stay here until ``confirm``."""
        found: list[Finish] = []
        size = 0
        for finish in islice(self._waiting, STEP_MOST):
            size += size_of(finish)
            if found and size > STEP_BYTES:
                break
            found.append(finish)
        self._sent = len(found)
        return found

    def confirm(self) -> None:
        """Drop the ends that were sent: the store has answered for each."""
        for _ in range(self._sent):
            self.bytes -= size_of(self._waiting.popleft())
        self._sent = 0

    def attempts(self) -> set[tuple[int, int]]:
        """Return (sequence, attempt) of all that are here."""
        return {(finish.sequence, finish.attempt) for finish in self._waiting}

    def clear(self) -> list[Finish]:
        """Drop and return all of it: the store would refuse it."""
        dropped = list(self._waiting)
        self._waiting.clear()
        self._sent = self.bytes = 0
        return dropped


def size_of(finish: Finish) -> int:
    """Return the bytes that count towards the bound."""
    return len(finish.past) + (len(finish.result) if type(finish) is FinishEnd else 0)


def are_full(outboxes: Iterable[Outbox]) -> bool:
    """Return whether no jobs may be claimed until some of what is in all of these has left."""
    count = size_bytes = 0
    for outbox in outboxes:
        count += len(outbox)
        size_bytes += outbox.bytes
    return count > FINISHES_MOST or size_bytes > BYTES_MOST
