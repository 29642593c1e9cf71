"""Which jobs a client means: the members of a query, or of an order about many jobs at once."""

from __future__ import annotations

import msgspec
from headway.core.job import Reason, State


class JobFilter(msgspec.Struct, frozen=True):
    """A job is meant if it fits all members. None, or no state, fits any job.

    Times are of time.time, in seconds: from ``after`` on, and before ``before``.
    """

    states: frozenset[State] = frozenset()
    task: str | None = None
    tag: str | None = None
    reason: Reason | None = None
    # A text within the error of a failed job, in letters of any case.
    error: str | None = None
    submitted_after: float | None = None
    submitted_before: float | None = None
    ended_after: float | None = None
    ended_before: float | None = None


def mentions(error: bytes, text: str) -> bool:
    """Whether an error, in UTF-8, has ``text`` within it. ``text`` is casefolded."""
    return text in error.decode(errors="replace").casefold()
