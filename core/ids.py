"""Job ids: 28 lower-case hex digits, 12 of the sequence number and 16 of a keyed tag.

The tag is BLAKE2b (RFC 7693) of the sequence number under a secret of the server. Nobody can make an id, so one
whose tag is right was issued, and an id that is no longer on the board is told from one that never was with
nothing stored: 410, not 404. The board keeps the tag of each row, so reading a status costs no hash.
"""

from __future__ import annotations

import secrets
from binascii import Error as HexError
from binascii import unhexlify
from hashlib import blake2b

LENGTH = 28
TAG_BITS = 64
TAG_MASK = (1 << TAG_BITS) - 1
# No sequence number can reach this: at a million a second, nine years.
SEQUENCE_LIMIT = 1 << 48


class Ids:
    """Makes and checks ids under one secret."""

    def __init__(self, secret: bytes | None = None) -> None:
        self.secret = secret or secrets.token_bytes(32)
        self._keyed = blake2b(key=self.secret, digest_size=TAG_BITS // 8)

    def tag(self, sequence: int) -> int:
        """Return the tag of ``sequence``, 64 bits."""
        keyed = self._keyed.copy()
        keyed.update(sequence.to_bytes(8, "big"))
        return int.from_bytes(keyed.digest(), "big")


def write(sequence: int, tag: int) -> bytes:
    """Return the id of ``sequence`` with ``tag``, ASCII."""
    return b"%012x%016x" % (sequence, tag)


def read(job_id: bytes) -> int:
    """Return ``sequence << 64 | tag``; 0, which no job has, where ``job_id`` is not in the one form we write."""
    try:
        number = int.from_bytes(unhexlify(job_id), "big")
    except HexError:
        return 0
    return number if len(job_id) == LENGTH and job_id == job_id.lower() else 0
