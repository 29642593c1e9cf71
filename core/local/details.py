"""What is kept of a job besides its status: result, error, payload and attempts.

What memory has given up is read from the disk, if there is one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from headway.core.body import JSON, Body
from headway.core.interface import ERROR_LONGEST, Soon
from headway.core.job import Reason, State, decode_terms
from headway.core.later import Read, Then
from headway.core.local.active import Active
from headway.core.local.finding import READ_AT_ONCE
from headway.core.past_attempt import PastAttempt
from headway.core.status import Status
from headway.core.task import Task
from headway.core.tasks.result import Result

if TYPE_CHECKING:
    from headway.core.journal.reader import Reader

# The result of a job that returned nothing.
NULL = Result(b"null", JSON)


class LocalDetails:
    """Reads what is kept of the jobs of ``active``, and by ``reader`` what only the disk has.

    ``tasks`` are the declared ones, and ``own`` those of the server, by name.
    """

    def __init__(
        self, active: Active, tasks: Mapping[str, Task], own: Mapping[str, Task], reader: Reader | None
    ) -> None:
        self._active = active
        self._board = active.board
        self._tasks = tasks
        self._own = own
        self._reader = reader

    def result(self, status: Status) -> Soon[Result | None]:
        """Return the result of a finished job, from the disk if it is only there."""
        kept = self._active.results.get(status.sequence)
        if kept is not None:
            return kept.result
        if status.state == State.SUCCEEDED and not self._board.has_result[self._board.at(status.sequence)]:
            return NULL
        return None if self._reader is None else Read(asyncio.ensure_future(self._read_result(self._reader, status)))

    async def _read_result(self, reader: Reader, status: Status) -> Result | None:
        found = await reader.result(status.sequence)
        return None if found is None else Result(found[1], found[0])

    def errors(self, jobs: Sequence[Status]) -> Soon[Mapping[int, str]]:
        """Return the errors of failed jobs, from the disk if they are only there."""
        found, unread = {}, []
        for status in jobs:
            kept = self._active.results.get(status.sequence) if status.state == State.FAILED else None
            if kept is not None:
                found[status.sequence] = _cut(kept.result.body)
            elif status.state == State.FAILED:
                unread.append(status.sequence)
        if not unread or self._reader is None:
            return found
        return Read(asyncio.ensure_future(self._read_errors(self._reader, found, unread)))

    async def _read_errors(self, reader: Reader, found: dict[int, str], unread: list[int]) -> dict[int, str]:
        for at in range(0, len(unread), READ_AT_ONCE):
            errors = await reader.errors(unread[at : at + READ_AT_ONCE])
            found |= {sequence: _cut(error) for sequence, error in errors.items()}
        return found

    def payload(self, status: Status) -> Soon[Body | None]:
        """Return the payload of a job, from the disk if it is only there."""
        job = self._active.jobs.get(status.sequence)
        if job is None:
            kept = self._active.results.get(status.sequence)
            job = None if kept is None else kept.job
        if job is not None:
            return Body(job.payload, job.terms.media_type or JSON)
        return None if self._reader is None else Read(asyncio.ensure_future(self._read_payload(self._reader, status)))

    async def _read_payload(self, reader: Reader, status: Status) -> Body | None:
        saved = await reader.job(status.sequence)
        if saved is None or saved.payload is None:
            return None
        return Body(saved.payload, decode_terms(saved.terms).media_type or JSON)

    def attempts(self, status: Status) -> Soon[Sequence[PastAttempt]]:
        """Return the attempts at a job, as Engine says."""
        ends = status.state in (State.RUNNING, State.SUCCEEDED) or status.reason == Reason.INTERRUPTED
        last, failed = self._last_attempt(status) if ends else [], status.attempt - ends
        if failed <= 0:
            return last
        kept = self._active.past.whole(status.sequence, failed)
        if kept is None and self._reader is not None:
            return Then(
                Read(asyncio.ensure_future(self._reader.attempts(status.sequence))),
                # Others may have failed while they were read.
                lambda found: [past for past in found if past.number <= failed] + last,
            )
        return [*(self._active.past.get(status.sequence) if kept is None else kept), *last]

    def _last_attempt(self, status: Status) -> list[PastAttempt]:
        """Return the last attempt, which runs, succeeded or was interrupted, as its row has it.

        The row does not tell the thread, process or loop that it ran in, its ``place`` here: since its
        end a deploy may have changed that of its task.
        """
        place = ""
        if status.state == State.RUNNING:
            task = self._tasks.get(status.task) or self._own[status.task]
            place = (task.lane or self._active.workers.default_lane).value
        return [PastAttempt(status.attempt, status.started, status.ended, place, Reason(status.reason))]


def _cut(error: bytes) -> str:
    return error[: 4 * ERROR_LONGEST].decode(errors="replace")[:ERROR_LONGEST]
