"""An engine that tells nothing at once: what it is asked for is read elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from headway.core.errors import HeadwayError
from headway.core.interface import Later, Soon, Submitted
from headway.core.job import Submission
from headway.core.key import Key
from headway.core.local.engine import LocalEngine
from headway.core.status import Status


class Coming(Later[Any]):
    """A value on its way, or the ``error`` that comes instead. Whoever made it calls ``wake``."""

    def __init__(self, value: Any) -> None:
        self.known = value
        self.error: HeadwayError | None = None
        self.wake: Callable[[], object] = int
        self.is_cancelled = self.is_hurried = False

    def when_known(self, wake: Callable[[], object]) -> None:
        """Have ``wake`` called when the value has come."""
        self.wake = wake

    def value(self) -> Any:
        """Return the value. Raises the error."""
        if self.error is not None:
            raise self.error
        return self.known

    def hurry(self) -> None:
        """Note that the client sends no more."""
        self.is_hurried = True

    def cancel(self) -> None:
        """Do not wake."""
        self.is_cancelled = True
        self.wake = int


class LateEngine:
    """The jobs of ``engine``, as one that is asked over a wire tells of them."""

    polled = None

    def __init__(self, engine: LocalEngine) -> None:
        self._engine = engine
        self._coming: list[Coming] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def come(self) -> bool:
        """Have come what was asked for. Return whether that was anything."""
        coming, self._coming = self._coming, []
        for value in coming:
            value.wake()
        return bool(coming)

    def peek(self, job_id: bytes, brief: bool = False) -> Later[Status | None]:
        """Return the status of a job."""
        return self._late(self._engine.peek(job_id, brief))

    def peek_key(self, key: str) -> Later[Status | None]:
        """Return the status of the job under a key."""
        return self._late(self._engine.peek_key(key))

    def submit(self, submission: Submission, key: Key | None = None) -> Soon[Submitted]:
        """Take a job."""
        return self._late(self._engine.submit(submission, key))

    def _late(self, value: Any) -> Coming:
        self._coming.append(Coming(value))
        return self._coming[-1]
