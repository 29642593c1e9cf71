"""What the journal and its writer tell each other, in the frames of ``core.messages``.

Changes are numbered from 1 on in the order in which they are told. The changes of one message are committed, or
rejected, together.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
from headway.core.journal.batch import Change
from headway.core.messages import LENGTH, Message


class Begin(Message, frozen=True, tag=True):
    """The file is yours to write to; ``high`` is the highest sequence number that was ever given."""

    high: int
    epoch: float


class Changes(Message, frozen=True, tag=True):
    """What has happened."""

    changes: list[Change]


class Expire(Message, frozen=True, tag=True):
    """Delete jobs that ended as the ``place``-th or earlier, or before a time; and keys from before one."""

    place: int
    ended_before: float
    keys_before: float


class Close(Message, frozen=True, tag=True):
    """Commit what was told, close the file and end."""


class Committed(Message, frozen=True, tag=True):
    """All changes up to this number are on disk; the last of them took ``seconds``."""

    changes: int
    seconds: float


class NoRoom(Message, frozen=True, tag=True):
    """There is no room: the jobs with these sequence numbers were not taken, and none will be until a commit."""

    rejected: list[int]


class Expired(Message, frozen=True, tag=True):
    """So many more jobs were deleted."""

    jobs: int


class Failed(Message, frozen=True, tag=True):
    """Nothing is written any more; ``line`` says why."""

    line: str


ToWriter = Begin | Changes | Expire | Close
FromWriter = Committed | NoRoom | Expired | Failed

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
