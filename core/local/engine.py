"""The engine: what the protocol knows of core, but for errors and config.

``submit`` takes a job and ``submit_many`` a batch of them, ``peek``, ``peek_batch`` and ``list`` read, ``cancel`` ends
one early, ``drain`` waits for all. None but ``drain`` awaits, so each call sees and leaves the board whole.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import BinaryIO

from headway.core.board.batches import Batches
from headway.core.board.board import Board
from headway.core.board.memfile import nameless_file
from headway.core.config import Config
from headway.core.errors import JournalFullError
from headway.core.ids import Ids
from headway.core.job import State
from headway.core.journal.journal import Journal
from headway.core.journal.reader import Saved
from headway.core.local import deploy
from headway.core.local.active import Active
from headway.core.local.admission import Admission
from headway.core.local.durable import Durable
from headway.core.local.reading import Reading
from headway.core.local.restore import restore
from headway.core.local.waiters import BatchWaiter, Waiter
from headway.core.slices import in_slices
from headway.core.status import BatchStatus, Status
from headway.core.tasks.registry import Registry
from headway.core.tasks.result import Result
from headway.core.work.watchdog import Watchdog

log = logging.getLogger(__name__)

# Seconds between two rounds of the chores.
CHORES_S = 1.0


class Engine:
    """The board and all that acts on it; with ``journal`` on disk as well, and ``before`` from an earlier image."""

    def __init__(
        self,
        config: Config,
        registry: Registry,
        journal: Journal | None = None,
        before: deploy.Carried | None = None,
    ) -> None:
        self.config = config
        self.registry = registry
        self.journal = journal
        # By the index that the board has of them.
        names = [task.name for task in registry.tasks]
        self.active: Active
        kept, most = config.retention, config.queue.size + config.workers
        if journal is not None:
            waiting = journal.found.waiting()
            most = max(most, waiting + config.workers)
            self.ids = journal.found.ids
            self.board = Board(kept.jobs, kept.seconds, most)
            self.active = Durable(config, registry, self.ids, self.board, journal, waiting)
        elif before is not None:
            self.ids = Ids(before.document.secret, before.document.salts)
            self.board = before.board(kept.jobs, kept.seconds, most, names)
            self.active = Active(config, registry, self.ids, self.board)
            before.give(self.active, registry.by_name)
        else:
            self.ids = Ids()
            self.board = Board(kept.jobs, kept.seconds, most, fd=nameless_file("headway-board"))
            self.active = Active(config, registry, self.ids, self.board)
        self.reading = Reading(self.ids, self.board, self.active, names)
        if before is not None:
            self.reading.learn(time.monotonic())
        self.batches = Batches(self.board, self.active.outcomes, self.ids, self.reading.when_all)
        self.admission = Admission(
            config, registry, self.ids, self.board, self.active, self.batches, self.reading, unseen=journal is not None
        )
        # As they are, without a call in between.
        self.peek = self.reading.peek
        self.ahead = self.active.queue.ahead
        self.retry_after_ms = self.reading.retry_after_ms
        self.again = self.reading.again
        self.owes = self.active.owes
        self.owed = self.active.owed
        self.when_safe = self.active.when_safe
        self.peek_key = self.reading.peek_key
        self.list = self.reading.list
        self.check_room = self.admission.check_room
        self.submit = self.admission.submit
        self.take = self.admission.take
        self.submit_many = self.admission.submit_many
        self.replayed = self.admission.replayed
        self.replayed_batch = self.admission.replayed_batch
        self.retry = self.admission.retry
        self.confirmed = self.admission.confirmed
        self.confirmed_batch = self.admission.confirmed_batch
        self.watchdog = Watchdog(config.watchdog.stall, self.active.workers.holder)
        # Done every CHORES_S, each with its name for the log.
        self.chores: list[tuple[str, Callable[[float], Iterable[object]]]] = [
            ("forget results", self.active.results.trim),
            ("forget keys", self.active.keys.trim),
            ("expire", self.active.expire),
        ]
        self._chores_timer: asyncio.TimerHandle | None = None
        self._stopped = False

    @property
    def draining(self) -> bool:
        """Whether no new jobs are taken."""
        return self.admission.draining

    @property
    def memory_bytes(self) -> int:
        """Bytes that rows and rings take once all were used, whatever the traffic."""
        return self.board.size_bytes + self.active.queue.size_bytes

    @property
    def not_ready(self) -> str | None:
        """Why no new jobs are wanted here, or None where they are."""
        if self.draining:
            return "draining"
        if self.active.full:
            return "the journal has no room"
        lost = self.active.workers.threads.lost
        if lost > self.config.limits.lost_threads:
            return f"{lost} threads are lost to tasks that do not return; restart the server"
        processes = self.active.workers.processes
        if processes is not None and not processes.up:
            return "no worker process is up"
        return None

    @property
    def oldest_queued(self) -> float | None:
        """When the job that has been ready for longest was submitted, of time.monotonic."""
        sequence = self.active.queue.oldest()
        return self.board.submitted[self.board.at(sequence)] if sequence else None

    def restore(self, progress: Callable[[int], object]) -> None:
        """Read the journal, if there is one; to be done before ``start``, and in any thread.

        ``progress`` is told now and then how many jobs were read. Raises JournalError.
        """
        if isinstance(self.active, Durable):
            self.reading.names[:] = restore(
                self.active.journal, self.board, self.active, self.registry, self.ids, progress
            )
            self.reading.learn(time.monotonic())

    def start(self, on_fatal: Callable[[str], object] = log.critical) -> None:
        """Start the workers, the watchdog and the chores on the running loop.

        ``on_fatal`` gets a line when the journal cannot be written: from then on nothing is acknowledged.
        """
        self.active.start(on_fatal)
        self.watchdog.start()
        self._do_chores()

    def later(self) -> float:
        """Return seconds after which a client that could not be served now can be."""
        return self.active.estimate.later(0.0, time.monotonic())

    def promise(self, seconds: float) -> float:
        """Return in how many seconds, ``seconds`` or a little later, there is room for a request; and take it."""
        return self.active.estimate.pace.promise(time.monotonic(), seconds)

    def peek_batch(self, batch_id: bytes) -> BatchStatus | None:
        """Return what is known of a batch at once; None where it was never issued."""
        return self.batches.peek(batch_id, time.monotonic())

    def list_batch(self, batch: BatchStatus) -> Sequence[tuple[bytes, int]]:
        """Return (id, state) of each job of a batch that can still be read, in the order of their submission."""
        return self.batches.jobs(batch, time.monotonic())

    def result(self, status: Status) -> Result | None:
        """Return the result of a job that is over, or what it said if it failed; None where that is not kept."""
        kept = self.active.results.get(status.sequence)
        return None if kept is None else kept.result

    async def read_result(self, status: Status) -> Result | None:
        """Return what ``result`` does, from the disk; None where it is not there either. Raises JournalError."""
        if self.journal is None:
            return None
        found = await self.journal.reader.result(status.sequence)
        return None if found is None else Result(found[1], found[0])

    async def read_job(self, status: Status) -> Saved | None:
        """Return all that the journal has of a job; None where that is nothing. Raises JournalError."""
        return None if self.journal is None else await self.journal.reader.job(status.sequence)

    def has_result(self, status: Status) -> bool:
        """Whether a job that succeeded returned something; it may have been given up since."""
        return bool(self.board.has_result[self.board.at(status.sequence)])

    def wait(self, status: Status, seconds: float, wake: Callable[[], None]) -> Waiter:
        """Have ``wake`` called when a job that is not over ends, in ``seconds``, or when a drain begins."""
        return self.active.waiters.add(status.sequence, 0.0 if self.draining else seconds, wake)

    def wait_batch(self, batch: BatchStatus, seconds: float, wake: Callable[[], None]) -> BatchWaiter:
        """Have ``wake`` called when the last job of a batch that has a pending one ends, or as ``wait`` does."""
        return BatchWaiter(self.batches, self.active.waiters, batch, 0.0 if self.draining else seconds, wake)

    def cancel(self, status: Status) -> None:
        """End a job that waits or runs; forget the result of one that is over. Raises JournalFullError."""
        self.check_disk()
        if status.state >= State.SUCCEEDED:
            self.active.forget(status.sequence)
        else:
            self.active.cancel(status.sequence)

    def cancel_batch(self, batch: BatchStatus) -> tuple[bool, int]:
        """End the jobs of a batch that wait or run; return whether any was running, and the one that is safe last.

        Raises JournalFullError.
        """
        self.check_disk()
        pending = self.batches.pending(batch)
        running = any(self.board.state(sequence) == State.RUNNING for sequence in pending)
        for sequence in pending:
            self.active.cancel(sequence)
        return running, self.active.last_owed(pending)

    def check_disk(self) -> None:
        """Raise JournalFullError where nothing can be changed, since the journal has no room."""
        if self.active.full:
            raise JournalFullError

    async def drain(self, timeout_s: float) -> int:
        """Take no more jobs and wait for those there are; return how many are not over after ``timeout_s``.

        With a journal those that do not run are left to the next start, and only the others are waited for.
        """
        self.admission.draining = True
        self.reading.expect_end(time.monotonic() + (timeout_s if self.journal is None else 0.0))
        self.active.waiters.release()
        return await self.active.finish(timeout_s)

    def resume(self) -> None:
        """Take jobs again after a drain that came to nothing."""
        self.admission.draining = False
        self.reading.expect_no_end()
        self.active.resume()

    def leave(self, file: BinaryIO) -> int:
        """Write to ``file`` what the next image of the program goes on from, and return the file of the rows.

        Call it last of all: what changes afterwards is lost. Raises RuntimeError where a job is not over.
        """
        if self.active:
            raise RuntimeError(f"{len(self.active)} jobs are not over")
        deploy.write(file, self.ids, self.board, self.reading.names, self.active)
        return self.board.fd

    async def stop(self) -> None:
        """End workers, timers and chores; what is known can still be read."""
        self._stopped = True
        if self._chores_timer is not None:
            self._chores_timer.cancel()
        self.watchdog.stop()
        await self.active.stop()

    async def close(self) -> None:
        """Close the journal, if there is one."""
        await self.active.close()

    def _do_chores(self) -> None:
        in_slices(self._chores(time.monotonic()))

    def _chores(self, now: float) -> Iterator[object]:
        for name, chore in self.chores:
            try:
                yield from chore(now)
            except Exception:
                log.exception("the chore %r failed; it is tried again in %g s", name, CHORES_S)
        if not self._stopped:
            self._chores_timer = asyncio.get_running_loop().call_later(CHORES_S, self._do_chores)
