"""What a store sends, whatever it is: replies for their callers, or the end of the connection in one line.

The first byte of an input is the number of calls that wait, and the rest a script: what comes in
reads of their own. No call is forgotten, and none has the reply of another.
"""

from __future__ import annotations

import asyncio
import atexit
import re
from typing import Any

import hiredis
from headway.core.link.reply_error import LinkLostError, ReplyError
from headway.core.link.wire import Subscription, Waiting, Wire

from tests.fuzz.line import ERRORS
from tests.fuzz.script import steps

CALLS_MOST = 6
CHANNEL = Subscription(b"channel")
NOT_YET = object()
# hiredis makes a list as long as it is announced: 8 bytes for each of its elements, before one has come. A store may
# do that (SECURITY.md), and no such input is tried.
_LONG_LIST = re.compile(rb"[*>~%|]\+?\d{7}")


class Owner:
    """The one that a connection is for: it takes what comes."""

    def __init__(self) -> None:
        self.pushes: list[list[Any]] = []
        self.why: list[Exception | None] = []

    def wrote(self) -> None:
        """Do nothing."""

    def pushed(self, push: list[Any]) -> None:
        """Keep a push."""
        self.pushes.append(push)

    def refused(self, error: ReplyError, waiting: Waiting) -> bool:
        """Leave it to the caller."""
        return False

    def lost(self, wire: Wire, error: Exception | None) -> None:
        """Keep the reason."""
        self.why.append(error)


class Transport(asyncio.Transport):
    """Takes all that is written."""

    def __init__(self) -> None:
        super().__init__()
        self.ended = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Do nothing."""

    def get_write_buffer_size(self) -> int:
        """Return that all has left."""
        return 0

    def abort(self) -> None:
        """End."""
        self.ended = True


LOOP: list[asyncio.AbstractEventLoop] = []


def fuzz_one(data: bytes) -> None:
    """Check that it is read as hiredis reads it by itself, and that nothing is left."""
    if not data:
        return
    if not LOOP:
        LOOP.append(asyncio.new_event_loop())
        atexit.register(LOOP[0].close)
        LOOP[0].set_exception_handler(lambda _, context: ERRORS.told.append(repr(context)))
    try:
        LOOP[0].run_until_complete(_play(data[0] % CALLS_MOST, data[1:]))
        assert not ERRORS.told, ERRORS.told[0]
    finally:
        ERRORS.told.clear()


async def _play(count: int, script: bytes) -> None:
    pieces = [step for step in steps(script) if isinstance(step, bytes)]
    if _LONG_LIST.search(b"".join(pieces)):
        return
    loop, owner, transport = asyncio.get_running_loop(), Owner(), Transport()
    wire = Wire(owner)
    wire.connection_made(transport)
    futures: list[asyncio.Future[Any]] = [loop.create_future() for _ in range(count)]
    for number, future in enumerate(futures):
        wire.send(b"call", future, CHANNEL if number % 3 == 2 else None)
    await asyncio.sleep(0)
    for piece in pieces:
        if not transport.ended:
            wire.data_received(piece)
    await asyncio.sleep(0)
    wanted = replies(b"".join(pieces))
    given = [future for future in futures if future.done()]
    assert given == futures[: len(given)], "a later call has its reply before an earlier one"
    wire.connection_lost(None)
    assert len(owner.why) == 1
    assert all(future.done() for future in futures), "a call is forgotten"
    failed = [future.exception() for future in futures]
    if transport.ended:
        told = str(owner.why[0])
        assert told.isprintable(), told
    for future, reply in zip(given, wanted, strict=False):
        check(future, reply)
    assert all(isinstance(error, LinkLostError) for error in failed[len(given) :])


def check(future: asyncio.Future[Any], reply: object) -> None:
    """See that a call has its reply, or its refusal."""
    if isinstance(reply, ReplyError):
        assert str(future.exception()) == str(reply)
    else:
        assert repr(future.result()) == repr(reply)


def replies(data: bytes) -> list[object]:
    """Return the replies that hiredis finds, up to the first subscription or fault."""
    reader = hiredis.Reader(replyError=ReplyError, notEnoughData=NOT_YET)
    reader.feed(data)
    found: list[object] = []
    try:
        while (reply := reader.gets()) is not NOT_YET:
            if type(reply) is hiredis.PushNotification:
                if reply and reply[0] in (b"ssubscribe", b"sunsubscribe"):
                    # It may take the place of a reply.
                    return found
                continue
            found.append(reply)
    except (hiredis.ProtocolError, TypeError):
        pass
    return found
