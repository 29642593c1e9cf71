"""One connection with a store, in RESP3: calls go out, replies and pushes come in.

All calls of one turn of the loop leave in one write. Replies come in the order of the calls, so
each takes the place of the oldest call, and a caller that has gone leaves its place: the reply to
it is dropped, and goes to no other.

The replies to tracked reads and the invalidations are told at once, in their order: what is kept of a
reply, a later invalidation removes. A client that asks in the same turn of the loop may have learned
of the change from another node, and is not told what was before. Other replies and pushes are told by
``call_soon``.

**A silent network** is noticed here, since a broken one tells nothing. Each second without a byte
from the store counts. If no reply is due, a PING asks for one. At ``SILENT_S`` the connection is
given up. A loop that was blocked counts one second, however long it was. While calls that filled
the socket still leave, the network is slow and not silent.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol, cast

import hiredis
from headway.core.link.reply_error import LinkLostError, NoStoreError, ReplyError
from headway.core.link.script import Script

# Seconds without a sign of the store after which the connection is given up.
SILENT_S = 3
# Bytes that may wait to leave. A call that finds more of them fails: the store does not read.
UNSENT_MOST = 64 << 20
# Makes the bytes of a command of a tuple of words. Its own annotation allows one word.
pack = cast(Callable[[tuple[bytes | str | int | float, ...]], bytes], hiredis.pack_command)
CACHING = pack(("CLIENT", "CACHING", "YES"))
PING = pack(("PING",))
NOT_YET = object()
CONFIRMED = frozenset((b"ssubscribe", b"sunsubscribe"))


class Prompt(asyncio.Future[Any]):
    """The reply to a tracked read. ``told`` is called as soon as it comes, before all callbacks."""

    told: Callable[[asyncio.Future[Any]], object] | None = None

    def when_told(self, told: Callable[[asyncio.Future[Any]], object]) -> None:
        """Have ``told`` called with this, in this turn at the earliest."""
        if self.done():
            self.get_loop().call_soon(told, self)
        else:
            self.told = told

    def set_result(self, result: Any) -> None:
        """Take the reply."""
        super().set_result(result)
        self._tell()

    def set_exception(self, exception: type | BaseException) -> None:
        """Take the error that came instead."""
        super().set_exception(exception)
        self._tell()

    def _tell(self) -> None:
        if self.told is not None:
            call_now(self.get_loop(), self.told, self)


class Subscription(bytes):
    """The channel of a call that a push confirms. A refusal is a reply."""


# Beside a call: the key of a tracked read, the script of an EVALSHA, or a subscription.
Beside = bytes | Script | Subscription | None
# A call that waits: where its reply goes, the bytes that were sent, and its kind.
Waiting = tuple["asyncio.Future[Any] | None", bytes, Beside]


class WireOwner(Protocol):
    """The one that a connection is for."""

    def wrote(self) -> None:
        """Count the calls of a turn, which leave now."""

    def pushed(self, push: list[Any]) -> None:
        """Take a push."""

    def refused(self, error: ReplyError, waiting: Waiting) -> bool:
        """Take a refusal. Return whether the caller is answered later."""

    def lost(self, wire: Wire, error: Exception | None) -> None:
        """Take the end of the connection. All calls have failed by now."""


class Wire(asyncio.Protocol):
    """A connection. ``lost`` of the owner is called once, if it was made."""

    def __init__(self, owner: WireOwner) -> None:
        self._owner = owner
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._reader = hiredis.Reader(replyError=ReplyError, notEnoughData=NOT_YET)
        # Calls without a reply, oldest first.
        self._waiting: deque[Waiting] = deque()
        # Of this turn: bytes, their sum, and the calls that they are.
        self._out: list[bytes] = []
        self._out_bytes = 0
        self._out_calls = 0
        # Bytes in the transport after the last write.
        self._backlog = 0
        self._silent_s = 0
        self._timer: asyncio.TimerHandle | None = None
        # Why it was dropped.
        self.why: Exception | None = None
        # Set when the connection has ended.
        self.ended = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to count silence."""
        self._transport = cast(asyncio.Transport, transport)
        self._timer = self._loop.call_later(1, self._tick)

    def send(self, data: bytes, future: asyncio.Future[Any] | None, kind: Beside = None) -> None:
        """Send a call at the end of this turn. A read that is tracked has its key as ``kind``."""
        if self._transport is None or self._is_stuck():
            fail(future, LinkLostError(sent=False))
            return
        if not self._out:
            self._loop.call_soon(self._flush)
        if type(kind) is bytes:
            self._out.append(CACHING)
            self._waiting.append((None, CACHING, None))
            self._out_calls += 1
        self._out.append(data)
        self._out_bytes += len(data)
        self._out_calls += 1
        self._waiting.append((future, data, kind))

    def _is_stuck(self) -> bool:
        if self._out_bytes + self._backlog <= UNSENT_MOST or self._transport is None:
            return False
        self._backlog = self._transport.get_write_buffer_size()
        return self._out_bytes + self._backlog > UNSENT_MOST

    def _flush(self) -> None:
        if self._transport is None:
            return
        self._transport.write(b"".join(self._out))
        self._owner.wrote()
        self._backlog = self._transport.get_write_buffer_size()
        self._out.clear()
        self._out_bytes = self._out_calls = 0

    def data_received(self, data: bytes) -> None:
        """Give each reply to its caller."""
        self._silent_s = 0
        gets, waiting = self._reader.gets, self._waiting
        try:
            self._reader.feed(data)
            while (reply := gets()) is not NOT_YET:
                if type(reply) is hiredis.PushNotification:
                    self._push(reply)
                    continue
                call = waiting.popleft()
                if type(reply) is ReplyError:
                    self._refuse(reply, call)
                elif (future := call[0]) is not None and not future.done():
                    future.set_result(reply)
        except (hiredis.ProtocolError, IndexError, TypeError) as error:
            # A reply that nobody asked for, or a push or map of another form.
            self.drop(NoStoreError(f"it does not speak the protocol of Valkey: {error}"))

    def _push(self, push: list[Any]) -> None:
        if push[0] in CONFIRMED and self._waiting:
            future, _, kind = self._waiting[0]
            if type(kind) is Subscription and kind == push[1]:
                count = push[2]
                self._waiting.popleft()
                if future is not None and not future.done():
                    future.set_result(count)
                return
        if push[0] == b"invalidate":
            call_now(self._loop, self._owner.pushed, push)
        else:
            self._loop.call_soon(self._owner.pushed, push)

    def _refuse(self, error: ReplyError, call: Waiting) -> None:
        future, data, _ = call
        if data is CACHING:
            # The read behind it would be kept, and no push would ever correct it.
            self.drop(error)
        elif not self._owner.refused(error, call) and future is not None and not future.done():
            future.set_exception(error)

    def _tick(self) -> None:
        if self._transport is None:
            return
        self._timer = self._loop.call_later(1, self._tick)
        backlog = self._transport.get_write_buffer_size()
        if backlog < self._backlog:
            self._silent_s = 0
        self._backlog = backlog
        self._silent_s += 1
        if self._silent_s > SILENT_S:
            self.drop(TimeoutError(f"the store was silent for {SILENT_S} s"))
        elif not self._waiting:
            self.send(PING, None)

    @property
    def is_open(self) -> bool:
        """Whether calls can be sent."""
        return self._transport is not None

    def drop(self, why: Exception) -> None:
        """End the connection at once."""
        if self._transport is not None:
            self.why = why
            self._transport.abort()
            self._transport = None

    def close(self) -> None:
        """End the connection after all calls have left."""
        if self._transport is not None:
            self._flush()
            self._transport.close()
            self._transport = None

    def connection_lost(self, exc: Exception | None) -> None:
        """Fail the calls without a reply."""
        self._transport = None
        if self._timer is not None:
            self._timer.cancel()
        sent = len(self._waiting) - self._out_calls
        for number, (future, _, _) in enumerate(self._waiting):
            fail(future, LinkLostError(sent=number < sent))
        self._waiting.clear()
        self._out.clear()
        self._owner.lost(self, self.why or exc)
        self.ended.set()


def call_now(loop: asyncio.AbstractEventLoop, callback: Callable[[Any], object], value: Any) -> None:
    """Call ``callback``, as ``call_soon`` would later: its error ends nothing else."""
    try:
        callback(value)
    except Exception as error:  # noqa: BLE001 — the handler logs it
        loop.call_exception_handler({"message": f"{callback} failed", "exception": error})


def fail(future: asyncio.Future[Any] | None, error: LinkLostError) -> None:
    """Fail a call. A caller that does not wait need not know: ``lost`` tells of the connection."""
    if future is not None and not future.done():
        future.set_exception(error)
        future.exception()
