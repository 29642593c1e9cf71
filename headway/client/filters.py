"""Which jobs are meant: the members of a query, of ``find`` and of orders about many jobs."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import TypeAlias, TypedDict
from urllib.parse import urlencode

from headway.client.submissions import name_of

# A datetime, one without a zone in local time. A timedelta: so long ago. A text as the server takes
# it: a time of RFC 3339, or an age such as 90s, 30m, 12h or 7d.
Moment: TypeAlias = datetime | timedelta | str
TIMES = ("submitted_after", "submitted_before", "ended_after", "ended_before")


class Filter(TypedDict, total=False):
    """The jobs that fit all members that are given.

    A time is a datetime, a timedelta for so long ago, or a text: RFC 3339, or an age such as ``1d``.
    """

    # One state, or several of which a job has one.
    state: str | Iterable[str] | None
    # The name of a task, or the function that headway.task has declared.
    task: object
    tag: str | None
    # Why it failed: error, timeout, crashed, deadline or invalid-payload.
    reason: str | None
    # Text within the error, in letters of any case.
    error: str | None
    submitted_after: Moment | None
    submitted_before: Moment | None
    ended_after: Moment | None
    ended_before: Moment | None


def query(wanted: Filter) -> str:
    """Return a filter as the query of a URL, empty if it allows all jobs."""
    unknown = sorted(wanted.keys() - Filter.__annotations__.keys())
    if unknown:
        raise TypeError(f"{unknown[0]}= is no member of a filter: expected {', '.join(Filter.__annotations__)}")
    members = {name: _text(name, value) for name, value in wanted.items() if value is not None}
    return urlencode(members, doseq=True, safe=":")


def _text(name: str, value: object) -> str | list[str]:
    if name in TIMES:
        return moment(name, value, -1)
    if name == "task":
        return name_of(value)
    if name == "state" and isinstance(value, Iterable):
        states = value.split(",") if isinstance(value, str) else list(map(str, value))
        if not states:
            # It would mean all jobs.
            raise ValueError("state=[] is not allowed: expected at least one state, or None for any")
        return states
    if not isinstance(value, str):
        raise TypeError(f"{name}={value!r} is not allowed: expected a text")
    return value


def moment(name: str, value: object, sign: int) -> str:
    """Return a time as text. A timedelta is from now: ahead for a ``sign`` of 1, ago for -1."""
    if isinstance(value, timedelta):
        value = datetime.now(UTC) + sign * value
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    if isinstance(value, str):
        return value
    raise TypeError(f"{name}={value!r} is not allowed: expected a datetime, a timedelta or a text")
