"""Places of connections: which client gets one at the limit, and which one loses it."""

from __future__ import annotations

import asyncio
import select
import socket
import sys
import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest
from headway.core.config import Config
from headway.core.local.engine import LocalEngine
from headway.core.tasks.registry import Registry
from headway.protocol.access.clients import Clients
from headway.protocol.api.app import Api
from headway.protocol.http.connection import Connection
from headway.protocol.http.connections import LINGERING_MOST

from tests.conftest import Start
from tests.end_to_end.process import ONE_PROCESS, Gate, Server, launch, wait_until
from tests.protocol.http.test_round import in_one_turn
from tests.protocol.http.turns import Written
from tests.protocol.wire import PATIENCE_S, Wire, post, request, submission

MEBIBYTE = 1 << 20
HEALTHZ = request("GET", "/healthz")
# For half a head, on a machine that is busy.
PATIENT = {"timeouts__head": 100}
linux_only = pytest.mark.skipif(sys.platform != "linux", reason="counts descriptors in /proc")


@contextmanager
def served(server: Server) -> Iterator[Wire]:
    """Connect until there is a place."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        assert time.monotonic() < deadline, "there is never a place"
        with server.wire() as wire:
            if wire.ask(HEALTHZ).status == 200:
                yield wire
                return


def busy(server: Server, stack: ExitStack, count: int) -> list[Wire]:
    """Connect clients that have sent half a head each, and are not idle."""
    wires = [stack.enter_context(served(server)) for _ in range(count)]
    for wire in wires:
        wire.send(HEALTHZ[:9])
    return wires


def is_ended(wire: Wire) -> bool:
    """Whether the server has ended a connection on which nothing was to come."""
    return bool(select.select([wire.socket], [], [], 0)[0]) and not wire.socket.recv(1)


def counted(wire: Wire, name: str, label: str) -> float:
    """Read a counter with one label, on a connection that has a place."""
    text = wire.ask(request("GET", "/metrics")).body.decode()
    (line,) = [line for line in text.splitlines() if line.startswith(f"{name}{{") and f'"{label}"' in line]
    return float(line.rpartition(" ")[2])


def test_the_connection_that_was_idle_for_longest_makes_place(start: Start) -> None:
    server = start(limits__connections=3, **PATIENT)
    with ExitStack() as stack:
        wires = [stack.enter_context(served(server)) for _ in range(3)]
        wires[0].send(HEALTHZ[:9])
        stack.enter_context(served(server))
        wait_until(lambda: is_ended(wires[1]), bool)
        wires[0].send(HEALTHZ[9:])
        assert wires[0].read().status == 200
        assert wires[2].still_serves()
        assert counted(wires[2], "headway_connections_closed_total", "place") == 1


def test_clients_of_one_tick_do_not_end_each_other() -> None:
    def test(api: Api, connect: Callable[[], tuple[Connection, Written]], _: bytes) -> None:
        connections = api.connections
        before = [connect()[0] for _ in range(2)]
        over, answer = Connection(connections), Written()
        over.connection_made(answer)
        connections.round.end()
        assert answer.data.startswith(b"HTTP/1.1 503 ")
        assert list(connections.open) == before
        connections.tick()
        late = connect()[0]
        assert list(connections.open) == [before[1], late]

    in_one_turn(test, connections=2)


def test_of_idle_connections_the_one_that_was_used_last_stays_for_longest() -> None:
    def test(api: Api, connect: Callable[[], tuple[Connection, Written]], head: bytes) -> None:
        connections = api.connections
        used, other = connect()[0], connect()[0]
        connections.tick()
        used.data_received(head)
        connections.round.end()
        connections.tick()
        assert connections.make_place()
        assert list(connections.open) == [used]
        assert other not in connections.open

    in_one_turn(test, connections=2)


def test_a_request_that_is_still_in_the_kernel_keeps_its_place() -> None:
    async def test() -> None:
        loop, config = asyncio.get_running_loop(), Config()
        api = Api(config, LocalEngine(config, Registry()))
        ours, theirs = socket.socketpair()
        with theirs:
            ours.setblocking(False)
            theirs.setblocking(False)
            await loop.connect_accepted_socket(lambda: Connection(api.connections), ours)
            api.connections.tick()
            theirs.send(HEALTHZ)
            # In this turn of the loop nobody reads.
            assert api.connections.make_place()
            api.connections.round.end()
            answer = await asyncio.wait_for(loop.sock_recv(theirs, 1000), PATIENCE_S)
            assert answer.startswith(b"HTTP/1.1 200 ")
            assert len(api.connections.open) == 1
            assert api.connections.closed["place"] == 0
            # Without one it goes.
            api.connections.tick()
            assert api.connections.make_place()
            assert await asyncio.wait_for(loop.sock_recv(theirs, 1000), PATIENCE_S) == b""

    asyncio.run(test())


def test_a_connection_that_had_its_last_answer_lingers_without_a_place() -> None:
    def test(api: Api, connect: Callable[[], tuple[Connection, Written]], head: bytes) -> None:
        connections = api.connections
        connection, answers = connect()
        connection.data_received(head.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        connections.round.end()
        assert answers.data.startswith(b"HTTP/1.1 202 ")
        assert (list(connections.open), list(connections.lingering)) == ([], [connection])

    in_one_turn(test)


def test_without_an_idle_connection_a_newcomer_is_refused(start: Start) -> None:
    server = start(limits__connections=3, **PATIENT)
    with ExitStack() as stack:
        wires = busy(server, stack, 3)
        # Longer than a tick.
        time.sleep(1.2)
        with server.wire() as over:
            answer = over.read()
            assert (answer.status, answer["connection"]) == (503, "close")
            assert answer.json["type"] == "urn:headway:problem:connections"
            assert int(answer["retry-after"]) >= 1
            over.read_end()
        wires[0].send(HEALTHZ[9:])
        assert wires[0].read().status == 200
        assert counted(wires[0], "headway_rejections_total", "connections") == 1
        assert counted(wires[0], "headway_connections_closed_total", "place") == 0


def test_waiting_clients_and_readers_of_events_are_not_idle(start: Start, gate: Gate) -> None:
    server = start(limits__connections=2)
    path = server.submit("until_file", gate.path)
    with ExitStack() as stack:
        waiter, reader = stack.enter_context(served(server)), stack.enter_context(served(server))
        waiter.send(request("GET", path, "Prefer: wait=20"))
        reader.send(request("GET", f"{path}/events"))
        assert reader.read_head()[0] == 200
        time.sleep(1.2)
        assert server.get("/healthz").status == 503
        gate.open()
        assert waiter.read().status == 200


def test_a_request_that_came_meanwhile_keeps_its_place() -> None:
    def test(api: Api, connect: Callable[[], tuple[Connection, Written]], head: bytes) -> None:
        connections = api.connections
        (asking, answers), (idle, ended) = connect(), connect()
        connections.tick()
        asking.data_received(head)
        assert connections.make_place()
        # What it sends from now on is in the kernel, and seen there.
        assert not answers.reads
        connections.round.end()
        assert answers.data.startswith(b"HTTP/1.1 202 ")
        assert answers.reads
        assert set(connections.open) == {asking, idle}
        assert connections.make_place()
        assert not connections.make_place()
        connections.round.end()
        assert set(connections.open) == {asking}
        assert not ended.data
        assert connections.closed["place"] == 1

    in_one_turn(test, connections=2)


def at(server: Server, stack: ExitStack, address: str) -> Wire:
    """Connect from an address of the loopback network."""
    return stack.enter_context(Wire(server.port, address=address))


@linux_only
def test_connections_of_one_address_have_a_limit_of_their_own(start: Start) -> None:
    server = start(limits__connections_per_address=2)
    with ExitStack() as stack:
        first, second = (at(server, stack, "127.0.0.1") for _ in range(2))
        assert first.still_serves()
        assert second.still_serves()
        over = at(server, stack, "127.0.0.1")
        answer = over.read()
        assert (answer.status, answer["connection"]) == (429, "close")
        assert answer.json["type"] == "urn:headway:problem:connections-of-address"
        assert int(answer["retry-after"]) >= 1
        over.read_end()
        other = at(server, stack, "127.0.0.2")
        assert other.still_serves()
        assert counted(other, "headway_rejections_total", "connections-of-address") == 1
        first.socket.close()
        wait_until(lambda: at(server, stack, "127.0.0.1").ask(HEALTHZ).status, lambda status: status == 200)


def test_addresses_that_have_gone_take_no_memory() -> None:
    def test(api: Api, _connect: Callable[[], tuple[Connection, Written]], _: bytes) -> None:
        def come_and_go(count: int) -> int:
            for number in range(count):
                connection = Connection(api.connections, f"2001:db8:{number:x}::1")
                connection.connection_made(Written())
                connection.connection_lost(None)
            return tracemalloc.get_traced_memory()[0]

        tracemalloc.start()
        try:
            # The last addresses that were read are kept.
            before = come_and_go(2000)
            assert come_and_go(3000) - before < 100_000
        finally:
            tracemalloc.stop()

    in_one_turn(test, connections_per_address=1)


def test_connections_of_a_trusted_proxy_have_no_limit_of_their_own(start: Start) -> None:
    server = start(limits__connections_per_address=1, http__trusted_proxies=["127.0.0.0/8"])
    with ExitStack() as stack:
        assert all(stack.enter_context(server.wire()).still_serves() for _ in range(5))


@pytest.mark.parametrize(
    ("peer", "key"),
    [
        ("192.0.2.1", bytes([192, 0, 2, 1])),
        ("::ffff:192.0.2.1", bytes([192, 0, 2, 1])),
        ("2001:db8:0:7::1", bytes.fromhex("20010db800000007")),
        ("2001:db8:0:7:ffff::2", bytes.fromhex("20010db800000007")),
        ("10.1.2.3", b""),
        ("", b""),
    ],
    ids=["v4", "mapped", "v6", "v6 of the same network", "trusted proxy", "Unix socket"],
)
def test_key_of_an_address(peer: str, key: bytes) -> None:
    assert Clients(("10.0.0.0/8",), "x-forwarded-for").key_of_peer(peer) == key


def test_clients_that_do_not_take_their_last_answer_keep_their_places(start: Start) -> None:
    server = start(limits__connections=3)
    path = server.run("octets", 8 * MEBIBYTE)
    with ExitStack() as stack:
        for _ in range(3):
            wire = stack.enter_context(served(server))
            wire.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            wire.send(request("GET", f"{path}/result", "Connection: close"))
        wait_until(lambda: server.get("/healthz").status, lambda status: status == 503)


@linux_only
def test_refused_clients_that_stay_take_a_bounded_number_of_descriptors(start: Start) -> None:
    server = start(limits__connections=2, **PATIENT)
    files = Path(f"/proc/{server.process.pid}/fd")
    with ExitStack() as stack:
        kept, _ = busy(server, stack, 2)
        before = len(list(files.iterdir()))
        for _ in range(LINGERING_MOST * 3):
            assert stack.enter_context(server.wire()).read().status == 503
        assert len(list(files.iterdir())) <= before + LINGERING_MOST + 1
        kept.send(HEALTHZ[9:])
        assert kept.read().status == 200


@linux_only
def test_fewer_files_are_fewer_places(tmp_path: Path) -> None:
    """A client for which there is no place is refused, where one without a file would wait."""
    before = ["sh", "-c", 'ulimit -n 160; exec "$@"', "sh"]
    with launch(tmp_path, PATIENT, before=before) as server, ExitStack() as stack:
        line = server.wait_for_line("limits.connections is 16000, but this process may open 160 files")
        assert "serves 80 connections" in line
        busy(server, stack, 80)
        assert [stack.enter_context(server.wire()).read().status for _ in range(20)] == [503] * 20


@ONE_PROCESS
@linux_only
def test_without_files_clients_are_served_and_the_loop_rests(tmp_path: Path, gate: Gate) -> None:
    before = ["sh", "-c", 'ulimit -n 160; exec "$@"', "sh"]
    with launch(tmp_path, PATIENT, before=before) as server, ExitStack() as stack:
        server.expected_errors.append("cannot accept clients: .* Raise the limit with ulimit -n")
        kept = stack.enter_context(server.wire())
        path = kept.ask(post(submission("keep_all_files", gate.path)))["location"]
        wait_until(lambda: "progress" in "".join(kept.ask(request("HEAD", path)).headers), bool)
        kept.send(HEALTHZ[:9])
        outside = [stack.enter_context(server.wire()) for _ in range(5)]
        for wire in outside:
            wire.send(HEALTHZ)
        server.wait_for_line("cannot accept clients")
        spent = server.cpu_s
        time.sleep(1)
        assert server.cpu_s - spent < 0.5
        kept.send(HEALTHZ[9:])
        assert kept.read().status == 200
        assert not select.select([wire.socket for wire in outside], [], [], 0)[0]
        gate.open()
        assert [wire.read().status for wire in outside] == [200] * 5
        assert len([line for line in server.said if "cannot accept clients" in line]) == 1


@ONE_PROCESS
@linux_only
@pytest.mark.parametrize("sent", [request("GET", "/healthz", "Connection: close"), b"no request\r\n\r\n"])
def test_a_connection_that_both_sides_have_ended_keeps_no_descriptor(server: Server, sent: bytes) -> None:
    """It does not linger. The shortest of some times counts, since the machine may be busy."""
    files = Path(f"/proc/{server.process.pid}/fd")

    def end_it() -> float:
        with server.wire() as wire:
            wire.send(sent)
            wire.read()
            there = set(files.iterdir())
            wire.finish()
            began = time.monotonic()
            wait_until(lambda: there - set(files.iterdir()), bool)
            return time.monotonic() - began

    assert min(end_it() for _ in range(5)) < 1


def test_places_of_refused_clients_and_of_those_that_had_their_last_answer_are_free(start: Start) -> None:
    """They do not end their side, for which they have two seconds."""
    server = start(limits__connections=2, **PATIENT)
    with ExitStack() as stack:
        kept, other = busy(server, stack, 2)
        for _ in range(20):
            assert stack.enter_context(server.wire()).read().status == 503
        other.send(HEALTHZ[9:])
        assert other.read().status == 200
        for _ in range(6):
            wire = stack.enter_context(served(server))
            wire.send(request("GET", "/healthz", "Connection: close"))
            assert wire.read().status == 200
        kept.send(HEALTHZ[9:])
        assert kept.read().status == 200


def test_requests_beyond_a_few_wait_in_the_kernel(start: Start, gate: Gate) -> None:
    """A client whose answer waits can send on, and has 4 KiB of requests parsed and one read unparsed."""
    server = start()
    path = server.submit("until_file", gate.path)
    with server.wire() as wire:
        wire.send(request("GET", path, "Prefer: wait=20") + HEALTHZ)
        wait_until(lambda: server.stats()["waiting_clients"], lambda count: count == 1)
        wire.socket.settimeout(0.2)
        sent = 0
        with suppress(TimeoutError):
            while sent < 64 * MEBIBYTE:
                sent += wire.socket.send(HEALTHZ * 1000)
        assert sent < 64 * MEBIBYTE
        assert server.stats()["unanswered_bytes"] < MEBIBYTE
        gate.open()
        wire.socket.settimeout(PATIENCE_S)
        assert [wire.read().status for _ in range(1000)] == [200] * 1000
