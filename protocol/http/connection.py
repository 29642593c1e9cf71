"""One client: bytes to requests. ``outbox`` has the other half, from requests to bytes.

The rules of this file:

- The requests of one read are answered with one write, both at the end of the turn (``round``).
- Bytes that were understood once on this connection need no parser the next time: docs/adr/0005.
- There are no timers. Each connection has a ``deadline``, and all are looked at once a second.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import cast

from headway.protocol.http.connections import Connections
from headway.protocol.http.malformed import head_too_large, refused
from headway.protocol.http.outbox import OUT_MOST, WAITING_BYTES, Answering
from headway.protocol.http.problems import Refusal, retry_after
from headway.protocol.http.queued import unread_bytes
from headway.protocol.http.repeated import KNOWN_BYTES, KnownHead
from headway.protocol.http.request import Request
from headway.protocol.http.responses import CONTINUE, Answer, Awaited
from headway.protocol.http.round import END, LEAVE
from httptools import HttpParserError, HttpParserInvalidMethodError, HttpParserUpgrade

log = logging.getLogger(__name__)

HEAD = b"HEAD"
# The header fields of KEPT in a poll that asks for nothing out of the ordinary.
PLAIN = {
    # Answers about jobs are never encoded, whatever a client accepts.
    *(b"accept", b"accept-encoding", b"host", b"connection", b"content-type", b"content-length"),
    *(b"authorization", b"forwarded", b"x-forwarded-for"),
}
# Those of a POST. What it prefers is read from its known head, as from any other.
PLAIN_POST = PLAIN | {b"prefer"}
# Bytes that the parser is fed at once, so that thousands of small requests are not all taken before
# there is time for them.
FEED_BYTES = 4096
# Bytes of answers in a client's buffer, above which the client counts as not reading.
BUFFER_BYTES = 16 * 1024
# The longest request line that is still recognised as one, if no server has its method.
BEGUN_BYTES = 1024


class Connection(Answering):
    """A client's connection, for as long as it lasts."""

    __slots__ = (
        *("_at", "_body_bytes", "_fruitless_bytes", "_holds_bytes", "_in_body", "_in_head", "_known", "_rest"),
        *("_begun", "_given", "known_rest"),
    )

    def __init__(self, shared: Connections, named: str | None = None) -> None:
        super().__init__(shared, named)
        self._request = Request(shared.config.limits, shared.app.content_limit, self._expects, self._ready)
        self._in_head = self._in_body = False
        # The end of the bytes that the parser was fed since the last request was complete.
        self._begun = b""
        # Bytes that were read and not fed to the parser yet, from ``_at`` on.
        self._rest = b""
        self._at = 0
        # Whether it is counted for bytes that are no request yet, or for a waiting request.
        self._holds_bytes = False
        # The bytes after the id in a HEAD that the parser took and that asked for nothing else. The
        # same bytes again, after another id, need no parser: compared whole, they are as good as
        # when the parser took them. The same holds for the head of a POST, except for its length.
        # The first may be what another connection has learned.
        self.known_rest: bytes | None = None
        self._known: KnownHead | None = None
        # The request with a known head that is being answered. None once something else was read.
        self._given: Request | None = None
        # Per request that comes in more than one read: bytes of its content, and bytes read since
        # they grew. A head, trailers or chunk extensions without end gather inside the parser.
        self._body_bytes = self._fruitless_bytes = 0

    def __repr__(self) -> str:
        return f"<Connection {self.peer}{' closing' if self._closing else ''}{' paused' if self._paused else ''}>"

    # The transport calls these.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client has connected."""
        self.transport = cast(asyncio.Transport, transport)
        self.transport.set_write_buffer_limits(BUFFER_BYTES)
        shared = self.shared
        self._request.peer = self.peer
        self._request.peer_is_named = self._named is not None
        self.known_rest = shared.known_rest
        # Else the road without a parser would not say that its first answer is the last.
        self.free = not shared.winding_down
        if shared.counts_addresses:
            self.address = shared.app.address(self.peer)
        try:
            shared.enter(self)
        except Refusal as refusal:
            self.free = False
            self._refuse(refusal, bodiless=False)
            self._flush_soon()

    def connection_lost(self, _: Exception | None) -> None:
        """The connection has ended."""
        self.shared.leave(self)
        self.shared.lingering.pop(self, None)
        self._closing = True
        self.free = False
        self._let_go()
        self.shared.untaken.release(self)
        # Nothing refers to it in a circle: the garbage collector looks seldom.
        self._request.end()
        self._known = self._bound = self._given = None

    def eof_received(self) -> bool:
        """The client sends no more. Its requests are still answered, unless TLS ends both sides at once."""
        # It comes after all earlier reads.
        self.shared.round.go_on_soon(self, END)
        return self.transport.can_write_eof()

    def data_received(self, data: bytes) -> None:
        """Have ``data`` read at the end of this turn of the loop."""
        self.shared.round.read_soon(self, data)

    # The round calls these.

    def read(self, data: bytes) -> None:
        """Take ``data`` as far as the client and this turn allow. Have the answers written then."""
        try:
            if data is LEAVE:
                self._leave_if_idle()
            elif self._closing:
                self._drop_or_send(data)
            elif data is END:
                self._end_input()
            elif self._woken and not data and self._is_alone():
                self._give_alone()
            elif not (self.free and not self.to_flush and self._answer_known(data)):
                self._read(data)
        except Exception:
            log.exception("%r failed, and is ended", self)
            self._closing = True
            self.transport.abort()

    def _drop_or_send(self, data: bytes) -> None:
        """The connection ends. Drop further reads, and send the rest of a last answer."""
        if data is END:
            self._eof = True
            self._end_stream()
            if self._body is None and not self.to_flush:
                # The client has ended its side, for which alone the connection lingers.
                self.transport.close()
        else:
            # These bytes may have had to wait for their turn.
            self._read_on()
        if self._body is not None:
            self._go_on()
            self._flush_soon()
            if self._body is not None and not self._paused:
                self.shared.round.go_on_soon(self)

    def _leave_if_idle(self) -> None:
        """Close the connection for a newcomer, unless the client has sent something meanwhile."""
        shared = self.shared
        if self.transport.is_closing():
            self.transport.abort()
        elif self._closing or not shared.is_idle(self) or self.to_flush or unread_bytes(self.transport):
            if self not in shared.lingering:
                shared.come_back(self)
            # ``forget`` may have passed it over, since it had no place.
            self.known_rest = self._known = None
            if self.free:
                self._read_on()
        else:
            shared.closed["place"] += 1
            self._closing = True
            if self._untaken():
                self._linger()
            else:
                self.transport.close()

    def _end_input(self) -> None:
        """Everything that the client sends has come."""
        self._eof = True
        if self._unknown is not None:
            # The client may be gone altogether.
            self._unknown.hurry()
        self._read(b"")

    def _read(self, data: bytes) -> None:
        request = self._request
        self.free = False
        # What waits is not alone any more.
        self._given = None
        self._answered = 0
        fresh = not (request.begun or self._rest)
        self._rest = self._rest[self._at :] + data if self._rest else data
        self._at = 0
        if self._waiting or self._blocked:
            self._go_on()
        fed = self._feed_rest()
        if request.begun:
            if fed:
                self._expect_more(fed)
        elif self._answered and not self._blocked:
            self.deadline = self.shared.idle_deadline
        self._flush_soon()
        if fresh and data and self._answered == 1 and not (request.begun or self._closing or self._waiting):
            self._learn(request, data)
        if self._is_done():
            self.free = not (request.begun or self._eof or self.shared.winding_down)
            if self.free:
                request.drop()
        else:
            self._wait()
        if self._holds_bytes or request.begun or self._rest or self._waiting:
            self._count_bytes()

    def _feed_rest(self) -> int:
        """Feed the parser for as long as nothing waits. Return how many bytes it took."""
        data, begin = self._rest, self._at
        while self._at < len(data) and not (self._closing or self._waiting):
            end = self._at + self._piece()
            piece = data if not self._at and end >= len(data) else memoryview(data)[self._at : end]
            self._at = min(end, len(data))
            offset = self._feed(piece)
            if offset:
                self._feed_without_upgrade(memoryview(piece)[offset:])
        fed = self._at - begin
        if self._closing or self._at == len(data):
            self._rest, self._at = b"", 0
        return fed

    def _piece(self) -> int:
        """Return the bytes to feed at once: content of known length as it comes, else a few."""
        request = self._request
        if request.begun and request.head_done and b"content-length" in request.headers:
            return max(int(request.headers[b"content-length"]) - request.body_bytes, FEED_BYTES)
        return FEED_BYTES

    def _is_done(self) -> bool:
        """Whether nothing waits. Then read on, or end the connection if nothing more comes."""
        if self._rest or self._waiting or self._blocked or self._closing:
            return False
        if self._eof:
            self.flush()
            self.transport.close()
        else:
            self._read_on()
        return True

    def _wait(self) -> None:
        """Something waits: read no more meanwhile. Go on in the next turn if it waits for nobody."""
        if self._closing and self._body is None:
            return
        if (self._rest or self._waiting) and not self._stopped:
            self.stop_reading()
        if not (self._paused or self._unknown is not None):
            self.shared.round.go_on_soon(self)

    def _count_bytes(self) -> None:
        """Count the bytes of requests that are not answered yet."""
        held = len(self._rest)
        for item in self._waiting:
            held += WAITING_BYTES + len(item.body if isinstance(item, Request) else item)
        if self._request.begun:
            held += self._request.body_bytes + self._fruitless_bytes
        self._holds_bytes = held > 0 and not self._closing
        if self._holds_bytes:
            self.shared.unanswered.hold(self, held)
        else:
            self.shared.unanswered.release(self)

    def _learn(self, request: Request, data: bytes) -> None:
        """Remember the head of ``data`` if it is one request, with nothing out of the ordinary."""
        plain = PLAIN_POST if request.method == b"POST" else PLAIN
        if request.version != "1.1" or not request.keep_alive or not request.headers.keys() <= plain:
            return
        app = self.shared.app
        if not app.may_repeat or len(data) > KNOWN_BYTES + request.limit.most_bytes:
            return
        rest = app.poll_rest(request, data)
        if rest is not None and len(data) <= KNOWN_BYTES:
            self.known_rest = rest
            if b"authorization" not in request.headers:
                self.shared.known_rest = rest
        elif request.method == b"POST" and b"content-length" in request.headers and self._bound is not None:
            self._known = KnownHead.of(request, data, self._bound)

    def forget(self) -> None:
        """Recognise no head without the parser, until one is learned again. End a stream and a wait as they are."""
        self.known_rest = self._known = None
        self._end_stream()
        if self._unknown is not None:
            self._unknown.hurry()

    def _answer_known(self, data: bytes) -> bool:
        """Answer a request with a known head, if it is here whole and nothing else is."""
        known = self._known
        if known is None or not data.startswith(known.before) or not known.take(data):
            return False
        self._give(known.request, known.bound.name, known.bound, known.request)
        # The answer was made of it, and many connections would keep much.
        known.request.body = b""
        return True

    def let_wait(self, awaited: Awaited, target: bytes, name: str) -> None:
        """Give the answer to a known poll when it is known, as RoundClient says."""
        self._given = self._request.poll(target)
        self._let_wait(awaited, self._given, name)

    def _give(self, request: Request, name: str, make: Callable[..., Answer | Awaited], *arguments: object) -> None:
        """Give the answer of ``make`` to a request with a known head, the only request there is."""
        shared = self.shared
        self.deadline = shared.idle_deadline
        self._given = None
        try:
            answer = make(*arguments)
        except Exception as error:  # noqa: BLE001 — _excuse logs what is not ours
            self._excuse(error, request, name)
        else:
            if isinstance(answer, bytes):
                shared.round.answer_soon(self, answer)
                shared.count(name, answer)
                return
            if isinstance(answer, Awaited):
                self._given = request
                self._let_wait(answer, request, name)
                return
            self._finish(answer, request, name, close=False)
        self._flush_soon()

    def _wake(self) -> None:
        # Many may end in one turn. The first of them need not wait for the next.
        if self._is_alone() and self.shared.round.gives_at_once():
            self._give_alone()
        else:
            super()._wake()

    def _is_alone(self) -> bool:
        """Whether the answer that waits is to a known head, and the only thing that is left to do."""
        awaited = self._awaited
        if awaited is None or awaited[1] is not self._given:
            return False
        return not (self._closing or self._stopped or self._eof or self.shared.winding_down)

    def _give_alone(self) -> None:
        """Give the answer that waited alone."""
        assert self._awaited is not None
        then, request, name = self._awaited
        self._unknown = self._awaited = None
        self._woken = False
        self.free = True
        if self.to_flush:
            # The answers to polls of the same read come first, and the client then has others to be written.
            self.shared.round.write()
        self._give(request, name, then)

    def _feed(self, data: bytes | memoryview) -> int:
        """Feed the parser. Return where it stopped at a request with an Upgrade, or 0."""
        request = self._request
        try:
            request.parser.feed_data(data)
        except HttpParserUpgrade as upgrade:
            return int(upgrade.args[0])
        except HttpParserError as error:
            is_head = request.parser.get_method() == HEAD and not isinstance(error, HttpParserInvalidMethodError)
            self._refuse(refused(error, self._begun + bytes(data)), is_head)
        if request.begun:
            begun = self._begun + bytes(data)
            # From the begin of a line: the end of a method is another.
            self._begun = begun if len(begun) <= BEGUN_BYTES else begun[-BEGUN_BYTES:].partition(b"\n")[2]
        elif self._begun:
            self._begun = b""
        return 0

    def _is_head(self, unread: bytes = b"") -> bool:
        """Whether the request that is being read, or else begins ``unread``, is a HEAD: its refusal has no body."""
        request = self._request
        if not request.begun:
            return unread.startswith(HEAD + b" ")
        # Until a method has come whole, the parser has that of the request before.
        has_method = request.target or self._begun.endswith(HEAD + b" ")
        return bool(has_method) and request.parser.get_method() == HEAD

    def _feed_without_upgrade(self, rest: memoryview) -> None:
        """Go on after the head of a request that asks for an Upgrade, as if it did not."""
        while True:
            self._feed(self._request.restart())
            offset = self._feed(rest)
            if not offset:
                return
            rest = rest[offset:]

    # The request calls these.

    def _expects(self, request: Request) -> None:
        """Answer ``Expect: 100-continue`` before the content is sent, unless it is refused (RFC 9110, 10.1.1)."""
        if request.version != "1.1":
            return
        # A list (RFC 9110, 5.6.1.2): empty elements count for nothing.
        expected = {item.strip() for item in request.headers[b"expect"].lower().split(b",")} - {b""}
        if expected - {b"100-continue"}:
            raise Refusal("expectation", "the only expectation here is 100-continue")
        if not (expected and request.has_content):
            return
        self.shared.app.expect(request)
        self._answer_in_turn(CONTINUE)

    def _ready(self, request: Request) -> None:
        self._in_head = self._in_body = False
        self._answer_in_turn(request)
        # The content has been read, or a waiting copy of the request has it.
        request.body = b""

    def _expect_more(self, read_bytes: int) -> None:
        """A request is incomplete. Its rest must come in time, and its head within its limit."""
        timeouts, limits = self.shared.config.timeouts, self.shared.config.limits
        if self._request.head_done:
            if not self._in_body:
                self._in_body = True
                self._body_bytes = self._fruitless_bytes = 0
                self.deadline = time.monotonic() + timeouts.body
            grown = self._request.body_bytes - self._body_bytes
            if grown > 0:
                # What is content is no head, trailer or extension.
                self._fruitless_bytes = -grown
            self._body_bytes = self._request.body_bytes
        elif not self._in_head:
            self._in_head = True
            self._fruitless_bytes = 0
            self.deadline = time.monotonic() + timeouts.head
        self._fruitless_bytes += read_bytes
        # Twice: white space that the parser drops counts here, and does not in a head that comes in
        # one read.
        if self._fruitless_bytes > OUT_MOST + 2 * (limits.request_line_bytes + limits.head_bytes):
            self._refuse(head_too_large(limits), self._is_head())

    def _end_idle(self) -> None:
        """The client has sent nothing, or not everything. Say so if a request is half read."""
        self._answered = 0
        if (self._in_head or self._in_body) and not self._closing:
            self._refuse(Refusal("request-timeout", "the request did not arrive in time"), self._is_head())
            self._flush_soon()
        else:
            super()._end_idle()

    def give_way(self, unread: bytes = b"") -> None:
        """Others need the memory of this client's requests. It has been sending for longest."""
        self._release_bytes()
        if self._closing:
            # It takes no memory: this is dropped, as all that comes while it takes its last answer.
            self._read_on()
            return
        if unread:
            # Those whose bytes were read are counted where they were held.
            self.shared.unanswered.gave_way += 1
        self._answered = 0
        # An answer to all that was read comes first, whatever it waits for. No other request is kept until then.
        keeps_more = self._blocked if self._request.begun else self._waiting
        if keeps_more:
            self.transport.abort()
            return
        if self.to_flush:
            # Answers that need no flush come first.
            self.shared.round.write()
        limits = self.shared.config.limits
        detail = f"requests that come in part, or wait, are over limits.unanswered_bytes, {limits.unanswered_bytes}"
        wait = retry_after(self.shared.app.retry_after_s())
        self._refuse(Refusal("half-sent", detail, fields=wait, close=True), self._is_head(unread))
        self._flush_soon()

    def _let_go(self) -> None:
        super()._let_go()
        self._rest, self._at = b"", 0
        self._request.drop()
        self._release_bytes()

    def _release_bytes(self) -> None:
        """Count nothing for its requests, if anything was counted."""
        if self._holds_bytes:
            self._holds_bytes = False
            self.shared.unanswered.release(self)
