"""Bytes to answers.

The end of an answer depends on the request (RFC 9112, 6.3). An answer to HEAD ends with its head,
whatever length its header lines give, and no response parser can know that. So the reader is asked
for the next answer *to HEAD* or *to anything else*:

- To HEAD: the bytes up to the empty line, checked by a parser that sees nothing else (a new one
  costs 0.5 µs).
- To anything else: the parser reads as far as the answer goes. Nothing may follow, because a link
  sends nothing after a POST until it is answered (RFC 9112, 9.3.2).
"""

from __future__ import annotations

import time
from email.utils import parsedate_to_datetime

from httptools import HttpParserError, HttpResponseParser

# Longer bytes are no head.
HEAD_MOST = 65_536
_OPENING = b"HTTP/1."
_NO_CALLBACKS = object()


class BadAnswerError(Exception):
    """The bytes that came are no answer in HTTP/1."""


class Answer:
    """One answer: its code, head and body."""

    __slots__ = ("_head", "_lower", "body", "code")

    def __init__(self, code: int, head: bytes, body: bytes = b"") -> None:
        self.code = code
        self._head = head
        # In lower case, to look up names.
        self._lower = head.lower()
        self.body = body

    def __repr__(self) -> str:
        return f"<Answer {self.code} {self._head!r}>"

    def field(self, name: bytes) -> bytes | None:
        """Return the value of a header field, None if there is none. ``name`` is in lower case."""
        start = self._lower.find(b"\r\n%b:" % name)
        if start < 0:
            return None
        return self._head[start + len(name) + 3 : self._head.find(b"\r\n", start + 2)].strip()

    @property
    def about_job(self) -> bool:
        """Whether the answer is about a job or a batch, not about the server or from a proxy."""
        return b"\r\njob-state:" in self._lower or b"\r\nbatch-pending:" in self._lower

    def number(self, name: bytes) -> int:
        """Return the value of a header field as a whole number, 0 if there is none."""
        value = self.field(name)
        return int(value) if value is not None and value.isdigit() else 0

    @property
    def closes(self) -> bool:
        """Whether the server ends the connection with it."""
        return b"\r\nconnection: close\r\n" in self._lower

    def told_s(self, milliseconds: bool) -> float | None:
        """Seconds to wait: Retry-After-Ms if ``milliseconds`` are obeyed, else Retry-After."""
        hint = self.field(b"retry-after-ms") if milliseconds else None
        if hint is not None and hint.isdigit():
            return int(hint) / 1000
        hint = self.field(b"retry-after")
        if hint is None or hint.isdigit():
            return None if hint is None else float(hint)
        try:
            return max(parsedate_to_datetime(hint.decode("latin-1")).timestamp() - time.time(), 0.0)
        except ValueError:
            return None


class AnswerReader:
    """The bytes that came on one connection."""

    __slots__ = ("_body", "_complete", "_head", "_parser", "_rest")

    def __init__(self) -> None:
        self._rest = b""
        # The parser of the answer that is being read, if the answer is not to HEAD.
        self._parser: HttpResponseParser | None = None
        self._head: list[bytes] = []
        self._body: list[bytes] = []
        self._complete: Answer | None = None

    @property
    def left(self) -> bytes:
        """The bytes that belong to no answer yet."""
        return self._rest

    def feed(self, data: bytes) -> None:
        """Take bytes that came."""
        self._rest = self._rest + data if self._rest else data

    def next(self, bodiless: bool) -> Answer | None:
        """Return the next answer (``bodiless``: to HEAD), None if incomplete. Raises BadAnswerError."""
        if not self._rest:
            return None
        return self._next_head() if bodiless else self._next_whole()

    def _next_head(self) -> Answer | None:
        while True:
            rest = self._rest
            end = rest.find(b"\r\n\r\n") + 4
            if end == 3:
                _check_opening(rest)
                return None
            head, self._rest = (rest, b"") if end == len(rest) else (rest[:end], rest[end:])
            parser = HttpResponseParser(_NO_CALLBACKS)
            try:
                parser.feed_data(head)
            except HttpParserError as error:
                raise BadAnswerError(str(error)) from None
            code = parser.get_status_code()
            if code >= 200:
                return Answer(code, head)

    def _next_whole(self) -> Answer | None:
        if self._parser is None:
            self._parser = HttpResponseParser(self)
        try:
            self._parser.feed_data(self._rest)
        except HttpParserError as error:
            raise BadAnswerError(str(error.__context__ or error)) from None
        self._rest = b""
        answer, self._complete = self._complete, None
        if answer is not None:
            self._parser = None
        return answer

    # The parser calls these.

    def on_message_begin(self) -> None:
        """A status line begins."""
        if self._complete is not None:
            raise BadAnswerError("more came than one answer")
        self._head = []
        self._body = []

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header line."""
        self._head.append(b"\r\n%b: %b" % (name, value))

    def on_body(self, piece: bytes) -> None:
        """Some or all of the body."""
        self._body.append(piece)

    def on_message_complete(self) -> None:
        """An answer is complete. Interim ones (1xx) are passed over."""
        assert self._parser is not None
        code = self._parser.get_status_code()
        if code >= 200:
            self._complete = Answer(code, b"".join(self._head) + b"\r\n", b"".join(self._body))


def _check_opening(rest: bytes) -> None:
    """Raise BadAnswerError if ``rest`` cannot become a head."""
    if len(rest) > HEAD_MOST:
        raise BadAnswerError(f"a head of more than {HEAD_MOST} bytes")
    if rest[:7] != _OPENING[: len(rest)]:
        raise BadAnswerError("it does not begin with HTTP/1.")
