"""Memory taken by clients, within a setting: half-sent requests, or untaken answers.

Each client holds as many bytes as it is said to. A body that many of them are sent counts once,
since it exists once. If all hold more than the setting allows, the client that has held something
for longest gives way. Clients that send and read at a good pace are done before that.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

Holder = TypeVar("Holder")


class Budget(Generic[Holder]):
    """At most ``most_bytes``. ``give_way`` gets each client after its bytes were released."""

    def __init__(self, most_bytes: int, give_way: Callable[[Holder], object]) -> None:
        self.most_bytes = most_bytes
        self.used_bytes = 0
        # Clients that had to give way.
        self.gave_way = 0
        self._give_way = give_way
        # The bytes that each client holds by itself, and the body it shares with others. The client
        # that has held something for longest is first.
        self._holders: dict[Holder, tuple[int, bytes]] = {}
        # How many clients hold a body, by its id().
        self._shared: dict[int, int] = {}

    def __len__(self) -> int:
        return len(self._holders)

    def __repr__(self) -> str:
        return f"<Budget {self.used_bytes} of {self.most_bytes} bytes, {len(self)} clients>"

    def hold(self, client: Holder, size_bytes: int, body: bytes = b"") -> None:
        """Have ``client`` hold ``size_bytes`` of its own and ``body``, instead of all it held."""
        before = self._holders.get(client)
        self._holders[client] = size_bytes, body
        self.used_bytes += size_bytes + self._taken(body)
        if before is not None:
            self.used_bytes -= before[0] + self._left(before[1])
        while self.used_bytes > self.most_bytes:
            slowest = next(iter(self._holders))
            self.release(slowest)
            self.gave_way += 1
            self._give_way(slowest)

    def release(self, client: Holder) -> None:
        """Have ``client`` hold nothing."""
        held = self._holders.pop(client, None)
        if held is not None:
            self.used_bytes -= held[0] + self._left(held[1])

    def _taken(self, body: bytes) -> int:
        """Count one more client that holds ``body``. Return how many bytes that adds."""
        if not body:
            return 0
        count = self._shared[id(body)] = self._shared.get(id(body), 0) + 1
        return len(body) if count == 1 else 0

    def _left(self, body: bytes) -> int:
        """Count one client less that holds ``body``. Return how many bytes that takes away."""
        if not body:
            return 0
        count = self._shared[id(body)] - 1
        if count:
            self._shared[id(body)] = count
            return 0
        del self._shared[id(body)]
        return len(body)
