"""The log of a job as it can be read: its beginning, its end, and the count of the bytes between."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec


class JobLog(msgspec.Struct, frozen=True, gc=False):
    """The text that a job has written, in UTF-8 as a rule.

    ``head`` begins at byte 0, ``tail`` ends at byte ``total``. The bytes between were left out.
    """

    head: bytes = b""
    tail: bytes = b""
    total: int = 0

    @property
    def left_out(self) -> int:
        """Bytes that were written and not kept."""
        return self.total - len(self.head) - len(self.tail)

    @property
    def tail_begin(self) -> int:
        """The place of the tail's first byte."""
        return self.total - len(self.tail)

    def text(self) -> bytes:
        """Return all that is kept, with a line that counts the bytes left out."""
        if not self.left_out:
            return self.head + self.tail
        end = b"" if not self.head or self.head.endswith(b"\n") else b"\n"
        return b"%b%b[... %d bytes left out ...]\n%b" % (self.head, end, self.left_out, self.tail)

    def piece(self, begin: int, end: int) -> tuple[int, bytes]:
        """Return the first kept bytes from ``begin`` on and below ``end`` that lie side by side, and their place.

        There are none if all of that was left out, or is not written yet.
        """
        if self.left_out and begin >= len(self.head):
            begin = max(begin, self.tail_begin)
            return begin, self.tail[begin - self.tail_begin : max(end - self.tail_begin, 0)]
        if self.left_out:
            return begin, self.head[begin:end]
        return begin, (self.head + self.tail)[begin:end]


def joined(pieces: Iterable[tuple[int, bytes]], most: int) -> JobLog:
    """Return the log that has ``pieces``, each a place and the bytes there, in their order.

    Where pieces are missing, the bytes before the first gap are the head. Those after the last one
    are the tail, at most ``most`` of them.
    """
    head, tail, end = bytearray(), bytearray(), 0
    for place, text in pieces:
        if place > end:
            tail.clear()
        if len(head) == place:
            head += text
        else:
            tail += text
        end = place + len(text)
    if end == len(head):
        return JobLog(bytes(head), b"", end)
    return JobLog(bytes(head), bytes(tail[-most:]), end)
