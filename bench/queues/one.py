"""One queue, start to end, in a process of its own: ``python -m bench.queues.one celery``; JSON is its last line."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import importlib
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from bench.measure import ROOT, BenchError, pss_bytes, rss_bytes
from bench.process import Process, end_cleanly, running
from bench.queues import interface, record, valkey

# On a disk, where the folder for temporary files may be in memory.
DISK = ROOT / "tmp"
WARM_UP_JOBS = 200
PACED_JOBS = 200
PACE_S = 0.02
START_TIMEOUT_S = 60.0
# Time to write results and to give buffers back, before memory is read.
SETTLE_S = 1.0
# A queue that finishes fewer jobs per second than this is given up.
SLOWEST_RATE = 15.0
LOOK_S = 0.002
# By these it is found how many jobs take the time of a burst.
TRIAL_JOBS = 100
# Jobs of one call, where a queue has a call for many.
BATCH_JOBS = 1000


class Run:
    """A queue with its workers running, and the file in which they note what is over."""

    def __init__(self, queue: interface.Queue[Any], notes: Path, processes: Sequence[Process]) -> None:
        self.queue = queue
        self._notes = notes
        self._processes = processes
        # Bytes of notes that belong to what was measured before.
        self._read = 0

    @property
    def pids(self) -> list[int]:
        """All processes but the client."""
        return [pid for process in self._processes for pid in process.pids]

    async def warm_up(self) -> None:
        """Return when the workers take jobs, all of them have had some, and none is left."""
        deadline = time.monotonic() + START_TIMEOUT_S
        while not self._notes.stat().st_size:
            await self.queue.enqueue("noop", time.monotonic())
            await asyncio.sleep(0.2)
            if time.monotonic() > deadline:
                raise BenchError(f"the workers run no job: {self._processes[-1].last_line()}")
        # SAQ aborts what it finds when it starts; jobs before this may never run.
        await asyncio.sleep(SETTLE_S)
        self._read = self._notes.stat().st_size
        for _ in range(WARM_UP_JOBS):
            await self.queue.enqueue("noop", time.monotonic())
        await self._wait_for(WARM_UP_JOBS, deadline)
        await asyncio.sleep(SETTLE_S)
        self._read = self._notes.stat().st_size

    async def jobs_within(self, task: str, most: int, seconds: float) -> int:
        """Return how many jobs take about so long, ``most`` at most."""
        trial = await self.burst(task, min(TRIAL_JOBS, most), START_TIMEOUT_S)
        return min(most, max(TRIAL_JOBS, round(trial["finished_per_s"] * seconds)))

    async def burst(
        self, task: str, jobs: int, timeout_s: float, submitters: int = 1, *, batch: int = 1
    ) -> dict[str, float]:
        """Enqueue ``jobs``, wait until all have run, then read the status of each.

        Each submitter enqueues its share one after the other, and later reads the statuses of its share. With
        ``batch`` there is one submitter, and a call enqueues so many.
        """
        handles: list[Any] = [None] * jobs

        async def enqueue(place: int) -> None:
            for number in range(place, jobs, submitters if batch == 1 else batch):
                if batch == 1:
                    handles[number] = await self.queue.enqueue(task, time.monotonic())
                else:
                    sent = [time.monotonic()] * min(batch, jobs - number)
                    handles[number : number + len(sent)] = await self.queue.enqueue_many(task, sent)

        async def read(place: int) -> None:
            for handle in handles[place::submitters]:
                await self._wait_until_told(handle, begun_reading + timeout_s)

        begin = time.monotonic()
        await self._at_once(enqueue, submitters)
        enqueued = time.monotonic()
        notes = await self._wait_for(jobs, enqueued + timeout_s)
        begun_reading = time.monotonic()
        await self._at_once(read, submitters)
        told = time.monotonic()
        over = max(done for _, done in notes)
        latencies = [done - sent for sent, done in notes]
        return {
            "jobs": jobs,
            "enqueued_per_s": jobs / (enqueued - begin),
            "finished_per_s": jobs / (over - begin),
            "told_per_s": jobs / (told - begin),
            "statuses_per_s": jobs / (told - begun_reading),
            **_percentiles(latencies),
        }

    async def _at_once(self, act: Callable[[int], Coroutine[Any, Any, None]], submitters: int) -> None:
        """Do ``act`` for each submitter."""
        if submitters == 1 or not self.queue.blocks:
            await asyncio.gather(*map(act, range(submitters)))
            return
        loop = asyncio.get_running_loop()
        with ThreadPoolExecutor(submitters) as pool:
            threads = [loop.run_in_executor(pool, asyncio.run, act(place)) for place in range(submitters)]
            await asyncio.gather(*threads)

    async def paced(self, jobs: int) -> dict[str, float]:
        """Enqueue a job each PACE_S, so that none waits for another, and return the latencies, s."""
        for _ in range(jobs):
            await self.queue.enqueue("noop", time.monotonic())
            await asyncio.sleep(PACE_S)
        notes = await self._wait_for(jobs, time.monotonic() + START_TIMEOUT_S)
        return _percentiles([done - sent for sent, done in notes])

    async def _wait_for(self, jobs: int, deadline: float) -> list[tuple[float, float]]:
        """Return when ``jobs`` more are noted: when each was sent and when it was over."""
        wanted = self._read + jobs * record.NOTE.size
        while (size := self._notes.stat().st_size) < wanted:
            for process in self._processes:
                process.check()
            if time.monotonic() > deadline:
                done = (size - self._read) // record.NOTE.size
                raise BenchError(
                    f"only {done:,} of {jobs:,} jobs have run in the time allowed: {self._processes[-1].last_line()}"
                )
            await asyncio.sleep(LOOK_S)
        with self._notes.open("rb") as file:
            file.seek(self._read)
            data = file.read()
        self._read = wanted
        return list(record.NOTE.iter_unpack(data[: jobs * record.NOTE.size]))

    async def _wait_until_told(self, handle: Any, deadline: float) -> None:
        while not await self.queue.is_over(handle):
            if time.monotonic() > deadline:
                raise BenchError("a job that has run is not told to be over")
            await asyncio.sleep(LOOK_S)


def _percentiles(seconds: Sequence[float]) -> dict[str, float]:
    cuts = statistics.quantiles(seconds, n=100, method="inclusive")
    return {"p50_ms": cuts[49] * 1000, "p99_ms": cuts[98] * 1000}


async def measure(run: Run, options: argparse.Namespace) -> dict[str, object]:
    """Warm up, then one load after the other."""
    store = options.port if run.queue.uses_valkey else None
    await run.queue.open()
    await run.warm_up()
    noops = await run.jobs_within("noop", options.noops, options.seconds)
    before = _kept_bytes(run, store)
    found: dict[str, object] = {"noop": await run.burst("noop", noops, _patience_s(noops))}
    if not options.durable:
        await asyncio.sleep(SETTLE_S)
        found["bytes_per_job"] = (_kept_bytes(run, store) - before) / noops
        found["rss_bytes"], found["pss_bytes"] = rss_bytes(run.pids), pss_bytes(run.pids)
        naps = await run.jobs_within("nap", options.naps, options.seconds)
        found["nap"] = await run.burst("nap", naps, _patience_s(naps))
        found["paced"] = await run.paced(PACED_JOBS)
        found["processes"] = len(run.pids)
    if run.queue.batches:
        # As many as in a time of this kind of enqueuing: it may be much faster.
        trial = await run.burst("noop", noops, _patience_s(noops), batch=BATCH_JOBS)
        jobs = min(options.noops, max(noops, round(trial["finished_per_s"] * options.seconds)))
        found["batched"] = await run.burst("noop", jobs, _patience_s(jobs), batch=BATCH_JOBS)
    await run.queue.close()
    return found


def _patience_s(jobs: int) -> float:
    return START_TIMEOUT_S + jobs / SLOWEST_RATE


def _kept_bytes(run: Run, store: int | None) -> int:
    return valkey.used_bytes(store) if store is not None else rss_bytes(run.pids)


def main() -> int:
    """Run, print JSON; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m bench.queues.one", description=__doc__)
    parser.add_argument("queue")
    parser.add_argument("--noops", type=int, default=20_000)
    parser.add_argument("--naps", type=int, default=2_000)
    parser.add_argument("--seconds", type=float, default=10.0, help="of a load, about and at most")
    parser.add_argument("--durable", action="store_true", help="each acknowledged job is kept on disk")
    parser.add_argument("--port", type=int, default=9200)
    options = parser.parse_args()
    end_cleanly()
    DISK.mkdir(exist_ok=True)
    try:
        with tempfile.TemporaryDirectory(dir=DISK) as folder:
            print(json.dumps(_run(options, Path(folder))))
    except (BenchError, OSError) as error:
        print(f"bench-queues: {options.queue}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def _run(options: argparse.Namespace, folder: Path) -> dict[str, object]:
    notes = folder / "notes"
    notes.touch()
    os.environ |= {interface.PORT_VARIABLE: str(options.port), record.FILE_VARIABLE: str(notes)}
    os.environ[interface.FOLDER_VARIABLE] = str(folder) if options.durable else ""
    with contextlib.ExitStack() as stack:
        queue = importlib.import_module(f"bench.queues.{options.queue}_queue").Adapter()
        server = queue.server(folder)
        processes = [stack.enter_context(running(server))] if server else []
        workers = Process(options.queue, queue.worker_argv(), 0 if server else options.port, env=queue.worker_env())
        processes.append(stack.enter_context(running(workers)))
        return asyncio.run(measure(Run(queue, notes, processes), options)) | {"workers": queue.workers}


if __name__ == "__main__":
    sys.exit(main())
