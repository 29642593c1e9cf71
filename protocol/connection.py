"""One client: bytes to requests, answers to bytes.

The rules of this file:

- all work is done in ``data_received``, and what one read asked for is answered with one write;
- answers go out in the order of the requests; a request that cannot be answered yet, because the client does not
  read, waits in ``_waiting`` and no more is read meanwhile, so a client can fill its own buffers only;
- what is invalid or ambiguous is answered once, and the connection ends: our side is shut, what still comes is
  read and dropped for LINGER_S, so that the answer is not lost to a reset (RFC 9112, 9.6);
- no timers: each connection has a ``deadline`` that the service looks at once a second.
"""

from __future__ import annotations

import asyncio
import logging
import time
from math import inf
from typing import cast

from headway.core import ids
from headway.core.errors import HeadwayError
from headway.core.waiters import Waiter
from headway.protocol import problems, routes
from headway.protocol.known import KnownHead
from headway.protocol.problems import Refusal
from headway.protocol.request import Request, head_too_large, refused
from headway.protocol.responses import CONTINUE, Held, with_connection
from headway.protocol.service import LINGER_S, Service
from httptools import HttpParserError, HttpParserInvalidMethodError, HttpParserUpgrade

log = logging.getLogger(__name__)
access = logging.getLogger("headway.access")

# Where the target, the id and the rest begin in a HEAD of a job.
_HEAD_JOB = b"HEAD /jobs/"
_TARGET = len(b"HEAD ")
_ID = len(_HEAD_JOB)
_REST = _ID + ids.LENGTH
# Answers that may gather for one write, in bytes and in number, before further requests wait for a later turn of the
# loop: the memory that one client takes, and the time that others wait for it.
OUT_MOST = 256 * 1024
TURN_MOST = 256
# The header fields of KEPT that a request may have and still ask for nothing out of the ordinary.
PLAIN = {b"host", b"connection", b"content-type", b"content-length"}


class Last(bytes):
    """An answer with which the connection ends."""


class Connection(asyncio.Protocol):
    """A client's connection, for as long as it lasts."""

    __slots__ = (
        "_answered",
        "_body_bytes",
        "_closing",
        "_eof",
        "_fruitless_bytes",
        "_held",
        "_in_body",
        "_in_head",
        "_known_post",
        "_known_rest",
        "_out",
        "_out_bytes",
        "_paused",
        "_request",
        "_to_flush",
        "_transport",
        "_unsent_bytes",
        "_waiting",
        "deadline",
        "service",
    )

    def __init__(self, service: Service) -> None:
        # Shared.
        self.service = service
        # Per connection.
        self._transport: asyncio.Transport
        # When ``overdue`` is to be called, of time.monotonic; what for is told by the flags below.
        self.deadline = service.idle_deadline
        self._request = Request(service.config.limits, self._expects, self._ready)
        self._paused = self._closing = self._eof = False
        # What could not be answered yet, in order; bytes are an answer that only waits for its turn.
        self._waiting: list[Request | bytes] = []
        # An answer that waits for its job.
        self._held: Waiter | None = None
        self._in_head = self._in_body = False
        # What followed the id in a HEAD that the parser took and that asked for nothing else. The same bytes again,
        # after another id, need no parser: compared whole, they are as good as when the parser took them. Likewise
        # the head of a POST, but for its length. Set only while no request is half read, none waits or is held, and
        # the connection goes on.
        self._known_rest: bytes | None = None
        self._known_post: KnownHead | None = None
        # Of answers, when the deadline was set; 0 where the deadline is not about them.
        self._unsent_bytes = 0
        # Per read.
        self._answered = 0
        self._to_flush = False
        self._out: list[bytes] = []
        self._out_bytes = 0
        # Per request that comes in more than one read: bytes of its content, and what was read since they grew; a
        # head, trailers or chunk extensions without end gather inside the parser.
        self._body_bytes = self._fruitless_bytes = 0

    def __repr__(self) -> str:
        peer = self._transport.get_extra_info("peername")
        return f"<Connection {peer}{' closing' if self._closing else ''}{' paused' if self._paused else ''}>"

    # What the transport calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client has connected."""
        self._transport = cast(asyncio.Transport, transport)
        connections = self.service.connections
        most = self.service.config.limits.connections
        if len(connections) < most:
            connections.add(self)
        else:
            detail = f"{most} clients are connected, which is the limit"
            self._refuse(Refusal("connections", detail, fields=b"Retry-After: 1\r\n"), bodiless=False)
            self._flush_soon()

    def connection_lost(self, _: Exception | None) -> None:
        """The connection is over."""
        self.service.connections.discard(self)
        self.service.lingering.discard(self)
        self._closing = True
        self._waiting.clear()
        if self._held is not None:
            self._held.cancel()
            self._held = None

    def eof_received(self) -> bool:
        """The client sends no more; what it has asked for is still answered."""
        self._eof = True
        if self._held is not None:
            # It may be gone altogether: it waits no more.
            self._held.cancel()
            self._held.wake()
        return bool(self._waiting)

    def pause_writing(self) -> None:
        """The client does not read its answers."""
        self._paused = True
        self._forget()
        self._transport.pause_reading()
        self._wait_for_client()

    def resume_writing(self) -> None:
        """The client has read enough for more."""
        self._paused = False
        self._unsent_bytes = 0
        self.deadline = time.monotonic() + self.service.config.timeouts.body
        self._answer_waiting()

    def data_received(self, data: bytes) -> None:
        """Feed the parser, which calls ``_ready``; then write what has been answered."""
        # In one process without sockets a HEAD costs a third of what it costs through the parser: docs/adr/0005.
        if data[_REST:] == self._known_rest and data[:_ID] == _HEAD_JOB and self._answer_known(data[_ID:_REST]):
            return
        known = self._known_post
        if known is not None and data.startswith(known.before) and self._answer_known_post(known, data):
            return
        if self._closing:
            return
        request = self._request
        self._forget()
        self._answered = 0
        fresh = not request.begun
        offset = self._feed(data)
        if offset:
            self._feed_without_upgrade(memoryview(data)[offset:])
        if request.begun:
            self._expect_more(len(data))
        elif self._answered and self._held is None:
            self.deadline = self.service.idle_deadline
            if fresh and self._answered == 1:
                self._learn(request, data)
        self._flush_soon()
        if self._waiting:
            if self._held is None:
                self._answer_waiting()
            else:
                self._transport.pause_reading()

    def _forget(self) -> None:
        self._known_rest = self._known_post = None

    def _learn(self, request: Request, data: bytes) -> None:
        """Remember the head of ``data`` if it was one request that asked for nothing out of the ordinary."""
        if request.version != "1.1" or not request.keep_alive or not request.headers.keys() <= PLAIN:
            return
        if data[:_ID] == _HEAD_JOB and request.target == data[_TARGET:_REST]:
            self._known_rest = data[_REST:]
        elif request.method == b"POST" and b"content-length" in request.headers:
            self._known_post = KnownHead.of(request, data)

    def _answer_known_post(self, known: KnownHead, data: bytes) -> bool:
        """Answer a request whose head is known, if it is here whole and nothing else is."""
        body = known.body_of(data)
        if body is None:
            return False
        request = known.request
        request.body = body
        self._answered = 0
        self._answer(request)
        self.deadline = self.service.idle_deadline if self._held is None else inf
        self._flush_soon()
        return True

    def _answer_known(self, job_id: bytes) -> bool:
        """Answer HEAD for a job that was issued; anything else is for the parser to look at."""
        service = self.service
        status = service.engine.peek(job_id)
        if status is None:
            return False
        head = service.heads.job(status) + b"\r\n"
        self._out.append(head)
        self._flush_soon()
        self.deadline = service.idle_deadline
        service.heads_told[status.state] += 1
        if service.access_log:
            self._log_access(head, b"HEAD", b"/jobs/" + job_id)
        return True

    def _feed(self, data: bytes | memoryview) -> int:
        """Feed the parser; return where it stopped at a request that asks for an Upgrade, or 0."""
        request = self._request
        try:
            request.parser.feed_data(data)
        except HttpParserUpgrade as upgrade:
            return int(upgrade.args[0])
        except HttpParserError as error:
            self._refuse(refused(error), self._is_head() and not isinstance(error, HttpParserInvalidMethodError))
        return 0

    def _is_head(self) -> bool:
        """Whether the request that is being read is a HEAD, so that its refusal has no body."""
        return self._request.parser.get_method() == b"HEAD"

    def _feed_without_upgrade(self, rest: memoryview) -> None:
        """Go on after the head of a request that asks for an Upgrade, as if it had not."""
        while True:
            self._feed(self._request.restart())
            offset = self._feed(rest)
            if not offset:
                return
            rest = rest[offset:]

    # What the request calls.

    def _expects(self, request: Request) -> None:
        """Answer ``Expect: 100-continue`` before the content is sent, unless it is refused (RFC 9110, 10.1.1)."""
        if request.version != "1.1":
            return
        if request.headers[b"expect"].lower() != b"100-continue":
            raise Refusal("expectation", "the only expectation here is 100-continue")
        route, _ = routes.find(request.target)
        routes.answer_for(route, request.method)
        if request.method == b"POST":
            routes.check_content(request)
            self.service.engine.check_room()
        self._take(CONTINUE)

    def _ready(self, request: Request) -> None:
        self._in_head = self._in_body = False
        self._take(request)

    def _expect_more(self, read_bytes: int) -> None:
        """A request is not complete: see that the rest of it comes in time, and its head within its limit."""
        timeouts, limits = self.service.config.timeouts, self.service.config.limits
        if self._request.head_done:
            if not self._in_body:
                self._in_body = True
                self._body_bytes = self._fruitless_bytes = 0
                self.deadline = time.monotonic() + timeouts.body
            if self._request.body_bytes > self._body_bytes:
                self._fruitless_bytes = 0
            self._body_bytes = self._request.body_bytes
        elif not self._in_head:
            self._in_head = True
            self._fruitless_bytes = 0
            self.deadline = time.monotonic() + timeouts.head
        self._fruitless_bytes += read_bytes
        # Twice: white space that the parser drops counts here, and not in a head that comes in one read.
        if self._fruitless_bytes > OUT_MOST + 2 * (limits.request_line_bytes + limits.head_bytes):
            self._refuse(head_too_large(limits), self._is_head())

    # Answers.

    def _take(self, item: Request | bytes) -> None:
        """Answer ``item`` in its turn; after an answer that ends the connection nothing has a turn."""
        if self._closing:
            return
        wait = self._waiting or self._paused or self._held or self._answered >= TURN_MOST or self._out_bytes > OUT_MOST
        if wait:
            self._waiting.append(item.copy() if isinstance(item, Request) else item)
        else:
            self._handle(item)

    def _handle(self, item: Request | bytes) -> None:
        if isinstance(item, Request):
            self._answer(item)
        elif isinstance(item, Last):
            self._closing = True
            self._send(item, "")
            if self.service.access_log:
                self._log_access(item, b"-", b"-")
        else:
            self._out.append(item)

    def _answer(self, request: Request) -> None:
        self._answered += 1
        if b"prefer" in request.headers:
            # What is held keeps its request while the next ones are read.
            request = request.copy()
        name = ""
        try:
            route, job_id = routes.find(request.target)
            name = route.names.get(request.method, route.path)
            answer = routes.answer_for(route, request.method)(self.service, request, job_id)
        except Exception as error:  # noqa: BLE001 — _excuse logs what is not ours
            self._excuse(error, request, name)
            return
        if isinstance(answer, Held):
            self._hold(answer, request, name)
        else:
            self._finish(answer, request, name, not request.keep_alive)

    def _hold(self, held: Held, request: Request, name: str) -> None:
        """Let an answer wait for its job; those behind it wait for it."""

        def wake() -> None:
            self._held = None
            self.deadline = self.service.idle_deadline
            try:
                self._finish(held.then(), request, name, not request.keep_alive)
            except Exception as error:  # noqa: BLE001 — _excuse logs what is not ours
                self._excuse(error, request, name)
            self._answer_waiting()

        self._forget()
        self._held = self.service.engine.wait(held.status, held.seconds, wake)
        self.deadline = inf

    def _excuse(self, error: Exception, request: Request, name: str) -> None:
        """Answer a request that an error came of: ours to explain, or a defect."""
        if not isinstance(error, Refusal | HeadwayError):
            log.error("a request failed: %s %s", request.method, request.target, exc_info=error)
            error = Refusal("internal", "the log says more", close=True)
        self.service.reject(error.reason)
        answer = problems.answer(error, self.service.clock, request.method == b"HEAD")
        self._finish(answer, request, name, problems.closes(error) or not request.keep_alive)

    def _finish(self, answer: bytes, request: Request, name: str, close: bool) -> None:
        if close or request.version == "1.0":
            answer = with_connection(answer, close)
            self._closing = close
        self._send(answer, name)
        if self.service.access_log:
            self._log_access(answer, request.method, request.target)

    def _refuse(self, error: Refusal | HeadwayError, bodiless: bool) -> None:
        """Answer what is no request, in its turn; the connection ends with it."""
        if self._closing:
            return
        self.service.reject(error.reason)
        self._take(Last(with_connection(problems.answer(error, self.service.clock, bodiless), close=True)))

    def _send(self, answer: bytes, name: str) -> None:
        self._out.append(answer)
        self._out_bytes += len(answer)
        requests, key = self.service.requests, (name, answer[9:12])
        requests[key] = requests.get(key, 0) + 1

    def _flush_soon(self) -> None:
        """Have the answers written when all that is readable in this turn of the loop has been read.

        Writing to each client as soon as it is answered wakes them one by one, which costs as much as answering: with
        make bench-floor a POST costs 0.7 of what it did.
        """
        if not self._to_flush:
            self._to_flush = True
            self.service.flush_soon(self)

    def flush(self) -> None:
        """Write all answers at once; end the connection if one of them said so."""
        self._to_flush = False
        if self._transport.is_closing():
            return
        if self._out:
            self._transport.write(self._out[0] if len(self._out) == 1 else b"".join(self._out))
            self._out.clear()
            self._out_bytes = 0
        if self._closing:
            self._linger()

    def _answer_waiting(self) -> None:
        """Go on with what had to wait, a turn of the loop at a time, for as long as the client reads."""
        if self._closing or self._held is not None:
            return
        waiting = self._waiting
        done = 0
        while done < min(len(waiting), TURN_MOST) and self._out_bytes <= OUT_MOST and not (self._closing or self._held):
            self._handle(waiting[done])
            done += 1
        del waiting[:done]
        self.flush()
        if self._paused or self._closing or self._held is not None:
            return
        if waiting:
            self._transport.pause_reading()
            asyncio.get_running_loop().call_soon(self._answer_waiting)
        elif self._eof:
            self._transport.close()
        else:
            self._transport.resume_reading()

    def _linger(self) -> None:
        """Shut our side; what the client still sends is dropped until it ends its side, or LINGER_S is over."""
        self._waiting.clear()
        self._forget()
        if self._transport.can_write_eof() and not self._transport.is_closing():
            self._transport.write_eof()
        self._wait_for_client()
        # One that has had its last answer takes no place among limits.connections.
        self.service.connections.discard(self)
        self.service.lingering.add(self)

    def _wait_for_client(self) -> None:
        """Give it time to take what it has not taken yet; after that, to end its side."""
        self._unsent_bytes = self._transport.get_write_buffer_size()
        patience_s = self.service.config.timeouts.write if self._unsent_bytes else LINGER_S
        self.deadline = time.monotonic() + patience_s

    def overdue(self) -> None:
        """The deadline has passed: end the connection, unless it is a slow one that goes on taking its answers."""
        if self._transport.get_write_buffer_size() < self._unsent_bytes:
            self._wait_for_client()
        elif self._closing or self._paused:
            self._transport.abort()
        elif self._in_head or self._in_body:
            self._refuse(Refusal("request-timeout", "the request did not arrive in time"), self._is_head())
            self._flush_soon()
        else:
            self._transport.close()

    def _log_access(self, answer: bytes, method: bytes, target: bytes) -> None:
        peer = self._transport.get_extra_info("peername") or ("-",)
        line = f"{method.decode()} {target.decode(errors='backslashreplace')}"
        access.info('%s "%s" %s %d', peer[0], line, answer[9:12].decode(), len(answer))
