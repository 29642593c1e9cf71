"""Orders of a person: switches of tasks, changes of jobs, orders about many jobs."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest

from headway.client import Matches, NotHeadway, Refused, TaskClosed
from tests.headway.client.answered import ID, answer, content, field, problem, target
from tests.headway.client.both import Ask, both
from tests.headway.client.conftest import Serve

TASK = {"name": "re/port", "dispatch": "hold", "intake": "open", "until": "2026-11-29T10:00:00Z", "reason": "printer"}


@both
def test_the_switches_of_a_task_are_turned(serve: Serve, ask: Ask) -> None:
    server, _ = serve(lambda *_: answer(200, TASK))
    until = datetime(2026, 11, 29, 10, tzinfo=UTC)
    switches = ask(server.port, lambda client: client.hold("re/port", until=until, reason="printer"))
    assert (switches.task, switches.dispatch, switches.intake) == ("re/port", "hold", "open")
    assert (switches.until, switches.reason) == (until, "printer")
    ask(server.port, lambda client: client.resume("re/port"))
    ask(server.port, lambda client: client.close_intake("re/port"))
    ask(server.port, lambda client: client.open_intake("re/port"))
    ask(server.port, lambda client: client.hold("re/port", until=timedelta(hours=2)))
    sent = [json.loads(content(request)) for request in server.seen]
    ahead = datetime.fromisoformat(sent[4].pop("until"))
    assert abs((ahead - datetime.now(UTC)).total_seconds() - 7200) < 60
    assert sent == [
        {"dispatch": "hold", "until": "2026-11-29T10:00:00.000Z", "reason": "printer"},
        {"dispatch": "run"},
        {"intake": "closed"},
        {"intake": "open"},
        {"dispatch": "hold"},
    ]
    assert {target(request) for request in server.seen} == {"PATCH /tasks/re%2Fport"}
    assert {field(request, "content-type") for request in server.seen} == {"application/json"}


@both
def test_an_unknown_task_is_refused(serve: Serve, ask: Ask) -> None:
    server, _ = serve(lambda *_: problem(404, "not-found"))
    with pytest.raises(Refused, match="404 not-found: because"):
        ask(server.port, lambda client: client.hold("nothing"))
    server, _ = serve(lambda *_: answer(200, {}))
    with pytest.raises(NotHeadway):
        ask(server.port, lambda client: client.hold("nothing"))
    with pytest.raises(TypeError, match="until=7 is not allowed: expected a datetime"):
        ask(server.port, lambda client: client.hold("nothing", until=7))


@both
def test_a_job_that_waits_is_changed(serve: Serve, ask: Ask) -> None:
    server, _ = serve(lambda *_: answer(200, {"id": ID, "state": "queued"}, "Job-State: queued"))
    assert ask(server.port, lambda client: client.job(ID).change(priority=8, delay=600)).state == "queued"
    assert ask(server.port, lambda client: client.job(ID).run_now()).state == "queued"
    assert [json.loads(content(request)) for request in server.seen] == [{"priority": 8, "delay": 600}, {"delay": 0}]
    assert {target(request) for request in server.seen} == {f"PATCH /jobs/{ID}"}
    with pytest.raises(ValueError, match="changes nothing: expected priority= or delay="):
        ask(server.port, lambda client: client.job(ID).change())


@pytest.mark.parametrize("lines", [[], ["Job-State: running"]])
@both
def test_a_job_that_does_not_wait_is_refused(serve: Serve, ask: Ask, lines: list[str]) -> None:
    server, _ = serve(lambda *_: problem(409, "not-waiting", *lines))
    with pytest.raises(Refused) as raised:
        ask(server.port, lambda client: client.job(ID).run_now())
    assert (raised.value.code, raised.value.reason) == (409, "not-waiting")


@pytest.mark.parametrize("order", ["retry", "cancel", "delete"])
@both
def test_an_order_about_many_is_a_job(serve: Serve, ask: Ask, order: str) -> None:
    accepted = answer(202, {}, f"Location: /jobs/{ID}", "Job-State: queued")
    answers = [None, accepted]
    server, _ = serve(lambda _, number: answers[number])
    job = ask(server.port, lambda client: getattr(client, f"{order}_all")(state="failed", task="a"))
    assert job.id == ID
    assert {target(request) for request in server.seen} == {f"POST /jobs/{order}?state=failed&task=a"}
    # Sent twice, since no answer came, and carried out once.
    assert len({field(request, "idempotency-key") for request in server.seen}) == 1


@pytest.mark.parametrize("order", ["retry", "cancel", "delete"])
@both
def test_a_dry_run_does_nothing(serve: Serve, ask: Ask, order: str) -> None:
    server, _ = serve(lambda *_: answer(200, {"matches": 3, "by_task": {"a": 2, "b": 1}}))
    found = ask(server.port, lambda client: getattr(client, f"{order}_all")(tag="x", dry_run=True))
    assert found == Matches(3, {"a": 2, "b": 1})
    assert target(server.seen[0]) == f"POST /jobs/{order}?tag=x&dry-run=1"


@pytest.mark.parametrize("dry_run", [False, True])
@both
def test_an_order_without_a_filter_is_not_sent(serve: Serve, ask: Ask, dry_run: bool) -> None:
    server, _ = serve(lambda *_: None)
    empty: list[dict[str, object]] = [{}, {"state": None, "task": None}]
    for wanted in empty:
        with pytest.raises(ValueError, match="delete of all jobs is not allowed: expected a filter"):
            ask(server.port, lambda client, wanted=wanted: client.delete_all(dry_run=dry_run, **wanted))
    assert server.seen == []


@both
def test_no_state_is_not_any_state(serve: Serve, ask: Ask) -> None:
    server, _ = serve(lambda *_: None)
    for call in ("find", "cancel_all"):
        with pytest.raises(ValueError, match=r"state=\[\] is not allowed: expected at least one state"):
            ask(server.port, lambda client, call=call: getattr(client, call)(state=[], task="a"))
    assert server.seen == []


@both
def test_a_closed_task_is_waited_for_and_given_up(serve: Serve, ask: Ask) -> None:
    closed = problem(503, "task-closed", "Retry-After-Ms: 20")
    accepted = answer(202, {}, f"Location: /jobs/{ID}", "Job-State: queued")
    server, _ = serve(lambda _, number: accepted if number == 2 else closed)
    assert ask(server.port, lambda client: client.submit("give")).id == ID
    with pytest.raises(TaskClosed, match="the task is closed, and patience=0 allows no further try: 503 because"):
        ask(server.port, lambda client: client.submit("give", patience=0))
