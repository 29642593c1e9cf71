"""``find``: filters, pages, and the facts of each job."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from headway.client import HeadwayError, NotHeadway, Refused
from tests.end_to_end.process import Server
from tests.headway.client.answered import ID, OTHER, answer, problem, target
from tests.headway.client.both import Ask, both
from tests.headway.client.conftest import Serve

ENTRY = {"id": ID, "state": "failed", "task": "report", "attempt": 2, "reason": "timeout"}
ENTRY |= {"submitted": "2026-11-28T23:00:00.000Z", "ended": "2026-11-28T23:10:30.500Z", "tags": ["customer:42", "a,b"]}


def page(*entries: dict[str, Any], following: str | None = None) -> bytes:
    return answer(200, {"jobs": list(entries), "next": following})


@both
def test_jobs_are_found_page_by_page(serve: Serve, ask: Ask) -> None:
    other = {**ENTRY, "id": OTHER, "state": "cancelled"}
    pages = [
        page(ENTRY, following="/jobs?state=failed&limit=1000&after=9"),
        page(following="/jobs?after=5"),
        page(other),
    ]
    server, _ = serve(lambda _, number: pages[number])
    jobs = ask(server.port, lambda client: client.find(state="failed"))
    assert [(job.id, job.last.state) for job in jobs] == [(ID, "failed"), (OTHER, "cancelled")]
    assert list(map(target, server.seen)) == [
        "GET /jobs?state=failed&limit=1000",
        "GET /jobs?state=failed&limit=1000&after=9",
        "GET /jobs?after=5",
    ]
    status = jobs[0].last
    assert (status.task, status.attempt, status.reason, status.tags) == ("report", 2, "timeout", ("customer:42", "a,b"))
    assert status.submitted == datetime(2026, 11, 28, 23, tzinfo=UTC)
    assert (status.ended - status.submitted).total_seconds() == 630.5


@both
def test_a_page_is_asked_for_when_it_is_needed(serve: Serve, ask: Ask) -> None:
    server, _ = serve(lambda *_: page(ENTRY, ENTRY, following="/jobs?after=1"))
    assert len(ask(server.port, lambda client: client.find(), most=2)) == 2
    assert list(map(target, server.seen)) == ["GET /jobs?limit=1000"]


@both
def test_a_filter_is_a_query(serve: Serve, ask: Ask) -> None:
    def report() -> None:
        """A task by its function."""

    server, _ = serve(lambda *_: page())
    since = datetime(2026, 11, 29, 9, 0, 0, 250_000, tzinfo=UTC)
    ask(
        server.port,
        lambda client: client.find(
            state=["failed", "cancelled"],
            task=report,
            tag="a,b&c=d",
            error="ü 1+1",
            submitted_after="1d",
            ended_after=since,
            ended_before=timedelta(hours=1),
        ),
    )
    members = parse_qs(urlsplit(target(server.seen[0]).partition(" ")[2]).query)
    ended_before = datetime.fromisoformat(members.pop("ended_before")[0])
    assert abs((datetime.now(UTC) - ended_before).total_seconds() - 3600) < 60
    assert members == {
        "state": ["failed", "cancelled"],
        "task": ["report"],
        "tag": ["a,b&c=d"],
        "error": ["ü 1+1"],
        "submitted_after": ["1d"],
        "ended_after": ["2026-11-29T09:00:00.250Z"],
        "limit": ["1000"],
    }
    # A comma that separates is bare, or there is none. One that is encoded belongs to a value.
    assert "%2C" in target(server.seen[0])
    assert "failed%2C" not in target(server.seen[0])


@pytest.mark.parametrize(
    ("wanted", "fault"),
    [
        ({"stat": "failed"}, "stat= is no member of a filter: expected state, task, tag"),
        ({"tag": 7}, "tag=7 is not allowed: expected a text"),
        ({"ended_after": 7}, "ended_after=7 is not allowed: expected a datetime, a timedelta or a text"),
        ({"task": 7}, "7 is no task"),
    ],
)
@both
def test_a_filter_of_another_type_is_refused_before_it_is_sent(
    serve: Serve, ask: Ask, wanted: dict[str, Any], fault: str
) -> None:
    server, _ = serve(lambda *_: page())
    with pytest.raises(TypeError, match=fault):
        ask(server.port, lambda client: client.find(**wanted))
    assert server.seen == []


@pytest.mark.parametrize(
    ("said", "error"),
    [
        (problem(422, "invalid", errors=[{"field": "state", "detail": "is not one of"}]), Refused),
        (answer(200, b"[]"), NotHeadway),
        (answer(200, {"jobs": 7}), NotHeadway),
    ],
)
@both
def test_an_answer_that_is_no_list_has_its_error(
    serve: Serve, ask: Ask, said: bytes, error: type[HeadwayError]
) -> None:
    server, _ = serve(lambda *_: said)
    with pytest.raises(error):
        ask(server.port, lambda client: client.find(state="gone"))


ATTEMPTS = [
    {
        "attempt": 1,
        "started": "2026-11-28T23:00:00.000Z",
        "ended": "2026-11-28T23:00:01.500Z",
        "place": "thread",
        "outcome": "failed",
        "reason": "error",
        "error": {"type": "ValueError", "message": "no such shop", "traceback": "Traceback …"},
    },
    {"attempt": 2, "started": "2026-11-28T23:00:05.000Z", "place": "thread", "outcome": "running"},
]


@both
def test_a_status_has_attempts_tags_and_message(serve: Serve, ask: Ask) -> None:
    document = {"id": ID, "state": "running", "task": "report", "attempt": 2, "tags": ["a"], "message": "page 12 of ü"}
    lines = ["Job-State: running", "Job-Attempt: 2", "Job-Progress: 40"]
    server, _ = serve(lambda *_: answer(202, document | {"attempts": ATTEMPTS}, *lines))
    status = ask(server.port, lambda client: client.job(ID).status())
    assert (status.task, status.tags, status.message, status.progress) == ("report", ("a",), "page 12 of ü", 40)
    first, second = status.attempts
    assert (first.number, first.place, first.outcome, first.reason) == (1, "thread", "failed", "error")
    assert (first.error_type, first.error, first.traceback) == ("ValueError", "no such shop", "Traceback …")
    assert (first.ended - first.started).total_seconds() == 1.5
    assert (second.number, second.outcome, second.ended, second.error) == (2, "running", None, None)


@both
def test_a_status_tells_why_a_job_waits_and_how_long_it_is_kept(serve: Serve, ask: Ask) -> None:
    held = answer(202, {"id": ID, "state": "queued"}, "Job-State: queued", "Job-Held: new printer, %C3%BC")
    kept = problem(424, "job-failed", "Job-State: failed", "Sunset: Sun, 06 Dec 2026 12:00:00 GMT", tags=["a"])
    server, _ = serve(lambda _, number: (held, kept)[number])
    assert ask(server.port, lambda client: client.job(ID).status()).held == "new printer, ü"
    status = ask(server.port, lambda client: client.job(ID).status())
    assert (status.kept_until, status.tags) == (datetime(2026, 12, 6, 12, tzinfo=UTC), ("a",))


BROKEN = {"attempts": [7, {"error": 7, "started": "yesterday"}], "tags": "a", "message": 7, "attempt": True, "task": []}


@both
def test_a_status_of_nonsense_has_no_facts(serve: Serve, ask: Ask) -> None:
    server, _ = serve(lambda *_: answer(202, BROKEN, "Job-State: running", "Sunset: never", "Job-Message: a%20%C3%BC"))
    status = ask(server.port, lambda client: client.job(ID).status())
    assert (status.state, status.tags, status.message, status.task, status.kept_until) == (
        "running",
        (),
        "a ü",
        None,
        None,
    )
    (attempt,) = status.attempts
    assert (attempt.number, attempt.started, attempt.error) == (0, None, None)


def test_a_result_is_not_taken_for_a_status(serve: Serve) -> None:
    """A task may return what looks like one."""
    said = answer(200, {"tags": ["forged"], "message": "forged"}, "Job-State: succeeded")
    _, client = serve(lambda *_: said)
    assert client.job(ID).result() == {"tags": ["forged"], "message": "forged"}
    assert client.job(ID).status().tags == ("forged",)


@both
def test_a_submission_has_tags_and_a_time_to_be_kept(serve: Serve, ask: Ask) -> None:
    accepted = answer(202, {}, f"Location: /jobs/{ID}", "Job-State: queued")
    batch = answer(202, {"id": "0" * 40, "jobs": [ID]}, "Batch-Pending: 1")
    server, _ = serve(lambda *_: batch if b" /batches" in server.seen[-1] else accepted)
    ask(server.port, lambda client: client.submit("give", 1, tags=["customer:42", "b"], keep=3600))
    ask(server.port, lambda client: client.submit("give", b"1", tags=("a,b", "c"), keep=60, priority=9))
    ask(server.port, lambda client: client.submit_many("give", [1], tags=["d"]))
    ask(server.port, lambda client: client.submit("give", 1))
    assert server.seen[0].endswith(b'{"task":"give","payload":1,"tags":["customer:42","b"],"keep":3600}')
    assert target(server.seen[1]) == "POST /tasks/give/jobs?priority=9&tags=a%2Cb&tags=c&keep=60"
    assert server.seen[2].endswith(b'[{"task":"give","payload":1,"tags":["d"]}]')
    assert server.seen[3].endswith(b'{"task":"give","payload":1}')
    with pytest.raises(TypeError, match="tags='a' is not allowed: expected a list of texts"):
        ask(server.port, lambda client: client.submit("give", 1, tags="a"))
    with pytest.raises(TypeError, match=r"delay=datetime.timedelta\(seconds=1\) is not allowed: expected seconds"):
        ask(server.port, lambda client: client.submit("give", 1, delay=timedelta(seconds=1)))


def test_a_filter_is_typed(serve: Serve) -> None:
    _, client = serve(lambda *_: page(ENTRY))
    found: list[str] = [job.id for job in client.find(state="failed", ended_after=timedelta(days=1))]
    assert found == [ID]


# On a live server.


@both
def test_jobs_are_found_by_all_that_is_known_of_them(server: Server, ask: Ask) -> None:
    tag = f"{ask.__name__}:1,2"
    many = ask(server.port, lambda client: client.submit_many("nothing", [None] * 3, tags=[tag]))
    one = ask(server.port, lambda client: client.submit("fail", {"message": f"No {tag} here"}, tags=["x", tag]))
    raw = ask(server.port, lambda client: client.submit("content", b"1", media_type="text/csv", tags=[tag]))
    later = ask(server.port, lambda client: client.submit("nothing", delay=600, tags=[tag]))
    for job in (*many, one, raw):
        ask(server.port, lambda client, job=job: client.job(job.id).wait())

    def found(**wanted: Any) -> list[str]:
        return [job.id for job in ask(server.port, lambda client: client.find(**wanted))]

    newest = [later.id, raw.id, one.id, *(job.id for job in reversed(many))]
    assert found(tag=tag) == newest
    assert found(tag=tag, state=["scheduled", "failed"]) == [later.id, one.id]
    assert found(tag=tag, task="content") == [raw.id]
    assert found(reason="error", error=f"no {tag} HERE") == [one.id]
    assert found(tag=tag, submitted_after="1h") == newest
    assert found(tag=tag, submitted_before=timedelta(hours=1)) == []
    assert found(tag=tag, ended_after=datetime.now(UTC) - timedelta(hours=1)) == newest[1:]
    (job,) = ask(server.port, lambda client: client.find(state="failed", tag=tag))
    assert (job.last.task, job.last.reason, job.last.attempt, job.last.tags) == ("fail", "error", 1, ("x", tag))
    assert job.last.submitted <= job.last.ended
    status = ask(server.port, lambda client: client.job(many[0].id).status())
    assert (status.state, status.task, status.attempt, status.tags) == ("succeeded", "nothing", 1, (tag,))
    assert status.submitted <= status.started <= status.ended < status.kept_until
    ask(server.port, lambda client: client.job(later.id).cancel())


@both
def test_attempts_are_told_with_their_errors(server: Server, ask: Ask) -> None:
    job = ask(server.port, lambda client: client.submit("fail_until_attempt", 2, retries=1))
    ask(server.port, lambda client: client.job(job.id).wait())
    status = ask(server.port, lambda client: client.job(job.id).status())
    failed, succeeded = status.attempts
    assert (failed.number, failed.outcome, failed.place, failed.reason) == (1, "failed", "loop", "error")
    assert (failed.error_type, failed.error) == ("ValueError", "attempt 1")
    assert failed.traceback.startswith("Traceback (most recent call last)")
    assert (succeeded.number, succeeded.outcome, succeeded.error) == (2, "succeeded", None)
    assert failed.started <= failed.ended <= succeeded.started <= succeeded.ended
    assert (status.attempt, status.attempts_left_out) == (2, 0)


@both
def test_a_job_is_kept_for_as_long_as_it_asks(server: Server, ask: Ask) -> None:
    jobs = ask(server.port, lambda client: client.submit_many("nothing", [None], keep=60))
    jobs.append(ask(server.port, lambda client: client.submit("nothing", b"null", keep=60)))
    for job in jobs:
        ask(server.port, lambda client, job=job: client.job(job.id).wait())
        status = ask(server.port, lambda client, job=job: client.job(job.id).status())
        assert 58 <= (status.kept_until - status.ended).total_seconds() <= 60
    with pytest.raises(Refused, match="keep"):
        ask(server.port, lambda client: client.submit("nothing", keep=-1))


@pytest.mark.parametrize(
    ("wanted", "fault"),
    [
        ({"state": "gone"}, "state"),
        ({"ended_after": "yesterday"}, "ended_after"),
        ({"reason": "bad"}, "reason"),
        ({"task": "no_such_task"}, "no_such_task"),
    ],
)
@both
def test_a_filter_of_nonsense_is_told(server: Server, ask: Ask, wanted: dict[str, Any], fault: str) -> None:
    with pytest.raises(Refused, match=fault) as raised:
        ask(server.port, lambda client: client.find(**wanted))
    assert raised.value.code == 422
    assert "\n" not in str(raised.value)
