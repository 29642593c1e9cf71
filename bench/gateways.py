"""What a HEAD costs at a gateway: ``python -m bench.gateways``.

HEAD of a finished job and of one that runs, from bench/peers/heads.py on connections that stay open, on one server
alone, on one with a gateway, and on one with two. A round starts all three one after the other, the servers on core 0
and the generator on core 1. CPU per request is that of the gateways, and of the engine apart. With two gateways it
tells how evenly the kernel has spread the connections.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from bench import report
from bench.measure import BenchError, allow_files, cores, cpu, machine, pin
from bench.peers import requests
from bench.peers.catalogue import HEADWAY
from bench.peers.heads import Heads
from bench.process import Process, end_cleanly, running

SERVER_CORE, GENERATOR_CORE = 0, 1
WARM_UP_S = 1.0
SHAPES = (0, 1, 2)
STATES = ("finished", "running")


class Cost(NamedTuple):
    """CPU in µs a request: of the processes that answer, each, and of the engine behind them."""

    answering: tuple[float, ...]
    engine: float

    @property
    def cpu_us(self) -> float:
        """All that answered, together."""
        return sum(self.answering)

    @property
    def unevenness(self) -> float:
        """The share of the busiest gateway over an even one, less 1."""
        return max(self.answering) * len(self.answering) / self.cpu_us - 1


Round = Mapping[tuple[int, str], Cost]


def main() -> int:
    """Measure, print, write; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m bench.gateways", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0, help="of each measurement")
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--port", type=int, default=9240)
    options = parser.parse_args()
    end_cleanly()
    how = machine("gateways") | {
        "server": HEADWAY.version(),
        "method": f"{options.rounds} interleaved rounds of {options.seconds:g} s after {WARM_UP_S:g} s, "
        f"{options.connections} connections; CPU of the processes, user and kernel",
    }
    try:
        cores(2)
        allow_files(options.connections + 100)
        rounds = [_round(options) for _ in range(options.rounds)]
    except (BenchError, OSError) as error:
        print(f"bench-gateways: {error}", file=sys.stderr)
        return 1
    text = "\n\n".join([_table(rounds), report.facts(how)])
    print(text)
    target = report.folder("gateways")
    report.write(target, text, {"how": how, "us": [{f"{k[0]} {k[1]}": v for k, v in one.items()} for one in rounds]})
    print(f"written to {target}")
    return 0


def _round(options: argparse.Namespace) -> Round:
    found = {}
    for gateways in SHAPES:
        environment = {
            **HEADWAY.env(options.port),
            "HEADWAY_SERVER__GATEWAYS": str(gateways),
            # A job that runs for hours is not waited for.
            "HEADWAY_DRAIN_TIMEOUT": "0",
        }
        argv = HEADWAY.argv(options.port, Path())
        with running(Process("Headway", argv, options.port, SERVER_CORE, environment)) as server:
            pin(GENERATOR_CORE)
            paths = {state: requests.job_in(options.port, state) for state in STATES}
            for state, path in paths.items():
                found[gateways, state] = _cost(options, server, gateways, path)
                print(f"{gateways} gateways, {state}: {found[gateways, state]}", flush=True)
            pin(None)
    return found


def _cost(options: argparse.Namespace, server: Process, gateways: int, path: str) -> Cost:
    # The supervisor has the lowest id, then comes the engine.
    pids = sorted(server.pids)
    parts = pids[2 : 2 + gateways] if gateways else pids[:1]
    engine = pids[1:2] if gateways else []
    heads = Heads(options.port, options.connections, requests.head_request(options.port, path))
    # The generator's own warm-up would count for the parts.
    heads.run(0.0, WARM_UP_S, pids)
    before = [cpu([pid]) for pid in (*parts, *engine)]
    load = heads.run(0.0, options.seconds, pids)
    used = [cpu([pid]) - was for pid, was in zip((*parts, *engine), before, strict=True)]
    heads.close()
    costs = [(one.user_s + one.kernel_s) / load.requests * 1e6 for one in used]
    return Cost(tuple(costs[: len(parts)]), sum(costs[len(parts) :]))


def _table(rounds: Sequence[Round]) -> str:
    rows = []
    for gateways in SHAPES:
        for state in STATES:
            of_these = [one[gateways, state] for one in rounds]
            beside = [cost.cpu_us / one[0, state].cpu_us for cost, one in zip(of_these, rounds, strict=True)]
            rows.append(
                [
                    f"{gateways or 'no'} gateway{'s' * (gateways != 1)}",
                    state,
                    report.spread([cost.cpu_us for cost in of_these]),
                    report.spread(beside, ".2f"),
                    f"{statistics.median(cost.engine for cost in of_these):.2f}",
                    f"{statistics.median(cost.unevenness for cost in of_these):.0%}",
                ]
            )
    columns = ["server", "job", "CPU, µs a HEAD", "beside no gateway", "of the engine, µs", "busiest over even"]
    return report.table(columns, rows)


if __name__ == "__main__":
    sys.exit(main())
