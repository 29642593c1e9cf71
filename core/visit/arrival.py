"""Jobs of another engine in an empty store (core/moved.py): with their ids, numbers and times.

A job that was running waits again, and its attempt counts as one that crashed. The layout is
written last. A node that starts meanwhile begins a queue of its own, and then the import fails.
"""

from __future__ import annotations

import secrets
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import islice

import msgspec
import orjson
from headway.core.errors import MoveError
from headway.core.ids import NUMBERS_A_SECOND, NUMBERS_BEGIN_S, SALT_BYTES, TOGETHER
from headway.core.interface import LISTED_MOST
from headway.core.job import TERMINAL, Reason, State
from headway.core.job_log import JobLog
from headway.core.moved import Moved, MovedBatch, MovedJob, MovedKey, MovedQueue
from headway.core.order import OWN_TASKS, decode_order
from headway.core.past_attempt import PastAttempt, encode_attempt
from headway.core.store.layout import Layout
from headway.core.store.record import encode_record
from headway.core.store.scripts import script
from headway.core.visit.visit import Visit, VisitedPartition

# Jobs, and bytes of them, that one call brings.
FEW, FEW_BYTES = 200, 4 << 20
DIED = "was running when its server was left"

# Times are shown in ms, cut off. Of a time that had whole ms, none is lost.
_NEAR = 0.01

ADOPT = script("adopt")


class Arrived(msgspec.Struct):
    """What an import has brought. ``expired``: jobs that nobody could read any more."""

    jobs: int = 0
    keys: int = 0
    expired: int = 0


def arrive(moved: Iterable[Moved], store: Visit, key_seconds: float) -> Arrived:
    """Fill an empty store with lines. ``key_seconds``: how long idempotency keys are known. Raises MoveError."""
    _check_empty(store)
    lines = iter(moved)
    queue = next(lines)
    assert isinstance(queue, MovedQueue)
    wanted = store.address.partitions
    if queue.partitions != wanted:
        raise MoveError(
            f"the jobs come from {_counted(queue.partitions)} and {store.address} has {wanted}: their ids would not be "
            f"valid. Import into a store whose URL ends in partitions={queue.partitions}"
        )
    return _Arrival(queue, store, key_seconds).fill(lines)


def _counted(partitions: int) -> str:
    return "1 partition, as all of a journal do," if partitions == 1 else f"{partitions} partitions"


def _check_empty(store: Visit) -> None:
    for server in store.servers():
        for name in server.scan_iter(match=b"hw:*", count=1000):
            raise MoveError(
                f"{store.address}: is not empty: it has the key {name.decode(errors='replace')}. Import into an empty "
                "database, or empty this one with FLUSHDB if nothing in it is needed"
            )


class _Arrival:
    """One import."""

    def __init__(self, queue: MovedQueue, store: Visit, key_seconds: float) -> None:
        self._queue = queue
        self._store = store
        self._key_seconds = key_seconds
        self._now = time.time()
        self._partitions = [store.partition(number) for number in range(queue.partitions)]
        self._arrived = Arrived()
        # Jobs that have ended: the time of the end, the number, and all of the job.
        self._over: list[tuple[float, int, MovedJob]] = []
        # By batch: how many of its jobs have not finished, and until when one is kept.
        self._pending: Counter[int] = Counter()
        self._kept: dict[int, float] = {}

    def fill(self, lines: Iterator[Moved]) -> Arrived:
        """Bring all, the layout last."""
        batches: list[MovedBatch] = []
        self._adopt(self._unfinished(lines, batches))
        self._over.sort(key=lambda one: one[:2])
        self._adopt(job for _, _, job in self._over)
        for batch in sorted(batches, key=lambda batch: batch.first):
            self._put_batch(batch)
        self._put_queue()
        return self._arrived

    def _unfinished(self, lines: Iterator[Moved], batches: list[MovedBatch]) -> Iterator[MovedJob]:
        """Yield the unfinished jobs of lines, and keep or bring the rest."""
        for one in lines:
            if isinstance(one, MovedJob):
                if one.state not in TERMINAL:
                    if one.batch is not None:
                        self._pending[one.batch[0]] += 1
                    yield one
                elif (one.until or 0.0) > self._now:
                    if one.batch is not None:
                        self._kept[one.batch[0]] = max(self._kept.get(one.batch[0], 0.0), one.until or 0.0)
                    self._over.append((one.ended or 0.0, one.sequence, one))
                else:
                    self._arrived.expired += 1
            elif isinstance(one, MovedKey):
                self._put_key(one)
            elif isinstance(one, MovedBatch):
                batches.append(one)

    def _adopt(self, jobs: Iterable[MovedJob]) -> None:
        """Bring jobs to their partitions, some at a time, in their order."""
        rest = iter(jobs)
        while some := list(islice(rest, FEW)):
            words: dict[int, list[bytes | str | int]] = {}
            sizes: Counter[int] = Counter()
            for job in some:
                at = job.sequence % len(self._partitions)
                of_job = list(job_words(job))
                words.setdefault(at, []).extend(of_job)
                sizes[at] += sum(len(word) for word in of_job if isinstance(word, bytes))
                if sizes[at] > FEW_BYTES:
                    self._call(self._partitions[at], words.pop(at))
                    sizes[at] = 0
                self._put_order(job)
            for at, of_partition in words.items():
                self._call(self._partitions[at], of_partition)
            self._arrived.jobs += len(some)

    def _call(self, partition: VisitedPartition, words: list[bytes | str | int]) -> None:
        partition.client.eval(ADOPT.text, 1, partition.keys.counts, len(self._partitions), *words)

    def _put_order(self, job: MovedJob) -> None:
        if job.task not in OWN_TASKS or job.state in TERMINAL or job.payload is None:
            return
        order, own = decode_order(job.payload), job.sequence % len(self._partitions)
        for number, upto in enumerate(job.reached) if job.reached else ((own, order.upto),):
            far = {"done": order.done, "skipped": order.skipped} if number == own else {}
            if upto:
                far["upto"] = upto
            if any(far.values()):
                partition = self._partitions[number]
                partition.client.hset(partition.keys.prefix + b"o:%d" % job.sequence, mapping=far)

    def _put_key(self, key: MovedKey) -> None:
        left_ms = round((key.submitted + self._key_seconds - self._now) * 1000)
        if left_ms <= 0:
            return
        partition = self._partitions[key.sequence % len(self._partitions)]
        partition.client.set(
            partition.keys.key(key.text), b"%d:%d:%b" % (key.sequence, key.count, key.digest), px=left_ms
        )
        partition.client.rpush(partition.keys.prefix + b"ks", b"%d:%b" % (key.sequence, key.text.encode()))
        self._arrived.keys += 1

    def _put_batch(self, batch: MovedBatch) -> None:
        partition = self._partitions[batch.first % len(self._partitions)]
        pending, until = self._pending[batch.first], self._kept.get(batch.first)
        if not pending and until is None:
            return
        succeeded = max(batch.count - pending - batch.failed - batch.cancelled, 0)
        facts: dict[str, int] = {"c": batch.count, "p": pending}
        of_state = {"5": succeeded, "6": batch.failed, "7": batch.cancelled, "U": round((until or 0.0) * 1000)}
        facts |= {name: count for name, count in of_state.items() if count}
        name = partition.keys.batch(batch.first)
        partition.client.hset(name, mapping=facts)
        partition.client.lpush(partition.keys.batches, f"{batch.first}:{batch.count}")
        partition.client.ltrim(partition.keys.batches, 0, LISTED_MOST - 1)
        if not pending and until is not None:
            partition.client.pexpireat(name, round(until * 1000))

    def _put_queue(self) -> None:
        """Bring the counts, the switches and the ids. From here on nodes can use the store."""
        queue, first, home = self._queue, self._first_number(), self._partitions[0]
        ended: Counter[str] = Counter()
        for task, counts in queue.ended.items():
            for state, count in zip(("5", "6", "7"), counts, strict=True):
                ended[f"o:{task}:{state}"] += count
                ended[f"s:{state}"] += count
        with home.client.pipeline(transaction=False) as pipe:
            for name, count in ended.items():
                if count:
                    pipe.hincrby(home.keys.counts.decode(), name, count)
            pipe.execute()
        layout = Layout(queue.secret, queue.partitions, [*queue.salts, (first, secrets.token_bytes(SALT_BYTES))], first)
        for partition in self._partitions:
            for task, hold in queue.holds.items():
                partition.client.hset(partition.keys.hold.decode(), task, msgspec.json.encode(hold).decode())
            # The next number begins a block of them.
            last = -(-first // queue.partitions // 256) * 256 - 1
            partition.client.set(partition.keys.prefix + b"n", last)
            partition.client.set(partition.keys.marker, layout.ids().marker)
        if not self._store.write_layout(layout):
            raise MoveError(
                f"{self._store.address}: a node has begun a queue there meanwhile. Stop it, empty the database with "
                "FLUSHDB, and import again"
            )

    def _first_number(self) -> int:
        """Return a number above all that were ever given, whose tags are under a salt of its own.

        By the clock it lies above all that were given since the lines were written.
        """
        by_clock = int((self._now - NUMBERS_BEGIN_S) * NUMBERS_A_SECOND)
        return -(-(max(self._queue.high, by_clock) + 1) // TOGETHER) * TOGETHER


def job_words(job: MovedJob) -> Iterator[bytes | str | int]:
    """Yield the arguments of the script ``adopt`` for a job."""
    was_running = job.state is State.RUNNING
    attempts = list(job.attempts)
    if was_running and all(past.number != job.attempt for past in attempts):
        attempts.append(PastAttempt(job.attempt, 0.0, time.time(), "", reason=Reason.CRASHED, error=DIED))
    facts: dict[str, bytes | str | int] = {
        "s": int(State.QUEUED if was_running else job.state),
        "k": job.task,
        "i": job.priority,
        "t": int(job.submitted * 1000 + _NEAR),
        "z": 0 if job.payload is None else len(job.payload),
    }
    terms = job.terms
    deadline = None if terms.deadline_s is None else job.submitted + terms.deadline_s
    optional: dict[str, bytes | str | int | None] = {
        "a": job.attempt or None,
        "b": _ms(job.started),
        "e": _ms(job.ended),
        "r": job.reason or None,
        "D": _ms(job.due),
        "x": None if job.state in TERMINAL else _ms(deadline),
        "B": None if job.batch is None else f"{job.batch[0]}:{job.batch[1]}",
        "T": orjson.dumps(terms.tags) if terms.tags else None,
        "K": _ms(terms.keep_s),
        "U": _ms(job.until),
        "y": 1 if job.has_result else None,
        "F": 1 if attempts else None,
        "L": None if job.log is None else job.log.total,
    }
    pairs = [word for name, value in (facts | optional).items() if value is not None for word in (name, value)]
    yield from (job.sequence, len(pairs), *pairs)
    is_kept = job.payload is not None and job.state not in (State.SUCCEEDED, State.CANCELLED)
    yield encode_record(terms, job.payload or b"") if is_kept else b""
    if job.result is None:
        yield b""
    else:
        media_type, body = job.result
        # That of an error is empty.
        yield b"%b\n%b" % (b"" if job.state is State.FAILED else media_type.encode(), body)
    yield len(attempts)
    yield from map(encode_attempt, attempts)
    log: list[bytes | str | int] = [] if job.log is None else _log_words(job.log, job.attempt)
    yield len(log)
    yield from log


def _log_words(log: JobLog, attempt: int) -> list[bytes | str | int]:
    ends_line = (log.tail or log.head).endswith(b"\n")
    # Nothing more is added to the head.
    is_closed = bool(log.left_out or log.tail)
    words: dict[str, bytes | str | int] = {
        "h": log.head,
        "t": log.tail,
        "n": log.total,
        "a": attempt,
        "e": int(ends_line),
        "c": int(is_closed),
    }
    return [word for name, value in words.items() for word in (name, value)]


def _ms(seconds: float | None) -> int | None:
    return None if seconds is None else int(seconds * 1000 + _NEAR)
