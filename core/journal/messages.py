"""The messages between the journal and its writer, in frames (core/processes/frames.py).

Changes are numbered from 1 on in their order. A restart goes on at the last number. The changes of
one message are committed, or refused, together.

*Eras.* When the disk is full, the writer refuses all changes that it got and did not commit, and
begins an era. The journal decides which ones to send again, and sends them in the new era. Changes
under way meanwhile are of the old era, and the writer drops them. So no change overtakes an earlier
one that was refused.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
from headway.core.journal.notes import Note
from headway.core.journal.schema import ServerRun
from headway.core.journal.statement import Change
from headway.core.processes.frames import LENGTH, Message


class Begin(Message, frozen=True, tag=True):
    """Write to the file from now on, in this ``run``.

    ``high`` is the highest sequence number ever given. ``begun``: the file says that it is open,
    and all of it is on the disk.
    """

    high: int
    era: int
    run: ServerRun
    begun: bool


class Append(Message, frozen=True, tag=True):
    """All that happened, up to number ``last``: changes, and the notes beside them.

    By now jobs up to the place of their outcome, ``places`` by State, are given up, and keys of jobs
    up to number ``key``.
    """

    era: int
    last: int
    changes: list[Change]
    notes: list[Note]
    places: list[int]
    key: int


class Expire(Message, frozen=True, tag=True):
    """Delete the jobs and keys given up, as in ``Append``.

    Delete also the jobs that are kept no longer than ``kept_until``, and keys from before a time.
    """

    places: list[int]
    key: int
    kept_until: float
    keys_before: float


class Close(Message, frozen=True, tag=True):
    """Commit all changes, close the file and end."""


class Opened(Message, frozen=True, tag=True):
    """The file is open, with the changes up to this number in it and on the disk.

    ``full`` is the reason if the file cannot be written for want of room, otherwise empty.
    """

    changes: int
    full: str


class Acknowledged(Message, frozen=True, tag=True):
    """All changes up to this number are on disk.

    The last commit took ``seconds``, and ``expired`` jobs were deleted.
    """

    changes: int
    seconds: float
    expired: int


class NoRoom(Message, frozen=True, tag=True):
    """There is no room, for the reason ``why``, and ``era`` begins.

    All changes that were sent and not committed are dropped.
    """

    era: int
    why: str


class Expired(Message, frozen=True, tag=True):
    """More jobs were deleted: ``jobs`` of them."""

    jobs: int


class Fatal(Message, frozen=True, tag=True):
    """Nothing is written any more, for the reason ``line``."""

    line: str


ToWriter = Begin | Append | Expire | Close
FromWriter = Opened | Acknowledged | NoRoom | Expired | Fatal

# Bytes read at once: the capacity of a pipe.
READ_BYTES = 1 << 16

decode_to_writer = msgspec.msgpack.Decoder(ToWriter).decode
decode_from_writer = msgspec.msgpack.Decoder(FromWriter).decode


class Frames:
    """Splits received bytes into frames."""

    def __init__(self) -> None:
        self._received = bytearray()

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Yield the frames that ``data`` completes. Exhaust it before the next call."""
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
