"""Servers that are not up, are something else, err, or go away: one clear line, a code, and the results so far."""

import signal
import socket
import threading

import pytest

from tests.conftest import Start
from tests.sim.scripted import ACCEPTED, BUSY, RUNNING, SUCCEEDED, Script, Scripted, Simulate

pytestmark = pytest.mark.long

NOT_FOUND = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"
PAGE = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"
NO_LOCATION = b"HTTP/1.1 202 Accepted\r\nJob-State: queued\r\nContent-Length: 0\r\n\r\n"
REFUSED = (
    b"HTTP/1.1 422 Unprocessable Content\r\nContent-Type: application/problem+json\r\nContent-Length: 59\r\n\r\n"
    b'{"detail": "", "errors": [{"field": "task", "detail": "x"}]}'
).replace(b"59", b"60")


def always(answer: bytes | None) -> Script:
    return lambda _method, _number: answer


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (None, "the connection was closed without an answer: is this a Headway?"),
        (NOT_FOUND, "POST /jobs was answered with 404: is this a Headway?"),
        (PAGE, "POST /jobs was answered with 200 and no Job-State: is this a Headway?"),
        (NO_LOCATION, "POST /jobs was answered with 202 but no Location: is this a Headway?"),
        (REFUSED, "the server refuses the job: 422 task: x"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "the server does not speak HTTP"),
        (b"", "there is no answer within 0.05 s"),
        (BUSY.replace(b"503", b"500") + b"Content-Length: 0\r\n\r\n", "the first answer is no good: code 500"),
    ],
)
def test_what_is_no_headway_is_told_in_one_line(simulate: Simulate, answer: bytes | None, said: str) -> None:
    with Scripted(always(answer)) as server:
        ran = simulate(server.port, clients=50, duration="5s", timeout="50ms")
        assert ran.code == 1
        assert ran.err == [f"headway simulate: http://127.0.0.1:{server.port}: {said}"]
        assert ran.json["problem"] in ran.err[0]
        assert server.connections == 1, "the others wait until it is clear what is there"


def test_server_is_not_up(simulate: Simulate) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        ran = simulate(port)
    assert ran.code == 1
    assert ran.err == [
        f"headway simulate: http://127.0.0.1:{port}: the connection is refused: is a server there? "
        "`headway serve` starts one"
    ]
    assert ran.out == ""
    assert ran.json["errors"] == {"refused": 1}


def test_host_is_not_known(simulate: Simulate) -> None:
    ran = simulate(0, url="http://no-such-host.invalid:1")
    assert ran.code == 1
    assert "http://no-such-host.invalid:1: unknown host" in ran.err[0]


def test_settings_that_cannot_be_used(simulate: Simulate) -> None:
    ran = simulate(1, clients=0)
    assert (ran.code, ran.json) == (2, None)
    assert ran.err == ["headway simulate: clients: 0 is not allowed: expected 1 to 1000000 clients"]


def test_server_that_dies_leaves_the_results_so_far(simulate: Simulate, start: Start) -> None:
    server = start(exit_code=-signal.SIGKILL)
    threading.Timer(0.5, server.signal, [signal.SIGKILL]).start()
    ran = simulate(server.port, clients=10, task="nothing", duration="20s", patience="300ms")
    assert ran.code == 1
    assert ran.err[0].endswith("s, only errors")
    assert "the server has gone: no answer for" in ran.err[0]
    assert "10 clients" in ran.out
    assert ran.json["jobs"]["ended"]["succeeded"] > 10
    assert ran.json["seconds"] < 10
    assert ran.json["errors"]["refused"] > 0


def test_errors_are_counted_by_kind_and_borne(simulate: Simulate) -> None:
    """Each of these is met once, after the first two good answers, and none of them ends the run."""
    bad = {
        2: b"HTTP/1.1 500 Internal Server Error\r\n\r\n",
        3: b"HTTP/1.1 200 OK\r\n\r\n",
        4: b"ICY 200 OK\r\n\r\n",
        5: None,
        6: b"",
    }

    def script(method: bytes, number: int) -> bytes | None:
        return bad.get(number, ACCEPTED if method == b"POST" else RUNNING if number < 9 else SUCCEEDED)

    with Scripted(script) as server:
        ran = simulate(server.port, duration="1500ms", timeout="100ms", patience="9s")
    assert ran.code == 1
    assert ran.err == []
    assert ran.json["errors"] == {"code 500": 1, "no Job-State": 1, "malformed": 1, "reset": 1, "timeout": 1}
    assert ran.json["jobs"]["ended"]["succeeded"] > 0


def test_a_job_that_the_server_has_forgotten_is_lost(simulate: Simulate) -> None:
    with Scripted(lambda method, _: ACCEPTED if method == b"POST" else NOT_FOUND) as server:
        ran = simulate(server.port)
    assert ran.code == 1
    assert ran.json["errors"] == {"code 404": ran.json["jobs"]["ended"]["lost"]}


def test_being_pushed_back_is_not_an_error(simulate: Simulate) -> None:
    """503 to every other request, to POST and HEAD alike; the client waits and asks again."""

    def script(method: bytes, number: int) -> bytes:
        if number % 2 == 0:
            return BUSY + (b"Content-Length: 0\r\n\r\n" if method == b"POST" else b"\r\n")
        return ACCEPTED if method == b"POST" else SUCCEEDED

    with Scripted(script) as server:
        ran = simulate(server.port)
    assert ran.code == 0
    assert ran.json["pushed_back"]["503"] >= 4
    assert ran.json["jobs"]["ended"]["succeeded"] >= 2


def test_a_connection_that_the_server_ends_is_made_anew(simulate: Simulate) -> None:
    def script(method: bytes, _: int) -> bytes:
        answer = ACCEPTED if method == b"POST" else SUCCEEDED
        return answer.replace(b"\r\n", b"\r\nConnection: close\r\n", 1)

    with Scripted(script) as server:
        ran = simulate(server.port, jobs=3)
        assert ran.json["errors"] == {}
        assert server.connections >= 6
    assert ran.json["jobs"]["ended"]["succeeded"] >= 3
