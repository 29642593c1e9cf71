"""Events on a socket: the stream to the letter, the way back into it, and its end."""

from __future__ import annotations

import json
import re
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.conftest import Start
from tests.end_to_end.process import ONE_PROCESS, Gate, Server, launch, wait_until
from tests.protocol.events import EventWire
from tests.protocol.wire import Wire, post, request, submission

LIFE = ["queued", "running", "succeeded"]


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server whose jobs are those of one test at a time, and that is quick to find clients idle."""
    settings = {"drain_linger": 0, "jobs__backoff": 0.01, "jobs__backoff_max": 0.02, "timeouts__idle": 1}
    with launch(tmp_path_factory.mktemp("watched"), settings) as started:
        yield started


def submit(server: Server, task: str, payload: object = None, **members: object) -> str:
    """Submit a job and return its id."""
    return server.submit(task, payload, **members).rpartition("/")[2]


def readers(server: Server) -> int:
    """Return how many streams are open."""
    return int(server.stats()["readers"])


def no_readers(server: Server) -> None:
    wait_until(lambda: readers(server), lambda count: count == 0)


def test_the_head_of_a_stream(watched: Server) -> None:
    with EventWire(watched.port) as stream:
        assert stream.status == 200
        assert stream.headers.pop("date")
        assert stream.headers == {
            "content-type": "text/event-stream",
            "cache-control": "no-store",
            "x-accel-buffering": "no",
            "transfer-encoding": "chunked",
            "connection": "close",
        }


def test_events_are_told_as_they_come(watched: Server) -> None:
    with EventWire(watched.port) as stream:
        job = submit(watched, "give", 1)
        told = stream.some(3)
    assert {one.kind for one in told} == {"state"}
    assert [one.data["state"] for one in told] == LIFE
    for one, attempt in zip(told, (0, 1, 1), strict=True):
        moment = one.data.pop("time")
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", moment)
        assert one.data == {"id": job, "task": "give", "state": one.data["state"], "attempt": attempt}
    document = watched.get(f"/jobs/{job}").json
    assert told[-1].id > told[0].id
    with EventWire(watched.port, f"/jobs/{job}/events") as stream:
        (last,) = stream.rest()
    assert last.data["time"] == document["ended"]


def test_tags_and_reasons_are_told_if_there_are_any(watched: Server) -> None:
    with EventWire(watched.port, "/events?tag=a") as stream:
        submit(watched, "give", 1)
        submit(watched, "fail", tags=["a", "b"])
        told = stream.some(3)
    assert [one.data["tags"] for one in told] == [["a", "b"]] * 3
    assert [one.data.get("reason") for one in told] == [None, None, "error"]


# Each of these ends a line for some reader of lines.
BREAKS = "\u2028\u2029\xa0x y: z é 🙂"


def test_no_text_breaks_the_stream(watched: Server) -> None:
    with EventWire(watched.port, "/events?task=with+/+and+%C3%A9") as stream:
        submit(watched, "with / and é", 1, tags=[BREAKS, '"\\', "data: x"])
        told = stream.some(3)
    assert told[0].data["tags"] == [BREAKS, '"\\', "data: x"]
    assert told[0].data["task"] == "with / and é"


@pytest.mark.parametrize("query", ["state=succeeded,failed", "state=succeeded&state=failed"])
def test_states_are_a_list(watched: Server, query: str) -> None:
    with EventWire(watched.port, f"/events?{query}") as stream:
        submit(watched, "give", 1)
        assert stream.states(1) == ["succeeded"]
        submit(watched, "fail")
        assert stream.states(1) == ["failed"]


@pytest.mark.parametrize(
    ("query", "field", "allowed"),
    [
        ("state=ended", "state", "scheduled, queued, running, retrying, succeeded, failed, cancelled"),
        ("state=", "state", "scheduled, queued"),
        # A comma that is encoded belongs to a value.
        ("state=failed%2Csucceeded", "state", "scheduled, queued"),
        ("task=", "task", "1 to 200"),
        ("task=nosuchtask", "task", "is not one of: "),
        ("tag=", "tag", "1 to 100"),
        ("tag=%0A", "tag", "control character"),
        ("reason=error", "reason", "allowed here: last-event-id, state, task, tag"),
        ("last_event_id=1", "last_event_id", "allowed here"),
        ("task=give&task=fail", "task", "more than once"),
    ],
)
def test_a_query_of_nonsense_says_what_is_allowed(watched: Server, query: str, field: str, allowed: str) -> None:
    for method in ("GET", "HEAD"):
        answer = watched.ask(request(method, f"/events?{query}"))
        assert answer.status == 422
    answer = watched.get(f"/events?{query}")
    ((found, detail),) = [(fault["field"], fault["detail"]) for fault in answer.json["errors"]]
    assert found == field
    assert allowed in detail
    assert "null" not in detail
    no_readers(watched)


def test_head_has_the_head_alone(watched: Server) -> None:
    job = submit(watched, "give", 1)
    with watched.wire() as wire:
        for path in ("/events", f"/jobs/{job}/events", "/events?task=give"):
            answer = wire.ask(request("HEAD", path))
            assert answer.status == 200
            assert answer["content-type"] == "text/event-stream"
        assert wire.still_serves()
    no_readers(watched)


def test_other_methods_are_refused(watched: Server) -> None:
    assert watched.ask(request("OPTIONS", "/events"))["allow"] == "GET, HEAD, OPTIONS"
    assert watched.ask(request("DELETE", "/events")).status == 405
    assert watched.ask(request("POST", "/jobs/x/events", body=b"")).status == 405


# HTTP.


def test_a_request_that_comes_byte_by_byte_is_answered_the_same(watched: Server) -> None:
    job = submit(watched, "give", 1)
    watched.wait_for(f"/jobs/{job}", "succeeded")
    whole = []
    for data in (request("GET", f"/jobs/{job}/events"), request("GET", f"/jobs/{job}/events", version="1.0")):
        for pieces in ([data], [data[:20], data[20:]], [bytes([byte]) for byte in data]):
            with watched.wire() as wire:
                for piece in pieces:
                    wire.send(piece)
                answer = wire.read_all()
            whole.append(re.sub(rb"Date: .*?\r\n", b"", answer))
    assert whole[0] == whole[1] == whole[2]
    assert whole[3] == whole[4] == whole[5]
    head, _, body = whole[0].partition(b"\r\n\r\n")
    old_head, _, old_body = whole[3].partition(b"\r\n\r\n")
    # One chunk, and the last one.
    assert body == b"%x\r\n%b\r\n0\r\n\r\n" % (len(old_body), old_body)
    assert old_head == head.replace(b"Transfer-Encoding: chunked\r\n", b"")


def test_a_client_of_http_1_0_reads_until_the_end_of_the_connection(watched: Server, gate: Gate) -> None:
    job = submit(watched, "until_file", gate.path)
    watched.wait_for(f"/jobs/{job}", "running")
    with EventWire(watched.port, f"/jobs/{job}/events", version="1.0") as stream:
        assert stream.headers["connection"] == "close"
        assert "transfer-encoding" not in stream.headers
        assert stream.states(1) == ["running"]
        gate.open()
        assert [one.data["state"] for one in stream.rest()] == ["succeeded"]


def test_a_stream_is_the_last_answer_of_its_connection(watched: Server, gate: Gate) -> None:
    """What comes before it is answered, what comes after it is not."""
    job = submit(watched, "until_file", gate.path)
    health, events = request("GET", "/healthz"), request("GET", f"/jobs/{job}/events")
    with watched.wire() as wire:
        wire.send(health + events + health + post(submission("nothing")) * 100)
        assert wire.read().body == b"ok\n"
        assert wire.read_head()[0] == 200
        assert b'"state":"running"' in wire.read_chunk()
        wire.send(health * 10_000)
        gate.open()
        assert b'"state":"succeeded"' in wire.read_chunk()
        assert wire.read_chunk() == b""
        wire.read_end()
    no_readers(watched)


def test_a_stream_may_follow_an_answer_that_waits(watched: Server, gate: Gate) -> None:
    job = submit(watched, "until_file", gate.path)
    with watched.wire() as wire:
        wire.send(request("HEAD", f"/jobs/{job}", "Prefer: wait=20") + request("GET", f"/jobs/{job}/events"))
        wait_until(watched.stats, lambda stats: stats["waiting_clients"] == 1)
        assert readers(watched) == 0
        gate.open()
        assert wire.read("HEAD")["job-state"] == "succeeded"
        assert wire.read_head()[0] == 200
        assert b'"state":"succeeded"' in wire.read_chunk()
        assert wire.read_chunk() == b""
        wire.read_end()


def test_a_client_that_sends_no_more_gets_the_end(watched: Server, gate: Gate) -> None:
    job = submit(watched, "until_file", gate.path)
    watched.wait_for(f"/jobs/{job}", "running")
    with EventWire(watched.port, f"/jobs/{job}/events") as stream:
        assert stream.states(1) == ["running"]
        stream.wire.finish()
        assert stream.rest() == []
    with watched.wire() as wire:
        wire.send(request("GET", f"/jobs/{job}/events"))
        wire.finish()
        raw = wire.read_all()
        assert b'"state":"running"' in raw
        assert raw.endswith(b"\r\n0\r\n\r\n")
    no_readers(watched)


@pytest.mark.parametrize("leave", [Wire.close, Wire.reset])
def test_a_client_that_goes_is_forgotten(watched: Server, leave: object) -> None:
    streams = [EventWire(watched.port) for _ in range(20)]
    assert readers(watched) == 20
    for stream in streams:
        leave(stream.wire)  # type: ignore[operator]
    no_readers(watched)


@pytest.mark.long
def test_a_stream_may_be_silent_for_longer_than_a_client_may_be_idle(watched: Server) -> None:
    with EventWire(watched.port) as stream:
        time.sleep(3.5)
        submit(watched, "give", 1)
        assert stream.states(3) == LIFE


@pytest.mark.long
def test_a_silent_stream_has_signs_of_life(watched: Server) -> None:
    begun = time.monotonic()
    with EventWire(watched.port) as stream:
        first = stream.wire.read_chunk()
        beat = stream.wire.read_chunk()
        assert 13 < time.monotonic() - begun < 16.5
        assert beat == b":\n" + first.partition(b"\n")[2]
        submit(watched, "give", 1)
        assert stream.states(3) == LIFE
        stream.wire.send(b"")
        assert stream.wire.read_chunk() == b":\nid: %b\n\n" % stream.last_id.encode()


# Of one job.


def test_the_stream_of_a_job_begins_with_its_state_and_ends_with_it(watched: Server, gate: Gate) -> None:
    job = submit(watched, "until_file", gate.path, tags=["x"])
    watched.wait_for(f"/jobs/{job}", "running")
    other = submit(watched, "until_file", gate.path)
    with EventWire(watched.port, f"/jobs/{job}/events") as stream:
        assert stream.headers["job-state"] == "running"
        (first,) = stream.some(1)
        assert (first.data["id"], first.data["state"], first.data["attempt"]) == (job, "running", 1)
        assert first.data["tags"] == ["x"]
        gate.open()
        (last,) = stream.rest()
        assert (last.data["id"], last.data["state"]) == (job, "succeeded")
    watched.wait_for(f"/jobs/{other}", "succeeded")


@pytest.mark.parametrize(
    ("task", "members", "state"),
    [("give", {}, "succeeded"), ("fail", {}, "failed"), ("nothing", {"delay": 1000}, "cancelled")],
)
def test_a_job_that_has_ended_has_one_event(watched: Server, task: str, members: dict[str, object], state: str) -> None:
    job = submit(watched, task, **members)
    if members:
        watched.delete(f"/jobs/{job}")
    watched.wait_for(f"/jobs/{job}", state)
    with EventWire(watched.port, f"/jobs/{job}/events") as stream:
        assert stream.headers["job-state"] == state
        (only,) = stream.rest()
    assert (only.kind, only.data["state"], only.data.get("reason")) == (
        "state",
        state,
        "error" if state == "failed" else None,
    )
    # A browser comes back, and is told that there is nothing more.
    for again in (f"Last-Event-ID: {only.id}", f"Last-Event-ID: {stream.last_id}"):
        for method in ("GET", "HEAD"):
            answer = watched.ask(request(method, f"/jobs/{job}/events", again))
            assert (answer.status, answer["job-state"]) == (204, state)
    assert watched.get(f"/jobs/{job}/events?last-event-id={only.id}").status == 204
    no_readers(watched)


def test_who_comes_back_to_a_job_gets_the_rest_of_it(watched: Server, gate: Gate) -> None:
    job = submit(watched, "until_file", gate.path)
    watched.wait_for(f"/jobs/{job}", "running")
    with EventWire(watched.port, f"/jobs/{job}/events") as stream:
        (first,) = stream.some(1)
    again = f"Last-Event-ID: {first.id}"
    with EventWire(watched.port, f"/jobs/{job}/events", again) as stream:
        gate.open()
        assert [one.data["state"] for one in stream.rest()] == ["succeeded"]
    with EventWire(watched.port, f"/jobs/{job}/events", again) as stream:
        assert [one.data["state"] for one in stream.rest()] == ["succeeded"]


def test_jobs_without_a_stream(watched: Server, start: Start) -> None:
    job = submit(watched, "give", 1)
    assert watched.get(f"/jobs/{job[:-1]}{'0' if job[-1] != '0' else '1'}/events").status == 404
    assert watched.get("/jobs/no-such-key/events").status == 404
    assert watched.get(f"/jobs/{'0' * 36}/events").status == 421
    assert watched.get(f"/jobs/{job}/events?state=failed").status == 422
    few = start(retention__jobs=1)
    first, _ = few.run("give", 1), few.run("give", 2)
    for method in ("GET", "HEAD"):
        gone = few.ask(request(method, f"{first}/events"))
        assert (gone.status, gone["job-state"]) == (410, "expired")


def test_a_key_names_a_job_too(watched: Server) -> None:
    put = request("PUT", "/jobs/watched", "Content-Type: application/json", body=submission("give", 1))
    job = watched.ask(put).json["id"]
    with EventWire(watched.port, "/jobs/watched/events") as stream:
        assert stream.headers["content-location"] == f"/jobs/{job}"
        assert stream.rest()[-1].data["id"] == job


# The way back.


def test_who_comes_back_goes_on_after_the_last_event(watched: Server) -> None:
    with EventWire(watched.port) as stream:
        job = submit(watched, "give", 1)
        told = stream.some(3)
    for again in ((f"/events?last-event-id={told[0].id}",), ("/events", f"Last-Event-ID: {told[0].id}")):
        with EventWire(watched.port, *again) as stream:
            assert [one.id for one in stream.some(2)] == [one.id for one in told[1:]]
    # The header is what a browser adds when it comes back to the same URL.
    both = (f"/events?last-event-id={told[0].id}", f"Last-Event-ID: {told[1].id}")
    with EventWire(watched.port, *both) as stream:
        assert stream.some(1) == told[2:]
    with EventWire(watched.port, f"/events?task=give&state=running&last-event-id={told[0].id}") as stream:
        (running,) = stream.some(1)
        assert (running.data["id"], running.data["state"]) == (job, "running")


@pytest.mark.parametrize("last", ["0", "x", "f" * 20, "0" * 20, "F" * 20, "1" * 200, "é", "-1", "%00"])
def test_an_id_that_is_none_is_told_so_first(watched: Server, last: str) -> None:
    where = ("/events", f"Last-Event-ID: {last}") if last not in ("é", "%00") else (f"/events?last-event-id={last}",)
    if last == "é":
        where = ("/events?last-event-id=%C3%A9",)
    with EventWire(watched.port, *where) as stream:
        submit(watched, "give", 1)
        reset, *states = stream.some(4)
    assert reset.kind == "reset"
    assert reset.data["missed"] is None
    assert "list the jobs (GET /jobs)" in reset.data["detail"]
    assert [one.data["state"] for one in states] == LIFE


def test_an_empty_id_is_none_at_all(watched: Server) -> None:
    with EventWire(watched.port, "/events?last-event-id=", "Last-Event-ID:") as stream:
        submit(watched, "give", 1)
        assert stream.states(3) == LIFE


def test_an_id_that_is_gone_is_told_so(start: Start) -> None:
    server = start(events__kept=4)
    with EventWire(server.port) as stream:
        first = submit(server, "give", 1)
        told = stream.some(3)
        for _ in range(2):
            server.run("give", 1)
            stream.some(3)
        with EventWire(server.port, "/events", f"Last-Event-ID: {told[0].id}") as again:
            assert again.some(1)[0].kind == "reset"
        # Of a job, its state follows.
        with EventWire(server.port, f"/jobs/{first}/events", f"Last-Event-ID: {told[0].id}") as again:
            assert [(one.kind, one.data.get("state")) for one in again.rest()] == [
                ("reset", None),
                ("state", "succeeded"),
            ]


# Ends.


def test_a_drain_tells_the_last_events_and_ends_the_streams(start: Start, gate: Gate) -> None:
    server = start(drain_linger=0)
    job = submit(server, "until_file", gate.path)
    server.wait_for(f"/jobs/{job}", "running")
    streams = [EventWire(server.port), EventWire(server.port, f"/jobs/{job}/events"), EventWire(server.port)]
    server.signal(signal.SIGTERM)
    server.wait_for_line("draining")
    # A client that comes now is served as well.
    streams.append(EventWire(server.port))
    gate.open()
    begun = time.monotonic()
    rest = [[one.data["state"] for one in stream.rest()] for stream in streams]
    assert rest == [["succeeded"], ["running", "succeeded"], ["succeeded"], ["succeeded"]]
    assert all(stream.ended for stream in streams)
    for stream in streams:
        stream.wire.close()
    assert server.wait() == 0
    assert time.monotonic() - begun < 3


def test_clients_that_stay_do_not_hold_up_the_end(start: Start) -> None:
    server = start(drain_linger=0)
    streams = [EventWire(server.port) for _ in range(10)]
    begun = time.monotonic()
    server.signal(signal.SIGTERM)
    assert server.wait() == 0
    assert time.monotonic() - begun < 5
    for stream in streams:
        with stream:
            assert stream.rest() == []
            assert stream.ended


@ONE_PROCESS
def test_a_deploy_ends_the_streams_and_the_next_process_knows_no_place_in_them(start: Start) -> None:
    server = start()
    with EventWire(server.port) as stream:
        server.run("give", 1)
        last = stream.some(3)[-1]
        said = len(server.said)
        server.process.send_signal(signal.SIGHUP)
        assert stream.rest() == []
        assert stream.ended
    server.wait_for_line("serving http", said)
    with EventWire(server.port, "/events", f"Last-Event-ID: {last.id}") as stream:
        assert stream.some(1)[0].kind == "reset"
        server.run("give", 1)
        assert stream.states(3) == LIFE


@pytest.mark.long
def test_a_client_that_does_not_read_is_cut(start: Start) -> None:
    """Its events are not kept for it. Another one beside it gets them all."""
    server = start(timeouts__write=1, events__kept=100_000)
    with EventWire(server.port) as reader, Wire(server.port) as deaf:
        deaf.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        deaf.send(request("GET", "/events"))
        wait_until(lambda: readers(server), lambda count: count == 2)
        batch = json.dumps([{"task": "nothing", "tags": ["x" * 100] * 8}] * 500).encode()
        told = 0
        for _ in range(100):
            watched_batch = request("POST", "/batches", "Content-Type: application/json", body=batch)
            assert server.ask(watched_batch).status == 202
            reader.some(1500)
            told += 1500
            if readers(server) == 1:
                break
        assert readers(server) == 1
        assert server.stats()["untaken_bytes"] == 0


def test_a_stream_counts_for_the_limits_on_its_client(start: Start) -> None:
    server = start(rates__polls=2, rates__polls_window=60, limits__connections=3)
    with EventWire(server.port) as first, EventWire(server.port) as second:
        assert first.headers["ratelimit"].startswith('"poll";r=1')
        assert second.headers["ratelimit"].startswith('"poll";r=0')
        assert server.get("/events").status == 429
        with EventWire(server.port) as third:
            assert third.status == 429
            with server.wire() as fourth:
                assert fourth.read().status == 503


@pytest.mark.long
def test_a_thousand_streams_hear_of_each_event(start: Start) -> None:
    server = start()
    with ExitStack() as stack:
        streams = [stack.enter_context(EventWire(server.port)) for _ in range(1000)]
        job = submit(server, "give", 1)
        for stream in streams:
            assert [one.data["id"] for one in stream.some(3)] == [job] * 3
        refused = server.get("/events")
        assert (refused.status, refused.json["type"]) == (503, "urn:headway:problem:streams")
        assert "1000 streams of events are open, which is the limit (events.streams)" in refused.json["detail"]
        assert int(refused["retry-after"]) >= 1
        assert server.get(f"/jobs/{job}/events").status == 503
        streams[0].wire.close()
        wait_until(lambda: readers(server), lambda count: count == 999)
        assert server.ask(request("HEAD", "/events")).status == 200
    no_readers(server)


@ONE_PROCESS
def test_a_killed_server_knows_no_place_and_tells_the_jobs_as_they_are(start: Start, tmp_path: Path) -> None:
    settings = {"journal__path": str(tmp_path / "jobs.db")}
    first = start(exit_code=-signal.SIGKILL, **settings)
    done = first.run("give", 1).rpartition("/")[2]
    with EventWire(first.port) as stream:
        job = submit(first, "give", 2, delay=1000)
        (told,) = stream.some(1)
        assert (told.data["id"], told.data["state"]) == (job, "scheduled")
        first.signal(signal.SIGKILL)
        with pytest.raises(AssertionError, match="the server closed"):
            stream.next()
    second = start(**settings)
    # What was told is so after a kill.
    again = f"Last-Event-ID: {told.id}"
    with EventWire(second.port, "/events", again) as stream:
        assert stream.some(1)[0].kind == "reset"
        with EventWire(second.port, f"/jobs/{job}/events", again) as one:
            assert [(one.kind, one.data.get("state")) for one in one.some(2)] == [
                ("reset", None),
                ("state", "scheduled"),
            ]
            second.delete(f"/jobs/{job}")
            assert [event.data["state"] for event in one.rest()] == ["cancelled"]
        assert stream.states(1) == ["cancelled"]
    with EventWire(second.port, f"/jobs/{done}/events") as stream:
        assert [event.data["state"] for event in stream.rest()] == ["succeeded"]


def test_a_page_of_another_origin_may_read_events(start: Start) -> None:
    server = start(http__cors_origins=["https://app.example.com"])
    with EventWire(server.port, "/events", "Origin: https://app.example.com") as stream:
        assert stream.headers["access-control-allow-origin"] == "https://app.example.com"
    asked = request("OPTIONS", "/events", "Origin: https://app.example.com")
    assert "Last-Event-ID" in server.ask(asked)["access-control-allow-headers"]


def test_events_are_below_the_base_path(start: Start) -> None:
    server = start(http__base_path="/a/b")
    with EventWire(server.port, "/a/b/events") as stream:
        assert stream.status == 200
    assert server.get("/events").status == 404
