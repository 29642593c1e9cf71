"""One queue for one turn, in a process of its own: ``python -m bench.cluster.one taskiq``; JSON is its last line.

The Valkey is there already and empty. The submitters are this process, the workers are others. Headway on Valkey is a
queue like any other here: its workers are the nodes that ``nodes`` starts.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import importlib
import json
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import uvloop

from bench.cluster import nodes
from bench.measure import BenchError, Cpu, cpu
from bench.process import Process, end_cleanly, running
from bench.queues import interface, record, valkey
from bench.queues.one import SETTLE_S, SLOWEST_RATE, START_TIMEOUT_S, Run

# Jobs by which the rate is found, where the number of jobs is not given.
TRIAL_JOBS = 320
JOBS_LEAST, JOBS_MOST = 320, 60_000


def main() -> int:
    """Run, print JSON; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m bench.cluster.one", description=__doc__)
    parser.add_argument("queue")
    parser.add_argument("--port", type=int, required=True, help="of Valkey")
    parser.add_argument("--store", type=int, required=True, help="the process of Valkey")
    parser.add_argument("--jobs", type=int, default=0, help="0: as many as are done in --seconds")
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--submitters", type=int, default=64)
    parser.add_argument("--task", choices=["noop", "nap"], default="noop")
    parser.add_argument("--nodes", type=int, default=1, help="of Headway")
    parser.add_argument("--queued", action="store_true", help="only what a job without a worker takes in Valkey")
    options = parser.parse_args()
    end_cleanly()
    try:
        with tempfile.TemporaryDirectory() as folder:
            print(json.dumps(_run(options, Path(folder))))
    except (BenchError, OSError) as error:
        print(f"bench-cluster: {options.queue}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def _run(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    notes = folder / "notes"
    notes.touch()
    os.environ |= {interface.PORT_VARIABLE: str(options.port), record.FILE_VARIABLE: str(notes)}
    with contextlib.ExitStack() as stack:
        if options.queue == "headway":
            workers = 1 if options.queued else interface.WORKERS
            started = stack.enter_context(nodes.running_nodes(options.nodes, options.port, workers))
            queue: interface.Queue[Any] = nodes.Adapter(started, options.submitters)
        else:
            queue = importlib.import_module(f"bench.queues.{options.queue}_queue").Adapter()
            started = [] if options.queued else list(stack.enter_context(_workers(options.queue, queue)))
        if options.queued:
            return uvloop.run(_queued(queue, options))
        found = uvloop.run(_measure(Run(queue, notes, started), options))
        return found | {"workers": queue.workers}


@contextlib.contextmanager
def _workers(name: str, queue: interface.Queue[Any]) -> Iterator[Sequence[Process]]:
    with running(Process(name, queue.worker_argv(), env=queue.worker_env())) as workers:
        yield [workers]


async def _queued(queue: interface.Queue[Any], options: argparse.Namespace) -> dict[str, Any]:
    """Enqueue jobs that nobody takes, and return the bytes that each takes in Valkey."""
    await queue.open()
    if isinstance(queue, nodes.Adapter):
        await queue.occupy()
    # The first brings in what is there once.
    for _ in range(10):
        await queue.enqueue("noop", 0.0)
    before = valkey.used_bytes(options.port)
    for number in range(options.jobs):
        await queue.enqueue("noop", float(number))
    grown = valkey.used_bytes(options.port) - before
    await queue.close()
    return {"bytes_per_queued_job": grown / options.jobs}


async def _measure(run: Run, options: argparse.Namespace) -> dict[str, Any]:
    """Warm up, then one burst from all submitters; who spent how much CPU in it is part of what is returned."""
    await run.queue.open()
    await run.warm_up()
    jobs = options.jobs or await _jobs_for(run, options)
    pids = run.pids
    # Valkey looks at the buffers of its clients once a second.
    await asyncio.sleep(SETTLE_S)
    kept = valkey.used_bytes(options.port)
    before = [_own_cpu(), cpu(pids), cpu([options.store])]
    timeout_s = START_TIMEOUT_S + jobs / SLOWEST_RATE
    found: dict[str, Any] = dict(await run.burst(options.task, jobs, timeout_s, options.submitters))
    after = [_own_cpu(), cpu(pids), cpu([options.store])]
    await asyncio.sleep(SETTLE_S)
    found["bytes_per_kept_job"] = (valkey.used_bytes(options.port) - kept) / jobs
    spent = [(end - begin) for begin, end in zip(before, after, strict=True)]
    for who, one in zip(("submitters", "workers", "store"), spent, strict=True):
        found[f"{who}_us"] = (one.user_s + one.kernel_s) / jobs * 1e6
    found["all_us"] = sum(found[f"{who}_us"] for who in ("submitters", "workers", "store"))
    await run.queue.close()
    return found


async def _jobs_for(run: Run, options: argparse.Namespace) -> int:
    """Return how many jobs take ``--seconds``, as far as a small burst tells."""
    trial = await run.burst(options.task, TRIAL_JOBS, START_TIMEOUT_S, options.submitters)
    wanted: float = trial["told_per_s"] * options.seconds
    return round(min(max(wanted, JOBS_LEAST), JOBS_MOST))


def _own_cpu() -> Cpu:
    user_s, kernel_s = os.times()[:2]
    return Cpu(user_s, kernel_s)


if __name__ == "__main__":
    sys.exit(main())
