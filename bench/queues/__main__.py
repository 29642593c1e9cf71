"""Headway and the queues that people pick, end to end: ``python -m bench.queues``.

Each queue runs in processes of its own, one queue after the other and round after round, over a server that is started
fresh for it: first in memory, then with each acknowledged job on disk. A client enqueues the jobs one after the other
while ten workers run them, and then asks for the status of each job. Where the client has a call for many jobs, it then
enqueues jobs by it.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from bench import report
from bench.measure import BenchError, cores, machine
from bench.process import answer_of, end_cleanly
from bench.queues import interface, one, valkey
from bench.queues.catalogue import QUEUES, Entry

HEAD = (
    "queue", "enqueued/s", "finished/s", "in batches", "on disk", "on disk, in batches", "finished and told/s",
    "10 ms jobs finished/s", "latency p50, ms", "latency p99, ms", "memory, MiB", "bytes per finished job", "workers",
)  # fmt: skip
TURN_MOST_S = 600.0
Rounds = dict[str, list[dict[str, Any]]]


def main() -> int:
    """Measure, print, write; return the exit code."""
    options = _options()
    end_cleanly()
    before = machine("queues")
    rounds: Rounds = {}
    absent: dict[str, str] = {}
    code = 0
    try:
        cores(1)
        chosen = choose(options.only, absent)
        for number in range(options.rounds):
            for entry in chosen:
                if entry.name not in absent:
                    code |= take_turn(entry, number, options, rounds, absent)
    except BenchError as error:
        print(f"bench-queues: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        code = 130
    _finish(before, options, rounds, absent)
    return code or int(not rounds)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.queues", description=__doc__)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--noops", type=int, default=20_000, help="jobs that do nothing")
    parser.add_argument("--naps", type=int, default=2_000, help="jobs of 10 ms")
    parser.add_argument("--seconds", type=float, default=10.0, help="of a load, about: a slow queue gets fewer jobs")
    parser.add_argument("--port", type=int, default=9200, help="of Valkey, or of Headway")
    parser.add_argument("--only", nargs="*", default=[], metavar="NAME", help="only these queues")
    return parser.parse_args()


def choose(only: Sequence[str], absent: dict[str, str], store: Callable[[], str] = valkey.binary) -> list[Entry]:
    """The queues that were asked for; those that cannot be run go to ``absent``. ``store`` finds a Valkey."""
    chosen = [entry for entry in QUEUES if not only or entry.name in only]
    if not chosen:
        raise BenchError(f"no such queues; there are: {', '.join(entry.name for entry in QUEUES)}")
    for entry in chosen:
        if entry.missing:
            absent[entry.name] = f"not run: {entry.missing} is not installed: {entry.install}"
        elif entry.on_valkey and not store():
            absent[entry.name] = f"not run: there is no Valkey: {valkey.INSTALL}"
    return chosen


def run_once(entry: Entry, options: argparse.Namespace, *more: str) -> dict[str, Any]:
    """Run ``bench.queues.one`` and return what it found."""
    argv = [sys.executable, "-m", "bench.queues.one", entry.name, *more]
    argv += [f"--{name}={getattr(options, name)}" for name in ("noops", "naps", "seconds", "port")]
    return answer_of(argv, entry.env, TURN_MOST_S)


def take_turn(
    entry: Entry,
    number: int,
    options: argparse.Namespace,
    rounds: Rounds,
    absent: dict[str, str],
    *,
    run: Callable[..., dict[str, Any]] = run_once,
) -> int:
    """Have ``run`` run a queue once; return 1 where it failed."""
    try:
        found = run(entry, options) | {"durable": run(entry, options, "--durable")}
    except BenchError as error:
        absent[entry.name] = f"failed in round {number + 1}: {error}"
        print(f"bench-queues: {entry.name} {absent[entry.name]}", file=sys.stderr)
        return 1
    rounds.setdefault(entry.name, []).append(found)
    rates = [turn["noop"]["finished_per_s"] for turn in (found, found["durable"])]
    print(f"round {number + 1}: {entry.name}: {rates[0]:,.0f} no-op jobs/s, on disk {rates[1]:,.0f}", flush=True)
    return 0


def _finish(before: dict[str, str], options: argparse.Namespace, rounds: Rounds, absent: Mapping[str, str]) -> None:
    """Print and write whatever was measured."""
    how = before | {
        "versions": "; ".join(entry.version for entry in QUEUES if entry.name in rounds),
        "method": f"{options.rounds} round(s); up to {options.noops:,} no-op jobs, then up to {options.naps:,} of 10 "
        f"ms, or as many as take about {options.seconds:g} s, enqueued one by one from one client on one connection; "
        f"{interface.WORKERS} jobs at a time; nothing pinned",
        "in batches": f"{one.BATCH_JOBS:,} jobs in a call of the client, where it has one",
        "on disk": "no-op jobs again, on Valkey with appendonly yes, appendfsync always; without Valkey as told below",
        "finished": "the function of the last job has returned; told: and the client has asked for the status of each",
        "latency": "from before enqueuing to the end of the function; a no-op each 20 ms, so that none has to wait",
        "workers' memory": "workers, server and Valkey after the no-op jobs, resident, shared pages counted once",
        "bytes per finished job": "growth, over the no-op jobs, of Valkey's used_memory less its clients' buffers; for "
        "the others of their own resident memory",
        **{entry.name: entry.how for entry in QUEUES if entry.name in rounds and entry.how},
    }
    rows = [row_of(name, found) for name, found in rounds.items()]
    parts = [report.table(HEAD, rows)] if rows else []
    parts.append("\n".join(f"- {name}: {why}" for name, why in absent.items()))
    text = "\n\n".join(part for part in [*parts, report.facts(how)] if part)
    print(text)
    if rounds:
        target = report.folder("queues")
        report.write(target, text, {"how": how, "not run": dict(absent), "rounds": rounds})
        groups = {
            name: {
                "in memory": _median(found, "noop", "finished_per_s"),
                "on disk": _median(found, "durable", "noop", "finished_per_s"),
            }
            for name, found in rounds.items()
        }
        title = f"no-op jobs one by one, {interface.WORKERS} workers"
        print(report.bars(target, title, "jobs finished per second", groups))
        print(f"written to {target}")


def row_of(name: str, found: Sequence[Mapping[str, Any]]) -> list[str]:
    def figure(form: str, *path: str) -> str:
        if "batched" in path and "batched" not in found[0]:
            return "-"
        values = [_value(turn, path) for turn in found]
        return report.spread(values, form) if len(values) > 1 else f"{values[0]:{form}}"

    memory = [turn["pss_bytes"] / 2**20 for turn in found]
    return [
        name,
        *(figure(",.0f", "noop", key) for key in ("enqueued_per_s", "finished_per_s")),
        figure(",.0f", "batched", "finished_per_s"),
        *(figure(",.0f", "durable", kind, "finished_per_s") for kind in ("noop", "batched")),
        figure(",.0f", "noop", "told_per_s"),
        figure(",.0f", "nap", "finished_per_s"),
        *(figure(".1f", "paced", key) for key in ("p50_ms", "p99_ms")),
        f"{statistics.median(memory):.0f}",
        figure(",.0f", "bytes_per_job"),
        str(found[0]["workers"]),
    ]


def _value(turn: Mapping[str, Any], path: Sequence[str]) -> float:
    value: Any = turn
    for key in path:
        value = value[key]
    return float(value)


def _median(found: Sequence[Mapping[str, Any]], *path: str) -> float:
    return statistics.median(_value(turn, path) for turn in found)


if __name__ == "__main__":
    sys.exit(main())
