"""What is read in one turn is answered in order, plainly or not; what is known may be held, as anything may."""

from __future__ import annotations

import asyncio
import re
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from headway.core.config import Config, JournalSection
from headway.core.job import Submission
from headway.core.local.durable import Durable
from headway.core.local.engine import LocalEngine
from headway.core.open import open_engine
from headway.core.tasks.registry import Options, Registry
from headway.protocol.api.app import Api
from headway.protocol.http import round as round_
from headway.protocol.http.connection import Connection
from headway.protocol.http.round import LARGE_BYTES

from tests.core.engines import now
from tests.protocol.wire import post, request, submission


class Written(asyncio.Transport):
    """A transport that keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.data = b""
        self.aborted = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.data += data

    def is_closing(self) -> bool:
        return self.aborted

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def can_write_eof(self) -> bool:
        return False

    def get_write_buffer_size(self) -> int:
        return 0

    def abort(self) -> None:
        self.aborted = True


def in_one_turn(test: Callable[[Api, Callable[[], tuple[Connection, Written]], bytes], None]) -> None:
    """Call ``test`` with an application, a maker of connections that have polled a queued job, and that poll."""

    async def main() -> None:
        registry = Registry()
        registry.add(nothing, Options())
        engine = LocalEngine(Config(), registry)
        status = now(engine.submit(Submission(task="nothing"))).status
        api = Api(Config(), engine)
        head = request("HEAD", f"/jobs/{status.id.decode()}")

        def connect() -> tuple[Connection, Written]:
            connection, transport = Connection(api.connections), Written()
            connection.connection_made(transport)
            connection.data_received(head)
            api.connections.round.end()
            assert transport.data.startswith(b"HTTP/1.1 202 ")
            transport.data = b""
            return connection, transport

        test(api, connect, head)

    asyncio.run(main())


def until_nothing_is_left(api: Api) -> None:
    """Let as many turns pass as it takes to answer what was read."""
    api.connections.round.end()
    while api.connections.round._reads:
        api.connections.round.end()


async def nothing(_: object) -> None:
    pass


def test_answers_of_one_turn_keep_the_order_of_the_requests() -> None:
    def test(api: Api, connect: Callable[[], tuple[Connection, Written]], head: bytes) -> None:
        connection, transport = connect()
        for data in (request("GET", "/healthz"), head, request("GET", "/nowhere"), head):
            connection.data_received(data)
        api.connections.round.end()
        assert re.findall(rb"HTTP/1.1 (\d+)", transport.data) == [b"200", b"202", b"404", b"202"]

    in_one_turn(test)


def test_known_and_other_requests_of_one_client_in_one_turn_are_answered_in_their_order() -> None:
    def test(api: Api, connect: Callable[[], tuple[Connection, Written]], head: bytes) -> None:
        connection, transport = connect()
        row = request("GET", "/healthz") * 300
        for data in (head, row, head):
            connection.data_received(data)
        until_nothing_is_left(api)
        codes = re.findall(rb"HTTP/1.1 (\d+)", transport.data)
        assert codes == [b"202", *[b"200"] * 300, b"202"]

    in_one_turn(test)


def test_a_poll_that_cannot_be_written_ends_its_connection_and_no_other(caplog: pytest.LogCaptureFixture) -> None:
    def test(api: Api, connect: Callable[[], tuple[Connection, Written]], head: bytes) -> None:
        (failing, ended), (other, transport) = connect(), connect()
        ended.write = None  # type: ignore[method-assign, assignment]
        for connection in (failing, other):
            connection.data_received(head)
        api.connections.round.end()
        assert ended.aborted
        assert transport.data.startswith(b"HTTP/1.1 202 ")
        other.data_received(head)
        api.connections.round.end()
        assert transport.data.count(b"HTTP/1.1 202 ") == 2

    in_one_turn(test)
    assert "cannot be written to" in caplog.text


def test_a_read_that_fails_ends_its_connection_and_no_other(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def test(api: Api, connect: Callable[[], tuple[Connection, Written]], head: bytes) -> None:
        (failing, ended), (other, transport) = connect(), connect()
        monkeypatch.setattr(Connection, "_read", None)
        failing.data_received(request("GET", "/healthz"))
        other.data_received(head)
        until_nothing_is_left(api)
        assert ended.aborted
        assert transport.data.startswith(b"HTTP/1.1 202 ")

    in_one_turn(test)
    assert "is ended" in caplog.text


KNOWN_POST = post(submission("nothing"))
Held = Callable[[Api, Connection, Written, Durable], None]


def with_a_held_post(test: Held, path: Path) -> None:
    """Call ``test`` with a connection whose second, known POST is held until its job is on disk, which it is not."""
    registry = Registry()
    registry.add(nothing, Options())
    engine = open_engine(msgspec.structs.replace(Config(), journal=JournalSection(path=str(path))), registry, bool)
    durable = engine.changes
    assert isinstance(durable, Durable)

    async def main() -> None:
        api = Api(engine.config, engine)
        connection, transport = Connection(api.connections), Written()
        connection.connection_made(transport)
        connection.data_received(KNOWN_POST)
        commit(api, durable)
        assert transport.data.startswith(b"HTTP/1.1 202 ")
        transport.data = b""
        connection.data_received(KNOWN_POST)
        api.connections.round.end()
        assert transport.data == b""
        test(api, connection, transport, durable)

    with pytest.MonkeyPatch.context() as patch:
        # The loop does not turn here, so nothing goes on with what a slow machine leaves to its next turn.
        patch.setattr(round_, "ROUND_S", 60.0)
        asyncio.run(main())
    durable.journal.abandon()


def commit(api: Api, durable: Durable) -> None:
    api.connections.round.end()
    durable._committed(durable.journal.appended)
    api.connections.round.end()


def test_a_known_post_is_answered_when_it_is_safe(tmp_path: Path) -> None:
    def test(api: Api, connection: Connection, transport: Written, durable: Durable) -> None:
        commit(api, durable)
        assert transport.data.startswith(b"HTTP/1.1 202 ")
        assert api.connections.requests["POST /jobs", b"202"] == 2
        transport.data = b""
        connection.data_received(KNOWN_POST)
        api.connections.round.end()
        commit(api, durable)
        assert transport.data.startswith(b"HTTP/1.1 202 ")
        assert api.connections.requests["POST /jobs", b"202"] == 3

    with_a_held_post(test, tmp_path / "j")


def test_what_comes_while_a_known_post_is_held_is_answered_after_it(tmp_path: Path) -> None:
    def test(api: Api, connection: Connection, transport: Written, durable: Durable) -> None:
        connection.data_received(request("GET", "/nowhere"))
        connection.data_received(request("GET", "/healthz"))
        api.connections.round.end()
        assert transport.data == b""
        commit(api, durable)
        assert re.findall(rb"HTTP/1.1 (\d+)", transport.data) == [b"202", b"404", b"200"]

    with_a_held_post(test, tmp_path / "j")


def test_a_known_post_that_is_rejected_is_told(tmp_path: Path) -> None:
    def test(api: Api, connection: Connection, transport: Written, durable: Durable) -> None:
        durable._no_room(list(durable._uncommitted))
        api.connections.round.end()
        assert transport.data.startswith(b"HTTP/1.1 503 ")
        connection.data_received(request("GET", "/healthz"))
        api.connections.round.end()
        assert re.findall(rb"HTTP/1.1 (\d+)", transport.data) == [b"503", b"200"]

    with_a_held_post(test, tmp_path / "j")


def test_a_known_post_that_is_safe_while_the_server_winds_down_is_the_last(tmp_path: Path) -> None:
    def test(api: Api, connection: Connection, transport: Written, durable: Durable) -> None:
        api.connections.winding_down = True
        commit(api, durable)
        assert transport.data.startswith(b"HTTP/1.1 202 ")
        assert b"\r\nConnection: close\r\n" in transport.data

    with_a_held_post(test, tmp_path / "j")


def test_a_client_that_is_gone_when_its_post_is_safe_is_not_written_to(tmp_path: Path) -> None:
    def test(api: Api, connection: Connection, transport: Written, durable: Durable) -> None:
        connection.connection_lost(None)
        commit(api, durable)
        assert transport.data == b""
        assert api.service.engine.counts().active == 2

    with_a_held_post(test, tmp_path / "j")


def test_a_large_read_is_answered_with_those_before_it_and_not_gathered() -> None:
    def test(api: Api, connect: Callable[[], tuple[Connection, Written]], head: bytes) -> None:
        (small, before), (large, after) = connect(), connect()
        small.data_received(head)
        assert before.data == b""
        large.data_received(post(submission("nothing", "x" * LARGE_BYTES)))
        assert before.data.startswith(b"HTTP/1.1 202 ")
        assert after.data.startswith(b"HTTP/1.1 202 ")

    in_one_turn(test)


def test_clients_take_turns_whatever_they_ask_for(monkeypatch: pytest.MonkeyPatch) -> None:
    def test(api: Api, connect: Callable[[], tuple[Connection, Written]], head: bytes) -> None:
        (greedy, much), (modest, little) = connect(), connect()
        # Time passes with each look at it.
        seconds = iter(range(1000, 1_000_000))
        monkeypatch.setattr("headway.protocol.http.round.time.monotonic", lambda: float(next(seconds)))
        greedy.data_received(request("GET", "/healthz") * 200)
        modest.data_received(request("GET", "/healthz"))
        api.connections.round.end()
        assert much.data.count(b"HTTP/1.1 ") == 1
        assert little.data == b""
        api.connections.round.end()
        assert little.data.count(b"HTTP/1.1 ") == 1
        assert much.data.count(b"HTTP/1.1 ") <= 2
        until_nothing_is_left(api)
        assert much.data.count(b"HTTP/1.1 ") == 200

    in_one_turn(test)


def test_what_waits_for_its_turn_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    def test(api: Api, connect: Callable[[], tuple[Connection, Written]], head: bytes) -> None:
        clients = [connect() for _ in range(6)]
        monkeypatch.setattr("headway.protocol.http.round.time.monotonic", iter(range(1000, 1_000_000)).__next__)
        api.connections.round._late_most = 3 * LARGE_BYTES
        row = request("GET", "/healthz") * (LARGE_BYTES // 30)
        for client, _ in clients:
            client.data_received(row)
        assert [transport.aborted for _, transport in clients] == [False] * 3 + [True] * 3
        until_nothing_is_left(api)
        assert {transport.data.count(b"HTTP/1.1 200") for _, transport in clients[:3]} == {LARGE_BYTES // 30}

    in_one_turn(test)


def test_who_has_gone_waits_no_more() -> None:
    def test(api: Api, connect: Callable[[], tuple[Connection, Written]], head: bytes) -> None:
        connection, _ = connect()
        connection.data_received(head.replace(b"\r\n\r\n", b"\r\nPrefer: wait=20\r\n\r\n"))
        api.connections.round.end()
        assert api.service.engine.counts().waiting_clients == 1
        connection.connection_lost(None)
        assert api.service.engine.counts().waiting_clients == 0

    in_one_turn(test)


def test_a_repeated_post_leaves_nothing_of_its_content() -> None:
    def test(api: Api, connect: Callable[[], tuple[Connection, Written]], head: bytes) -> None:
        clients = [connect() for _ in range(20)]
        content = post(submission("nothing", "x" * 100_000, delay=1000))
        for client, _ in clients:
            client.data_received(post(submission("nothing", "x" * 100, delay=1000)))
        api.connections.round.end()
        tracemalloc.start()
        for client, transport in clients:
            client.data_received(bytes(bytearray(content)))
            until_nothing_is_left(api)
            assert transport.data.count(b"HTTP/1.1 202 ") == 2
        # The jobs have their payloads, and nobody has them once more.
        kept = tracemalloc.get_traced_memory()[0]
        tracemalloc.stop()
        assert kept < len(clients) * 150_000

    in_one_turn(test)
