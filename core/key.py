"""The key of a submission, which its client chose. ``board/idempotency`` keeps those that are known."""

from __future__ import annotations

from hashlib import blake2b

import msgspec

DIGEST_BYTES = 16


class Key(msgspec.Struct, frozen=True):
    """The key of a submission, and a digest of its content."""

    text: str
    digest: bytes

    @classmethod
    def of(cls, text: str, content: bytes, what: bytes = b"") -> Key:
        """Return the key of a submission with this content. ``what`` is the kind of submission."""
        return cls(text, blake2b(content, digest_size=DIGEST_BYTES, person=what).digest())
