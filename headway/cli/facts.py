"""The facts about a job, of ``headway status``: as a document, and as lines."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from headway.cli.output import iso, one_line, plain_text

if TYPE_CHECKING:
    from headway.client import AttemptStatus, Status

PLACES = {"loop": "on the loop", "thread": "in a thread", "process": "in a process"}


def facts_of(status: Status) -> dict[str, Any]:
    """Return the facts that are known, as members of a document."""
    times = {name: iso(getattr(status, name)) for name in ("submitted", "started", "ended", "kept_until")}
    members = {
        **{name: getattr(status, name) for name in ("id", "state", "task")},
        "tags": list(status.tags) or None,
        **{name: getattr(status, name) for name in ("attempt", "progress", "message", "position", "held")},
        **times,
        "reason": status.reason,
        "error": status.detail if status.state == "failed" else None,
        "attempts": [_attempt(attempt) for attempt in status.attempts] or None,
        "attempts_left_out": status.attempts_left_out or None,
    }
    return {name: value for name, value in members.items() if value is not None}


def _attempt(attempt: AttemptStatus) -> dict[str, Any]:
    """Return an attempt as a document."""
    members: dict[str, Any] = {
        "attempt": attempt.number,
        "started": iso(attempt.started),
        "ended": iso(attempt.ended),
        "place": attempt.place,
        "outcome": attempt.outcome,
        "reason": attempt.reason,
    }
    if attempt.error_type or attempt.error:
        members["error"] = {"type": attempt.error_type, "message": attempt.error, "traceback": attempt.traceback}
    return {name: value for name, value in members.items() if value is not None}


def lines_of(status: Status, traceback: bool) -> Iterator[str]:
    """Yield the facts as lines."""
    members = facts_of(status)
    for name in ("attempts", "attempts_left_out"):
        members.pop(name, None)
    for name, value in members.items():
        shown = ", ".join(value) if isinstance(value, list) else str(value)
        yield f"{name.replace('_', ' '):<10}  {one_line(shown)}"
    label = "attempts"
    before = 0
    for attempt in status.attempts:
        if (gap := attempt.number - before - 1) > 0:
            yield f"{label:<10}  ...  {f'{gap:,} attempts are' if gap > 1 else '1 attempt is'} no longer kept"
            label = ""
        before = attempt.number
        for line in _attempt_lines(attempt, traceback):
            yield f"{label:<10}  {line}"
            label = ""


def _attempt_lines(attempt: AttemptStatus, traceback: bool) -> Iterator[str]:
    """Yield an attempt as a line, and the lines of its traceback if that is wanted."""
    outcome = [attempt.outcome]
    if attempt.reason:
        outcome.append(f"({attempt.reason})")
    if attempt.place in PLACES:
        outcome.append(PLACES[attempt.place])
    if attempt.started and attempt.ended:
        outcome.append(f"after {(attempt.ended - attempt.started).total_seconds():.3f} s")
    parts = [part for part in (attempt.error_type, attempt.error) if part]
    error = f": {': '.join(parts)}" if parts else ""
    yield f"{attempt.number}  {one_line(' '.join(outcome) + error)}"
    if traceback and attempt.traceback:
        for line in attempt.traceback.splitlines():
            yield f"   {plain_text(line)}"
