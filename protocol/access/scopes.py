"""The scopes of tokens: what their bearers may do."""

from __future__ import annotations

from typing import Final

from headway.protocol.http.caller import Caller

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
# Everyone, where there are no tokens.
ANYONE = Caller(scopes=frozenset(SCOPES), sees_ids=True)


def reads(caller: Caller) -> bool:
    """Whether ``caller`` may read payloads, logs, errors and tracebacks."""
    return READ in caller.scopes


def knows(caller: Caller) -> frozenset[str] | None:
    """Return the tasks that ``caller`` may read about, with their counts: None for all."""
    if VIEW in caller.scopes:
        return None
    return caller.tasks if SUBMIT in caller.scopes else frozenset()
