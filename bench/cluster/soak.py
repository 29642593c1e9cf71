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
from statistics import median

import uvloop
from headway.core.link.script import Script
from headway.core.store import scripts

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
# A script is noted from so many µs on, and may hold the store for so many. Half of the calls that are
# noted have to keep that: from others the kernel has taken the core away, or the machine itself. A test of
# tests/core/store holds each script to it, with as much as it ever does.
NOTED_US, HELD_MOST_US = 1000, 5000
NAMES = {script.digest.decode(): script.name for script in vars(scripts).values() if isinstance(script, Script)}


@dataclass(frozen=True, slots=True)
class Look:
    """What there is after so many jobs."""

    jobs: int
    seconds: float
    store_bytes: int
    node_bytes: int
    keys: int


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
        looks, noted = measure(options.jobs, options.kept)
    except BenchError as error:
        print(f"bench-soak: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    lines, good = verdicts(looks, options.kept, noted)
    head = ["jobs", "seconds", "store, MiB", "node, MiB", "keys"]
    text = "\n\n".join([report.table(head, [_row(look) for look in looks]), "\n".join(lines), report.facts(how)])
    print(text)
    target = report.folder("soak")
    report.write(target, text, {"how": how, "looks": [asdict(look) for look in looks], "scripts, µs": noted})
    print(f"written to {target}")
    return 0 if good else 1


def measure(jobs: int, kept: int) -> tuple[list[Look], dict[str, list[int]]]:
    """Run ``jobs``, of which ``kept`` are kept; return the looks, and the µs of calls of scripts."""
    with tempfile.TemporaryDirectory() as folder:
        store = valkey.process(free_port(), Path(folder))
        with running(store):
            valkey.ask(store.port, f"CONFIG SET slowlog-log-slower-than {NOTED_US} slowlog-max-len 100000", b"\r\n")
            settings = {"QUEUE__SIZE": str(QUEUE_SIZE), "RETENTION__JOBS": str(kept)}
            with nodes.running_nodes(1, store.port, WORKERS, settings) as (node,):
                return uvloop.run(_run(jobs, store, node))


async def _run(jobs: int, store: Process, node: Process) -> tuple[list[Look], dict[str, list[int]]]:
    queue = nodes.Adapter([node], SUBMITTERS)
    await queue.open()
    begun, looks, noted = time.monotonic(), list[Look](), dict[str, list[int]]()
    numbers = iter(range(jobs))

    def look(number: int) -> None:
        # The log of slow calls is memory of the store, too.
        for digest, us in valkey.slow_scripts(store.port).items():
            noted.setdefault(NAMES.get(digest, digest), []).extend(us)
        looks.append(_look(number, begun, store, node))

    async def submit() -> None:
        for number in numbers:
            await _post(queue)
            if number % (jobs // LOOKS) == 0:
                look(number)

    await asyncio.gather(*(submit() for _ in range(SUBMITTERS)))
    look(jobs)
    await queue.close()
    return looks, noted


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
    )
    print(f"{jobs:,} jobs: store {look.store_bytes >> 20} MiB, node {look.node_bytes >> 20} MiB", flush=True)
    return look


def verdicts(looks: Sequence[Look], kept: int, noted: Mapping[str, Sequence[int]]) -> tuple[list[str], bool]:
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
    for name, us in sorted(noted.items()):
        is_short = median(us) <= HELD_MOST_US
        good = good and is_short
        lines.append(
            f"- {'PASS' if is_short else 'FAIL'}: of `{name}` {len(us):,} calls took more than a ms, their median "
            f"{median(us) / 1000:.1f} ms; {sum(one > HELD_MOST_US for one in us):,} took more than "
            f"{HELD_MOST_US / 1000:g}, the longest {max(us) / 1000:.1f}"
        )
    return lines, good


def _row(look: Look) -> list[str]:
    sizes = [f"{size / 2**20:,.1f}" for size in (look.store_bytes, look.node_bytes)]
    return [f"{look.jobs:,}", f"{look.seconds:.0f}", *sizes, f"{look.keys:,}"]


if __name__ == "__main__":
    sys.exit(main())
