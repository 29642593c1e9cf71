"""Headway: one process, the workers in it, jobs and their states through HTTP on one connection."""

from __future__ import annotations

import contextlib
import socket
import sys
from collections.abc import Sequence

import headway
from bench.measure import HOST, ROOT, BenchError
from bench.queues.interface import WORKERS, Queue, port
from bench.queues.record import nap_async, noop_async

with contextlib.suppress(ValueError):
    noop = headway.task(name="bench-noop")(noop_async)
    nap = headway.task(name="bench-nap")(nap_async)


class Adapter(Queue[bytes]):
    """Requests over a plain socket, one after the other."""

    workers = f"1 process, {WORKERS} coroutines"
    uses_valkey = False

    def worker_argv(self) -> Sequence[str]:
        """The server is the worker."""
        return [sys.executable, "-m", "headway", "serve", "--config", str(ROOT / "config.yaml")]

    def worker_env(self) -> dict[str, str]:
        """A queue that holds all jobs of a run."""
        return {
            "HEADWAY_SERVER__PORT": str(port()),
            "HEADWAY_WORKERS": str(WORKERS),
            "HEADWAY_QUEUE__SIZE": "100000",
            "HEADWAY_JOURNAL__PATH": "null",
            "HEADWAY_TASKS": "[bench.queues.headway_queue]",
        }

    async def open(self) -> None:
        """Connect."""
        self._socket = socket.create_connection((HOST, port()), 30)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._host = f"Host: {HOST}:{port()}\r\n".encode()

    async def enqueue(self, task: str, sent: float) -> bytes:
        """POST /jobs."""
        body = b'{"task":"bench-%b","payload":%r}' % (task.encode(), sent)
        head = b"POST /jobs HTTP/1.1\r\n%bContent-Type: application/json\r\nPrefer: return=minimal\r\n" % self._host
        answer = self._ask(b"%bContent-Length: %d\r\n\r\n%b" % (head, len(body), body))
        if answer[9:12] != b"202":
            raise BenchError(f"POST was answered with {answer[:60]!r}")
        begin = answer.index(b"Location: ") + 10
        return answer[begin : answer.index(b"\r", begin)]

    async def is_over(self, handle: bytes) -> bool:
        """HEAD /jobs/{id}."""
        answer = self._ask(b"HEAD %b HTTP/1.1\r\n%b\r\n" % (handle, self._host))
        if answer[9:12] not in (b"200", b"202"):
            raise BenchError(f"HEAD was answered with {answer[:60]!r}")
        return answer[9:12] == b"200"

    def _ask(self, request: bytes) -> bytes:
        self._socket.sendall(request)
        answer = b""
        while not answer.endswith(b"\r\n\r\n"):
            piece = self._socket.recv(4096)
            if not piece:
                raise BenchError("Headway closed the connection")
            answer += piece
        return answer

    async def close(self) -> None:
        """Disconnect."""
        self._socket.close()
