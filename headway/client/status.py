"""The facts about a job or a batch, as of one answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

FINISHED = frozenset({"succeeded", "failed", "cancelled", "expired"})


@dataclass(frozen=True, slots=True)
class Status:
    """A job. A member that the answer did not tell is None."""

    id: str
    # scheduled, queued, running, retrying, succeeded, failed, cancelled or expired.
    state: str
    attempt: int | None = None
    # Per cent, of a running job whose task reports it.
    progress: int | None = None
    # Jobs that are ahead of it.
    position: int | None = None
    # The kind of failure, and the error as text.
    reason: str | None = None
    detail: str | None = None
    # Seconds until it is worth asking again.
    retry_after: float | None = None

    @property
    def finished(self) -> bool:
        """Whether the job has ended, in any way."""
        return self.state in FINISHED


@dataclass(frozen=True, slots=True)
class ServerInfo:
    """A server: its version, and the version of the contract that it keeps (docs/compatibility.md)."""

    version: str
    contract: int


@dataclass(frozen=True, slots=True)
class BatchStatus:
    """A batch: how many of its jobs are in which state."""

    id: str
    pending: int
    succeeded: int
    failed: int
    cancelled: int
    expired: int
    # State by id, of the jobs that are still kept.
    jobs: Mapping[str, str] = field(default_factory=dict)

    @property
    def finished(self) -> bool:
        """Whether no job is pending."""
        return not self.pending
