"""What is read in one turn is answered in order, plainly or not; what is known may be held, as anything may."""

from __future__ import annotations

import asyncio
import os
import re
import resource
import signal
import time
import tracemalloc
from collections.abc import Callable, Coroutine
from pathlib import Path

import msgspec
import pytest
from headway.core.config import Config, JournalSection, LimitsSection
from headway.core.job import State, Submission
from headway.core.local.engine import LocalEngine
from headway.core.open import open_local
from headway.core.recovering import Recovering
from headway.core.tasks.registry import Options, Registry
from headway.core.work.workers import TURN_S
from headway.protocol.api.app import Api
from headway.protocol.api.polls import TOGETHER_MOST
from headway.protocol.http.connection import Connection
from headway.protocol.http.outbox import PIECE_BYTES
from headway.protocol.http.round import LARGE_BYTES, MOST, ROUND_S, SMALL_BYTES

from tests.core.engines import now, until
from tests.lives.server import linux, stop
from tests.protocol.http.turns import Written, answered
from tests.protocol.wire import post, request, submission

MEBIBYTE = 1 << 20


def in_one_turn(test: Callable[[Api, Callable[[], tuple[Connection, Written]], bytes], None], **limits: int) -> None:
    """Call ``test`` with an application, a maker of connections that have polled a queued job, and that poll."""
    config = msgspec.structs.replace(Config(), limits=LimitsSection(**limits))

    async def main() -> None:
        registry = Registry()
        registry.add(nothing, Options())
        engine = LocalEngine(config, registry)
        status = now(engine.submit(Submission(task="nothing"))).status
        api = Api(config, engine)
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


@pytest.mark.parametrize("method", ["HEAD", "POST"])
def test_the_next_answer_is_the_last_while_the_server_winds_down_also_after_an_empty_line(method: str) -> None:
    def test(api: Api, connect: Callable[[], tuple[Connection, Written]], head: bytes) -> None:
        known = head if method == "HEAD" else post(submission("nothing"))
        connection, transport = connect()
        connection.data_received(known)
        api.connections.round.end()
        transport.data = b""
        api.connections.winding_down = True
        connection.wind_down()
        for data in (b"\r\n", known):
            connection.data_received(data)
            api.connections.round.end()
        assert transport.data.startswith(b"HTTP/1.1 202 ")
        assert b"\r\nConnection: close\r\n" in transport.data
        assert transport.closed

    in_one_turn(test)


@pytest.mark.parametrize(("more", "stays"), [(-1, False), (0, True)])
def test_a_client_that_takes_less_than_a_kibibyte_a_second_is_dropped(more: int, stays: bool) -> None:
    def test(_api: Api, connect: Callable[[], tuple[Connection, Written]], _: bytes) -> None:
        connection, transport = connect()
        transport.untaken = MEBIBYTE
        connection.pause_writing()
        transport.untaken -= int(Config().timeouts.write * 1024) + more
        connection.overdue(connection.taking_until + 1)
        assert transport.aborted is not stays

    in_one_turn(test)


async def nothing(_: object) -> None:
    pass


def test_jobs_get_as_much_of_the_loop_as_requests() -> None:
    """Else a flood of submissions outruns the workers, and each job waits in a long queue."""
    assert TURN_S >= ROUND_S


def test_answers_of_one_turn_keep_the_order_of_the_requests() -> None:
    def test(api: Api, connect: Callable[[], tuple[Connection, Written]], head: bytes) -> None:
        connection, transport = connect()
        for data in (request("GET", "/healthz"), head, request("GET", "/nowhere"), head):
            connection.data_received(data)
        answered(api, (transport, 4))
        assert re.findall(rb"HTTP/1.1 (\d+)", transport.data) == [b"200", b"202", b"404", b"202"]

    in_one_turn(test)


def test_known_and_other_requests_of_one_client_in_one_turn_are_answered_in_their_order() -> None:
    def test(api: Api, connect: Callable[[], tuple[Connection, Written]], head: bytes) -> None:
        connection, transport = connect()
        row = request("GET", "/healthz") * 300
        for data in (head, row, head):
            connection.data_received(data)
        answered(api, (transport, 302))
        codes = re.findall(rb"HTTP/1.1 (\d+)", transport.data)
        assert codes == [b"202", *[b"200"] * 300, b"202"]

    in_one_turn(test)


def test_a_poll_that_cannot_be_written_ends_its_connection_and_no_other(caplog: pytest.LogCaptureFixture) -> None:
    def test(api: Api, connect: Callable[[], tuple[Connection, Written]], head: bytes) -> None:
        (failing, ended), (other, transport) = connect(), connect()
        ended.broken = True
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


def test_a_read_that_fails_ends_its_connection_and_no_other(caplog: pytest.LogCaptureFixture) -> None:
    def test(api: Api, connect: Callable[[], tuple[Connection, Written]], head: bytes) -> None:
        (failing, ended), (other, transport) = connect(), connect()
        # The last read of a client that has nothing left to send is followed by a close.
        ended.broken = True
        failing.eof_received()
        other.data_received(head)
        answered(api, (transport, 1))
        assert ended.aborted
        assert transport.data.startswith(b"HTTP/1.1 202 ")

    in_one_turn(test)
    assert "is ended" in caplog.text


KNOWN_POST = post(submission("nothing"))
KNOWN_LARGE_POST = post(submission("nothing", "x" * SMALL_BYTES))


class HeldPost:
    """A connection whose second, known POST is held, since the writer of the journal is stopped."""

    def __init__(self, engine: LocalEngine) -> None:
        self.engine = engine
        self.api = Api(engine.config, engine)
        self.connection, self.transport = Connection(self.api.connections), Written()
        assert engine.journal is not None
        self.writer = engine.journal.delivery.link.pid

    async def hold(self) -> None:
        """Have a POST answered, which makes it known, and the next one held until ``commit``."""
        self.connection.connection_made(self.transport)
        self.connection.data_received(KNOWN_POST)
        await self.is_answered(b"202")
        self.transport.data = b""
        stop(self.writer)
        self.connection.data_received(KNOWN_POST)
        await self.turns()
        assert self.transport.data == b""

    async def turns(self) -> None:
        """Let the loop turn as often as it takes to answer what need not wait."""
        for _ in range(20):
            await asyncio.sleep(0)

    async def is_answered(self, *codes: bytes) -> None:
        """Wait for as many answers. Check that their codes are these."""
        answers = re.compile(rb"HTTP/1.1 (\d+)").findall
        await until(lambda: len(answers(self.transport.data)) == len(codes))
        await self.turns()
        assert answers(self.transport.data) == list(codes)

    def commit(self) -> None:
        """Let the writer go on."""
        os.kill(self.writer, signal.SIGCONT)

    def refuse(self) -> None:
        """Let the writer go on, with no room for what it was sent."""
        resource.prlimit(self.writer, resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))
        self.commit()


def with_a_held_post(test: Callable[[HeldPost], Coroutine[None, None, None]], path: Path) -> None:
    """Call ``test`` with a connection whose second, known POST is held until its job is on disk, which it is not."""
    registry = Registry()
    registry.add(nothing, Options())
    config = msgspec.structs.replace(Config(), journal=JournalSection(path=str(path)))

    async def main() -> None:
        engine = open_local(config, registry, bool)
        await engine.start(print)
        held = HeldPost(engine)
        try:
            await held.hold()
            await test(held)
        finally:
            held.commit()
            await engine.stop()
            await engine.close()

    asyncio.run(main())


@linux
def test_a_known_post_is_answered_when_it_is_safe(tmp_path: Path) -> None:
    async def test(held: HeldPost) -> None:
        held.commit()
        await held.is_answered(b"202")
        assert held.api.connections.requests["POST /jobs", b"202"] == 2
        held.connection.data_received(KNOWN_POST)
        await held.is_answered(b"202", b"202")
        assert held.api.connections.requests["POST /jobs", b"202"] == 3

    with_a_held_post(test, tmp_path / "j")


@linux
def test_what_comes_while_a_known_post_is_held_is_answered_after_it(tmp_path: Path) -> None:
    async def test(held: HeldPost) -> None:
        held.connection.data_received(request("GET", "/nowhere"))
        held.connection.data_received(request("GET", "/healthz"))
        await held.turns()
        assert held.transport.data == b""
        held.commit()
        await held.is_answered(b"202", b"404", b"200")

    with_a_held_post(test, tmp_path / "j")


@linux
def test_a_known_post_that_is_rejected_is_told(tmp_path: Path) -> None:
    async def test(held: HeldPost) -> None:
        held.refuse()
        await held.is_answered(b"503")
        held.connection.data_received(request("GET", "/healthz"))
        await held.is_answered(b"503", b"200")

    with_a_held_post(test, tmp_path / "j")


@linux
def test_a_known_post_that_is_safe_while_the_server_winds_down_is_the_last(tmp_path: Path) -> None:
    async def test(held: HeldPost) -> None:
        await held.api.connections.wind_down(0.0)
        held.commit()
        await held.is_answered(b"202")
        assert b"\r\nConnection: close\r\n" in held.transport.data

    with_a_held_post(test, tmp_path / "j")


@linux
def test_a_post_that_is_held_when_the_server_ends_is_answered(tmp_path: Path) -> None:
    async def test(held: HeldPost) -> None:
        ending = asyncio.create_task(held.api.connections.close(seconds=0.5))
        await held.turns()
        assert not held.transport.closed
        held.commit()
        await held.is_answered(b"202")
        assert b"\r\nConnection: close\r\n" in held.transport.data
        await ending

    with_a_held_post(test, tmp_path / "j")


@linux
def test_a_client_that_is_gone_when_its_post_is_safe_is_not_written_to(tmp_path: Path) -> None:
    async def test(held: HeldPost) -> None:
        held.connection.connection_lost(None)
        held.commit()
        await until(lambda: held.engine.counts().jobs[State.SUCCEEDED] == 2)
        await held.turns()
        assert held.transport.data == b""

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
        monkeypatch.setattr("time.monotonic", lambda: float(next(seconds)))
        greedy.data_received(request("GET", "/healthz") * 200)
        modest.data_received(request("GET", "/healthz"))
        api.connections.round.end()
        assert much.data.count(b"HTTP/1.1 ") == 1
        assert little.data == b""
        api.connections.round.end()
        assert little.data.count(b"HTTP/1.1 ") == 1
        assert much.data.count(b"HTTP/1.1 ") <= 2
        answered(api, (much, 200), (little, 1))

    in_one_turn(test)


def test_what_waits_for_its_turn_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    def test(api: Api, connect: Callable[[], tuple[Connection, Written]], head: bytes) -> None:
        (first, _), *clients = (connect() for _ in range(7))
        monkeypatch.setattr("time.monotonic", iter(range(1000, 1_000_000)).__next__)
        # Two requests: the second waits for the next turn.
        first.data_received(request("GET", "/healthz") * 2)
        api.connections.round.end()
        for client, _ in clients:
            client.data_received(row)
        answered(api, *((transport, count if number < 3 else 1) for number, (_, transport) in enumerate(clients)))
        assert [transport.data[9:12] for _, transport in clients] == [b"200"] * 3 + [b"503"] * 3

    # Long ones, of which few are parsed and wait.
    count = LARGE_BYTES // 2000
    row = request("GET", "/healthz", "X: " + 2000 * "x") * count
    in_one_turn(test, unanswered_bytes=3 * len(row) + LARGE_BYTES // 2)


def test_what_had_to_wait_takes_no_room_once_it_was_read(monkeypatch: pytest.MonkeyPatch) -> None:
    def test(api: Api, connect: Callable[[], tuple[Connection, Written]], head: bytes) -> None:
        (busy, much), (client, transport) = connect(), connect()
        monkeypatch.setattr("time.monotonic", iter(range(1000, 1_000_000)).__next__)
        for times in range(1, 4):
            busy.data_received(request("GET", "/healthz") * 2)
            api.connections.round.end()
            client.data_received(request("GET", "/healthz", "X: " + 2 * SMALL_BYTES * "x"))
            answered(api, (much, 2 * times), (transport, times))
        assert b"HTTP/1.1 503 " not in transport.data

    in_one_turn(test, unanswered_bytes=4 * SMALL_BYTES)


def test_of_more_reads_than_there_is_time_for_none_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    def test(api: Api, connect: Callable[[], tuple[Connection, Written]], head: bytes) -> None:
        (busy, _), *clients = (connect() for _ in range(3 * MOST))
        monkeypatch.setattr("time.monotonic", iter(range(1000, 1_000_000)).__next__)
        busy.data_received(request("GET", "/healthz") * 2)
        api.connections.round.end()
        for client, _ in clients:
            client.data_received(request("GET", "/healthz"))
        answered(api, *((transport, 1) for _, transport in clients))

    in_one_turn(test)


def test_a_client_with_many_known_polls_takes_turns_with_others(monkeypatch: pytest.MonkeyPatch) -> None:
    def test(api: Api, connect: Callable[[], tuple[Connection, Written]], head: bytes) -> None:
        (greedy, much), (modest, little) = connect(), connect()
        monkeypatch.setattr("time.monotonic", iter(range(1000, 1_000_000)).__next__)
        greedy.data_received(head * 10 * TOGETHER_MOST)
        modest.data_received(head)
        answered(api, (little, 1))
        assert much.data.count(b"HTTP/1.1 ") < 2 * TOGETHER_MOST
        answered(api, (much, 10 * TOGETHER_MOST))

    in_one_turn(test)


@pytest.mark.parametrize("data", [b"", post(submission("nothing"))], ids=["poll", "post"])
def test_a_client_that_sends_what_is_known_is_not_idle(data: bytes) -> None:
    def test(api: Api, connect: Callable[[], tuple[Connection, Written]], head: bytes) -> None:
        connection, transport = connect()
        for _ in range(2):
            # It has been idle for almost as long as it may.
            connection.deadline = time.monotonic()
            connection.data_received(data or head)
            api.connections.round.end()
        assert transport.data.count(b"HTTP/1.1 202 ") == 2
        assert connection.deadline == api.connections.idle_deadline

    in_one_turn(test)


def test_a_client_that_takes_nothing_is_ended_though_it_may_still_send() -> None:
    def test(api: Api, connect: Callable[[], tuple[Connection, Written]], head: bytes) -> None:
        connection, transport = connect()
        transport.untaken = MEBIBYTE
        connection.pause_writing()
        connection.taking_until = 0.0
        assert connection.deadline > time.monotonic()
        api.connections.tick()
        assert transport.aborted

    in_one_turn(test)


def test_content_that_comes_in_part_counts_once() -> None:
    def test(api: Api, connect: Callable[[], tuple[Connection, Written]], head: bytes) -> None:
        connection, _ = connect()
        begun = request("POST", "/jobs", "Content-Type: application/json", "Content-Length: 900000")
        for data in (begun + bytes(1000), bytes(30_000), bytes(50_000)):
            connection.data_received(data)
            api.connections.round.end()
        assert api.connections.unanswered.used_bytes == 81_000

    in_one_turn(test)


def test_who_gives_way_with_a_request_that_nobody_has_read_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """It was no fault of the client's that the server was busy."""

    def test(api: Api, connect: Callable[[], tuple[Connection, Written]], head: bytes) -> None:
        (first, _), *clients = (connect() for _ in range(6))
        monkeypatch.setattr("time.monotonic", iter(range(1000, 1_000_000)).__next__)
        first.data_received(request("GET", "/healthz") * 2)
        api.connections.round.end()
        for client, _ in clients:
            client.data_received(request("POST", "/jobs", "Content-Length: 900000") + bytes(LARGE_BYTES))
        answered(api, *((transport, 1) for _, transport in clients[3:]))
        for _, transport in clients[3:]:
            assert transport.data.startswith(b"HTTP/1.1 503 ")
            assert b"\r\nConnection: close\r\n" in transport.data
            assert not transport.aborted
        assert api.connections.rejections["half-sent"] == api.connections.unanswered.gave_way == 2

    in_one_turn(test, unanswered_bytes=3 * LARGE_BYTES + LARGE_BYTES // 2)


@pytest.mark.parametrize("part", [b"P", b"POST", b"GET /", b"HEAD ", b"HEAD /"])
@pytest.mark.parametrize("before", ["GET", "HEAD"])
def test_a_request_that_does_not_come_whole_is_refused_in_the_form_of_its_own_method(before: str, part: bytes) -> None:
    def test(api: Api, connect: Callable[[], tuple[Connection, Written]], head: bytes) -> None:
        connection, transport = connect()
        connection.data_received(request(before, "/nowhere"))
        answered(api, (transport, 1))
        transport.data = b""
        connection.data_received(part)
        api.connections.round.end()
        connection.overdue(connection.deadline + 1)
        answered(api, (transport, 1))
        refused, _, body = transport.data.partition(b"\r\n\r\n")
        assert refused.startswith(b"HTTP/1.1 408 ")
        assert len(body) == (0 if b"HEAD " in part else int(refused.rpartition(b"Content-Length: ")[2]))

    in_one_turn(test)


def test_bytes_that_are_no_method_are_not_taken_for_one_that_is_cut() -> None:
    """Of many requests the server looks at the end, which may begin within a method."""

    def test(api: Api, connect: Callable[[], tuple[Connection, Written]], head: bytes) -> None:
        for length in range(40):
            connection, transport = connect()
            connection.data_received(request("GET", "/healthz", "X: " + length * "x") * 30 + b"GE")
            answered(api, (transport, 30))
            connection.data_received(b"\0")
            answered(api, (transport, 31))
            assert transport.data.endswith(b'"detail":"the request line does not begin with a method"}')

    in_one_turn(test)


@pytest.mark.parametrize("before", ["GET", "HEAD", "POST"])
@pytest.mark.parametrize("method", ["HEAD", "POST"])
def test_who_gives_way_unread_is_told_in_the_form_of_its_own_method(
    monkeypatch: pytest.MonkeyPatch, before: str, method: str
) -> None:
    """That of the request before it has nothing to do with it."""

    def test(api: Api, connect: Callable[[], tuple[Connection, Written]], head: bytes) -> None:
        (busy, _), (connection, transport) = connect(), connect()
        connection.data_received(request(before, "/nowhere", body=b"" if before == "POST" else None))
        answered(api, (transport, 1))
        transport.data = b""
        monkeypatch.setattr("time.monotonic", iter(range(1000, 1_000_000)).__next__)
        busy.data_received(request("GET", "/healthz") * 2)
        api.connections.round.end()
        connection.data_received(request(method, "/jobs", "X: " + LARGE_BYTES * "x"))
        answered(api, (transport, 1))
        refused, _, body = transport.data.partition(b"\r\n\r\n")
        assert refused.startswith(b"HTTP/1.1 503 ")
        assert len(body) == (0 if method == "HEAD" else int(refused.rpartition(b"Content-Length: ")[2]))

    in_one_turn(test, unanswered_bytes=LARGE_BYTES)


def test_who_goes_on_sending_while_it_gives_way_is_not_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a reset could overtake the answer that says why (RFC 9112, 9.6)."""

    def test(api: Api, connect: Callable[[], tuple[Connection, Written]], head: bytes) -> None:
        (busy, _), (connection, transport) = connect(), connect()
        monkeypatch.setattr("time.monotonic", iter(range(1000, 1_000_000)).__next__)
        busy.data_received(request("GET", "/healthz") * 9)
        api.connections.round.end()
        for _ in range(3):
            connection.data_received(post(bytes(2 * LARGE_BYTES)))
            api.connections.round.end()
            assert transport.reads
        assert not transport.aborted
        assert transport.data.count(b"HTTP/1.1 503 ") == 1

    in_one_turn(test, unanswered_bytes=LARGE_BYTES)


def test_who_gives_way_while_it_is_sent_a_long_answer_gets_that_first(monkeypatch: pytest.MonkeyPatch) -> None:
    def test(api: Api, connect: Callable[[], tuple[Connection, Written]], head: bytes) -> None:
        connection, transport = connect()
        body = "x" * 3 * PIECE_BYTES
        status = now(api.service.engine.submit(Submission("nothing", msgspec.Raw(msgspec.json.encode(body))))).status
        monkeypatch.setattr("time.monotonic", iter(range(1000, 1_000_000)).__next__)
        connection.data_received(request("GET", f"/jobs/{status.id.decode()}/payload"))
        api.connections.round.end()
        assert len(transport.data) < len(body)
        connection.data_received(request("POST", "/jobs", "X: " + 2 * LARGE_BYTES * "x"))
        answered(api, (transport, 2))
        _, _, rest = transport.data.partition(b"\r\n\r\n")
        assert rest[len(body) + 2 :].startswith(b"HTTP/1.1 503 ")
        assert not transport.aborted

    in_one_turn(test, unanswered_bytes=LARGE_BYTES)


def test_who_gives_way_before_its_bytes_are_read_is_not_counted_any_more(monkeypatch: pytest.MonkeyPatch) -> None:
    def test(api: Api, connect: Callable[[], tuple[Connection, Written]], head: bytes) -> None:
        (first, _), *clients = (connect() for _ in range(7))
        for client, _ in clients:
            client.data_received(request("POST", "/jobs", "Content-Length: 900000") + bytes(1000))
        for _ in range(10):
            api.connections.round.end()
        assert len(api.connections.unanswered) == 6
        monkeypatch.setattr("time.monotonic", iter(range(1000, 1_000_000)).__next__)
        first.data_received(request("GET", "/healthz") * 2)
        api.connections.round.end()
        for client, _ in clients:
            client.data_received(bytes(LARGE_BYTES))
        answered(api, *((transport, 1) for _, transport in clients[3:]))
        assert len(api.connections.unanswered) == 3
        for client, _ in clients:
            client.connection_lost(None)
        assert (len(api.connections.unanswered), api.connections.unanswered.used_bytes) == (0, 0)

    in_one_turn(test, unanswered_bytes=3 * LARGE_BYTES + LARGE_BYTES // 2)


@pytest.mark.parametrize(
    ("first", "then", "answers"),
    [(KNOWN_LARGE_POST, KNOWN_LARGE_POST, 2), (b"no request\r\n\r\n", bytes(LARGE_BYTES), 1)],
    ids=["known", "lingering"],
)
def test_a_read_that_waits_for_its_turn_is_not_the_last(
    first: bytes, then: bytes, answers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def test(api: Api, connect: Callable[[], tuple[Connection, Written]], head: bytes) -> None:
        (busy, _), (client, transport) = connect(), connect()
        client.data_received(first)
        answered(api, (transport, 1))
        monkeypatch.setattr("time.monotonic", iter(range(1000, 1_000_000)).__next__)
        busy.data_received(request("GET", "/healthz") * 2)
        api.connections.round.end()
        client.data_received(then)
        assert not transport.reads
        answered(api, (transport, answers))
        assert transport.reads

    in_one_turn(test)


def test_who_has_gone_waits_no_more() -> None:
    def test(api: Api, connect: Callable[[], tuple[Connection, Written]], head: bytes) -> None:
        connection, _ = connect()
        connection.data_received(head.replace(b"\r\n\r\n", b"\r\nPrefer: wait=20\r\n\r\n"))
        api.connections.round.end()
        assert now(api.service.engine.counts()).waiting_clients == 1
        connection.connection_lost(None)
        assert now(api.service.engine.counts()).waiting_clients == 0

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
            answered(api, (transport, 2))
            assert transport.data.count(b"HTTP/1.1 202 ") == 2
        # The jobs have their payloads, and nobody has them once more.
        kept = tracemalloc.get_traced_memory()[0]
        tracemalloc.stop()
        assert kept < len(clients) * 150_000

    in_one_turn(test)


def test_while_the_journal_is_read_large_content_is_told_to_come_again() -> None:
    """A 413 would be final, and the limit of the task is not known yet."""
    config = Config()

    async def told() -> bytes:
        api = Api(config, Recovering(config))
        connection, transport = Connection(api.connections), Written()
        connection.connection_made(transport)
        connection.data_received(request("POST", "/tasks/content/jobs", "Content-Length: 20000000"))
        api.connections.round.end()
        return bytes(transport.data)

    assert asyncio.run(told()).startswith(b"HTTP/1.1 503 ")


def test_content_that_came_under_a_key_is_known_when_its_task_is_gone() -> None:
    registry = Registry()
    registry.add(nothing, Options())

    async def told() -> list[bytes]:
        engine = LocalEngine(Config(), registry)
        api = Api(engine.config, engine)
        answers = []
        for _ in range(2):
            connection, transport = Connection(api.connections), Written()
            connection.connection_made(transport)
            connection.data_received(request("POST", "/tasks/nothing/jobs", "Idempotency-Key: k", body=b"x"))
            api.connections.round.end()
            answers.append(bytes(transport.data))
            registry.by_name.clear()
        return answers

    first, again = asyncio.run(told())
    assert first.startswith(b"HTTP/1.1 202 ")
    assert again.startswith(b"HTTP/1.1 202 ")
    assert b"\r\nIdempotency-Replayed: true\r\n" in again


def test_polls_that_wait_for_their_turn_are_not_the_last(monkeypatch: pytest.MonkeyPatch) -> None:
    def test(api: Api, connect: Callable[[], tuple[Connection, Written]], head: bytes) -> None:
        (busy, _), (client, transport) = connect(), connect()
        poll = head.replace(b"\r\n\r\n", b"\r\nAuthorization: Bearer %b\r\n\r\n" % (b"x" * 300))
        client.data_received(poll)
        answered(api, (transport, 1))
        monkeypatch.setattr("time.monotonic", iter(range(1000, 1_000_000)).__next__)
        busy.data_received(request("GET", "/healthz") * 2)
        api.connections.round.end()
        client.data_received(poll * 16)
        assert not transport.reads
        answered(api, (transport, 17))
        assert transport.reads

    in_one_turn(test)


def test_answers_that_cannot_be_written_end_their_connection_and_no_other(caplog: pytest.LogCaptureFixture) -> None:
    def test(api: Api, connect: Callable[[], tuple[Connection, Written]], head: bytes) -> None:
        (failing, ended), (other, transport) = connect(), connect()
        ended.broken = True
        for connection in (failing, other):
            connection.data_received(request("GET", "/healthz"))
        answered(api, (transport, 1))
        assert ended.aborted

    in_one_turn(test)
    assert "cannot be written to" in caplog.text


def test_who_gives_way_takes_no_room_from_those_after_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def test(api: Api, connect: Callable[[], tuple[Connection, Written]], head: bytes) -> None:
        (busy, _), (large, gone), (small, transport) = connect(), connect(), connect()
        monkeypatch.setattr("time.monotonic", iter(range(1000, 1_000_000)).__next__)
        busy.data_received(request("GET", "/healthz") * 2)
        api.connections.round.end()
        large.data_received(bytes(4 * LARGE_BYTES))
        small.data_received(request("GET", "/healthz", "X: " + 2000 * "x") * 4)
        answered(api, (transport, 4), (gone, 1))
        assert gone.data.startswith(b"HTTP/1.1 503 ")

    in_one_turn(test, unanswered_bytes=2 * LARGE_BYTES)


def test_a_client_that_was_sent_a_long_answer_is_idle_from_then_on() -> None:
    def test(api: Api, connect: Callable[[], tuple[Connection, Written]], head: bytes) -> None:
        connection, transport = connect()
        body = "x" * 3 * PIECE_BYTES
        status = now(api.service.engine.submit(Submission("nothing", msgspec.Raw(msgspec.json.encode(body))))).status
        # It has been idle for almost as long as it may.
        connection.deadline = time.monotonic()
        connection.data_received(request("GET", f"/jobs/{status.id.decode()}/payload"))
        answered(api, (transport, 1))
        for _ in range(10):
            api.connections.round.end()
        assert len(transport.data) > len(body)
        assert connection.deadline == api.connections.idle_deadline

    in_one_turn(test)


def test_who_comes_while_the_server_winds_down_is_told_with_its_first_poll() -> None:
    def test(api: Api, connect: Callable[[], tuple[Connection, Written]], head: bytes) -> None:
        connect()
        api.connections.winding_down = True
        connection, transport = Connection(api.connections), Written()
        connection.connection_made(transport)
        connection.data_received(head)
        answered(api, (transport, 1))
        assert b"\r\nConnection: close\r\n" in transport.data

    in_one_turn(test)


def test_a_client_that_cannot_be_ended_keeps_no_other_from_its_end(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def test(api: Api, connect: Callable[[], tuple[Connection, Written]], head: bytes) -> None:
        clients = [connect() for _ in range(2)]
        # No time passes, so both are looked at in one slice.
        monkeypatch.setattr("time.monotonic", lambda: 1000.0)
        for connection, transport in clients:
            connection.deadline = 0.0
            transport.broken = True
        api.connections.tick()
        assert [transport.aborted for _, transport in clients] == [True, True]

    in_one_turn(test)
    assert "is ended" in caplog.text


def test_a_client_on_its_way_in_when_tokens_changed_knows_no_head_of_others() -> None:
    def test(api: Api, connect: Callable[[], tuple[Connection, Written]], head: bytes) -> None:
        connect()
        # TLS takes its time between the two.
        connection, transport = Connection(api.connections), Written()
        api.connections.forget()
        connection.connection_made(transport)
        assert connection.known_rest is None

    in_one_turn(test)


def test_a_client_that_was_about_to_leave_when_tokens_changed_is_looked_at_again() -> None:
    def test(api: Api, connect: Callable[[], tuple[Connection, Written]], head: bytes) -> None:
        connection, transport = connect()
        # It has been idle for longest, and sends something in the turn in which a newcomer gets its place.
        connection.deadline = 0.0
        connection.data_received(head)
        assert api.connections.make_place()
        api.connections.forget()
        answered(api, (transport, 1))
        assert connection in api.connections.open
        assert connection.known_rest is None

    in_one_turn(test)
