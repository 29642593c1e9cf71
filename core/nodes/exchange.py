"""The steps of a node in one partition: ends of attempts go out, jobs to begin come in.

**One at a time.** While a step is under way the ends of attempts gather, and all of them leave with
the next one. So the busier the store, the more a step carries. A step whose reply was lost is sent
again, the same to the byte, before any other: the store answers it as the first time.

**When.** A step leaves when an attempt has ended, when the store has rung, when jobs were submitted
here and workers are free, when the next delay or deadline is due, and otherwise every POLL_S: a
bell can be lost.

**The look.** A push can be lost too. So every LOOK_S the jobs that the store has in this node's
hands are compared with those that it knows of.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from contextvars import Context as Variables
from math import inf
from typing import Any, Protocol

from headway.core.link.calls import Calls
from headway.core.link.reply_error import AWAY, LinkLostError, ReplyError, StoreError
from headway.core.nodes.outbox import Outbox
from headway.core.retention import Retention
from headway.core.store.changes import Logged, Reported, progress_arguments, write_log_arguments
from headway.core.store.groups import Argument
from headway.core.store.keys import Keyspace
from headway.core.store.scripts import PROGRESS, STEP, WRITE_LOG
from headway.core.store.steps import Finish, FinishPutBack, FreePlaces, StepReply, read_step, step_arguments

log = logging.getLogger(__name__)

# Seconds between two steps at the longest, less up to a fifth at random.
POLL_S = 1.0
# Seconds between two looks at the jobs that the store has in this node's hands, while there are any.
LOOK_S = 0.8
# Seconds before a step that was refused is sent again, half of them at random.
AGAIN_S = 0.5
# The node was declared dead, and the keys are not those of these ids.
DEAD, MISPLACED = "DEAD", "MISPLACED"


class Taker(Protocol):
    """The side of ``Hands``."""

    # How long finished jobs of a partition are kept.
    kept: Retention
    # Whether the node is registered, so that steps may leave.
    is_open: bool

    @property
    def name(self) -> str:
        """The name of the node."""

    @property
    def marker(self) -> bytes:
        """The marker of the ids."""

    def room(self, exchange: Exchange) -> FreePlaces:
        """Return how many jobs may be claimed now."""

    def taken(self, exchange: Exchange, finishes: list[Finish], reply: StepReply) -> None:
        """Take the reply of a step."""

    def looked(self, exchange: Exchange, run: dict[int, int]) -> None:
        """Compare the attempts that the store has in this node's hands with those that it knows of."""

    def refused(self, exchange: Exchange, code: str) -> None:
        """Act on DEAD and MISPLACED: nothing that this node has counts any more."""

    def leaving(self, finishes: list[Finish]) -> None:
        """Send what has to come before these ends."""


class Exchange:
    """The steps of ``partition``."""

    def __init__(self, taker: Taker, keys: Keyspace, link: Calls) -> None:
        self.keys = keys
        self.link = link
        self.outbox = Outbox()
        # The jobs that the step under way may bring.
        self.asked = 0
        # When a step was answered last, of time.monotonic.
        self.answered_at = time.monotonic()
        # Whether jobs that this node can begin may be ready, and whether it was told so during a step.
        self.has_more = True
        self._is_rung = False
        # Whether the last step was answered. Empty, or why not.
        self.why = ""
        self._taker = taker
        self._loop = asyncio.get_running_loop()
        self._call = 0
        # The step that was not answered yet: its ends and its arguments.
        self._step: tuple[list[Finish], list[Argument]] | None = None
        # Whether a call is under way, whether one comes in the next turn of the loop, and whether a step
        # has to leave even if it carries and asks for nothing.
        self._is_busy = self._is_woken = False
        self._is_due = True
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = inf
        self._look_at = 0.0
        # Grows when all that is under way is given up.
        self._epoch = 0

    @property
    def is_settled(self) -> bool:
        """Whether nothing waits for the store."""
        return not self.outbox and self._step is None and not self._is_busy

    @property
    def is_fit(self) -> bool:
        """Whether jobs can be claimed. Any thread may ask."""
        return self._taker.is_open and self.link.is_up and not self.why

    def put(self, finish: Finish) -> None:
        """Send the end of an attempt with the next step."""
        self.outbox.put(finish)
        self.wake()

    def ring(self) -> None:
        """Look for jobs: some may be ready."""
        # If no worker is free the step has the store ring another node.
        self.has_more = self._is_due = self._is_rung = True
        self.wake()

    def submitted(self) -> None:
        """Look for the jobs that were submitted in this turn of the loop, in the same write."""
        self.has_more = self._is_rung = True
        self.step()

    def expect(self, delay_s: float) -> None:
        """Step in ``delay_s`` at the latest: a job that was submitted here is due then."""
        if self._loop.time() + delay_s < self._timer_at:
            self._set_timer(delay_s)

    def wake(self) -> None:
        """Step in the next turn of the loop, if there is a reason."""
        if not self._is_woken and not self._is_busy:
            self._is_woken = True
            # Not in the context of a job, which the call would keep.
            self._loop.call_soon(self._wake, context=Variables())

    def _wake(self) -> None:
        self._is_woken = False
        self.step()

    def step(self) -> None:
        """Step now, if there is a reason."""
        if self._is_busy or not self._taker.is_open or not self.link.is_up:
            return
        if self._step is None:
            now = time.monotonic()
            if now >= self._look_at:
                self._look(now)
                return
            room = self._taker.room(self)
            wants = self.has_more and (room.places or room.orders)
            if not (self.outbox or wants or self._is_due):
                return
            self._prepare(room)
        self._send()

    def _prepare(self, room: FreePlaces) -> None:
        taker, finishes = self._taker, self.outbox.send()
        self._call += 1
        self.asked = room.places + room.orders
        self._is_due = False
        words = step_arguments(taker.marker, taker.name.encode(), self._call, finishes, kept=taker.kept, room=room)
        self._step = finishes, words

    def _send(self) -> None:
        assert self._step is not None
        self._is_busy, self._is_rung = True, False
        self._taker.leaving(self._step[0])
        future = self.link.run(STEP, [self.keys.counts], *self._step[1])
        epoch = self._epoch
        future.add_done_callback(lambda future: self._answered(future, epoch), context=Variables())

    def _answered(self, future: asyncio.Future[Any], epoch: int) -> None:
        # Looked at even if it comes too late: asyncio logs an error that nobody saw.
        error = future.exception()
        if epoch != self._epoch:
            return
        self._is_busy = False
        if error is not None:
            self._failed(error)
            return
        assert self._step is not None
        finishes, self._step = self._step[0], None
        reply = read_step(future.result())
        self.link.learn_time(reply.now_ms)
        self.outbox.confirm()
        self.asked, self.why, self.answered_at = 0, "", time.monotonic()
        # If all that is left needs room that this node has not, its next release looks again.
        self.has_more = self._is_rung or (reply.more and bool(reply.claimed))
        self._set_timer(POLL_S if reply.next_ms is None else min(POLL_S, reply.next_ms / 1000))
        self._taker.taken(self, finishes, reply)
        self.wake()

    def _failed(self, error: BaseException) -> None:
        if isinstance(error, LinkLostError):
            # It is sent again by ``up``.
            return
        self.why = " ".join(str(error).split())
        code = error.code if isinstance(error, ReplyError) else ""
        if code in (DEAD, MISPLACED):
            self._taker.refused(self, code)
            return
        if code not in AWAY and code != "OOM":
            log.error("engine: the store refused a call of this node: %s", self.why, exc_info=_defect(error))
        self._set_timer(AGAIN_S * random.uniform(0.5, 1.0))  # noqa: S311

    def _set_timer(self, delay: float) -> None:
        """Step in ``delay`` seconds, or a little earlier than POLL_S, so that not all nodes step at once."""
        if self._timer is not None:
            self._timer.cancel()
        if delay >= LOOK_S:
            delay = random.uniform(LOOK_S, delay)  # noqa: S311
        self._timer_at = self._loop.time() + delay
        self._timer = self._loop.call_later(delay, self._ring_timer, context=Variables())

    def _ring_timer(self) -> None:
        # Before the step, which may have nothing to do.
        self._set_timer(POLL_S)
        self._is_due = True
        self.step()

    def report(self, reported: Reported) -> None:
        """Send the progress of an attempt. It may be lost."""
        words = progress_arguments(self._taker.marker, self._taker.name.encode(), [reported])
        self.link.run(PROGRESS, [self.keys.counts], *words).add_done_callback(asyncio.Future.exception)

    def write_log(self, logged: Logged, most: int) -> asyncio.Future[Any]:
        """Send text of an attempt for the log of its job, which keeps ``most`` bytes."""
        words = write_log_arguments(self._taker.marker, self._taker.name.encode(), most, [logged])
        return self.link.run(WRITE_LOG, [self.keys.counts], *words)

    def put_back(self, sequence: int, attempt: int) -> None:
        """Put back a job of which only the store knows that it is in this node's hands."""
        future = self.link.call(b"HGET", self.keys.job(sequence), b"k")

        def put(future: asyncio.Future[Any]) -> None:
            if future.exception() is None and future.result() is not None:
                task = future.result().decode()
                self.put(FinishPutBack(sequence=sequence, attempt=attempt, task=task))

        future.add_done_callback(put, context=Variables())

    def up(self) -> None:
        """Go on: the store is there."""
        self._look_at = 0.0
        self._is_due = True
        self.wake()

    def reset(self) -> None:
        """Give up all that is under way: the node begins anew, under another name."""
        self._epoch += 1
        self._is_busy = False
        self._step, self.asked, self.why = None, 0, ""
        self.has_more = self._is_due = True
        self._call = 0

    def stop(self) -> None:
        """Take no more steps by itself."""
        if self._timer is not None:
            self._timer.cancel()

    # The look.

    def _look(self, now: float) -> None:
        """Ask for the jobs in this node's hands. No step is under way, so both sides mean the same moment."""
        self._look_at = now + LOOK_S
        self._is_busy = True
        future = self.link.call(b"HGETALL", self.keys.run(self._taker.name))
        epoch = self._epoch
        future.add_done_callback(lambda future: self._seen(future, epoch), context=Variables())

    def _seen(self, future: asyncio.Future[Any], epoch: int) -> None:
        error = future.exception()
        if epoch != self._epoch:
            return
        self._is_busy = False
        if error is not None:
            self._failed(error)
            return
        self._taker.looked(self, {int(sequence): int(attempt) for sequence, attempt in future.result().items()})
        self.step()


def _defect(error: BaseException) -> BaseException | None:
    """Return an error with its traceback if it is one of ours."""
    return None if isinstance(error, StoreError) else error
