"""Every error of the client. Each has a message of one line that says what to do, if anything."""

from __future__ import annotations

from collections.abc import Sequence


class HeadwayError(Exception):
    """The base of all errors of the client."""


class JobFailed(HeadwayError):
    """The job failed. ``reason`` is ``error``, ``timeout``, ``crashed``, ``deadline`` or ``invalid-payload``."""

    def __init__(self, job_id: str, detail: str, reason: str, attempt: int) -> None:
        super().__init__(job_id, detail, reason, attempt)
        self.job_id = job_id
        # The error of the task as the server tells it.
        self.detail = detail
        self.reason = reason
        # The number of the last attempt, from 1.
        self.attempt = attempt

    def __str__(self) -> str:
        return f"job {self.job_id} failed in attempt {self.attempt} ({self.reason}): {self.detail}"


class JobCancelled(HeadwayError):
    """The job was cancelled."""


class JobExpired(HeadwayError):
    """The job has finished, but its status or its result is no longer kept."""


class NotIssued(HeadwayError):
    """The server never issued this id: it is wrong, or of another server or an earlier run."""


# What to do about a refusal of a token or of a name, by its reason. Others are of a proxy.
HINTS = {
    "token": "set HEADWAY_TOKEN or token=",
    "scope": "set HEADWAY_TOKEN or token= to a token that may",
    "host": "ask by an address, or add the name there",
}


class Refused(HeadwayError):
    """The server refuses the request, and would refuse it again."""

    def __init__(self, code: int, reason: str, detail: str, errors: Sequence[tuple[str, str]] = ()) -> None:
        super().__init__(code, reason, detail, errors)
        # The status code, and the end of the problem's type.
        self.code = code
        self.reason = reason
        self.detail = detail
        # Each fault of the content: its path and the rule.
        self.errors = list(errors)

    def __str__(self) -> str:
        said = ", ".join(f"{field}: {fault}" for field, fault in self.errors) or self.detail
        hint = HINTS.get(self.reason, HINTS["token"]) if self.code in (401, 403) else ""
        return f"the server refuses the request: {self.code} {self.reason}: {said}{f' ({hint})' if hint else ''}"


class QueueFull(HeadwayError):
    """The queue stayed full for as long as the client's ``patience``."""


class TaskClosed(HeadwayError):
    """The task refused new jobs for as long as the client's ``patience``."""


class Unavailable(HeadwayError):
    """The server gave no useful answer for as long as the client's ``patience``."""

    # The status code of the last answer, None if there was none.
    code: int | None = None


class TimedOut(HeadwayError, TimeoutError):
    """The job has not finished within the ``timeout`` of this call. It goes on."""


class NotHeadway(HeadwayError):
    """The answers are not those of a Headway server, or a result is broken JSON."""
