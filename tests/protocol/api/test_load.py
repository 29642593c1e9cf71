"""The load on the wire: header fields of HEAD and GET, and members of the document."""

from __future__ import annotations

import pytest

from tests.end_to_end.process import Gate, Server, wait_until
from tests.protocol.wire import Answer

MEMBERS = {
    "queue-length": "queue_length",
    "queue-oldest-ms": "queue_oldest_ms",
    "queue-wait-ms": "queue_wait_ms",
    "workers-busy": "workers_busy",
    "workers-wanted": "workers_wanted",
}
# Those that do not change while nothing moves.
STEADY = ("queue-length", "workers-busy", "workers-wanted")


def fields(answer: Answer) -> dict[str, int]:
    assert answer.status == 200
    return {name: int(answer[name]) for name in MEMBERS}


@pytest.mark.parametrize("target", ["/stats", "/tasks/nothing", "/tasks/with%20%2F%20and%20%C3%A9"])
def test_nothing_waits(one_worker: Server, target: str) -> None:
    assert fields(one_worker.head(target)) == dict.fromkeys(MEMBERS, 0)
    answer = one_worker.get(target)
    assert fields(answer) == dict.fromkeys(MEMBERS, 0)
    assert {answer.json[member] for member in MEMBERS.values()} == {0}


def test_jobs_that_wait_are_told_by_task_and_together(one_worker: Server, gate: Gate) -> None:
    one_worker.submit("until_file", gate.path)
    wait_until(lambda: fields(one_worker.head("/tasks/until_file"))["workers-busy"], bool)
    for task in ("nothing", "nothing", "count"):
        one_worker.submit(task)
    one_worker.submit("count", delay=1000)
    told = {target: fields(one_worker.head(target)) for target in ("/tasks/nothing", "/tasks/count", "/stats")}
    assert [told[target]["queue-length"] for target in told] == [2, 1, 3]
    assert [told[target]["workers-busy"] for target in told] == [0, 0, 1]
    assert all(0 < told[target]["workers-wanted"] <= 4 for target in told)
    assert all(told[target]["queue-wait-ms"] > 0 for target in told)
    for target in told:
        answer = one_worker.get(target)
        assert {name: answer.json[MEMBERS[name]] for name in STEADY} == {name: told[target][name] for name in STEADY}
        for name, member in MEMBERS.items():
            assert answer.json[member] == int(answer[name])
        assert answer.json["queue_oldest_ms"] >= told[target]["queue-oldest-ms"]


def test_an_unknown_task_has_no_load(server: Server) -> None:
    answer = server.head("/tasks/no-such-task")
    assert answer.status == 404
    assert not set(MEMBERS) & set(answer.headers)
