"""Who sends a request, and what it may do."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import msgspec

SUBMIT: Final = "submit"
READ: Final = "read"
VIEW: Final = "view"
CANCEL: Final = "cancel"
ADMIN: Final = "admin"
METRICS: Final = "metrics"
# Each scope, and what a token with it may do.
SCOPES: dict[str, str] = {
    SUBMIT: "submit jobs and read the tasks, or as submit:NAME those of one task",
    READ: "read all of jobs: payloads, results, logs, errors, and what view shows",
    VIEW: "read states and counts, without payloads, results, logs and errors",
    CANCEL: "cancel jobs, and forget their results",
    ADMIN: "hold tasks, change waiting jobs, act on many jobs at once, read the audit log",
    METRICS: "read /metrics and /stats",
}


class Caller(msgspec.Struct, frozen=True):
    """The bearer of a token, or anyone without one.

    ``name`` is that of the token, empty without one. ``tasks`` are those that it may submit: None for all.
    ``sees_ids``: it may learn the ids of jobs that it has not submitted. Otherwise a list has them without the tag.
    """

    name: str = ""
    scopes: frozenset[str] = frozenset()
    tasks: frozenset[str] | None = None
    sees_ids: bool = False
    # False: it has sent a token that nobody has.
    is_known: bool = True

    @property
    def reads(self) -> bool:
        """Whether it may read payloads, logs, errors and tracebacks."""
        return READ in self.scopes

    @property
    def knows(self) -> frozenset[str] | None:
        """The tasks that it may read about, with their counts: None for all."""
        if VIEW in self.scopes:
            return None
        return self.tasks if SUBMIT in self.scopes else frozenset()

    def has(self, scopes: Iterable[str]) -> bool:
        """Whether it has one of ``scopes``."""
        return not self.scopes.isdisjoint(scopes)


# Everyone, where there are no tokens.
ANYONE = Caller(scopes=frozenset(SCOPES), sees_ids=True)
# A client without a token, where there are tokens, and one with a token that nobody has.
NOBODY = Caller()
UNKNOWN = Caller(is_known=False)
