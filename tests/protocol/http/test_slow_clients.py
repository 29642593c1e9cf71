"""Clients that are slow: told with 408, dropped, or waited for, as the timeouts say.

All of them are slow at the same time, in threads that begin with the first test; each test looks at one of them.
"""

from __future__ import annotations

import errno
import select
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress

import pytest

from tests.end_to_end.process import Server, launch
from tests.protocol.wire import Wire, post, request, submission

pytestmark = pytest.mark.long

NOTHING = submission("nothing")
HEAD = b"GET /healthz HTTP/1.1\r\nHost: a\r\nX: "
CHUNKED = request("POST", "/jobs", "Transfer-Encoding: chunked")
MEBIBYTE = 1 << 20
LARGE = 24 * MEBIBYTE
# Seconds in which a slow reader reads an answer of LARGE; more than the server lingers after the last answer.
PACE_S = 4.5


def ending(wire: Wire) -> list[int]:
    """Read the codes of what comes until the server closes, or resets what was sent after that."""
    codes = []
    with suppress(ConnectionError):
        while select.select([wire.socket], [], [], 20)[0] and wire.socket.recv(1, socket.MSG_PEEK):
            answer = wire.read()
            assert answer["connection"] == "close"
            codes.append(answer.status)
    return codes


def sends(begin: bytes) -> Callable[[Server], list[int]]:
    """A client that sends this and then nothing."""

    def client(server: Server) -> list[int]:
        with server.wire() as wire:
            wire.send(begin)
            return ending(wire)

    return client


def dribbles(begin: bytes, more: bytes) -> Callable[[Server], list[int]]:
    """A client that goes on sending a little now and then."""

    def client(server: Server) -> list[int]:
        with server.wire() as wire:
            wire.send(begin)
            deadline = time.monotonic() + 15
            while not select.select([wire.socket], [], [], 0.1)[0]:
                assert time.monotonic() < deadline, "the connection is kept for ever"
                with suppress(ConnectionError):
                    wire.send(more)
            return ending(wire)

    return client


def asks_and_stays(server: Server) -> list[int]:
    """A client that is done, and leaves its connection open."""
    with server.wire() as wire:
        for _ in range(5):
            assert wire.ask(post(NOTHING)).status == 202
        return ending(wire)


def never_reads(server: Server) -> list[int]:
    """A client that asks for more than fits on the way, and reads nothing."""
    path = server.run("octets", MEBIBYTE)
    with server.wire() as wire:
        wire.send(request("GET", path + "/result") * 100)
        deadline = time.monotonic() + 15
        with suppress(ConnectionError):
            while time.monotonic() < deadline:
                time.sleep(0.1)
                wire.send(b"\r\n")
            raise AssertionError("the connection is kept for ever")
    return []


def reads_at(bytes_s: int) -> Callable[[Server], list[int]]:
    """A client that reads a large result at a pace until it is cut off, but for 8 s at most."""

    def client(server: Server) -> list[int]:
        path = server.run("octets", LARGE)
        with socket.socket() as raw:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            raw.settimeout(20)
            raw.connect(("127.0.0.1", server.port))
            raw.sendall(request("GET", path + "/result"))
            codes = [int(raw.recv(12)[9:])]
            deadline = time.monotonic() + 8
            while time.monotonic() < deadline:
                # A reset, since after any other end the kernel would offer the rest on and on.
                if raw.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == errno.ECONNRESET:
                    return []
                assert raw.recv(max(1, bytes_s // 10))
                time.sleep(0.1)
            return codes

    return client


# What the client does, and the codes of the answers it gets before the connection is closed.
CLIENTS: dict[str, tuple[Callable[[Server], list[int]], list[int]]] = {
    "sends nothing": (sends(b""), []),
    "sends a piece of a method": (sends(b"GE"), [408]),
    "sends half a head": (sends(HEAD), [408]),
    "sends half a body": (sends(post(NOTHING)[:-1]), [408]),
    "sends half a chunk": (sends(CHUNKED + b"5\r\nab"), [408]),
    "dribbles a head": (dribbles(HEAD, b"x"), [408]),
    "dribbles a body": (dribbles(request("POST", "/jobs", "Content-Length: 100000"), b"x"), [408]),
    "dribbles chunks": (dribbles(CHUNKED, b"1\r\nx\r\n"), [408]),
    "dribbles a trailer": (dribbles(CHUNKED + b"0\r\nX: ", b"x"), [408]),
    "dribbles empty lines": (dribbles(b"", b"\r\n"), []),
    "asks and stays": (asks_and_stays, []),
    "never reads": (never_reads, []),
    "reads a byte now and then": (reads_at(10), []),
    "reads slowly": (reads_at(32 * 1024), [200]),
}


@pytest.fixture(scope="module")
def hasty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that waits a second for its clients; its clock ticks once a second."""
    times = {f"timeouts__{name}": 1 for name in ("head", "body", "idle", "write")}
    with launch(tmp_path_factory.mktemp("hasty"), {**times, "results__max_result_bytes": LARGE}) as started:
        yield started


@pytest.fixture(scope="module")
def endings(hasty: Server, slow_readers: object) -> Iterator[dict[str, Future[list[int]]]]:
    """How each of CLIENTS ends."""
    with ThreadPoolExecutor(len(CLIENTS)) as pool:
        yield {name: pool.submit(client, hasty) for name, (client, _) in CLIENTS.items()}


@pytest.fixture(scope="module")
def slow_readers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[bool, Future[int]]]:
    """How much a slow reader gets of a large result, whether its connection is to be closed after it or kept."""
    settings = {"drain_linger": 0, "results__max_result_bytes": LARGE}
    with launch(tmp_path_factory.mktemp("patient"), settings) as server, ThreadPoolExecutor(2) as pool:
        path = server.run("octets", LARGE) + "/result"
        yield {closing: pool.submit(read_slowly, server, path, closing) for closing in (False, True)}


def read_slowly(server: Server, path: str, closing: bool) -> int:
    """Read an answer at a pace that takes it PACE_S; return how many bytes came."""
    received = 0
    with socket.socket() as raw:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
        raw.settimeout(20)
        raw.connect(("127.0.0.1", server.port))
        raw.sendall(request("GET", path, *["Connection: close"] * closing))
        begin = time.monotonic()
        while received < LARGE and (piece := raw.recv(1 << 18)):
            received += len(piece)
            time.sleep(max(0.0, begin + PACE_S * received / LARGE - time.monotonic()))
    return received


@pytest.mark.parametrize("name", CLIENTS)
def test_client_that(endings: dict[str, Future[list[int]]], name: str) -> None:
    assert endings[name].result() == CLIENTS[name][1]


def test_others_are_served_meanwhile(endings: object, hasty: Server) -> None:
    assert hasty.run("nothing")
    assert hasty.get("/healthz").status == 200


@pytest.mark.parametrize("closing", [False, True], ids=["kept", "closed-after-it"])
def test_slow_reader_gets_all_of_a_large_result(slow_readers: dict[bool, Future[int]], closing: bool) -> None:
    """With timeouts.write at 30 s, nothing cuts it short."""
    assert slow_readers[closing].result() >= LARGE
