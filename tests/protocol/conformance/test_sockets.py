"""One message of each kind through real sockets, to a server in a process of its own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest

from tests.each import each
from tests.end_to_end.process import Server
from tests.protocol.conformance.edits import GET, ID, POLL, Case, is_head
from tests.protocol.conformance.refused import REFUSED
from tests.protocol.conformance.taken import TAKEN
from tests.protocol.wire import Answer, Wire, request, submission


def one_of_each(cases: Sequence[Case]) -> Sequence[Case]:
    """Return the last case of those that are the same edit of different messages."""
    return list({(case.section, case.id.rpartition("-")[0]): case for case in cases}.values())


refused = each("case", one_of_each(REFUSED), lambda case: case.id)
taken = each("case", one_of_each(TAKEN), lambda case: case.id)


def read(wire: Wire, sent: bytes) -> Answer:
    return wire.read("HEAD" if is_head(sent) else "GET")


@pytest.fixture(scope="module")
def job_id(server: Server) -> Iterator[bytes]:
    """The id of a job that waits."""
    path = server.submit("nothing", delay=1000)
    yield path.removeprefix("/jobs/").encode()
    server.delete(path)


@refused
def test_refused_once_and_closed(server: Server, job_id: bytes, case: Case) -> None:
    sent = case.sent.replace(ID, job_id)
    with server.wire() as wire:
        wire.send(sent + GET)
        answer = read(wire, sent)
        assert (answer.status, answer["connection"]) == (case.status, "close"), answer.raw
        wire.read_end()


@pytest.mark.long
@refused
def test_refused_in_its_turn(server: Server, job_id: bytes, case: Case) -> None:
    known, sent = POLL.replace(ID, job_id), case.sent.replace(ID, job_id)
    with server.wire() as wire:
        assert [wire.ask(known).status for _ in range(2)] == [202, 202]
        wire.send(GET + sent)
        assert wire.read().body == b"ok\n"
        assert read(wire, sent).status == case.status
        wire.read_end()


@taken
def test_taken(server: Server, job_id: bytes, case: Case) -> None:
    sent = case.sent.replace(ID, job_id)
    with server.wire() as wire:
        wire.send(sent + GET)
        if case.continues:
            assert wire.read().status == 100
        assert read(wire, sent).status == case.status
        if not case.closes:
            assert wire.read().body == b"ok\n"
            wire.finish()
        wire.read_end()


def test_garbage_is_a_bad_request_wherever_it_comes(server: Server) -> None:
    with server.wire() as wire:
        wire.send(GET + b"\x00\x01\x02 x")
        assert [wire.read().status for _ in range(2)] == [200, 400]
        wire.read_end()


@pytest.mark.parametrize(("origin", "status"), [("http://test", 202), ("http://elsewhere", 403)])
def test_the_host_of_an_absolute_target_counts(server: Server, origin: str, status: int) -> None:
    body = submission("nothing")
    lines = ("Content-Type: application/json", f"Origin: {origin}", f"Content-Length: {len(body)}")
    head = "\r\n".join(["POST http://test/jobs HTTP/1.1", "Host: elsewhere", *lines, "", ""])
    assert server.ask(head.encode() + body).status == status


@pytest.mark.parametrize("lines", [(), ("Connection: upgrade", "Upgrade: h2c")], ids=["plain", "upgrade"])
def test_connect_is_told_the_methods_there_are(server: Server, lines: tuple[str, ...]) -> None:
    answer = server.ask(request("CONNECT", "/healthz", *lines))
    assert (answer.status, answer["allow"]) == (405, "DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT")
