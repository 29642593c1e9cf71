"""The answers of one connection, on their way out.

The rules of this file:

- answers go out in the order of the requests; a request that cannot be answered yet, because the client does not
  read or an answer before it is held, waits in ``_waiting`` and no more is read meanwhile, so a client can fill its
  own buffers only;
- an answer can be held: until its job is over, or until what it says is safe on disk;
- what is invalid or ambiguous is answered once, and the connection ends: our side is shut, what still comes is
  read and dropped for LINGER_S, so that the answer is not lost to a reset (RFC 9112, 9.6).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from math import inf

from headway.core.errors import HeadwayError
from headway.protocol import problems, routes
from headway.protocol.problems import Refusal
from headway.protocol.request import Request
from headway.protocol.responses import Held, Hold, with_connection
from headway.protocol.service import LINGER_S, Service

log = logging.getLogger(__name__)
access = logging.getLogger("headway.access")

# Answers that may gather for one write, in bytes and in number, before further requests wait for a later turn of the
# loop: the memory that one client takes, and the time that others wait for it.
OUT_MOST = 256 * 1024
TURN_MOST = 256


class Last(bytes):
    """An answer with which the connection ends."""


class Answering(asyncio.Protocol):
    """What takes requests and writes their answers; Connection makes the requests of bytes."""

    __slots__ = (
        "_answered",
        "_closing",
        "_eof",
        "_held",
        "_held_answer",
        "_out",
        "_out_bytes",
        "_paused",
        "_request",
        "_stopped",
        "_unsent_bytes",
        "_waiting",
        "deadline",
        "free",
        "service",
        "to_flush",
        "transport",
    )
    transport: asyncio.Transport
    # The request that is being read.
    _request: Request

    def __init__(self, service: Service) -> None:
        # Shared.
        self.service = service
        # Per connection. When ``overdue`` is to be called, of time.monotonic; what for is told by the flags.
        self.deadline = service.idle_deadline
        self._paused = self._stopped = self._closing = self._eof = False
        # No request is half read, none waits or is held, the client reads, and the connection goes on.
        self.free = True
        # What could not be answered yet, in order; bytes are an answer that only waits for its turn.
        self._waiting: list[Request | bytes] = []
        # What holds an answer back; and what makes it then, of which request and route.
        self._held: Hold | None = None
        self._held_answer: tuple[Callable[[], bytes | Held], Request, str] | None = None
        # Of answers, when the deadline was set; 0 where the deadline is not about them.
        self._unsent_bytes = 0
        # Per read.
        self._answered = 0
        self.to_flush = False
        self._out: list[bytes] = []
        self._out_bytes = 0

    def pause_writing(self) -> None:
        """The client does not read its answers."""
        self._paused = True
        self.free = False
        self._stop_reading()
        self._wait_for_client()

    def resume_writing(self) -> None:
        """The client has read enough for more."""
        self._paused = False
        self._unsent_bytes = 0
        self.deadline = time.monotonic() + self.service.config.timeouts.body
        self._answer_waiting()

    def _stop_reading(self) -> None:
        """Leave what the client sends in the kernel until ``_answer_waiting`` has come to the end."""
        self._stopped = True
        self.transport.pause_reading()

    def _take(self, item: Request | bytes) -> None:
        """Answer ``item`` in its turn; after an answer that ends the connection nothing has a turn."""
        if self._closing:
            return
        wait = self._waiting or self._paused or self._held or self._answered >= TURN_MOST or self._out_bytes > OUT_MOST
        if wait:
            self._waiting.append(item.copy() if isinstance(item, Request) else item)
        elif isinstance(item, Request) and (self.service.holds or b"prefer" in item.headers):
            # Its answer may be held, and keeps its request while the next ones are read.
            self._handle(item.copy())
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
        name = ""
        try:
            if self.service.limits is not None:
                self.service.limits.check(request, routes.limited(request.target))
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
        """Let an answer wait; those behind it wait for it."""
        self.free = False
        self.deadline = inf
        self._held_answer = held.then, request, name
        self._held = held.begin(self._wake)

    def _wake(self) -> None:
        """Give the answer that was held, unless it is to be held on."""
        if self._held_answer is None:
            # The client has gone since.
            return
        then, request, name = self._held_answer
        self._held = self._held_answer = None
        self.deadline = self.service.idle_deadline
        try:
            answer = then()
        except Exception as error:  # noqa: BLE001 — _excuse logs what is not ours
            self._excuse(error, request, name)
        else:
            if isinstance(answer, Held):
                self._hold(answer, request, name)
                return
            self._finish(answer, request, name, not request.keep_alive)
        if self._closing or self._stopped or self._eof:
            self._go_on()
        else:
            # As a rule many are woken at once, and written to at once.
            self.free = not self._request.begun
            self._flush_soon()

    def _go_on(self) -> None:
        if self._closing:
            self.flush()
        else:
            self._answer_waiting()

    def _excuse(self, error: Exception, request: Request, name: str) -> None:
        """Answer a request that an error came of: ours to explain, or a defect."""
        if not isinstance(error, Refusal | HeadwayError):
            log.error("a request failed: %s %s", request.method, request.target, exc_info=error)
            error = Refusal("internal", "the log says more", close=True)
        self.service.reject(error.reason)
        answer = problems.answer(error, self.service.clock, request.method == b"HEAD")
        self._finish(answer, request, name, problems.closes(error) or not request.keep_alive)

    def _finish(self, answer: bytes, request: Request, name: str, close: bool) -> None:
        if request.allowance and b"\r\nRateLimit: " not in answer:
            answer = answer.replace(b"\r\n", b"\r\n" + request.allowance, 1)
        close = close or self.service.winding_down
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
        """Have the answers written at the end of this turn of the loop."""
        if not self.to_flush:
            self.to_flush = True
            self.service.turn.flush_soon(self)

    def flush(self) -> None:
        """Write all answers at once; end the connection if one of them said so."""
        self.to_flush = False
        if self.transport.is_closing():
            return
        if self._out:
            self.transport.write(self._out[0] if len(self._out) == 1 else b"".join(self._out))
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
            self._stop_reading()
            asyncio.get_running_loop().call_soon(self._answer_waiting)
        elif self._eof:
            self.transport.close()
        else:
            self._stopped = False
            self.transport.resume_reading()
            self.free = not self._request.begun

    def _linger(self) -> None:
        """Shut our side; what the client still sends is dropped until it ends its side, or LINGER_S is over."""
        self._waiting.clear()
        self.free = False
        if self.transport.can_write_eof() and not self.transport.is_closing():
            self.transport.write_eof()
        self._wait_for_client()
        # One that has had its last answer takes no place among limits.connections.
        self.service.connections.discard(self)
        self.service.lingering.add(self)

    def _wait_for_client(self) -> None:
        """Give it time to take what it has not taken yet; after that, to end its side."""
        self._unsent_bytes = self.transport.get_write_buffer_size()
        patience_s = self.service.config.timeouts.write if self._unsent_bytes else LINGER_S
        self.deadline = time.monotonic() + patience_s

    def wind_down(self) -> None:
        """Let the next answer be the last, which ``_finish`` sees to and what needs no parser does not."""
        self.free = False

    def overdue(self) -> None:
        """The deadline has passed: end the connection, unless it is a slow one that goes on taking its answers."""
        if self.transport.get_write_buffer_size() < self._unsent_bytes:
            self._wait_for_client()
        elif self._closing or self._paused:
            self.transport.abort()
        else:
            self.transport.close()

    def _log_access(self, answer: bytes, method: bytes, target: bytes) -> None:
        peer = self.transport.get_extra_info("peername") or ("-",)
        line = f"{method.decode()} {target.decode(errors='backslashreplace')}"
        access.info('%s "%s" %s %d', peer[0], line, answer[9:12].decode(), len(answer))
