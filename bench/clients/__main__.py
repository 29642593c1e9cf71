"""Clients of Valkey side by side: ``python -m bench.clients``. What docs/adr/0025 decides by.

A round runs each client once, one after the other, in a process of its own. Figures are medians over the rounds. The
server's CPU and reads are what it says itself, over all of a client's process: its warm-up counts as reads, too.

Servers and the slow network are those of the tests, so this needs the group ``dev`` as well.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench import report
from bench.clients.each import CLIENTS, TASKS, key_of
from bench.measure import ROOT, BenchError, machine
from bench.process import end_cleanly
from tests.store_proxy import way_to
from tests.valkey_servers import Cluster, StoreServer, cluster_of, redis_binary, serving, tls_options

OURS = "multiplexer"
POOL, PIPELINES = "redis-py, pool of 64", "redis-py, pipelines of a batcher"
DELAY_S = 0.005
MODULES = {
    OURS: "headway.core.link.topology",
    POOL: "redis.asyncio",
    "valkey-glide": "glide",
    "coredis": "coredis",
}
# Each place with the clients that are measured there.
PLACES = {
    "one server": tuple(CLIENTS),
    "TLS": (OURS, PIPELINES, POOL),
    f"a network of {DELAY_S * 1000:.0f} ms each way": (OURS, PIPELINES, POOL),
    "a cluster of three": (OURS,),
}
IMPORT_ROUNDS = 7
# Of a job that has succeeded.
FACTS = {"s": 5, "k": "noop", "t": 1, "e": 2, "g": 3}


def main() -> int:
    """Measure, print, write; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m bench.clients", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--turns", type=int, default=50)
    chosen = parser.parse_args()
    end_cleanly()
    found: dict[str, dict[str, list[dict[str, float]]]] = {}
    try:
        for place, clients in PLACES.items():
            with _place(place) as (url, servers):
                for number in range(chosen.rounds):
                    for client in clients:
                        figures = _run(client, url, servers, chosen.turns)
                        found.setdefault(place, {}).setdefault(client, []).append(figures)
                    print(f"{place}: round {number + 1}", flush=True)
        imports = {client: _import_ms(module) for client, module in MODULES.items()}
    except BenchError as error:
        print(f"bench-clients: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return _report(found, imports, f"{chosen.rounds} rounds of {chosen.turns} turns of {TASKS} reads")


@contextmanager
def _place(place: str) -> Iterator[tuple[str, Sequence[StoreServer]]]:
    """Run what ``place`` names; yield its URL and its servers."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if place == "a cluster of three":
            with cluster_of(folder) as cluster:
                _fill(cluster)
                yield cluster.url, cluster.servers
        elif place == "TLS":
            options = tls_options(folder)
            with serving(folder / "tls", redis_binary(), **options) as server:
                _fill(server)
                yield f"{server.url}?ca={options['tls_ca_cert_file']}", [server]
        else:
            with serving(folder) as server, way_to(server.port) as way:
                _fill(server)
                way.delay(DELAY_S)
                yield server.url if place == "one server" else way.url, [server]


def _fill(store: StoreServer | Cluster) -> None:
    for number in range(TASKS):
        key = key_of(number)
        server = store if isinstance(store, StoreServer) else store.of(key.encode())
        server.ask("HSET", key, *(word for pair in FACTS.items() for word in pair))


def _run(client: str, url: str, servers: Sequence[StoreServer], turns: int) -> dict[str, float]:
    before = _spent(servers)
    argv = [sys.executable, "-m", "bench.clients.each", client, url, str(turns)]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    if done.returncode:
        raise BenchError(f"{client} ended with {done.returncode}: {done.stderr[-500:]}")
    cpu_s, reads = (after - first for after, first in zip(_spent(servers), before, strict=True))
    count = TASKS * (turns + 1)
    figures: dict[str, float] = json.loads(done.stdout)
    return figures | {"server_us": cpu_s / count * 1e6, "server_reads": reads / count}


def _spent(servers: Sequence[StoreServer]) -> tuple[float, float]:
    """Return CPU seconds and reads of the servers up to now."""
    said: list[dict[str, Any]] = [{**server.ask("INFO", "cpu"), **server.ask("INFO", "stats")} for server in servers]
    cpu_s = sum(float(one["used_cpu_user"]) + float(one["used_cpu_sys"]) for one in said)
    return cpu_s, float(sum(int(one["total_reads_processed"]) for one in said))


def _import_ms(module: str) -> float:
    """Return how long an import takes where asyncio and uvloop are there already."""
    code = (
        f"import asyncio, ssl, uvloop, time; t = time.perf_counter(); import {module}; print(time.perf_counter() - t)"
    )
    argv = [sys.executable, "-c", code]
    took = [float(subprocess.check_output(argv, cwd=ROOT, text=True)) for _ in range(IMPORT_ROUNDS)]
    return statistics.median(took) * 1000


def _report(found: dict[str, dict[str, list[dict[str, float]]]], imports: dict[str, float], method: str) -> int:
    head = ["", "client µs a read", "server µs", "server reads a read", "reads/s", "MiB"]
    parts = []
    for place, clients in found.items():
        rows = []
        for client, rounds in clients.items():
            columns = {name: [one[name] for one in rounds] for name in rounds[0]}
            rows.append(
                [
                    client,
                    report.spread(columns["client_us"]),
                    report.spread(columns["server_us"]),
                    f"{statistics.median(columns['server_reads']):.3f}",
                    f"{statistics.median(columns['reads_per_s']):,.0f}",
                    f"{statistics.median(columns['rss_mb']):.0f}",
                ]
            )
        parts.append(f"{place}\n\n{report.table(head, rows)}")
    parts.append(report.table(["import", "ms"], [[client, f"{ms:.0f}"] for client, ms in imports.items()]))
    text = "\n\n".join([report.facts({**machine("clients"), "method": method}), *parts])
    print(text)
    target = report.folder("clients")
    report.write(target, text, {"found": found, "imports": imports})
    print(f"written to {target}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
