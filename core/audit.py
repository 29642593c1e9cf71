"""The audit log: the changes that clients have made, and who made them.

An ``Act`` goes with the request of a client to the engine. The engine keeps it once the change is
made: a request that is refused, or that changes nothing, leaves no entry. With a journal both are
in one commit. Only the last entries are kept.
"""

from __future__ import annotations

from collections import deque
from itertools import islice

import msgspec


class Act(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A change that a client asks for. A text is empty where there is none."""

    # The name of the operation (protocol/api/routes.py), or of what the server did by itself.
    what: str
    # The name of the token, and the address of the client.
    who: str = ""
    address: str = ""
    # The id or the key of a job, the id of a batch, the name of a task.
    target: str = ""
    # The filter of an order, as the query of a URL.
    wanted: str = ""
    # The code of an answer that says that the change is made.
    code: int = 0
    # Whether the change goes on after its answer, which says so by another code: a job is being
    # interrupted, or a new job does what was asked for.
    goes_on: bool = False
    # The id of that new job.
    job: str = ""
    # How many jobs were changed, where they are many and that is known.
    count: int | None = None


class AuditEntry(msgspec.Struct, frozen=True, gc=False):
    """An act that was carried out. Numbers ascend by one. ``at`` is of time.time."""

    number: int
    at: float
    act: Act


class _Kept(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """An entry as it is kept, beside its number."""

    at: float
    act: Act


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Kept).decode


def encode(at: float, act: Act) -> bytes:
    """Return an entry as it is kept."""
    return _encode(_Kept(at, act))


def decode(number: int, told: bytes) -> AuditEntry:
    """Return the entry that ``encode`` has written, under its number."""
    found = _decode(told)
    return AuditEntry(number, found.at, found.act)


class Trail:
    """The last ``most`` entries, in memory."""

    __slots__ = ("_entries", "last")

    def __init__(self, most: int) -> None:
        self._entries: deque[AuditEntry] = deque(maxlen=most)
        # The number of the newest entry, also of one that is not kept.
        self.last = 0

    def add(self, at: float, act: Act) -> None:
        """Keep an act."""
        self.last += 1
        self._entries.append(AuditEntry(self.last, at, act))

    def restore(self, entries: list[AuditEntry]) -> None:
        """Go on after ``entries``, oldest first."""
        self._entries.extend(entries)
        self.last = entries[-1].number if entries else self.last

    def all(self) -> list[AuditEntry]:
        """Return the entries, oldest first."""
        return [*self._entries]

    def read(self, before: int, limit: int) -> list[AuditEntry]:
        """Return up to ``limit`` entries with lower numbers than ``before``, newest first. 0: from the newest on."""
        newer = max(self.last - before + 1, 0) if before else 0
        return [*islice(reversed(self._entries), newer, newer + limit)]
