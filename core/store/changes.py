"""The arguments and the replies of all scripts but ``submit`` and ``step``.

For each there is a function ``…_arguments`` and, unless the reply is plain, one ``read_…``. Calls that
are repeated do no harm: the second finds the state that the first left.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from enum import Enum
from math import ceil
from typing import Any, Literal

import msgspec
import orjson
from headway.core.hold import TaskHold
from headway.core.job import State
from headway.core.job_filter import JobFilter
from headway.core.retention import Retention
from headway.core.store.groups import Argument, OrderStep, decode_hold, order_words
from headway.core.store.record import FIELDS, Facts, read_facts
from headway.core.store.steps import CLERK, LANES, kept_words
from headway.core.task import Lane

# Jobs that are cancelled, looked at, or taken from a dead node, in one call: it stays below 5 ms.
CANCELLED_MOST = 100
LOOKS_MOST = 200
REAPED_MOST = 64

# Cancelling and revising.


class CancelMode(Enum):
    """The jobs that a call of ``cancel`` is about: unfinished ones, finished ones, or all."""

    CANCEL = "c"
    FORGET = "f"
    DELETE = "d"


class CancelAnswer(Enum):
    """The effect on one job, as ``interface.Cancel`` has it, or GONE for one that has expired."""

    DROPPED = b"dropped"
    ASKED = b"asked"
    FORGOTTEN = b"forgotten"
    NOTHING = b"nothing"
    GONE = b"gone"


def cancel_arguments(
    marker: bytes, mode: CancelMode, sequences: Iterable[int], *, kept: Retention, order: OrderStep | None = None
) -> list[Argument]:
    """Return the arguments that cancel or forget up to CANCELLED_MOST jobs."""
    return [marker, *kept_words(kept), mode.value, *order_words(order), *sequences]


def read_cancelled(reply: Any) -> list[CancelAnswer]:
    """Return an answer for each job."""
    return [CancelAnswer(bytes(one)) for one in reply[1:]]


class ReviseAnswer(msgspec.Struct, frozen=True, gc=False):
    """``how``: done, the same as before, too late since it does not wait, or gone. ``state`` is that of now."""

    how: Literal["done", "same", "late", "gone"]
    state: State


def revise_arguments(marker: bytes, sequence: int, *, priority: int | None, delay_ms: int | None) -> list[Argument]:
    """Return the arguments that change a job that waits. None: leave it as it is."""
    return [marker, sequence, "" if priority is None else priority, "" if delay_ms is None else delay_ms]


def read_revised(reply: Any) -> ReviseAnswer:
    """Return the answer."""
    return msgspec.convert({"how": reply[1].decode(), "state": int(reply[2])}, ReviseAnswer)


# Switches of tasks.

encode_hold = msgspec.json.Encoder().encode


def switch_arguments(
    marker: bytes, task: str, *, before: bytes | None, after: bytes, version: int = 0
) -> list[Argument]:
    """Return the arguments that set the switches of a task: ``encode_hold``, or empty for none.

    ``before`` is None where those of an earlier version are set, whatever they are.
    """
    return [marker, task, b"*" if before is None else before, after, version]


def read_switched(reply: Any) -> tuple[bool, bytes]:
    """Return whether the switches were still ``before`` and are set, and the switches that there are."""
    return reply[0] == b"done", bytes(reply[1])


# The audit log.


def note_arguments(marker: bytes, entries: Iterable[bytes], *, kept: int) -> list[Argument]:
    """Return the arguments that add entries, of which no two are the same, and keep the last ones."""
    return [marker, kept, *entries]


# Nodes.


def join_arguments(
    marker: bytes, node: bytes, beat_ms: int, tasks: Mapping[str, tuple[Lane | None, int | None]]
) -> list[Argument]:
    """Return the arguments that let a node in: its tasks with lane and limit, None of the server's own."""
    words: list[Argument] = [marker, node, beat_ms]
    for task, (lane, most) in tasks.items():
        words += [task, f"{CLERK if lane is None else LANES[lane]}:{most or 0}"]
    return words


class Reported(msgspec.Struct, frozen=True, gc=False):
    """The progress of an attempt."""

    sequence: int
    attempt: int
    percent: int
    message: str = ""


def progress_arguments(marker: bytes, node: bytes, reports: Iterable[Reported]) -> list[Argument]:
    """Return the arguments that show the progress of attempts."""
    words: list[Argument] = [marker, node]
    for report in reports:
        words += [report.sequence, report.attempt, report.percent, report.message]
    return words


class Logged(msgspec.Struct, frozen=True, gc=False):
    """Text of an attempt, after ``skipped`` bytes that were not kept."""

    sequence: int
    attempt: int
    text: bytes
    skipped: int = 0


def write_log_arguments(marker: bytes, node: bytes, log_bytes: int, texts: Iterable[Logged]) -> list[Argument]:
    """Return the arguments that add text to logs, each of which keeps ``log_bytes``."""
    words: list[Argument] = [marker, node, log_bytes]
    for text in texts:
        words += [text.sequence, text.attempt, text.skipped, text.text]
    return words


class Reaped(msgspec.Struct, frozen=True, gc=False):
    """A job that was taken from a node: QUEUED again, or FAILED."""

    sequence: int
    task: str
    attempt: int
    state: State
    reason: int


class ReapReply(msgspec.Struct, frozen=True, gc=False):
    """``how``: the node is alive, its heartbeat is missing for too short a time, it has more jobs, or is done with."""

    how: Literal["alive", "late", "more", "done"]
    jobs: list[Reaped]


def reap_arguments(
    marker: bytes,
    node: bytes,
    *,
    kept: Retention,
    lanes: Mapping[str, str],
    missing_ms: int,
    has_left: bool = False,
) -> list[Argument]:
    """Return the arguments that take up to REAPED_MOST jobs from a node without a heartbeat for ``missing_ms``.

    ``has_left``: the node itself says that it is gone. ``lanes`` has the places of tasks, such as
    "thread", for the attempts that failed so.
    """
    return [marker, node, int(has_left), REAPED_MOST, missing_ms, *kept_words(kept), orjson.dumps(dict(lanes))]


def read_reaped(reply: Any) -> ReapReply:
    """Return the reply."""
    jobs = reply[2]
    return ReapReply(
        reply[1].decode(),
        [
            Reaped(
                sequence=int(jobs[at]),
                task=jobs[at + 1].decode(),
                attempt=int(jobs[at + 2]),
                state=State(int(jobs[at + 3])),
                reason=int(jobs[at + 4]),
            )
            for at in range(0, len(jobs), 5)
        ],
    )


# Reads.


class BatchFacts(msgspec.Struct, frozen=True, gc=False):
    """A batch. ``states`` has that of each job in the order of their numbers, 0 for one that is gone."""

    pending: int
    succeeded: int
    failed: int
    cancelled: int
    states: list[int]

    @property
    def expired(self) -> int:
        """How many of its jobs cannot be read any more."""
        return self.states.count(0)


def batch_arguments(marker: bytes, first: int, count: int, partitions: int) -> list[Argument]:
    """Return the arguments that read a batch."""
    return [marker, first, count, partitions]


def read_batch(reply: Any) -> BatchFacts:
    """Return the batch."""
    pending, succeeded, failed, cancelled, states = reply
    return BatchFacts(pending, succeeded, failed, cancelled, [digit - 48 for digit in states])


class PartitionCounts(msgspec.Struct, frozen=True, gc=False):
    """All counts of a partition. Times in ms of the store's clock."""

    now_ms: int
    # By State. Of the terminal states: all jobs that ever ended so.
    jobs: list[int]
    # Jobs that count for the bound of the queue, and bytes of payload of unfinished jobs.
    waiting: int
    payload_bytes: int
    retries: int
    # Orders that have not finished.
    orders: int
    # By priority and task: jobs that are ready.
    ready: dict[tuple[int, str], int]
    # By task: attempts under way, unfinished jobs, and jobs that ever ended, by State.
    busy: dict[str, int]
    unfinished: dict[str, int]
    ended: dict[str, list[int]]
    holds: dict[str, TaskHold]
    # By task: since when its oldest ready job is ready.
    oldest_ms: dict[str, int]
    # By State: finished jobs that are kept, or expired not long ago.
    kept: list[int]
    nodes: list[bytes]
    # Nodes whose jobs are being taken.
    dead: list[bytes]
    # Of each priority and task: the jobs that stand first, and the last entry.
    heads: dict[tuple[int, str], tuple[list[int], int]]


def read_counts(reply: Any) -> PartitionCounts:
    """Return the counts. The one argument is the marker."""
    counts = {bytes(field): int(value) for field, value in _pairs(reply[1])}
    ended: dict[str, list[int]] = {}
    unfinished: dict[str, int] = {}
    for field, value in counts.items():
        kind, _, task = field.decode().partition(":")
        if kind == "u" and value:
            unfinished[task] = value
        elif kind == "o":
            task, _, state = task.rpartition(":")
            ended.setdefault(task, [0] * len(State))[int(state)] = value
    kept = [0] * len(State)
    kept[State.SUCCEEDED : State.CANCELLED + 1] = reply[6]
    return PartitionCounts(
        now_ms=int(reply[0]),
        jobs=[counts.get(b"s:%d" % state, 0) for state in State],
        waiting=counts.get(b"waiting", 0),
        payload_bytes=counts.get(b"bytes", 0),
        retries=counts.get(b"retries", 0),
        orders=counts.get(b"own", 0),
        ready={_line(name): int(count) for name, count in _pairs(reply[2])},
        busy={task.decode(): int(count) for task, count in _pairs(reply[3])},
        unfinished=unfinished,
        ended=ended,
        holds={task.decode(): decode_hold(hold) for task, hold in _pairs(reply[4])},
        oldest_ms={task.decode(): int(since) for task, since in _pairs(reply[5])},
        kept=kept,
        nodes=list(reply[7]),
        dead=list(reply[8]),
        heads={_line(name): ([int(head) for head in heads], _number_of(last)) for name, last, heads in reply[9]},
    )


def _line(name: bytes) -> tuple[int, str]:
    return int(name[:1]), name[2:].decode()


def _number_of(entry: bytes) -> int:
    return int(entry.partition(b":")[0] or 0)


def find_arguments(
    marker: bytes, wanted: JobFilter, before: int, limit: int, *, partitions: int = 1, looks: int = LOOKS_MOST
) -> list[Argument]:
    """Return the arguments that look for jobs below number ``before``, 0 for the newest.

    The text in an error is not looked for: compare it with the result of each that is found.
    """
    states = wanted.states or frozenset(state for state in State if State.EMPTY < state < State.EXPIRED)
    if wanted.reason is not None or wanted.error is not None:
        states &= {State.FAILED}
    words: list[Argument] = [marker, partitions, before, limit, looks]
    words += ["".join(str(int(state)) for state in sorted(states)), wanted.task or "", wanted.tag or ""]
    words.append("" if wanted.reason is None else int(wanted.reason))
    spans = (wanted.submitted_after, wanted.submitted_before, wanted.ended_after, wanted.ended_before)
    # A moment is a float: what it lacks of a whole ms, or has beyond it, is no part of it.
    words += [0 if moment is None else ceil(round(moment * 1000, 3)) for moment in spans]
    return [*words, *FIELDS]


def read_found(reply: Any) -> tuple[int, list[tuple[int, Facts]]]:
    """Return the number from which on all were looked at, 0 for the end, and (number, facts), newest first."""
    found = ((int(sequence), read_facts(values)) for sequence, values in _pairs(reply[1]))
    return int(reply[0]), [(sequence, facts) for sequence, facts in found if facts is not None]


# Chores.


class Trimmed(msgspec.Struct, frozen=True, gc=False):
    """The outcome of a call of ``trim``."""

    jobs: int
    # Whether there is more to do at once.
    more: bool
    # For the next call.
    cursor: int


def trim_arguments(
    marker: bytes, *, kept: Retention, keys: int, partitions: int = 1, cursor: int = -1
) -> list[Argument]:
    """Return the arguments that forget some of the facts that are over."""
    return [marker, *kept_words(kept), keys, partitions, cursor]


def read_trimmed(reply: Any) -> Trimmed:
    """Return the outcome."""
    return Trimmed(int(reply[0]), bool(reply[1]), int(reply[2]))


def _pairs(flat: Sequence[Any]) -> Iterator[tuple[Any, Any]]:
    """Yield the pairs of a hash. It is a map in RESP3, and a list from a script."""
    if isinstance(flat, Mapping):
        yield from flat.items()
    else:
        yield from zip(flat[::2], flat[1::2], strict=True)
