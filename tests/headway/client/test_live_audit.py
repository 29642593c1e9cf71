"""The audit log of a live server, by the client and on the command line."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from headway.client import Change
from tests.conftest import Start
from tests.headway.cli.conftest import run
from tests.headway.cli.test_looks import serving
from tests.headway.client.answered import ID, answer
from tests.headway.client.both import Ask, both

ENTRY: dict[str, Any] = {
    "number": 7,
    "time": "2026-11-29T08:00:00.000Z",
    "who": "night shift",
    "address": "192.0.2.7",
    "what": "cancelJob",
    "target": ID,
    "filter": None,
    "count": None,
    "job": None,
    "code": 204,
}
OF_MANY = ENTRY | {"number": 6, "who": None, "what": "retryJobs", "target": None, "filter": "state=failed", "code": 202}
ITSELF = dict.fromkeys(ENTRY) | {"number": 5, "time": ENTRY["time"], "what": "reload\x1b[2JTokens"}


@both
def test_changes_are_told_newest_first(start: Start, ask: Ask) -> None:
    port = start().port
    for number in range(3):
        job = ask(port, lambda client, number=number: client.submit("give", number, delay=1000))
        ask(port, lambda client, job=job: client.job(job.id).cancel())
    changes: list[Change] = ask(port, lambda client: client.audit())
    assert [(change.number, change.what, change.code) for change in changes] == [
        (number, "cancelJob", 204) for number in (3, 2, 1)
    ]
    assert (changes[0].target, changes[0].who, changes[0].address) == (job.id, None, "127.0.0.1")
    assert changes[0].time is not None
    assert abs(datetime.now(UTC) - changes[0].time) < timedelta(seconds=60)
    assert [change.number for change in ask(port, lambda client: client.audit(2))] == [3, 2]
    documents = run(port, "audit", "--limit", 1, "--json").documents
    assert [(entry["number"], entry["target"]) for entry in documents] == [(3, job.id)]


def test_the_command_shows_a_table() -> None:
    with serving(answer(200, {"entries": [ENTRY, OF_MANY, ITSELF], "next": None})) as server:
        ran = run(server.port, "audit")
    assert ran.code == 0
    assert ran.lines[0].split() == ["NUMBER", "TIME", "WHO", "WHAT", "TARGET", "CODE"]
    assert [line.split() for line in ran.lines[1:]] == [
        ["7", "2026-11-29T08:00:00.000Z", "night", "shift", "cancelJob", ID, "204"],
        ["6", "2026-11-29T08:00:00.000Z", "192.0.2.7", "retryJobs", "state=failed", "202"],
        ["5", "2026-11-29T08:00:00.000Z", "-", "reloadTokens", "-", "-"],
    ]


def test_pages_are_asked_for_as_they_are_needed() -> None:
    first = answer(200, {"entries": [ENTRY], "next": "/base/audit?limit=1000&after=7"})
    with serving(first, answer(200, {"entries": [OF_MANY], "next": None})) as server:
        documents = run(server.port, "audit", "--json", "--limit", 5000).documents
        assert [request.partition(b" HTTP")[0] for request in server.seen] == [
            b"GET /audit?limit=1000",
            b"GET /audit?limit=1000&after=7",
        ]
    assert documents == [ENTRY, OF_MANY]


def test_an_answer_that_is_no_audit_log_is_an_error() -> None:
    with serving(answer(200, {"jobs": []})) as server:
        ran = run(server.port, "audit")
    assert (ran.code, ran.out) == (6, "")
    assert "GET /audit" in ran.err
