"""``Client`` on a live server."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path
from typing import Any

import httpx2
import msgspec
import pytest
from headway.core.order import Action

import headway
from headway.client import (
    Client,
    JobCancelled,
    JobExpired,
    JobFailed,
    NotIssued,
    QueueFull,
    Refused,
    ServerInfo,
    Submission,
    TimedOut,
)
from tests.end_to_end.process import WITH_JOURNAL, Gate, Server, wait_until
from tests.headway.client.conftest import Serve
from tests.headway.client.counted import CountedInThreads


def test_a_result_takes_two_requests(server: Server) -> None:
    http = CountedInThreads()
    with http, Client(f"http://127.0.0.1:{server.port}", http=http) as client:
        assert client.submit("give", {"a": [1, None, "ü"]}).result() == {"a": [1, None, "ü"]}
    assert [(sent.method, sent.waits) for sent in http.seen] == [("POST", False), ("GET", True)]


def test_a_client_of_its_own_is_left_open(server: Server) -> None:
    with CountedInThreads() as http:
        for _ in range(2):
            with Client(f"http://127.0.0.1:{server.port}", http=http) as client:
                assert client.submit("give", 1).result() == 1


def test_wait_returns_the_status(client: Client, gate: Gate) -> None:
    job = client.submit("until_file", gate.path)
    with pytest.raises(TimedOut, match=f"job {job.id} has not finished after 0 s, and goes on"):
        job.wait(timeout=0)
    began = time.monotonic()
    with pytest.raises(TimeoutError, match=r"has not finished after 0\.3 s"):
        job.wait(timeout=0.3)
    assert 0.29 < time.monotonic() - began < 0.8
    gate.open()
    assert job.wait(timeout=10).state == "succeeded"
    assert job.wait(timeout=0).finished
    assert job.status().state == "succeeded"


@pytest.mark.parametrize("call", ["wait", "result"])
def test_a_client_that_waits_knows_the_end_at_once(client: Client, gate: Gate, call: str) -> None:
    job = client.submit("until_file", gate.path)
    threading.Timer(0.5, gate.open).start()
    began = time.monotonic()
    getattr(job, call)(timeout=10)
    assert 0.5 <= time.monotonic() - began < 0.9


def test_a_failed_job_raises_its_error(client: Client) -> None:
    job = client.submit("stubborn_failure", "no such shop", retries=1)
    status = job.wait()
    assert (status.state, status.reason, status.attempt) == ("failed", "error", 2)
    with pytest.raises(JobFailed) as raised:
        job.result()
    error = raised.value
    assert (error.detail, error.reason, error.attempt) == ("ValueError: no such shop", "error", 2)
    assert str(error) == f"job {job.id} failed in attempt 2 (error): ValueError: no such shop"


def test_failed_jobs_may_be_answered_with_200(start: Any) -> None:
    with Client(f"http://127.0.0.1:{start(http__failed_status=200).port}") as client:
        job = client.submit("fail", {"message": "no"})
        assert job.wait().detail == "RuntimeError: no"
        with pytest.raises(JobFailed, match="RuntimeError: no"):
            job.result()


def test_a_failed_job_is_resubmitted(client: Client) -> None:
    job = client.submit("fail")
    assert job.wait().state == "failed"
    again = job.retry(idempotency_key="again-1")
    assert again.id != job.id
    assert again.wait().state == "failed"
    assert job.retry(idempotency_key="again-1").id == again.id
    with pytest.raises(Refused) as raised:
        client.submit("nothing").retry()
    assert (raised.value.code, raised.value.reason) == (409, "not-failed")


def test_a_job_is_cancelled(client: Client, gate: Gate) -> None:
    job = client.submit("until_file", gate.path)
    job.cancel()
    assert job.wait(timeout=5).state == "cancelled"
    assert job.cancel().state == "cancelled"
    with pytest.raises(JobCancelled, match=job.id):
        job.result()
    with pytest.raises(JobCancelled):
        job.result(timeout=0)


def test_a_result_that_is_gone_is_said_to_be(client: Client) -> None:
    job = client.submit("give", 1)
    assert job.wait().state == "succeeded"
    job.cancel()
    with pytest.raises(JobExpired, match="succeeded, but its result was deleted"):
        job.result()


def test_the_progress_is_that_of_the_last_status(client: Client, gate: Gate) -> None:
    job = client.submit("report", {"percent": 42, "path": gate.path})
    assert job.progress is None
    wait_until(job.status, lambda status: status.progress == 42)
    assert job.progress == 42
    assert "running" in repr(job)


def test_a_result_keeps_its_media_type(client: Client) -> None:
    job = client.submit("text", {"text": "a,b\n", "media_type": "text/csv"})
    assert job.raw_result() == (b"a,b\n", "text/csv")
    assert job.result() == b"a,b\n"
    assert client.submit("text", {"text": "", "media_type": "text/csv"}).result() == b""
    assert client.submit("nothing").result() is None


def test_options_reach_the_job(client: Client) -> None:
    job = client.submit("give", 1, delay=60, priority=9, timeout=5, deadline=90, retries=0)
    assert job.status().state == "scheduled"
    job.cancel()
    with pytest.raises(Refused) as raised:
        client.submit("give", priority=10)
    assert raised.value.code == 422
    assert raised.value.errors
    assert raised.value.errors[0][0] == "priority"
    assert "priority: " in str(raised.value)


def give(payload: object) -> object:
    """Return the payload: the server's task of this name."""
    return payload


@headway.task(name="give_under_another_name")
def given(payload: object) -> object:
    """Return the payload."""
    return payload


def test_a_task_object_is_a_name(client: Client) -> None:
    assert client.submit(give, 7).result() == 7
    with pytest.raises(Refused, match="give_under_another_name"):
        client.submit(given)
    with pytest.raises(TypeError, match="is no task"):
        client.submit(7)


class Shop(msgspec.Struct):
    """A payload of msgspec."""

    name: str


@dataclasses.dataclass
class Order:
    """A payload of dataclasses."""

    shop: Shop
    due: date


def test_typed_payloads_are_encoded(client: Client) -> None:
    assert client.submit("give", Order(Shop("a"), date(2026, 11, 29))).result() == {
        "shop": {"name": "a"},
        "due": "2026-11-29",
    }
    with pytest.raises(TypeError, match="a payload of Client is not JSON"):
        client.submit("give", client)
    with pytest.raises(ValueError, match="JSON"):
        client.submit("give", float("nan"))


def test_content_is_a_payload_as_it_is(client: Client) -> None:
    job = client.submit("give", '{"a": 1}', media_type="application/json", priority=9, idempotency_key="raw-1")
    assert job.result() == {"a": 1}
    again = client.submit("give", '{"a": 1}', media_type="application/json", priority=9, idempotency_key="raw-1")
    assert again.id == job.id
    assert client.submit("content", b"\xff\xd8", media_type="image/jpeg").raw_result() == (b"\xff\xd8", "image/jpeg")
    with pytest.raises(Refused, match="no_such_task"):
        client.submit("no_such_task", b"\xff\xd8", media_type="image/jpeg")


def test_one_key_makes_one_job(client: Client, tmp_path: Path) -> None:
    payload = {"path": str(tmp_path / "notes"), "number": 1}
    first, second = (client.submit("note", payload, idempotency_key="order-1") for _ in range(2))
    assert first.id == second.id
    assert first.result() == second.result() == 1
    third = client.submit("note", payload, idempotency_key="order-1")
    assert third.id == first.id
    assert (tmp_path / "notes").read_text() == "1\n"
    with pytest.raises(Refused, match="key-reused"):
        client.submit("nothing", idempotency_key="order-1")


def test_a_job_is_found_by_id_path_and_url(client: Client) -> None:
    job = client.submit("give", 5)
    for name in (job.id, f"/jobs/{job.id}", job.url):
        assert client.job(name).result() == 5
    for name in ("", "a b", "/batches/1", "http://other:80/jobs/1", "../stats"):
        with pytest.raises(ValueError, match=r"is no URL of jobs|neither an id|is not on this client's server"):
            client.job(name)


def test_an_id_that_was_never_issued_is_said_to_be(client: Client) -> None:
    job = client.submit("nothing")
    wrong = client.job(job.id[:-1] + ("0" if job.id[-1] != "0" else "1"))
    elsewhere = client.job(f"{'0' * 8}{job.id[8:]}")
    for call in (wrong.wait, wrong.result, wrong.status, wrong.cancel, wrong.retry):
        with pytest.raises(NotIssued, match="the server never issued this id"):
            call()
    with pytest.raises(NotIssued, match="of another server"):
        elsewhere.wait()
    with pytest.raises(NotIssued):
        client.batch("0" * 40).wait()


def test_many_are_submitted_in_batches(server: Server) -> None:
    http = CountedInThreads()
    with http, Client(f"http://127.0.0.1:{server.port}", http=http) as client:
        jobs = client.submit_many(give, range(1500), idempotency_key="many")
        assert [job.payload for job in jobs] == list(range(1500))
        again = client.submit_many("give", range(1500), idempotency_key="many")
        assert [job.id for job in again] == [job.id for job in jobs]
        assert jobs[1234].result() == 1234
        assert client.submit_many("give", []) == []
    assert [sent.path for sent in http.seen[:4]] == ["/batches"] * 4


def test_a_batch_is_all_or_none(client: Client, gate: Gate) -> None:
    batch = client.submit_batch([Submission("give", 1), Submission("until_file", gate.path, priority=9)])
    assert batch.jobs[0].result() == 1
    assert client.batch(batch.url).status().pending == 1
    with pytest.raises(TimedOut, match=r"has jobs pending after 0\.1 s"):
        batch.wait(timeout=0.1)
    batch.cancel()
    status = batch.wait(timeout=10)
    assert (status.finished, status.succeeded, status.cancelled) == (True, 1, 1)
    assert status.jobs == {batch.jobs[0].id: "succeeded", batch.jobs[1].id: "cancelled"}
    with pytest.raises(Refused, match="no_such_task"):
        client.submit_batch([Submission("give"), Submission("no_such_task")])
    with pytest.raises(ValueError, match="1 to 1000"):
        client.submit_batch([])


def test_map_yields_in_the_order_of_completion(client: Client, gate: Gate) -> None:
    paths = [gate.path, *("/" for _ in range(20))]
    seen = []
    for job in client.map("until_file", iter(paths), window=10):
        seen.append(job.payload)
        if len(seen) == 20:
            gate.open()
        assert job.result() == job.payload
    assert seen == [*("/" for _ in range(20)), gate.path]


def test_map_yields_failed_jobs(client: Client) -> None:
    jobs = list(client.map("stubborn_failure", ["a", "b"], retries=0))
    assert {job.payload for job in jobs} == {"a", "b"}
    for job in jobs:
        with pytest.raises(JobFailed, match=f"ValueError: {job.payload}"):
            job.result()
    assert list(client.map("give", [])) == []


def test_map_takes_payloads_as_room_comes(client: Client) -> None:
    unfinished: list[int] = []
    yielded = 0

    def payloads() -> Iterator[int]:
        for number in range(40):
            unfinished.append(number + 1 - yielded)
            yield number

    for _ in client.map("give", payloads(), window=8):
        yielded += 1
    assert yielded == 40
    assert max(unfinished) == 8


def test_threads_share_a_client(client: Client) -> None:
    jobs = [client.submit("sleep", {"seconds": 0.2}) for _ in range(30)]
    ended: list[str] = []
    threads = [threading.Thread(target=lambda job=job: ended.append(job.wait().state)) for job in jobs]
    began = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert ended == ["succeeded"] * 30
    assert time.monotonic() - began < 5


def test_a_full_queue_is_waited_for_and_given_up(one_worker: Server, gate: Gate) -> None:
    with Client(f"http://127.0.0.1:{one_worker.port}") as client:
        filled = [client.submit("until_file", gate.path) for _ in range(7)]
        with pytest.raises(QueueFull, match="the queue is full, and patience=0 allows no further try: 429 "):
            client.submit("give", 1, patience=0)
        threading.Timer(0.3, gate.open).start()
        assert client.submit("give", 1).result() == 1
        assert all(job.wait().state == "succeeded" for job in filled)


def test_the_environment_names_the_server(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADWAY_URL", f"http://127.0.0.1:{server.port}/")
    monkeypatch.setenv("HEADWAY_TOKEN", "secret")
    with headway.Client() as client:
        assert client.url == f"http://127.0.0.1:{server.port}"
        assert client.submit("give", 1).result() == 1
        assert "secret" not in repr(client)


@pytest.mark.parametrize(
    ("given", "fault"),
    [
        ({"url": "localhost:8080"}, "url="),
        ({"url": "ftp://a"}, "url="),
        ({"url": "http://a?b"}, "url="),
        ({"connections": 1}, "connections=1"),
        ({"patience": -1}, "patience=-1"),
        ({"url": "http://a:b"}, "url="),
        ({"url": "http://a:65536"}, "url="),
        ({"url": "http://[::1"}, "url="),
        ({"token": "\u00e9"}, "token= "),
        ({"token": "s3cret\nb"}, "token= "),
        ({"token": "s3cret "}, "token= "),
    ],
)
def test_wrong_settings_are_refused(given: dict[str, Any], fault: str) -> None:
    for kind in (Client, headway.AsyncClient):
        with pytest.raises(ValueError, match=f"^{fault}.*is not allowed: expected") as raised:
            kind(**given)
        assert "s3cret" not in str(raised.value)
        assert "\n" not in str(raised.value)


def test_a_wrong_token_of_the_environment_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADWAY_TOKEN", "\u00e9")
    with pytest.raises(ValueError, match=r"^HEADWAY_TOKEN is not allowed: expected ASCII"):
        Client()
    with Client(token="right"):
        pass


NO_KEYS = ["", "a b", "a\r\nX: 1", "\u00e9", 'a"', "x" * 201, "0aF" * 12, "0" * 40, *(order.value for order in Action)]


@pytest.mark.parametrize("key", NO_KEYS)
def test_a_key_that_no_server_takes_is_refused_before_it_is_sent(serve: Serve, key: str) -> None:
    server, client = serve(lambda *_: None)
    calls: list[Callable[[], object]] = [
        lambda: client.submit("give", 1, idempotency_key=key),
        lambda: client.submit_batch([Submission("give", 1)], idempotency_key=key),
        lambda: client.submit_many("give", [1], idempotency_key=key),
        lambda: client.job("a").retry(idempotency_key=key),
    ]
    for call in calls:
        with pytest.raises(ValueError, match=r"^idempotency_key=.* is not allowed: expected ") as raised:
            call()
        assert "\n" not in str(raised.value)
    assert server.seen == []


def test_a_key_of_the_longest_length_is_taken(client: Client) -> None:
    assert client.submit("give", 1, idempotency_key="c" * 200).result() == 1
    jobs = client.submit_many("give", range(2001), idempotency_key="y" * 190)
    assert jobs[2000].result() == 2000
    with pytest.raises(ValueError, match="expected 1 to 190 of the characters"):
        client.submit_many("give", [1], idempotency_key="y" * 191)


@pytest.mark.parametrize(
    "media_type", ["", "a", "a/\u00e9", "text/plain\r\nX: 1", "text/plain\n", "a b/c", "a/b; c=\u00e9", "a/b; "]
)
def test_a_media_type_that_is_none_is_refused_before_it_is_sent(serve: Serve, media_type: str) -> None:
    server, client = serve(lambda *_: None)
    with pytest.raises(ValueError, match=r"^media_type=.* is not allowed: expected ") as raised:
        client.submit("give", b"1", media_type=media_type)
    assert "\n" not in str(raised.value)
    assert server.seen == []


def test_a_request_that_the_http_library_refuses_is_not_repeated(serve: Serve) -> None:
    server, _ = serve(lambda *_: None)
    with (
        httpx2.Client(headers={"X": "a\nb"}) as http,
        Client(f"http://127.0.0.1:{server.port}", http=http) as client,
        pytest.raises(ValueError, match=r"the request cannot be sent .*: check the http= of the client"),
    ):
        client.submit("give")
    assert server.seen == []


def deep() -> object:
    value: list[object] = []
    for _ in range(100_000):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("task", "payload", "media_type", "error", "fault"),
    [
        ("give", {(1, 2): 3}, None, TypeError, "keys must be .*not tuple"),
        ("give", ["\ud800"], None, ValueError, r"the submission has '\\ud800', which is no character"),
        ("give", "\ud800", "text/plain", ValueError, r"the payload has '\\ud800', which is no character"),
        ("\ud800", b"", None, ValueError, r"the name of the task has '\\ud800', which is no character"),
        ("give", deep(), None, ValueError, "the payload is nested too deeply for JSON"),
    ],
)
def test_a_payload_that_no_json_has_is_told(
    client: Client, task: str, payload: object, media_type: str | None, error: type[Exception], fault: str
) -> None:
    with pytest.raises(error, match=fault) as raised:
        client.submit(task, payload, media_type=media_type)
    assert type(raised.value) is error


def test_characters_of_two_halves_are_sent(client: Client) -> None:
    assert client.submit("give", "\U0001f600 \\ud800").result() == "\U0001f600 \\ud800"


def test_a_server_tells_version_and_contract(client: Client) -> None:
    assert client.server() == ServerInfo(headway.__version__, 1)


def test_a_demand_that_the_server_does_not_keep_submits_nothing(client: Client) -> None:
    assert client.submit("give", 1, durability="memory").result() == 1
    if not WITH_JOURNAL:
        with pytest.raises(Refused, match="not-durable"):
            client.submit("give", 1, durability="disk")
