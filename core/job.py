"""A job and its life-cycle.

MOVES is the one table of legal moves. The board refuses every other, and docs/protocol.md draws it.
EXPIRED is never written: a reader gets it for a job whose row has aged or is used by another job.
"""

from __future__ import annotations

from enum import IntEnum
from math import inf
from typing import Annotated, ClassVar

import msgspec
from headway.core.durability import Durability
from headway.core.errors import InvalidError
from headway.core.task import DEADLINE_LONGEST_S, KEEP_LONGEST_S, RETRIES_MOST, Task
from msgspec import UNSET, Meta, UnsetType

# The tags of a job, by which it is found.
TAGS_MOST, TAG_LONGEST = 8, 100
Tag = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=TAG_LONGEST,
        # No ``$``, which Python finds before a last line feed, too.
        pattern=r"^(?![\s\S]*[\x00-\x1f\x7f-\x9f])",
        extra_json_schema={"description": f"a text of 1 to {TAG_LONGEST} characters, none of them a control character"},
    ),
]
SomeTags = Annotated[
    tuple[Tag, ...],
    Meta(
        max_length=TAGS_MOST,
        extra_json_schema={
            "description": f"at most {TAGS_MOST} texts of 1 to {TAG_LONGEST} characters, none of them a control "
            "character"
        },
    ),
]
# A traceparent of version 00 (https://www.w3.org/TR/trace-context): neither id is zero.
# No ``$``, which Python finds before a last line feed, too.
TRACEPARENT = r"^00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(?![\s\S])"


class State(IntEnum):
    """The state of a job. The value is the low byte of its row's live word."""

    EMPTY = 0
    SCHEDULED = 1
    QUEUED = 2
    RUNNING = 3
    RETRYING = 4
    SUCCEEDED = 5
    FAILED = 6
    CANCELLED = 7
    EXPIRED = 8


MOVES: dict[State, frozenset[State]] = {
    State.EMPTY: frozenset({State.SCHEDULED, State.QUEUED}),
    State.SCHEDULED: frozenset({State.QUEUED, State.FAILED, State.CANCELLED}),
    # SCHEDULED: a client puts it off.
    State.QUEUED: frozenset({State.SCHEDULED, State.RUNNING, State.FAILED, State.CANCELLED}),
    State.RUNNING: frozenset({State.SCHEDULED, State.RETRYING, State.SUCCEEDED, State.FAILED, State.CANCELLED}),
    State.RETRYING: frozenset({State.QUEUED, State.FAILED, State.CANCELLED}),
    State.SUCCEEDED: frozenset({State.EXPIRED}),
    State.FAILED: frozenset({State.EXPIRED}),
    State.CANCELLED: frozenset({State.EXPIRED}),
    State.EXPIRED: frozenset(),
}

WAITING = frozenset({State.SCHEDULED, State.QUEUED, State.RETRYING})
ACTIVE = WAITING | {State.RUNNING}
TERMINAL = frozenset({State.SUCCEEDED, State.FAILED, State.CANCELLED})


class Reason(IntEnum):
    """Why a job failed, or an attempt at it."""

    NONE = 0
    ERROR = 1
    TIMEOUT = 2
    CRASHED = 3
    DEADLINE = 4
    # The payload waited, and does not fit the task as it is now.
    INVALID_PAYLOAD = 5
    # Of a cancelled job, and of its last attempt: it ran when a client cancelled it.
    INTERRUPTED = 6
    # Of a cancelled job: it was in memory when the engine died, or its task was gone after a deploy.
    LOST = 7

    @property
    def text(self) -> str:
        """The reason as clients and the log see it."""
        return self.name.lower().replace("_", "-")


class Submission(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A job as a client asks for it. Times in seconds. None: the task's, else that of config.yaml."""

    task: Annotated[str, Meta(min_length=1, max_length=200)]
    payload: msgspec.Raw = msgspec.Raw(b"null")
    # 9 is taken first.
    priority: Annotated[int, Meta(ge=0, le=9)] = 5
    delay: Annotated[float, Meta(ge=0, le=30 * 86_400)] = 0.0
    timeout: Annotated[float, Meta(gt=0, le=86_400)] | None = None
    deadline: Annotated[float, Meta(gt=0, le=DEADLINE_LONGEST_S)] | None = None
    retries: Annotated[int, Meta(ge=0, le=RETRIES_MOST)] | None = None
    # How long the job is kept once it has finished. None: the task's, else that of its outcome.
    keep: Annotated[float, Meta(gt=0, le=KEEP_LONGEST_S)] | None = None
    # The trace context of the client. None: that of the request's header.
    traceparent: (
        Annotated[
            str,
            Meta(
                pattern=TRACEPARENT,
                extra_json_schema={"description": "a traceparent of version 00, such as 00-<32 hex>-<16 hex>-01"},
            ),
        ]
        | None
    ) = None
    # Labels of the client, by which it finds the job. One that is given twice counts once.
    tags: SomeTags = ()
    # The least that the 202 has to promise. None: the promise of the server.
    durability: Durability | None = None
    # No member of the JSON: see ContentSubmission.
    media_type: ClassVar[str] = ""


class Revision(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A change of a job that waits. A member that is not set leaves a term as it is."""

    priority: Annotated[int, Meta(ge=0, le=9)] | UnsetType = UNSET
    # Seconds from now until it is ready. 0: now.
    delay: Annotated[float, Meta(ge=0, le=30 * 86_400)] | UnsetType = UNSET

    def check(self) -> None:
        """Raise InvalidError if it changes nothing."""
        if self == Revision():
            raise InvalidError([("", f"expected at least one of {', '.join(Revision.__struct_fields__)}")])


class ContentSubmission(Submission, frozen=True):
    """A submission of content as it is, with its media type."""

    payload: msgspec.Raw | bytes = b""  # type: ignore[assignment]
    media_type: str = ""  # type: ignore[misc]


class Terms(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """The terms of a job besides task, payload and priority, as submitted or by default.

    Times in seconds.
    """

    # Of an attempt.
    timeout_s: float
    # Attempts after the first.
    retries: int
    # From the submission to the end of the last attempt. None: no end.
    deadline_s: float | None = None
    # Of a payload that is content as it is. Empty: JSON.
    media_type: str = ""
    # The trace context of the submission.
    traceparent: str | None = None
    tags: tuple[str, ...] = ()
    # How long the job is kept once it has finished. None: as long as others of its outcome.
    keep_s: float | None = None

    @classmethod
    def usual(cls, task: Task, timeout_s: float, retries: int) -> Terms:
        """Return the terms of a submission that names none.

        ``timeout_s`` and ``retries`` hold if the task does not set them.
        """
        return cls(
            timeout_s=task.timeout_s or timeout_s,
            retries=retries if task.retries is None else task.retries,
            deadline_s=task.deadline_s,
            keep_s=task.keep_s,
        )

    def of(self, submission: Submission) -> Terms:
        """Return the terms of a submission, where these are the usual ones of its task."""
        return Terms(
            timeout_s=submission.timeout or self.timeout_s,
            retries=self.retries if submission.retries is None else submission.retries,
            deadline_s=submission.deadline or self.deadline_s,
            media_type=submission.media_type,
            traceparent=submission.traceparent,
            tags=tuple(dict.fromkeys(submission.tags)) if submission.tags else (),
            keep_s=submission.keep or self.keep_s,
        )

    def end(self, submitted: float) -> float:
        """Return the time at which a job of these terms fails in any state. Infinity: never."""
        return inf if self.deadline_s is None else submitted + self.deadline_s


# The terms as a journal keeps them: JSON, so that SQL can migrate them.
encode_terms = msgspec.json.Encoder().encode
decode_terms = msgspec.json.Decoder(Terms).decode


class Job(msgspec.Struct, gc=False):
    """The facts needed of a job while it is active. Its row on the board holds the rest."""

    sequence: int
    task: Task
    # JSON or content, as the client sent it.
    payload: bytes
    terms: Terms
    # The time at which the job fails in any state, of time.monotonic. Infinity: never.
    deadline: float
    # The batch of the job, as ``outcomes.batch_number`` makes it. 0: none.
    batch: int = 0
