"""Job ids: 36 lower-case hex digits, 8 of a marker, 12 of the sequence number and 16 of a keyed tag.

The marker names the issuer of an id: the journal, or without one the run of the server. An id with
another marker was issued elsewhere, or never: that cannot be known here (MisdirectedError).

The tag is a part of BLAKE2b (RFC 7693) under a secret of the server: a digest of 64 bytes has the
tags of eight sequence numbers in a row. Nobody can make an id, so an id with the right tag was
issued. An id that is no longer on the board thus differs from one that was never issued, with
nothing stored: 410, not 404. The board keeps the tag of each row, so reading a status costs no
hash.

Each start with a journal adds a *salt* to the secret, for the numbers that it gives from there on.
So no id is given twice, even if a number is.

A journal may be an old copy that was put back. Then numbers below those of the present run may have
been given by a run that is unknown here. So if such a number comes with a wrong tag, it is not
known whether its id was ever issued (MisdirectedError). docs/adr/0018 has the reasons.

The id of a batch has 40 digits: the marker, 12 of its first sequence number, 4 of its number of
jobs, and a tag over the two. The tags of batches are made under another personalization of BLAKE2b,
so neither kind of id can be made out of the other.
"""

from __future__ import annotations

import os
from binascii import Error as HexError
from binascii import unhexlify
from bisect import bisect_right
from collections.abc import Sequence
from hashlib import blake2b
from itertools import chain
from struct import Struct

from headway.core.errors import MisdirectedError

MARKER_LENGTH = 8
ID_LENGTH = MARKER_LENGTH + 28
BATCH_LENGTH = MARKER_LENGTH + 32
TAG_BITS = 64
TAG_MASK = (1 << TAG_BITS) - 1
# No sequence number can reach this: at a million a second, nine years.
SEQUENCE_BITS = 48
SEQUENCE_LIMIT = 1 << SEQUENCE_BITS
SEQUENCE_MASK = SEQUENCE_LIMIT - 1
# Bits of the number of jobs in a batch.
COUNT_BITS = 16
COUNT_MASK = (1 << COUNT_BITS) - 1
# Numbers may follow the clock: so many a second, more than an engine gives, from the first second of
# 2026 on.
NUMBERS_A_SECOND = 1 << 17
NUMBERS_BEGIN_S = 1_767_225_600
SECRET_BYTES = 32
SALT_BYTES = 16
# The tags of one digest, 2^3 of them: this many numbers have their tags under one salt.
_TAGS = Struct(">8Q")
TOGETHER = 8
# (number, salt), ascending. A salt holds from its number on.
Salts = Sequence[tuple[int, bytes]]


class Ids:
    """Makes and checks ids under one secret. Each salt holds from its number on, a multiple of TOGETHER.

    Unknown runs may have given numbers below ``since``.
    """

    def __init__(self, secret: bytes = b"", salts: Salts = (), since: int = 0) -> None:
        self.since = since
        self.secret = secret or os.urandom(SECRET_BYTES)
        self.salts = list(salts) or [(0, b"")]
        self.marker = blake2b(key=self.secret, digest_size=4, person=b"marker").hexdigest().encode()
        self._from = [first for first, _ in self.salts]
        self._keyed = [blake2b(key=self.secret + salt, digest_size=_TAGS.size) for _, salt in self.salts]
        self._keyed_batch = [
            blake2b(key=self.secret + salt, digest_size=TAG_BITS // 8, person=b"batch") for _, salt in self.salts
        ]
        # The last eight made, by number and tags. One attribute, so that any thread sees both or
        # neither.
        self._made: tuple[int, tuple[int, ...]] = -1, ()

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
        keyed = self._keyed[self._salt_of(eight << 3)].copy()
        keyed.update(eight.to_bytes(8, "big"))
        return _TAGS.unpack(keyed.digest())

    def _salt_of(self, sequence: int) -> int:
        return max(bisect_right(self._from, sequence) - 1, 0)

    def batch_tag(self, first: int, count: int) -> int:
        """Return the tag of the batch of ``count`` jobs from ``first`` on, 64 bits."""
        keyed = self._keyed_batch[self._salt_of(first)].copy()
        keyed.update(b"%012x%04x" % (first, count))
        return int.from_bytes(keyed.digest(), "big")

    def write(self, sequence: int, tag: int) -> bytes:
        """Return the id of ``sequence`` with ``tag``, ASCII."""
        return b"%b%012x%016x" % (self.marker, sequence, tag)

    def read(self, text: bytes) -> tuple[int, int]:
        """Return (sequence number, tag) of a job id; zeros, which no job has, if it is no id.

        Raises MisdirectedError if it has the form of an id and the marker of another issuer.
        """
        number = self._number(text, ID_LENGTH)
        return number >> TAG_BITS, number & TAG_MASK

    def issued(self, sequence: int, tag: int) -> bool:
        """Whether the id of ``sequence`` with ``tag`` was issued. Raises MisdirectedError if that is not known."""
        if sequence and self.tag(sequence) == tag:
            return True
        if 0 < sequence < self.since:
            raise MisdirectedError
        return False

    def write_batch(self, first: int, count: int) -> bytes:
        """Return the id of the batch of ``count`` jobs from ``first`` on, ASCII."""
        return b"%b%012x%04x%016x" % (self.marker, first, count, self.batch_tag(first, count))

    def read_batch(self, text: bytes) -> tuple[int, int]:
        """Return (first sequence number, count) of a batch that was issued here; otherwise zeros.

        Raises MisdirectedError as ``read`` does.
        """
        number = self._number(text, BATCH_LENGTH)
        ahead = number >> TAG_BITS
        first, count = ahead >> COUNT_BITS, ahead & COUNT_MASK
        if first and number & TAG_MASK == self.batch_tag(first, count):
            return first, count
        if 0 < first < self.since:
            raise MisdirectedError
        return 0, 0

    def _number(self, text: bytes, length: int) -> int:
        """Return the number behind the marker; 0 if ``text`` has not the one form that we write."""
        if len(text) != length or text != text.lower():
            return 0
        try:
            number = unhexlify(text)
        except HexError:
            return 0
        if text[:MARKER_LENGTH] != self.marker:
            raise MisdirectedError
        return int.from_bytes(number[MARKER_LENGTH // 2 :], "big")


def without_tag(text: bytes) -> bytes:
    """Return the part of an id that anyone may see: it names the job or batch, and is no capability."""
    return text[: -TAG_BITS // 4]


def has_form(text: bytes) -> bool:
    """Whether ``text`` has the form of the id of a job or a batch, from any issuer and in any case."""
    try:
        return len(unhexlify(text)) * 2 in (ID_LENGTH, BATCH_LENGTH)
    except HexError:
        return False
