"""A server without sockets: a connection and its transport, fed piece by piece."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence

from headway.core.job import Submission
from headway.core.local.engine import LocalEngine
from headway.core.tasks.registry import Options, Registry
from headway.protocol.api.app import Api
from headway.protocol.http.connection import Connection

from tests.core.engines import now, settings
from tests.protocol.conformance.edits import ID, is_head
from tests.protocol.wire import parse_head

# Turns of the loop for the answers to come, and for more that must not come.
TURNS_MOST, TURNS_MORE = 10_000, 3
# Code and Connection field of each answer, and whether the server has ended its side.
Answers = tuple[list[tuple[int, str]], bool]


class Transport(asyncio.Transport):
    """Keeps the bytes that are written, and whether the server has ended its side, or the whole connection."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.ended = self.closed = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        assert not self.ended
        self.written += data

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.ended = True

    def close(self) -> None:
        self.ended = self.closed = True

    def abort(self) -> None:
        raise AssertionError("the connection is aborted")

    def is_closing(self) -> bool:
        return self.closed

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def get_write_buffer_size(self) -> int:
        return 0


class Served:
    """A server with a job that waits. It has turns of a loop while it is asked."""

    def __init__(self, runner: asyncio.Runner) -> None:
        self._runner = runner
        self._api, self._id = runner.run(begin())

    def filled(self, sent: bytes) -> bytes:
        """Return ``sent`` with the id of the job that waits."""
        return sent.replace(ID, self._id)

    def answers(
        self, pieces: Sequence[bytes], messages: Sequence[bytes], count: int, *, then_end: bool = False
    ) -> Answers:
        """Send ``pieces`` of ``messages``, each as a read of its own, on a new connection. Await ``count`` answers.

        The client ends its side after the answers, or at once.
        """
        return self._runner.run(self._answers(pieces, messages, count, then_end))

    async def _answers(self, pieces: Sequence[bytes], messages: Sequence[bytes], count: int, then_end: bool) -> Answers:
        end_turn = self._api.connections.round.end
        connection, transport = Connection(self._api.connections), Transport()
        connection.connection_made(transport)
        for piece in pieces[:-1]:
            connection.data_received(self.filled(piece))
            end_turn()
        connection.data_received(self.filled(pieces[-1]))
        if then_end:
            connection.eof_received()
        for _ in range(TURNS_MOST):
            end_turn()
            if transport.written.count(b"HTTP/1.1 ") >= count:
                break
        for _ in range(TURNS_MORE):
            end_turn()
        ended = transport.ended
        if not then_end:
            connection.eof_received()
            end_turn()
        # Nothing is left to wait for.
        assert transport.closed
        connection.connection_lost(None)
        return list(read(transport.written, messages)), ended


async def begin() -> tuple[Api, bytes]:
    """Return an application and the id of its job."""
    registry = Registry()
    registry.add(nothing, Options())
    # Room for all submissions, none of which is run.
    engine = LocalEngine(settings(queue={"size": 200_000}, http={"hosts": ["*"]}), registry)
    status = now(engine.submit(Submission(task="nothing"))).status
    return Api(engine.config, engine), status.id


def read(raw: bytes, messages: Sequence[bytes]) -> Iterator[tuple[int, str]]:
    """Yield the code and the Connection field of each answer in ``raw``, read to the letter of RFC 9112."""
    asked = iter(messages)
    while raw:
        head, end, raw = raw.partition(b"\r\n\r\n")
        assert end, head
        status, fields = parse_head(head)
        yield status, fields.get("connection", "")
        if status != 100 and not (is_head(next(asked)) or status in {204, 304}):
            length = int(fields["content-length"])
            assert len(raw) >= length, raw
            raw = raw[length:]


async def nothing(_: object) -> None:
    """The task of all jobs. No worker runs it."""
