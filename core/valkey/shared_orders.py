"""Orders about many jobs, carried out by the clerk of any node.

**The set is fixed when the order comes.** It has no job with a higher number than the order's own,
and none that ended, or began, since. In other partitions the times say so. The jobs are looked for
at the beginning, and handled from the oldest on.

**Pace.** All orders of a node take turns. A step handles STEP_MOST jobs in one script, and the next
one waits as long as it took. A retry leaves a tenth of the queue to clients, and waits for room
beyond that.

**Once each.** Each partition keeps how far an order came there. A script that handles jobs names
that place, and moves it on. So a step that is sent again, or by a node that was declared dead, does
nothing, and after a SIGKILL another node goes on with the next job.
"""

from __future__ import annotations

import asyncio
import time
from array import array
from collections.abc import Mapping
from typing import Any, Protocol

import msgspec
from headway.core.errors import HeadwayError, InvalidPayloadError
from headway.core.job import Terms
from headway.core.job_filter import JobFilter
from headway.core.key import Key
from headway.core.link.reply_error import AWAY, ReplyError, StoreError
from headway.core.order import LEFT, LOOK_S, OWN_TASKS, STEP_MOST, TIMEOUT_S, Action, Order, encode_order, meant
from headway.core.retention import Retention
from headway.core.slices import SHORT_SLICE_S
from headway.core.store.changes import CancelAnswer, CancelMode, cancel_arguments, read_cancelled
from headway.core.store.groups import (
    Accepted,
    NewJob,
    NoBytes,
    NoPlaces,
    OrderStep,
    SubmitBounds,
    SubmitGroup,
    read_submitted,
    submit_arguments,
)
from headway.core.store.keys import Keyspace
from headway.core.store.record import decode_record, encode_record
from headway.core.store.scripts import CANCEL, SUBMIT
from headway.core.store.store import Store
from headway.core.task import RETRIES_MOST, Lane, Task
from headway.core.tasks.context import Context
from headway.core.tasks.payloads import check
from headway.core.tasks.retry import Snooze
from headway.core.valkey.shared_finding import SharedFinding

# Milliseconds without a step after which it is forgotten how far an order came, as the scripts have
# it too, and after its last one.
KEPT_MS, OVER_MS = 60 * 86_400_000, 86_400_000
MODES = {Action.CANCEL: CancelMode.CANCEL, Action.DELETE: CancelMode.FORGET}
DONE = {CancelAnswer.DROPPED, CancelAnswer.ASKED, CancelAnswer.FORGOTTEN}
# The order is another node's, or is over. The store was emptied.
GONE = frozenset(("FENCED", "DEAD", "MISPLACED"))
# The order has come further than this node knows, or the store serves nobody for now.
PASSING = AWAY | {"OVERTAKEN", "OOM"}


class Clerk(Protocol):
    """The node that carries out orders."""

    @property
    def name(self) -> str:
        """Its name in the store."""

    def ring(self, partition: int) -> None:
        """Look for jobs there: some may be ready."""


class Part(msgspec.Struct):
    """An order in one partition: its jobs that are left, the oldest last, and how far it came."""

    keys: Keyspace
    upto: int = 0
    done: int = 0
    skipped: int = 0
    # Jobs that fitted when the order came.
    matched: int = 0
    left: array[int] = msgspec.field(default_factory=lambda: array("Q"))


class SharedOrders:
    """Carries out orders. ``tasks`` are those that clients name, ``bounds`` and ``kept`` those of the settings."""

    def __init__(
        self,
        store: Store,
        finding: SharedFinding,
        clerk: Clerk,
        tasks: Mapping[str, Task],
        *,
        bounds: SubmitBounds,
        kept: Retention,
    ) -> None:
        self._store = store
        self._finding = finding
        self._clerk = clerk
        self._declared = tasks
        room = bounds.size - min(bounds.size // LEFT, bounds.size - 1)
        self._bounds = msgspec.structs.replace(bounds, size=room)
        self._kept = kept
        # The server's own tasks.
        self.tasks = {
            name: Task(
                name, self._carry_out, Lane.LOOP, takes_context=True, index=index, timeout_s=TIMEOUT_S, retry_on=()
            )
            for index, name in enumerate(OWN_TASKS, len(tasks))
        }
        # Steps are taken one after the other, however many orders there are.
        self._turn = asyncio.Lock()
        # Whether this node is about to end. Others go on.
        self.is_draining = False

    # For clients.

    def check(self, action: Action, wanted: JobFilter) -> None:
        """Raise InvalidError or UnknownTaskError if there is no such order."""
        self._finding.check(meant(action, wanted))

    def group(self, action: Action, wanted: JobFilter, key: Key | None) -> SubmitGroup:
        """Return an order as it is submitted. Raises InvalidError or UnknownTaskError."""
        self.check(action, wanted)
        wanted = meant(action, wanted)
        name = next(name for name, other in OWN_TASKS.items() if other is action)
        payload = encode_order(Order(action, wanted))
        record = encode_record(Terms(TIMEOUT_S, RETRIES_MOST), payload)
        return SubmitGroup([NewJob(name, record, len(payload))], "order", key)

    async def count(self, action: Action, wanted: JobFilter) -> Mapping[str, int]:
        """Return how many jobs fit, by the name of their task."""
        return await self._finding.count(meant(action, wanted))

    # For the clerk's workers.

    async def _carry_out(self, payload: object, context: Context) -> dict[str, int]:
        order = msgspec.convert(payload, Order)
        sequence, _ = self._store.ids.read(context.id.encode())
        step = OrderStep(sequence, context.attempt, self._clerk.name.encode())
        parts = await self._begin(order, sequence)
        matched = sum(part.matched for part in parts)
        while left := [part for part in parts if part.left]:
            if self.is_draining:
                raise Snooze(0)
            has_moved = False
            for part in left:
                async with self._turn:
                    begun = time.monotonic()
                    before = part.upto
                    await self._step(part, order.action, step)
                    has_moved = has_moved or part.upto != before
                    # Clients get half of the store.
                    await asyncio.sleep(max(time.monotonic() - begun, SHORT_SLICE_S))
            if has_moved:
                context.progress(100 * sum(part.done + part.skipped for part in parts) // max(matched, 1))
            else:
                await asyncio.sleep(LOOK_S)
        for part in parts:
            # A reply that is lost changes nothing.
            self._store.call(part.keys, b"PEXPIRE", part.keys.order(sequence), OVER_MS).add_done_callback(_look_at)
        done = sum(part.done for part in parts)
        # Jobs that were gone when the search was made again.
        return {"matched": matched, "done": done, "skipped": max(matched - done, 0)}

    async def _begin(self, order: Order, sequence: int) -> list[Part]:
        """Return the parts of an order that are left, with their jobs."""
        store = self._store
        while True:
            try:
                keys = store.keys_of(sequence)
                (since,) = await store.call(keys, b"HMGET", keys.job(sequence), b"t")
                if since is None:
                    raise Snooze(0)
                return [await self._part(Part(keys), order, sequence, int(since)) for keys in store.keys]
            except (StoreError, HeadwayError) as error:
                self._check(error)
                await asyncio.sleep(LOOK_S)

    async def _part(self, part: Part, order: Order, sequence: int, since_ms: int) -> Part:
        matched = await self._read(part, sequence)
        async for some in self._finding.each(order.wanted, part.keys, sequence, since_ms):
            part.left.extend(number for number in some if number > part.upto)
        if matched is None:
            matched = part.done + part.skipped + len(part.left)
            key = part.keys.order(sequence)
            await self._store.call(part.keys, b"HSETNX", key, b"matched", matched)
            await self._store.call(part.keys, b"PEXPIRE", key, KEPT_MS)
        part.matched = matched
        return part

    async def _read(self, part: Part, sequence: int) -> int | None:
        """Read how far an order came. Return how many jobs it had at first, None if that is not known yet."""
        key = part.keys.order(sequence)
        words = b"HMGET", key, b"upto", b"done", b"skipped", b"matched"
        values = await self._store.call(part.keys, *words)
        part.upto, part.done, part.skipped = (int(value or 0) for value in values[:3])
        while part.left and part.left[-1] <= part.upto:
            part.left.pop()
        return None if values[3] is None else int(values[3])

    async def _step(self, part: Part, action: Action, step: OrderStep) -> None:
        """Handle some of the jobs that are left."""
        some = [part.left[-at] for at in range(1, min(STEP_MOST, len(part.left)) + 1)]
        step = msgspec.structs.replace(step, after=part.upto)
        try:
            if action is Action.RETRY:
                done, handled = await self._resubmit(part.keys, some, step)
            else:
                words = cancel_arguments(b"", MODES[action], some, kept=self._kept, order=step)
                answers = read_cancelled(await self._store.run(part.keys, CANCEL, *words[1:]))
                done, handled = sum(answer in DONE for answer in answers), len(answers)
        except (StoreError, HeadwayError) as error:
            self._check(error)
            await asyncio.sleep(LOOK_S)
            await self._read_again(part, step.sequence)
            return
        if handled:
            del part.left[-handled:]
            part.upto = some[handled - 1]
            part.done += done
            part.skipped += handled - done

    async def _read_again(self, part: Part, sequence: int) -> None:
        """Read how far it came after a step whose reply was lost. If that fails, the next step fails as well."""
        try:
            await self._read(part, sequence)
        except StoreError as error:
            self._check(error)

    def _check(self, error: Exception) -> None:
        """Raise if the order is none of this node any more. Then nothing counts that this attempt does."""
        if isinstance(error, ReplyError) and error.code in GONE:
            raise Snooze(0) from error
        if isinstance(error, ReplyError) and error.code not in PASSING:
            raise error

    async def _resubmit(self, keys: Keyspace, some: list[int], step: OrderStep) -> tuple[int, int]:
        """Resubmit failed jobs up to the first for which there is no room. Return how many were, and were handled."""
        store = self._store
        calls = []
        for sequence in some:
            calls.append(store.call(keys, b"HMGET", keys.job(sequence), b"k", b"i"))
            calls.append(store.call(keys, b"GET", keys.record(sequence)))
        found = await asyncio.gather(*calls)
        groups = [
            self._resubmission(sequence, facts, record)
            for sequence, facts, record in zip(some, found[::2], found[1::2], strict=True)
        ]
        words = submit_arguments(
            b"", step.node, 0, groups, bounds=self._bounds, partitions=store.partitions, order=step
        )
        done = handled = 0
        for answer in read_submitted(await store.run(keys, SUBMIT, *words[1:])).answers:
            if isinstance(answer, NoPlaces | NoBytes):
                break
            done += isinstance(answer, Accepted)
            handled += 1
        if done:
            self._clerk.ring(keys.partition)
        return done, handled

    def _resubmission(self, sequence: int, facts: list[Any], record: bytes | None) -> SubmitGroup:
        """Return a failed job as it is submitted again, or as one to be skipped."""
        skipped = SubmitGroup([NewJob("", b"%d" % sequence, 0)], "skip")
        name = (facts[0] or b"").decode()
        if record is None or not self._finding.knows(name):
            return skipped
        terms, payload = decode_record(record)
        task = self._declared.get(name)
        if task is not None and task.payload_type is not None:
            # The task may have changed since. If it is declared elsewhere alone, the node that runs it checks it.
            try:
                check(payload, task.payload_type, terms.media_type)
            except InvalidPayloadError:
                return skipped
        job = NewJob.again(sequence, name, terms, len(payload), int(facts[1] or 0))
        return SubmitGroup([job], "resubmission")


def _look_at(call: asyncio.Future[Any]) -> None:
    """Take the error of a call that nobody waits for."""
    if not call.cancelled():
        call.exception()
