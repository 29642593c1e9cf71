"""A store as values (core/moved.py): to look at, to keep, and to move to another engine.

Each job is read at one moment. Between two jobs nodes may work, so a store that is moved has none:
see ``headway engine export``.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

import msgspec
from headway.core.body import OCTETS
from headway.core.errors import MoveError
from headway.core.hold import TaskHold
from headway.core.job import ACTIVE, State, Terms, decode_terms
from headway.core.job_log import JobLog
from headway.core.moved import Moved, MovedBatch, MovedJob, MovedKey, MovedQueue
from headway.core.order import OWN_TASKS, decode_order, encode_order
from headway.core.past_attempt import decode_attempt
from headway.core.visit.visit import Visit, VisitedPartition
from msgspec.structs import replace

# Jobs that are read at one moment.
FEW = 100
TERMINAL = ("5", "6", "7")

_hold = msgspec.json.Decoder(TaskHold).decode


def leaving(store: Visit, key_seconds: float) -> Iterator[Moved]:
    """Yield all that a store has. ``key_seconds``: how long idempotency keys are known (the setting)."""
    meta, partitions = store.known, store.partitions
    last = [int(found or 0) for found in (one.client.get(one.keys.prefix + b"n") for one in partitions)]
    yield MovedQueue(
        secret=meta.secret,
        # Ids before the first salt have none.
        salts=list(meta.salts) or [(0, b"")],
        high=max(n * meta.partitions + one.number for n, one in zip(last, partitions, strict=True)),
        partitions=meta.partitions,
        ended=_ended(partitions),
        holds=_holds(partitions),
    )
    for partition in partitions:
        for job in jobs(partition):
            if job.task in OWN_TASKS and job.payload is not None and job.state in ACTIVE:
                _put_reached(job, job.payload, partitions)
            yield job
        yield from _batches(partition)
        yield from _keys(partition, key_seconds)


def jobs(partition: VisitedPartition) -> Iterator[MovedJob]:
    """Yield the jobs of a partition in the order of their numbers."""
    numbers = iter(sorted(int(name) for name in partition.names(b"j:")))
    while some := list(islice(numbers, FEW)):
        for sequence, found in zip(some, _read(partition, some), strict=True):
            facts, record, result, attempts, log = found
            # It may have expired since.
            if facts:
                yield _job(sequence, facts, (record, result, attempts, log))


def _read(partition: VisitedPartition, sequences: Sequence[int]) -> Iterator[Any]:
    keys = partition.keys
    with partition.client.pipeline(transaction=True) as pipe:
        for sequence in sequences:
            pipe.hgetall(keys.job(sequence))
            pipe.get(keys.record(sequence))
            pipe.get(keys.result(sequence))
            pipe.lrange(keys.attempts(sequence), 0, -1)
            pipe.hgetall(keys.log(sequence))
        found: Any = pipe.execute()
    return zip(*[iter(found)] * 5, strict=True)


def _job(sequence: int, facts: dict[bytes, bytes], rest: tuple[Any, Any, Any, Any]) -> MovedJob:
    record, result, attempts, log = rest
    state = State(int(facts[b"s"]))
    terms, payload = unpacked(record) if record else (None, None)
    media, _, body = (result or b"").partition(b"\n")
    batch = facts.get(b"B")
    first, _, count = (batch or b"").partition(b":")
    return MovedJob(
        sequence=sequence,
        state=state,
        task=facts[b"k"].decode(),
        priority=int(facts.get(b"i", 0)),
        # A job that succeeded needs only those by which it is found and kept.
        terms=terms or _left_terms(facts),
        submitted=_seconds(facts, b"t") or 0.0,
        attempt=int(facts.get(b"a", 0)),
        started=_seconds(facts, b"b"),
        due=_seconds(facts, b"D"),
        ended=_seconds(facts, b"e"),
        until=_seconds(facts, b"U"),
        reason=int(facts.get(b"r", 0)),
        batch=(int(first), int(count)) if batch else None,
        payload=payload,
        has_result=b"y" in facts,
        result=(media.decode() or OCTETS, body) if result is not None else None,
        attempts=[decode_attempt(one) for one in attempts],
        log=JobLog(log.get(b"h", b""), log.get(b"t", b""), int(log.get(b"n", 0))) if log else None,
    )


def _put_reached(job: MovedJob, payload: bytes, partitions: Sequence[VisitedPartition]) -> None:
    """Have an order tell as far as it was carried out, so that it goes on with the next job."""
    found = [one.hash(b"o:%d" % job.sequence) for one in partitions]
    if not all(b"matched" in one for one in found):
        # It has handled none yet.
        return
    matched, done, skipped = (sum(int(one.get(name, 0)) for one in found) for name in (b"matched", b"done", b"skipped"))
    job.reached = [int(one.get(b"upto", 0)) for one in found]
    upto = job.reached[job.sequence % len(partitions)]
    order = replace(decode_order(payload), matched=matched, done=done, skipped=skipped, upto=upto)
    job.payload = encode_order(order)


def unpacked(record: bytes) -> tuple[Terms, bytes]:
    """Return terms and payload of a record."""
    length, _, rest = record.partition(b" ")
    size = int(length)
    return decode_terms(rest[:size]), rest[size:]


def _left_terms(facts: dict[bytes, bytes]) -> Terms:
    tags = tuple(msgspec.json.decode(facts[b"T"])) if b"T" in facts else ()
    keep = float(facts[b"K"]) / 1000 if b"K" in facts else None
    return Terms(timeout_s=0.0, retries=0, tags=tags, keep_s=keep)


def _seconds(facts: dict[bytes, bytes], name: bytes) -> float | None:
    text = facts.get(name)
    return float(text) / 1000 if text else None


def _ended(partitions: Sequence[VisitedPartition]) -> dict[str, tuple[int, int, int]]:
    """Return, by task, its jobs that ever succeeded, failed and were cancelled."""
    ended: dict[str, list[int]] = {}
    for partition in partitions:
        for name, count in partition.hash(b"c").items():
            kind, _, rest = name.decode().partition(":")
            task, _, state = rest.rpartition(":")
            if kind == "o" and state in TERMINAL:
                ended.setdefault(task, [0, 0, 0])[TERMINAL.index(state)] += int(count)
    return {task: (one, two, three) for task, (one, two, three) in ended.items()}


def _holds(partitions: Sequence[VisitedPartition]) -> dict[str, TaskHold]:
    return {task.decode(): _hold(text) for one in partitions for task, text in one.hash(b"hold").items()}


def _batches(partition: VisitedPartition) -> Iterator[MovedBatch]:
    for name in partition.names(b"b:"):
        counts = partition.hash(b"b:" + name)
        if counts:
            of_state = {state: int(counts.get(state.encode(), 0)) for state in TERMINAL}
            yield MovedBatch(first=int(name), count=int(counts[b"c"]), failed=of_state["6"], cancelled=of_state["7"])


def _keys(partition: VisitedPartition, seconds: float) -> Iterator[MovedKey]:
    """Yield the idempotency keys, the oldest first."""
    found = []
    now = time.time()
    for name in partition.names(b"k:"):
        text: Any = partition.client.get(partition.keys.prefix + b"k:" + name)
        left: Any = partition.client.pttl(partition.keys.prefix + b"k:" + name)
        if text is None:
            continue
        sequence, count, digest = text.split(b":", 2)
        found.append(
            MovedKey(
                text=name.decode(),
                sequence=int(sequence),
                digest=digest,
                submitted=now + left / 1000 - seconds,
                count=int(count),
            )
        )
    yield from sorted(found, key=lambda one: one.sequence)


def check_idle(store: Visit) -> None:
    """Raise MoveError if a node is alive, which could work meanwhile."""
    alive = nodes_alive(store)
    if alive:
        raise MoveError(
            f"{store.address}: {', '.join(sorted(alive)[:3])}{' …' if len(alive) > 3 else ''} work on it: stop all "
            "nodes first, with SIGTERM, so that no job is in two places"
        )


def nodes_alive(store: Visit) -> set[str]:
    """Return the nodes that have a heartbeat."""
    alive = set()
    for partition in store.partitions:
        for node in partition.client.smembers((partition.keys.prefix + b"nodes").decode()):
            if partition.client.exists(partition.keys.prefix + b"hb:" + node):
                alive.add(node.decode())
    return alive
