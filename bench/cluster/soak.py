"""Many jobs through one node and one Valkey, whose memory stays flat: ``python -m bench.cluster.soak``.

Once as many finished jobs are kept as retention.jobs says, each end drops another. From there on neither the node nor
the store may grow, however many jobs come.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import uvloop

from bench import report
from bench.cluster import nodes
from bench.measure import BenchError, machine, rss_bytes
from bench.process import Process, end_cleanly, free_port, running
from bench.queues import valkey

NOOP = b'{"task":"noop","payload":null}'
QUEUE_SIZE = 2000
WORKERS = 32
SUBMITTERS = 64
# Looks at memory, evenly over all jobs.
LOOKS = 20
# Of the jobs that fill what is kept, so many times until memory is looked at: dropping lags behind.
FULL = 1.2
# Growth from then on, as a part and in bytes.
GROWTH_MOST, SLACK_BYTES = 1.05, 4 << 20
SLOW_US = 5000
# Scripts that may take longer, of a million jobs: the kernel takes the core away now and then.
SLOW_MOST = 20


@dataclass(frozen=True, slots=True)
class Look:
    """What there is after so many jobs."""

    jobs: int
    seconds: float
    store_bytes: int
    node_bytes: int
    keys: int
    # Scripts that were slow until then.
    slow: int


def main() -> int:
    """Measure, print, write; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m bench.cluster.soak", description=__doc__)
    parser.add_argument("--jobs", type=int, default=10_000_000)
    parser.add_argument("--kept", type=int, default=1_000_000, help="finished jobs")
    options = parser.parse_args()
    end_cleanly()
    how = machine("cluster.soak")
    try:
        if options.jobs < 2 * FULL * options.kept:
            raise BenchError(f"--jobs {options.jobs:,}: take more than {2 * FULL:g} times --kept {options.kept:,}")
        looks, slow_us = measure(options.jobs, options.kept)
    except BenchError as error:
        print(f"bench-soak: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    lines, good = verdicts(looks, options.kept, slow_us)
    head = ["jobs", "seconds", "store, MiB", "node, MiB", "keys", f"scripts of more than {SLOW_US / 1000:g} ms"]
    text = "\n\n".join([report.table(head, [_row(look) for look in looks]), "\n".join(lines), report.facts(how)])
    print(text)
    target = report.folder("soak")
    report.write(target, text, {"how": how, "looks": [asdict(look) for look in looks], "slow scripts, µs": slow_us})
    print(f"written to {target}")
    return 0 if good else 1


def measure(jobs: int, kept: int) -> tuple[list[Look], list[int]]:
    """Run ``jobs``, of which ``kept`` are kept; return the looks, and the times of scripts beyond SLOW_US."""
    with tempfile.TemporaryDirectory() as folder:
        store = valkey.process(free_port(), Path(folder))
        with running(store):
            valkey.ask(store.port, f"CONFIG SET slowlog-log-slower-than {SLOW_US} slowlog-max-len 100000", b"\r\n")
            settings = {"QUEUE__SIZE": str(QUEUE_SIZE), "RETENTION__JOBS": str(kept)}
            with nodes.running_nodes(1, store.port, WORKERS, settings) as (node,):
                looks = uvloop.run(_run(jobs, store, node))
                return looks, valkey.slow_scripts(store.port)


async def _run(jobs: int, store: Process, node: Process) -> list[Look]:
    queue = nodes.Adapter([node], SUBMITTERS)
    await queue.open()
    begun, looks = time.monotonic(), list[Look]()
    numbers = iter(range(jobs))

    async def submit() -> None:
        for number in numbers:
            await _post(queue)
            if number % (jobs // LOOKS) == 0:
                looks.append(_look(number, begun, store, node))

    await asyncio.gather(*(submit() for _ in range(SUBMITTERS)))
    looks.append(_look(jobs, begun, store, node))
    await queue.close()
    return looks


async def _post(queue: nodes.Adapter) -> None:
    """Submit a job, as soon as there is room."""
    while True:
        if await queue.try_post(NOOP):
            return
        await asyncio.sleep(0.005)


def _look(jobs: int, begun: float, store: Process, node: Process) -> Look:
    look = Look(
        jobs=jobs,
        seconds=time.monotonic() - begun,
        store_bytes=valkey.used_bytes(store.port),
        node_bytes=rss_bytes(node.pids),
        keys=int(valkey.ask(store.port, "DBSIZE", b"\r\n")[1:]),
        slow=int(valkey.ask(store.port, "SLOWLOG LEN", b"\r\n")[1:]),
    )
    print(f"{jobs:,} jobs: store {look.store_bytes >> 20} MiB, node {look.node_bytes >> 20} MiB", flush=True)
    return look


def verdicts(looks: Sequence[Look], kept: int, slow_us: Sequence[int]) -> tuple[list[str], bool]:
    """Return a line for each limit, and whether all are met."""
    full = [look for look in looks if look.jobs >= FULL * kept]
    first, last = full[0], full[-1]
    grown: Mapping[str, tuple[int, int]] = {
        "the store": (first.store_bytes, max(look.store_bytes for look in full)),
        "the node": (first.node_bytes, max(look.node_bytes for look in full)),
    }
    lines, good = [], True
    for who, (before, most) in grown.items():
        is_flat = most <= before * GROWTH_MOST + SLACK_BYTES
        good = good and is_flat
        lines.append(
            f"- {'PASS' if is_flat else 'FAIL'}: {who} takes {before / 2**20:,.1f} MiB after {first.jobs:,} jobs, "
            f"and at most {most / 2**20:,.1f} until {last.jobs:,}"
        )
    allowed = max(1, SLOW_MOST * last.jobs // 1_000_000)
    is_short = len(slow_us) <= allowed
    lines.append(
        f"- {'PASS' if is_short else 'FAIL'}: {len(slow_us):,} scripts took more than {SLOW_US / 1000:g} ms, the "
        f"longest {max(slow_us, default=0) / 1000:.1f}; at most {allowed:,}"
    )
    return lines, good and is_short


def _row(look: Look) -> list[str]:
    sizes = [f"{size / 2**20:,.1f}" for size in (look.store_bytes, look.node_bytes)]
    return [f"{look.jobs:,}", f"{look.seconds:.0f}", *sizes, f"{look.keys:,}", f"{look.slow:,}"]


if __name__ == "__main__":
    sys.exit(main())
