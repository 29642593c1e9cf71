"""A client that asks for all of its jobs at once."""

import json

import pytest

from tests.conftest import Start
from tests.sim.scripted import Script, Scripted, Simulate

pytestmark = pytest.mark.long

LOCATION = b"HTTP/1.1 202 Accepted\r\nLocation: /batches/b1\r\nBatch-Pending: 3\r\nRetry-After-Ms: 20\r\n"
ACCEPTED = LOCATION + b"Content-Length: 2\r\n\r\n{}"
PENDING = b"HTTP/1.1 202 Accepted\r\nBatch-Pending: 1\r\nRetry-After: 1\r\nRetry-After-Ms: 20\r\n\r\n"
SUCCEEDED = b"HTTP/1.1 200 OK\r\nBatch-Pending: 0\r\n\r\n"
FAILED = b"HTTP/1.1 424 Failed Dependency\r\nBatch-Pending: 0\r\nBatch-Failed: 1\r\nBatch-Cancelled: 1\r\n\r\n"
GONE = b"HTTP/1.1 410 Gone\r\nBatch-Pending: 0\r\nBatch-Failed: 0\r\nBatch-Expired: 3\r\n\r\n"
NO_ROUTE = b"HTTP/1.1 404 Not Found\r\nContent-Type: application/problem+json\r\nContent-Length: 2\r\n\r\n{}"


def ending(last: bytes) -> Script:
    """Accept, say twice that a job is pending, then ``last``, over and over."""
    return lambda _, number: (ACCEPTED, PENDING, PENDING, last)[number % 4]


@pytest.mark.parametrize(
    ("last", "shares"),
    [
        (SUCCEEDED, {"succeeded": 3}),
        (FAILED, {"failed": 1, "cancelled": 1, "succeeded": 1}),
        (GONE, {"expired": 3}),
    ],
    ids=["all succeeded", "some did not", "none is known"],
)
def test_a_batch_is_three_jobs_and_one_thing_to_ask(simulate: Simulate, last: bytes, shares: dict[str, int]) -> None:
    with Scripted(ending(last)) as server:
        ran = simulate(server.port, poll="batch-told", jobs=3)
        creation, *polls = server.seen[:4]
        assert server.connections == 1
    assert (ran.code, ran.err, ran.json["errors"]) == (0, [], {})
    assert creation.startswith(b"POST /batches HTTP/1.1\r\n")
    assert len(json.loads(creation[creation.index(b"[") :])) == 3
    assert [poll.partition(b" HTTP")[0] for poll in polls] == [b"HEAD /batches/b1"] * 3
    rounds = sum(ran.json["jobs"]["ended"].values()) // 3
    assert rounds >= 2
    assert ran.json["jobs"]["ended"] == {state: share * rounds for state, share in shares.items()}
    assert ran.json["jobs"]["polls_per_job"] == 1


def test_a_batch_can_be_waited_for(simulate: Simulate) -> None:
    script: Script = lambda method, _: ACCEPTED if method == b"POST" else SUCCEEDED  # noqa: E731
    with Scripted(script) as server:
        ran = simulate(server.port, poll="batch", jobs=3)
        assert b"\r\nPrefer: wait=30\r\n" in server.seen[1]
        assert server.connections == 1
    assert ran.json["jobs"]["polls_per_job"] == pytest.approx(1 / 3, abs=1e-4)


def test_a_server_without_batches_is_told_in_one_line(simulate: Simulate) -> None:
    with Scripted(lambda *_: NO_ROUTE) as server:
        ran = simulate(server.port, poll="batch-told", clients=5)
    assert ran.code == 1
    assert ran.err == [
        f"headway simulate: http://127.0.0.1:{server.port}: the server has no batches (404 to POST /batches): "
        "poll when-told or wait instead"
    ]


@pytest.mark.parametrize(("poll", "most"), [("batch-told", 5), ("batch", 0.34)])
def test_a_headway_takes_batches(simulate: Simulate, start: Start, poll: str, most: float) -> None:
    server = start(workers=1000)
    sleeps = {"task": "sleep", "payload": None, "job_seconds": "0.05-0.2"}
    ran = simulate(server.port, poll=poll, clients=5, jobs=3, duration="1500ms", **sleeps)
    assert (ran.code, ran.err, ran.json["errors"]) == (0, [], {})
    results = ran.json["jobs"]
    assert results["ended"]["succeeded"] + results["unfinished"] == results["created"] >= 15
    assert results["ended"]["succeeded"] >= 15
    assert results["polls_per_job"] <= most
    assert ran.json["requests"]["connects"] == 5


def test_a_batch_with_jobs_that_fail_is_no_error(simulate: Simulate, start: Start) -> None:
    ran = simulate(start().port, poll="batch", jobs=3, task="fail")
    assert (ran.code, set(ran.json["jobs"]["ended"])) == (0, {"failed"})
