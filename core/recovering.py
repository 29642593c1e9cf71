"""The engine until its journal is read, or its store reached: it is not ready.

It tells when to ask again. All calls about jobs and tasks raise RecoveringError.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import BinaryIO, NoReturn

from headway.core.audit import Act
from headway.core.config import Config
from headway.core.durability import Durability
from headway.core.errors import RecoveringError
from headway.core.events import EventFilter
from headway.core.hold import Switches
from headway.core.interface import Polled
from headway.core.job import Revision, Submission
from headway.core.job_filter import JobFilter
from headway.core.key import Key
from headway.core.order import Action
from headway.core.retry_after.pace import Pace
from headway.core.status import BatchStatus, Status

# Seconds after which a client may ask whether the engine is open.
RETRY_S = 1.0


class Recovering:
    """Stands in for the engine until that is open."""

    polled: Polled | None = None
    # Nobody waits for a job that is not known yet.
    waiting = 0

    def __init__(self, config: Config) -> None:
        # The promise of the engine to come.
        self.durability: Durability = config.journal.durability
        # All clients that come now come back: those of the previous server wait for this one.
        self._pace = Pace(config.polling.share * config.polling.capacity)
        self._is_shared = config.engine is not None
        # Jobs read so far.
        self.read = 0

    @property
    def not_ready(self) -> str:
        """Why no jobs are wanted yet."""
        if self._is_shared:
            return "starting: the store is not reached yet"
        return f"recovering: {self.read} jobs read"

    def retry_after_s(self, seconds: float = RETRY_S) -> float:
        """Return the seconds until there is room for a request, and promise that room.

        They are ``seconds`` or a little more.
        """
        return self._pace.promise(time.monotonic(), seconds)

    def _refuse(self) -> NoReturn:
        raise RecoveringError(self.retry_after_s())

    def peek(self, job_id: bytes, brief: bool = False) -> NoReturn:
        """Raise RecoveringError, as do all methods below."""
        self._refuse()

    def peek_key(self, key: str) -> NoReturn:
        """Refuse."""
        self._refuse()

    def peek_batch(self, batch_id: bytes) -> NoReturn:
        """Refuse."""
        self._refuse()

    def find(self, wanted: JobFilter, after: int, limit: int) -> NoReturn:
        """Refuse."""
        self._refuse()

    def list_batch(self, batch: BatchStatus) -> NoReturn:
        """Refuse."""
        self._refuse()

    def tasks(self) -> NoReturn:
        """Refuse."""
        self._refuse()

    def task(self, name: str) -> NoReturn:
        """Refuse."""
        self._refuse()

    def switch(self, task: str, switches: Switches, act: Act | None = None) -> NoReturn:
        """Refuse."""
        self._refuse()

    def revise(self, status: Status, revision: Revision, act: Act | None = None) -> NoReturn:
        """Refuse."""
        self._refuse()

    def result(self, status: Status) -> NoReturn:
        """Refuse."""
        self._refuse()

    def attempts(self, status: Status) -> NoReturn:
        """Refuse."""
        self._refuse()

    def log(self, status: Status) -> NoReturn:
        """Refuse."""
        self._refuse()

    def errors(self, jobs: Sequence[Status]) -> NoReturn:
        """Refuse."""
        self._refuse()

    def recent_batches(self) -> NoReturn:
        """Refuse."""
        self._refuse()

    def payload(self, status: Status) -> NoReturn:
        """Refuse."""
        self._refuse()

    def wait_log(self, status: Status, length: int, seconds: float) -> NoReturn:
        """Refuse."""
        self._refuse()

    def wait(self, status: Status, seconds: float) -> NoReturn:
        """Refuse."""
        self._refuse()

    def wait_batch(self, batch: BatchStatus, seconds: float) -> NoReturn:
        """Refuse."""
        self._refuse()

    def watch(self, wanted: EventFilter, after: int | None = None) -> NoReturn:
        """Refuse."""
        self._refuse()

    def check_room(self, count: int = 1, payload_bytes: int = 0) -> NoReturn:
        """Refuse."""
        self._refuse()

    def replay(self, key: Key) -> NoReturn:
        """Refuse."""
        self._refuse()

    def replay_batch(self, key: Key) -> NoReturn:
        """Refuse."""
        self._refuse()

    def accepts(self, task: str) -> NoReturn:
        """Refuse."""
        self._refuse()

    def submit(self, submission: Submission, key: Key | None = None) -> NoReturn:
        """Refuse."""
        self._refuse()

    def submit_batch(self, submissions: Sequence[Submission], key: Key | None = None) -> NoReturn:
        """Refuse."""
        self._refuse()

    def retry(self, status: Status, key: Key | None = None, act: Act | None = None) -> NoReturn:
        """Refuse."""
        self._refuse()

    def order(self, action: Action, wanted: JobFilter, key: Key | None = None, act: Act | None = None) -> NoReturn:
        """Refuse."""
        self._refuse()

    def count_meant(self, action: Action, wanted: JobFilter) -> NoReturn:
        """Refuse."""
        self._refuse()

    def cancel(self, status: Status, act: Act | None = None) -> NoReturn:
        """Refuse."""
        self._refuse()

    def cancel_batch(self, batch: BatchStatus, act: Act | None = None) -> NoReturn:
        """Refuse."""
        self._refuse()

    def note(self, act: Act) -> NoReturn:
        """Refuse."""
        self._refuse()

    def audit(self, before: int, limit: int) -> NoReturn:
        """Refuse."""
        self._refuse()

    def history(self, minutes: int) -> NoReturn:
        """Refuse."""
        self._refuse()

    def counts(self) -> NoReturn:
        """Refuse."""
        self._refuse()

    async def start(self, on_fatal: Callable[[str], object]) -> NoReturn:
        """Refuse."""
        self._refuse()

    def resume(self) -> NoReturn:
        """Refuse."""
        self._refuse()

    def hand_over(self, file: BinaryIO) -> NoReturn:
        """Refuse."""
        self._refuse()

    async def drain(self, timeout_s: float, keeps_clients: bool = False) -> NoReturn:
        """Refuse."""
        self._refuse()

    async def stop(self) -> NoReturn:
        """Refuse."""
        self._refuse()

    async def close(self) -> NoReturn:
        """Refuse."""
        self._refuse()
