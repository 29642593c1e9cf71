"""What a journal costs: POST of a no-op without one, with ``sync: normal`` and with ``sync: full``.

The three servers are there all the time, on all cores, as one would run them, and a round puts load on one after the
other for a short while: with wrk beside it, on 64 connections unless told otherwise. So a ratio, which is taken within
a round, is of figures a second apart, and a machine whose speed changes changes it little. The more clients wait, the
more jobs share a commit. Figures are medians over the rounds.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

from bench import report
from bench.measure import HOST, ROOT, BenchError, Window, machine, wrk_with_p99
from bench.process import Process, end_cleanly, running

MODES = ("memory", "normal", "full")
WARM_UP_S = 1.0
# Issue and docs/figures.md promise this much of the throughput without a journal.
LEAST = 0.6
POST = ROOT / "bench" / "peers" / "post.lua"


def main() -> int:
    """Measure, print, write; return the exit code: 1 where the ratio is below LEAST, or nothing could be measured."""
    parser = argparse.ArgumentParser(prog="python -m bench.journal", description=__doc__)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=1.0, help="of load on one server in a round")
    parser.add_argument("--connections", type=int, default=64, help="clients at once")
    parser.add_argument("--port", type=int, default=9300, help="the first of three")
    options = parser.parse_args()
    end_cleanly()
    before = machine("journal")
    print(f"{options.rounds} rounds: about {options.rounds * 3 * (options.seconds + 0.1) / 60:.1f} min", flush=True)
    measured: dict[str, list[dict[str, float]]] = {mode: [] for mode in MODES}
    try:
        with ExitStack() as stack:
            servers = [_start(stack, mode, options.port + place) for place, mode in enumerate(MODES)]
            for server in servers:
                wrk_with_p99(_url(server), options.connections, WARM_UP_S, POST)
            for number in range(options.rounds):
                for mode, server in zip(MODES, servers, strict=True):
                    measured[mode].append(_measure(server, options))
                rates = ", ".join(f"{of_mode[-1]['rate']:.0f}" for of_mode in measured.values())
                print(f"round {number + 1}: {rates} jobs/s", flush=True)
    except BenchError as error:
        print(f"bench-journal: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return _report(before, measured)


def _start(stack: ExitStack, mode: str, port: int) -> Process:
    environment = {
        "HEADWAY_SERVER__PORT": str(port),
        "HEADWAY_TASKS": "[examples.tasks]",
        "HEADWAY_QUEUE__SIZE": "100000",
        "HEADWAY_LOG__LEVEL": "warning",
        "HEADWAY_JOURNAL__PATH": "null",
    }
    if mode != "memory":
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=ROOT / "tmp")))
        environment |= {"HEADWAY_JOURNAL__PATH": str(folder / "journal.db"), "HEADWAY_JOURNAL__SYNC": mode}
    server = Process(f"Headway ({mode})", [sys.executable, "-m", "headway", "serve"], port, env=environment)
    return stack.enter_context(running(server))


def _measure(server: Process, options: argparse.Namespace) -> dict[str, float]:
    window = Window(server.pids)
    requests, took, p99_ms = wrk_with_p99(_url(server), options.connections, options.seconds, POST)
    load = window.load(requests, took)
    return {"rate": load.rate, "cpu_us": load.cpu_us, "p99_ms": p99_ms, "noise": load.noise}


def _url(server: Process) -> str:
    return f"http://{HOST}:{server.port}/jobs"


def _report(before: dict[str, str], measured: dict[str, list[dict[str, float]]]) -> int:
    ratios = {
        mode: [one["rate"] / base["rate"] for one, base in zip(of_mode, measured["memory"], strict=True)]
        for mode, of_mode in measured.items()
    }
    rows = [
        [
            {"memory": "none", "normal": "`sync: normal`", "full": "`sync: full`"}[mode],
            report.spread([one["rate"] for one in of_mode], ".0f"),
            report.spread(ratios[mode], ".2f"),
            report.spread([one["cpu_us"] for one in of_mode], ".0f"),
            report.spread([one["p99_ms"] for one in of_mode], ".1f"),
        ]
        for mode, of_mode in measured.items()
    ]
    table = report.table(["journal", "jobs/s", "of those without", "server CPU, µs a job", "answer p99, ms"], rows)
    target = report.folder("journal")
    report.write(target, f"{table}\n\n{report.facts(before)}", {"machine": before, "measured": measured})
    ratio = statistics.median(ratios["full"])
    good = ratio >= LEAST
    print(f"\n{table}\n\nsync: full: {ratio:.2f} of the jobs/s without a journal, at least {LEAST} asked for: ", end="")
    print(f"{'good' if good else 'MISSED'}\n{target}")
    return 0 if good else 1


if __name__ == "__main__":
    (ROOT / "tmp").mkdir(exist_ok=True)
    sys.exit(main())
