"""Submissions on their way to the store: groups of one turn of the loop in one call of a script.

One call of a partition is under way at a time. Groups that come meanwhile gather and leave with the
next one, so the busier the store is, the more a call carries.

**Nothing twice, nothing half.** A call has a number. If its reply is lost, it is sent again under
the same number when the connection is there again, and the store answers it as the first time. If
that does not happen within PATIENCE_S, the outcome is unknown, and the client is told so: with an
idempotency key it may submit again. A call that never left changed nothing. While the store is away
nothing is taken: no submission waits in memory.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from headway.core.errors import EngineAwayError, HeadwayError, OutcomeUnknownError
from headway.core.interface import Later
from headway.core.link.greeting import fact_of
from headway.core.link.reply_error import LinkLostError, ReplyError
from headway.core.store.groups import (
    Accepted,
    Argument,
    GroupAnswer,
    SubmitBounds,
    SubmitGroup,
    SubmitReply,
    read_submitted,
    submit_arguments,
)
from headway.core.store.keys import Keyspace
from headway.core.store.scripts import SUBMIT
from headway.core.store.store import Store, for_client

# Jobs, and bytes of them, above which the groups of a turn take more than one call.
JOBS_MOST = 128
BYTES_MOST = 4 * 1024 * 1024
# Seconds between two tries of a call that was refused because this node was taken for dead, or
# because the store was emptied.
AGAIN_S = 0.05
# The store takes the node for dead, or its keys are not those of these ids.
REPAIRED = frozenset(("DEAD", "MISPLACED"))


class Submitter(Protocol):
    """The node, as far as its submissions need it."""

    @property
    def name(self) -> str:
        """Its name in the store."""

    @property
    def free(self) -> int:
        """How many jobs it can begin at once."""

    def submitted(self, partition: int) -> None:
        """Look for jobs: some were submitted in this turn of the loop."""

    def expect(self, partition: int, delay_s: float) -> None:
        """Look for jobs that are due in ``delay_s``."""


class Submitting(Later[GroupAnswer]):
    """Jobs that are submitted together, and the answer to them once it is there."""

    __slots__ = ("_wake", "answer", "error", "jobs", "now_ms", "on_end", "waiting")

    def __init__(self, jobs: SubmitGroup) -> None:
        self.jobs = jobs
        self.answer: GroupAnswer | None = None
        self.error: HeadwayError | None = None
        # When the answer was given, in ms of the store's clock, and how many jobs waited then.
        self.now_ms = self.waiting = 0
        self._wake: Callable[[], object] = int
        # Called with the answer, None if there is none, whether or not a client still waits for it.
        self.on_end: Callable[[GroupAnswer | None], object] = id

    def when_known(self, wake: Callable[[], object]) -> None:
        """Have ``wake`` called once it is answered."""
        self._wake = wake

    def value(self) -> GroupAnswer:
        """Return the answer. Raises the HeadwayError that came instead."""
        if self.answer is None:
            raise self.error or EngineAwayError()
        return self.answer

    def cancel(self) -> None:
        """Do not wake. The jobs are submitted all the same."""
        self._wake = int

    def end(self, answer: GroupAnswer | None, error: HeadwayError | None = None) -> None:
        """Answer it."""
        self.answer, self.error = answer, error
        self.on_end(answer)
        self._wake()


class SubmitCall:
    """A call that is under way."""

    __slots__ = ("groups", "node", "number", "until", "was_sent")

    def __init__(self, number: int, groups: Sequence[Submitting], node: str) -> None:
        self.number = number
        self.groups = groups
        self.node = node
        # From then on it is not sent again, of the loop's time. 0.0: it was never lost.
        self.until = 0.0
        # Whether it may have been carried out.
        self.was_sent = False


class SubmitLine:
    """The submissions of one partition."""

    def __init__(self, store: Store, keys: Keyspace, node: Submitter, bounds: SubmitBounds) -> None:
        self._store = store
        self._keys = keys
        self._node = node
        self._bounds = bounds
        self._loop = asyncio.get_running_loop()
        self._waiting: list[Submitting] = []
        self._call: SubmitCall | None = None
        self._number = 0
        self._is_woken = False
        self._timer: asyncio.TimerHandle | None = None
        # Called with each reply.
        self.on_reply: Callable[[SubmitReply], object] = lambda *_: None
        # Called with the keys of the partition, and whether the store had memory for the jobs of a call.
        self.on_room: Callable[[Keyspace, bool], object] = lambda *_: None

    @property
    def _is_up(self) -> bool:
        return self._store.is_up_at(self._keys.partition)

    @property
    def _patience_s(self) -> float:
        return self._store.patience_s(self._keys.partition)

    def put(self, group: Submitting) -> None:
        """Submit a group."""
        self._waiting.append(group)
        if not self._is_woken and self._call is None:
            self._is_woken = True
            self._loop.call_soon(self._begin)

    def up(self) -> None:
        """Send the call again whose reply was lost: the connection is there."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._call is not None:
            self._send(self._call)

    def _begin(self) -> None:
        self._is_woken = False
        if self._call is not None or not self._waiting:
            return
        groups: list[Submitting] = []
        jobs = size_bytes = 0
        for group in self._waiting:
            jobs += len(group.jobs.jobs)
            size_bytes += sum(job.payload_bytes for job in group.jobs.jobs)
            if groups and (jobs > JOBS_MOST or size_bytes > BYTES_MOST):
                break
            groups.append(group)
        del self._waiting[: len(groups)]
        self._number += 1
        self._call = SubmitCall(self._number, groups, self._node.name)
        self._send(self._call)

    def _send(self, call: SubmitCall) -> None:
        if call.node != self._node.name and not call.was_sent:
            # The node has another name now, and under the former one nothing was done.
            call.node = self._node.name
        sent = self._store.run(self._keys, SUBMIT, *self._words(call))
        sent.add_done_callback(lambda sent: self._came(call, sent))
        # In the same write.
        self._node.submitted(self._keys.partition)

    def _words(self, call: SubmitCall) -> Sequence[Argument]:
        words = submit_arguments(
            b"",
            call.node.encode(),
            call.number,
            [group.jobs for group in call.groups],
            bounds=self._bounds,
            partitions=self._store.partitions,
            free=self._node.free,
        )
        # The store puts the marker before them.
        return words[1:]

    def _came(self, call: SubmitCall, sent: asyncio.Future[Any]) -> None:
        if call is not self._call:
            return
        error = sent.exception()
        if error is None:
            self._end(call, read_submitted(sent.result()))
        elif isinstance(error, LinkLostError):
            call.was_sent = call.was_sent or error.sent
            self._try_again(call, self._patience_s)
        elif isinstance(error, ReplyError) and error.code in REPAIRED and not call.was_sent:
            # Nothing was done. In a moment the node is there again, or the ids are.
            self._try_again(call, AGAIN_S)
        else:
            self._fail(call, error)

    def _try_again(self, call: SubmitCall, seconds: float) -> None:
        now = self._loop.time()
        call.until = call.until or now + self._patience_s
        if now >= call.until:
            self._fail(call, EngineAwayError())
        elif self._is_up and seconds > AGAIN_S:
            self._send(call)
        else:
            self._timer = self._loop.call_later(min(seconds, call.until - now) + 0.001, self._ring)

    def _ring(self) -> None:
        self._timer = None
        if self._call is None:
            return
        if self._is_up:
            self._send(self._call)
        else:
            self._try_again(self._call, self._patience_s)

    def _end(self, call: SubmitCall, reply: SubmitReply) -> None:
        self._store.learn_time(self._keys, reply.now_ms)
        self.on_room(self._keys, True)
        self.on_reply(reply)
        due = [
            group.jobs.due_ms
            for group, answer in zip(call.groups, reply.answers, strict=True)
            if type(answer) is Accepted
        ]
        if (soonest := min(filter(None, due), default=0)) > 0:
            self._node.expect(self._keys.partition, soonest / 1000)
        self._next()
        for group, answer in zip(call.groups, reply.answers, strict=True):
            group.now_ms, group.waiting = reply.now_ms, reply.waiting
            group.end(answer)

    def _fail(self, call: SubmitCall, error: BaseException) -> None:
        if isinstance(error, ReplyError) and error.code == "OOM":
            self.on_room(self._keys, False)
        self._next()
        for group in call.groups:
            group.end(None, OutcomeUnknownError() if call.was_sent else for_client(error))

    def _next(self) -> None:
        self._call = None
        if self._waiting and not self._is_woken:
            self._is_woken = True
            self._loop.call_soon(self._begin)


class Submissions:
    """The submissions of this node, a line for each partition."""

    def __init__(self, store: Store, node: Submitter, bounds: SubmitBounds) -> None:
        self._store = store
        self._lines = [SubmitLine(store, keys, node, bounds) for keys in store.keys]
        self._turn = 0
        # The partition that refused the last submission for want of memory. None: the last was answered, or
        # there is memory again.
        self.full: Keyspace | None = None
        for line in self._lines:
            line.on_room = self._had_room

    def _had_room(self, keys: Keyspace, is_there: bool) -> None:
        self.full = None if is_there else keys

    async def look_for_room(self) -> None:
        """Ask a store that was full whether it has memory again: nobody may submit to a node that is not ready.

        One that does not tell is tried by the next submission. Raises LinkLostError.
        """
        if self.full is None:
            return
        try:
            memory = await self._store.call(self.full, "INFO", "memory")
        except ReplyError:
            self.full = None
            return
        most, used = (int(fact_of(memory, name) or 0) for name in ("maxmemory", "used_memory"))
        if not most or used < most:
            self.full = None

    def on_reply(self, told: Callable[[SubmitReply], object]) -> None:
        """Have ``told`` called with each reply."""
        for line in self._lines:
            line.on_reply = told

    def next_partition(self) -> int:
        """Return the partition of the next group that may lie in any: one that can be reached."""
        for _ in self._lines:
            self._turn = (self._turn + 1) % len(self._lines)
            if self._store.is_up_at(self._turn):
                break
        return self._turn

    def put(self, partition: int, jobs: SubmitGroup) -> Submitting:
        """Submit a group. Raises EngineAwayError, and takes nothing, while the store is away."""
        if not self._store.patience_s(partition):
            raise EngineAwayError
        group = Submitting(jobs)
        self._lines[partition].put(group)
        return group

    def up(self) -> None:
        """Go on: the connection is there again."""
        for line in self._lines:
            line.up()
