"""A load generator for HEAD: one request at a time on each of many keep-alive connections.

wrk 4.1 and h2load cannot do it: their parsers do not know that an answer to HEAD ends with its head, and wait for a
body unless there is a ``Content-Length: 0``, which would be untrue (RFC 9110, 8.6). ab can, but speaks HTTP/1.0 only.

This one is a bare loop over epoll, without uvloop or a parser: for each readable socket one ``recv``, a look at the
first and the last bytes, one ``send``. An answer is what begins with the status line that the first answer had and ends
with an empty line; a server that sends heads in two writes is waited for. Anything else ends the run with an error.
"""

from __future__ import annotations

import select
import socket
import ssl
import time
from collections.abc import Sequence

from bench.measure import HOST, BenchError, Load, Window

END = b"\r\n\r\n"
EVENTS_MOST = 1024
BYTES_MOST = 16384


class Heads:
    """``connections`` open connections to a port, on each of which ``request`` is sent again and again.

    With a ``context`` they speak TLS, which keeps the generator busier, and the server less so.
    """

    def __init__(self, port: int, connections: int, request: bytes, context: ssl.SSLContext | None = None) -> None:
        self._request = request
        self._context = context
        self._epoll = select.epoll()
        self._sockets: dict[int, socket.socket] = {}
        # What has come of an answer that was not complete in one read.
        self._partial: dict[int, bytes] = {}
        # The status line that all answers must have, as far as the code.
        self._opening = b""
        try:
            for _ in range(connections):
                self._connect(port)
        except OSError as error:
            raise BenchError(f"cannot open {connections} connections to port {port}: {error}") from None

    def _connect(self, port: int) -> None:
        opened = socket.create_connection((HOST, port), 5)
        opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self._context is not None:
            opened = self._context.wrap_socket(opened, server_hostname=HOST)
        opened.setblocking(False)
        self._sockets[opened.fileno()] = opened
        self._epoll.register(opened, select.EPOLLIN)

    def close(self) -> None:
        """Close all connections."""
        for opened in self._sockets.values():
            opened.close()
        self._epoll.close()

    def run(self, warm_up_s: float, seconds: float, pids: Sequence[int]) -> Load:
        """Load for ``warm_up_s``, then for ``seconds``; return the count of the latter and the CPU of ``pids``."""
        for opened in self._sockets.values():
            opened.send(self._request)
        self._loop(warm_up_s)
        window, begun = Window(pids), time.perf_counter()
        requests = self._loop(seconds)
        return window.load(requests, time.perf_counter() - begun)

    def _loop(self, seconds: float) -> int:
        """Answer each answer with the next request for ``seconds``; return how many answers there were."""
        poll, request = self._epoll.poll, self._request
        receive = {number: opened.recv for number, opened in self._sockets.items()}
        send = {number: opened.send for number, opened in self._sockets.items()}
        answers = 0
        end = time.perf_counter() + seconds
        try:
            while time.perf_counter() < end:
                ready = poll(2.0, EVENTS_MOST)
                if not ready:
                    raise BenchError("the server has not answered for 2 s")
                for number, _ in ready:
                    try:
                        data = receive[number](BYTES_MOST)
                    except ssl.SSLWantReadError:
                        # A record of TLS without content, or a part of one.
                        continue
                    good = data[-4:] == END and data[:12] == self._opening
                    if not good and not self._complete(number, data):
                        continue
                    send[number](request)
                    answers += 1
        except OSError as error:
            raise BenchError(f"the server broke a connection: {error.strerror}") from None
        return answers

    def _complete(self, number: int, data: bytes) -> bool:
        """Whether an answer that is not as it should be is so with what came before it."""
        if not data:
            raise BenchError("the server closed a keep-alive connection")
        data = self._partial.pop(number, b"") + data
        if not self._opening and data[9:12] in (b"200", b"202"):
            self._opening = data[:12]
        if len(data) >= 12 and data[:12] != self._opening:
            raise BenchError(f"the server answered {data[:60]!r} where 200 or 202 was due")
        if not data.endswith(END):
            self._partial[number] = data
            return False
        if END in data[:-4]:
            raise BenchError("the server sent two answers for one request, or a body to HEAD")
        return True
