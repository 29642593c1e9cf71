"""One partition of a store, driven by its scripts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import redis
from headway.core.job import Reason, State, Terms
from headway.core.key import Key
from headway.core.link.script import Script
from headway.core.retention import Retention
from headway.core.store import changes, groups, scripts, steps
from headway.core.store.changes import CancelAnswer, CancelMode
from headway.core.store.groups import NewJob, OrderStep, SubmitBounds, SubmitGroup
from headway.core.store.keys import Keyspace
from headway.core.store.record import FIELDS, LOG_FIELDS, Facts, encode_record, read_facts, read_log
from headway.core.store.steps import Finish, FinishEnd, FreePlaces
from headway.core.task import Lane

MARKER = b"0badcafe"
TERMS = Terms(timeout_s=5.0, retries=1)
KEPT = Retention.same(1000, 60.0)
BOUNDS = SubmitBounds(size=10_000, payload_bytes=1 << 30, key_ms=60_000, keys=1000)
ROOM = FreePlaces(places=32, loop=32, thread=32, process=32, orders=16)
BEAT_MS = 10_000


def job(task: str = "noop", payload: bytes = b"null", terms: Terms = TERMS, **options: Any) -> NewJob:
    """Return a job to be submitted."""
    return NewJob(task=task, record=encode_record(terms, payload), payload_bytes=len(payload), **options)


def alone(task: str = "noop", key: Key | None = None, **options: Any) -> SubmitGroup:
    """Return the group of a job alone."""
    return SubmitGroup([job(task, **options)], key=key)


def ended(claimed: steps.Claimed, state: State = State.SUCCEEDED, **options: Any) -> FinishEnd:
    """Return the end of a claimed job."""
    return FinishEnd(sequence=claimed.sequence, attempt=claimed.attempt, task=claimed.task, state=state, **options)


def failed(claimed: steps.Claimed, **options: Any) -> FinishEnd:
    """Return the failure of a claimed job."""
    return ended(claimed, State.FAILED, reason=Reason.ERROR, result=b"\nit broke", **options)


class Node:
    """A node of the partition, with its call numbers."""

    def __init__(self, partition: Partition, name: str) -> None:
        self.partition = partition
        self.name = name.encode()
        self.submits = self.steps = 0
        # How many jobs it can begin at once.
        self.free = 0
        self.kept = KEPT
        self.bounds = BOUNDS

    def join(self, tasks: dict[str, tuple[Lane | None, int | None]]) -> None:
        """Join, or renew the tasks."""
        arguments = changes.join_arguments(MARKER, self.name, BEAT_MS, tasks)
        self.partition.run(scripts.JOIN, arguments)

    def submit(self, *of: SubmitGroup, again: bool = False, order: OrderStep | None = None) -> groups.SubmitReply:
        """Submit groups, or send the last call again."""
        self.submits += not again
        arguments = groups.submit_arguments(
            MARKER,
            self.name,
            self.submits,
            of,
            bounds=self.bounds,
            partitions=self.partition.of,
            free=self.free,
            order=order,
        )
        return groups.read_submitted(self.partition.run(scripts.SUBMIT, arguments))

    def accept(self, *jobs: NewJob, key: Key | None = None) -> list[int]:
        """Submit jobs, one group each, and return their numbers."""
        answers = self.submit(*(SubmitGroup([one], key=key) for one in jobs)).answers
        assert all(isinstance(answer, groups.Accepted) for answer in answers), answers
        return [answer.first for answer in answers if isinstance(answer, groups.Accepted)]

    def step(self, *finishes: Finish, room: FreePlaces = ROOM, again: bool = False) -> steps.StepReply:
        """Take a step, or send the last one again."""
        self.steps += not again
        arguments = steps.step_arguments(MARKER, self.name, self.steps, finishes, kept=self.kept, room=room)
        return steps.read_step(self.partition.run(scripts.STEP, arguments))

    def claim(self, most: int = 32) -> list[steps.Claimed]:
        """Claim jobs."""
        return self.step(room=FreePlaces(places=most, loop=32, thread=32, process=32, orders=16)).claimed

    def finish(self, *finishes: Finish) -> list[bool]:
        """Finish attempts and claim nothing."""
        return self.step(*finishes, room=FreePlaces(0, 0, 0, 0)).done

    def in_hand(self) -> dict[int, int]:
        """Return the attempts in hand."""
        run = self.partition.client.hgetall(self.partition.keys.run(self.name.decode()))
        return {int(sequence): int(attempt) for sequence, attempt in run.items()}

    def die(self) -> None:
        """Lose the heartbeat."""
        self.partition.client.delete(self.partition.keys.heartbeat(self.name.decode()))

    def write(self, sequence: int, attempt: int, text: bytes, skipped: int = 0, bound: int = 1024) -> bool:
        """Write to the log of a job."""
        texts = [changes.Logged(sequence, attempt, text, skipped)]
        arguments = changes.write_log_arguments(MARKER, self.name, bound, texts)
        return taken(self.partition.run(scripts.WRITE_LOG, arguments))

    def report(self, sequence: int, attempt: int, percent: int, message: str = "") -> bool:
        """Report progress."""
        reports = [changes.Reported(sequence, attempt, percent, message)]
        arguments = changes.progress_arguments(MARKER, self.name, reports)
        return taken(self.partition.run(scripts.PROGRESS, arguments))


def taken(reply: bytes) -> bool:
    """Whether the one report, or text, was taken. If not, its job is no longer the node's."""
    return reply == b"1"


class Partition:
    """A partition with a node that knows four tasks."""

    def __init__(self, client: redis.Redis, number: int = 0, of: int = 1) -> None:
        self.client = client
        self.keys = Keyspace(number)
        self.of = of
        client.set(self.keys.marker, MARKER)

    def run(self, script: Script, arguments: Sequence[Any]) -> Any:
        """Run a script."""
        try:
            return self.client.evalsha(script.digest.decode(), 1, self.keys.counts, *arguments)
        except redis.exceptions.NoScriptError:
            return self.client.eval(script.text, 1, self.keys.counts, *arguments)

    def node(self, name: str = "one", **limits: int) -> Node:
        """Return a node that has joined, with limits of tasks."""
        node = Node(self, name)
        tasks: dict[str, tuple[Lane | None, int | None]] = {
            task: (Lane.THREAD, limits.get(task)) for task in ("noop", "sum", "mail")
        }
        node.join(tasks | {"slow": (Lane.PROCESS, None), "headway.retry": (None, None)})
        return node

    def facts(self, sequence: int) -> Facts | None:
        """Return the facts of a job."""
        return read_facts(self.client.hmget(self.keys.job(sequence), FIELDS))

    def state(self, sequence: int) -> State:
        """Return the state of a job, EXPIRED for one that is gone."""
        facts = self.facts(sequence)
        return State.EXPIRED if facts is None else State(facts.state)

    def log(self, sequence: int) -> tuple[bytes, bytes, int]:
        """Return head, tail and length of a log."""
        found = read_log(self.client.hmget(self.keys.log(sequence), LOG_FIELDS))
        return found.head, found.tail, found.total

    def counts(self) -> changes.PartitionCounts:
        """Return all counts."""
        return changes.read_counts(self.run(scripts.COUNTS, [MARKER]))

    def cancel(self, *sequences: int, mode: CancelMode = CancelMode.DELETE, **options: Any) -> list[CancelAnswer]:
        """Cancel jobs."""
        arguments = changes.cancel_arguments(MARKER, mode, sequences, kept=options.pop("kept", KEPT), **options)
        return changes.read_cancelled(self.run(scripts.CANCEL, arguments))

    def reap(self, node: Node, *, has_left: bool = False) -> changes.ReapReply:
        """Reap a node."""
        lanes = {"noop": "thread"}
        arguments = changes.reap_arguments(MARKER, node.name, kept=KEPT, lanes=lanes, missing_ms=0, has_left=has_left)
        return changes.read_reaped(self.run(scripts.REAP, arguments))

    def revise(self, sequence: int, priority: int | None = None, delay_ms: int | None = None) -> changes.ReviseAnswer:
        """Change a job that waits."""
        arguments = changes.revise_arguments(MARKER, sequence, priority=priority, delay_ms=delay_ms)
        return changes.read_revised(self.run(scripts.REVISE, arguments))

    def batch(self, first: int, count: int) -> changes.BatchFacts:
        """Read a batch."""
        arguments = changes.batch_arguments(MARKER, first, count, self.of)
        return changes.read_batch(self.run(scripts.BATCH, arguments))

    def dump(self) -> dict[bytes, Any]:
        """Return all keys with their content, without their times to live."""
        read = {
            b"hash": self.client.hgetall,
            b"string": self.client.get,
            b"list": lambda key: self.client.lrange(key, 0, -1),
            b"set": self.client.smembers,
            b"zset": lambda key: self.client.zrange(key, 0, -1, withscores=True),
            b"stream": self.client.xrange,
        }
        return {key: read[self.client.type(key)](key) for key in self.client.scan_iter()}


def numbers(claimed: Iterable[steps.Claimed]) -> list[int]:
    """Return the numbers of claimed jobs."""
    return [one.sequence for one in claimed]
