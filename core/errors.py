"""Every error a caller may see, with the HTTP status it answers and the reason it is counted under."""

from __future__ import annotations

from typing import ClassVar

from headway.core.faults import FAULTS_MOST


class HeadwayError(Exception):
    """Base of all errors that are meant for a caller; ``str(error)`` is one line that says what to do."""

    status: ClassVar[int] = 500
    reason: ClassVar[str] = "internal"
    title: ClassVar[str] = "Internal error"


class ConfigError(HeadwayError):
    """A setting, or a task module named in the settings, cannot be used; the program ends with exit code 2."""

    reason = "config"
    title = "Unusable configuration"


class TaskError(ConfigError):
    """A task is declared in a way that cannot work; raised where it is declared."""

    reason = "task"
    title = "Unusable task"


class JournalError(HeadwayError):
    """The journal cannot be used; the line names the file and says what to do."""

    reason = "journal"
    title = "Unusable journal"


class JournalFullError(HeadwayError):
    """There is no room on the disk of the journal, so nothing can be promised, and nothing was changed."""

    status = 503
    reason = "journal-full"
    title = "The journal is full"
    retry_after_s = 5

    def __init__(self) -> None:
        super().__init__(
            "the journal's disk is full, so jobs and changes are refused; they are accepted again once there is room"
        )


class RecoveringError(HeadwayError):
    """The server reads its journal and knows no job yet; ``retry_after_s`` is when it has time for the caller."""

    status = 503
    reason = "recovering"
    title = "Starting"

    def __init__(self, retry_after_s: float) -> None:
        self.retry_after_s = retry_after_s
        super().__init__("this server is reading its journal and will know its jobs in a moment")


class KeyReusedError(HeadwayError):
    """An idempotency key came again with other content."""

    status = 422
    reason = "key-reused"
    title = "The key was used before"

    def __init__(self) -> None:
        super().__init__("this Idempotency-Key came before with other content: one of the two is a mistake")


class IllegalMoveError(HeadwayError):
    """A job was asked to make a move that the life-cycle does not have."""

    reason = "illegal-move"
    title = "Illegal move"


class MalformedError(HeadwayError):
    """A submission is not JSON."""

    status = 400
    reason = "malformed-json"
    title = "Not JSON"


class InvalidError(HeadwayError):
    """A submission or a query has wrong members; ``faults`` names the first FAULTS_MOST."""

    status = 422
    reason = "invalid"
    title = "Wrong members"

    def __init__(self, faults: list[tuple[str, str]]) -> None:
        self.faults = faults
        shown = "; ".join(f"{field}: {fault}" if field else fault for field, fault in faults[:3])
        more = f"at least {len(faults) - 3}" if len(faults) == FAULTS_MOST else str(len(faults) - 3)
        super().__init__(shown if len(faults) <= 3 else f"{shown}; and {more} more")


class UnknownTaskError(InvalidError):
    """A submission names a task that no module has declared."""

    reason = "unknown-task"
    title = "Unknown task"


class QueueFullError(HeadwayError):
    """What waits is at ``setting``, and has no room for what came.

    ``size`` is the setting, in ``unit``, and ``count`` what came; ``room`` is how much is free, ``retry_after_s`` when
    enough of it is expected to be.
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
                f"{count} {self.unit} are more than {self.setting} in config.yaml ever allows to wait, {size}: "
                "send fewer at once"
            )
        elif self.room:
            text = (
                f"there is room for {self.room} more {self.unit}, not for {count}; try again in {retry_after_s:.1f} s"
            )
        else:
            text = f"{size} {self.unit} are waiting, which is the limit; try again in {retry_after_s:.1f} s"
        super().__init__(text)


class PayloadsFullError(QueueFullError):
    """The payloads of jobs that are not over take all the memory that they may."""

    setting = "queue.max_bytes"
    unit = "bytes of payload (queue.max_bytes)"


class MisdirectedError(HeadwayError):
    """An id was issued by another server, by an earlier run of one without a journal, or by nobody."""

    status = 421
    reason = "misdirected"
    title = "Issued elsewhere"

    def __init__(self) -> None:
        super().__init__("this id was issued by another server or an earlier run; ask there, or submit the job again")


class NotFailedError(HeadwayError):
    """A job is to be sent again that did not fail."""

    status = 409
    reason = "not-failed"
    title = "The job did not fail"

    def __init__(self) -> None:
        super().__init__("only a job that failed can be sent again")


class PayloadGoneError(HeadwayError):
    """A job is to be sent again whose payload is no longer kept."""

    status = 410
    reason = "payload-gone"
    title = "The payload is gone"

    def __init__(self) -> None:
        super().__init__("its payload was deleted, or given up to stay within results.max_bytes: submit the job anew")


class DrainingError(HeadwayError):
    """The server ends, or is executed anew; ``retry_after_s`` is when what comes after it may have time."""

    status = 503
    reason = "draining"
    title = "Draining"

    def __init__(self, retry_after_s: float) -> None:
        self.retry_after_s = retry_after_s
        super().__init__("this server is about to end and takes no new jobs; try again with what comes after it")
