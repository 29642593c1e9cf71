"""The engine as a gateway has it: jobs are read off its rows here, and all else is asked of it.

While the engine starts again, finished jobs are told as before, and calls are kept for it (core/gateway/calls.py).
During a deploy the rows are still those of all jobs, so they tell of the others, too. After a crash nobody knows how
those stand until the next engine is there.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, BinaryIO

import msgspec
from headway.core.audit import Act, AuditEntry
from headway.core.body import Body
from headway.core.config import Config
from headway.core.counted import Counted
from headway.core.durability import Durability
from headway.core.errors import (
    DrainingError,
    EngineRestartsError,
    JournalFullError,
    PayloadsFullError,
    QueueFullError,
    RecoveringError,
)
from headway.core.events import EventFilter
from headway.core.gateway import standing, wire
from headway.core.gateway.calls import OpenCall, OpenCalls
from headway.core.gateway.reach import Reach
from headway.core.gateway.readers import SeenReaders
from headway.core.gateway.rows import KEEPS_ORDER
from headway.core.gateway.seen import Seen
from headway.core.gateway.standing import Hello, Standing
from headway.core.gateway.statuses import UNKNOWN
from headway.core.gateway.waiting import Sweep
from headway.core.history import Minute
from headway.core.hold import Switches
from headway.core.interface import (
    Accepts,
    Cancelled,
    CancelledBatch,
    Feed,
    Later,
    Page,
    Polled,
    Soon,
    Submitted,
    SubmittedBatch,
)
from headway.core.job import Revision, State, Submission
from headway.core.job_filter import JobFilter
from headway.core.job_log import JobLog
from headway.core.key import Key
from headway.core.later import Then
from headway.core.order import Action
from headway.core.past_attempt import PastAttempt
from headway.core.retry_after.estimate import RunTimes
from headway.core.retry_after.pace import Pace
from headway.core.stats import Counts
from headway.core.status import BatchStatus, Status, TaskStatus
from headway.core.tasks.result import Result

log = logging.getLogger(__name__)

# Seconds between two looks at the calls that are kept.
TICK_S = 0.25
# Seconds in which an engine may come for them when this gateway ends. Their clients are there for longer.
LAST_CALLS_S = 0.25
decode_runs = msgspec.msgpack.Decoder(RunTimes).decode


class GatewayEngine:
    """The engine behind the Unix socket ``path``. ``program`` is the fingerprint of our program."""

    polled: Polled | None = None

    def __init__(self, config: Config, path: str, program: str) -> None:
        self._config = config
        self._program = program
        self.durability: Durability = config.journal.durability
        self.pace = Pace(config.polling.share * config.polling.capacity)
        self._calls = OpenCalls()
        self._readers = SeenReaders(self._calls)
        self._reach = Reach(path, self._take, self._lost)
        # All that the engine has shown; None until it has said hello for the first time.
        self._seen: Seen | None = None
        self._standing: Standing | None = None
        # Whether this engine has said everything.
        self._is_told = False
        # Whether the rows tell of unfinished jobs, too: the engine is there, or is deploying.
        self._is_current = False
        # Whether this gateway is about to end, with the connections of its clients.
        self._is_leaving = False
        self._sweep = Sweep()
        self._began = asyncio.Event()
        self._ticker: asyncio.TimerHandle | None = None

    @property
    def not_ready(self) -> str | None:
        """Why no new jobs are wanted here; None if they are."""
        if self._standing is None:
            return "recovering: the engine is not there yet"
        return self._standing.not_ready if self._is_current else "the engine starts again"

    @property
    def waiting(self) -> int:
        """How many clients of this gateway wait."""
        return len(self._sweep.waiters)

    # Reading.

    def peek(self, job_id: bytes, brief: bool = False) -> Soon[Status | None]:
        """Return the status of a job, as Engine says."""
        if brief and self._seen is not None and self._may_read:
            found = self._seen.statuses.peek(job_id)
            if found is None or (found is not UNKNOWN and (self._is_current or found.state >= State.SUCCEEDED)):
                return found
            if not self._is_current:
                raise EngineRestartsError
        return self._ask("peek", job_id, brief)

    @property
    def _may_read(self) -> bool:
        """Whether the rows can be read here: nobody writes them, or the processor keeps the order of stores."""
        return KEEPS_ORDER or not self._is_current

    def peek_key(self, key: str) -> Soon[Status | None]:
        """Return the status of the job under a key, as Engine says."""
        return self._ask("peek_key", key)

    def peek_batch(self, batch_id: bytes) -> Soon[BatchStatus | None]:
        """Return the status of a batch, as Engine says."""
        if self._seen is not None and self._may_read:
            found = self._seen.statuses.peek_batch(batch_id)
            if found is None or (found is not UNKNOWN and (self._is_current or not found.pending)):
                return found
        return self._ask("peek_batch", batch_id)

    def find(self, wanted: JobFilter, after: int, limit: int) -> Soon[Page]:
        """Return a page of jobs, as Engine says."""
        return self._ask("find", wanted, after, limit)

    def recent_batches(self) -> Soon[Sequence[BatchStatus]]:
        """Return the last batches, as Engine says."""
        return self._ask("recent_batches")

    def list_batch(self, batch: BatchStatus) -> Soon[Sequence[tuple[bytes, int]]]:
        """Return (id, state) of the jobs of a batch, as Engine says."""
        return self._ask("list_batch", batch)

    def tasks(self) -> Soon[Sequence[TaskStatus]]:
        """Return the declared tasks, as Engine says."""
        return self._ask("tasks")

    def task(self, name: str) -> Soon[TaskStatus | None]:
        """Return a declared task, as Engine says."""
        return self._ask("task", name)

    def accepts(self, task: str) -> Accepts | None:
        """Return the content that a task accepts, as Engine says."""
        if self._seen is None:
            raise RecoveringError(self.retry_after_s())
        return self._seen.hello.accepts.get(task)

    def errors(self, jobs: Sequence[Status]) -> Soon[Mapping[int, str]]:
        """Return the errors of jobs, as Engine says."""
        return self._ask("errors", jobs)

    def result(self, status: Status) -> Soon[Result | None]:
        """Return the result of a job, as Engine says."""
        return self._ask("result", status)

    def payload(self, status: Status) -> Soon[Body | None]:
        """Return the payload of a job, as Engine says."""
        return self._ask("payload", status)

    def attempts(self, status: Status) -> Soon[Sequence[PastAttempt]]:
        """Return the attempts at a job, as Engine says."""
        return self._ask("attempts", status)

    def log(self, status: Status) -> Soon[JobLog]:
        """Return the log of a job, as Engine says."""
        return self._ask("log", status)

    def wait_log(self, status: Status, length: int, seconds: float) -> Later[Status]:
        """Return the status of an active job once its log has grown, as Engine says."""
        return self._ask("wait_log", status, length, 0.0 if self._is_draining else seconds)

    def wait(self, status: Status, seconds: float) -> Later[Status]:
        """Return the status of an active job once it has finished, as Engine says."""
        seconds = 0.0 if self._is_draining else seconds
        return Then(self._sweep.job(status.sequence, seconds), lambda _: self._again(status))

    def _again(self, status: Status) -> Soon[Status]:
        """Return the present status of a job that was issued."""
        return self.peek(status.id)  # type: ignore[return-value]

    def wait_batch(self, batch: BatchStatus, seconds: float) -> Later[BatchStatus]:
        """Return the status of a pending batch once its jobs have finished, as Engine says."""
        seconds = 0.0 if self._is_draining else seconds
        ended = self._sweep.batch(batch.first, batch.count, seconds)
        return Then(ended, lambda _: self.peek_batch(batch.id))  # type: ignore[arg-type, return-value]

    @property
    def _is_draining(self) -> bool:
        return self._is_leaving or (self._standing is not None and self._standing.draining)

    def watch(self, wanted: EventFilter, after: int | None = None) -> Soon[Feed]:
        """Return events, as Engine says."""
        return self._readers.watch(wanted, after)

    # Changing.

    def check_room(self, count: int = 1, payload_bytes: int = 0) -> None:
        """Raise if ``count`` jobs would be refused now, as Engine says of an engine with other nodes."""
        now = self._standing
        if now is None:
            # Nobody knows yet.
            return
        if now.draining:
            raise DrainingError(self.retry_after_s())
        if now.full:
            raise JournalFullError
        if now.room < count:
            raise QueueFullError(now.size, count, now.room, self.retry_after_s())
        if now.payload_room < payload_bytes:
            most = self._config.queue.max_bytes
            raise PayloadsFullError(most, payload_bytes, now.payload_room, self.retry_after_s())

    def replay(self, key: Key) -> Soon[Submitted | None]:
        """Return the job that was accepted under ``key``, as Engine says."""
        return self._ask("replay", key)

    def replay_batch(self, key: Key) -> Soon[SubmittedBatch | None]:
        """Return the batch that was accepted under ``key``, as Engine says."""
        return self._ask("replay_batch", key)

    def submit(self, submission: Submission, key: Key | None = None) -> Soon[Submitted]:
        """Accept a job, as Engine says."""
        return self._ask("submit", submission, key)

    def submit_batch(self, submissions: Sequence[Submission], key: Key | None = None) -> Soon[SubmittedBatch]:
        """Accept jobs as a batch, as Engine says."""
        return self._ask("submit_batch", submissions, key)

    def retry(self, status: Status, key: Key | None = None, act: Act | None = None) -> Soon[Submitted]:
        """Resubmit a failed job, as Engine says."""
        return self._ask("retry", status, key, act)

    def order(
        self, action: Action, wanted: JobFilter, key: Key | None = None, act: Act | None = None
    ) -> Soon[Submitted]:
        """Accept an order about many jobs, as Engine says."""
        return self._ask("order", action, wanted, key, act)

    def count_meant(self, action: Action, wanted: JobFilter) -> Soon[Mapping[str, int]]:
        """Return how many jobs an order would be about, as Engine says."""
        return self._ask("count_meant", action, wanted)

    def switch(self, task: str, switches: Switches, act: Act | None = None) -> Soon[TaskStatus | None]:
        """Change the switches of a task, as Engine says."""
        return self._ask("switch", task, switches, act)

    def revise(self, status: Status, revision: Revision, act: Act | None = None) -> Soon[Status]:
        """Change a job that waits, as Engine says."""
        return self._ask("revise", status, revision, act)

    def cancel(self, status: Status, act: Act | None = None) -> Soon[Cancelled]:
        """End a job, as Engine says."""
        return self._ask("cancel", status, act)

    def cancel_batch(self, batch: BatchStatus, act: Act | None = None) -> Soon[CancelledBatch]:
        """End the jobs of a batch, as Engine says."""
        return self._ask("cancel_batch", batch, act)

    def note(self, act: Act) -> None:
        """Keep an act of this gateway in the audit log, as Engine says."""
        self._ask("note", act)

    # Looking.

    def audit(self, before: int, limit: int) -> Soon[Sequence[AuditEntry]]:
        """Return entries of the audit log, as Engine says."""
        return self._ask("audit", before, limit)

    def retry_after_s(self, seconds: float = 1.0) -> float:
        """Return when there is room for a request at this gateway, as Engine says."""
        return self.pace.promise(time.monotonic(), seconds)

    def history(self, minutes: int) -> Soon[Sequence[Minute]]:
        """Return the last minutes, as Engine says."""
        return self._ask("history", minutes)

    def counts(self) -> Soon[Counts]:
        """Return the counts of the engine, with the clients that wait at this gateway."""
        return Then(self._ask("counts"), self._with_ours)

    def _with_ours(self, counts: Counts) -> Counts:
        counts.waiting_clients += self.waiting
        return counts

    def _ask(self, name: str, *given: Any) -> OpenCall:
        """Ask the engine. Raises EngineRestartsError."""
        return self._calls.ask(name, given)

    # Life.

    async def start(self, on_fatal: Callable[[str], object]) -> None:
        """Reach the engine, and return once it has said everything."""
        self._reach.start()
        self._tick()
        await self._began.wait()

    async def drain(self, timeout_s: float, keeps_clients: bool = False) -> int:
        """Wake all that wait, and give up calls that no engine comes for. Jobs are the engine's."""
        self._is_leaving = True
        self._sweep.waiters.release()
        self._calls.hurry()
        asyncio.get_running_loop().call_later(LAST_CALLS_S, self._calls.keep_none)
        return 0

    def resume(self) -> None:
        """Do nothing: nothing has stopped."""

    def hand_over(self, file: BinaryIO) -> None:
        """Do nothing: the engine hands over what it has."""

    async def stop(self) -> None:
        """End the link."""
        if self._ticker is not None:
            self._ticker.cancel()
        self._sweep.stop()
        await self._reach.stop()

    async def close(self) -> None:
        """Do nothing: what is kept is the engine's."""

    def count(self, counted: Counted) -> None:
        """Tell the engine the counts of this gateway."""
        self._calls.send(wire.COUNTED, 0, wire.encode(counted))

    def others(self) -> Soon[Counted]:
        """Return the counts of the other gateways."""
        return self._ask("others")

    def _tick(self) -> None:
        # First, so that an error of a step ends this tick alone.
        self._ticker = asyncio.get_running_loop().call_later(TICK_S, self._tick)
        self._calls.tick(time.monotonic())
        if self._seen is not None:
            self._seen.statuses.tick(0.0)
            self._seen.forget()

    # What the engine says.

    def _take(self, fd: int, kind: int, number: int, message: bytes) -> None:
        if kind == wire.VALUE:
            self._calls.answered(number, message)
        elif kind == wire.FAULT:
            self._calls.refused(number, message)
        elif kind == wire.OUTLOOK:
            self._stand(standing.decode_standing(message))
        elif kind == wire.RUN_TIMES and self._seen is not None:
            self._seen.estimate.see(decode_runs(message))
        elif kind == wire.EVENTS:
            self._readers.put(number, message)
        elif kind == wire.SAID and self._seen is not None:
            self._seen.hear(standing.decode_messages(message))
        elif kind == wire.HELLO:
            self._greet(standing.decode_hello(message), fd)
        elif kind == wire.PAUSE:
            self._calls.send(wire.PAUSED, 0)
            self._calls.pause()

    def _greet(self, hello: Hello, fd: int) -> None:
        """Read the rows of this engine from now on."""
        if hello.program != self._program:
            log.debug("the engine is of another program: the supervisor is about to replace this gateway")
        # For as long as they are read: they outlive the link.
        self._seen = Seen(self._config, hello, os.dup(fd) if fd >= 0 else fd)
        self.durability = hello.durability
        self._sweep.of = self._seen.statuses

    def _stand(self, now: Standing) -> None:
        """Go by how things stand now. With the first of these the engine has said everything."""
        seen, link = self._seen, self._reach.link
        if seen is None or link is None:
            return
        seen.see(now)
        if now.draining and not self._is_draining:
            self._sweep.waiters.release()
        self._standing = now
        if not self._is_told:
            self._is_told = self._is_current = True
            self.polled = seen.polled
            self._calls.open(link)
            self._readers.again()
            self._began.set()

    def _lost(self) -> None:
        """The engine has ended: for a deploy, or without a word."""
        self._is_told = False
        self._is_current = self._calls.is_paused
        self._calls.lost()
        if not self._is_current:
            # Nobody knows how the unfinished jobs stand.
            self.polled = None
