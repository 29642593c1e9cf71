"""Orders about many jobs, carried out beside the workers.

**The set is fixed when the order comes.** It has no job with a higher number than the order's own,
and none that ended, or began, since. The jobs are looked for at the beginning, in slices, and
handled from the oldest on.

**Pace.** All orders take turns. A step takes half a millisecond of the loop, and with a journal the
next one begins when it is committed. A retry leaves a tenth of the queue to clients, and waits for room beyond that.

**Once each.** With a journal, each step is written in one commit with the number of its last job. So
an order that is begun again, after a restart or a kill, goes on with the next job.
"""

from __future__ import annotations

import asyncio
import time
from array import array
from collections.abc import Mapping
from typing import TYPE_CHECKING

from headway.core.errors import (
    DrainingError,
    InvalidPayloadError,
    JournalFullError,
    NotFailedError,
    OrdersFullError,
    PayloadGoneError,
    QueueFullError,
    TaskClosedError,
)
from headway.core.job import ACTIVE, Job, State
from headway.core.job_filter import JobFilter
from headway.core.key import Key
from headway.core.local.active import Active
from headway.core.local.admission import Admission
from headway.core.local.finding import Finding
from headway.core.local.uncommitted import Uncommitted
from headway.core.order import (
    LEFT,
    LOOK_S,
    OWN_MOST,
    OWN_TASKS,
    STATES,
    STEP_MOST,
    TIMEOUT_S,
    Action,
    Order,
    decode_order,
    encode_order,
    meant,
)
from headway.core.slices import SHORT_SLICE_S
from headway.core.task import Lane, Task
from headway.core.tasks.context import Context
from headway.core.tasks.retry import Snooze
from headway.core.work.outcome import Outcome
from headway.core.work.workers import Workers
from msgspec.structs import replace

if TYPE_CHECKING:
    from headway.core.journal.reader import Reader, Saved

# Errors that mean a job cannot be retried, for as long as the order is carried out.
SKIPPED = (NotFailedError, PayloadGoneError, InvalidPayloadError, TaskClosedError)


class Orders:
    """Carries out orders, and is the source of their attempts. ``reader`` reads the journal, if there is one."""

    def __init__(self, active: Active, admission: Admission, finding: Finding, reader: Reader | None) -> None:
        self._active = active
        self._admission = admission
        self._finding = finding
        self._reader = reader
        self.tasks = {
            name: Task(
                name, self._carry_out, Lane.LOOP, takes_context=True, index=index, timeout_s=TIMEOUT_S, retry_on=()
            )
            for index, name in enumerate(OWN_TASKS, active.own_from)
        }
        self.workers = Workers(OWN_MOST, active.config.results.max_result_bytes, self, Lane.LOOP)
        active.queue.on_own = self.workers.wake
        # Steps are taken one after the other, however many orders there are.
        self._turn = asyncio.Lock()
        # Orders that may not have ended, by number.
        self._open: set[int] = set()
        # By number: as far as an order was carried out by this process.
        self._reached: dict[int, Order] = {}

    # For clients.

    def accept(self, action: Action, wanted: JobFilter, now: float, key: Key | None) -> int:
        """Accept an order and return its number.

        Raises InvalidError, UnknownTaskError, DrainingError, JournalFullError or OrdersFullError.
        """
        wanted = meant(action, wanted)
        self._finding.check(wanted)
        board, changes = self._active.board, self._active.changes
        self._open = {
            order for order in self._open if board.state(order) in ACTIVE or changes.uncommitted(order) is not None
        }
        if len(self._open) >= OWN_MOST:
            raise OrdersFullError(OWN_MOST, 1, 0, self._active.estimate.later(1.0, now))
        task = next(task for task in self.tasks.values() if OWN_TASKS[task.name] is action)
        sequence = self._admission.accept_own(task, encode_order(Order(action, wanted)), now, key)
        self._open.add(sequence)
        return sequence

    async def count(self, action: Action, wanted: JobFilter) -> Mapping[str, int]:
        """Return how many jobs fit, by the name of their task."""
        found = await self._finding.count(meant(action, wanted))
        return {name: count for name, count in found.items() if name not in OWN_TASKS}

    # For the worker.

    def claim(self, now: float) -> Job | None:
        """Return an order that begins now, or None."""
        active = self._active
        if not active.changes.may_claim:
            return None
        sequence = active.queue.claim_own()
        if not sequence:
            return None
        # Those of the previous process count, too.
        self._open.add(sequence)
        active.changes.claimed(sequence, active.board.move(sequence, State.RUNNING, now))
        return active.jobs[sequence]

    def context(self, job: Job) -> Context:
        """Return the context for an attempt."""
        return self._active.context(job)

    def write(self, sequence: int, attempt: int, text: bytes) -> None:
        """Add text to the log of an order."""
        self._active.write(sequence, attempt, text)

    def release(self, job: Job) -> None:
        """Note that an attempt has ended."""
        self._active.queue.release(job.task.index)

    def settle(self, job: Job, outcome: Outcome, now: float) -> None:
        """End an attempt. Nothing is learnt from its time."""
        if not self._active.changes.keeps_back(job, outcome, now):
            self._active.decide(job, outcome, now, learns=False)

    # Carrying out.

    async def _carry_out(self, _: object, context: Context) -> dict[str, int]:
        job = self._active.jobs[self._active.ids.read(context.id.encode())[0]]
        order = self._reached.get(job.sequence) or decode_order(job.payload)
        left = await self._find(job.sequence, order)
        if order.matched is None:
            order = replace(order, matched=len(left))
        while left:
            self._check_drain(order)
            before = order
            if not self._active.changes.full and self._has_room(order.action):
                async with self._turn:
                    order = await self._step(job, order, left)
                    # As long as a step: clients get half of the loop.
                    await asyncio.sleep(SHORT_SLICE_S)
            if order is before:
                await asyncio.sleep(LOOK_S)
                continue
            self._reached[job.sequence] = order
            context.progress(100 * (order.done + order.skipped) // max(order.matched or 0, 1))
        self._reached.pop(job.sequence, None)
        matched = order.matched or 0
        # Jobs that were gone when the search was made again.
        return {"matched": matched, "done": order.done, "skipped": max(matched - order.done, 0)}

    async def _find(self, sequence: int, order: Order) -> array[int]:
        """Return the jobs that are left, the oldest last."""
        board, since = self._active.board, self._active.board.submitted[self._active.board.at(sequence)]
        found = array("Q")
        async for some in self._finding.each(order.wanted, sequence):
            # In a turn of its own: the search took its slice of this one.
            await asyncio.sleep(0)
            for other in some:
                row = board.row(other)
                if row < 0 or other <= order.upto or board.task[row] in self._indexes:
                    continue
                state = board.state(other)
                changed = board.ended[row] if state >= State.SUCCEEDED else board.started[row]
                if changed <= since:
                    found.append(other)
        return found

    @property
    def _indexes(self) -> range:
        return range(self._active.own_from, self._active.own_from + len(self.tasks))

    def _check_drain(self, order: Order) -> None:
        """Stop, if the server is about to end and would wait for the order."""
        if not self._admission.draining:
            return
        if self._reader is not None:
            # The next process goes on.
            raise Snooze(1.0)
        if order.action is Action.RETRY:
            raise OrderCutError(order)

    def _has_room(self, action: Action) -> bool:
        queue = self._active.queue
        return action is not Action.RETRY or queue.room > min(queue.size // LEFT, queue.size - 1)

    async def _step(self, job: Job, order: Order, left: array[int]) -> Order:
        """Handle some of the jobs ``left``, and take them out. Return the order as far as it was carried out."""
        before, some = order, [left[-at] for at in range(1, min(STEP_MOST, len(left)) + 1)]
        await self._settled([*some, job.sequence])
        saved = await self._read(some) if order.action is Action.RETRY else {}
        changes, until = self._active.changes, time.monotonic() + SHORT_SLICE_S
        if changes.uncommitted(job.sequence) is not None:
            # A client cancels the order.
            return before
        with changes.together():
            for at, sequence in enumerate(some):
                if changes.uncommitted(sequence) is not None or not self._has_room(order.action):
                    some = some[:at]
                    break
                try:
                    is_done = self._handle(order.action, sequence, saved.get(sequence))
                except (QueueFullError, JournalFullError, DrainingError):
                    some = some[:at]
                    break
                order = replace(order, done=order.done + is_done, skipped=order.skipped + (not is_done), upto=sequence)
                if time.monotonic() > until:
                    some = some[: at + 1]
                    break
            if not some:
                return before
            changes.keep_order(job, encode_order(order))
        change = changes.uncommitted(job.sequence)
        if change is not None and not await _committed(change):
            # None of it was done.
            return before
        del left[-len(some) :]
        return order

    async def _settled(self, some: list[int]) -> None:
        """Wait for the changes of these jobs that are uncommitted. The order goes by the states after them."""
        change = self._active.changes.last_uncommitted(some)
        if change is not None:
            await _committed(change)

    async def _read(self, some: list[int]) -> dict[int, Saved]:
        """Read the jobs whose payloads are on the disk alone."""
        found: dict[int, Saved] = {}
        for sequence in some:
            kept = self._active.results.get(sequence)
            if self._reader is not None and (kept is None or kept.job is None):
                saved = await self._reader.job(sequence)
                if saved is not None:
                    found[sequence] = saved
        return found

    def _handle(self, action: Action, sequence: int, saved: Saved | None) -> bool:
        """Do to a job what is ordered. Return False if it has changed. Raises as a submission does."""
        active, now = self._active, time.monotonic()
        row = active.board.row(sequence)
        if row < 0 or active.board.state(sequence) not in STATES[action] or not active.board.readable(row, now):
            return False
        if action is Action.CANCEL:
            active.changes.cancel(sequence, now)
        elif action is Action.DELETE:
            active.changes.forget(sequence)
        else:
            try:
                self._admission.resubmit(self._finding.reading.at(sequence), saved, now)
            except SKIPPED:
                return False
        return True


class OrderCutError(Exception):
    """The server ends, and has no place to keep an order until the next start."""

    def __init__(self, order: Order) -> None:
        super().__init__(f"the server is shutting down: {order.done} of {order.matched} jobs were retried")


async def _committed(change: Uncommitted) -> bool:
    """Wait for a change. Return False if it was refused."""
    done = asyncio.Event()
    change.wakes += (done.set,)
    await done.wait()
    return not change.no_room
