"""Turns of a loop without sockets: a transport that keeps what is written, and turns until all is answered."""

from __future__ import annotations

import asyncio

from headway.protocol.api.app import Api


class Written(asyncio.Transport):
    """A transport that keeps what is written. Once ``broken``, it can be neither written to nor closed."""

    def __init__(self) -> None:
        super().__init__()
        # All that was written, and what of it before the end.
        self.data = self.data_at_close = b""
        self.aborted = self.closed = False
        self.broken = False
        self.reads = True
        # Bytes that the client has not taken.
        self.untaken = 0

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self.broken:
            raise OSError("cannot write")
        self.data += data

    def close(self) -> None:
        if self.broken:
            raise OSError("cannot close")
        self.closed = True
        self.data_at_close = self.data

    def is_closing(self) -> bool:
        return self.aborted

    def pause_reading(self) -> None:
        self.reads = False

    def resume_reading(self) -> None:
        self.reads = True

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def can_write_eof(self) -> bool:
        return False

    def get_write_buffer_size(self) -> int:
        return self.untaken

    def abort(self) -> None:
        self.aborted = True


def answered(api: Api, *expected: tuple[Written, int]) -> None:
    """Let as many turns pass as it takes until each transport has so many answers, and one more."""
    missing = len(expected)
    for _ in range(100_000):
        if not missing:
            break
        api.connections.round.end()
        missing = sum(transport.data.count(b"HTTP/1.1 ") < count for transport, count in expected)
    api.connections.round.end()
    assert [transport.data.count(b"HTTP/1.1 ") for transport, _ in expected] == [count for _, count in expected]
