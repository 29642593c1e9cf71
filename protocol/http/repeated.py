"""A head that the parser took, recognised again except for the value of its Content-Length.

A client that keeps its connection sends the same head with each POST, except for the length. If all
other bytes are the same, and the length is plain digits, the parser would find the same as before:
see docs/adr/0005-the-known-head.md.
"""

from __future__ import annotations

from headway.protocol.http.app import Bound
from headway.protocol.http.request import Request

NAME = b"\r\ncontent-length:"
# A longer head is not kept. Each client may have one of a POST, and one of a HEAD.
KNOWN_BYTES = 1024
# Digits of a length. Content that fits a read needs no more.
DIGITS_MOST = 6


class KnownHead:
    """The bytes ``before`` and ``after`` the length, and the parsed request with its route."""

    __slots__ = ("after", "before", "bound", "request")

    def __init__(self, before: bytes, after: bytes, request: Request, bound: Bound) -> None:
        self.before = before
        self.after = after
        self.request = request
        self.bound = bound

    @classmethod
    def of(cls, request: Request, data: bytes, bound: Bound) -> KnownHead | None:
        """Return the head of ``data``, a whole request. None unless its length is plain digits."""
        head, end, body = data.partition(b"\r\n\r\n")
        at = head.lower().find(NAME) + len(NAME)
        at += len(head) - at - len(head[at:].lstrip(b" "))
        digits = head[at:].partition(b"\r")[0]
        if not digits.isdigit() or len(digits) > DIGITS_MOST or len(head) > KNOWN_BYTES:
            return None
        if int(digits) != len(body) or len(body) > request.limit.most_bytes:
            return None
        return cls(head[:at], head[at + len(digits) :] + end, request.copy(), bound)

    def take(self, data: bytes) -> bool:
        """Give the request the content after ``before``. Return False unless it is here whole and alone."""
        begin = len(self.before)
        end = data.find(b"\r", begin, begin + DIGITS_MOST + 1)
        digits = data[begin:end]
        if end < 0 or not digits.isdigit() or not data.startswith(self.after, end):
            return False
        body = data[end + len(self.after) :]
        if len(body) != int(digits) or len(body) > self.request.limit.most_bytes:
            return False
        self.request.body = body
        # Content without a media type is read by its length, too.
        self.request.headers[b"content-length"] = digits
        return True
