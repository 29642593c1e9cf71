"""`make bench`: the seed's ramp by locust on a server of its own, with the server's CPU and memory beside it.

How it measures: the server is pinned to the first core and locust runs on the others (Linux). Locust writes requests,
failures and percentiles once a second; beside it, the server's CPU and resident memory are read from the system once a
second, and locust's CPU. All is left in ``bench/results/<time>/``. QUICK=1 takes the ramp at a twelfth: two minutes.

A locust process makes a few thousand requests a second, so on most machines it is locust that saturates first; the
summary says which did, from the CPU of both.
"""

from __future__ import annotations

import contextlib
import csv
import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from datetime import datetime
from importlib.metadata import version
from pathlib import Path

from bench.measure import ROOT, BenchError, allow_files, cpu, descendants, machine, rss_bytes

RESULTS = ROOT / "bench" / "results"
# As in locustfile.py, which cannot be imported here: locust changes how Python sleeps and reads.
USERS = 15_000
QUICK_SCALE = 1 / 12
# A core is held to be saturated above this share, over SATURATED_S seconds.
SATURATED = 0.9
SATURATED_S = 3
START_S = 15.0
STOP_S = 20.0
SERVER = {
    # Jobs last 3 s in the mean: enough that none has to wait for a worker.
    "HEADWAY_WORKERS": "50000",
    "HEADWAY_QUEUE__SIZE": "100000",
    "HEADWAY_LIMITS__CONNECTIONS": "16000",
    "HEADWAY_RETENTION__JOBS": "1000000",
    "HEADWAY_TASKS": "[examples.tasks]",
    "HEADWAY_LOG__FORMAT": "plain",
    "HEADWAY_DRAIN_TIMEOUT": "2",
    "HEADWAY_DRAIN_LINGER": "0",
    "HEADWAY_JOURNAL__PATH": "null",
}


def main() -> int:
    """Run, and return the exit code."""
    folder: Path | None = None
    try:
        scale = _scale()
        for module in ("locust", "matplotlib"):
            if importlib.util.find_spec(module) is None:
                raise BenchError(f"{module} is not installed: pip install --group bench")
        allow_files(int(USERS * scale))
        folder = RESULTS / datetime.now().astimezone().strftime("%Y-%m-%dT%H-%M-%S")
        folder.mkdir(parents=True)
        problem = run(folder, scale)
    except BenchError as error:
        problem = str(error)
    except OSError as error:
        problem = f"{error.filename or ''} {error.strerror or error}".strip()
    if problem is not None:
        print(f"bench: {problem}", file=sys.stderr)
    if folder is not None:
        print(f"results: {folder.relative_to(ROOT)}")
    return 0 if problem is None else 1


def run(folder: Path, scale: float) -> str | None:
    """Measure into ``folder``; return what went wrong, if something did."""
    from bench import plots

    measured_on = machine("load")
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    samples: list[dict[str, float]] = []
    with _server(folder, cores[:1]) as (server, port), _locust(folder, scale, port, cores[1:] or cores) as locust:
        problem = _watch(server, locust, samples)
    _write_samples(folder / "samples.csv", samples)
    history = _history(folder / "locust_stats_history.csv")
    summary = _summary(folder, scale, cores, samples, history) | {"machine": measured_on, "problem": problem}
    (folder / "summary.json").write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
    if history and samples:
        plots.draw(folder, history, samples)
    print(f"{summary['requests']} requests, {summary['failures']} failures; {summary['saturated_first']}")
    return problem


def _scale() -> float:
    text = os.environ.get("BENCH_SCALE") or (str(QUICK_SCALE) if os.environ.get("QUICK") == "1" else "1")
    try:
        scale = float(text)
    except ValueError:
        scale = 0.0
    if not 0.005 <= scale <= 1:
        raise BenchError(f"BENCH_SCALE={text!r} is not allowed: expected 0.005 to 1")
    return scale


# The two processes.


@contextlib.contextmanager
def _server(folder: Path, cores: list[int]) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """Serve on a free port, or on HEADWAY_SERVER__PORT; yield the process and its port."""
    environment = os.environ | {"HEADWAY_SERVER__PORT": os.environ.get("HEADWAY_SERVER__PORT", "0"), **SERVER}
    log = folder / "server.log"
    with log.open("wb") as out:
        command = [sys.executable, "-m", "headway", "serve"]
        with _process(command, environment, cores, out) as process:
            yield process, _port(process, log)


@contextlib.contextmanager
def _locust(folder: Path, scale: float, port: int, cores: list[int]) -> Iterator[subprocess.Popen[bytes]]:
    """Run locust with as many processes as there are cores to spare."""
    command = [sys.executable, "-m", "locust", "-f", str(ROOT / "bench" / "locustfile.py"), "--headless"]
    command += ["--host", f"http://127.0.0.1:{port}", "--csv", str(folder / "locust"), "--csv-full-history"]
    command += ["--html", str(folder / "locust.html"), "--only-summary", "--stop-timeout", "0"]
    if len(cores) > 1:
        command += ["--processes", str(len(cores))]
    environment = os.environ | {"BENCH_SCALE": str(scale)}
    with (folder / "locust.log").open("wb") as out, _process(command, environment, cores, out) as process:
        yield process


@contextlib.contextmanager
def _process(
    command: list[str], environment: Mapping[str, str], cores: list[int], out: object
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a process on ``cores``; at the end of the block it is told to end, and killed if it does not."""
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=out, stderr=subprocess.STDOUT)  # type: ignore[call-overload]
    try:
        if cores:
            os.sched_setaffinity(process.pid, cores)
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _port(process: subprocess.Popen[bytes], log: Path) -> int:
    """Wait until the server says where it serves."""
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline and process.poll() is None:
        for line in log.read_text(encoding="utf-8").splitlines():
            if "serving http://" in line:
                return int(line.split("serving http://")[1].split()[0].rpartition(":")[2])
        time.sleep(0.1)
    said = log.read_text(encoding="utf-8").strip().splitlines() or ["nothing"]
    raise BenchError(f"the server did not start; it said: {said[-1]}")


# What is seen meanwhile.


def _watch(
    server: subprocess.Popen[bytes], locust: subprocess.Popen[bytes], samples: list[dict[str, float]]
) -> str | None:
    """Sample both processes once a second until locust ends; return what went wrong, if something did."""
    began = last = time.monotonic()
    before = _cpu_s(server.pid, locust.pid)
    while True:
        with contextlib.suppress(subprocess.TimeoutExpired):
            locust.wait(max(last + 1 - time.monotonic(), 0))
        if server.poll() is not None:
            return f"the server died with code {server.returncode}: see server.log"
        if locust.returncode is not None:
            # 1: some requests failed, which the summary tells.
            return (
                None if locust.returncode in (0, 1) else f"locust ended with code {locust.returncode}: see locust.log"
            )
        now, spent = time.monotonic(), _cpu_s(server.pid, locust.pid)
        shares = [(after - earlier) / (now - last) for after, earlier in zip(spent, before, strict=True)]
        samples.append(
            {
                "time": time.time(),
                "elapsed_s": now - began,
                "server_cpu": shares[0],
                "locust_cpu": shares[1],
                "server_rss_bytes": rss_bytes([server.pid]),
            }
        )
        before, last = spent, now


def _cpu_s(*pids: int) -> list[float]:
    """User and system seconds of each process and its descendants."""
    used = [cpu(descendants(pid)) for pid in pids]
    return [one.user_s + one.kernel_s for one in used]


def _write_samples(path: Path, samples: list[dict[str, float]]) -> None:
    if samples:
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, samples[0])
            writer.writeheader()
            writer.writerows(samples)


def _history(path: Path) -> list[dict[str, str]]:
    """Locust's rows for all requests, one a second."""
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return [row for row in csv.DictReader(file) if row["Name"] == "Aggregated"]


# What it came to.


def _summary(
    folder: Path, scale: float, cores: list[int], samples: list[dict[str, float]], history: list[dict[str, str]]
) -> dict[str, object]:
    last = history[-1] if history else {}
    best = max(history, key=lambda row: float(row["Requests/s"]), default={})
    return {
        "began": folder.name,
        "scale": scale,
        "settings": SERVER,
        "pinned": {"server": cores[:1], "locust": cores[1:] or cores},
        "versions": {name: version(name) for name in ("headway", "locust", "uvloop", "httptools")},
        "users": max((int(row["User Count"]) for row in history), default=0),
        "requests": int(last.get("Total Request Count", 0)),
        "failures": int(last.get("Total Failure Count", 0)),
        "peak_requests_per_s": float(best.get("Requests/s", 0)),
        "peak_users": int(best.get("User Count", 0)),
        "server_cpu_peak": round(max((sample["server_cpu"] for sample in samples), default=0), 3),
        "locust_cpu_peak": round(max((sample["locust_cpu"] for sample in samples), default=0), 3),
        "server_rss_peak": int(max((sample["server_rss_bytes"] for sample in samples), default=0)),
        "saturated_first": _saturated_first(samples, history, len(cores[1:]) or 1),
    }


def _saturated_first(samples: list[dict[str, float]], history: list[dict[str, str]], locust_cores: int) -> str:
    """Say which of the two was the first to need all of its cores for SATURATED_S seconds, and with how many users."""
    full = {"server": SATURATED, "locust": SATURATED * locust_cores}
    for end in range(SATURATED_S, len(samples) + 1):
        window = samples[end - SATURATED_S : end]
        for name, other in (("locust", "server"), ("server", "locust")):
            if all(sample[f"{name}_cpu"] >= full[name] for sample in window):
                now = window[-1]
                users = [int(row["User Count"]) for row in history if int(row["Timestamp"]) <= now["time"]]
                return (
                    f"{name} saturated first, at {users[-1] if users else 0} users after {now['elapsed_s']:.0f} s "
                    f"({other}: {now[f'{other}_cpu']:.0%} of a core)"
                )
    return "nothing saturated"


if __name__ == "__main__":
    sys.exit(main())
