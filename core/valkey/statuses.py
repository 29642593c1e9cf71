"""A job as clients see it: its facts, its position, and when to ask again."""

from __future__ import annotations

from collections.abc import Callable

from headway.core.errors import KeyReusedError
from headway.core.interface import Later, Soon
from headway.core.job import State
from headway.core.key import Key
from headway.core.later import Then, then
from headway.core.status import Status, bare
from headway.core.store.groups import NewJob, Replayed
from headway.core.store.keys import LIMITED, partition_of_name
from headway.core.store.record import Facts
from headway.core.store.store import Store
from headway.core.valkey.cache import Cache, Known
from headway.core.valkey.hints import Hints
from headway.core.valkey.snapshot import Snapshot, Snapshots
from headway.core.waiters import Waiter, slot_of

# Plain ints: a member of an enum costs twice as much to compare.
QUEUED, RUNNING, SUCCEEDED = int(State.QUEUED), int(State.RUNNING), int(State.SUCCEEDED)


class EndAwaited(Waiter, Later[None]):
    """The end of a job, or the end of the time, or a drain. The job is looked at once the client is registered."""

    __slots__ = ("_look",)

    def __init__(self, cache: Cache, sequence: int, seconds: float) -> None:
        super().__init__(cache.waiters, sequence, slot_of(seconds), int)
        self._look = cache.look

    def when_known(self, wake: Callable[[], object]) -> None:
        """Have ``wake`` called at the end of the job, of the time, or at a drain."""
        self.wake = wake
        self._waiters.put(self)
        self._look(self.sequence)

    def value(self) -> None:
        """Return nothing: the job is read then."""


class Statuses:
    """Reads jobs by number, by id and by key."""

    def __init__(self, store: Store, cache: Cache, snapshots: Snapshots, hints: Hints) -> None:
        self._store = store
        self._cache = cache
        self._snapshots = snapshots
        self._hints = hints

    def peek(self, job_id: bytes) -> Soon[Status | None]:
        """Return the status of a job, or None if it was never issued. Raises MisdirectedError."""
        ids = self._store.ids
        sequence, tag = ids.read(job_id)
        return self._read(sequence, job_id) if ids.issued(sequence, tag) else None

    def at(self, sequence: int) -> Soon[Status]:
        """Return the status of a job that was issued."""
        ids = self._store.ids
        return self._read(sequence, ids.write(sequence, ids.tag(sequence)))

    def _read(self, sequence: int, job_id: bytes) -> Soon[Status]:
        return then(self._cache.get(sequence), lambda known: self._status(sequence, job_id, known))

    def changed(self, sequence: int) -> None:
        """Note that this node has changed a job."""
        self._cache.forget(sequence)
        self._snapshots.changed()

    def anew(self, sequence: int) -> Soon[Status]:
        """Return the status of a job that this node has changed."""
        self.changed(sequence)
        return self.at(sequence)

    def wait(self, status: Status, seconds: float) -> Later[Status]:
        """Return the status of a job once it has finished, or in ``seconds``, or at a drain."""
        return Then(EndAwaited(self._cache, status.sequence, seconds), lambda _: self.again(status))

    def again(self, status: Status) -> Soon[Status]:
        """Return the present status of a job. Raises MisdirectedError if the store was emptied meanwhile."""
        sequence, _ = self._store.ids.read(status.id)
        return self._read(sequence, status.id)

    def _status(self, sequence: int, job_id: bytes, known: Known) -> Soon[Status]:
        facts = known.facts
        if facts is None:
            return bare(State.EXPIRED, sequence, job_id)
        if facts.state >= SUCCEEDED:
            return facts.status(sequence, job_id)
        if facts.state == RUNNING:
            return self._unfinished(sequence, job_id, known, self._snapshots.last)
        return then(self._snapshots.get(), lambda snapshot: self._unfinished(sequence, job_id, known, snapshot))

    def _unfinished(self, sequence: int, job_id: bytes, known: Known, snapshot: Snapshot) -> Status:
        facts = known.facts
        assert facts is not None
        ahead, held, now = 0, None, self._store.server_ms() / 1000
        if facts.state != RUNNING:
            ahead = snapshot.ahead(facts.task, facts.priority, sequence if facts.state == QUEUED else None, now)
            hold = snapshot.hold(facts.task, now)
            held = None if hold is None else hold.reason
        hint = self._hints.retry_after_ms(known, ahead, self._store.server_ms(), snapshot)
        return facts.status(sequence, job_id, position=ahead, retry_after_ms=hint, held=held)

    def describe(self, sequence: int, facts: Facts) -> Status:
        """Return the status of a job whose facts were read elsewhere, without a hint when to ask again."""
        ids, snapshot = self._store.ids, self._snapshots.last
        job_id = ids.write(sequence, ids.tag(sequence))
        if facts.state >= SUCCEEDED or facts.state == RUNNING:
            return facts.status(sequence, job_id)
        now = self._store.server_ms() / 1000
        hold = snapshot.hold(facts.task, now)
        ahead = snapshot.ahead(facts.task, facts.priority, sequence if facts.state == QUEUED else None, now)
        return facts.status(sequence, job_id, position=ahead, held=None if hold is None else hold.reason)

    def of_new(self, sequence: int, job: NewJob, now_ms: int) -> Soon[Status]:
        """Return the status of a job that the store has just accepted."""
        ids = self._store.ids
        facts = Facts(
            state=State.SCHEDULED if job.delay_ms else State.QUEUED,
            task=job.task,
            priority=job.priority,
            attempt=0,
            submitted_ms=now_ms,
            started_ms=0,
            ended_ms=0,
            reason=0,
            due_ms=now_ms + job.delay_ms if job.delay_ms else 0,
            deadline_ms=0 if job.deadline_ms is None else now_ms + job.deadline_ms,
            progress=None,
            message="",
            batch=None,
            tags=job.tags,
            kept_until_ms=0,
            node=b"",
            has_result=False,
            log_bytes=0,
            progress_ms=0,
        )
        # The last snapshot has to do: a submission does not wait for an estimate.
        return self._unfinished(sequence, ids.write(sequence, ids.tag(sequence)), Known(facts), self._snapshots.last)

    # By key.

    def under_key(self, text: str) -> Soon[tuple[Replayed, bytes] | None]:
        """Return the job or batch that a key stands for, with the digest of its content. None: none does."""
        home = partition_of_name(text, self._store.partitions)
        found = self._key_in(home, text)
        if home == LIMITED:
            return found
        # A job of a task with a limit lies there, with its key.
        return Then(found, lambda keyed: self._key_in(LIMITED, text) if keyed is None else keyed)

    def _key_in(self, partition: int, text: str) -> Later[tuple[Replayed, bytes] | None]:
        store, keys = self._store, self._store.keys[partition]
        return Then(store.ask(keys, lambda: store.call(keys, "GET", keys.key(text))), _keyed)

    def peek_key(self, text: str) -> Soon[Status | None]:
        """Return the status of the job under a key, None if it has none."""

        def found(keyed: tuple[Replayed, bytes] | None) -> Soon[Status | None]:
            return None if keyed is None or keyed[0].count else self.at(keyed[0].first)

        return then(self.under_key(text), found)

    def replay(self, key: Key) -> Soon[Replayed | None]:
        """Return the job or batch that came under ``key``, None if none did. Raises KeyReusedError."""

        def found(keyed: tuple[Replayed, bytes] | None) -> Replayed | None:
            if keyed is not None and keyed[1] != key.digest:
                raise KeyReusedError
            return None if keyed is None else keyed[0]

        return then(self.under_key(key.text), found)


def _keyed(value: bytes | None) -> tuple[Replayed, bytes] | None:
    if value is None:
        return None
    first, count, digest = value.split(b":", 2)
    return Replayed(int(first), int(count)), digest
