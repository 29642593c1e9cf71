"""A node at its work: open the engine, run jobs until a signal to end or to deploy, drain.

SIGTERM and SIGINT drain. The node takes no new jobs, and statuses stay readable. It waits for
running and waiting jobs until ``drain_timeout``. With a journal it waits for the running ones only,
because the others are on disk. The exit code is 0 if no job was lost, 1 if jobs were lost, and 3 if
the journal could not be made, read or written.

SIGHUP deploys. Once a check has shown that the new program would start, the node executes it, in
this process and on the same socket. Before that it waits, as in a drain, for the jobs that have to
finish. If jobs in memory have not finished by ``drain_timeout``, the node goes on as before. The
reasons are in docs/adr/0009.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import signal
import sys
import time
from typing import NoReturn

from headway.core import forks
from headway.core.apart import apart
from headway.core.config import Config
from headway.core.durability import SURVIVES
from headway.core.errors import ConfigError
from headway.core.interface import Engine
from headway.core.job import ACTIVE
from headway.core.later import known
from headway.core.open import open_engine
from headway.core.recovering import Recovering
from headway.core.stats import Counts
from headway.core.tasks.registry import REGISTRY
from headway.protocol import check, footprint
from headway.protocol.front import Front
from headway.protocol.http.connections import TICK_S
from headway.protocol.process import deploy, signals
from headway.protocol.process.deploy import Left, Program, Taken
from headway.protocol.process.reload import Watch
from headway.protocol.process.signals import Signals
from headway.protocol.process.systemd import Notifier

log = logging.getLogger(__name__)

EXIT_JOBS_LEFT = 1
EXIT_JOURNAL = 3
# Seconds until a program that was deployed tries again to begin: the first time, then doubling, at most AGAIN_MOST_S.
AGAIN_S, AGAIN_MOST_S = 1.0, 30.0
GC_THRESHOLD = (50_000, 20, 50)
# Seconds for which one thread may keep the GIL while another waits for it. The loop waits for tasks
# that compute in threads. With CPython's 5 ms each answer beside such a task is that late.
SWITCH_S = 0.0005


def collect_rarely() -> None:
    """Have the garbage collector leave out the present objects, which live to the end, and look seldom at others.

    The road of a request makes no cycles. Tasks may make cycles, so it still looks.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLD)
    gc.enable()


class NodeLife:
    """One program at its work, from its start to its end or to the next deploy. Clients see its ``front``."""

    def __init__(
        self,
        config: Config,
        front: Front,
        program: Program,
        came: Signals,
        notifier: Notifier,
        *,
        watch: Watch | None = None,
    ) -> None:
        self._config = config
        self._front = front
        self._program = program
        self._signals = came
        self._notifier = notifier
        self._watch = watch
        # Whether clients are let in, and whether the engine was started.
        self._accepts = self._has_begun = False

    async def work(self, before: Taken | None) -> int | Left:
        """Work until a signal to end or to deploy. Return the exit code, or the handover."""
        self._signals.listen()
        self._keep_from_children()
        recovering = Recovering(self._config)
        self._front.open(recovering)
        if before is None:
            self._accept()
        self._ticker = asyncio.create_task(self._tick())
        engine = await self._open(recovering, before)
        if engine is None:
            return 0
        self._engine = engine
        ended = await self._begin(before is not None)
        if ended is not None:
            return ended
        self._front.use(engine)
        # Clients that came after a deploy wait until now. Earlier they would be told that no job is
        # known yet.
        self._accept()
        collect_rarely()
        sys.setswitchinterval(SWITCH_S)
        await self._announce(before)
        if self._watch is not None:
            loop = asyncio.get_running_loop()
            self._watch.start(lambda: loop.call_soon_threadsafe(self._signals.signal, signal.SIGHUP))
        while not self._signals.to_end:
            await self._signals.wait()
            if self._signals.take_deploy() and await self._may_deploy():
                left = await self._leave()
                if self._signals.to_end and not await _jobs_in_memory(engine):
                    return 0
                # If there are such jobs the next program ends: they have to be carried out before.
                return left
        return await self._end()

    def _keep_from_children(self) -> None:
        """Keep everything of the server's from processes that tasks fork."""
        # The loop waits on this descriptor. A child that comes back to the loop ends there.
        wait_fd = getattr(asyncio.get_running_loop(), "_get_backend_id", int)()
        if wait_fd > 0:
            forks.keep(wait_fd)

    async def _open(self, recovering: Recovering, before: Taken | None) -> Engine | None:
        """Open the engine, off the loop if it reads a journal. None if a signal came first."""
        path = self._config.journal.file(os.environ)
        if path is None:
            return open_engine(self._config, REGISTRY, lambda _: None, before and before.handover)
        begun = said = time.monotonic()

        def progress(read: int) -> None:
            nonlocal said
            recovering.read = read
            if time.monotonic() - said > TICK_S:
                said = time.monotonic()
                log.info("recovering: %d jobs read", read)

        log.info("recovering from %s", path.absolute())
        engine = await self._signals.unless_end(apart(lambda: open_engine(self._config, REGISTRY, progress)))
        if engine is None:
            log.info("ended while recovering")
        else:
            log.info("recovered %d jobs in %.2f s", recovering.read, time.monotonic() - begun)
        return engine

    def _accept(self) -> None:
        """Let clients in, once."""
        if not self._accepts:
            self._accepts = True
            self._front.accept()

    async def _begin(self, after_deploy: bool) -> int | Left | None:
        """Start the engine, with the lifespan of the tasks. Return how the node ends if it does not begin its work.

        Raises ConfigError if the engine cannot start, such as if the lifespan raises. After a deploy it is
        tried again: the jobs that the previous program has left in memory would be lost. Meanwhile clients
        are told to come back, and another deploy replaces the program.
        """
        engine, pause_s = self._engine, AGAIN_S
        while True:
            try:
                return None if await self._start(engine) else 0
            except ConfigError as error:
                if not after_deploy:
                    await engine.close()
                    raise
                log.error(
                    "the new program cannot begin: %s. It tries again in %g s, and another deploy may replace it",
                    error,
                    pause_s,
                )
                self._notifier.ready(f"cannot begin: {error}")
            if self._signals.to_end:
                return await self._give_up()
            self._accept()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._signals.wait(), pause_s)
            pause_s = min(2 * pause_s, AGAIN_MOST_S)
            if self._signals.take_deploy():
                fault = await self._signals.unless_end(self._program.check(await self._tasks_to_go_over()))
                if fault is None and not self._signals.to_end:
                    return await self._leave()
                if fault is not None:
                    log.error("not deployed: %s", fault)

    async def _give_up(self) -> int:
        """End a node that could not begin. Return the exit code."""
        lost = await _jobs_in_memory(self._engine)
        if lost:
            log.error("%d jobs are lost: they could not begin", lost)
        await self._engine.close()
        return EXIT_JOBS_LEFT if lost else 0

    async def _start(self, engine: Engine) -> bool:
        """Start the engine. False if a signal came first: then it is closed.

        With jobs that the previous program has left in memory it is started all the same: they would be lost.
        Raises ConfigError.
        """
        begun, has_jobs = False, await _jobs_in_memory(engine) > 0

        async def begin() -> None:
            nonlocal begun
            await engine.start(self._journal_failed)
            begun = True

        await (begin() if has_jobs else self._signals.unless_end(begin()))
        if self._signals.to_end and not has_jobs:
            log.info("ended while starting")
            if begun:
                await engine.stop()
            await engine.close()
            return False
        self._has_begun = True
        return True

    def _journal_failed(self, line: str) -> NoReturn:
        log.critical("%s: the server ends, because it can keep nothing any more", line)
        self._front.ends()
        signals.end(EXIT_JOURNAL)

    async def _end(self) -> int:
        """Drain, and end everything."""
        self._notifier.stopping()
        engine, config = self._engine, self._config
        counts = await self._counts()
        # Of a queue that nodes share only those that run here.
        active = counts.active if counts.store is None else counts.workers.count - counts.workers.idle
        text = "draining: %d jobs, up to %g s for those that have to finish. A second signal ends the server at once."
        log.info(text, active, config.drain_timeout)
        left = await engine.drain(config.drain_timeout)
        # Clients of the last jobs can still read how these ended. Some of them were told before the
        # signal to come back.
        last_end = time.monotonic() if active else counts.last_end
        await asyncio.sleep(max(last_end + self._front.linger_s - time.monotonic(), 0.0))
        if self._config.engine is not None:
            log.info("drained: %d jobs that still run are left to other nodes", left)
            left = 0
        elif engine.durability != "memory":
            active = (await self._counts()).active
            log.info("drained: %d jobs are left to the next start, %d of them still running", active, left)
            left = 0
        elif left:
            held = (await self._counts()).held
            if held:
                log.error("%d jobs of held tasks are lost", held)
            if left > held:
                log.error("drain_timeout is over: %d jobs are lost", left - held)
        else:
            log.info("drained")
        await self._front.close()
        self._ticker.cancel()
        await engine.stop()
        await engine.close()
        return EXIT_JOBS_LEFT if left else 0

    async def _may_deploy(self) -> bool:
        """Check that the new program would start, and wait for jobs that have to finish. Else go on as before."""
        self._notifier.reloading()
        tasks = await self._tasks_to_go_over()
        fault = await self._signals.unless_end(self._program.check(tasks))
        if fault is None and not self._signals.to_end:
            fault = await self._signals.unless_end(self._wait_for_jobs())
            tasks_now = await self._tasks_to_go_over()
            if (self._signals.take_deploy() or tasks_now - tasks) and fault is None:
                # The program has changed again, or jobs of other tasks have come.
                fault = await self._signals.unless_end(self._program.check(tasks_now))
        if self._signals.to_end:
            return False
        if fault is not None:
            log.error("not deployed, still serving as before: %s", fault)
            self._engine.resume()
            self._notifier.ready(f"{self._front.doing}; not deployed: {fault}")
        return fault is None

    async def _tasks_to_go_over(self) -> set[str]:
        """Return the tasks of which jobs may be left to the next program of this process."""
        shared = self._config.engine is not None
        if shared or (self._engine.durability == "memory" and not self._front.keeps_clients):
            return set()
        return {task.name for task in await known(self._engine.tasks()) if task.unfinished}

    async def _wait_for_jobs(self) -> str | None:
        """Wait for jobs that have to finish before a deploy. Return the reason if some did not."""
        seconds = self._config.drain_timeout
        text = "deploying: %d jobs, up to %g s for those that have to finish"
        log.info(text, (await self._counts()).active, seconds)
        left = await self._engine.drain(seconds, self._front.keeps_clients)
        if left and self._engine.durability == "memory":
            held = (await self._counts()).held
            if held:
                return f"{held} jobs of held tasks wait: end the holds with PATCH /tasks/{{name}}, or cancel the jobs"
            return f"{left} jobs did not finish within drain_timeout"
        # The new program begins again the jobs that still run.
        return None

    async def _leave(self) -> Left:
        """End everything but the socket and the rows, and return the handover."""
        if self._has_begun:
            await self._engine.stop()
        since = await self._front.leave()
        self._ticker.cancel()
        await self._engine.close()
        left = deploy.hand_over(self._front.listener, self._engine, since)
        log.info("executing the new program: %s", self._program)
        await self._signals.hold()
        return left

    async def _counts(self) -> Counts:
        return await known(self._engine.counts())

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            self._front.tick()
            self._notifier.alive()

    async def _announce(self, before: Taken | None) -> None:
        config, counts = self._config, await self._counts()
        front = self._front
        serves = front.listener is not None or front.gateways > 0
        parts = footprint.parts(config, counts, serves=serves, gateways=front.gateways)
        told = ", ".join(f"{name} {size_bytes / 2**20:.1f}" for name, size_bytes in parts.items())
        total = sum(parts.values()) / 2**20
        board = f"board: {counts.rows} rows of {counts.row_bytes} bytes; " if counts.store is None else ""
        log.info("%smemory in MiB: %s: at most %.1f MiB besides the program and its tasks", board, told, total)
        if not REGISTRY.tasks:
            log.warning(check.NO_TASKS)
        if before is not None:
            missed = "client was answered" if self._front.listener else "job was begun here"
            log.info("deployed: no %s for %.2f s", missed, time.monotonic() - before.since)
        self._front.warn()
        durability = f"{self._engine.durability}: {SURVIVES[self._engine.durability]}"
        told = f"with {config.workers} workers and {len(REGISTRY.tasks)} tasks; durability {durability}"
        log.info("%s %s", self._front.doing, told)
        self._notifier.ready(self._front.doing, told if self._front.keeps_clients else "")


async def _jobs_in_memory(engine: Engine) -> int:
    """Return how many jobs have not finished that end with the process."""
    if engine.durability != "memory":
        return 0
    counts = await known(engine.counts())
    return sum(counts.jobs[state] for state in ACTIVE)
