"""Every error that a caller may see, with its HTTP status and the reason that counts it."""

from __future__ import annotations

import random
from typing import ClassVar

from headway.core.durability import SURVIVES, Durability
from headway.core.faults import FAULTS_MOST

# What to do about a journal that cannot be made.
WAYS_OUT = "Set journal.path to a file in a folder that the server may write to, or to null to keep jobs in memory"


class HeadwayError(Exception):
    """Base of all errors that are meant for a caller. ``str(error)`` is a line that says what to do."""

    status: ClassVar[int] = 500
    reason: ClassVar[str] = "internal"
    title: ClassVar[str] = "Internal error"


class ConfigError(HeadwayError):
    """A setting, or a task module in the settings, is unusable. The program ends with exit code 2."""

    reason = "config"
    title = "Unusable configuration"


class TaskError(ConfigError):
    """A task is declared in a way that cannot work. Raised at its declaration."""

    reason = "task"
    title = "Unusable task"


class JournalError(HeadwayError):
    """The journal is unusable. The line names the file and says what to do."""

    reason = "journal"
    title = "Unusable journal"


class CopyError(JournalError):
    """The file that a copy of a journal goes to exists, or cannot be written."""


class MoveError(HeadwayError):
    """Jobs cannot be moved from one engine to another. The line says what to do."""

    reason = "move"
    title = "Cannot be moved"


class JournalFullError(HeadwayError):
    """The journal's disk is full, so nothing can be promised. Nothing was changed."""

    status = 503
    reason = "journal-full"
    title = "The journal is full"
    retry_after_s = 5

    def __init__(self) -> None:
        super().__init__(
            "The journal's disk is full, so jobs and changes are refused. They are accepted again once there is room."
        )


class EngineAwayError(HeadwayError):
    """The store of the engine cannot be reached. Nothing was accepted.

    ``retry_after_s`` differs from call to call, so that not all clients come back at once.
    """

    status = 503
    reason = "engine-away"
    title = "The store cannot be reached"

    def __init__(self) -> None:
        self.retry_after_s = random.uniform(1, 3)  # noqa: S311 — no secret
        super().__init__("The store of the jobs cannot be reached for now. Retry after the delay in Retry-After.")


class OutcomeUnknownError(EngineAwayError):
    """The store was lost before it answered, so the submission may have been accepted."""

    def __init__(self) -> None:
        super().__init__()
        self.args = (
            "The store was lost before it answered, so the outcome is unknown. Retry after the delay in Retry-After: "
            "under the same Idempotency-Key no job is accepted twice.",
        )


class EngineRestartsError(EngineAwayError):
    """The engine of a gateway is not there: it starts again. Nothing was accepted."""

    title = "The engine is starting"

    def __init__(self) -> None:
        super().__init__()
        self.args = ("The engine of this server is starting. Retry after the delay in Retry-After.",)


class RestartedError(EngineRestartsError):
    """The engine ended before it answered a gateway, so the change may have been made."""

    def __init__(self) -> None:
        super().__init__()
        self.args = (
            "The engine ended before it answered, so the outcome is unknown. Retry after the delay in Retry-After: "
            "under the same Idempotency-Key no job is accepted twice.",
        )


class EngineFullError(HeadwayError):
    """The store has no memory for more. Nothing was changed."""

    status = 503
    reason = "engine-full"
    title = "The store is full"

    def __init__(self) -> None:
        self.retry_after_s = random.uniform(3, 7)  # noqa: S311 — no secret
        super().__init__(
            "The store of the jobs has reached its maxmemory, so new jobs are refused. "
            "They are accepted again once jobs have finished or were deleted."
        )


class RecoveringError(HeadwayError):
    """The server reads its journal and knows no job yet.

    ``retry_after_s`` is the time until it can serve the caller.
    """

    status = 503
    reason = "recovering"
    title = "Starting"

    def __init__(self, retry_after_s: float) -> None:
        self.retry_after_s = retry_after_s
        super().__init__("The server is starting and knows no jobs yet. Retry after the delay in Retry-After.")


class KeyReusedError(HeadwayError):
    """An idempotency key was used again, with other content."""

    status = 422
    reason = "key-reused"
    title = "The key was used before"

    def __init__(self) -> None:
        super().__init__("This idempotency key was used before with other content. One of the two is a mistake.")


class IllegalMoveError(HeadwayError):
    """A move was asked of a job that its life-cycle does not have."""

    reason = "illegal-move"
    title = "Illegal move"


class MalformedError(HeadwayError):
    """A submission is not JSON."""

    status = 400
    reason = "malformed-json"
    title = "Not JSON"


class InvalidError(HeadwayError):
    """A submission or a query has wrong members. ``faults`` names the first FAULTS_MOST."""

    status = 422
    reason = "invalid"
    title = "Wrong members"

    def __init__(self, faults: list[tuple[str, str]]) -> None:
        self.faults = faults
        shown = "; ".join(f"{field}: {fault}" if field else fault for field, fault in faults[:3])
        more = f"at least {len(faults) - 3}" if len(faults) == FAULTS_MOST else str(len(faults) - 3)
        super().__init__(shown if len(faults) <= 3 else f"{shown}; and {more} more")


class InvalidPayloadError(InvalidError):
    """A payload does not fit the type that its task annotates. The job fails if it was queued already."""

    reason = "invalid-payload"
    title = "The payload does not fit the task"


class UnknownTaskError(InvalidError):
    """A submission or a query names a task that no module declares."""

    reason = "unknown-task"
    title = "Unknown task"


class NotDurableError(HeadwayError):
    """A submission demands more than the engine promises. Nothing was changed."""

    status = 422
    reason = "not-durable"
    title = "Not as durable as demanded"

    def __init__(self, demanded: Durability, promised: Durability) -> None:
        super().__init__(
            f'The submission demands durability "{demanded}". This server promises "{promised}": '
            f"{SURVIVES[promised]}. Submit it without the demand, or set journal.path and journal.sync."
        )


class QueueFullError(HeadwayError):
    """A bound on waiting jobs is reached: ``setting`` leaves no room for the submission.

    ``size`` is the setting, in ``unit``. ``count`` is the amount submitted, ``room`` the amount
    that is free. Enough is expected to be free in ``retry_after_s``.
    """

    status = 429
    reason = "queue-full"
    title = "The queue is full"
    setting = "queue.size"
    unit = "jobs"

    def __init__(self, size: int, count: int, room: int, retry_after_s: float) -> None:
        self.size = size
        self.room = max(room, 0)
        self.retry_after_s = retry_after_s
        if count > size:
            text = (
                f"{count} {self.unit} are more than {self.setting} in config.yaml ever allows to wait, {size}. "
                "Send fewer at once."
            )
        elif self.room:
            text = f"There is room for {self.room} more {self.unit}, not for {count}. Retry in {retry_after_s:.1f} s."
        else:
            text = f"{size} {self.unit} are waiting, which is the limit. Retry in {retry_after_s:.1f} s."
        super().__init__(text)


class PayloadsFullError(QueueFullError):
    """The payloads of jobs that have not finished take all the memory allowed for them."""

    setting = "queue.max_bytes"
    unit = "bytes of payload (queue.max_bytes)"


class StreamsFullError(HeadwayError):
    """As many clients read events as may. One that goes makes room."""

    status = 503
    reason = "streams"
    title = "Too many streams of events"

    def __init__(self, most: int, retry_after_s: float) -> None:
        self.retry_after_s = retry_after_s
        super().__init__(
            f"{most} streams of events are open, which is the limit (events.streams). Retry in {retry_after_s:.1f} s."
        )


class OrdersFullError(QueueFullError):
    """Too many orders about many jobs wait already."""

    setting = "the orders"
    unit = "orders"


class MisdirectedError(HeadwayError):
    """The id comes from another server, from a run that nothing is known of here, or from nobody.

    Such a run kept its jobs in memory, or its journal was lost and an older copy came back.
    """

    status = 421
    reason = "misdirected"
    title = "Issued elsewhere"

    def __init__(self) -> None:
        super().__init__("Another server or an earlier run issued this id. Ask there, or submit the job again.")


class TaskClosedError(HeadwayError):
    """A submission names a task that accepts no jobs for now: a person has closed it.

    ``retry_after_s`` is the time until it is open again, or until the next question.
    """

    status = 503
    reason = "task-closed"
    title = "The task is closed"

    def __init__(self, task: str, why: str, retry_after_s: float) -> None:
        self.retry_after_s = retry_after_s
        text = f"The task {task!r} accepts no jobs for now{f': {why}' if why else ''}. "
        super().__init__(f"{text}Retry after the delay in Retry-After, or open it: PATCH /tasks/{task}.")


class NotWaitingError(HeadwayError):
    """A job is to be changed that does not wait any more."""

    status = 409
    reason = "not-waiting"
    title = "The job does not wait"

    def __init__(self, state: str) -> None:
        super().__init__(f"Only a job that waits can be changed. This one is {state}.")


class NotFailedError(HeadwayError):
    """A job is to be resubmitted that did not fail."""

    status = 409
    reason = "not-failed"
    title = "The job did not fail"

    def __init__(self) -> None:
        super().__init__("Only a failed job can be resubmitted.")


class PayloadGoneError(HeadwayError):
    """A job is to be resubmitted, but its payload is no longer kept."""

    status = 410
    reason = "payload-gone"
    title = "The payload is gone"

    def __init__(self) -> None:
        super().__init__(
            "The payload is gone: deleted, given up to stay within results.max_bytes, or its task is unknown now. "
            "Submit the job as a new one."
        )


class DrainingError(HeadwayError):
    """The server is shutting down or deploying.

    ``retry_after_s`` is the time until the next process may serve the caller.
    """

    status = 503
    reason = "draining"
    title = "Draining"

    def __init__(self, retry_after_s: float) -> None:
        self.retry_after_s = retry_after_s
        super().__init__("The server is shutting down or deploying. Retry after the delay in Retry-After.")
