"""Servers that restart, refuse, or are none of ours: each answer is written by the test."""

from __future__ import annotations

import asyncio
import re
import socket
import time
from collections.abc import Callable
from contextlib import nullcontext
from itertools import pairwise

import pytest

from headway.client import (
    AsyncClient,
    Client,
    HeadwayError,
    JobCancelled,
    JobFailed,
    NotHeadway,
    NotIssued,
    Refused,
    Submission,
    TimedOut,
    Unavailable,
)
from tests.headway.client.conftest import Serve

ID = "7b9f21c4000000000002f95fbb0a2f0f8d2c"
ACCEPTED = (
    b"HTTP/1.1 202 Accepted\r\nLocation: /jobs/%b\r\nJob-State: queued\r\nRetry-After: 1\r\nRetry-After-Ms: 20\r\n"
    b"Content-Length: 2\r\n\r\n{}" % ID.encode()
)
RUNNING = b"HTTP/1.1 202 Accepted\r\nJob-State: running\r\nRetry-After-Ms: %d\r\n%bContent-Length: 2\r\n\r\n{}"
SUCCEEDED = b"HTTP/1.1 200 OK\r\nJob-State: succeeded\r\nContent-Type: application/json\r\nContent-Length: 1\r\n\r\n7"
BUSY = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 9\r\nRetry-After-Ms: 20\r\nContent-Length: 0\r\n\r\n"
PAGE = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 12\r\n\r\n<p>Hello</p>"


def answer(code: int, body: bytes = b"", *lines: bytes, kind: bytes = b"application/problem+json") -> bytes:
    head = [b"HTTP/1.1 %d Because" % code, b"Content-Type: %b" % kind, b"Content-Length: %d" % len(body), *lines]
    return b"\r\n".join([*head, b"", body])


def problem(code: int, reason: bytes, *lines: bytes) -> bytes:
    body = b'{"type":"urn:headway:problem:%b","detail":"because"}' % reason
    return answer(code, body, *lines)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def test_a_submission_has_one_key_on_every_try(serve: Serve) -> None:
    answers = [None, BUSY, BUSY, ACCEPTED, ACCEPTED]
    server, client = serve(lambda _, number: answers[number])
    assert client.submit("give", 1).id == ID
    keys = {re.findall(rb'(?i)\r\nidempotency-key: "(.+)"', request)[0] for request in server.seen}
    bodies = {request.rpartition(b"\r\n")[2] for request in server.seen}
    assert len(server.seen) == 4
    assert len(keys) == len(bodies) == 1
    client.submit("give", 1)
    assert not any(key in server.seen[4] for key in keys)


def test_a_batch_that_was_taken_and_not_listed_is_listed_under_its_key(serve: Serve) -> None:
    head = b"HTTP/1.1 202 Accepted\r\nLocation: /batches/b\r\nBatch-Pending: 1\r\nBatch-Failed: 0\r\n"
    listed = b'{"id":"b","jobs":["%b"]}' % ID.encode()
    answers = [
        head + b"Retry-After: 300\r\nContent-Length: 0\r\n\r\n",
        head + b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (len(listed), listed),
    ]
    server, client = serve(lambda _, number: answers[number])
    (job,) = client.submit_batch([Submission("give", 1)]).jobs
    assert job.id == ID
    first, second = server.seen
    assert first == second


@pytest.mark.parametrize("code", [408, 500, 502, 504])
def test_an_answer_that_may_pass_is_asked_for_again(serve: Serve, code: int) -> None:
    passing = answer(code, b"later", kind=b"text/html")
    _, client = serve(lambda _, number: (passing, ACCEPTED)[number])
    assert client.submit("give").id == ID


def test_a_retry_of_an_answer_keeps_its_time(serve: Serve) -> None:
    times: list[float] = []

    def script(_: bytes, number: int) -> bytes:
        times.append(time.monotonic())
        late = b"HTTP/1.1 429 Too Many Requests\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n"
        return (late, ACCEPTED)[number]

    _, client = serve(script)
    client.submit("give")
    assert 1 <= times[1] - times[0] < 1.5


def test_patience_is_counted_from_the_first_failure(serve: Serve) -> None:
    """A server that has a hint each time does not keep the client for ever."""
    _, client = serve(lambda _, number: BUSY if number < 400 else ACCEPTED)
    began = time.monotonic()
    with pytest.raises(Unavailable, match="patience=2 allows no further try: 503"):
        client.submit("give")
    assert 1.5 <= time.monotonic() - began < 4


@pytest.mark.parametrize("call", ["wait", "result"])
def test_a_lost_wait_goes_on(serve: Serve, call: str) -> None:
    answers = [ACCEPTED, None, BUSY, RUNNING % (10, b""), SUCCEEDED]
    server, client = serve(lambda _, number: answers[number])
    getattr(client.submit("give"), call)()
    assert len(server.seen) == len(answers)


def test_a_timeout_counts_from_the_call_and_not_from_a_later_try(serve: Serve) -> None:
    def script(_: bytes, number: int) -> bytes:
        if number:
            time.sleep(3)
        return (answer(503, b"", b"Retry-After: 1"), RUNNING % (20, b""))[number]

    _, client = serve(script)
    began = time.monotonic()
    with pytest.raises(TimedOut):
        client.job(ID).wait(timeout=2)
    assert 1.9 <= time.monotonic() - began < 2.8


def test_a_timeout_ends_a_call_that_waits_for_a_connection_of_its_client(serve: Serve) -> None:
    def script(_: bytes, __: int) -> bytes:
        time.sleep(2.5)
        return SUCCEEDED

    async def ask(port: int) -> float:
        async with AsyncClient(f"http://127.0.0.1:{port}", connections=2) as client, asyncio.TaskGroup() as group:
            for _ in range(2):
                group.create_task(client.job(ID).status())
            await asyncio.sleep(0.2)
            began = time.monotonic()
            with pytest.raises(TimedOut, match="all connections of this client are in use"):
                await client.job(ID).wait(timeout=1)
            return time.monotonic() - began

    server, _ = serve(script)
    assert asyncio.run(ask(server.port)) < 1.8


def test_connection_close_is_obeyed(serve: Serve) -> None:
    closing = ACCEPTED.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
    server, client = serve(lambda _, number: (closing, SUCCEEDED)[number])
    assert client.submit("give").result() == 7
    assert server.connections == 2


def test_a_server_that_drains_is_asked_when_it_said(serve: Serve) -> None:
    """Its 202 comes before the wait is over; a server that cannot wait is asked in the same way."""
    times: list[float] = []

    def script(_: bytes, number: int) -> bytes:
        times.append(time.monotonic())
        return (ACCEPTED, RUNNING % (300, b"Preference-Applied: wait=30\r\n"), RUNNING % (200, b""), SUCCEEDED)[number]

    _, client = serve(script)
    assert client.submit("give").result() == 7
    assert 0.3 <= times[2] - times[1] < 1
    assert 0.2 <= times[3] - times[2] < 1


def test_a_wait_for_a_batch_is_asked_again_when_it_was_told(serve: Serve) -> None:
    times: list[float] = []
    pending = answer(
        202, b'{"jobs":[],"pending":1}', b"Batch-Pending: 1", b"Retry-After-Ms: 300", kind=b"application/json"
    )
    ended = answer(200, b'{"jobs":[],"pending":0}', b"Batch-Pending: 0", kind=b"application/json")

    def script(_: bytes, number: int) -> bytes:
        times.append(time.monotonic())
        return (pending, pending, ended)[number]

    _, client = serve(script)
    assert client.batch("0" * 40).wait().finished
    for before, after in pairwise(times):
        assert 0.3 <= after - before < 1


def test_the_token_is_sent(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    server, _ = serve(lambda *_: ACCEPTED)
    monkeypatch.setenv("HEADWAY_TOKEN", "of the environment")
    for given in ("s3cret", None):
        with Client(f"http://127.0.0.1:{server.port}", given) as client:
            client.submit("give")
    monkeypatch.delenv("HEADWAY_TOKEN")
    with Client(f"http://127.0.0.1:{server.port}") as client:
        client.submit("give")
    sent = [re.findall(rb"(?i)\r\nauthorization: (.+)\r\n", request) for request in server.seen]
    assert sent == [[b"Bearer s3cret"], [b"Bearer of the environment"], []]


def test_raw_content_goes_to_the_route_of_its_task(serve: Serve) -> None:
    server, client = serve(lambda *_: ACCEPTED)
    client.submit("thumb nail", b"\xff\xd8", media_type="image/jpeg", priority=9, timeout=1.5)
    client.submit("count", "a,b", media_type="text/csv")
    client.submit("count", b"")
    heads = [request.partition(b"\r\n")[0] for request in server.seen]
    assert heads[0] == b"POST /tasks/thumb%20nail/jobs?priority=9&timeout=1.5 HTTP/1.1"
    assert heads[1:] == [b"POST /tasks/count/jobs HTTP/1.1"] * 2
    assert b"content-type: image/jpeg\r\n" in server.seen[0].lower()
    assert b"content-type: application/octet-stream\r\n" in server.seen[2].lower()
    assert server.seen[0].endswith(b"\xff\xd8")
    assert server.seen[1].endswith(b"a,b")
    with pytest.raises(TypeError, match="needs bytes or str"):
        client.submit("count", 7, media_type="text/csv")
    with pytest.raises(TypeError, match=r"of submit\(\) alone"):
        client.submit_many("count", [b""])


REFUSED = [
    (problem(422, b"unknown-task"), Refused, "the server refuses the request: 422 unknown-task: because"),
    (problem(415, b"media-type"), Refused, "415 media-type: because"),
    (problem(413, b"too-large"), Refused, "413 too-large: because"),
    (answer(413, b"<p>too big</p>", kind=b"text/html"), Refused, "413 refused: <p>too big</p>"),
    (answer(401, b"", kind=b"text/html"), Refused, "401 refused: .*set HEADWAY_TOKEN"),
    (problem(403, b"forbidden"), Refused, "403 forbidden: because .set HEADWAY_TOKEN"),
    (problem(401, b"token"), Refused, r"401 token: because \(set HEADWAY_TOKEN or token=\)$"),
    (problem(403, b"scope"), Refused, r"403 scope: because \(set HEADWAY_TOKEN or token= to a token that may\)$"),
    (problem(403, b"host"), Refused, r"403 host: because \(ask by an address, or add the name there\)$"),
    (PAGE, NotHeadway, "answered with 200 and neither Job-State nor a problem"),
    (answer(404, b"no", kind=b"text/plain"), NotHeadway, "is this a Headway"),
    (answer(301, b"", b"Location: https://a/"), NotHeadway, "answered with 301 to https://a/ and"),
    (answer(405, b"{}", kind=b"application/json"), NotHeadway, "405"),
    (answer(200, b"[1]", kind=b"application/json"), NotHeadway, "200"),
    (answer(200, b"{", kind=b"application/json"), NotHeadway, "200"),
    (answer(200, b"[" * 100_000, kind=b"application/json"), NotHeadway, "200"),
    (answer(200, b"[" * 100_000, kind=b"application/problem+json"), NotHeadway, "200"),
    (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", NotHeadway, "does not speak HTTP"),
]


@pytest.mark.parametrize(("said", "error", "text"), REFUSED)
def test_each_answer_to_a_submission_has_its_error(
    serve: Serve, said: bytes, error: type[HeadwayError], text: str
) -> None:
    server, client = serve(lambda *_: said)
    with pytest.raises(error, match=text) as raised:
        client.submit("give")
    assert "\n" not in str(raised.value)
    assert len(server.seen) == 1


@pytest.mark.parametrize(
    ("said", "error"),
    [
        (PAGE, NotHeadway),
        (answer(404, b"no", kind=b"text/plain"), NotHeadway),
        (problem(404, b"not-found"), NotIssued),
        (problem(421, b"misdirected"), NotIssued),
        (answer(424, b"{}", b"Job-State: failed", b"Job-Reason: timeout", b"Job-Attempt: 3"), JobFailed),
        (answer(424, b"[" * 100_000, b"Job-State: failed"), JobFailed),
        (answer(200, b"[" * 100_000, b"Job-State: succeeded", kind=b"application/json"), NotHeadway),
        (answer(200, b"\xff", b"Job-State: succeeded", kind=b"application/json"), NotHeadway),
    ],
)
def test_each_answer_to_a_wait_has_its_error(serve: Serve, said: bytes, error: type[HeadwayError]) -> None:
    _, client = serve(lambda *_: said)
    with pytest.raises(error):
        client.job(ID).result()


def test_a_server_that_is_away_is_given_up(caplog: pytest.LogCaptureFixture) -> None:
    port = free_port()
    with Client(f"http://127.0.0.1:{port}", patience=2) as client:
        began = time.monotonic()
        with pytest.raises(
            Unavailable, match=f"patience=2 allows no further try: cannot reach http://127.0.0.1:{port}: "
        ):
            client.submit("give")
        assert 1 <= time.monotonic() - began < 3
        with pytest.raises(TimedOut):
            client.job(ID).wait(timeout=0.1)
        with pytest.raises(Unavailable, match="patience=0 "):
            client.submit("give", patience=0)
    assert [record.message.partition(":")[0] for record in caplog.records] == ["cannot reach http"]


def test_all_waits_give_up_together() -> None:
    """Those in the line do not find out one after the other."""

    async def run() -> None:
        async with AsyncClient(f"http://127.0.0.1:{free_port()}", patience=0.5, connections=4) as client:
            jobs = [client.job(f"{number:036x}") for number in range(100)]
            began = time.monotonic()
            ended = await asyncio.gather(*(job.wait() for job in jobs), return_exceptions=True)
            assert {type(error) for error in ended} == {Unavailable}
            assert time.monotonic() - began < 5

    asyncio.run(run())


SHORT_IDS = answer(200, b'{"jobs":[{"id":"%020x","state":"succeeded"}],"next":null}' % 7, kind=b"application/json")


@pytest.mark.parametrize("said", [problem(403, b"forbidden"), SHORT_IDS], ids=["refused", "of short ids"])
def test_lists_that_tell_nothing_are_done_without(serve: Serve, said: bytes) -> None:
    listed = 0

    def script(_: bytes, __: int) -> bytes:
        nonlocal listed
        request = server.seen[-1]
        if b" /jobs?" in request:
            listed += 1
            return said
        if request.startswith(b"HEAD"):
            return b"HTTP/1.1 200 OK\r\nJob-State: succeeded\r\n\r\n"
        time.sleep(1)
        return SUCCEEDED

    server, _ = serve(script)

    async def run() -> None:
        async with AsyncClient(f"http://127.0.0.1:{server.port}", connections=4) as client:
            jobs = [client.job(f"{number:036x}") for number in range(40)]
            assert {status.state for status in await asyncio.gather(*(job.wait() for job in jobs))} == {"succeeded"}

    asyncio.run(run())
    assert listed == 1


@pytest.mark.parametrize(
    ("members", "told"),
    [
        (b'{"server":"headway","version":"0.1.0","contract":2}', "upgrade headway-client"),
        (b'{"server":"headway","version":"0.0.1","contract":0}', "upgrade the server"),
        (b'{"server":"nginx","version":"1","contract":1}', "does not name a Headway"),
        (b"[]", "does not name a Headway"),
    ],
)
def test_a_server_of_another_contract_is_named_with_the_side_to_upgrade(
    serve: Serve, members: bytes, told: str
) -> None:
    _, client = serve(lambda *_: answer(200, members, kind=b"application/json"))
    with pytest.raises(NotHeadway, match=told):
        client.server()


def test_a_job_that_is_lost_with_its_engine_is_told_so(serve: Serve) -> None:
    _, client = serve(lambda *_: answer(410, b"{}", b"Job-State: cancelled", b"Job-Reason: lost"))
    with pytest.raises(JobCancelled, match="its engine ended, and is lost: submit it again"):
        client.job(ID).result()


@pytest.mark.parametrize(
    ("call", "said", "error"),
    [
        (lambda client: client.batch("b").status(), answer(200, b'{"jobs":7,"errors":7}'), NotHeadway),
        (
            lambda client: client.job(ID).status(),
            problem(403, b"scope").replace(b'"because"', b'"b","errors":7'),
            Refused,
        ),
        (lambda client: client.history(), answer(200, b'{"spans":[],"tasks":[7]}'), None),
    ],
)
def test_members_of_another_type_are_no_error_of_python(
    serve: Serve, call: Callable[[Client], object], said: bytes, error: type[HeadwayError] | None
) -> None:
    _, client = serve(
        lambda *_: re.sub(rb"Content-Length: \d+", b"Content-Length: %d" % len(said.partition(b"\r\n\r\n")[2]), said)
    )
    with nullcontext() if error is None else pytest.raises(error):
        call(client)
