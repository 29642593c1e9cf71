"""The answers of one connection, on their way out.

The rules of this file:

- Answers go out in the order of the requests. A request may have to wait: the client does not read,
  an earlier answer waits or is long, or this turn of the loop has taken its time. The request then
  waits in ``_waiting``, and the bytes read after it in ``_rest``. No more is read meanwhile, so a
  client can fill its own buffers only.
- An answer can wait, until its job has finished, or until its content is committed.
- A long answer is not copied. Its body goes out in pieces, the next one when the client has taken
  those before.
- A stream is the last answer of its connection: ``stream`` has it. Its pieces are written when they
  come, outside of the round, and not while the client does not read.
- An invalid or ambiguous message is answered once, and the connection ends. Our side is shut. Bytes
  that still come are read and dropped for LINGER_S, so that the answer is not lost to a reset (RFC
  9112, 9.6).
- Everything for which a client may take its time has a deadline. ``deadline`` is for its requests,
  and for sending anything at all. It does not count while the client waits for us. ``taking_until``
  is for taking answers.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from math import inf

from headway.core.errors import HeadwayError
from headway.protocol.http import problems
from headway.protocol.http.app import Bound
from headway.protocol.http.connections import LINGER_S, Connections
from headway.protocol.http.problems import Refusal
from headway.protocol.http.queued import forget_at_end, unacknowledged_bytes
from headway.protocol.http.request import UNIX_PEER, Request
from headway.protocol.http.responses import Answer, Awaited, Knowable, Long, with_connection, with_fields
from headway.protocol.http.stream import BEAT_S, CHUNKED, Stream, Streaming

log = logging.getLogger(__name__)
access = logging.getLogger("headway.access")

# Answers that may gather for one write, in bytes and in number. Further requests wait for a later
# turn of the loop. This bounds the memory that one client takes, and the time that others wait for
# it.
OUT_MOST = 256 * 1024
TURN_MOST = 256
# Bytes of a long answer that are written at once. The kernel takes them in a tenth of a
# millisecond.
PIECE_BYTES = 64 * 1024
# Bytes that a waiting request takes, roughly, besides the bytes it was read from.
WAITING_BYTES = 1024
# Bytes a second that a client takes at least, or all that is left. One that takes a byte now and then
# would keep its answers, and its connection, for ever.
SLOWEST_BYTES_S = 1024


class Last(bytes):
    """An answer that ends the connection."""


class Answering(asyncio.Protocol):
    """Takes requests and writes their answers. Connection makes the requests of bytes."""

    __slots__ = (
        "_answered",
        "_awaited",
        "_body",
        "_bound",
        "_closing",
        "_eof",
        "_named",
        "_out",
        "_out_bytes",
        "_paused",
        "_request",
        "_stopped",
        "_stream",
        "_unknown",
        "_untaken_bytes",
        "_waiting",
        "_woken",
        "address",
        "deadline",
        "free",
        "shared",
        "taking_until",
        "to_flush",
        "transport",
    )
    transport: asyncio.Transport
    # The request that is being read.
    _request: Request
    # As RoundClient has it.
    known_rest: bytes | None

    def __init__(self, shared: Connections, named: str | None) -> None:
        # Shared by all connections.
        self.shared = shared
        # The address of the client if a proxy for TCP has named it.
        self._named = named
        # Per connection. When the client has to have sent its request, or anything, of
        # time.monotonic.
        self.deadline = shared.idle_deadline
        # When it has to have taken some of its answers, or after the last to have ended its side.
        # inf: it has.
        self.taking_until = inf
        # The key of the client's address, empty if its connections are not counted.
        self.address = b""
        self._paused = self._stopped = self._closing = self._eof = False
        # No request is half read, no request or answer waits, the client reads, and the connection
        # goes on.
        self.free = True
        # Requests that could not be answered yet, in order. Bytes are an answer that only waits for
        # its turn.
        self._waiting: list[Request | bytes] = []
        # What an answer waits for, whether that is known, and the function that makes the answer then,
        # with the request and the route.
        self._unknown: Knowable | None = None
        self._woken = False
        self._awaited: tuple[Callable[[], Answer | Awaited], Request, str] | None = None
        # The rest of a long answer.
        self._body: memoryview | None = None
        # The answer that has no end yet.
        self._stream: Streaming | None = None
        # Bytes that had not reached the client when ``taking_until`` was set.
        self._untaken_bytes = 0
        # Per read. The number of requests answered, and the route of the last one, None if it has
        # none.
        self._answered = 0
        self._bound: Bound | None = None
        self.to_flush = False
        self._out: list[bytes] = []
        self._out_bytes = 0

    @property
    def peer(self) -> str:
        """The address of the client: as a proxy for TCP names it, or that of the socket."""
        if self._named is not None:
            return self._named
        address = self.transport.get_extra_info("peername")
        if address is None:
            # It has gone.
            return "-"
        # That of a Unix socket is the name of a file, or empty.
        return str(address[0]) if isinstance(address, tuple) else UNIX_PEER

    # The transport calls these.

    def pause_writing(self) -> None:
        """The client does not read its answers."""
        self._paused = True
        self.free = False
        self.stop_reading()
        if self._body is None:
            self.shared.untaken.hold(self, self.transport.get_write_buffer_size())
        self._wait_for_client()

    def resume_writing(self) -> None:
        """The client has read enough for more."""
        self._paused = False
        if self._body is None:
            self.shared.untaken.release(self)
        if self._stream is not None:
            self.taking_until = inf
            self._read_on()
            self._stream_on()
            return
        if self._closing and self._body is None:
            # It lingers.
            return
        self.taking_until = inf
        self._let_send()
        self.shared.round.go_on_soon(self)

    # Waiting, for the client or for us.

    @property
    def _blocked(self) -> bool:
        """Whether the next answer has to wait for the client, or for the answer before it."""
        return self._paused or self._unknown is not None or self._body is not None or self._stream is not None

    def stop_reading(self) -> None:
        """Leave further bytes of the client in the kernel until nothing waits."""
        self._stopped = True
        if not self.transport.is_closing():
            self.transport.pause_reading()

    def _read_on(self) -> None:
        """Read from the client again."""
        if self._stopped:
            self._stopped = False
            if not self.transport.is_closing():
                self.transport.resume_reading()

    def _let_send(self) -> None:
        """The client waited for us: its time to send begins again."""
        half_read = self._request.begun
        self.deadline = time.monotonic() + self.shared.config.timeouts.body if half_read else self.shared.idle_deadline

    def read(self, data: bytes) -> None:
        """Take the bytes read, or go on if there are none."""
        raise NotImplementedError

    def let_wait(self, awaited: Awaited, target: bytes, name: str) -> None:
        """Give the answer to a known poll when it is known, as RoundClient says."""
        raise NotImplementedError

    def forget(self) -> None:
        """Recognise no head without the parser, as Member says."""
        raise NotImplementedError

    # Requests to answers.

    def _answer_in_turn(self, item: Request | bytes) -> None:
        """Answer ``item`` in its turn. After an answer that ends the connection none has a turn."""
        if self._closing:
            return
        if isinstance(item, Request):
            # It may have to wait, and so may its answer, which keeps it while the next ones are read.
            item = item.copy()
        if self._waiting or self._blocked or self._has_answered_enough():
            self._waiting.append(item)
        else:
            self._handle(item)

    def _has_answered_enough(self) -> bool:
        """Whether the next request waits for another turn: the client has had its share of this."""
        answered = self._answered
        return answered > 0 and (answered >= TURN_MOST or self._out_bytes > OUT_MOST or self.shared.round.is_over())

    def _handle(self, item: Request | bytes) -> None:
        if isinstance(item, Request):
            self._answer(item)
        elif isinstance(item, Last):
            self._closing = True
            self._send(item, "")
            if self.shared.access_log:
                self._log_access(item, b"-", b"-")
        else:
            self._out.append(item)

    def _answer(self, request: Request) -> None:
        self._answered += 1
        self._bound, name = None, ""
        try:
            self._bound = bound = self.shared.app.bind(request)
            name = bound.name
            answer = bound(request)
        except Exception as error:  # noqa: BLE001 — _excuse logs what is not ours
            self._excuse(error, request, name)
            return
        if isinstance(answer, Awaited):
            self._let_wait(answer, request, name)
        else:
            self._finish(answer, request, name, not request.keep_alive)

    def _let_wait(self, awaited: Awaited, request: Request, name: str) -> None:
        """Let an answer wait. Those after it wait for it."""
        self.free = False
        # The content has been read, and need not wait with the request.
        request.body = b""
        self._awaited = awaited.then, request, name
        self._woken = False
        self._unknown = awaited.unknown
        self._unknown.when_known(self._wake)

    def _wake(self) -> None:
        """What the answer waited for is known. Many end at once, so the answer is given in its turn."""
        if self._awaited is not None:
            self._woken = True
            self.shared.round.go_on_soon(self)

    def _give_awaited(self) -> None:
        """Give the answer that waited, unless it has to wait on."""
        assert self._awaited is not None
        then, request, name = self._awaited
        self._unknown = self._awaited = None
        self._woken = False
        self._answered += 1
        try:
            answer = then()
        except Exception as error:  # noqa: BLE001 — _excuse logs what is not ours
            self._excuse(error, request, name)
        else:
            if isinstance(answer, Awaited):
                self._let_wait(answer, request, name)
                return
            self._finish(answer, request, name, not request.keep_alive)
        if self._stream is None:
            self._let_send()

    def _excuse(self, error: Exception, request: Request, name: str) -> None:
        """Answer a request that raised an error, ours to explain, or a defect."""
        if not isinstance(error, Refusal | HeadwayError):
            log.error("a request failed: %s", _line(request.method, request.target), exc_info=error)
            error = Refusal("internal", "the log says more", close=True)
        self.shared.reject(error.reason)
        answer = problems.answer(error, self.shared.clock, request.method == b"HEAD")
        self._finish(answer, request, name, problems.closes(error) or not request.keep_alive)

    def _finish(self, answer: Answer, request: Request, name: str, close: bool) -> None:
        head = answer if isinstance(answer, bytes) else answer.head
        if request.allowance and b"\r\nRateLimit: " not in head:
            head = with_fields(head, request.allowance)
        if request.fields:
            head = with_fields(head, request.fields)
        is_stream = isinstance(answer, Stream)
        if is_stream and request.version == "1.1":
            head = with_fields(head, CHUNKED)
        close = close or self.shared.winding_down or is_stream
        if close or request.version == "1.0":
            head = with_connection(head, close)
            self._closing = close
        self._send(head, name)
        if isinstance(answer, Long):
            self.free = False
            self._body = memoryview(answer.body)
            self.shared.untaken.hold(self, 0, answer.body)
        elif isinstance(answer, Stream):
            self._begin(answer, is_chunked=request.version == "1.1")
        if self.shared.access_log:
            self._log_access(head, request.method, request.target)

    def _refuse(self, error: Refusal | HeadwayError, bodiless: bool) -> None:
        """Answer something that is no request, in its turn. The connection ends with the answer."""
        if self._closing:
            return
        self.shared.reject(error.reason)
        answer = problems.answer(error, self.shared.clock, bodiless)
        fields = self.shared.app.fields(self._request)
        self._answer_in_turn(Last(with_connection(with_fields(answer, fields), close=True)))

    # Answers to the client.

    def _send(self, answer: bytes, name: str) -> None:
        self._out.append(answer)
        self._out_bytes += len(answer)
        self.shared.count(name, answer)

    def _flush_soon(self) -> None:
        """Have the answers written at the end of this turn of the loop."""
        if not self.to_flush:
            self.to_flush = True
            self.shared.round.flush_soon(self)

    def flush(self) -> None:
        """Write all answers at once. End the connection if one of them says so."""
        self.to_flush = False
        if self.transport.is_closing():
            return
        if self._out:
            self.transport.write(self._out[0] if len(self._out) == 1 else b"".join(self._out))
            self._out.clear()
            self._out_bytes = 0
        if self._closing and self._body is None and self._stream is None:
            self._linger()

    def _go_on(self) -> None:
        """Give the answers that had to wait, for as long as the client reads and there is time."""
        if self._woken and not self._paused:
            self._give_awaited()
        if self._body is not None:
            self._send_pieces()
        waiting = self._waiting
        done = 0
        while done < len(waiting) and not (self._closing or self._blocked or self._has_answered_enough()):
            self._handle(waiting[done])
            done += 1
        del waiting[:done]

    def _send_pieces(self) -> None:
        """Write as much of a long answer as the client takes and there is time for."""
        self.flush()
        body = self._body
        while body and not (self._paused or self.transport.is_closing()):
            self._body = body[PIECE_BYTES:]
            self.transport.write(body[:PIECE_BYTES])
            body = self._body
            if self.shared.round.is_over():
                break
        if body is not None and not body:
            self._body = None
            self._let_send()
            self.shared.untaken.release(self)
            if self._paused:
                self.shared.untaken.hold(self, self.transport.get_write_buffer_size())

    def _begin(self, stream: Stream, *, is_chunked: bool) -> None:
        """Send the pieces of a stream from now on."""
        self.free = False
        self._waiting.clear()
        self.deadline = time.monotonic() + BEAT_S
        self._stream = Streaming(stream.source, self.transport, is_chunked=is_chunked)
        self._out.append(self._stream.framed(stream.first))
        if self._eof or self.shared.winding_down or self._stream.ended:
            self._end_stream()
            return
        self._stream.begin(self._stream_on, self.shared.config.timeouts.write)
        # Only the end of the client's side counts from now on.
        self._read_on()

    def _stream_on(self) -> None:
        """Write the next piece of the stream, if the client reads. End the connection if it is the last."""
        stream = self._stream
        if stream is None or self._paused or self.transport.is_closing():
            return
        try:
            self.flush()
            stream.send()
            if stream.ended:
                self._end_stream()
        except Exception:
            log.exception("%r failed in a stream, and is ended", self)
            self.transport.abort()

    def _end_stream(self) -> None:
        """Complete the stream with the pieces that there are, and end the connection."""
        stream = self._stream
        if stream is None:
            return
        self.flush()
        if not (stream.ended or self._paused):
            stream.send()
        stream.end()
        self._stream = None
        self.flush()

    def _linger(self) -> None:
        """Shut our side. Drop further bytes until the client ends its side, or LINGER_S is over."""
        self._let_go()
        self.free = False
        self.deadline = inf
        self._read_on()
        if self._eof:
            self.transport.close()
        elif self.transport.can_write_eof():
            if not self.transport.is_closing():
                self.transport.write_eof()
        else:
            # TLS has no end of one side. It writes what is left, and drops what comes.
            self.transport.close()
        self._wait_for_client()
        # Once the kernel has its last answer a connection takes no place among limits.connections.
        if not self._untaken() or self not in self.shared.open:
            self.shared.linger(self)

    def _let_go(self) -> None:
        """Forget all requests that are not answered."""
        self._waiting.clear()
        self._body = None
        self._woken = False
        if self._stream is not None:
            self._stream.close()
            self._stream = None
        if self._unknown is not None:
            self._unknown.cancel()
            self._unknown = self._awaited = None

    # Deadlines.

    def _wait_for_client(self) -> None:
        """Give the client time to take its untaken answers. After that, time to end its side."""
        if self._untaken():
            self._untaken_bytes = self._unacknowledged()
            patience_s = self.shared.config.timeouts.write
        else:
            self._untaken_bytes = 0
            patience_s = LINGER_S
        self.taking_until = time.monotonic() + patience_s

    def _untaken(self) -> int:
        """Return how many bytes of its answers the client has not taken yet."""
        return self.transport.get_write_buffer_size() + (0 if self._body is None else len(self._body))

    def _unacknowledged(self) -> int:
        """Return how many bytes of its answers have not reached the client yet."""
        return self._untaken() + unacknowledged_bytes(self.transport)

    def _takes_enough(self) -> bool:
        """Whether the client has taken what it must in ``timeouts.write``."""
        before = self._untaken_bytes
        least = min(before, int(self.shared.config.timeouts.write * SLOWEST_BYTES_S))
        return before > 0 and self._unacknowledged() <= before - least

    def wind_down(self) -> None:
        """The next answer is the last. ``_finish`` sees to it, the road without a parser does not."""
        self.free = False
        self._end_stream()

    def overdue(self, now: float) -> None:
        """A deadline has passed. End the connection, unless a slow client still takes answers."""
        if now > self.taking_until:
            if self._takes_enough():
                self._wait_for_client()
            else:
                if self._untaken():
                    self.shared.closed["write"] += 1
                    forget_at_end(self.transport)
                self.transport.abort()
        elif self._stream is not None:
            self.deadline = now + BEAT_S
            if not self._paused:
                self._stream.beat()
        elif self._blocked:
            # The client waits for us.
            self._let_send()
        else:
            self._end_idle()

    def _end_idle(self) -> None:
        """The client has sent nothing, or not everything. End the connection."""
        if self.transport.is_closing():
            self.transport.abort()
        else:
            self.shared.closed["idle"] += 1
            self.transport.close()

    def end(self) -> None:
        """The server ends. Let the client have its answers so far, and no more."""
        if self._stream is not None and not self._paused:
            self._end_stream()
        elif self._body is not None or self._unacknowledged() < self._untaken_bytes:
            self._closing = True
        elif self._paused:
            self.transport.abort()
        elif self._unknown is not None:
            # It is known in a moment, and is the last.
            self._unknown.hurry()
        else:
            self._end_idle()

    def give_way(self, unread: bytes = b"") -> None:
        """Others need the memory of its requests, as RoundClient says."""
        raise NotImplementedError

    def drop(self) -> None:
        """The client has been taking its answers for longest, and others need their memory."""
        if self._untaken():
            forget_at_end(self.transport)
        self.transport.abort()

    def _log_access(self, answer: bytes, method: bytes, target: bytes) -> None:
        access.info('%s "%s" %s %d', self.peer, _line(method, target), answer[9:12].decode(), len(answer))


def _line(method: bytes, target: bytes) -> str:
    """Return a request as the log names it: without its query, which may have anything of a client's."""
    return f"{method.decode()} {target.partition(b'?')[0].decode(errors='backslashreplace')}"
