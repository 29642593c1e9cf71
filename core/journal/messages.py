"""What the journal and its writer tell each other, in frames (core/processes/frames.py).

Changes are numbered from 1 on in the order in which they are made, and a restart goes on where the last one ended. The
changes of one message are committed, or refused, together.

*Eras.* When the disk is full the writer refuses all that was told to it and not committed, and begins an era. The
journal decides what to send again, and sends it in the new era. What was under way meanwhile is of the old era, and the
writer drops it: so no change overtakes an earlier one that was refused.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
from headway.core.journal.schema import Run
from headway.core.journal.statement import Change
from headway.core.processes.frames import LENGTH, Message


class Begin(Message, frozen=True, tag=True):
    """The file is yours to write to in this ``run``; ``high`` is the highest sequence number that was ever given.

    ``begun``: it says that it is open, and all that is in it is on the disk.
    """

    high: int
    era: int
    run: Run
    begun: bool


class Changes(Message, frozen=True, tag=True):
    """What has happened, up to change number ``last``.

    By now jobs that ended as the ``place``-th or earlier are given up, and keys of jobs up to number ``key``.
    """

    era: int
    last: int
    changes: list[Change]
    place: int
    key: int


class Expire(Message, frozen=True, tag=True):
    """Delete what ``Changes`` says is given up, jobs that ended before a time, and keys from before one."""

    place: int
    key: int
    ended_before: float
    keys_before: float


class Close(Message, frozen=True, tag=True):
    """Commit what was told, close the file and end."""


class Opened(Message, frozen=True, tag=True):
    """The file is open, with the changes up to this number in it and on the disk; ``full``: it cannot be written."""

    changes: int
    full: str


class Committed(Message, frozen=True, tag=True):
    """All changes up to this number are on disk; the last of them took ``seconds``, with ``expired`` jobs deleted."""

    changes: int
    seconds: float
    expired: int


class NoRoom(Message, frozen=True, tag=True):
    """There is no room, as ``why`` says: what was told and not committed is dropped, and ``era`` begins."""

    era: int
    why: str


class Expired(Message, frozen=True, tag=True):
    """So many more jobs were deleted."""

    jobs: int


class Failed(Message, frozen=True, tag=True):
    """Nothing is written any more; ``line`` says why."""

    line: str


ToWriter = Begin | Changes | Expire | Close
FromWriter = Opened | Committed | NoRoom | Expired | Failed

# Bytes read at once: what a pipe holds.
READ_BYTES = 1 << 16

decode_to_writer = msgspec.msgpack.Decoder(ToWriter).decode
decode_from_writer = msgspec.msgpack.Decoder(FromWriter).decode


class Frames:
    """The frames in what was received so far."""

    def __init__(self) -> None:
        self._received = bytearray()

    def take(self, data: bytes) -> Iterator[bytes]:
        """Yield the frames that are whole with ``data``; exhaust it before the next call."""
        received = self._received
        received += data
        at = 0
        while len(received) - at >= LENGTH.size:
            end = at + LENGTH.size + LENGTH.unpack_from(received, at)[0]
            if len(received) < end:
                break
            yield bytes(received[at + LENGTH.size : end])
            at = end
        del received[:at]
