"""A round: all reads of one turn of the loop, answered together, their answers written together.

Client by client, each read would be followed by an answer, and each answer would wake the client
that waits for it. The code of all three pushes the others' out of the caches, and the wake-ups cost
as much as the answers. So the order is all reads, all answers, all writes
(docs/adr/0005-the-known-head.md).

A round takes ROUND_S, whatever was asked for. The rest goes on in the next turn, in the order in which it
came. The client at work comes last, so one with thousands of requests takes its turn like one with
a single request.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Protocol

from headway.protocol.http.responses import Awaited

log = logging.getLogger(__name__)

# Reads and answers of one round. Under load a turn of libuv's loop can serve tens of thousands, and
# the first must not wait for the last.
MOST = 64
# Seconds of one round. The last answer that was begun may take as long again.
ROUND_S = 0.001
# A read of more bytes is answered with those before it, lest they gather in memory.
LARGE_BYTES = 64 * 1024
# A shorter read waits for its turn without being counted.
SMALL_BYTES = 4096
# The read of a client that has something left to do, of one that has sent its last, and of one that
# is closed if it is still idle then.
NOTHING = b""
END = b"\0end"
LEAVE = b"\0leave"


class RoundClient(Protocol):
    """A connection, as a round sees it."""

    # The bytes after the id in a HEAD that the parser took, None if it took none.
    known_rest: bytes | None
    # No request is half read, no request or answer waits, the client reads, and the connection goes
    # on. No read has stopped its reading.
    free: bool
    # There are answers that are not written yet.
    to_flush: bool
    transport: asyncio.Transport
    deadline: float

    def read(self, data: bytes) -> None:
        """Answer ``data``, whatever it is."""

    def let_wait(self, awaited: Awaited, target: bytes, name: str) -> None:
        """Give the answer to a known poll of ``target`` when it is known. Nothing waits on the connection before.

        It is counted under the ``name`` of its route.
        """

    def give_way(self, unread: bytes = b"") -> None:
        """End: the client has sent more than there is memory for until its turn comes, such as ``unread``."""

    def stop_reading(self) -> None:
        """Leave further bytes of the client in the kernel, until the present ones are read."""

    def flush(self) -> None:
        """Write the answers that it has."""


# A client, and the bytes read from it.
ClientRead = tuple[RoundClient, bytes]


class Round:
    """The reads of a turn, and the connections that have answers to be written.

    ``answer`` takes reads, and the time. It answers until there are no more, or the
    round is over after ``round_s``. Reads of over ``small_bytes`` that wait for their turn have at
    most ``late_bytes_most``.
    """

    def __init__(
        self,
        answer: Callable[[Iterator[ClientRead], float], None],
        late_bytes_most: int,
        *,
        round_s: float = ROUND_S,
        small_bytes: int = SMALL_BYTES,
    ) -> None:
        self._answer = answer
        self._round_s = round_s
        self._small_bytes = small_bytes
        self._loop = asyncio.get_running_loop()
        self._reads: list[ClientRead] = []
        # Answers to clients that have nothing else to be written. These clients are ``to_flush``
        # meanwhile.
        self.answers: list[tuple[RoundClient, bytes]] = []
        # Clients with other answers.
        self._writers: list[RoundClient] = []
        # Whether ``end`` will be called, or is running.
        self._ends = False
        # Whether the last round left something to the next turn.
        self._late = False
        # Bytes of the longer reads that wait for the next turn since the last round was over, and the
        # most of them.
        self._late_bytes = 0
        self._late_most = late_bytes_most
        # When this round is over, of time.monotonic.
        self.until = 0.0
        # Answers that had to wait and were given in this turn, outside of a round.
        self._given = 0

    def read_soon(self, client: RoundClient, data: bytes) -> None:
        """Have ``client`` read ``data`` at the end of this turn."""
        if self._late and len(data) > self._small_bytes:
            # The client's next bytes stay in the kernel until it has read these. Only ``read`` reads on.
            client.stop_reading()
            client.free = False
            if self._late_bytes + len(data) > self._late_most:
                client.give_way(data)
                return
            self._late_bytes += len(data)
        self._reads.append((client, data))
        if self._late:
            return
        if len(self._reads) >= MOST or len(data) > LARGE_BYTES:
            self.end()
        elif not self._ends:
            self._end_soon()

    def go_on_soon(self, client: RoundClient, word: bytes = NOTHING) -> None:
        """Have ``client``, which has something left to do, go on in the next turn.

        ``word`` is NOTHING, END or LEAVE. It is none of the bytes of the client, and waits however many those are.
        """
        self._reads.append((client, word))
        if not self._ends:
            self._end_soon()

    def answer_soon(self, client: RoundClient, answer: bytes) -> None:
        """Have ``answer`` written at the end of this turn, to a client with no other answers."""
        self.answers.append((client, answer))
        client.to_flush = True
        if not self._ends:
            self._end_soon()

    def flush_soon(self, client: RoundClient) -> None:
        """Have the answers of ``client`` written at the end of this turn."""
        self._writers.append(client)
        if len(self._writers) == MOST:
            self._flush()
        elif not self._ends:
            self._end_soon()

    def gives_at_once(self) -> bool:
        """Whether one more answer that had to wait can be given in this turn. Count it.

        A reply of a store can have thousands. Others have their turn in a round, which takes ROUND_S.
        """
        self._given += 1
        return self._given <= MOST

    def is_over(self) -> bool:
        """Whether this round has taken its time, so that the rest waits for the next."""
        return time.monotonic() >= self.until

    def write(self) -> None:
        """Write the answers to known requests."""
        for client, answer in self.answers:
            client.to_flush = False
            try:
                client.transport.write(answer)
            except Exception:
                log.exception("%r cannot be written to, and is ended", client)
                client.transport.abort()
        self.answers.clear()

    def end(self) -> None:
        """Answer as many reads as there is time for. Write all answers."""
        reads, self._reads = self._reads, []
        self._ends, self._late = True, False
        try:
            if reads:
                self._answer_in_time(reads)
            self.write()
            self._flush()
        finally:
            self._ends = False
            self._given = 0
            if self._reads:
                self._late = True
                self._end_soon()

    def _answer_in_time(self, reads: list[ClientRead]) -> None:
        """Answer as many reads as there is time for. The rest comes first in the next turn."""
        now = time.monotonic()
        self.until = now + self._round_s
        rest = iter(reads)
        if len(reads) <= MOST:
            self._answer(rest, now)
        else:
            # A known poll does not look at the clock.
            for _ in range(0, len(reads), MOST):
                self._answer(islice(rest, MOST), now)
                if self.is_over():
                    break
        left = list(rest)
        if left or self._late_bytes:
            self._reads[:0] = left
            self._late_bytes = sum(len(data) for _, data in left if len(data) > self._small_bytes)

    def _end_soon(self) -> None:
        self._ends = True
        self._loop.call_soon(self.end)

    def _flush(self) -> None:
        writers, self._writers = self._writers, []
        for client in writers:
            try:
                client.flush()
            except Exception:
                log.exception("%r cannot be written to, and is ended", client)
                client.transport.abort()
