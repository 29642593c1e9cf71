"""A known poll of a job that is read elsewhere waits without a parser, and is answered as any other."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from typing import Any

import pytest
from headway.core.config import Config
from headway.core.errors import EngineAwayError
from headway.core.interface import Soon
from headway.core.job import Submission
from headway.core.local.engine import LocalEngine
from headway.core.status import Status
from headway.core.tasks.registry import Options, Registry
from headway.protocol.api.app import Api
from headway.protocol.http.connection import Connection
from headway.protocol.http.round import MOST

from tests.core.engines import now
from tests.protocol.http.turns import Written, answered
from tests.protocol.late import Coming
from tests.protocol.wire import post, request, submission


class Elsewhere:
    """An engine whose jobs are read elsewhere."""

    polled = None

    def __init__(self, engine: LocalEngine) -> None:
        self._engine = engine
        self.readings: list[Coming] = []
        # How many of the next statuses need not be read.
        self.here = 0

    def peek(self, job_id: bytes, brief: bool = False) -> Soon[Status | None]:
        status = self._engine.peek(job_id, brief)
        if self.here:
            self.here -= 1
            return status
        self.readings.append(Coming(status))
        return self.readings[-1]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)


async def nothing(_: object) -> None:
    pass


class Client:
    """A client whose poll of a queued job was answered: ``head`` is that poll, ``answer`` what came."""

    def __init__(self, api: Api, elsewhere: Elsewhere, head: bytes) -> None:
        self.api = api
        self.head = head
        self.elsewhere = elsewhere
        self.readings = elsewhere.readings
        self.connection, self.transport = Connection(api.connections), Written()
        self.connection.connection_made(self.transport)
        self.send(head)
        self.come()
        self.answer = self.transport.data
        self.transport.data = b""
        self.readings.clear()

    def send(self, *reads: bytes) -> None:
        """Have these reads come in one turn."""
        for data in reads:
            self.connection.data_received(data)
        self.api.connections.round.end()

    def come(self) -> None:
        """Have the status that was asked for last come."""
        self.readings[-1].wake()
        self.api.connections.round.end()

    @property
    def codes(self) -> list[bytes]:
        """The codes of all answers."""
        return re.findall(rb"HTTP/1.1 (\d+)", self.transport.data)


def lasting(answer: bytes) -> bytes:
    """Return an answer without what another moment changes."""
    return re.sub(rb"(Date|Retry-After|Retry-After-Ms): [^\r]*", rb"\1", answer)


def with_client(test: Callable[[Client], None]) -> None:
    async def main() -> None:
        config, registry = Config(), Registry()
        registry.add(nothing, Options())
        engine = LocalEngine(config, registry)
        job = now(engine.submit(Submission(task="nothing"))).status.id.decode()
        elsewhere: Any = Elsewhere(engine)
        test(Client(Api(config, elsewhere), elsewhere, request("HEAD", f"/jobs/{job}")))

    asyncio.run(main())


def test_it_is_asked_for_once_and_answered_as_the_first_was() -> None:
    def test(client: Client) -> None:
        assert client.answer.startswith(b"HTTP/1.1 202 ")
        for number in (1, 2):
            client.send(client.head)
            # The parser would ask for it again.
            assert len(client.readings) == number
            assert not client.transport.data
            client.come()
            assert lasting(client.transport.data) == lasting(client.answer)
            client.transport.data = b""
        assert client.api.service.all_requests()["HEAD /jobs/{id}", b"202"] == 3

    with_client(test)


@pytest.mark.parametrize("ready", [True, False])
def test_what_comes_behind_it_waits_for_it(ready: bool) -> None:
    def test(client: Client) -> None:
        client.send(client.head)
        client.send(request("GET", "/healthz"), request("GET", "/nowhere")[: None if ready else 9])
        assert not client.transport.data
        client.come()
        if not ready:
            client.send(request("GET", "/nowhere")[9:])
        answered(client.api, (client.transport, 3))
        assert client.codes == [b"202", b"200", b"404"]
        assert client.transport.reads

    with_client(test)


def test_the_content_of_a_request_behind_it_is_a_content_though_it_looks_like_it() -> None:
    def test(client: Client) -> None:
        client.send(client.head)
        client.send(request("POST", "/jobs", "Content-Type: application/json", f"Content-Length: {len(client.head)}"))
        client.come()
        client.send(client.head)
        answered(client.api, (client.transport, 2))
        assert client.codes == [b"202", b"400"]
        assert len(client.readings) == 1

    with_client(test)


def be_late(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the server leave the requests of another client to the next turn, so that large ones have to wait."""
    monkeypatch.setattr("time.monotonic", iter(range(1000, 1_000_000)).__next__)
    busy = Connection(client.api.connections)
    busy.connection_made(Written())
    busy.data_received(request("GET", "/healthz") * 2)
    client.api.connections.round.end()


def test_it_is_answered_before_a_request_behind_it_that_has_to_give_way(monkeypatch: pytest.MonkeyPatch) -> None:
    def test(client: Client) -> None:
        client.send(client.head)
        be_late(client, monkeypatch)
        client.send(request("POST", "/jobs", "X: " + client.api.connections.config.limits.unanswered_bytes * "x"))
        assert client.codes == []
        client.come()
        answered(client.api, (client.transport, 2))
        assert client.codes == [b"202", b"503"]
        assert not client.transport.aborted

    with_client(test)


def test_it_is_answered_before_a_refusal_in_the_same_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    def test(client: Client) -> None:
        client.send(client.head)
        be_late(client, monkeypatch)
        # What has come is not written yet when the next request has to give way.
        client.readings[-1].wake()
        assert client.codes == []
        client.send(request("POST", "/jobs", "X: " + client.api.connections.config.limits.unanswered_bytes * "x"))
        answered(client.api, (client.transport, 2))
        assert client.codes == [b"202", b"503"]

    with_client(test)


def test_who_gives_way_with_a_request_behind_it_is_ended_at_once() -> None:
    """Else the content of that request would be kept, uncounted, until the answer before it has come."""

    def test(client: Client) -> None:
        client.send(client.head)
        client.send(post(submission("nothing", "x" * 10_000)))
        assert len(client.api.connections.unanswered) == 1
        client.api.connections.unanswered.most_bytes = 10_000
        other, transport = Connection(client.api.connections), Written()
        other.connection_made(transport)
        other.data_received(post(submission("nothing", "x" * 1000))[:-1])
        client.api.connections.round.end()
        assert client.transport.aborted
        assert not transport.aborted

    with_client(test)


def test_several_in_one_read_are_answered_in_order() -> None:
    def test(client: Client) -> None:
        client.send(client.head * 3)
        for number in range(3):
            # None is asked for twice.
            assert len(client.readings) == number + 1
            client.come()
        answered(client.api, (client.transport, 3))
        assert client.codes == [b"202"] * 3
        assert client.transport.reads

    with_client(test)


def test_an_error_in_the_same_turn_follows_the_answers_before_it() -> None:
    def test(client: Client) -> None:
        class Other(Connection):
            def read(self, _: bytes) -> None:
                client.readings[0].error = EngineAwayError()
                client.readings[0].wake()

        other = Other(client.api.connections)
        other.connection_made(Written())
        client.elsewhere.here = 1
        client.connection.data_received(client.head * 2)
        other.data_received(b"what it asks for ends the link to the engine")
        answered(client.api, (client.transport, 2))
        assert client.codes == [b"202", b"503"]

    with_client(test)


def test_those_that_need_no_waiting_are_counted_and_those_behind_them_keep_their_own_name(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def test(client: Client) -> None:
        other = now(client.elsewhere.submit(Submission(task="nothing"))).status.id.decode()
        client.elsewhere.here = 2
        client.send(client.head * 2 + request("HEAD", f"/jobs/{other}"))
        assert client.codes == [b"202"] * 2
        assert client.api.service.all_requests()["HEAD /jobs/{id}", b"202"] == 3
        error: Any = ZeroDivisionError("a defect")
        client.readings[0].error = error
        client.come()
        answered(client.api, (client.transport, 3))
        assert [record.getMessage() for record in caplog.records] == [f"a request failed: HEAD /jobs/{other}"]

    with_client(test)


# As long as an id, the only part of a poll that may differ from the one before.
NAMES = [
    b"a-key-that-nobody-gave-to-any-job-at",
    b"a-job-with-a-result-and-a-key/result",
    b"a-job-with-a-key-and-a-query?wait=99",
    b"%61%61%61%61%61%61%61%61%61%61%61%61",
    b"a HTTP/1.1\r\n\r\nGET /tasks/nobody/job?",
]


@pytest.mark.parametrize("name", NAMES)
def test_a_name_that_is_no_id_is_left_to_the_parser(name: bytes) -> None:
    def test(client: Client) -> None:
        (job,) = re.findall(rb"[0-9a-f]{36}", client.head)
        assert len(name) == len(job)
        answers = []
        for is_known in (True, False):
            connection, transport = Connection(client.api.connections), Written()
            connection.connection_made(transport)
            assert connection.known_rest is not None
            if not is_known:
                connection.known_rest = None
            connection.data_received(client.head.replace(job, name))
            for _ in range(3):
                client.api.connections.round.end()
                for reading in client.readings:
                    reading.wake()
            answers.append(transport.data)
        # Whoever is far away may not look for keys, and this client has no address. Two requests are none with a Host.
        assert answers[0].startswith((b"HTTP/1.1 403 ", b"HTTP/1.1 400 "))
        assert lasting(answers[0]) == lasting(answers[1])

    with_client(test)


def test_of_many_that_come_at_once_some_wait_for_the_next_turn() -> None:
    def test(client: Client) -> None:
        many, transports = 3 * MOST, [Written() for _ in range(3 * MOST)]
        for transport in transports:
            connection = Connection(client.api.connections)
            connection.connection_made(transport)
            connection.data_received(client.head)
        while len(client.readings) < many:
            client.api.connections.round.end()
        told = client.api.service.all_requests
        for reading in client.readings:
            reading.wake()
        assert told()["HEAD /jobs/{id}", b"202"] == 1 + MOST
        answered(client.api, *((transport, 1) for transport in transports))
        assert told()["HEAD /jobs/{id}", b"202"] == 1 + many

    with_client(test)


@pytest.mark.parametrize(
    ("error", "code"), [(EngineAwayError(), b"503"), (None, b"404"), (ZeroDivisionError("a defect"), b"500")]
)
def test_it_may_have_no_status(error: Any, code: bytes) -> None:
    def test(client: Client) -> None:
        client.send(client.head)
        client.readings[0].error, client.readings[0].known = error, None
        client.come()
        answered(client.api, (client.transport, 1))
        assert client.codes == [code]
        # It is a HEAD: the problem has no content.
        assert client.transport.data.endswith(b"\r\n\r\n")
        assert client.transport.data.count(b"\r\n\r\n") == 1

    with_client(test)


def test_nothing_is_kept_for_a_client_that_has_gone() -> None:
    def test(client: Client) -> None:
        client.send(client.head)
        client.connection.connection_lost(None)
        assert client.readings[0].is_cancelled
        client.come()
        assert not client.transport.data

    with_client(test)


def test_a_client_that_sends_no_more_is_answered_and_ended() -> None:
    def test(client: Client) -> None:
        client.send(client.head)
        client.connection.eof_received()
        client.api.connections.round.end()
        assert client.readings[0].is_hurried
        client.come()
        answered(client.api, (client.transport, 1))
        assert client.codes == [b"202"]
        assert client.transport.closed

    with_client(test)


def test_a_client_that_sends_no_more_is_answered_though_that_ends_the_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    def test(client: Client) -> None:
        client.send(client.head)
        monkeypatch.setattr(Coming, "hurry", lambda coming: coming.wake())
        client.connection.eof_received()
        client.api.connections.round.end()
        answered(client.api, (client.transport, 1))
        assert client.transport.data_at_close == client.transport.data

    with_client(test)


def test_it_is_the_last_while_the_server_winds_down() -> None:
    def test(client: Client) -> None:
        client.send(client.head)
        client.api.connections.winding_down = True
        client.connection.wind_down()
        client.come()
        answered(client.api, (client.transport, 1))
        assert b"\r\nConnection: close\r\n" in client.transport.data

    with_client(test)


def test_it_is_a_head_after_whatever_request(caplog: pytest.LogCaptureFixture) -> None:
    """Also where it has to be refused, as the one that it is."""

    def test(client: Client) -> None:
        client.send(request("GET", "/healthz"))
        answered(client.api, (client.transport, 1))
        client.transport.data = b""
        client.send(client.head)
        error: Any = ZeroDivisionError("a defect")
        client.readings[0].error = error
        client.come()
        answered(client.api, (client.transport, 1))
        assert client.transport.data.endswith(b"\r\n\r\n")
        assert client.transport.data.count(b"\r\n\r\n") == 1
        target = client.head.split(b" ")[1].decode()
        assert [record.getMessage() for record in caplog.records] == [f"a request failed: HEAD {target}"]

    with_client(test)


def test_who_waits_for_it_is_not_idle_and_is_so_afterwards() -> None:
    def test(client: Client) -> None:
        # The client has sent nothing for longer than it may.
        client.connection.deadline = 0.0
        client.send(client.head)
        client.api.connections.tick()
        assert not client.transport.closed
        assert not client.api.connections.make_place()
        client.come()
        assert client.codes == [b"202"]
        client.api.connections.tick()
        assert client.api.connections.make_place()

    with_client(test)
