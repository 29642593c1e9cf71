"""Members of documents to facts. A member of another type than expected counts as not told."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from headway.client.status import AttemptStatus, Change, History, JobEvent, Matches, Span, Status, TaskSwitches

Members = Mapping[str, Any]


def status(members: Members) -> Status:
    """Return the facts about a job: of a status document, a problem document, or an entry of a list."""
    return Status(
        text(members, "id") or "",
        text(members, "state") or "",
        attempt=number(members, "attempt"),
        progress=number(members, "progress"),
        position=number(members, "position"),
        reason=text(members, "reason"),
        detail=text(members, "error") or text(members, "detail"),
        task=text(members, "task"),
        tags=texts(members, "tags"),
        message=text(members, "message"),
        attempts=tuple(_attempts(members)),
        attempts_left_out=number(members, "attempts_left_out") or 0,
        held=text(members, "held"),
        submitted=moment(members, "submitted"),
        started=moment(members, "started"),
        ended=moment(members, "ended"),
        kept_until=moment(members, "kept_until"),
    )


def _attempts(members: Members) -> Iterator[AttemptStatus]:
    found = members.get("attempts")
    for attempt in found if isinstance(found, list) else ():
        if isinstance(attempt, dict):
            error = attempt.get("error")
            error = error if isinstance(error, dict) else {}
            yield AttemptStatus(
                number(attempt, "attempt") or 0,
                started=moment(attempt, "started"),
                ended=moment(attempt, "ended"),
                place=text(attempt, "place"),
                outcome=text(attempt, "outcome") or "",
                reason=text(attempt, "reason"),
                error_type=text(error, "type"),
                error=text(error, "message"),
                traceback=text(error, "traceback"),
            )


def event(kind: str, event_id: str | None, members: Members) -> JobEvent:
    """Return an event of a stream."""
    if kind == "reset":
        return JobEvent(kind, event_id, missed=number(members, "missed"))
    return JobEvent(
        kind,
        event_id,
        id=text(members, "id"),
        task=text(members, "task"),
        state=text(members, "state"),
        attempt=number(members, "attempt"),
        tags=texts(members, "tags"),
        reason=text(members, "reason"),
        time=moment(members, "time"),
    )


def switches(members: Members) -> TaskSwitches:
    """Return the switches in the document of a task."""
    return TaskSwitches(
        text(members, "name") or "",
        text(members, "dispatch") or "run",
        text(members, "intake") or "open",
        until=moment(members, "until"),
        reason=text(members, "reason"),
    )


def matches(members: Members) -> Matches:
    """Return the answer to a dry run."""
    by_task = members.get("by_task")
    counts = by_task if isinstance(by_task, dict) else {}
    return Matches(number(members, "matches") or 0, {str(name): number(counts, name) or 0 for name in counts})


def change(members: Members) -> Change:
    """Return an entry of the audit log."""
    return Change(
        number(members, "number") or 0,
        moment(members, "time"),
        text(members, "what") or "",
        who=text(members, "who"),
        address=text(members, "address"),
        target=text(members, "target"),
        filter=text(members, "filter"),
        count=number(members, "count"),
        job=text(members, "job"),
        code=number(members, "code"),
    )


def history(members: Members) -> History:
    """Return the history of the last hours."""
    tasks = members.get("tasks")
    spans = tuple(map(_span, documents(members, "spans")))
    named = tasks.items() if isinstance(tasks, dict) else ()
    by_task = {str(name): told for name, told in named if isinstance(told, dict)}
    ended, failed = ({name: numbers(told, kind) for name, told in by_task.items()} for kind in ("ended", "failed"))
    return History(number(members, "seconds") or 0, spans, ended, failed)


def _span(members: Members) -> Span:
    counts = ("succeeded", "failed", "cancelled", "retries", "waiting", "running")
    known = {name: number(members, name) for name in counts}
    return Span(moment(members, "begin"), **known, wait=_seconds(members, "wait"), run=_seconds(members, "run"))


def _seconds(members: Members, name: str) -> dict[str, float | None]:
    found = members.get(name)
    pairs = found.items() if isinstance(found, dict) else ()
    return {str(part): float(value) if isinstance(value, int | float) else None for part, value in pairs}


def numbers(members: Members, name: str) -> tuple[int, ...]:
    """Return a list of whole numbers."""
    value = members.get(name)
    return tuple(item for item in value if isinstance(item, int)) if isinstance(value, list) else ()


def documents(members: Members, name: str) -> list[dict[str, Any]]:
    """Return the objects of a list."""
    value = members.get(name)
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def text(members: Members, name: str) -> str | None:
    """Return a text."""
    value = members.get(name)
    return value if isinstance(value, str) else None


def texts(members: Members, name: str) -> tuple[str, ...]:
    """Return a list of texts."""
    value = members.get(name)
    return tuple(item for item in value if isinstance(item, str)) if isinstance(value, list) else ()


def number(members: Members, name: str) -> int | None:
    """Return a whole number."""
    value = members.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def moment(members: Members, name: str) -> datetime | None:
    """Return a time of RFC 3339."""
    try:
        value = datetime.fromisoformat(members[name])
    except (KeyError, TypeError, ValueError):
        return None
    return value if value.tzinfo else None
