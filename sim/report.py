"""The results of a run: a summary for people, JSON for programs."""

from __future__ import annotations

import json
import os
import platform
import resource
import sys
from importlib.metadata import version
from pathlib import Path

from headway.sim.crowd import Ending
from headway.sim.durations import Durations
from headway.sim.figures import Figures
from headway.sim.settings import CrowdSettings
from headway.sim.view import counts


def document(settings: CrowdSettings, figures: Figures, ending: Ending, began: str) -> dict[str, object]:
    """Return the results, in the shape that ``--json`` writes. ``began`` is RFC 3339."""
    figures.beat()
    seconds = max(ending.seconds, 1e-9)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return {
        "began": began,
        "seconds": round(ending.seconds, 3),
        "interrupted": ending.interrupted,
        "problem": ending.problem,
        "settings": settings.as_dict(),
        "jobs": {
            "created": figures.created,
            "ended": dict(figures.ended),
            "unfinished": max(figures.created - figures.jobs, 0),
            "per_s": round(figures.jobs / seconds, 2),
            "polls_per_job": round(figures.polls_per_job, 4),
        },
        "requests": {
            "creates": figures.create.all.count,
            "polls": figures.poll.all.count,
            "per_s": round(figures.requests / seconds, 2),
            "connects": figures.connects,
        },
        "latency_ms": {"create": figures.create.all.in_ms(), "poll": figures.poll.all.in_ms()},
        "pushed_back": {str(code): count for code, count in figures.pushed_back.items()},
        "errors": dict(figures.errors),
        "simulator": {
            "cpu_share": round(ending.cpu_s / seconds, 4),
            "cpu_us_per_request": round(ending.cpu_s / max(figures.requests, 1) * 1e6, 2),
            "lag_ms": figures.lag.all.in_ms(),
            "peak_bytes": peak,
        },
        "versions": {name: version(name) for name in ("headway", "httptools", "uvloop")} | {"python": sys.version},
        "machine": {"system": platform.platform(), "cores": os.cpu_count()},
    }


def write(path: Path, results: dict[str, object]) -> None:
    """Write ``results`` as JSON."""
    path.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


def summary(settings: CrowdSettings, figures: Figures, ending: Ending) -> str:
    """Return the results as text."""
    figures.beat()
    seconds, lag = max(ending.seconds, 1e-9), figures.lag.all
    ended = counts(figures.ended) if figures.jobs else "none"
    unfinished = max(figures.created - figures.jobs, 0)
    rows = {
        "run": f"{settings.clients} clients, {settings.jobs} jobs each, poll {settings.poll}, {ending.seconds:.1f} s"
        + " (interrupted)" * ending.interrupted,
        "jobs": f"{figures.created} created; ended: {ended}; unfinished: {unfinished}; {figures.jobs / seconds:.1f}/s",
        "requests": f"{figures.requests} on {figures.connects} connections; {figures.requests / seconds:.1f}/s",
        "polls per job": f"{figures.polls_per_job:.2f}",
        "create": _latency(figures.create.all),
        "poll": _latency(figures.poll.all),
        "pushed back": counts(figures.pushed_back),
        "errors": counts(figures.errors),
        "simulator": f"{ending.cpu_s / seconds:.0%} of a core, "
        f"{ending.cpu_s / max(figures.requests, 1) * 1e6:.1f} µs per request; "
        f"late by p50 {lag.percentile_s(50) * 1000:.1f}, p99 {lag.percentile_s(99) * 1000:.1f} ms",
    }
    return "\n".join(f"{name:>13}  {text}" for name, text in rows.items())


def _latency(latencies: Durations) -> str:
    return "p50 {p50:.1f}  p95 {p95:.1f}  p99 {p99:.1f}  max {max:.1f} ms".format(**latencies.in_ms())
