"""Headway on Valkey and the queues that people run on it, on one Valkey in one run: ``python -m bench.cluster``.

Queues take turns, round after round. Each has its workers in processes of their own, and the Valkey to itself in its
turn: 64 submitters enqueue jobs that do nothing, wait until all have run, and read the status of each.
Headway then shows what a second node brings, and what reads cost.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench import report
from bench.cluster import reads, summary
from bench.measure import BenchError, cores, machine
from bench.process import Process, answer_of, end_cleanly, free_port, running
from bench.queues import interface, record, valkey
from bench.queues.catalogue import QUEUES, Entry

NAMES = ("headway", "saq", "taskiq", "streaq", "celery", "docket", "arq")
ENTRIES = {entry.name: entry for entry in QUEUES}
WORKERS = 32
# Of the tasks that take a while.
NAP_S = 0.05
QUEUED_JOBS = 2000
TURN_MOST_S = 120.0


@dataclass
class Found:
    """What was measured so far."""

    # By queue, then by round.
    turns: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    queued: dict[str, float] = field(default_factory=dict)
    # By what is done: one or two nodes, jobs that do nothing or nap.
    nodes: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    reads: list[dict[str, Any]] = field(default_factory=list)
    # Queues without figures, and why.
    absent: dict[str, str] = field(default_factory=dict)


class Bench:
    """A run: one Valkey, and all that takes its turn on it."""

    def __init__(self, options: argparse.Namespace, store: Process) -> None:
        self._options = options
        self._store = store
        self.found = Found()

    def round(self, number: int, names: list[str]) -> None:
        """Give each queue its turn, then Headway its others."""
        for name in names:
            if name not in self.found.absent:
                self._turn(ENTRIES[name])
        if "headway" in self.found.turns:
            self._more(number)

    def _turn(self, entry: Entry) -> None:
        turns = self.found.turns.get(entry.name, [])
        try:
            if not turns:
                argv = ["--queued", f"--jobs={QUEUED_JOBS}"]
                self.found.queued[entry.name] = self._run(entry, *argv)["bytes_per_queued_job"]
            turns.append(self._run(entry, f"--jobs={turns[0]['jobs'] if turns else 0}"))
        except BenchError as error:
            self.found.absent[entry.name] = f"failed: {error}"
            print(f"bench-cluster: {entry.name}: {error}", file=sys.stderr)
            return
        self.found.turns[entry.name] = turns
        print(f"{entry.name}: {turns[-1]['told_per_s']:,.0f} jobs/s, {turns[-1]['all_us']:.0f} µs a job", flush=True)

    def _more(self, number: int) -> None:
        """Compare two nodes with one, and read."""
        headway, noops = ENTRIES["headway"], self.found.turns["headway"][0]["jobs"]
        naps = round(WORKERS / NAP_S * self._options.seconds)
        turns = {
            # As many submitters for each node as the one node has, and the same ones shared by two: then calls of the
            # store carry half as many jobs each.
            "noop on two": ["--nodes=2", f"--jobs={2 * noops}", f"--submitters={2 * self._options.submitters}"],
            "noop on two, submitters shared": ["--nodes=2", f"--jobs={noops}"],
            "nap on one": ["--task=nap", f"--jobs={naps}"],
            "nap on two": ["--task=nap", "--nodes=2", f"--jobs={2 * naps}"],
        }
        for name, argv in turns.items():
            self.found.nodes.setdefault(name, []).append(self._run(headway, *argv))
        self.found.nodes.setdefault("noop on one", []).append(self.found.turns["headway"][number])
        valkey.flush(self._store.port)
        self.found.reads.append(reads.measure(self._store.port, self._options.seconds))

    def _run(self, entry: Entry, *more: str) -> dict[str, Any]:
        """Run ``bench.cluster.one`` on an empty Valkey, and return what it found."""
        valkey.flush(self._store.port)
        argv = [sys.executable, "-m", "bench.cluster.one", entry.name, f"--port={self._store.port}"]
        argv += [f"--store={self._store.pids[0]}", f"--submitters={self._options.submitters}"]
        argv += [f"--seconds={self._options.seconds}", *more]
        env = entry.env | {interface.WORKERS_VARIABLE: str(WORKERS), record.NAP_VARIABLE: str(NAP_S)}
        return answer_of(argv, env, TURN_MOST_S)


def main() -> int:
    """Measure, print, write; return the exit code: 1 where a limit is not met or nothing was measured."""
    options = _options()
    end_cleanly()
    before, begun, code = machine("cluster"), time.monotonic(), 0
    try:
        cores(1)
        if not valkey.binary():
            raise BenchError(f"there is no Valkey: {valkey.INSTALL}")
        with tempfile.TemporaryDirectory() as folder:
            store = valkey.process(free_port(), Path(folder))
            with running(store):
                bench = Bench(options, store)
                code = _rounds(bench, options)
                before["store"] = f"Valkey {valkey.info(store.port, 'server', 'valkey_version')}, without persistence"
    except BenchError as error:
        print(f"bench-cluster: {error}", file=sys.stderr)
        return 1
    return _finish(before | {"took": f"{time.monotonic() - begun:.0f} s"}, options, bench.found) or code


def _options() -> argparse.Namespace:
    quick = bool(os.environ.get("QUICK"))
    parser = argparse.ArgumentParser(prog="python -m bench.cluster", description=__doc__)
    parser.add_argument("--rounds", type=int, default=1 if quick else 3)
    parser.add_argument("--seconds", type=float, default=1.0 if quick else 4.0, help="of load in a turn, about")
    parser.add_argument("--submitters", type=int, default=64)
    parser.add_argument("--only", nargs="*", default=NAMES, choices=NAMES, metavar="NAME", help="only these queues")
    return parser.parse_args()


def _rounds(bench: Bench, options: argparse.Namespace) -> int:
    """Go round after round, and keep what was found when somebody ends it."""
    for name in options.only:
        if missing := ENTRIES[name].missing:
            bench.found.absent[name] = f"not run: {missing} is not installed: {ENTRIES[name].install}"
    try:
        for number in range(options.rounds):
            print(f"round {number + 1} of {options.rounds}", flush=True)
            bench.round(number, options.only)
    except KeyboardInterrupt:
        return 130
    return 0


def _finish(before: Mapping[str, str], options: argparse.Namespace, found: Found) -> int:
    """Print and write whatever was measured; return 1 where a limit is not met."""
    how = dict(before) | {
        "versions": "; ".join(ENTRIES[name].version for name in found.turns),
        "method": f"{options.rounds} round(s) in turns on one Valkey; {options.submitters} submitters in one process, "
        f"{WORKERS} jobs at a time; nothing pinned; as many jobs as the queue does in about {options.seconds:g} s",
    }
    lines, good = summary.verdicts(found.turns, found.nodes, found.reads)
    parts = summary.tables(found.turns, found.queued, found.nodes, found.reads)
    parts.append("\n".join(f"- {line}" for line in lines))
    parts.append("\n".join(f"- {name}: {why}" for name, why in found.absent.items()))
    text = "\n\n".join(part for part in [*parts, report.facts(how)] if part)
    print(text)
    if not found.turns:
        return 1
    target = report.folder("cluster")
    report.write(
        target,
        text,
        {"how": how, "not run": found.absent, "turns": found.turns, "queued": found.queued}
        | {"nodes": found.nodes, "reads": found.reads},
    )
    print(f"written to {target}")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
