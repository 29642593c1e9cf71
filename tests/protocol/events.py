"""A client of event streams, that reads them to the letter of WHATWG HTML, 9.2."""

from __future__ import annotations

import json
import re
import time
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from tests.protocol.wire import Wire, request

ID = re.compile(r"[0-9a-f]{20}")


@dataclass(frozen=True)
class Told:
    """One event, with the id that a client would come back with."""

    kind: str
    id: str
    data: Any


class EventWire:
    """One stream of events."""

    def __init__(self, port: int, path: str = "/events", *lines: str, version: str = "1.1", patience_s: float = 20):
        self.wire = Wire(port, patience_s)
        self.wire.send(request("GET", path, *lines, version=version))
        self.status, self.headers = self.wire.read_head()
        # The id of the last event, or of a sign of life.
        self.last_id = ""
        # Whether the last chunk has come.
        self.ended = False
        self.beats = 0
        self._is_chunked = "transfer-encoding" in self.headers
        self._patience_s = patience_s
        self._rest = b""

    def __enter__(self) -> EventWire:
        return self

    def __exit__(self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None) -> None:
        self.wire.close()

    def next(self) -> Told | None:
        """Return the next event, None at the end of the stream."""
        kind, data = "message", ""
        # A stream without events has signs of life for ever.
        patience = time.monotonic() + self._patience_s
        while time.monotonic() < patience:
            line = self._line()
            if line is None:
                return None
            name, _, value = line.partition(": ")
            if name == "id":
                assert ID.fullmatch(value), line
                self.last_id = value
            elif name == "event":
                kind = value
            elif name == "data":
                assert data == ""
                data = value
            elif name == ":":
                self.beats += 1
            elif name == "retry":
                assert value == "2000"
            else:
                assert line == "", line
                if data:
                    return Told(kind, self.last_id, json.loads(data))
                assert kind == "message"
        raise TimeoutError(f"no event in {self._patience_s} s")

    def some(self, count: int) -> list[Told]:
        """Return the next events."""
        found = [self.next() for _ in range(count)]
        told = [one for one in found if one is not None]
        assert len(told) == count, found
        return told

    def states(self, count: int) -> list[str]:
        """Return the states in the next events."""
        return [one.data["state"] for one in self.some(count)]

    def rest(self) -> list[Told]:
        """Return all events until the stream ends, and see that it ends as it should."""
        found = []
        while (one := self.next()) is not None:
            found.append(one)
        self.wire.read_end()
        return found

    def _line(self) -> str | None:
        while b"\n" not in self._rest:
            piece = b"" if self.ended else self._piece()
            if not piece:
                assert self._rest == b"", "an event was cut"
                return None
            # Each piece has whole events.
            assert piece.endswith(b"\n\n")
            assert piece.isascii()
            self._rest += piece
        line, _, self._rest = self._rest.partition(b"\n")
        return line.decode()

    def _piece(self) -> bytes:
        if not self._is_chunked:
            piece = self.wire.read_some()
            while piece and not piece.endswith(b"\n\n"):
                piece += self.wire.read_some()
        else:
            piece = self.wire.read_chunk()
        self.ended = not piece
        return piece
