"""One connection, opened when there is something to send, and again after it was lost.

Requests go out in order, pipelined. Nothing follows a POST until it is answered (RFC 9112, 9.3.2),
so an answer is always to the first question in ``_asked``. There are no timers here: the crowd calls
``check`` once a second.
"""

from __future__ import annotations

import asyncio
import errno
import socket
import ssl
import time
from collections import deque
from typing import Protocol, cast

from headway.sim.answers import Answer, AnswerReader, BadAnswerError
from headway.sim.run import Run


class Question(Protocol):
    """Something to ask."""

    request: bytes
    # Its answer is one to HEAD.
    bodiless: bool
    # When the request was written, of time.monotonic.
    sent: float

    def answered(self, answer: Answer, now: float) -> None:
        """The answer has come."""

    def failed(self, kind: str) -> None:
        """No answer will come."""


class CrowdLink(asyncio.Protocol):
    """A connection to the server."""

    __slots__ = ("_asked", "_ending", "_fault", "_opening", "_out", "_reader", "_run", "_transport", "_unsent")

    def __init__(self, run: Run) -> None:
        self._run = run
        self._transport: asyncio.Transport | None = None
        self._opening: asyncio.Task[None] | None = None
        self._reader = AnswerReader()
        # Questions with a request that is written and not answered, in order.
        self._asked: deque[Question] = deque()
        # Questions with a request that is not written: there is no connection yet, or a POST is not
        # answered.
        self._unsent: deque[Question] = deque()
        # Requests of those in ``_asked`` that are written at the end of this turn of the loop.
        self._out: list[bytes] = []
        # The connection is being ended, by an answer that said so or by us: nothing more is sent or
        # read.
        self._ending = False
        # Why the questions in ``_asked`` get no answer, if we found the reason.
        self._fault: str | None = None

    def __repr__(self) -> str:
        return (
            f"<CrowdLink {'open' if self._transport else 'shut'} asked={len(self._asked)} unsent={len(self._unsent)}>"
        )

    @property
    def open(self) -> bool:
        """Whether there is a connection."""
        return self._transport is not None

    def send(self, question: Question) -> None:
        """Write the question's request in its turn."""
        asked = self._asked
        if self._transport is None or self._ending or self._unsent or (asked and not asked[-1].bodiless):
            self._unsent.append(question)
            self._connect()
            return
        self._write(question)

    def _write(self, question: Question) -> None:
        """Send a request with all others of this turn of the loop, in one write."""
        question.sent = time.monotonic()
        self._asked.append(question)
        self._out.append(question.request)
        if len(self._out) == 1:
            asyncio.get_running_loop().call_soon(self._flush)

    def _flush(self) -> None:
        # If the connection has ended since, the questions know.
        if self._transport is not None and not self._ending:
            self._transport.write(b"".join(self._out))
        self._out.clear()

    def check(self, limit: float) -> None:
        """Give up if a request written at ``limit`` or before, of time.monotonic, is not answered.

        The answer to a poll may wait as long as the policy allows.
        """
        if self._asked:
            first = self._asked[0]
            if first.sent + (self._run.policy.held_s if first.bodiless else 0.0) <= limit:
                self._abort("timeout")

    async def close(self) -> None:
        """End the connection. Unanswered questions stay so."""
        self._asked.clear()
        self._unsent.clear()
        self._abort(None)
        if self._opening is not None:
            self._opening.cancel()
            await asyncio.wait({self._opening})

    def _connect(self) -> None:
        """See that a connection is made, unless the run is over."""
        if self._transport is None and self._opening is None and not self._run.over.is_set():
            self._opening = asyncio.get_running_loop().create_task(self._open())

    async def _open(self) -> None:
        loop, run = asyncio.get_running_loop(), self._run
        try:
            async with asyncio.timeout(run.settings.timeout):
                name = run.settings.target().host if run.tls else None
                await loop.create_connection(lambda: self, *run.address, ssl=run.tls, server_hostname=name)
        except OSError as error:  # TimeoutError is one
            self._not_opened(error)
        finally:
            self._opening = None

    def _not_opened(self, error: OSError) -> None:
        if error.errno in (errno.EADDRNOTAVAIL, errno.EMFILE, errno.ENFILE):
            self._run.stop(f"no more connections can be made from here ({error.strerror}): share with --connections")
        kind = "timeout" if isinstance(error, TimeoutError) else _kind(error)
        self._run.failed(kind)
        unsent, self._unsent = self._unsent, deque()
        for question in unsent:
            question.failed("")

    # The transport calls these.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send the questions that waited for it."""
        self._transport = cast(asyncio.Transport, transport)
        self._reader = AnswerReader()
        self._fault, self._ending = None, False
        self._run.connected()
        self._send_unsent()

    def data_received(self, data: bytes) -> None:
        """Hand answers to their questions."""
        now = time.monotonic()
        reader, asked = self._reader, self._asked
        reader.feed(data)
        try:
            while asked and not self._ending:
                answer = reader.next(asked[0].bodiless)
                if answer is None:
                    break
                question = asked.popleft()
                if answer.closes:
                    self._end()
                question.answered(answer, now)
        except BadAnswerError:
            self._abort("malformed")
        if self._ending:
            return
        if reader.left and not asked:
            self._unasked(reader)
        elif self._unsent:
            self._send_unsent()

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the questions that get no answer. Connect again if there is more to ask."""
        self._transport = None
        asked, self._asked = self._asked, deque()
        kind = self._fault or "reset"
        for question in asked:
            question.failed(kind)
        if self._unsent:
            self._connect()

    def _send_unsent(self) -> None:
        unsent, asked = self._unsent, self._asked
        while unsent and self._transport is not None and not (asked and not asked[-1].bodiless):
            self._write(unsent.popleft())

    def _unasked(self, reader: AnswerReader) -> None:
        """Something came that answers nothing."""
        code = reader.left[9:12].decode("latin-1")
        self._run.failed(f"code {code} unasked" if reader.left.startswith(b"HTTP/1.") else "malformed")
        self._end()

    def _end(self) -> None:
        """Shut the connection. Requests after the last answer are sent again on the next one."""
        self._ending = True
        self._unsent.extendleft(reversed(self._asked))
        self._asked.clear()
        if self._transport is not None:
            self._transport.close()

    def _abort(self, fault: str | None) -> None:
        """Drop the connection because of ``fault``."""
        self._ending = True
        self._fault = fault
        if self._transport is not None:
            self._transport.abort()


def _kind(error: OSError) -> str:
    if isinstance(error, ConnectionRefusedError):
        return "refused"
    if isinstance(error, ConnectionResetError):
        return "reset"
    if isinstance(error, socket.gaierror):
        return "unresolved"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"TLS: {error.verify_message}: is the CA in SSL_CERT_FILE?"
    return f"connect: {error.strerror or error}"
