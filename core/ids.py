"""Job ids: 28 lower-case hex digits, 12 of the sequence number and 16 of a keyed tag.

The tag is a part of BLAKE2b (RFC 7693) under a secret of the server: a digest of 64 bytes has the tags of eight
sequence numbers in a row. Nobody can make an id, so one whose tag is right was issued, and an id that is no longer on
the board is told from one that never was with nothing stored: 410, not 404. The board keeps the tag of each row, so
reading a status costs no hash.

The id of a batch has 36 digits: 12 of its first sequence number, 4 of how many jobs it has, 4 of over how many
sequence numbers they lie, and a tag over the three. The tags of batches are made under another personalization of
BLAKE2b, so that neither kind of id can be made out of the other.
"""

from __future__ import annotations

import secrets
from binascii import Error as HexError
from binascii import unhexlify
from hashlib import blake2b
from itertools import chain
from struct import Struct

LENGTH = 28
BATCH_LENGTH = 36
TAG_BITS = 64
TAG_MASK = (1 << TAG_BITS) - 1
# No sequence number can reach this: at a million a second, nine years.
SEQUENCE_LIMIT = 1 << 48
# Of the number of jobs in a batch, and of their span.
COUNT_BITS = 16
COUNT_MASK = (1 << COUNT_BITS) - 1
# The tags of one digest, 2^3 of them.
_TAGS = Struct(">8Q")


class Ids:
    """Makes and checks ids under one secret."""

    def __init__(self, secret: bytes | None = None) -> None:
        self.secret = secret or secrets.token_bytes(32)
        self._keyed = blake2b(key=self.secret, digest_size=_TAGS.size)
        # Which eight were made last, and what they are. One attribute, so that any thread sees both or neither.
        self._made: tuple[int, tuple[int, ...]] = -1, ()
        self._keyed_batch = blake2b(key=self.secret, digest_size=TAG_BITS // 8, person=b"batch")

    def tag(self, sequence: int) -> int:
        """Return the tag of ``sequence``, 64 bits."""
        eight, tags = self._made
        if eight != sequence >> 3:
            eight = sequence >> 3
            tags = self._eight(eight)
            self._made = eight, tags
        return tags[sequence & 7]

    def tags(self, first: int, count: int) -> list[int]:
        """Return the tags of ``count`` sequence numbers from ``first`` on."""
        begin, end = first >> 3, (first + count - 1 >> 3) + 1
        made = [*chain.from_iterable(map(self._eight, range(begin, end)))]
        return made[first & 7 : (first & 7) + count]

    def _eight(self, eight: int) -> tuple[int, ...]:
        keyed = self._keyed.copy()
        keyed.update(eight.to_bytes(8, "big"))
        return _TAGS.unpack(keyed.digest())

    def batch_tag(self, first: int, count: int, span: int) -> int:
        """Return the tag of the batch of ``count`` jobs from ``first`` on, over ``span`` numbers; 64 bits."""
        keyed = self._keyed_batch.copy()
        keyed.update(b"%012x%04x%04x" % (first, count, span))
        return int.from_bytes(keyed.digest(), "big")


def write(sequence: int, tag: int) -> bytes:
    """Return the id of ``sequence`` with ``tag``, ASCII."""
    return b"%012x%016x" % (sequence, tag)


def read(text: bytes, length: int = LENGTH) -> int:
    """Return ``sequence << 64 | tag`` of a job id; 0, which no job has, where it is not in the one form we write."""
    try:
        number = int.from_bytes(unhexlify(text), "big")
    except HexError:
        return 0
    return number if len(text) == length and text == text.lower() else 0


def write_batch(first: int, count: int, span: int, tag: int) -> bytes:
    """Return the id of a batch, ASCII."""
    return b"%012x%04x%04x%016x" % (first, count, span, tag)


def read_batch(batch_id: bytes) -> tuple[int, int, int, int]:
    """Return (first, count, span, tag); zeros, which no batch has, where it is not in the one form we write."""
    number = read(batch_id, BATCH_LENGTH)
    ahead = number >> TAG_BITS
    return ahead >> 2 * COUNT_BITS, ahead >> COUNT_BITS & COUNT_MASK, ahead & COUNT_MASK, number & TAG_MASK
