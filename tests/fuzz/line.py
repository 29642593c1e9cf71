"""A connection without a socket: a transport that keeps to the rules of asyncio, and a loop in steps.

The transport gives nothing to a connection that reads no more, tells it when its buffer is full, and
fails a write after the end of its side. So a connection that is driven by it is driven as by a client.
"""

from __future__ import annotations

import asyncio
import atexit
import logging
import socket
from collections import deque
from collections.abc import Callable, Iterable

from headway.protocol.http.connection import Connection
from headway.protocol.http.connections import Connections

from tests.fuzz.script import Moment

# Turns of the loop within which everything that can be done is done.
TURNS_MOST = 20_000
# Turns without anything said or read, after which no more is expected.
IDLE_TURNS = 3
# The read that says that the client sends no more.
END = b""


class Errors(logging.Handler):
    """Keeps what is logged as an error: for a connection that is always a defect."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.told: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a record, with its traceback."""
        self.told.append(logging.Formatter().format(record))


ERRORS = Errors()
logging.getLogger("headway").addHandler(ERRORS)


def check_clean(shared: Connections) -> None:
    """See that nothing failed, and that nothing is left of connections that have ended."""
    assert not ERRORS.told, ERRORS.told[0]
    assert not shared.open
    assert not shared.lingering
    for budget in (shared.unanswered, shared.untaken):
        assert (budget.used_bytes, len(budget)) == (0, 0), budget


class Counted(Connection):
    """A connection that counts its reads, and its turns to go on."""

    __slots__ = ("reads",)

    def __init__(self, shared: Connections) -> None:
        super().__init__(shared)
        self.reads = 0

    def read(self, data: bytes) -> None:
        """Read ``data``."""
        self.reads += 1
        super().read(data)


class Line(asyncio.Transport):
    """The transport of one connection, and its client."""

    def __init__(self, loop: asyncio.AbstractEventLoop, shared: Connections, wake: Callable[[], object]) -> None:
        # A stream sets options of its socket.
        super().__init__({"socket": SOCKET, "peername": ("127.0.0.1", 1)})
        self._loop = loop
        self._shared = shared
        self._wake = wake
        # What the client was sent.
        self.answers = bytearray()
        self._unread: deque[bytes] = deque()
        self._untaken = 0
        self._high = 64 * 1024
        self._takes = self._reads = self._sends = True
        self._full = False
        # Whether the connection has ended its side, or all of it.
        self.ended = self.closed = False
        self._lost = False
        self.connection = Counted(shared)
        self.connection.connection_made(self)

    # The connection calls these.

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send to the client, which may not take it yet."""
        assert not self.ended, "a write after the end of our side"
        if self.closed:
            return
        self.answers += data
        if not self._takes:
            self._untaken += len(data)
            if self._untaken > self._high and not self._full:
                self._full = True
                self.connection.pause_writing()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Call ``pause_writing`` above ``high`` bytes."""
        self._high = self._high if high is None else high

    def get_write_buffer_size(self) -> int:
        """Return how many bytes the client has not taken."""
        return self._untaken

    def pause_reading(self) -> None:
        """Give the connection nothing of what the client sends."""
        self._reads = False

    def resume_reading(self) -> None:
        """Give it what has come since, in the next turn."""
        self._reads = True

    def can_write_eof(self) -> bool:
        """Whether our side can be ended alone."""
        return True

    def write_eof(self) -> None:
        """End our side. The second time this does nothing, as in asyncio."""
        self.ended = True

    def is_closing(self) -> bool:
        """Whether the connection has ended all of it."""
        return self.closed

    def close(self) -> None:
        """End all of it, once the client has taken what it was sent."""
        self.closed = True

    def abort(self) -> None:
        """End all of it now."""
        self.closed = True
        self._untaken = 0

    # The client calls these.

    def play(self, script: Iterable[bytes | Moment]) -> None:
        """Let a script happen."""
        for step in script:
            if isinstance(step, bytes):
                self._send(step)
            else:
                self._happen(step)

    def settle(self) -> None:
        """Let the loop turn until nothing is left to do, which some idle turns show."""
        idle, before = 0, self._progress()
        for _ in range(TURNS_MOST):
            self.turn()
            after = self._progress()
            idle = idle + 1 if after == before else 0
            if idle == IDLE_TURNS:
                return
            before = after
        raise AssertionError("it does not come to an end")

    def _progress(self) -> tuple[int, int, int, bool, bool]:
        return len(self.answers), len(self._unread), self.connection.reads, self._reads, self._lost

    def turn(self) -> None:
        """Let the loop turn once."""
        self._deliver()
        self._loop.call_soon(self._loop.stop)
        self._loop.run_forever()
        self._lose_if_closed()

    def finish(self) -> bool:
        """Send no more, and take all answers. See the connection end without a deadline.

        Return False if an answer waits for more than the client can do. Then it goes without.
        """
        self._happen(Moment.RESUME)
        self._send(END)
        self.settle()
        while not self.closed:
            before = len(self.answers)
            self._wake()
            self.settle()
            if len(self.answers) == before and not self.closed:
                self.hang_up()
                return False
        assert self._lost, "both sides have ended, and the connection is kept"
        return True

    def hang_up(self) -> None:
        """Be gone."""
        self.abort()
        self._lose_if_closed()

    def _send(self, data: bytes) -> None:
        if self._sends:
            self._sends = data is not END
            self._unread.append(data)
            self._deliver()

    def _happen(self, moment: Moment) -> None:
        match moment:
            case Moment.TURN:
                self.turn()
            case Moment.PAUSE:
                self._takes = False
            case Moment.RESUME:
                self._takes, self._untaken = True, 0
                if self._full:
                    self._full = False
                    if not self._lost:
                        self.connection.resume_writing()
            case Moment.END:
                self._send(END)
            case Moment.WAKE:
                self._wake()
            case Moment.BREAK:
                self.hang_up()
            case Moment.TICK:
                self._loop.call_soon(self._shared.tick)
                self.turn()
            case _:
                pass

    def _deliver(self) -> None:
        """Have the connection read what has come, as long as it reads."""
        while self._unread and self._reads and not self.closed:
            data = self._unread.popleft()
            if data is END:
                self.connection.eof_received()
            else:
                self.connection.data_received(data)

    def _lose_if_closed(self) -> None:
        if self.closed and not self._lost and not self._untaken:
            self._lost = True
            self.connection.connection_lost(None)


# Of all connections, as long as the process lives.
SOCKET = socket.socket()
atexit.register(SOCKET.close)
