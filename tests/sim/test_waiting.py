"""Answers that are held: a connection for each job, asked again when the time is up, and told when a server cannot."""

import time
from pathlib import Path

import pytest

from tests.conftest import Start
from tests.end_to_end.process import Server
from tests.sim.scripted import ACCEPTED, RUNNING, SUCCEEDED, Scripted, Simulate

pytestmark = pytest.mark.long

APPLIED = RUNNING.replace(b"\r\n\r\n", b"\r\nPreference-Applied: wait=1\r\nRetry-After-Ms: 50\r\n\r\n")


def test_each_job_is_asked_for_once_on_a_connection_of_its_own(simulate: Simulate, start: Start) -> None:
    server = start(workers=100)
    given = {"task": "sleep", "payload": None, "job_seconds": "0.1-0.4"}
    ran = simulate(server.port, poll="wait", clients=4, jobs=3, duration="1500ms", **given)
    assert (ran.code, ran.err) == (0, [])
    assert ran.json["requests"]["connects"] == 12
    assert ran.json["jobs"]["polls_per_job"] == 1
    assert ran.json["jobs"]["ended"]["succeeded"] >= 24


def test_an_answer_that_is_held_longer_than_others_may_take_is_no_error(simulate: Simulate) -> None:
    def script(method: bytes, _: int) -> bytes:
        if method == b"POST":
            return ACCEPTED
        time.sleep(1.2)
        return SUCCEEDED

    with Scripted(script) as server:
        ran = simulate(server.port, poll="wait", timeout="50ms", duration="1500ms")
        assert b"\r\nPrefer: wait=30\r\n" in server.seen[1]
        assert b"Prefer" not in server.seen[0]
    assert ran.json["errors"] == {}
    assert ran.json["jobs"]["ended"] == {"succeeded": 1}


def test_an_answer_that_came_early_is_obeyed(simulate: Simulate) -> None:
    """As while a server drains: it lets go all whom it has held, and is not to be asked again at once."""
    with Scripted(lambda method, _: ACCEPTED if method == b"POST" else APPLIED) as server:
        ran = simulate(server.port, poll="wait", duration="500ms")
        assert 5 <= len(server.seen) <= 12
    assert (ran.code, ran.json["jobs"]["unfinished"]) == (0, 1)


def test_a_server_that_does_not_hold_answers_is_told_in_one_line(simulate: Simulate) -> None:
    with Scripted(lambda method, _: ACCEPTED if method == b"POST" else RUNNING) as server:
        ran = simulate(server.port, poll="wait", clients=5)
    assert ran.code == 1
    assert ran.err == [
        f"headway simulate: http://127.0.0.1:{server.port}: the server does not know Prefer: wait "
        "(no Preference-Applied): poll when-told instead"
    ]


def test_connections_of_waiting_clients_cannot_be_shared(simulate: Simulate) -> None:
    ran = simulate(1, poll="wait", connections=3)
    assert (ran.code, ran.json) == (2, None)
    assert len(ran.err) == 1
    assert ran.err[0].startswith("headway simulate: connections: 3 is not allowed with poll wait: ")


def test_a_trace_has_a_line_for_each_answer(simulate: Simulate, server: Server, tmp_path: Path) -> None:
    before, simulate.trace = time.time(), tmp_path / "trace"
    ran = simulate(server.port, poll="20ms", clients=3, task="nothing")
    lines = [line.split(" ") for line in (tmp_path / "trace").read_text().splitlines()]
    codes = [code for _, _, method, _, code in lines if method == "HEAD"]
    assert len(lines) == ran.json["requests"]["creates"] + ran.json["requests"]["polls"]
    assert len(codes) == ran.json["requests"]["polls"]
    assert codes.count("200") == ran.json["jobs"]["ended"]["succeeded"] > 0
    assert all(before <= float(came) <= time.time() and 0 < float(took) < 1 for came, took, *_ in lines)
    assert {target for _, _, method, target, _ in lines if method == "POST"} == {"/jobs"}
    assert len({target for _, _, method, target, _ in lines if method == "HEAD"}) >= codes.count("200")


def test_no_answer_has_a_line_that_says_why(simulate: Simulate, tmp_path: Path) -> None:
    def script(method: bytes, number: int) -> bytes | None:
        return ACCEPTED if method == b"POST" else None if number < 3 else SUCCEEDED

    simulate.trace = tmp_path / "trace"
    with Scripted(script) as server:
        simulate(server.port)
    outcomes = [line.split(" ", 2)[2] for line in (tmp_path / "trace").read_text().splitlines()]
    assert outcomes[:4] == ["POST /jobs 202", "HEAD /jobs/1 reset", "HEAD /jobs/1 reset", "HEAD /jobs/1 200"]


def test_a_trace_that_cannot_be_written_is_told_at_once(simulate: Simulate) -> None:
    simulate.trace = Path("/no/such/place")
    ran = simulate(1)
    assert ran.code == 2
    assert ran.err == ["headway simulate: trace: '/no/such/place' cannot be written: No such file or directory"]
