"""How long a start takes, and the imports behind it: ``python -m bench.start``.

A round runs each command once, one after the other: a bare Python, the imports that a server of this kind cannot do
without (the reference), Headway's own, and servers until they say READY=1 as systemd hears it. A ratio is taken within
a round, so a machine whose speed changes changes it little. The limits are those of a machine on which the reference
takes REFERENCE_S, and they are judged as ratios to it. Figures are medians over the rounds.

Bytecode is there, as in an installation: a first round, which is not counted, writes it.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench import report
from bench.measure import HOST, ROOT, BenchError, machine
from bench.peers.requests import NOOP, submit, wait_until_over
from bench.process import Process, end_cleanly

PATIENCE_S = 30.0
# Seconds between two requests of the client that watches a deploy.
LOOK_S = 0.005
# Rounds of which the least counts for the imports, and milliseconds from which on a package has a line of its own.
IMPORT_ROUNDS = 5
SHOWN_MS = 1.0

REFERENCE = "the reference: `import asyncio, uvloop, httptools, orjson, yaml`"
BARE, IMPORT, HELP = "a bare Python", "`import headway`, with its names", "`headway --help`"
BEYOND = "`import headway`, beyond a bare Python"
MEMORY, EMPTY, NEW = "in memory mode", "with an empty journal", "with a new journal"
COMMANDS = {
    BARE: ["-c", "pass"],
    REFERENCE: ["-c", "import asyncio, uvloop, httptools, orjson, yaml"],
    # Each name is imported at its first use.
    IMPORT: ["-c", "from headway import Context, Result, Retry, task"],
    HELP: ["-m", "headway", "--help"],
}
# The names of the journals' files.
SERVERS = {MEMORY: "", EMPTY: "empty.db", NEW: "new.db"}

REFERENCE_S = 0.12
# Seconds on a machine whose reference takes REFERENCE_S.
LIMITS_S = {f"ready {EMPTY}": 0.40, f"ready {MEMORY}": 0.30, HELP: 0.15, BEYOND: 0.06}

READY = re.compile(rb"READY=1\nSTATUS=serving http://[\d.]+:(\d+)$")
# A line of -X importtime: microseconds in the module itself, and its name.
IMPORTED = re.compile(r"^import time: +(\d+) \| +\d+ \| +(\S+)$", re.MULTILINE)


@dataclass(frozen=True)
class Started:
    """A server that was ready ``took_s`` after its exec."""

    process: Process
    notices: socket.socket
    port: int
    begun: float
    took_s: float


def main() -> int:
    """Measure, print, write; return the exit code: 1 where a limit is missed, or nothing could be measured."""
    parser = argparse.ArgumentParser(prog="python -m bench.start", description=__doc__)
    parser.add_argument("--rounds", type=int, default=20)
    rounds = parser.parse_args().rounds
    end_cleanly()
    how = machine("start")
    measured: dict[str, list[float]] = {}
    try:
        with tempfile.TemporaryDirectory() as folder:
            for number in range(rounds + 1):
                for name, seconds in one_round(Path(folder)):
                    measured.setdefault(name, []).append(seconds)
                said = "warm-up" if number == 0 else f"round {number}"
                print(f"{said}: {', '.join(f'{values[-1]:.3f}' for values in measured.values())} s", flush=True)
            imports = _imports(Path(folder))
    except BenchError as error:
        print(f"bench-start: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    how["load after"] = " ".join(f"{load:.2f}" for load in os.getloadavg())
    how["method"] = f"{rounds} rounds, wall clock; of the imports the least of {IMPORT_ROUNDS}"
    return _report(how, {name: values[1:] for name, values in measured.items()}, imports)


def one_round(folder: Path) -> Iterator[tuple[str, float]]:
    """Do everything once; yield (name, seconds)."""
    took: dict[str, float] = {}
    for name, arguments in COMMANDS.items():
        begun = time.perf_counter()
        _run(arguments)
        took[name] = time.perf_counter() - begun
    yield from took.items()
    yield BEYOND, took[IMPORT] - took[BARE]
    for kind in SERVERS:
        with _started(folder, kind) as server:
            yield f"ready {kind}", server.took_s
            if kind == NEW:
                continue
            job = submit(server.port, NOOP)
            yield f"the first job accepted {kind}", time.perf_counter() - server.begun
            wait_until_over(server.port, job)
            yield f"the slowest answer in a deploy {kind}", _deploy(server)


def _run(arguments: Sequence[str]) -> str:
    """Run Python and return what it says on stderr."""
    argv = [sys.executable, *arguments]
    done = subprocess.run(argv, cwd=ROOT, env=_environment({}), capture_output=True, text=True, timeout=PATIENCE_S)
    if done.returncode:
        raise BenchError(f"{' '.join(argv)} ended with {done.returncode}: {done.stderr[-300:]}")
    return done.stderr


def _environment(settings: Mapping[str, str]) -> dict[str, str]:
    """Return our environment, with ``settings`` and no other of Headway's, in which bytecode is written."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("HEADWAY_")}
    return {**own, **settings, "PYTHONDONTWRITEBYTECODE": ""}


@contextlib.contextmanager
def _started(folder: Path, kind: str, *options: str) -> Iterator[Started]:
    """Serve with config.yaml, which names the example tasks, and wait until that is ready."""
    file = SERVERS[kind]
    settings = {
        "HEADWAY_SERVER__PORT": "0",
        "HEADWAY_JOURNAL__PATH": str(folder / file) if file else "null",
        "NOTIFY_SOCKET": str(folder / "notices"),
    }
    if kind == NEW:
        for left in folder.glob(f"{file}*"):
            left.unlink()
    (folder / "notices").unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notices:
        notices.bind(settings["NOTIFY_SOCKET"])
        notices.settimeout(LOOK_S)
        argv = [sys.executable, *options, "-m", "headway", "serve", "--config", str(ROOT / "config.yaml")]
        begun = time.perf_counter()
        process = Process(f"Headway {kind}", argv, env=_environment(settings))
        try:
            while not (port := _ready(notices)):
                if time.perf_counter() - begun > PATIENCE_S:
                    raise BenchError(f"Headway {kind} is not ready after {PATIENCE_S:g} s: {process.last_line()}")
                process.check()
            yield Started(process, notices, port, begun, time.perf_counter() - begun)
        finally:
            process.stop()


def _ready(notices: socket.socket) -> int:
    """Return the port where the next notice is that the server is ready; 0 where it is another, or none comes."""
    with contextlib.suppress(TimeoutError):
        found = READY.match(notices.recv(4096))
        return int(found[1]) if found else 0
    return 0


def _deploy(server: Started) -> float:
    """Deploy, and return the longest that a client waited for an answer who asked anew each LOOK_S or when answered."""
    server.process.signal(signal.SIGHUP)
    longest, began = 0.0, time.perf_counter()
    while not _ready(server.notices):
        asked = time.perf_counter()
        if asked - began > PATIENCE_S:
            raise BenchError(f"no deploy after {PATIENCE_S:g} s: {server.process.last_line()}")
        with socket.create_connection((HOST, server.port), PATIENCE_S) as client:
            client.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            if not client.recv(4096).startswith(b"HTTP/1.1 200"):
                raise BenchError("a client was refused in a deploy")
        longest = max(longest, time.perf_counter() - asked)
    return longest


def _imports(folder: Path) -> dict[str, dict[str, float]]:
    """Return the milliseconds of each package in each command, without the modules of a bare Python."""
    bare = {name for _, name in IMPORTED.findall(_run(["-X", "importtime", *COMMANDS[BARE]]))}
    found: dict[str, dict[str, float]] = {}
    for name in (REFERENCE, IMPORT, HELP):
        found[name] = least([_run(["-X", "importtime", *COMMANDS[name]]) for _ in range(IMPORT_ROUNDS)], bare)
    for kind in (MEMORY, EMPTY):
        said = []
        for _ in range(IMPORT_ROUNDS):
            with _started(folder, kind, "-X", "importtime") as server:
                said.append(server.process.said())
        found[f"ready {kind}"] = least(said, bare)
    return found


def least(said: Sequence[str], bare: set[str]) -> dict[str, float]:
    """Return the sum of the least that each module took, by package and in milliseconds."""
    modules: dict[str, float] = {}
    for one in said:
        for us, name in IMPORTED.findall(one):
            modules[name] = min(int(us) / 1000, modules.get(name, float("inf")))
    packages: dict[str, float] = defaultdict(float)
    for name, ms in modules.items():
        if name not in bare:
            packages[name.partition(".")[0].lstrip("_")] += ms
    return packages


def judged(measured: dict[str, list[float]]) -> tuple[dict[str, list[float]], list[str]]:
    """Return each round's ratios to the reference, and the names of the limits that their medians miss."""
    ratios = {
        name: [one / base for one, base in zip(values, measured[REFERENCE], strict=True)]
        for name, values in measured.items()
    }
    return ratios, [name for name, most_s in LIMITS_S.items() if statistics.median(ratios[name]) > most_s / REFERENCE_S]


def _report(how: dict[str, str], measured: dict[str, list[float]], imports: dict[str, dict[str, float]]) -> int:
    ratios, missed = judged(measured)
    rows = [
        [
            name,
            report.spread([1000 * one for one in values], ".0f"),
            report.spread(ratios[name], ".2f"),
            f"{LIMITS_S[name] / REFERENCE_S:.2f}" if name in LIMITS_S else "",
        ]
        for name, values in measured.items()
    ]
    parts = [
        report.table(["from exec", "ms", "of the reference", "at most"], rows),
        _import_table(imports),
        "\n".join(f"- {'FAIL' if name in missed else 'PASS'}: {name}" for name in LIMITS_S),
        report.facts(how),
    ]
    text = "\n\n".join(parts)
    target = report.folder("start")
    data = {"how": how, "seconds": measured, "imports_ms": imports, "limits met": not missed}
    report.write(target, text, data)
    print(f"\n{text}\nwritten to {target}")
    return int(bool(missed))


def _import_table(imports: dict[str, dict[str, float]]) -> str:
    """Return a table with a row for each package that takes SHOWN_MS somewhere, and one for all others."""
    names = {name for packages in imports.values() for name in packages}
    most = {name: max(packages.get(name, 0.0) for packages in imports.values()) for name in names}
    shown = sorted((name for name in names if most[name] >= SHOWN_MS), key=lambda name: -most[name])
    rows = [[name, *(f"{packages.get(name, 0.0):.1f}" for packages in imports.values())] for name in shown]
    rest = (sum(ms for name, ms in packages.items() if name not in shown) for packages in imports.values())
    rows.append([f"{len(names) - len(shown)} others", *(f"{ms:.1f}" for ms in rest)])
    rows.append(["all", *(f"{sum(packages.values()):.1f}" for packages in imports.values())])
    heads = [name.partition(":")[0] for name in imports]
    return report.table(["ms of imports beyond a bare Python", *heads], rows)


if __name__ == "__main__":
    sys.exit(main())
