"""Headway: one process, the workers in it, jobs and their states through HTTP on one connection."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import socket
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import headway
from bench.measure import HOST, ROOT, BenchError
from bench.queues.interface import WORKERS, Queue, kept_in, port
from bench.queues.record import nap_async, noop_async

READY_S = 20.0

with contextlib.suppress(ValueError):
    noop = headway.task(name="bench-noop")(noop_async)
    nap = headway.task(name="bench-nap")(nap_async)


class Adapter(Queue[bytes]):
    """Requests over a plain socket, one after the other."""

    workers = f"1 process, {WORKERS} coroutines"
    uses_valkey = False
    batches = True

    def server(self, folder: Path) -> None:
        """The workers are in it."""

    def worker_argv(self) -> Sequence[str]:
        """The server is the worker."""
        return [sys.executable, "-m", "headway", "serve", "--config", str(ROOT / "config.yaml")]

    def worker_env(self) -> dict[str, str]:
        """A queue that holds all jobs of a run, and a journal of the safest kind where jobs are kept on disk."""
        folder = kept_in()
        return {
            "HEADWAY_SERVER__PORT": str(port()),
            "HEADWAY_WORKERS": str(WORKERS),
            "HEADWAY_QUEUE__SIZE": "100000",
            "HEADWAY_JOURNAL__PATH": str(folder / "journal.db") if folder else "null",
            "HEADWAY_JOURNAL__SYNC": "full",
            "HEADWAY_TASKS": "[bench.queues.headway_queue]",
        }

    async def open(self) -> None:
        """Connect."""
        self._socket = socket.create_connection((HOST, port()), 30)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._host = f"Host: {HOST}:{port()}\r\n".encode()
        # It listens before it takes jobs.
        deadline = time.monotonic() + READY_S
        while (answer := self._ask(b"HEAD /readyz HTTP/1.1\r\n%b\r\n" % self._host))[9:12] != b"200":
            if time.monotonic() > deadline:
                raise BenchError(f"Headway is not ready: {answer!r}")
            await asyncio.sleep(0.02)

    async def enqueue(self, task: str, sent: float) -> bytes:
        """POST /jobs."""
        answer = self.post(b"/jobs", _submission(task, sent), b"Prefer: return=minimal\r\n")
        begin = answer.index(b"Location: ") + 10
        return answer[begin : answer.index(b"\r", begin)]

    async def enqueue_many(self, task: str, sent: Sequence[float]) -> list[bytes]:
        """POST /batches."""
        answer = self.post(b"/batches", b"[%b]" % b",".join(_submission(task, one) for one in sent))
        head, _, body = answer.partition(b"\r\n\r\n")
        length = re.search(rb"Content-Length: (\d+)", head)
        if length is None:
            raise BenchError("POST /batches was answered without a length")
        while len(body) < int(length[1]):
            body += self._receive()
        return [b"/jobs/" + job.encode() for job in json.loads(body)["jobs"]]

    def post(self, path: bytes, body: bytes, more: bytes = b"") -> bytes:
        head = b"POST %b HTTP/1.1\r\n%bContent-Type: application/json\r\n%b" % (path, self._host, more)
        answer = self._ask(b"%bContent-Length: %d\r\n\r\n%b" % (head, len(body), body))
        if answer[9:12] != b"202":
            raise BenchError(f"POST was answered with {answer[:60]!r}")
        return answer

    async def is_over(self, handle: bytes) -> bool:
        """HEAD /jobs/{id}."""
        answer = self._ask(b"HEAD %b HTTP/1.1\r\n%b\r\n" % (handle, self._host))
        if answer[9:12] not in (b"200", b"202"):
            raise BenchError(f"HEAD was answered with {answer[:60]!r}")
        return answer[9:12] == b"200"

    def _ask(self, request: bytes) -> bytes:
        """Send a request and return what has come when the head of its answer is there."""
        self._socket.sendall(request)
        answer = b""
        while b"\r\n\r\n" not in answer:
            answer += self._receive()
        return answer

    def _receive(self) -> bytes:
        piece = self._socket.recv(65536)
        if not piece:
            raise BenchError("Headway closed the connection")
        return piece

    async def close(self) -> None:
        """Disconnect."""
        self._socket.close()


def _submission(task: str, sent: float) -> bytes:
    return b'{"task":"bench-%b","payload":%r}' % (task.encode(), sent)
