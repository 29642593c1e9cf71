"""``headway list``, ``status``, ``log`` and ``events``, of a server whose answers the test writes."""

from __future__ import annotations

import json
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.headway.cli.conftest import run
from tests.headway.client.answered import ID, OTHER, answer, field, problem, target
from tests.headway.client.test_events import chunked, event
from tests.headway.client.test_finding import ATTEMPTS, ENTRY, page
from tests.headway.client.test_logs import part, whole
from tests.sim.scripted import Last, Script, Scripted


def serving(*answers: bytes | None) -> Scripted:
    """Return a server that gives these answers, the last one again and again."""
    script: Script = lambda _, number: answers[min(number, len(answers) - 1)]  # noqa: E731
    return Scripted(script)


# Listing.


def test_list_shows_why_jobs_failed() -> None:
    with serving(
        page(ENTRY, {**ENTRY, "task": "a\x1b[2J\nb"}, {"id": OTHER, "state": "failed", "task": "report"})
    ) as server:
        ran = run(server.port, "list", "--failed")
    assert ran.lines[1:] == [
        f"{ID}  failed     2026-11-28T23:00:00.000Z  report (timeout)",
        f"{ID}  failed     2026-11-28T23:00:00.000Z  a b (timeout)",
        f"{OTHER}  failed                               report",
    ]


@pytest.mark.parametrize(
    ("options", "members"),
    [
        ("", {}),
        ("--failed --since 1d", {"state": ["failed"], "ended_after": ["1d"]}),
        ("--state queued --failed --since 1d", {"state": ["queued", "failed"], "submitted_after": ["1d"]}),
        ("--reason timeout --before 2h", {"reason": ["timeout"], "ended_before": ["2h"]}),
        ("--since 30m", {"submitted_after": ["30m"]}),
        ("--task a --tag b:1 --error no", {"task": ["a"], "tag": ["b:1"], "error": ["no"]}),
        (
            "--state succeeded --since 2026-11-29T10:00:00+01:00",
            {"state": ["succeeded"], "ended_after": ["2026-11-29T09:00:00.000Z"]},
        ),
    ],
)
def test_options_of_list_are_a_filter(options: str, members: dict[str, list[str]]) -> None:
    with serving(page()) as server:
        assert run(server.port, "list", *options.split()).code == 0
        assert parse_qs(urlsplit(target(server.seen[0]).partition(" ")[2]).query) == members | {"limit": ["50"]}


def test_list_asks_for_no_more_than_it_shows() -> None:
    with serving(page(following="/jobs?after=7"), page(ENTRY, ENTRY, following="/jobs?after=1")) as server:
        assert len(run(server.port, "list", "-q", "--limit", 2).lines) == 2
        assert len(server.seen) == 2


# Status.

RUNNING = {"id": ID, "state": "running", "task": "report", "attempt": 2, "tags": ["a", "b:1"], "message": "page 12"}
RUNNING |= {"submitted": "2026-11-28T23:00:00.000Z", "attempts": ATTEMPTS}
RUNNING["attempts"] = [
    ATTEMPTS[0] | {"error": {"type": "E", "message": "a\nb", "traceback": "Trace\n  \x1b[2Jline\n"}},
    ATTEMPTS[1] | {"attempt": 25},
]
RUNNING |= {"attempt": 25, "attempts_left_out": 23}


def test_status_shows_attempts() -> None:
    with serving(answer(202, RUNNING, "Job-State: running", "Job-Attempt: 25")) as server:
        ran = run(server.port, "status", ID)
        assert (ran.code, ran.lines[3:]) == (
            0,
            [
                "tags        a, b:1",
                "attempt     25",
                "message     page 12",
                "submitted   2026-11-28T23:00:00.000Z",
                "attempts    1  failed (error) in a thread after 1.500 s: E: a b",
                "            ...  23 attempts are no longer kept",
                "            25  running in a thread",
            ],
        )
        ran = run(server.port, "status", ID, "--traceback")
        assert ran.lines[-5:-1] == [
            "attempts    1  failed (error) in a thread after 1.500 s: E: a b",
            "               Trace",
            "                 line",
            "            ...  23 attempts are no longer kept",
        ]
        (document,) = run(server.port, "status", ID, "--json").documents
        assert document == RUNNING


# Logs.


def test_log_writes_the_text_alone() -> None:
    with serving(whole("ü\x1b[1m\n".encode(), 7), part(b"z\n", 905)) as server:
        ran = run(server.port, "log", ID)
        assert (ran.code, ran.out.encode("latin-1").decode(), ran.err) == (0, "ü\x1b[1m\n", "")
        (document,) = run(server.port, "log", ID, "-c", 2, "--json").documents
        assert document == {"id": ID, "state": "running", "start": 905, "end": 907, "text": "z\n"}
        assert field(server.seen[1], "range") == "bytes=-2"


def test_log_is_followed_to_the_end_of_the_job() -> None:
    failed = problem(424, "job-failed", "Job-State: failed")
    with serving(part(b"a\n", 0), None, part(b"b\n", 2, 4, "failed"), failed) as server:
        ran = run(server.port, "log", ID, "-f")
        assert (ran.code, ran.out) == (1, "a\nb\n")
        assert "trying again for 30 s" in ran.err


# Events.


def test_events_are_lines() -> None:
    with serving(
        Last(chunked(event(1, "retrying", tags=["a", "b"], attempt=2, reason="timeout"))),
        Last(chunked(b'id: 8\nevent: reset\ndata: {"missed":1700}\n\n', event(9, "failed"))),
    ) as server:
        ran = run(server.port, "events", ID)
    assert ran.code == 1
    assert ran.lines == [
        f"2026-11-29T08:00:00.000Z  {ID}  retrying   report (attempt 2, timeout)  a  b",
        f"2026-11-29T08:00:00.000Z  {ID}  failed     report (attempt 1)",
    ]
    assert ran.err == "headway: 1,700 events before this were missed\n"


def test_events_are_documents() -> None:
    refused = problem(422, "unknown-task")
    with serving(Last(chunked(event(1, "queued", tags=["a"]), b"event: reset\ndata: {}\n\n")), refused) as server:
        ran = run(
            server.port, "events", "--task", "report", "--state", "queued", "--state", "failed", "--tag", "a", "--json"
        )
        assert target(server.seen[0]) == "GET /events?task=report&state=queued&state=failed&tag=a"
    first, second = ran.documents
    assert first == {
        "event": "state",
        "event_id": "1",
        "id": ID,
        "task": "report",
        "state": "queued",
        "attempt": 1,
        "tags": ["a"],
        "time": "2026-11-29T08:00:00.000Z",
    }
    assert second == {"event": "reset", "event_id": "1"}
    assert ran.code == 5


# Wrong usage.


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["list", "--since", "yesterday"], "'yesterday' is no time: expected an age such as 90s, 30m, 12h or 1d"),
        (["list", "--reason", "bad"], "'bad' is not one of"),
        (["events", ID, "--task", "a"], "expected an id or a filter, not both"),
        (["log", ID, "-c", "0"], "'--bytes'"),
        (["log", "a b"], "'a b' is neither an id nor a URL of jobs"),
        (["hold", "a", "--until", "soon"], "'soon' is no time: expected a time from now such as 30m, 2h or 1d"),
        (["hold", "a", "--until", "999999999999w"], "is too long"),
        (["submit", "a", "--keep", "-1s"], "is no time"),
        (["submit", "a", "--delay", "-1"], "'-1' is below 0"),
    ],
)
def test_wrong_usage_is_one_line(arguments: list[str], said: str) -> None:
    ran = run(1, *arguments)
    assert (ran.code, ran.out) == (2, "")
    (line,) = ran.err.splitlines()
    assert said in line


def test_times_have_units() -> None:
    accepted = answer(202, {}, f"Location: /jobs/{ID}", "Job-State: queued")
    with serving(accepted) as server:
        for time, seconds in (("90", 90), ("1.5s", 1.5), ("250ms", 0.25), ("10m", 600), ("2h", 7200), ("1d", 86400)):
            assert (
                run(server.port, "submit", "give", "--delay", time, "--keep", "1w", "--tag", "a", "--tag", "b").code
                == 0
            )
            sent = json.loads(server.seen[-1].rpartition(b"\r\n")[2])
            assert sent == {"task": "give", "payload": None, "delay": seconds, "tags": ["a", "b"], "keep": 604_800}
