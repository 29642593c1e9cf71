"""All that is kept of a job beside its status: its result, its failed attempts and its log."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from headway.core.body import JSON, Body
from headway.core.errors import EngineAwayError, HeadwayError
from headway.core.interface import ERROR_LONGEST, Later, Soon
from headway.core.job import Reason, State
from headway.core.job_log import JobLog
from headway.core.later import Read, Then
from headway.core.past_attempt import PastAttempt, decode_attempt
from headway.core.status import Status
from headway.core.store.keys import number_of
from headway.core.store.record import LOG_FIELDS, decode_record, decode_result, read_log
from headway.core.store.store import Store
from headway.core.tasks.result import Result
from headway.core.valkey.cache import Cache
from headway.core.valkey.statuses import Statuses
from headway.core.waiters import Waiter, slot_of

# The result of a job that returned nothing.
NULL = Result(b"null", JSON)


class LogLonger(Waiter, Later[None]):
    """More of a log than ``length`` bytes, or the end of the job, or the end of the time, or a drain."""

    __slots__ = ("_details", "length")
    of_log = True

    def __init__(self, details: Details, cache: Cache, sequence: int, length: int, seconds: float) -> None:
        super().__init__(cache.waiters, sequence, slot_of(seconds), int)
        self._details = details
        self.length = length

    def when_known(self, wake: Callable[[], object]) -> None:
        """Have ``wake`` called when there is more, at the end of the job, of the time, or at a drain."""
        self.wake = wake
        self._waiters.put(self)
        self._details.look(self.sequence)

    def is_due(self) -> bool:
        """Whether the log is longer than that."""
        return self._details.length(self.sequence) > self.length

    def value(self) -> None:
        """Return nothing: the job is read then."""


class Details:
    """Reads the rest of a job. ``place`` returns where a task runs, for an attempt that runs."""

    def __init__(self, store: Store, cache: Cache, statuses: Statuses, place: Callable[[str], str]) -> None:
        self._store = store
        self._cache = cache
        self._statuses = statuses
        self._place = place
        # Of jobs whose log is waited for: its length.
        self._lengths: dict[int, int] = {}

    def result(self, status: Status) -> Soon[Result | None]:
        """Return the result of a job, or the error of a failed one, or None if it is not kept."""
        if status.state not in (State.SUCCEEDED, State.FAILED):
            return None
        store, keys = self._store, self._store.keys_of(status.sequence)
        # One after the other, so a result that goes between the two is known to have been there.
        kept = store.ask(keys, lambda: store.call(keys, "GET", keys.result(status.sequence)))
        mark = store.ask(keys, lambda: store.call(keys, "HMGET", keys.job(status.sequence), "s", "y"))

        def made(value: bytes | None) -> Soon[Result | None]:
            if value is not None:
                return decode_result(value)
            return Then(mark, _unless_gone)

        return Then(kept, made)

    def payload(self, status: Status) -> Soon[Body | None]:
        """Return the payload of a job as it was sent, or None if it is not kept."""
        if status.state in (State.SUCCEEDED, State.CANCELLED, State.EXPIRED):
            return None
        store, keys = self._store, self._store.keys_of(status.sequence)
        kept = store.ask(keys, lambda: store.call(keys, "GET", keys.record(status.sequence)))
        return Then(kept, _body)

    def errors(self, jobs: Sequence[Status]) -> Soon[Mapping[int, str]]:
        """Return the errors of failed jobs by their number, the beginning of each."""
        failed = [status.sequence for status in jobs if status.state == State.FAILED]
        return Read(asyncio.ensure_future(self._errors(failed))) if failed else {}

    async def _errors(self, sequences: Sequence[int]) -> dict[int, str]:
        store, most = self._store, 4 * ERROR_LONGEST
        places = [(store.keys_of(sequence), sequence) for sequence in sequences]
        calls = [store.call(keys, "GETRANGE", keys.result(sequence), 0, most) for keys, sequence in places]
        found = await store.answer(asyncio.gather(*calls))
        # The media type of an error is empty.
        texts = [kept[1:].decode(errors="replace")[:ERROR_LONGEST] for kept in found]
        return {sequence: text for sequence, text in zip(sequences, texts, strict=True) if text}

    def attempts(self, status: Status) -> Soon[Sequence[PastAttempt]]:
        """Return the attempts at a job in their order, as Engine says."""
        ends = status.state in (State.RUNNING, State.SUCCEEDED) or status.reason == Reason.INTERRUPTED
        failed = status.attempt - ends
        place = self._place(status.task) if status.state == State.RUNNING else ""
        last = [PastAttempt(status.attempt, status.started, status.ended, place, Reason(status.reason))] if ends else []
        if failed <= 0:
            return last
        store, keys = self._store, self._store.keys_of(status.sequence)
        return Then(
            store.ask(keys, lambda: store.call(keys, "LRANGE", keys.attempts(status.sequence), 0, -1)),
            # Others may have failed while they were read.
            lambda found: [past for past in map(decode_attempt, found) if past.number <= failed] + last,
        )

    def log(self, status: Status) -> Soon[JobLog]:
        """Return the log of a job."""
        store, keys = self._store, self._store.keys_of(status.sequence)
        return Then(
            store.ask(keys, lambda: store.call(keys, "HMGET", keys.log(status.sequence), *LOG_FIELDS)), read_log
        )

    # Waiting for more of a log.

    def wait_log(self, status: Status, length: int, seconds: float) -> Later[Status]:
        """Return the status of a job once its log has more than ``length`` bytes, as Engine says."""
        longer = LogLonger(self, self._cache, status.sequence, length, seconds)
        return Then(longer, lambda _: self._statuses.again(status))

    def length(self, sequence: int) -> int:
        """Return the length of a log, as far as it is known here."""
        return self._lengths.get(sequence, 0)

    def look(self, sequence: int) -> None:
        """Read the length of a log, and have the next change told. Look at its job, too."""
        self._cache.look(sequence)
        store, keys = self._store, self._store.keys_of(sequence)
        with suppress(EngineAwayError):
            asked = store.ask(keys, lambda: store.read(keys, keys.log(sequence), b"n"))
            asked.when_known(lambda: self._came(sequence, asked))

    def _came(self, sequence: int, asked: Later[Any]) -> None:
        if sequence not in self._cache.waiters:
            self._lengths.pop(sequence, None)
            return
        with suppress(HeadwayError):
            self._lengths[sequence] = int(asked.value()[0] or 0)
            self._cache.waiters.grown(sequence)

    def invalid(self, keys: list[bytes] | None) -> None:
        """Look at the logs of these keys, which have changed. None: all."""
        waiters = self._cache.waiters
        if keys is None:
            self.up()
            return
        for key in keys:
            sequence = number_of(key, b"l")
            if sequence and sequence in waiters:
                self.look(sequence)

    def up(self) -> None:
        """Look at the logs that are waited for."""
        waiters = self._cache.waiters
        for sequence in [*self._lengths]:
            if sequence in waiters:
                self.look(sequence)
            else:
                del self._lengths[sequence]


def _body(record: bytes | None) -> Body | None:
    if record is None:
        return None
    terms, payload = decode_record(record)
    return Body(payload, terms.media_type or JSON)


def _unless_gone(values: list[bytes | None]) -> Result | None:
    state, mark = values
    return NULL if state == b"5" and mark is None else None
