"""The engine's side of an attempt."""

from __future__ import annotations

from typing import Protocol

from headway.core.job import Job
from headway.core.tasks.context import Context
from headway.core.work.outcome import Outcome


class Jobs(Protocol):
    """The source of the jobs that run, and the receiver of the outcomes of their attempts."""

    def claim(self, now: float) -> Job | None:
        """Return a job that begins now, or None if none may."""

    def context(self, job: Job) -> Context:
        """Return the context for an attempt at a job that was claimed."""

    def write(self, sequence: int, attempt: int, text: bytes) -> None:
        """Add the output of a worker process to the log of the job that runs in it."""

    def settle(self, job: Job, outcome: Outcome, now: float) -> None:
        """Note the outcome of an attempt. Called once for each, unless its job was cancelled."""

    def release(self, job: Job) -> None:
        """Note that an attempt less runs at the task of ``job``. Called once for each."""
