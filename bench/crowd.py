"""How large a crowd one server carries: ``python -m bench.crowd``.

The seed's clients (three jobs of 1 to 5 s each, asked for once a second until all are over, then three more), more of
them in each step, on a server of its own, with so many workers that no job waits. The server has one core and the
simulator the other; what each needs of its core says which of them gives out, and at how many clients.

``--beside COMMIT`` puts each crowd in turns on a server of another commit and on this one, ROUNDS times, and tells the
CPU of a request and of a job of both, and for whom it is spent.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from bench import beside, report
from bench.cost import KERNEL, Cost, cost, medians, ratio, sampled_server
from bench.flame import svg
from bench.measure import HOST, ROOT, BenchError, allow_files, cores, machine
from bench.process import Process, end_cleanly, free_port, running
from bench.samples import PARTS

STEPS = (1000, 2000, 3000, 4000, 8000, 15_000)
JOBS = 3
# A client gives up after so long; curl would wait for ever.
TIMEOUT_S = 30
SERVER_CORE, CROWD_CORE = 0, 1
# A core that is this busy has no more to give.
SATURATED = 0.9
P95_LIMIT_MS = 60.0
# For the crowd to leave.
PATIENCE_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What one crowd came to."""

    clients: int
    requests_per_s: float
    jobs_per_s: float
    # Of polls.
    p50_ms: float
    p95_ms: float
    p99_ms: float
    errors: dict[str, int]
    # Shares of their cores.
    server: float
    simulator: float
    cost: Cost | None = None

    @property
    def gave_out(self) -> str:
        """Which core had no more to give; empty where both had."""
        busy = [name for name, share in (("server", self.server), ("simulator", self.simulator)) if share >= SATURATED]
        return " and ".join(busy)


def main() -> int:
    """Measure, print, write; return the exit code."""
    options = _options()
    end_cleanly()
    how, steps, error = machine("crowd"), [], ""
    try:
        cores(2)
        allow_files(max(options.clients))
        if options.beside:
            return _beside(options, how)
        for clients in options.clients:
            seconds = options.last if clients == max(options.clients) else options.seconds
            steps.append(_say(measure(clients, options.spread, seconds)))
    except (BenchError, OSError) as failure:
        error = f"bench-crowd: {failure}"
        print(error, file=sys.stderr)
    except KeyboardInterrupt:
        error = "bench-crowd: interrupted"
    if not steps:
        return 1
    how |= {
        "method": (
            f"a server on core {SERVER_CORE} and headway simulate on core {CROWD_CORE} for each row; the crowd comes "
            f"within {options.spread:g} s and is looked at for {options.seconds:g} s, the largest for {options.last:g} "
            f"s; a client gives up after {TIMEOUT_S} s; latencies are of the whole run, CPU of the time after the "
            "crowd has come"
        ),
    }
    return int(not _write(steps, how, error))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.crowd", description=__doc__)
    parser.add_argument("--clients", type=int, nargs="+", default=list(STEPS), help="of each step")
    parser.add_argument("--spread", type=float, default=10.0, help="seconds within which they come")
    parser.add_argument("--seconds", type=float, default=30.0, help="after that")
    parser.add_argument("--last", type=float, default=120.0, help="of the largest crowd")
    parser.add_argument("--beside", metavar="COMMIT", help="compare with the server of this commit")
    parser.add_argument("--rounds", type=int, default=5, help="with --beside: of each crowd on each of both")
    options = parser.parse_args()
    if min(options.clients) < 1 or min(options.spread, options.seconds, options.last) <= 0:
        parser.error("all of them are above 0")
    return options


def measure(clients: int, spread: float, seconds: float, folder: Path = ROOT) -> Step:
    """Put ``clients`` on a server of the checkout in ``folder``. Raises BenchError."""
    port = free_port()
    environment = {
        "HEADWAY_SERVER__PORT": str(port),
        "HEADWAY_WORKERS": str(JOBS * clients),
        "HEADWAY_QUEUE__SIZE": str(JOBS * clients),
        "HEADWAY_LIMITS__CONNECTIONS": str(clients + 100),
        "HEADWAY_RETENTION__JOBS": "1000000",
        "HEADWAY_TASKS": "[examples.tasks]",
        "HEADWAY_DRAIN_TIMEOUT": "0.1",
        "HEADWAY_JOURNAL__PATH": "null",
        "HEADWAY_LOG__LEVEL": "error",
    }
    with tempfile.TemporaryDirectory() as made, ExitStack() as stack:
        found, samples = Path(made) / "found.json", Path(made) / "samples.json"
        server = stack.enter_context(
            running(sampled_server(port, SERVER_CORE, environment, folder=folder, found=samples))
        )
        crowd = Process("the crowd", _simulate(port, clients, spread, seconds, found), core=CROWD_CORE)
        try:
            crowd.check(spread)
            # The rest of the time is for the counts.
            spent = cost(server, samples, lambda: time.sleep(max(seconds - 2, seconds / 2)))
            # Errors are counted below.
            crowd.wait_until_ended(PATIENCE_S)
            server.check()
            return _step(clients, json.loads(found.read_text()), spent)
        except FileNotFoundError:
            raise BenchError(f"{crowd.name} left nothing: {crowd.last_line()}") from None
        finally:
            crowd.stop()


def _simulate(port: int, clients: int, spread: float, seconds: float, found: Path) -> list[str]:
    given = {
        "url": f"http://{HOST}:{port}",
        "poll": "1s",
        "clients": str(clients),
        "jobs": str(JOBS),
        "duration": f"{spread + seconds:.3f}s",
        "spread": f"{spread:.3f}s",
        "timeout": f"{TIMEOUT_S}s",
        "connections": "0",
        "task": "sleep",
        "job-seconds": "1-5",
        "json": str(found),
    }
    arguments = [part for name, value in given.items() for part in (f"--{name}", value)]
    return [sys.executable, "-m", "headway", "simulate", *arguments]


def _step(clients: int, found: dict[str, dict[str, float]], spent: Cost) -> Step:
    latency = found["latency_ms"]["poll"]
    if not isinstance(latency, dict):
        raise BenchError("the crowd's results are not as expected")
    return Step(
        clients=clients,
        requests_per_s=found["requests"]["per_s"],
        jobs_per_s=found["jobs"]["per_s"],
        p50_ms=latency["p50"],
        p95_ms=latency["p95"],
        p99_ms=latency["p99"],
        errors={kind: int(count) for kind, count in found["errors"].items()},
        server=(spent.load.cpu.user_s + spent.load.cpu.kernel_s) / spent.load.seconds,
        simulator=found["simulator"]["cpu_share"],
        cost=spent,
    )


def _say(step: Step) -> Step:
    print(
        f"{step.clients:>7,} clients: {step.requests_per_s:,.0f} requests/s, polls p95 {step.p95_ms:.1f} ms, server "
        f"{step.server:.0%} and simulator {step.simulator:.0%} of a core, errors {step.errors or 0}",
        flush=True,
    )
    return step


def _beside(options: argparse.Namespace, how: dict[str, str]) -> int:
    """Put each crowd on servers of both commits, in turns. Print and write what they spend. Return the exit code."""
    other = beside.name_of(options.beside)
    folders = {other: beside.checkout(other), "this": ROOT}
    tables, data, good = [], {}, True
    target = report.folder("crowd-beside")
    for clients in options.clients:
        steps: dict[str, list[Step]] = {name: [] for name in folders}
        for number in range(options.rounds):
            # The first of a round is the second of the next.
            for name, folder in sorted(folders.items(), reverse=bool(number % 2)):
                print(f"{name}: ", end="")
                steps[name].append(_say(measure(clients, options.spread, options.seconds, folder)))
        costs = {name: [step.cost for step in of_name if step.cost] for name, of_name in steps.items()}
        good = good and not any(step.errors for of_name in steps.values() for step in of_name)
        times = report.spread(ratio(costs[other], costs["this"]), ".2f")
        tables.append(
            f"{clients:,} clients: {times} times the CPU a request of {other}\n\n{_costs(costs)}\n\n{_packages(costs)}"
        )
        data[clients] = {name: [medians([one]) for one in of_name] for name, of_name in costs.items()}
        for name, of_name in costs.items():
            (target / f"{name}-{clients}.svg").write_text(
                svg(f"{name}, {clients:,} clients", [row for one in of_name for row in one.samples], *_of_both(of_name))
            )
    how |= {
        "method": (
            f"{options.rounds} rounds, in each a server of both commits on core {SERVER_CORE}, headway simulate on "
            f"core {CROWD_CORE}, {options.seconds - 2:g} s after the crowd has come; medians; user CPU by samples"
        ),
    }
    text = "\n\n".join([*tables, report.facts(how)])
    print(f"\n{text}\nwritten to {target}")
    report.write(target, text, {"how": how, "costs": data})
    return int(not good)


def _costs(costs: Mapping[str, Sequence[Cost]]) -> str:
    """Return a table of what servers spend on a request and a job, and for whom."""
    head = ["server", "CPU a job, µs", "a request, µs", *(f"for {part}" for part in PARTS), KERNEL, "requests/s"]
    rows = []
    for name, of_name in costs.items():
        middle = medians(of_name)
        request = report.spread([one.load.cpu_us for one in of_name])
        parts = [f"{middle[part]:.1f}" for part in (*PARTS, KERNEL)]
        rows.append([name, f"{middle['job']:.0f}", request, *parts, f"{middle['requests/s']:,.0f}"])
    return report.table(head, rows)


def _packages(costs: Mapping[str, Sequence[Cost]]) -> str:
    """Return a table of the user CPU of a request by package."""
    found: dict[str, dict[str, float]] = {}
    for name, of_name in costs.items():
        for one in of_name:
            for package, spent in one.by_package.items():
                row = found.setdefault(package, dict.fromkeys(costs, 0.0))
                row[name] += spent / len(of_name)
    ordered = sorted(found.items(), key=lambda row: -max(row[1].values()))
    rows = [[package, *(f"{spent:.1f}" for spent in row.values())] for package, row in ordered]
    return report.table(["user CPU of a request, µs", *costs], rows)


def _of_both(costs: Sequence[Cost]) -> tuple[float, float]:
    """Return the user and the kernel CPU of a request, in µs."""
    kernel = medians(costs)[KERNEL]
    return medians(costs)["request"] - kernel, kernel


def verdicts(steps: Sequence[Step]) -> tuple[list[str], bool]:
    """Return what must hold and whether it does, a line each, and whether all of it does."""
    failed = [step for step in steps if step.errors]
    late = [step for step in steps if step.p95_ms >= P95_LIMIT_MS and not step.gave_out]
    found = [
        (not failed, f"no errors and no refused connection with up to {max(step.clients for step in steps):,} clients"),
        (not late, f"p95 of a poll below {P95_LIMIT_MS:g} ms where no core gives out"),
    ]
    lines = [f"{'PASS' if good else 'FAIL'}: {text}" for good, text in found]
    first = next((step for step in steps if step.gave_out), None)
    if first is None:
        lines.append("no core gave out")
    else:
        lines.append(
            f"at {first.clients:,} clients and {first.requests_per_s:,.0f} requests/s the core of the {first.gave_out} "
            "gives out; beyond that all wait longer"
        )
    return lines, all(good for good, _ in found)


def _write(steps: Sequence[Step], how: dict[str, str], error: str) -> bool:
    """Print and write what was found; return whether it is as it must be."""
    head = ["clients", "requests/s", "jobs/s", "poll p50, ms", "p95, ms", "p99, ms", "errors", "server", "simulator"]
    rows = [
        [
            f"{step.clients:,}",
            f"{step.requests_per_s:,.0f}",
            f"{step.jobs_per_s:,.0f}",
            *(f"{value:,.1f}" for value in (step.p50_ms, step.p95_ms, step.p99_ms)),
            ", ".join(f"{kind}: {count}" for kind, count in step.errors.items()) or "0",
            f"{step.server:.0%}",
            f"{step.simulator:.0%}",
        ]
        for step in steps
    ]
    lines, good = verdicts(steps)
    listed = "\n".join(f"- {line}" for line in [*lines, *([error] if error else [])])
    costs = _costs({f"{step.clients:,} clients": [step.cost] for step in steps if step.cost})
    text = "\n\n".join([report.table(head, rows), costs, listed, report.facts(how)])
    print(f"\n{text}")
    target = report.folder("crowd")
    report.write(
        target,
        text,
        {"how": how, "error": error, "verdicts": lines, "steps": [asdict(replace(step, cost=None)) for step in steps]},
    )
    groups = {f"{step.clients:,}": {"server": step.server, "simulator": step.simulator} for step in steps}
    print(report.bars(target, "What a crowd needs of two cores, by its size", "share of a core", groups))
    print(f"written to {target}")
    return good and not error


if __name__ == "__main__":
    sys.exit(main())
