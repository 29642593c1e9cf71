"""Two nodes of one store: what is seen, held, ordered and logged at one is so at the other."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.end_to_end.process import AS_SHIPPED, TASKS, Gate, Server, launch, wait_until
from tests.protocol.events import EventWire
from tests.protocol.wire import request

# Nodes and servers that begin, die and come back take their time.
pytestmark = pytest.mark.long

JSON = "Content-Type: application/json"
# A node that was not heard for 10 s is dead, and its jobs run elsewhere within 15 s.
RECLAIMED_S = 15.0


@contextmanager
def node(folder: Path, name: str, url: str, exit_code: int = 0, **settings: object) -> Iterator[Server]:
    """Serve as one of the nodes of a store."""
    (folder / name).mkdir()
    chosen = {"engine": url, "journal__path": AS_SHIPPED, "tasks": TASKS, **settings}
    with launch(folder / name, chosen, exit_code) as server:
        yield server


def switch(server: Server, task: str, **members: object) -> None:
    answer = server.ask(request("PATCH", f"/tasks/{task}", JSON, body=json.dumps(members).encode()))
    assert answer.status == 200, answer


def state(server: Server, path: str) -> str:
    return server.head(path)["job-state"]


def test_events_of_one_node_are_told_at_the_other_and_go_on_there(tmp_path: Path, store_url: str) -> None:
    with node(tmp_path, "one", store_url) as one, node(tmp_path, "other", store_url) as other:
        with EventWire(other.port) as stream:
            path = one.run("give", 1)
            told = stream.some(3)
        assert [event.data["state"] for event in told] == ["queued", "running", "succeeded"]
        assert {event.data["id"] for event in told} == {path.rpartition("/")[2]}
        late = one.run("give", 2).rpartition("/")[2]
        # The client comes back, and is sent to the other node.
        with EventWire(one.port, "/events", f"Last-Event-ID: {told[0].id}") as stream:
            rest = stream.some(5)
        assert [event.id for event in rest[:2]] == [event.id for event in told[1:]]
        assert {event.data["id"] for event in rest[2:]} == {late}
        # The events of a job that has ended end.
        with EventWire(other.port, f"{path}/events") as stream:
            assert [event.data["state"] for event in stream.rest()] == ["succeeded"]


def test_no_end_of_a_job_is_missed_by_who_begins_to_read_its_events(tmp_path: Path, store_url: str) -> None:
    with node(tmp_path, "one", store_url) as one, node(tmp_path, "other", store_url, workers=1) as other:
        for number in range(30):
            path = one.submit("give", number)
            # It runs anywhere, and ends before, while or after this stream begins.
            with EventWire((one, other)[number % 2].port, f"{path}/events", patience_s=5) as stream:
                assert stream.rest()[-1].data["state"] == "succeeded"


def test_a_hold_at_one_node_holds_the_other(tmp_path: Path, store_url: str) -> None:
    with node(tmp_path, "one", store_url) as one, node(tmp_path, "other", store_url) as other:
        switch(one, "give", dispatch="hold", reason="the printer burns")
        jobs = [server.submit("give", 1) for server in (one, other) for _ in range(3)]
        wait_until(lambda: other.get("/tasks/give").json["dispatch"], lambda dispatch: dispatch == "hold")
        other.run("nothing")
        time.sleep(0.5)
        assert {state(server, path) for path in jobs for server in (one, other)} == {"queued"}
        assert other.get(jobs[0]).json["held"] == "the printer burns"
        switch(one, "give", intake="closed")
        wait_until(lambda: other.get("/tasks/give").json["intake"], lambda intake: intake == "closed")
        answer = other.ask(request("POST", "/jobs", JSON, body=b'{"task": "give"}'))
        assert (answer.status, answer.json["type"].rpartition(":")[2]) == (503, "task-closed")
        switch(other, "give", dispatch="run", intake="open")
        for path in jobs:
            one.wait_for(path, "succeeded")


def test_the_log_of_a_job_of_one_node_is_followed_at_the_other(tmp_path: Path, store_url: str, gate: Gate) -> None:
    with node(tmp_path, "one", store_url) as one:
        payload = {"texts": ["begun"], "path": gate.path, "more": ["gone on"]}
        path = one.submit("log_texts", payload)
        one.wait_for(path, "running")
        with node(tmp_path, "other", store_url) as other:
            wait_until(lambda: other.get(f"{path}/log").body, lambda body: body == b"begun\n")
            with other.wire() as wire:
                wire.send(request("GET", f"{path}/log", "Range: bytes=6-", "Prefer: wait=10"))
                time.sleep(0.2)
                gate.open()
                assert wire.read().body == b"gone on\n"
            other.wait_for(path, "succeeded")
            assert other.get(f"{path}/log").body == b"begun\ngone on\n"


@pytest.mark.long
def test_an_order_of_a_node_that_was_killed_goes_on_at_another_once_each(tmp_path: Path, store_url: str) -> None:
    count, settings = 60, {"queue__size": 20}
    with node(tmp_path, "one", store_url, -signal.SIGKILL, **settings) as one:
        for number in range(count):
            one.run("fail", tags=[f"n{number}", "all"])
        # Those that are retried wait, so the order waits for room.
        switch(one, "fail", dispatch="hold")
        order = one.ask(request("POST", "/jobs/retry?tag=all&state=failed", body=b""))["location"]
        wait_until(lambda: one.stats()["waiting"], lambda waiting: waiting == 18)
        assert state(one, order) == "running"
        one.signal(signal.SIGKILL)
        one.wait()
    killed = time.monotonic()
    with node(tmp_path, "other", store_url, **settings) as other:
        wait_until(
            lambda: other.get(order).json,
            lambda job: job["attempt"] == 2,
        )
        assert time.monotonic() - killed < RECLAIMED_S
        switch(other, "fail", dispatch="run")
        other.wait_for(order, "succeeded")
        assert other.get(f"{order}/result").json == {"matched": count, "done": count, "skipped": 0}
        for number in range(count):
            assert len(other.get(f"/jobs?tag=n{number}").json["jobs"]) == 2
