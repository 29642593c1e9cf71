"""What gateways have counted of their clients, for the metrics of the whole server.

Each tells the engine once a second. A gateway that is asked for metrics adds what the others told. Counters of a
gateway that has ended stay.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec


class Counted(msgspec.Struct, array_like=True, gc=False):
    """Numbers by name: those that only grow, and those of this moment."""

    ever: dict[str, int] = {}
    now: dict[str, int] = {}

    def of(self, kind: str) -> Iterator[tuple[str, int]]:
        """Yield the numbers of a kind that only grow, by what follows the kind in their names."""
        for name, number in self.ever.items():
            if name.startswith(f"{kind} "):
                yield name[len(kind) + 1 :], number


decode = msgspec.msgpack.Decoder(Counted).decode
encode = msgspec.msgpack.Encoder().encode


def together(some: Iterable[Counted]) -> Counted:
    """Return the sums."""
    total = Counted({}, {})
    for counted in some:
        for numbers, of_one in ((total.ever, counted.ever), (total.now, counted.now)):
            for name, number in of_one.items():
                numbers[name] = numbers.get(name, 0) + number
    return total
