"""Members of documents to facts. A member of another type than expected counts as not told."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from headway.client.status import AttemptStatus, JobEvent, Matches, Status, TaskSwitches

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
