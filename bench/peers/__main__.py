"""HEAD and POST on Headway and on other stacks: ``python -m bench.peers``, with --floor only nginx and Headway.

A round starts each server once, one after the other, on core 0, with the generator on core 1; the next round does so
again. Figures are medians over the rounds, ratios are taken within a round.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from bench import report
from bench.measure import HOST, BenchError, Load, Window, allow_files, cores, machine, pin, wrk
from bench.peers import requests, summary
from bench.peers.cases import CASES, Case, Results
from bench.peers.catalogue import HEADWAY, NGINX, PEERS, Peer
from bench.peers.heads import Heads
from bench.process import Process, end_cleanly, running

SERVER_CORE, GENERATOR_CORE = 0, 1
WARM_UP_S = 1.0
# A window in which other processes kept more than this many cores busy is measured again, so often in all.
QUIET = 0.1
ATTEMPTS = 3
# An id that nginx answers with its constant.
NGINX_PATH = "/jobs/000000000001ab4b40ae58d8a929"


def main() -> int:
    """Measure, print, write; return the exit code."""
    options = _options()
    end_cleanly()
    try:
        cores(2)
        allow_files(max(case.connections for case in CASES))
        peers, absent = _choose(options.floor, options.only)
    except BenchError as error:
        print(f"bench-peers: {error}", file=sys.stderr)
        return 1
    print(
        f"{options.rounds} rounds of {len(peers)} servers: about {_estimate_s(peers, options) / 60:.0f} min", flush=True
    )
    before = machine("peers")
    results: Results = {case.name: {} for case in CASES}
    failed: dict[str, str] = {}
    code = 0
    try:
        with tempfile.TemporaryDirectory() as folder:
            for number in range(options.rounds):
                well = [peer for peer in peers if peer.name not in failed]
                _round(number, well, options, folder=Path(folder), results=results, failed=failed)
    except KeyboardInterrupt:
        code = 130
    _finish("floor" if options.floor else "peers", _how(before, peers, options), results, absent | failed)
    return code or int(bool(failed))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.peers", description=__doc__)
    parser.add_argument("--floor", action="store_true", help="only nginx and Headway, judged by the limits")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0, help="of each measurement")
    parser.add_argument("--port", type=int, default=9200)
    parser.add_argument("--only", nargs="*", default=[], metavar="NAME", help="only these peers")
    return parser.parse_args()


def _choose(floor: bool, only: Sequence[str]) -> tuple[list[Peer], dict[str, str]]:
    """The peers that can be run, and why others cannot."""
    wanted = [peer for peer in PEERS if (peer in (NGINX, HEADWAY) or not floor) and (not only or peer.name in only)]
    absent = {peer.name: f"not run: {peer.missing} is not installed: {peer.install}" for peer in wanted if peer.missing}
    chosen = [peer for peer in wanted if not peer.missing]
    if not chosen:
        raise BenchError("; ".join(absent.values()) or f"no such peers; there are: {', '.join(p.name for p in PEERS)}")
    return chosen, absent


def _estimate_s(peers: Sequence[Peer], options: argparse.Namespace) -> float:
    runs = sum(case.suits(peer) for peer in peers for case in CASES)
    return float(options.rounds * (runs * (options.seconds + WARM_UP_S) + 1.5 * len(peers)))


def _round(
    number: int,
    peers: Sequence[Peer],
    options: argparse.Namespace,
    *,
    folder: Path,
    results: Results,
    failed: dict[str, str],
) -> None:
    for peer in peers:
        began = time.monotonic()
        try:
            for case, load in _turn(peer, options.port, options.seconds, folder):
                results[case.name].setdefault(peer.name, []).append(load)
        except BenchError as error:
            failed[peer.name] = f"failed in round {number + 1}: {error}"
            print(f"bench-peers: {peer.name} {failed[peer.name]}", file=sys.stderr)
            continue
        print(f"round {number + 1}: {peer.name} ({time.monotonic() - began:.0f} s)", flush=True)


def _turn(peer: Peer, port: int, seconds: float, folder: Path) -> Iterator[tuple[Case, Load]]:
    """Start the peer, put all loads that suit it on it one after the other, stop it."""
    process = Process(peer.name, peer.argv(port, folder), port, SERVER_CORE, peer.env(port))
    with running(process):
        pin(GENERATOR_CORE)
        for case in CASES:
            if case.suits(peer):
                yield case, _quietest(peer, process, case, seconds)


def _quietest(peer: Peer, process: Process, case: Case, seconds: float) -> Load:
    """Measure; again while other processes disturb, and keep what was disturbed least."""
    loads: list[Load] = []
    while len(loads) < ATTEMPTS and (not loads or loads[-1].noise > QUIET):
        measure = _measure_head if case.state else _measure_post
        try:
            loads.append(measure(peer, process, case, seconds))
        except BenchError:
            # That it died is the better message.
            process.check(0.5)
            raise
    return min(loads, key=lambda load: load.noise)


def _measure_head(peer: Peer, process: Process, case: Case, seconds: float) -> Load:
    pids, port = process.pids, process.port
    path = NGINX_PATH if peer is NGINX else requests.job_in(port, case.state)
    if case.generator == "wrk":
        window = Window(pids)
        answers, took = wrk(f"http://{HOST}:{port}{path}", case.connections, seconds, requests.HEAD_SCRIPT)
        return window.load(answers, took)
    heads = Heads(port, case.connections, requests.head_request(port, path))
    try:
        return heads.run(WARM_UP_S, seconds, pids)
    finally:
        heads.close()


def _measure_post(peer: Peer, process: Process, case: Case, seconds: float) -> Load:
    pids, port = process.pids, process.port
    url = f"http://{HOST}:{port}/jobs"
    wrk(url, case.connections, WARM_UP_S, requests.POST_SCRIPT)
    window = Window(pids)
    answers, took = wrk(url, case.connections, seconds, requests.POST_SCRIPT)
    if peer is not NGINX:
        # Running the jobs belongs to the price of a POST: those that still wait are waited for.
        requests.job_in(port, "finished")
    return window.load(answers, took)


def _finish(kind: str, how: dict[str, str], results: Results, absent: dict[str, str]) -> None:
    """Print and write whatever was measured."""
    text = summary.markdown(CASES, results, how, absent)
    print(text)
    if not any(results.values()):
        return
    target = report.folder(kind)
    report.write(target, text, summary.data(results, how, absent))
    groups = {case.name: summary.medians(results[case.name]) for case in CASES if len(results[case.name]) > 1}
    print(report.bars(target, "Server CPU per request", "µs per request, user and kernel, median", groups))
    print(f"written to {target}")


def _how(before: dict[str, str], peers: Sequence[Peer], options: argparse.Namespace) -> dict[str, str]:
    return before | {
        "servers": "; ".join(f"{peer.name}: {peer.version()}" for peer in peers),
        "method": f"{options.rounds} interleaved rounds of {options.seconds:g} s after {WARM_UP_S:g} s of warm-up; "
        f"server on core {SERVER_CORE}, generator on core {GENERATOR_CORE}, loopback, keep-alive; HEAD loaded by "
        "bench/peers/heads.py, POST by wrk; CPU of the server's processes, user and kernel, over the measured window",
        "noise": f"windows in which other processes kept more than {QUIET:g} cores busy were measured again, at most "
        f"{ATTEMPTS} times; what is left of it is the column others",
    }


if __name__ == "__main__":
    sys.exit(main())
