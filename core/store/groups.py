"""The arguments and the reply of the script ``submit``: groups of jobs, and an answer to each.

A group is a job, a batch, an order, or a failed job that is resubmitted. All of its jobs are accepted
or none. A call that is sent again under its number is answered as the first time. A node has one
call to a partition at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import msgspec
import orjson
from headway.core.hold import TaskHold
from headway.core.job import Terms
from headway.core.key import Key
from headway.core.order import OWN_MOST

Argument = bytes | str | int


class NewJob(msgspec.Struct, frozen=True, gc=False):
    """A job to be accepted. Times in ms. None: there is none."""

    task: str
    # ``record.encode_record``. Of a resubmission, or of one that an order skips, the number of the
    # failed job, in digits.
    record: bytes
    payload_bytes: int
    priority: int = 5
    delay_ms: int = 0
    # From the submission on.
    deadline_ms: int | None = None
    keep_ms: int | None = None
    tags: tuple[str, ...] = ()

    @classmethod
    def again(cls, sequence: int, task: str, terms: Terms, payload_bytes: int, priority: int) -> NewJob:
        """Return a failed job as it is submitted again, on the same terms."""
        return cls(
            task=task,
            record=b"%d" % sequence,
            payload_bytes=payload_bytes,
            priority=priority,
            deadline_ms=None if terms.deadline_s is None else round(terms.deadline_s * 1000),
            keep_ms=None if terms.keep_s is None else round(terms.keep_s * 1000),
            tags=terms.tags,
        )


class SubmitGroup(msgspec.Struct, frozen=True, gc=False):
    """Jobs that are accepted together, under a key if there is one."""

    jobs: Sequence[NewJob]
    kind: Literal["job", "batch", "order", "resubmission", "skip"] = "job"
    key: Key | None = None

    @property
    def due_ms(self) -> int:
        """In how many ms the first of them has a delay or a deadline that ends. 0: none has one."""
        times = (time for job in self.jobs for time in (job.delay_ms, job.deadline_ms) if time)
        return min(times, default=0)


class OrderStep(msgspec.Struct, frozen=True, gc=False):
    """The order about many jobs of which a call is a step. It counts the jobs.

    FENCED is raised if this attempt at the order is no longer in the hands of the node, and OVERTAKEN
    if the order has come further.
    """

    sequence: int
    attempt: int
    node: bytes
    # The last job that it has handled in this partition.
    after: int = 0


class SubmitBounds(msgspec.Struct, frozen=True):
    """The bounds of the settings: on waiting jobs, on bytes of payload, and on idempotency keys."""

    size: int
    payload_bytes: int
    key_ms: int
    keys: int


class Accepted(msgspec.Struct, frozen=True, gc=False):
    """The group was accepted. Its numbers are ``first``, ``first + P`` and so on, with P partitions."""

    first: int


class Replayed(msgspec.Struct, frozen=True, gc=False):
    """The group was accepted before, under its key. ``count`` is 0 for a job alone."""

    first: int
    count: int


class Reused(msgspec.Struct, frozen=True):
    """The key was used before, with other content."""


class NoPlaces(msgspec.Struct, frozen=True):
    """Too many jobs wait. ``room`` is how many more may, below 0 if some stand past the bound."""

    room: int


class NoBytes(msgspec.Struct, frozen=True):
    """The payloads of unfinished jobs leave ``free`` bytes, and the group has more."""

    free: int


class NoOrders(msgspec.Struct, frozen=True):
    """As many orders as may be have not finished."""


class NotFailed(msgspec.Struct, frozen=True):
    """The job to be resubmitted did not fail, or has expired."""


class PayloadGone(msgspec.Struct, frozen=True):
    """The payload of the job to be resubmitted is no longer kept."""


class Closed(msgspec.Struct, frozen=True):
    """The group has a job of a task that is closed."""

    task: str
    hold: TaskHold


GroupAnswer = Accepted | Replayed | Reused | NoPlaces | NoBytes | NoOrders | NotFailed | PayloadGone | Closed


class SubmitReply(msgspec.Struct, frozen=True, gc=False):
    """The answers, one to each group in their order."""

    # When the groups came, in ms of the store's clock.
    now_ms: int
    # Waiting jobs of the partition after them.
    waiting: int
    # Bytes of payload of its unfinished jobs.
    payload_bytes: int
    answers: list[GroupAnswer]


KINDS = {"job": "j", "batch": "b", "order": "o", "resubmission": "r", "skip": "s"}
decode_hold = msgspec.json.Decoder(TaskHold).decode


def submit_arguments(
    marker: bytes,
    node: bytes,
    call: int,
    groups: Sequence[SubmitGroup],
    *,
    bounds: SubmitBounds,
    partitions: int = 1,
    free: int = 0,
    order: OrderStep | None = None,
) -> list[Argument]:
    """Return the arguments of a call. ``free`` is how many jobs the node can begin at once."""
    words: list[Argument] = [marker, node, call, partitions, bounds.size, bounds.payload_bytes, OWN_MOST, free]
    words += [bounds.key_ms, bounds.keys, len(groups), *order_words(order)]
    for group in groups:
        key = group.key
        words += [KINDS[group.kind], "" if key is None else key.text, b"" if key is None else key.digest]
        words.append(len(group.jobs))
        for job in group.jobs:
            words += [job.task, job.priority, job.delay_ms]
            words += ["" if job.deadline_ms is None else job.deadline_ms, "" if job.keep_ms is None else job.keep_ms]
            words += [orjson.dumps(job.tags) if job.tags else b"", job.record, job.payload_bytes]
    return words


def order_words(order: OrderStep | None) -> tuple[Argument, ...]:
    """Return the arguments that stand for a step of an order, or for none."""
    return ("", "", "", "") if order is None else (order.sequence, order.attempt, order.node, order.after)


def read_submitted(reply: Any) -> SubmitReply:
    """Return the reply of a call."""
    return SubmitReply(int(reply[0]), int(reply[1]), int(reply[2]), [_answer(one) for one in reply[3:]])


def _answer(reply: Any) -> GroupAnswer:
    if not isinstance(reply, list):
        return Accepted(int(reply))
    what, values = bytes(reply[0]), reply[1:]
    match what:
        case b"replayed":
            return Replayed(int(values[0]), int(values[1]))
        case b"reused":
            return Reused()
        case b"full":
            return NoPlaces(int(values[0]))
        case b"bytes":
            return NoBytes(int(values[0]))
        case b"orders":
            return NoOrders()
        case b"not failed":
            return NotFailed()
        case b"gone":
            return PayloadGone()
        case _:
            return Closed(bytes(values[0]).decode(), decode_hold(values[1]))
