"""Orders of a person: switches of a task, changes of a job that waits, and orders about many jobs."""

from __future__ import annotations

from datetime import datetime, timedelta
from urllib.parse import quote

from headway.client import answers, facts
from headway.client.exchange import Road, Send
from headway.client.filters import Filter, moment, query
from headway.client.roads import Handle, Roads, handle
from headway.client.status import Matches, Status, TaskSwitches
from headway.client.submissions import JSON, encoded, name_of

# A time ahead: a datetime, a timedelta from now, or a text of RFC 3339.
Until = datetime | timedelta | str


def switch(
    roads: Roads,
    task: object,
    *,
    dispatch: str | None = None,
    intake: str | None = None,
    until: Until | None = None,
    reason: str | None = None,
) -> Road[TaskSwitches]:
    """Turn switches of a task. Those that are None stay."""
    name = name_of(task)
    given = {"dispatch": dispatch, "intake": intake, "reason": reason}
    members = {member: value for member, value in given.items() if value is not None}
    if until is not None:
        members["until"] = moment("until", until, 1)
    path = f"/tasks/{quote(name, safe='')}"
    response = yield from roads.exchange(Send("PATCH", path, {"Content-Type": JSON}, encoded(members)))
    document = answers.document(response)
    if response.code != 200 or "dispatch" not in document:
        raise answers.error(response, f"task {name}")
    return facts.switches(document)


def change(roads: Roads, job_id: str, *, priority: int | None, delay: float | None) -> Road[Status]:
    """Change a job that waits."""
    given = {"priority": priority, "delay": delay}
    members = {member: value for member, value in given.items() if value is not None}
    if not members:
        raise ValueError("change() changes nothing: expected priority= or delay=")
    response = yield from roads.exchange(Send("PATCH", f"/jobs/{job_id}", {"Content-Type": JSON}, encoded(members)))
    if response.code >= 400 and answers.reason_of(response) == "not-waiting":
        raise answers.refusal(response, "not-waiting")
    return answers.status(response, job_id)


def of_many(roads: Roads, order: str, wanted: Filter) -> Road[Handle]:
    """Give an order about all jobs that fit: retry, cancel or delete. Return the job that carries it out."""
    path = f"/jobs/{order}?{_query(order, wanted)}"
    response = yield from roads.post(path, None, b"", None, None)
    return handle(response, f"POST /jobs/{order}")


def dry_run(roads: Roads, order: str, wanted: Filter) -> Road[Matches]:
    """Ask which jobs an order would be about."""
    path = f"/jobs/{order}?{_query(order, wanted)}&dry-run=1"
    response = yield from roads.exchange(Send("POST", path, content=b""))
    document = answers.document(response)
    if response.code != 200 or "matches" not in document:
        raise answers.error(response, f"POST /jobs/{order}")
    return facts.matches(document)


def _query(order: str, wanted: Filter) -> str:
    members = query(wanted)
    if not members:
        raise ValueError(f"{order} of all jobs is not allowed: expected a filter, for instance state= or task=")
    return members
