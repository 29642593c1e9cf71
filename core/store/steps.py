"""The arguments and the reply of the script ``step``: ends of attempts go in, jobs to begin come out.

A node has one step of a partition at a time. It repeats a step that was not answered, with the same
arguments, until it is: then nothing is done twice, and no claimed job is lost.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from headway.core.job import Reason, State
from headway.core.retention import Retention
from headway.core.store.groups import Argument
from headway.core.task import Lane

# The digit of the lane of the server's own tasks, after those of ``LANES``.
LANES = {Lane.LOOP: 0, Lane.THREAD: 1, Lane.PROCESS: 2}
CLERK = 3
STRIDE = 8


class Finish(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """The end of an attempt. ``releases``: whether it gives back its part of the limits of its task."""

    sequence: int
    attempt: int
    task: str
    releases: bool = True
    # ``core.past_attempt.encode_attempt`` of one that failed.
    past: bytes = b""


class FinishEnd(Finish, frozen=True, gc=False, kw_only=True):
    """The job has ended. ``result`` is made by ``record.encode_result``, empty for ``null``."""

    state: State
    reason: Reason = Reason.NONE
    result: bytes = b""


class FinishRetry(Finish, frozen=True, gc=False, kw_only=True):
    """Another attempt begins in ``delay_ms``."""

    delay_ms: int


class FinishSnooze(Finish, frozen=True, gc=False, kw_only=True):
    """The job is due in ``delay_ms``, as if this attempt had not begun."""

    delay_ms: int


class FinishPutBack(Finish, frozen=True, gc=False, kw_only=True):
    """The job is ready again, first in its line, as if this attempt had not begun.

    Of several jobs the one that goes first is given last.
    """


class FinishRelease(Finish, frozen=True, gc=False, kw_only=True):
    """The attempt was over before. Its thread has returned now, or its job was cancelled."""


class FreePlaces(msgspec.Struct, frozen=True, gc=False):
    """How many jobs a node can begin: in all, by lane, and orders."""

    places: int
    loop: int
    thread: int
    process: int
    orders: int = 0


class Claimed(msgspec.Struct, frozen=True, gc=False):
    """A job that the node begins now. Times in ms of the store's clock. None: there is none."""

    sequence: int
    # Its number, 1 for the first.
    attempt: int
    task: str
    # For ``record.decode_record``.
    record: bytes
    submitted_ms: int
    due_ms: int | None
    deadline_ms: int | None
    # The first number and the count of its batch.
    batch: tuple[int, int] | None

    @property
    def ready_ms(self) -> int:
        """When the job was ready for its first attempt, or after its delay."""
        return self.due_ms or self.submitted_ms


class Overdue(msgspec.Struct, frozen=True, gc=False):
    """A job that failed at its deadline while it waited, after so many attempts."""

    sequence: int
    task: str
    attempts: int


class StepReply(msgspec.Struct, frozen=True, gc=False):
    """The reply of a step."""

    # When it was, in ms of the store's clock.
    now_ms: int
    # For each finish whether it counts. False: it was fenced, and its job is no longer the node's.
    done: list[bool]
    # Until the next delay or deadline. None: there is none.
    next_ms: int | None
    # Whether more is ready for this node, or due.
    more: bool
    overdue: list[Overdue]
    claimed: list[Claimed]


def step_arguments(
    marker: bytes,
    node: bytes,
    call: int,
    finishes: Sequence[Finish],
    *,
    kept: Retention,
    room: FreePlaces,
) -> list[Argument]:
    """Return the arguments of a step. ``kept`` is what this partition keeps."""
    words: list[Argument] = [
        marker,
        node,
        call,
        *kept_words(kept),
        room.places,
        room.loop,
        room.thread,
        room.process,
        room.orders,
    ]
    words.append(len(finishes))
    for finish in finishes:
        words += [finish.sequence, finish.attempt, *_verb(finish), finish.past]
    return words


def kept_words(kept: Retention) -> list[Argument]:
    """Return the arguments that say for how long finished jobs are kept, in ms, and how many, by their outcome."""
    outcomes = (State.SUCCEEDED, State.FAILED, State.CANCELLED)
    return [word for state in outcomes for word in (round(kept.seconds[state] * 1000), kept.jobs[state])]


def _verb(finish: Finish) -> tuple[Argument, ...]:
    """Return verb, released task, two values and the result."""
    task = finish.task if finish.releases else ""
    match finish:
        case FinishEnd():
            return "e", task, int(finish.state), int(finish.reason), finish.result
        case FinishRetry():
            return "r", task, finish.delay_ms, "", b""
        case FinishSnooze():
            return "s", task, finish.delay_ms, "", b""
        case FinishPutBack():
            return "b", task, 0, "", b""
        case _:
            return "l", task, 0, "", b""


def read_step(reply: Any) -> StepReply:
    """Return the reply of a step."""
    now, done, soonest, more, count = reply[:5]
    overdue, claims = reply[5 : 5 + count], reply[5 + count :]
    return StepReply(
        now_ms=int(now),
        done=[digit == 49 for digit in done],
        next_ms=None if soonest < 0 else int(soonest),
        more=bool(more),
        overdue=[
            Overdue(int(overdue[at]), overdue[at + 1].decode(), int(overdue[at + 2]))
            for at in range(0, len(overdue), 3)
        ],
        claimed=[_claimed(claims[at : at + STRIDE]) for at in range(0, len(claims), STRIDE)],
    )


def _claimed(values: list[Any]) -> Claimed:
    batch = values[7]
    return Claimed(
        sequence=int(values[0]),
        attempt=int(values[1]),
        task=values[2].decode(),
        record=values[3],
        submitted_ms=int(values[4]),
        due_ms=int(values[5]) if values[5] else None,
        deadline_ms=int(values[6]) if values[6] else None,
        batch=read_batch_place(batch) if batch else None,
    )


def read_batch_place(text: bytes) -> tuple[int, int]:
    """Return the first number and the count of a batch from ``first:count``."""
    first, _, count = text.partition(b":")
    return int(first), int(count)
