"""``Prefer: wait``: answers that are held until the job is over."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack

import pytest

from tests.conftest import Start
from tests.end_to_end.process import Gate, Server, wait_until
from tests.protocol.wire import Wire, post, request, submission

WAIT = "Prefer: wait=20"
JSON = "Content-Type: application/json"
LATER = submission("nothing", delay=1000)


def waiting(server: Server, count: int) -> None:
    wait_until(lambda: server.stats()["waiting_clients"], lambda clients: clients == count)


@pytest.mark.parametrize("method", ["HEAD", "GET"])
@pytest.mark.parametrize(("part", "codes"), [("", (200,)), ("/result", (200,))])
def test_answer_comes_when_the_job_is_over(
    server: Server, gate: Gate, method: str, part: str, codes: tuple[int, ...]
) -> None:
    path = server.submit("until_file", gate.path)
    with server.wire() as wire:
        wire.send(request(method, path + part, WAIT))
        waiting(server, 1)
        gate.open()
        answer = wire.read(method)
        assert (answer.status, answer["preference-applied"]) == (codes[0], "wait=20")
        assert wire.still_serves()
    waiting(server, 0)


def test_answer_leaves_soon_after_the_end(server: Server) -> None:
    path = server.submit("sleep", {"seconds": 0.3})
    began = time.monotonic()
    with server.wire() as wire:
        assert wire.ask(request("HEAD", path, WAIT)).status == 200
    assert time.monotonic() - began < 2


def test_post_answers_with_the_end_of_its_job(server: Server) -> None:
    with server.wire() as wire:
        answer = wire.ask(post(submission("give", [1]), WAIT))
        assert (answer.status, answer["job-state"], answer.json["state"]) == (200, "succeeded", "succeeded")
        assert server.get(answer["content-location"] + "/result").json == [1]
        assert "location" not in answer.headers
        answer = wire.ask(post(submission("fail"), WAIT))
        assert (answer.status, answer["job-state"]) == (424, "failed")


@pytest.mark.parametrize(("lines", "version"), [(("Connection: close",), "1.1"), ((), "1.0")])
def test_a_awaited_can_be_the_last(server: Server, lines: tuple[str, ...], version: str) -> None:
    with server.wire() as wire:
        assert wire.ask(post(submission("sleep", {"seconds": 0.1}), WAIT, *lines, version=version)).status == 200
        wire.read_end()


def test_post_whose_job_takes_longer_is_accepted(server: Server, gate: Gate) -> None:
    with server.wire() as wire:
        answer = wire.ask(post(submission("until_file", gate.path), "Prefer: wait=1"))
    assert (answer.status, answer["job-state"], answer["preference-applied"]) == (202, "running", "wait=1")
    assert server.head(answer["location"]).status == 202


def test_wait_that_is_over_tells_the_state_as_it_is(server: Server, gate: Gate) -> None:
    path = server.submit("until_file", gate.path)
    began = time.monotonic()
    answer = server.head(path, "Prefer: wait=1")
    assert (answer.status, answer["job-state"], answer["preference-applied"]) == (202, "running", "wait=1")
    assert 1 <= time.monotonic() - began < 3


@pytest.mark.parametrize(
    "value", ["wait=-1", "wait=abc", "wait=", "wait", "wait=1.5", "wait=0", "colour=red", ";;,,=", ""]
)
def test_preference_that_makes_no_sense_is_ignored(server: Server, gate: Gate, value: str) -> None:
    answer = server.head(server.submit("until_file", gate.path), f"Prefer: {value}")
    assert answer.status == 202
    assert "preference-applied" not in answer.headers


def test_longest_wait_is_what_the_server_allows(start: Start, gate: Gate) -> None:
    server = start(http__wait_most=1)
    answer = server.head(server.submit("until_file", gate.path), "Prefer: wait=1000000000")
    assert (answer.status, answer["preference-applied"]) == (202, "wait=1")
    gate.open()


def test_job_that_is_over_is_answered_at_once(server: Server) -> None:
    assert server.head(server.run("nothing"), WAIT)["preference-applied"] == "wait=20"
    assert server.head("/jobs/" + "0" * 28, WAIT).status == 404


def test_cancelled_job_releases_who_waits(server: Server, gate: Gate) -> None:
    path = server.submit("until_file", gate.path)
    with server.wire() as wire:
        wire.send(request("HEAD", path, WAIT))
        waiting(server, 1)
        server.delete(path)
        assert wire.read("HEAD").status == 410


def test_requests_behind_one_that_is_held_keep_their_turn(server: Server, gate: Gate) -> None:
    path = server.submit("until_file", gate.path)
    with server.wire() as wire:
        wire.send(request("GET", "/healthz") + request("HEAD", path, WAIT) + request("GET", "/readyz"))
        assert wire.read().body == b"ok\n"
        waiting(server, 1)
        wire.send(request("HEAD", path) + request("GET", "/healthz"))
        gate.open()
        assert [wire.read(method).status for method in ("HEAD", "GET", "HEAD", "GET")] == [200] * 4
        assert wire.still_serves()


@pytest.mark.parametrize("leaves", [Wire.close, Wire.reset], ids=["close", "reset"])
def test_client_that_goes_away_frees_its_place(server: Server, gate: Gate, leaves: Callable[[Wire], None]) -> None:
    path = server.submit("until_file", gate.path)
    wire = server.wire()
    wire.send(request("HEAD", path, WAIT))
    waiting(server, 1)
    leaves(wire)
    waiting(server, 0)
    assert server.head(path)["job-state"] == "running"


def test_drain_releases_all_that_wait(start: Start, gate: Gate) -> None:
    server = start()
    path = server.submit("until_file", gate.path)
    with ExitStack() as stack:
        wires = [stack.enter_context(server.wire()) for _ in range(3)]
        for wire in wires:
            wire.send(request("HEAD", path, WAIT))
        waiting(server, 3)
        server.signal(15)
        assert [wire.read("HEAD").status for wire in wires] == [202] * 3
        assert wires[0].ask(request("HEAD", path, "Prefer: wait=5")).status == 202
        gate.open()
        assert server.wait() == 0


def test_above_the_limit_clients_are_answered_at_once(start: Start, gate: Gate) -> None:
    server = start(limits__waiting=1)
    path = server.submit("until_file", gate.path)
    ways = [request("GET", path, WAIT), post(submission("until_file", gate.path), WAIT)]
    with server.wire() as first:
        first.send(ways[0])
        waiting(server, 1)
        for way in ways:
            answer = server.ask(way)
            assert answer.status == 202
            assert int(answer["retry-after"]) >= 1
            assert "preference-applied" not in answer.headers
        assert server.metrics()["headway_waits_ignored_total",] == 2
        gate.open()
        assert first.read()["preference-applied"] == "wait=20"
    # There is room again.
    waiting(server, 0)
    assert server.ask(post(submission("nothing"), WAIT))["preference-applied"] == "wait=20"


@pytest.mark.parametrize(
    "sent",
    [
        post(LATER, "Prefer: wait=9, return=minimal"),
        request("POST", "/batches", JSON, "Prefer: wait=9", "Prefer: return=minimal", body=b"[%b]" % LATER),
    ],
    ids=["job", "batch"],
)
def test_both_preferences_are_told_in_one_line(server: Server, sent: bytes) -> None:
    with server.wire() as wire:
        wire.send(sent)
        # So it need not wait.
        wire.finish()
        answer = wire.read()
    server.delete(answer["location"])
    assert (answer.status, answer["preference-applied"], answer.body) == (202, "wait=9, return=minimal", b"")


@pytest.mark.parametrize("value", ['x="a, return=minimal"', 'x="a\\", return=minimal', ";return=minimal"])
def test_a_preference_in_a_quoted_text_is_none(server: Server, value: str) -> None:
    answer = server.ask(post(submission("nothing"), f"Prefer: {value}"))
    assert answer.status == 202
    assert "preference-applied" not in answer.headers


@pytest.mark.parametrize("value", ['x="a, b", return=minimal', 'return="minimal"; x="y;z"', 'x=",";y, return=minimal'])
def test_a_preference_beside_a_quoted_text_is_followed(server: Server, value: str) -> None:
    answer = server.ask(post(submission("nothing"), f"Prefer: {value}"))
    assert (answer.status, answer["preference-applied"]) == (202, "return=minimal")
