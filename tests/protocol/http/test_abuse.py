"""Clients that are greedy or gone: they cost a bounded amount, and others are served."""

from __future__ import annotations

import resource
import select
import sys
from contextlib import ExitStack, suppress

import pytest

from tests.conftest import Start
from tests.end_to_end.process import Gate, Server, wait_until
from tests.protocol.wire import post, request, submission

HEALTHZ = request("GET", "/healthz")
NOTHING = submission("nothing")
MEBIBYTE = 1 << 20


@pytest.mark.skipif(sys.platform != "linux", reason="reads memory from /proc")
def test_pipelines_that_are_never_read_take_bounded_memory(start: Start) -> None:
    server = start()
    path = server.run("octets", 100_000) + "/result"
    begin = server.resident_bytes
    with ExitStack() as stack:
        wires = [stack.enter_context(server.wire()) for _ in range(10)]
        for wire in wires:
            wire.socket.settimeout(0)
            with suppress(BlockingIOError):
                while wire.socket.send(request("GET", path) * 1000):
                    pass
        for _ in range(50):
            assert server.get("/healthz").status == 200
        assert server.resident_bytes - begin < 10 * 8 * MEBIBYTE


def test_pipeline_that_is_read_late_is_answered_to_the_last(server: Server) -> None:
    path = server.run("octets", MEBIBYTE)
    sent = (request("GET", path + "/result") + request("HEAD", path)) * 40 + request("GET", "/readyz")
    with server.wire() as wire:
        wire.send(sent)
        wire.finish()
        for _ in range(20):
            assert server.get("/healthz").status == 200
        for _ in range(40):
            assert len(wire.read().body) == MEBIBYTE
            assert wire.read("HEAD")["job-state"] == "succeeded"
        assert wire.read().body == b"ready\n"
        wire.read_end()


def test_thousands_of_pipelined_requests_are_answered_in_order(server: Server) -> None:
    paths = ["/healthz", "/readyz", "/nowhere"]
    sent = b"".join(request("GET", paths[n % 3]) for n in range(9000))
    with server.wire() as wire:
        wire.send(sent)
        wire.finish()
        received = wire.read_all()
    codes = [int(part[:3]) for part in received.split(b"HTTP/1.1 ")[1:]]
    assert codes == [200, 200, 404] * 3000


@pytest.mark.parametrize("last", [post(NOTHING)[:-1], b"GET", b""], ids=["half-a-body", "half-a-head", "nothing"])
def test_half_close_after_requests(server: Server, last: bytes) -> None:
    with server.wire() as wire:
        wire.send(post(NOTHING) * 3 + last)
        wire.finish()
        assert [wire.read().status for _ in range(3)] == [202] * 3
        wire.read_end()


@pytest.mark.parametrize(
    "sent",
    [HEALTHZ[:9], post(NOTHING)[:-1], HEALTHZ * 2000, post(NOTHING, "Expect: 100-continue")[:-1], b"\0", b""],
    ids=["head", "body", "pipeline", "expect", "invalid", "nothing"],
)
def test_reset_in_the_middle(server: Server, sent: bytes) -> None:
    before = server.stats()["connections"]
    for _ in range(10):
        wire = server.wire()
        wire.send(sent)
        wire.reset()
    wait_until(lambda: server.stats()["connections"], lambda connections: connections <= before)


def test_job_goes_on_when_its_client_is_gone(server: Server, gate: Gate) -> None:
    with server.wire() as wire:
        path = wire.ask(post(submission("until_file", gate.path)))["location"]
        wire.reset()
    gate.open()
    assert server.wait_for(path, "succeeded").status == 200


def test_two_thousand_idle_connections(server: Server) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < 2200:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 4096), hard))
    with ExitStack() as stack:
        wires = [stack.enter_context(server.wire()) for _ in range(2000)]
        assert server.stats()["connections"] >= 2000
        assert all(wires[at].still_serves() for at in range(0, 2000, 97))
    wait_until(lambda: server.stats()["connections"], lambda connections: connections < 100)


ENDLESS = [
    pytest.param(b"GET /", b"x", id="target"),
    pytest.param(b"GET / HTTP/1.1\r\nX: ", b"x", id="header"),
    pytest.param(b"GET / HTTP/1.1\r\n", b"x", id="header-name"),
    pytest.param(b"GET / HTTP/1.1\r\n", b"X: y\r\n", id="headers"),
    pytest.param(request("POST", "/jobs", "Transfer-Encoding: chunked") + b"0\r\nX: ", b"x", id="trailer"),
    pytest.param(request("POST", "/jobs", "Transfer-Encoding: chunked") + b"0\r\n", b"X: y\r\n", id="trailers"),
    pytest.param(request("POST", "/jobs", "Transfer-Encoding: chunked") + b"1;", b"x", id="chunk-extension"),
    pytest.param(request("POST", "/jobs", "Transfer-Encoding: chunked"), b"2\r\nab\r\n", id="chunks"),
]


@pytest.mark.skipif(sys.platform != "linux", reason="reads memory from /proc")
@pytest.mark.parametrize(("begin", "more"), ENDLESS)
def test_endless_request_is_refused_before_it_takes_memory(server: Server, begin: bytes, more: bytes) -> None:
    before, sent = server.resident_bytes, 0
    with server.wire() as wire:
        wire.send(begin)
        while sent < 16 * MEBIBYTE and not select.select([wire.socket], [], [], 0)[0]:
            sent += wire.socket.send(more * (100_000 // len(more)))
        assert server.resident_bytes - before < 32 * MEBIBYTE
        assert wire.read().status in {400, 413, 414, 431}
        wire.read_end()
