"""A server that answers as a test says, and crowds to put on it."""

from __future__ import annotations

import socketserver
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import orjson
import pytest
from headway.sim import client, command

ACCEPTED = b"HTTP/1.1 202 Accepted\r\nLocation: /jobs/1\r\nJob-State: queued\r\nContent-Length: 2\r\n\r\n{}"
RUNNING = b"HTTP/1.1 202 Accepted\r\nJob-State: running\r\n\r\n"
SUCCEEDED = b"HTTP/1.1 200 OK\r\nJob-State: succeeded\r\n\r\n"
BUSY = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 0\r\nRetry-After-Ms: 20\r\n"

# What a test's server does with a request: its method and how many came before; None closes the connection.
Script = Callable[[bytes, int], bytes | None]


class Last(bytes):
    """An answer after which the connection is closed, whatever its length says."""


class Scripted(socketserver.ThreadingTCPServer):
    """Answers each request on any connection with what the script returns."""

    allow_reuse_address = True
    daemon_threads = True
    block_on_close = False

    def __init__(self, script: Script) -> None:
        self.script = script
        self.requests = 0
        self.connections = 0
        # Each request as it came, its content included.
        self.seen: list[bytes] = []
        super().__init__(("127.0.0.1", 0), Conversation)
        self.port: int = self.server_address[1]
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    def __exit__(self, *raised: object) -> None:
        self.shutdown()
        self.server_close()


class Conversation(socketserver.StreamRequestHandler):
    """One connection."""

    server: Scripted

    def handle(self) -> None:
        self.server.connections += 1
        while (method := self.read()) is not None:
            answer = self.server.script(method, self.server.requests)
            self.server.requests += 1
            if answer is None:
                return
            self.wfile.write(answer)
            if isinstance(answer, Last):
                return

    def read(self) -> bytes | None:
        """Read a request and return its method; None at the end."""
        try:
            request = self.rfile.readline()
            length = 0
            while (line := self.rfile.readline()) not in (b"\r\n", b""):
                request += line
                if line.lower().startswith(b"content-length:"):
                    length = int(line.partition(b":")[2])
            request += self.rfile.read(length)
        except ConnectionError:
            return None
        if request:
            self.server.seen.append(request)
        return request.partition(b" ")[0] or None


class Ran(NamedTuple):
    """What a run came to."""

    code: int
    out: str
    # Lines on stderr.
    err: list[str]
    json: Any


class Simulate:
    """Runs ``headway simulate`` in this process."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        monkeypatch.setattr(client, "RETRY_S", 0.02)
        self._file = folder / "results.json"
        # Where answers are to be written down.
        self.trace: Path | None = None
        self._capsys = capsys

    def __call__(self, port: int, **given: object) -> Ran:
        """Run against ``port`` with small settings unless ``given`` says otherwise."""
        small = {"clients": 1, "jobs": 1, "poll": "20ms", "duration": "500ms", "spread": "0s", "payload": "null"}
        settings = {"url": f"http://127.0.0.1:{port}", **small, **given}
        self._file.unlink(missing_ok=True)
        code = command.run(settings, self._file, self.trace)
        said = self._capsys.readouterr()
        json = orjson.loads(self._file.read_bytes()) if self._file.exists() else None
        return Ran(code, said.out, said.err.splitlines(), json)
